"""Grids of samples."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from probe.plots.common import page, show, tile
from probe.results.result import Result


def draw(result: Result) -> Figure:
    """A grid of samples, after the paper's Figs. 2 and 3; of more than 100 the first, or a row of each GAN."""
    images, rows = result.arrays["images"], result.metrics.get("rows", 1)
    if rows > 1:
        columns = min(10, len(images) // rows)
        images = images.reshape(rows, -1, *images.shape[1:])[:, :columns].reshape(-1, *images.shape[1:])
    else:
        images = images[:100]
        columns = 10 if len(images) >= 50 else math.ceil(math.sqrt(len(images)))
    picture = tile(images, columns)
    width = min(page(), max(2.0, picture.shape[1] / 95))
    figure = Figure(figsize=(width, width * picture.shape[0] / picture.shape[1]))
    show(figure, [0, 0, 1, 1], picture)
    return figure
