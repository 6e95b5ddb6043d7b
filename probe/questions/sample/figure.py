"""Grids of samples."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from probe.plots.common import page, show, tile
from probe.results.result import Result


def draw(result: Result) -> Figure:
    """A grid of samples, after the paper's Figs. 2 and 3; of more than 100 the first."""
    images = result.arrays["images"][:100]
    columns = 10 if len(images) >= 50 else math.ceil(math.sqrt(len(images)))
    picture = tile(images, columns)
    width = min(page(), max(2.0, picture.shape[1] / 95))
    figure = Figure(figsize=(width, width * picture.shape[0] / picture.shape[1]))
    show(figure, [0, 0, 1, 1], picture)
    return figure
