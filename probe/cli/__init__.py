"""The command: one subcommand a question. It parses, calls and prints; no maths, no drawing.

Nothing heavy is imported before a command runs, so `probe --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any

import typer

from probe import __version__
from probe.base.errors import ProbeError
from probe.cli import (  # noqa: F401  (they add their commands to the app)
    arithmetic,
    classifying,
    deduplicating,
    dissection,
    drawing,
    evaluating,
    forgetting,
    guiding,
    inserting,
    labelling,
    looking,
    memorizing,
    reporting,
    surgery,
    training,
    walking,
)
from probe.cli.common import app

_UsageError: type[Any] = typer.BadParameter.__mro__[
    2
]  # click's ClickException, wherever this version of typer keeps it


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version or context.invoked_subcommand is None:
        print(f"probe {__version__}" if version else context.get_help())
        raise typer.Exit


def main() -> None:
    """Run the command: exit 0, 2 for a user's mistake or bad input, 130 on Ctrl-C; never a traceback for those."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its cache is, is nobody's business
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except ProbeError as error:
        code = _fail(str(error))
    except _UsageError as error:
        code = _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except RuntimeError as error:
        if "memory" not in str(error) and "alloc" not in str(error):
            raise
        code = _fail("out of memory; use fewer samples, a smaller --batch or --width, or --device cpu")
    except MemoryError:
        code = _fail("out of memory; use fewer samples or a smaller model")
    sys.exit(code or 0)


def _fail(message: str) -> int:
    print("probe: " + " ".join(message.split()), file=sys.stderr)
    return 2
