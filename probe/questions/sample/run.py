"""Samples of a generator as a result: a grid (Figs. 2 and 3), and numbered images that any tool can label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from probe.base.errors import ProbeError
from probe.measures.statistics import to_numpy
from probe.models.gan import GAN, to_bytes
from probe.results.result import Result


def sample(gans: Sequence[GAN], n: int, seed: int = 0) -> Result:
    """The first n samples of a seed: arrays `images` (n, C, S, S) uint8 of each GAN in turn, and `latents` (n, nz) float32."""
    shapes = {(gan.nz, gan.prior, gan.channels, gan.size) for gan in gans}
    if len(shapes) != 1:
        raise ProbeError(
            f"{len(gans)} GANs of {len(shapes)} kinds; expected at least one, all of one latent and image size"
        )
    z = gans[0].latents(n, seed)
    drawn = [to_bytes(x).cpu() for gan in gans for x in gan.batches(z)]
    metrics: dict[str, Any] = {"images": n * len(gans)} | ({"rows": len(gans)} if len(gans) > 1 else {})
    classes = [gan.provenance["class"]["label"] for gan in gans if "class" in gan.provenance]
    metrics |= {"classes": classes} if classes else {}
    arrays = {"images": torch.cat(drawn).numpy(), "latents": to_numpy(z)}
    return Result("sample", metrics, {"samples": n, "seed": seed}, [], dict(gans[0].provenance), arrays)


def write_each(result: Result, folder: Path) -> None:
    """Write `000000.png` … of a sample result into a new folder; a file's number is its sample's index."""
    folder.mkdir()
    for i, pixels in enumerate(result.arrays["images"]):
        Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(folder / f"{i:06d}.png")
