"""Train the discriminator of Table 1 on CIFAR-10's 50,000 training images: GAN loss only, no label; resumable.

Run: python -m analyses.train_cifar10 --data parquet:cifar10-train.parquet --run out/train-cifar10, again to go on.
The paper trained on ImageNet-1k. Not the paper's: a discriminator of two 3x3 convolutions a scale (which
gives the paper's 1,792 maps at width 128; ours has 64), mirrored images, averaged networks, instance noise,
batches of 32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from analyses.train_rooms import say
from probe import data
from probe.checkpoints import save
from probe.training import Settings, train

STEPS = 5000
SETTINGS = Settings(
    steps=STEPS,
    size=32,
    width=64,
    depth=2,
    batch=32,
    noise=0.1,
    lr=2e-4,
    ema=0.999,
    d_ema=0.999,
    flips=True,
    seed=0,
    precision="float32",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", type=Path, default=Path("out/train-cifar10"))
    args = parser.parse_args()
    images = data.load(args.data, SETTINGS.size, SETTINGS.channels)
    gan = train(
        images.images, SETTINGS, args.run, source=images.name, resume=True, save_every=100, report=say, report_every=50
    )
    save(gan, args.run / "checkpoint.safetensors", dtype=torch.float16)
    print(f"checkpoint: {args.run / 'checkpoint.safetensors'}")


if __name__ == "__main__":
    main()
