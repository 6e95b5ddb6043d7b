"""Small pictures of noise, for the tests of image sources."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def chw(arrays: np.ndarray) -> np.ndarray:
    return np.moveaxis(arrays, -1, 1)


EXPECTED = np.stack(
    [noise(8, 8, 3, seed=seed) for seed in (0, 1, 2)]
)  # in the folder of test_data.py: a/10.PNG < a/2.png < b/1.png
