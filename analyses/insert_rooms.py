"""A window where there was none: the generator made to draw it in a box (two minutes on 2 cores).

GAN Dissection's insertion, with the features of windows put into a box on the left wall; success by the judge on
samples without a window there, beside 100 random edits of as much change, and a map of where it works.
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.sources import from_rooms
from probe.questions.insert.run import Settings, insert

CONCEPT, BOX, SAMPLES, BOUND, DRAWS, SEED = "window", (12.0, 14.0, 32.0, 34.0), 150, 0.03, 100, 0


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    known = from_rooms(gan, CONCEPT, SAMPLES, SEED)
    settings = Settings(bound=BOUND, draws=DRAWS, seed=SEED)
    result = insert(gan, known.boxes, known.selector, known.judge, BOX, settings, judge_iou=known.judge_iou)
    result.assumptions += known.assumptions
    publish(result, gan, "insert_rooms", args.out, SEED)
    m = result.metrics
    print(
        f"  success {m['success']:.2f} {m['success_ci']}, random {m['random']['success_mean']:.2f}, p = "
        f"{m['p_value']:.2g}"
    )


if __name__ == "__main__":
    main()
