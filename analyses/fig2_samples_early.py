"""Figs. 2 and 3 of the paper: samples after one and after five passes over the data, from the run of `rooms@2`.

Run: python -m analyses.fig2_samples_early --run out/train-rooms-2, of train_rooms_2; where there is none, its first five passes
are trained there (about 35 minutes on one core).
Paper: bedrooms after one and five passes through 3M images. Here a pass is 469 steps of 64 images, against the paper's
23,000 of 128; the figures show how early that is, not that one or five suffice. They are samples of the generator in
training, as in the paper, not of the averaged one. Fig. 3 of the model as it was kept is drawn by fig3_samples.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from analyses.common import arguments, publish
from analyses.train_rooms_2 import EDITION, PHASES, RENDERS, SOURCE, settings
from probe.data.rooms import scenes as rooms
from probe.results.result import Result
from probe.training.loop import passed, stored, train

FOLDERS = {1: "fig2_samples_early", 5: "fig3_samples_early"}
SHOWN, SIDE = 50, 8  # of the run's 64 samples, 8 in a row


def images_of(picture: Path) -> np.ndarray[Any, Any]:
    """The samples (64, 3, S, S) of a picture that a training run drew on the way."""
    grid = np.asarray(Image.open(picture))
    size = len(grid) // SIDE
    tiles = grid.reshape(SIDE, size, SIDE, size, 3)
    return tiles.transpose(0, 2, 4, 1, 3).reshape(-1, 3, size, size)


def animate(samples: Path, path: Path) -> None:
    """The training of the averaged generator, seen on its first four samples of two rows; the last picture stays for 3 s."""
    frames = [Image.open(picture).convert("RGB") for picture in sorted(samples.glob("step-*.png"))]
    side = frames[0].width // SIDE
    frames = [frame.crop((0, 0, 4 * side, 2 * side)).quantize(96) for frame in frames]
    times = [150] * (len(frames) - 1) + [3000]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--run", type=Path, default=Path("out/train-rooms-2"), help="folder of the run")
    args = parser.parse_args()
    first = settings(*PHASES[0])
    steps = {passes: passed(passes, RENDERS, first.batch) for passes in FOLDERS}
    if (stored(args.run) or (0, {}))[0] < steps[5]:
        images = rooms.load(RENDERS, edition=EDITION).images
        train(images, replace(first, steps=steps[5]), args.run, source=SOURCE, resume=True)
    for passes, folder in FOLDERS.items():
        images = images_of(args.run / "samples" / f"raw-{steps[passes]:07d}.png")[:SHOWN]
        metrics = {"images": SHOWN, "passes": passes, "steps": steps[passes], "training_images": RENDERS}
        result = Result("sample", metrics, {"samples": SHOWN, "seed": first.seed}, [], {}, {"images": images})
        publish(result, None, folder, args.out, first.seed)
    animate(args.run / "samples", args.out / FOLDERS[1] / "training.gif")


if __name__ == "__main__":
    main()
