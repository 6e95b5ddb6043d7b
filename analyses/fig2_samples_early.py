"""Fig. 2: samples after one epoch over the data (about 3 minutes on 2 cores).

Paper: bedrooms after one pass through 3M images. Here: one pass over 24,000 rooms, 188 steps of 128, which is far
fewer steps than the paper's 23,000; the figure shows how early that is, not that one epoch suffices.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from analyses.common import arguments, publish
from probe.data.rooms import scenes as rooms
from probe.models.gan import best_precision
from probe.questions.sample.run import sample
from probe.training.loop import Settings, train

RENDERS, BATCH, WIDTH, SEED, SHOWN = 24_000, 128, 48, 0, 50


def main() -> None:
    args = arguments(__doc__, ckpt=None).parse_args()
    steps = -(-RENDERS // BATCH)
    settings = Settings(width=WIDTH, batch=BATCH, steps=steps, ema=0.0, seed=SEED, precision=best_precision("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        gan = train(rooms.load(RENDERS).images, settings, Path(folder), source=f"rooms:{RENDERS}")
    publish(sample(gan, SHOWN, SEED), gan, "fig2_samples_early", args.out, SEED)


if __name__ == "__main__":
    main()
