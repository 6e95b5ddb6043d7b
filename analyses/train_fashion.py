"""A small DCGAN of Fashion-MNIST, and how it learnt to draw (about ten minutes on one core).

Run: python -m analyses.train_fashion --data idx:fashion-mnist --run out/train-fashion, again to go on.
The 60,000 training images at 32 px in grey; width 32, batches of 64, R1 and an averaged generator. Generator and
discriminator lie in one file of half precision, analyses/weights/fashion_dcgan.safetensors; the figure shows samples of the
generator in training after one and five passes, and of the averaged one at the end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from analyses.common import arguments, publish
from analyses.fig2_samples_early import images_of
from analyses.train_rooms import say
from probe.checkpoints import save
from probe.data import loading as data
from probe.questions.sample.run import sample
from probe.results.result import Result
from probe.training.loop import Settings, passed, train

SETTINGS = Settings(steps=5_000, size=32, channels=1, width=32, batch=64, r1=1.0, decay=0.6, seed=0)
SHOWN = 30


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--data", required=True, help="the 60,000 training images")
    parser.add_argument("--run", type=Path, default=Path("out/train-fashion"), help="folder of the run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = data.load(args.data, SETTINGS.size, SETTINGS.channels)
    gan = train(images.images, SETTINGS, args.run, source=images.name, resume=True, report=say, report_every=100)
    save(gan, args.run / "fashion_dcgan.safetensors", dtype=torch.float16)
    steps = [passed(passes, len(images.images), SETTINGS.batch) for passes in (1, 5)]
    early = [images_of(args.run / "samples" / f"raw-{step:07d}.png", 1)[:SHOWN] for step in steps]
    late = sample([gan], SHOWN, SETTINGS.seed)
    metrics = {"images": 3 * SHOWN, "rows": 3, "steps": [*steps, SETTINGS.steps]}
    arrays = {"images": np.concatenate([*early, late.arrays["images"]])}
    result = Result("sample", metrics, {"samples": SHOWN, "seed": SETTINGS.seed}, [], {}, arrays)
    publish(result, gan, "fashion_samples", args.out, SETTINGS.seed)
    shutil.copyfile(args.run / "training.gif", args.out / "fashion_samples" / "training.gif")


if __name__ == "__main__":
    main()
