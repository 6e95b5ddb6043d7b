"""Train the built-in checkpoint `rooms` of bedrooms (somewhat over an hour on 2 cores), resumable.

Run: python -m analyses.train_rooms --run out/train-rooms, again to go on after an interruption.
The paper's recipe (section 4) at width 48: batch 128, Adam 2e-4 with beta1 0.5, z from U(-1, 1), N(0, 0.02) weights;
not the paper's: an averaged generator, instance noise on what D sees, and a smaller learning rate at the end (see
PHASES). The shipped file was made in these phases, by resuming; the whole has not been repeated from the start. The
shipped file is the averaged generator and the discriminator, in half precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from probe.checkpoints import save
from probe.data.rooms import scenes as rooms
from probe.models.gan import best_precision
from probe.training.loop import Progress, Settings, train

RENDERS, WIDTH = 24_000, 48
PHASES = (  # up to this step: instance noise, learning rate, decay of the averaged generator
    (3250, 0.0, 2e-4, 0.999),
    (4750, 0.1, 2e-4, 0.999),  # without noise D wins by the renders' grain, which G cannot draw
    (5750, 0.2, 2e-4, 0.999),
    (6350, 0.2, 5e-5, 0.99),
    (6650, 0.05, 1e-4, 0.99),  # less noise again, so that D sees the grain and G loses it
)


def say(p: Progress) -> None:
    print(
        f"step {p.step}/{p.steps}  D {p.loss_d:.2f}  G {p.loss_g:.2f}  {p.left / 60:.0f} min left  {p.warning}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("out/train-rooms"))
    args = parser.parse_args()
    images = rooms.load(RENDERS).images
    for steps, noise, lr, ema in PHASES:
        settings = Settings(width=WIDTH, steps=steps, noise=noise, lr=lr, ema=ema, precision=best_precision("cpu"))
        gan = train(images, settings, args.run, source=f"rooms:{RENDERS}", resume=True, report=say, report_every=100)
    save(gan, args.run / "rooms.safetensors", dtype=torch.float16)
    print(f"checkpoint: {args.run / 'rooms.safetensors'}")


if __name__ == "__main__":
    main()
