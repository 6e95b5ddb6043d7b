"""Samples between a floor and a ceiling: four numbers with their intervals, above reals, samples and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, GREY, OKABE_ITO, columns, flow, note, page, show, tile
from probe.results.result import Result

_LEFT, _MOST, _ROW = 0.88, 12, 2.1  # inches left of the pictures; pictures in a row; inches of a row of bars
_COLOURS = {"samples": BLUE, "floor": GREY, "ceiling": OKABE_ITO[4]}
_WORDS = {"samples": "samples", "floor": "reals\n(floor)", "ceiling": "untrained\n(ceiling)"}


def _bars(axes: Any, result: Result, key: str, title: str) -> None:
    """One number of the three sets; differences over decades are drawn on a logarithmic axis."""
    m = result.metrics
    sets = {"floor": m["floor"], "samples": m, "ceiling": m["ceiling"]}
    values = np.array([found[key] for found in sets.values()])
    ends = np.array([found[f"{key}_ci"] for found in sets.values()]).T
    at = np.arange(3)
    share = key in ("precision", "recall")
    bars = axes.bar(at, values, 0.7, color=[_COLOURS[name] for name in sets])
    axes.errorbar(at, values, np.abs(ends - values), fmt="none", ecolor="0.1", elinewidth=0.7, capsize=2)
    if share:
        axes.set_ylim(0, 1.12)
    else:
        top = np.floor(np.log10(max(ends.max(), 1e-12)))
        axes.set_yscale("symlog", linthresh=10 ** (top - 2), linscale=0.5)
        axes.set_yticks([0, *10 ** np.arange(top - 2, top + 1)])
        axes.set_ylim(min(0, 1.5 * ends.min()), 6 * ends.max())
    for bar, value, high in zip(bars, values, ends[1], strict=True):
        axes.annotate(
            f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}",
            (bar.get_x() + 0.35, max(value, high, 0)),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=6,
        )
    axes.set_title(title, fontsize=7)
    axes.set_xticks(at, [_WORDS[name] for name in sets], fontsize=5.2)
    axes.tick_params(axis="y", labelsize=5.5)
    axes.minorticks_off()


def draw(result: Result) -> Figure:
    """Bars of the Fréchet distance, KID, precision and recall; below, pictures of the three sets."""
    m = result.metrics
    count = columns(_MOST, page() - _LEFT - 0.06, 0.42)
    side = (page() - _LEFT - 0.06) / count
    fid = "FID" if m["measure"] == "FID" else "Fréchet distance (not FID)"
    titles = (
        ("fid", fid),
        ("kid", "kernel distance (MMD²)" if fid != "FID" else "KID"),
        ("precision", "precision"),
        ("recall", "recall"),
    )
    placed = flow([(1.68 * i, 0.42 + 1.68 * i, 1.35, 1.68 * i + 1.84) for i in range(4)])
    bars = _ROW * (placed[-1][2] + 1)
    height = bars + 3 * (side + 0.08) + 0.66
    figure = Figure(figsize=(page(), height))
    for (key, title), (left, wide, row) in zip(titles, placed, strict=True):
        bottom = height - _ROW * row - 1.8
        _bars(figure.add_axes((left / page(), bottom / height, wide / page(), 1.45 / height)), result, key, title)
    y = height - bars - 0.02
    for name, label in (("reals", "real images"), ("samples", "samples"), ("untrained", "untrained\ngenerator")):
        y -= side + 0.08
        box = [_LEFT / page(), y / height, count * side / page(), side / height]
        show(figure, box, tile(result.arrays[name][:count], count, 2))
        figure.text((_LEFT - 0.06) / page(), (y + side / 2) / height, label, ha="right", va="center", fontsize=6.5)
    text = (
        f"In {m['features']} features of {m['backbone']}; {m['n']:,} images a set; reference: {m['reference']}.\n"
        "95 % intervals by the jackknife; the first two axes are logarithmic above their first mark. A Fréchet distance is biased upwards, the more the\n"
        "fewer the images: at this number the floor is what two sets of real images are apart."
    )
    note(figure, 0.08, 0.06, text, fontsize=5.8)
    return figure
