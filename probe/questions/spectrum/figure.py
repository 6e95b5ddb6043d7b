"""Power against frequency, samples beside real images."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, page, show, tile
from probe.results.result import Result


def draw(result: Result) -> Figure:
    """Both spectra with the middle 95 % of images, and the first image of each kind."""
    figure = Figure(figsize=(page(), 2.3))
    width, left = page() - 2.6, 0.7
    axes = figure.add_axes((left / page(), 0.2, width / page(), 0.68))
    for name, colour in (("real", "0.35"), ("samples", BLUE)):
        rows = result.arrays[name]
        x = np.arange(1, rows.shape[1] + 1)
        low, high = np.percentile(rows, [2.5, 97.5], axis=0)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(x, rows.mean(0), color=colour, lw=1.3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="cycles an image", ylabel="power")
    axes.legend(frameon=False)
    m = result.metrics
    said = "corner: nothing to judge"
    if m["excess"] is not None:
        said = f"corner: samples {m['corner']:.2g}, real {m['real']['corner']:.2g} times what is around it"
    axes.set_title(said, loc="left")
    for k, (name, image) in enumerate(zip(("sample", "real"), result.arrays["shown"], strict=True)):
        side = 0.9
        at = [(left + width + 0.35) / page(), (1.25 - 1.05 * k) / 2.3, side / page(), side / 2.3]
        show(figure, at, tile(image[None], 1))
        figure.text(at[0] + (side + 0.06) / page(), at[1] + 0.2, name, fontsize=6.5, va="center")
    return figure
