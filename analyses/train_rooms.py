"""Train the built-in checkpoint of bedrooms, in one go or resumed.

Run: python -m analyses.train_rooms --run out/train-rooms, again to go on after an interruption.
The paper's recipe (section 4): Adam 2e-4 with beta1 0.5, z from U(-1, 1), N(0, 0.02) weights. Not the paper's: batches of
64, a gradient penalty on real images, an averaged generator, and a rate that falls to zero. The
shipped file is the averaged generator and the discriminator, in half precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from probe.checkpoints import save
from probe.data.rooms import scenes as rooms
from probe.models.gan import best_precision
from probe.training.adversaries import Settings
from probe.training.loop import Progress, train

RENDERS, EDITION = 30_000, 2
RECIPE = Settings(
    width=48, batch=64, steps=24_000, r1=1.0, decay=0.6, ema=0.999, precision=best_precision("cpu")
)


def say(p: Progress) -> None:
    print(
        f"step {p.step}/{p.steps}  D {p.loss_d:.2f}  G {p.loss_g:.2f}  {p.left / 60:.0f} min left  {p.warning}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("out/train-rooms"))
    args = parser.parse_args()
    images = rooms.load(RENDERS, edition=EDITION).images
    source = f"rooms@{EDITION}:{RENDERS}"
    gan = train(images, RECIPE, args.run, source=source, resume=True, report=say, report_every=100)
    save(gan, args.run / "rooms.safetensors", dtype=torch.float16)
    print(f"checkpoint: {args.run / 'rooms.safetensors'}")


if __name__ == "__main__":
    main()
