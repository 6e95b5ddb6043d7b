"""Insertion: images before and after, success against strength, and where in the picture it succeeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from probe.plots.common import columns, flow, note, page, show, tile
from probe.results.result import Result

_COLOURS = {"pattern": "#0072B2", "shift": "#E69F00", "units": "#009E73"}  # Okabe and Ito's colour-blind-safe palette
_MARKERS = {"pattern": "o", "shift": "s", "units": "^"}
_MAPS = {"map": "inserted", "map_pasted": "pasted in pixels", "map_natural": "there unasked"}
_LEFT, _GAP = 0.62, 2  # inches, inches, pixels between images


def _strip(figure: Figure, result: Result, name: str, bottom: float, height: float) -> None:
    """A row of images at a height in inches, the box outlined in each."""
    images = result.arrays[name]
    size, count = images.shape[-1], _columns(result)
    width = page() - _LEFT
    side = width / count
    place = [_LEFT / page(), bottom / height, width / page(), side * 0.97 / height]
    axes = show(figure, place, tile(images[:count], count, _GAP))
    x0, y0, x1, y1 = result.metrics["where"]
    for k in range(count):
        corner = (k * (size + _GAP) + x0 - 0.5, y0 - 0.5)
        axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, lw=0.5, ec="white"))
        axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, lw=0.5, ec="black", ls=(0, (2, 2))))
    figure.text((_LEFT - 0.06) / page(), (bottom + side / 2) / height, name, ha="right", va="center", fontsize=6.5)


def _columns(result: Result) -> int:
    return columns(len(result.arrays["before"]), page() - _LEFT, 0.42)


def _strengths(axes: Any, result: Result) -> None:
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
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(-0.02 if page() > 4 else -0.12, 1.3),
        ncols=2,
        columnspacing=1,
        handletextpad=0.4,
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
    if page() > 6.5 or name == "map_pasted":  # once for all three, where they are too small for it
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


def draw(result: Result) -> Figure:
    """Held-out samples before and after, success against strength with the random control, and maps of positions."""
    side = (page() - _LEFT) / _columns(result)
    (x, width, _), (left, all_maps, row) = flow([(0, _LEFT, 2.35, 3.0), (3.1, 3.5, 3.42, 6.95)])
    gap = 0.12
    wide = (all_maps - 2 * gap) / 3
    lower = row * (wide + 0.9)
    height = 2 * side + 2.55 + lower
    figure = Figure(figsize=(page(), height))
    for k, name in enumerate(("before", "after")):
        _strip(figure, result, name, height - (k + 1) * side, height)
    _strengths(figure.add_axes((x / page(), (0.72 + lower) / height, width / page(), 1.36 / height)), result)
    for k, name in enumerate(_MAPS):
        place = ((left + k * (wide + gap)) / page(), 0.78 / height, wide / page(), wide / height)
        _map(figure.add_axes(place), result, name)
    caption = (
        f"{result.metrics['concept']} seen by the judge, % of samples; "
        + "\n" * (page() < 6.5)
        + "outlined: the box asked for"
    )
    figure.text(left / page(), (0.78 + wide + 0.2) / height, caption, fontsize=6.5, va="bottom")
    note(figure, 0.15, 0.08, _verdict(result), fontsize=6, linespacing=1.35)
    return figure
