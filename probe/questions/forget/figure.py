"""Forgetting: images before and after, and removal against collateral of every method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import columns, flow, note, page, show, tile
from probe.results.result import Result

# Okabe and Ito's colour-blind-safe palette
_COLOURS = {
    "paper": "#D55E00", "logistic": "#E69F00", "iou": "#009E73", "causal": "#CC79A7", "patch": "#0072B2",
    "lda": "#56B4E9", "leace": "#000000", "finetune": "#7F7F7F",
}  # fmt: skip
_WORDS = {
    "paper": "every map of positive logistic weight", "logistic": "maps by that weight", "iou": "by overlap with the boxes",
    "causal": "by causal effect", "patch": "activation patching", "lda": "one-sided erasure", "leace": "linear erasure",
    "finetune": "fine-tuning",
}  # fmt: skip
_LEFT = 0.95
_MATCHED_SHOWN = 6


def _strips(figure: Figure, rows: list[tuple[str, Any]], box: tuple[float, float, float], count: int) -> None:
    """Rows of images with their labels at the left; the box is (left, top, width) in inches."""
    left, top, width = box
    height, side = figure.get_figheight(), width / count
    for k, (label, images) in enumerate(rows):
        bottom = top - (k + 1) * side
        place = [left / page(), bottom / height, width / page(), side * 0.97 / height]
        show(figure, place, tile(images[:count], count))
        at = ((left - 0.05) / page(), (bottom + side / 2) / height)
        figure.text(*at, label, ha="right", va="center", fontsize=5.6, linespacing=1.05)


def _trade_off(axes: Any, result: Result) -> None:
    """Curves over the strengths with bands, a dot where each method chose its strength, random edits as a cloud."""
    for name, m in result.metrics["methods"].items():
        colour, curve = _COLOURS.get(name, "#7F7F7F"), result.arrays[f"{name}_curve"]
        order = np.argsort(curve[:, 2])
        if f"{name}_random" in result.arrays:
            random = result.arrays[f"{name}_random"]
            axes.scatter(random[:, 1], random[:, 0], s=2, color=colour, alpha=0.15, linewidths=0)
        axes.fill_between(curve[order, 2], curve[order, 3], curve[order, 4], color=colour, alpha=0.15, lw=0)
        axes.plot(curve[:, 2], curve[:, 1], "-", color=colour, lw=1, marker=".", ms=2.5)
        x, y = m["collateral"], m["removal"]
        spread = [
            [[x - m["collateral_ci"][0]], [m["collateral_ci"][1] - x]],
            [[y - m["removal_ci"][0]], [m["removal_ci"][1] - y]],
        ]
        axes.errorbar(
            [x], [y], xerr=np.abs(spread[0]), yerr=np.abs(spread[1]), fmt="o", ms=5, color=colour, mec="white", mew=0.5,
            lw=1, label=name, zorder=5,
        )  # fmt: skip
    axes.axhline(0.95, color="0.6", lw=0.6, ls=":")
    axes.set(xlabel="collateral (mean |change| elsewhere, images in [0, 1])", ylabel="removal", xlim=(0, None))
    axes.set_ylim(-0.25, 1.05)


def _numbers(name: str, m: dict[str, Any]) -> list[str]:
    """A method's row of the table under the curves."""
    low, high = m["removal_ci"]
    strength = f"{m['maps_dropped']} maps" if m["maps_dropped"] else f"{m['strength']:g}"
    random = m.get("random")
    chance = f"{random['removal_mean']:.2f} at {random['collateral']:.3f}" if random else "not run"
    p = f"{m['p_value']:.2g}" if m.get("p_value") is not None else ""
    where = ", ".join(layer.removeprefix("layer") for layer in m["layers"])
    return [
        name,
        where,
        strength,
        f"{m['removal']:.2f} [{low:.2f}, {high:.2f}]",
        f"{m['collateral']:.3f}",
        chance,
        p,
    ]


def _table(figure: Figure, result: Result, top: float) -> None:
    """What each method did, as a table across the page; top in inches."""
    height = figure.get_figheight()
    head = ["", "layer", "strength", "removal [95 %]", "collateral", "random edits: removal", "p"]
    at = [0.08, 1.35, 1.9, 2.65, 3.85, 4.65, 6.2]
    rows = [head, *(_numbers(name, m) for name, m in result.metrics["methods"].items())]
    if page() < 6.5:  # no room for all: name, removal, collateral and p
        at, rows = [0.08, 1.1, 2.2, 2.8], [[row[i] for i in (0, 3, 4, 6)] for row in rows]
    for k, row in enumerate(rows):
        for x, text in zip(at, row, strict=True):
            colour = "0.35" if k == 0 else "black"
            figure.text(x / page(), (top - 0.13 * k) / height, text, fontsize=5.8, va="top", color=colour)
    quality = result.metrics.get("judge_iou")
    known = "not measured" if quality is None or math.isnan(quality) else f"{quality:.2f}"
    concept = result.metrics["concept"]
    text = (
        f"Held-out latents, read by the judge (IoU {known}). Images: the first held-out samples in which the judge sees {concept}, "
        "not chosen.\nCurves: every strength, band the 95 % interval over images; clouds: random edits scaled to their method's "
        "collateral\non fewer samples than the dot's; dot: the strength chosen on other latents, by the selector.\n"
        + "; ".join(f"{name}: {_WORDS[name]}" for name in result.metrics["methods"] if name in _WORDS)
        + "."
    )
    note(figure, 0.08, top - 0.13 * len(rows) - 0.06, text, va="top", color="0.25")


def draw(result: Result) -> Figure:
    """The paper's Fig. 6 with erasure beneath, all methods' trade-offs, and all of them at one small collateral."""
    methods = result.metrics["methods"]
    before = result.arrays["before"]
    concept = result.metrics["concept"]
    count = columns(len(before), page() - _LEFT - 0.05, 0.45)
    top_rows = [("before", before)]
    for name in [n for n in ("paper", "patch") if n in methods] or list(methods)[:2]:
        share = f"{100 * methods[name]['removal']:.0f} %"
        top_rows.append((f"{name}\n{share} of {concept}\narea removed", result.arrays[name]))
    side = (page() - _LEFT - 0.05) / count
    matched = [(n, result.arrays[f"{n}_matched"]) for n in methods]
    (x, width, _), (right, wide, row) = flow([(0, 0.5, 2.95, 3.5), (4.0, 4.6, 2.35, 7.0)])
    small = wide / _MATCHED_SHOWN
    middle = max(2.3, small * (len(matched) + 1) + 0.2)
    table = 0.13 * (len(methods) + 1) + 0.48
    lower = row * (middle + 0.1)  # the pictures stand under the curves where the page is narrow
    height = len(top_rows) * side + middle + 0.35 + table + lower
    figure = Figure(figsize=(page(), height))
    _strips(figure, top_rows, (_LEFT, height, page() - _LEFT - 0.05), count)
    below = height - len(top_rows) * side - 0.2
    bottom = table + 0.4 + lower
    axes = figure.add_axes((x / page(), bottom / height, width / page(), (below - bottom - 0.05) / height))
    _trade_off(axes, result)
    axes.legend(frameon=False, loc="lower right", fontsize=5.6, handletextpad=0.2, labelspacing=0.3)
    below -= row * (middle + 0.2)
    limit = result.metrics["matched_collateral"]
    says = f"at its chosen strength, or the largest below it of collateral up to {limit:g}"
    if page() < 6.5 and not row:
        says = says.replace(", or ", ",\nor ")
    figure.text((right - 0.45) / page(), (below + 0.04) / height, says, fontsize=5.6, va="center")
    _strips(figure, [("before", before), *matched], (right, below - 0.05, wide), min(_MATCHED_SHOWN, len(before)))
    _table(figure, result, table - 0.02)
    return figure
