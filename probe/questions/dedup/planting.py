"""Near-duplicates made on purpose: an image changed a little, in ways that the same photograph turns up on the web."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from probe.measures.statistics import Array

_SIDE = 32


def _picture(image: Array) -> Image.Image:
    return Image.fromarray(image.transpose(1, 2, 0))


def _shift(image: Array, rng: np.random.Generator, pixels: int) -> Array:
    """Moved by so many 32nds of its side along one axis or both, the border repeated."""
    k, size = max(1, round(pixels * image.shape[-1] / _SIDE)), image.shape[-1]
    y, x = [(0, k), (0, -k), (k, 0), (-k, 0), (k, k), (k, -k), (-k, k), (-k, -k)][rng.integers(8)]
    return np.pad(image, ((0, 0), (k, k), (k, k)), mode="edge")[:, k + y : k + y + size, k + x : k + x + size]


def _crop(image: Array, _: np.random.Generator, left: int) -> Array:
    """The centre, so many 32nds of the side, enlarged to the full side."""
    size = image.shape[-1]
    border = (1 - left / _SIDE) * size / 2
    box = (border, border, size - border, size - border)
    return np.asarray(_picture(image).resize((size, size), Image.Resampling.BICUBIC, box=box)).transpose(2, 0, 1)


def _jpeg(image: Array, _: np.random.Generator, quality: int) -> Array:
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)


def _light(image: Array, _: np.random.Generator, factor: float) -> Array:
    return np.clip(image * factor + 0.5, 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "shift_1": partial(_shift, pixels=1),
    "shift_2": partial(_shift, pixels=2),
    "crop_30": partial(_crop, left=30),
    "crop_28": partial(_crop, left=28),
    "jpeg_75": partial(_jpeg, quality=75),
    "jpeg_40": partial(_jpeg, quality=40),
    "darker": partial(_light, factor=0.8),
    "brighter": partial(_light, factor=1.25),
}
"""Shifts and crops in 32nds of the side; JPEG at a quality; brightness times 0.8 and 1.25, clipped."""


def plant(images: Array, seed: int) -> dict[str, Array]:
    """Copies of images (N, 3, S, S) uint8, each changed a little: kind -> (N, 3, S, S)."""
    rng = np.random.default_rng(seed)
    return {kind: np.stack([change(image, rng) for image in images]) for kind, change in KINDS.items()}
