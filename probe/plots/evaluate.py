"""Samples between a floor and a ceiling: four numbers with their intervals, above reals, samples and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, GREY, OKABE_ITO, show, tile
from probe.result import Result

_WIDTH, _EDGE, _COLUMNS = 7.0, 0.08, 12
_COLOURS = {"samples": BLUE, "floor": GREY, "ceiling": OKABE_ITO[4]}
_WORDS = {"samples": "samples", "floor": "other reals\n(floor)", "ceiling": "untrained\n(ceiling)"}


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
    axes.set_xticks(at, [_WORDS[name] for name in sets], fontsize=5.6)
    axes.tick_params(axis="y", labelsize=5.5)
    axes.minorticks_off()


def evaluation(result: Result) -> Figure:
    """Bars of the Fréchet distance, KID, precision and recall; below, pictures of the three sets."""
    m = result.metrics
    side = (_WIDTH - 2 * _EDGE - 0.85) / _COLUMNS
    height = 2.3 + 3 * (side + 0.08) + 0.6
    figure = Figure(figsize=(_WIDTH, height))
    fid = "FID" if m["measure"] == "FID" else "Fréchet distance (not FID)"
    titles = (
        ("fid", fid),
        ("kid", "kernel distance (MMD²)" if fid != "FID" else "KID"),
        ("precision", "precision"),
        ("recall", "recall"),
    )
    for i, (key, title) in enumerate(titles):
        box = [(0.42 + 1.68 * i) / _WIDTH, (height - 1.85) / height, 1.35 / _WIDTH, 1.5 / height]
        _bars(figure.add_axes(box), result, key, title)  # type: ignore[call-overload]
    y = height - 2.3
    for name, label in (("reals", "real images"), ("samples", "samples"), ("untrained", "untrained\ngenerator")):
        y -= side + 0.08
        box = [(_EDGE + 0.8) / _WIDTH, y / height, _COLUMNS * side / _WIDTH, side / height]
        show(figure, box, tile(result.arrays[name], _COLUMNS, 2))
        figure.text((_EDGE + 0.74) / _WIDTH, (y + side / 2) / height, label, ha="right", va="center", fontsize=6.5)
    caption = (
        f"In {m['features']} features of {m['backbone']}; {m['n']:,} images a set; reference: {m['reference']}.\n"
        "95 % intervals by the jackknife; the first two axes are logarithmic above their first mark. A Fréchet distance is biased upwards, the more the\n"
        "fewer the images: at this number the floor is what two sets of real images are apart."
    )
    figure.text(_EDGE / _WIDTH, 0.06 / height, caption, fontsize=5.8, linespacing=1.4)
    return figure
