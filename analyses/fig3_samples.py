"""Fig. 3: samples of the built-in models, the first 60 of seed 0, not chosen (seconds)."""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.questions.sample.run import sample

SEED, SHOWN = 0, 60
FOLDERS = {"rooms": "fig3_samples", "rooms@2": "fig3_samples_2"}


def main() -> None:
    args = arguments(__doc__, ckpt=None).parse_args()
    for name, folder in FOLDERS.items():
        gan = load(name)
        publish(sample([gan], SHOWN, SEED), gan, folder, args.out, SEED)


if __name__ == "__main__":
    main()
