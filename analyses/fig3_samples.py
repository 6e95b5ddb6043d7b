"""Fig. 3: samples of the built-in model, the first 60 of seed 0, not chosen (seconds)."""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.questions.sample.run import sample

SEED, SHOWN = 0, 60


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    publish(sample([gan], SHOWN, SEED), gan, "fig3_samples", args.out, SEED)


if __name__ == "__main__":
    main()
