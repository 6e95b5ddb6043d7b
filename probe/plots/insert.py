"""Insertion: images before and after, success against strength, and where in the picture it succeeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from probe.plots.common import show, tile
from probe.result import Result

_COLOURS = {"pattern": "#0072B2", "shift": "#E69F00", "units": "#009E73"}  # Okabe and Ito's colour-blind-safe palette
_MARKERS = {"pattern": "o", "shift": "s", "units": "^"}
_MAPS = {"map": "inserted", "map_pasted": "pasted in pixels", "map_natural": "there unasked"}
_WIDTH, _LEFT, _GAP = 7.0, 0.62, 2  # inches, inches, pixels between images


def _strip(figure: Figure, result: Result, name: str, bottom: float, height: float) -> None:
    """A row of images at a height in inches, the box outlined in each."""
    images = result.arrays[name]
    size, columns = images.shape[-1], len(images)
    width = _WIDTH - _LEFT
    side = width / columns
    place = [_LEFT / _WIDTH, bottom / height, width / _WIDTH, side * 0.97 / height]
    axes = show(figure, place, tile(images, columns, _GAP))
    x0, y0, x1, y1 = result.metrics["where"]
    for k in range(columns):
        corner = (k * (size + _GAP) + x0 - 0.5, y0 - 0.5)
        axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, lw=0.5, ec="white"))
        axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, lw=0.5, ec="black", ls=(0, (2, 2))))
    figure.text((_LEFT - 0.06) / _WIDTH, (bottom + side / 2) / height, name, ha="right", va="center", fontsize=6.5)


def _doses(axes: Any, result: Result) -> None:
    """Success against strength of every variant; the random control beside the chosen one."""
    metrics, random = result.metrics, result.arrays["random"]
    jitter = np.random.default_rng(0).uniform(-0.09, 0.09, len(random))
    at = metrics["strength"]
    axes.scatter(
        at + jitter, random[:, 0], s=5, color="0.45", alpha=0.4, linewidths=0, zorder=2, label=f"random, as much change ({len(random)})"
    )  # fmt: skip
    for name, m in metrics["methods"].items():
        curve = result.arrays[f"{name}_curve"]
        colour = _COLOURS[name]
        share = "" if name != "units" else f", {sum(m['units'].values())} set"
        axes.plot(curve[:, 0], curve[:, 1], color=colour, lw=1, marker=_MARKERS[name], ms=2.5, label=f"{name}{share}")
        error = np.abs([[m["success"] - m["success_ci"][0]], [m["success_ci"][1] - m["success"]]])
        axes.errorbar(
            [m["strength"]], [m["success"]], yerr=error, fmt=_MARKERS[name], ms=5, color=colour, mec="white", mew=0.5, lw=1, zorder=5
        )  # fmt: skip
    axes.set(xlabel="strength", ylabel="success", ylim=(-0.04, 1.04), xlim=(0, None))
    axes.legend(
        frameon=False, loc="upper left", bbox_to_anchor=(-0.02, 1.3), ncols=2, columnspacing=1, handletextpad=0.4
    )


def _map(axes: Any, result: Result, name: str) -> None:
    """Shares in per cent by the position of the box, the one asked for outlined."""
    values, x, y = (result.arrays[key] for key in (name, "map_x", "map_y"))
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        text = "–" if math.isnan(value) else f"{100 * value:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color="white" if value > 0.55 else "0.15")
    x0, y0 = result.metrics["where"][:2]
    corner = (np.abs(x - x0).argmin() - 0.5, np.abs(y - y0).argmin() - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, lw=1.2, ec="#D55E00", clip_on=False, zorder=5))
    axes.set_xticks(range(len(x)), [f"{v:.0f}" for v in x], fontsize=5.5)
    axes.set_yticks(range(len(y)), [f"{v:.0f}" for v in y] if name == "map" else [], fontsize=5.5)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set(visible=True, color="0.7")
    axes.set_title(_MAPS[name], fontsize=6.5, pad=3)
    axes.set_xlabel("left edge of the box (px)", fontsize=5.5, labelpad=2)
    if name == "map":
        axes.set_ylabel("its top (px)", fontsize=5.5, labelpad=2)


def _verdict(result: Result) -> str:
    m = result.metrics
    random, (low, high) = m["random"], m["success_ci"]
    quality = m.get("judge_iou")
    known = "not measured" if quality is None or math.isnan(quality) else f"{quality:.2f}"
    return (
        f"{m['variant']} at {', '.join(m['layers'])}, strength {m['strength']:g}: {m['concept']} covers half of the box in "
        f"{m['success']:.2f} [{low:.2f}, {high:.2f}] of {m['latents']} held-out samples that lacked it there ({m['covered']:.2f} of the "
        f"box on average);\nmean change in the box {m['inside']:.2f}, elsewhere {m['collateral']:.3f}; random edits that change the box "
        f"as much: {random['success_mean']:.2f}, p = {m['p_value']:.2g}. Judge's IoU {known}. First samples shown, not chosen."
    )


def insertion(result: Result) -> Figure:
    """Held-out samples before and after, success against strength with the random control, and maps of positions."""
    columns = len(result.arrays["before"])
    side = (_WIDTH - _LEFT) / columns
    height = 2 * side + 2.55
    figure = Figure(figsize=(_WIDTH, height))
    for k, name in enumerate(("before", "after")):
        _strip(figure, result, name, height - (k + 1) * side, height)
    axes = figure.add_axes((_LEFT / _WIDTH, 0.72 / height, 2.35 / _WIDTH, 1.36 / height))
    _doses(axes, result)
    left, wide, gap = 3.5, 1.06, 0.12
    for k, name in enumerate(_MAPS):
        place = ((left + k * (wide + gap)) / _WIDTH, 0.78 / height, wide / _WIDTH, wide / height)
        _map(figure.add_axes(place), result, name)
    caption = f"{result.metrics['concept']} seen by the judge, % of samples; outlined: the box asked for"
    figure.text(left / _WIDTH, (0.78 + wide + 0.2) / height, caption, fontsize=6.5, va="bottom")
    figure.text(0.15 / _WIDTH, 0.08 / height, _verdict(result), va="bottom", fontsize=6, linespacing=1.35)
    return figure
