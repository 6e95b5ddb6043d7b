"""Figs. 2 and 3 of the paper: samples after one and after five passes over the data (about 35 minutes on one core).

Paper: bedrooms after one and five passes through 3M images. Here: the first steps of the built-in model's own training,
469 and 2,344 of 64 images, which are far fewer than the paper's 23,000 a pass; the figures show how early that is, not
that one or five suffice. Fig. 3 of the model as it was kept is drawn by fig3_samples.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from analyses.common import arguments, publish
from analyses.train_rooms import EDITION, PHASES, RENDERS, SOURCE, settings
from probe.data.rooms import scenes as rooms
from probe.questions.sample.run import sample
from probe.training.loop import passed, train

SEED, SHOWN = 0, 50
FOLDERS = {1: "fig2_samples_early", 5: "fig3_samples_early"}


def main() -> None:
    args = arguments(__doc__, ckpt=None).parse_args()
    images, first = rooms.load(RENDERS, edition=EDITION).images, settings(*PHASES[0])
    with tempfile.TemporaryDirectory() as run:
        for passes, folder in FOLDERS.items():
            steps = passed(passes, RENDERS, first.batch)
            gan = train(images, replace(first, steps=steps), Path(run), source=SOURCE, resume=True)
            publish(sample([gan], SHOWN, SEED), gan, folder, args.out, SEED)


if __name__ == "__main__":
    main()
