"""The command `probe`, also as `python -m probe`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C while it is being read in ends it as it does later."""
    try:
        from probe.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
