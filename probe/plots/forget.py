"""Forgetting: images before and after, removal against collateral."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import show, tile
from probe.result import Result

_COLOURS = {"paper": "#D55E00", "erase": "#0072B2"}  # Okabe and Ito's colour-blind-safe palette
_NAMES = {"paper": "paper's rule", "erase": "erase"}


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _row_label(name: str, m: dict[str, Any], concept: str) -> str:
    if name == "before":
        return "before"
    return f"{_NAMES[name]}\n{_percent(m['removal'])} of {concept}\narea removed"


def _trade_off(axes: Any, result: Result) -> None:
    methods = result.metrics["methods"]
    for name, m in methods.items():
        colour, curve, random = _COLOURS[name], result.arrays[f"{name}_curve"], result.arrays[f"{name}_random"]
        axes.scatter(
            random[:, 1],
            random[:, 0],
            s=5,
            color=colour,
            alpha=0.25,
            linewidths=0,
            label=f"random, for {_NAMES[name]} ({len(random)})",
        )
        axes.plot(curve[:, 2], curve[:, 1], "-", color=colour, lw=1, marker=".", ms=3)
        x, y = m["collateral"], m["removal"]
        error = [[y - m["removal_ci"][0]], [m["removal_ci"][1] - y]]
        spread = [[x - m["collateral_ci"][0]], [m["collateral_ci"][1] - x]]
        marker = "s" if name == "paper" else "o"
        axes.errorbar(
            [x],
            [y],
            yerr=np.abs(error),
            xerr=np.abs(spread),
            fmt=marker,
            ms=5,
            color=colour,
            mec="white",
            mew=0.5,
            lw=1,
            label=_NAMES[name],
            zorder=5,
        )
    axes.axhline(0.95, color="0.6", lw=0.6, ls=":")
    axes.set(xlabel="collateral (mean |change| elsewhere, images in [0, 1])", ylabel="removal", xlim=(0, None))
    low = min(float(result.arrays[f"{n}_random"][:, 0].min()) for n in methods)
    axes.set_ylim(max(-1.0, min(-0.1, low - 0.05)), 1.05)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.4)


def _verdict(name: str, m: dict[str, Any]) -> str:
    low, high = m["removal_ci"]
    what = f"{m['maps_dropped']} maps dropped" if m["maps_dropped"] else f"strength {m['dose']:g}"
    return (
        f"{_NAMES[name]} ({what} at {', '.join(m['layers'])}): removal {m['removal']:.2f} [{low:.2f}, {high:.2f}],\n"
        f"   collateral {m['collateral']:.3f}; random {m['random']['removal_mean']:.2f} at {m['random']['collateral']:.3f}; p = {m['p_value']:.2g}"
    )


def forgetting(result: Result) -> Figure:
    """The paper's Fig. 6 with a second method beneath, and removal against collateral with the random control."""
    before = result.arrays["before"]
    concept, methods = result.metrics["concept"], result.metrics["methods"]
    columns = len(before)
    rows = ["before", *methods]
    side, left = 6.2 / columns, 0.8
    strip = len(rows) * side
    height = strip + 2.35
    figure = Figure(figsize=(7.0, height))
    for k, name in enumerate(rows):
        bottom = height - (k + 1) * side
        show(figure, [left / 7, bottom / height, 6.2 / 7, side * 0.97 / height], tile(result.arrays[name], columns))
        label = _row_label(name, methods.get(name, {}), concept)
        figure.text(
            (left - 0.06) / 7,
            (bottom + side / 2) / height,
            label,
            ha="right",
            va="center",
            fontsize=5.6,
            linespacing=1.05,
        )
    axes = figure.add_axes((left / 7, 0.4 / height, 2.75 / 7, 1.75 / height))
    _trade_off(axes, result)
    lines = [_verdict(name, m) for name, m in methods.items()]
    quality = result.metrics.get("judge_iou")
    known = "not measured" if quality is None or math.isnan(quality) else f"{quality:.2f}"
    lines.append(
        f"Held-out latents, read by the judge (IoU {known});\n"
        f"first {columns} held-out samples in which the judge sees {concept}, not chosen."
    )
    figure.text(3.75 / 7, 0.34 / height, "\n".join(lines), va="bottom", fontsize=5.6, linespacing=1.35)
    return figure
