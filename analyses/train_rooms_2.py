"""Train the built-in checkpoint `rooms@2` of bedrooms (about four hours on one core with AMX), in one go or resumed.

Run: python -m analyses.train_rooms_2 --run out/train-rooms-2, again to go on after an interruption.
The paper's recipe (section 4): Adam with beta1 0.5, z from U(-1, 1), N(0, 0.02) weights. Not the paper's: width 48,
batches of 64, a gradient penalty on real images, an averaged generator, and a rate that rises and falls in phases (see
PHASES). The shipped file is the averaged generator and the discriminator, in half precision. One thread: on a
machine that others use, too, two wait for each other. The shipped file was made in several stretches, by resuming; the
whole has not been repeated from the start.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from probe.checkpoints import save
from probe.data.rooms import scenes as rooms
from probe.models.gan import best_precision
from probe.plots import losses
from probe.training.adversaries import Settings
from probe.training.loop import Progress, read_log, stored, train

RENDERS, EDITION = 30_000, 2
SOURCE = f"rooms@{EDITION}:{RENDERS}"
PHASES = (  # up to this step: learning rate, and the share of the steps from which on it falls to zero
    (7_000, 2e-4, 1.0),
    (12_800, 5e-4, 0.75),  # by now the penalty holds D, and G can take larger steps
    (18_000, 5e-4, 0.8),  # once more: the rate up again, and down for longer
)


def settings(steps: int, lr: float, decay: float) -> Settings:
    """A phase's settings."""
    return Settings(width=48, batch=64, steps=steps, lr=lr, r1=1.0, decay=decay, precision=best_precision("cpu"))


def say(p: Progress) -> None:
    print(
        f"step {p.step}/{p.steps}  D {p.loss_d:.2f}  G {p.loss_g:.2f}  {p.left / 60:.0f} min left  {p.warning}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("out/train-rooms-2"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = rooms.load(RENDERS, edition=EDITION).images
    done = (stored(args.run) or (0, {}))[0]
    for phase in PHASES:
        if done < phase[0] or phase == PHASES[-1]:
            gan = train(images, settings(*phase), args.run, source=SOURCE, resume=True, report=say, report_every=100)
    save(gan, args.run / "rooms-2.safetensors", dtype=torch.float16)
    losses.save(read_log(args.run / "losses.csv"), gan.provenance["training"]["history"], args.run / "losses.png")
    print(f"checkpoint: {args.run / 'rooms.safetensors'}")


if __name__ == "__main__":
    main()
