"""Train the discriminators of Table 1 on training images alone: GAN loss only, no label; resumable.

Run: python -m analyses.train_discriminators cifar10 --data parquet:cifar10-train.parquet --run out/train-cifar10
     python -m analyses.train_discriminators fashion --data idx:fashion-mnist --run out/train-fashion
again to go on. The paper trained on ImageNet-1k. Not the paper's: a discriminator of two 3x3 convolutions a scale
(which gives the paper's 1,792 maps at width 128; ours have 80 and 32), mirrored images and bfloat16 (of CIFAR-10),
averaged networks, instance noise, batches of 32.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from analyses.train_rooms import say
from probe.checkpoints import save
from probe.data import loading as data
from probe.training.loop import Settings, train

CIFAR10 = Settings(
    steps=16_000,
    size=32,
    width=80,
    depth=2,
    batch=32,
    noise=0.1,
    lr=2e-4,
    ema=0.999,
    d_ema=0.999,
    flips=True,
    seed=0,
    precision="bfloat16",
)
SETTINGS = {
    "cifar10": CIFAR10,
    "fashion": replace(CIFAR10, steps=5000, channels=1, width=32, flips=False, precision="float32"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args()
    settings = SETTINGS[args.name]
    images = data.load(args.data, settings.size, settings.channels)
    gan = train(
        images.images, settings, args.run, source=images.name, resume=True, save_every=100, report=say, report_every=50
    )
    save(gan, args.run / "checkpoint.safetensors", dtype=torch.float16)
    print(f"checkpoint: {args.run / 'checkpoint.safetensors'}")


if __name__ == "__main__":
    main()
