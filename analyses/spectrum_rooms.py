"""Have samples of the built-in models a checkerboard that renders of their edition have not? (seconds)."""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.questions.spectrum.question import spectrum

FOLDERS = {"rooms": "spectrum_rooms", "rooms@2": "spectrum_rooms_2"}


def main() -> None:
    args = arguments(__doc__, ckpt=None).parse_args()
    for name, folder in FOLDERS.items():
        gan = load(name)
        result = spectrum(gan)
        publish(result, gan, folder, args.out, 0)
        print(result.summary())


if __name__ == "__main__":
    main()
