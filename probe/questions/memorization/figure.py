"""Copies or not: the most suspicious samples with their nearest images, the ratios, the test, and its power."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, GREY, columns, flow, note, page, show, tile
from probe.results.result import Result

_LEFT, _RIGHT = 0.95, 0.06
_RED = "#D55E00"


def _columns() -> int:
    return columns(10, page() - _LEFT - _RIGHT, 0.42)


def _pictures(figure: Figure, result: Result, height: float, side: float) -> float:
    """Rows of pictures from the top; returns how low they come, in inches."""
    arrays = result.arrays
    blocks = [
        [("samples, most\nsuspicious first", "suspects"), ("nearest training\nimage", "suspects_train"), ("nearest held-out\nimage", "suspects_holdout")],
        [("training images", "targets"), ("as the generator\ncan draw them", "recovered")],
    ]  # fmt: skip
    y = height - 0.2
    most = _columns()
    for block in blocks:
        for label, name in block:
            if name in arrays:
                y -= side
                shown = arrays[name][:most]
                width = side * len(shown)
                box = [_LEFT / page(), y / height, width / page(), side / height]
                show(figure, box, tile(shown, len(shown), 2))
                figure.text(
                    (_LEFT - 0.06) / page(), (y + side / 2) / height, label, ha="right", va="center", fontsize=5.8
                )
        y -= 0.12
    for i, value in enumerate(arrays["suspects_ratio"][:most]):
        text = f"{np.exp(value):.2f}" if "suspects_holdout" in arrays else f"{value:.2f}"
        figure.text((_LEFT + side * (i + 0.5)) / page(), (height - 0.17) / height, text, ha="center", fontsize=5.5)
    title = "d(T) / d(H)" if "suspects_holdout" in arrays else "d(T)"
    figure.text((_LEFT - 0.06) / page(), (height - 0.17) / height, title, ha="right", fontsize=5.8)
    return y


def _ratios(axes: Any, result: Result) -> None:
    """What the ratios are, and what they would be with the labels exchanged."""
    a = result.arrays
    axes.hist(
        a["ratio"].clip(a["edges"][0], a["edges"][-1]),
        a["edges"],
        density=True,
        color=BLUE,
        alpha=0.45,
        label="samples",
    )
    axes.stairs(a["shuffled"], a["edges"], color="0.25", lw=0.9, label="labels shuffled")
    axes.axvline(result.metrics["threshold"], color=_RED, lw=0.8, ls="--")
    axes.set(xlabel="r = log d(g, T) / d(g, H)", ylabel="density", yticks=[])
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, loc="upper right", handlelength=1.2, borderaxespad=0.1)


def _test(axes: Any, result: Result) -> None:
    """The statistic among those of shuffled labels."""
    null, own = result.arrays["null"], float(result.arrays["statistic"][0])
    axes.hist(null, 30, color=GREY, alpha=0.7)
    axes.axvline(own, color=BLUE, lw=1.5)
    axes.text(
        0.02, 0.97, f"p = {result.metrics['p_value']:.2g}", transform=axes.transAxes, fontsize=6.5, va="top", color=BLUE
    )
    axes.set(xlabel="S (grey: labels shuffled)", yticks=[])
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])


def power_panel(axes: Any, rows: np.ndarray[Any, Any], colour: str, label: str | None = None) -> None:
    """Rate of detection against the share of planted copies; rows of share, rate, low, high."""
    at = np.arange(len(rows))
    axes.fill_between(at, rows[:, 2], rows[:, 3], color=colour, alpha=0.15, lw=0)
    axes.plot(at, rows[:, 1], "o-", color=colour, lw=1, ms=3, label=label)
    axes.axhline(0.8, color="0.6", lw=0.6, ls="--")
    axes.set(
        ylim=(-0.03, 1.05),
        xticks=at,
        xticklabels=[f"{100 * s:g}" for s in rows[:, 0]],
        xlabel="planted copies (% of samples)" if page() > 6.5 else "planted copies (%)",
    )
    axes.set_ylabel("share detected")


def _caption(result: Result) -> str:
    m = result.metrics
    if m["p_value"] is None:
        return f"{m['samples']} samples, {m['train_images']} training images, distance in {m['distance']}. Scores only: {m['reason']}. Authenticity {m['authenticity']:.2f}."
    floor = f" at ≥ {m['floor']:.0%}" if m["floor"] else ""
    low, high = m["copy_share_ci"]
    hits = ""
    if "most_hits" in m:  # older results have none
        most = m["most_hits"]
        hits = f"Most near-copies of one training image {most['train']}, of one held-out image {most['holdout']} (p = {m['p_hits']:.2g}).\n"
    return (
        f"Verdict: {m['verdict']}{floor} ({m['reason']}).\n{m['samples']} samples, {m['train_images']} training and {m['holdout_images']} held-out images, distance in {m['distance']}; "
        f"share of copies {m['copy_share']:.1%} [{low:.1%}, {high:.1%}] (left of the dashed line, beyond chance); C_T {m['ct']:.1f}, authenticity {m['authenticity']:.2f}.\n"
        f"{hits}"
        f"Planted copies are the generator's own best drawings of training images; their distance from them {m['recovery']['train']:.2f}, "
        f"from held-out ones drawn alike {m['recovery']['holdout']:.2f}. No guarantee of privacy."
    )


def draw(result: Result) -> Figure:
    """Nearest images of the most suspicious samples; below, ratios, test and power where there are held-out images."""
    tested = result.metrics["p_value"] is not None
    side = (page() - _LEFT - _RIGHT) / _columns()
    rows = sum(
        name in result.arrays for name in ("suspects", "suspects_train", "suspects_holdout", "targets", "recovered")
    )
    placed = flow([(0.1, 0.3, 2.05, 2.4), (2.5, 2.65, 1.75, 4.45), (4.5, 4.9, 2.0, 6.95)])
    under = 1.65 * placed[-1][2] if tested else 0.0
    height = rows * side + 0.5 + (2.05 if tested else 0.2) + under + 0.1 * ("most_hits" in result.metrics)
    figure = Figure(figsize=(page(), height))
    low = _pictures(figure, result, height, side)
    if tested:
        axes = [
            figure.add_axes((x / page(), (low - 1.25 - 1.65 * row) / height, width / page(), 1.15 / height))
            for x, width, row in placed
        ]
        _ratios(axes[0], result)
        _test(axes[1], result)
        power_panel(axes[2], result.arrays["power"], BLUE)
    note(figure, 0.06, 0.05, _caption(result), linespacing=1.35)
    return figure
