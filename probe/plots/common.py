"""What the drawings share: pictures of many images, and where they go on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

BLUE, GREY = "#0072B2", "0.55"
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


def tile(images: np.ndarray[Any, Any], columns: int, gap: int = 2) -> np.ndarray[Any, Any]:
    """Images (N, C, S, S) uint8 -> one picture (H, W, 3) uint8, row by row, with white gaps."""
    n, channels, size, _ = images.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (size + gap) - gap, columns * (size + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        pixels = image.transpose(1, 2, 0)
        canvas[y * (size + gap) :, x * (size + gap) :][:size, :size] = (
            pixels if channels == 3 else np.repeat(pixels, 3, 2)
        )
    return canvas


def show(figure: Figure, box: Sequence[float], picture: np.ndarray[Any, Any]) -> Any:
    """Put a picture on a page, at (left, bottom, width, height) in its fractions; returns the axes."""
    axes = figure.add_axes(box)  # type: ignore[call-overload]
    axes.imshow(picture)
    axes.set_axis_off()
    return axes


def strip(axes: Any, y: float, values: np.ndarray[Any, Any], found: float, interval: list[float] | None) -> None:
    """One row of a dot plot: what chance did in grey, what was found with its interval in blue."""
    known = values[np.isfinite(values)]
    jitter = np.random.default_rng(0).uniform(-0.22, 0.22, len(known))
    axes.scatter(known, y + jitter, s=4, color=GREY, alpha=0.5, linewidths=0)
    if interval:
        axes.plot(interval, [y, y], "-", color=BLUE, lw=1.2)
    axes.plot([found], [y], "o", color=BLUE, ms=4, mec="white", mew=0.4, zorder=5)
