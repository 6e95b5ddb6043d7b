"""What the drawings share: pictures of many images, and where they go on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

BLUE, GREY = "#0072B2", "0.55"
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which colour-blind segmenters can tell apart."""


Panel = tuple[float, float, float, float]
"""Left end of a panel's labels, left of its axes, width of its axes, its right end, on a page of 7 inches."""
_SQUEEZED = 0.6  # axes lose no more than the rest of their width before panels are wrapped


def page() -> float:
    """The width in inches that drawings lay themselves out on, at most 7 (see style.Look)."""
    return float(mpl.rcParams["figure.figsize"][0])


def columns(most: int, space: float, side: float) -> int:
    """How many pictures, at least `side` inches wide, stand side by side in a space; no more than `most`."""
    return max(1, min(most, int(space / side + 1e-6)))


def flow(panels: Sequence[Panel]) -> list[tuple[float, float, int]]:
    """Panels that stand side by side on a page of 7 inches, on this one: narrower, and wrapped into rows like words.

    Returns left and width of the axes and the row of each.
    """
    rows: list[list[Panel]] = []
    for panel in panels:
        if rows and _excess([*rows[-1], panel], len(rows) == 1) <= 1 - _SQUEEZED:
            rows[-1].append(panel)
        else:
            rows.append([panel])
    placed = []
    for k, row in enumerate(rows):
        less, shift = max(0.0, _excess(row, k == 0)), row[0][0] if k else 0.0
        for _, left, width, _ in row:
            placed.append((left - shift, width * (1 - less), k))
            shift += width * less
    return placed


def _excess(row: list[Panel], first: bool) -> float:
    """How much of the width of its axes a row of panels has too much for the page."""
    wide = row[-1][3] - (0.0 if first else row[0][0])
    return (wide - page()) / sum(width for _, _, width, _ in row)


def note(figure: Figure, x: float, y: float, text: str, **how: Any) -> None:
    """Explain a figure in small print, from inches; a style may move it to the caption."""
    small: dict[str, Any] = {"va": "bottom", "fontsize": 5.2, "linespacing": 1.3, "gid": "note", **how}
    figure.text(x / page(), y / figure.get_figheight(), text, **small)


def tile(images: np.ndarray[Any, Any], columns: int, gap: int = 2) -> np.ndarray[Any, Any]:
    """Images (N, C, S, S) uint8 -> one picture (H, W, 3) uint8, row by row, with white gaps.

    Images of one channel are grey; those of four have a transparency, and lie on white.
    """
    n, _, size, _ = images.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (size + gap) - gap, columns * (size + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        canvas[y * (size + gap) :, x * (size + gap) :][:size, :size] = on_white(image).transpose(1, 2, 0)
    return canvas


def on_white(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An image (1, 3 or 4, H, W) uint8 in colours (3, H, W): one channel is grey, the fourth an opacity over white."""
    if len(image) == 4:
        opacity = image[3:] / 255
        return np.rint(image[:3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.broadcast_to(image, (3, *image.shape[1:]))


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
