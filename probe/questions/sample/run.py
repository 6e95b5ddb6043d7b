"""Samples of a generator as a result: a grid (Figs. 2 and 3), and numbered images that any tool can label."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from probe.measures.statistics import to_numpy
from probe.models.gan import GAN, to_bytes
from probe.results.result import Result


def sample(gan: GAN, n: int, seed: int = 0) -> Result:
    """The first n samples of a seed: arrays `images` (n, C, S, S) uint8 and `latents` (n, nz) float32."""
    z = gan.latents(n, seed)
    arrays = {"images": torch.cat([to_bytes(x).cpu() for x in gan.batches(z)]).numpy(), "latents": to_numpy(z)}
    return Result("sample", {"images": n}, {"samples": n, "seed": seed}, [], dict(gan.provenance), arrays)


def write_each(result: Result, folder: Path) -> None:
    """Write `000000.png` … of a sample result into a new folder; a file's number is its sample's index."""
    folder.mkdir()
    for i, pixels in enumerate(result.arrays["images"]):
        Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(folder / f"{i:06d}.png")
