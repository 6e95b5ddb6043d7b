"""Turning: the paper's Fig. 8, the judge's score at every step, and methods against one another."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import OKABE_ITO, flow, note, page, show, tile
from probe.plots.success import success_curves
from probe.results.result import Result

_LEFT, _PLOTS = 0.62, 1.95
_READABLE = {"window": "window", "night": "night", "lamp": "lamp", "yaw": "camera"}
_SIDES = {
    "window": ("nowindow", "window"),
    "night": ("day", "night"),
    "lamp": ("nolamp", "lamp"),
    "yaw": ("left", "right"),
}
_SUCCESS = {
    "": "mean of exemplars", "norm_matched_single": "one exemplar, equal length", "norm_restored_mean": "mean, norm of the prior",
    "random_direction": "random direction", "shuffled": "labels shuffled", "pixel": "in pixel space",
}  # fmt: skip


def _arrow(figure: Figure, result: Result, top: float, side: float) -> None:
    """The means of both sides with a dashed arrow between them."""
    height = figure.get_figheight()
    for k, name in enumerate((result.metrics["from"], result.metrics["to"])):
        left = _LEFT if k == 0 else page() - 0.06 - side
        show(
            figure,
            (left / page(), 1 - (top + side) / height, side / page(), side / height),
            tile(result.arrays["ends"][k : k + 1], 1),
        )
        at = left + 1.12 * side if k == 0 else left - 0.12 * side
        figure.text(
            at / page(),
            1
            - (top + max(0.82 * side, 0.5 * side + 0.11))
            / height,  # below the arrow's head, however small the pictures
            name,
            ha="left" if k == 0 else "right",
            va="center",
            fontsize=6.5,
        )
    axes = figure.add_axes(
        (
            (_LEFT + 1.1 * side) / page(),
            1 - (top + side) / height,
            (page() - 0.06 - _LEFT - 2.2 * side) / page(),
            side / height,
        )
    )
    axes.annotate(
        "",
        (1, 0.5),
        (0, 0.5),
        arrowprops={
            "arrowstyle": "-|>",
            "ls": (0, (6, 3)),
            "lw": 1.6,
            "color": "0.35",
            "mutation_scale": min(14, 30 * side),
        },
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()


def _rows(figure: Figure, result: Result, top: float, side: float) -> None:
    """Every method's rows of steps, the sample itself between black lines, the original range under a line."""
    height, steps = figure.get_figheight(), result.metrics["steps"]
    at = np.linspace(-result.settings["reach"], result.settings["reach"], steps)
    y, tall = top, 0.0
    for method in result.settings["methods"]:
        images = result.arrays[f"{method}_images"]
        rows = len(images)
        show(
            figure,
            (_LEFT / page(), 1 - (y + rows * side) / height, steps * side / page(), rows * side / height),
            tile(images.reshape(-1, *images.shape[2:]), steps, 0),
        )
        figure.text(
            (_LEFT - 0.05) / page(),
            1 - (y + rows * side / 2) / height,
            method,
            ha="right",
            va="center",
            fontsize=6,
            linespacing=1.0,
        )
        y += rows * side + 0.03
        tall = y - top - 0.03
    axes = figure.add_axes((_LEFT / page(), 1 - (top + tall) / height, steps * side / page(), tall / height), zorder=5)
    axes.set(xlim=(0, steps), ylim=(0, 1))
    axes.set_axis_off()
    axes.patch.set_alpha(0)
    middle = steps // 2
    if steps % 2:
        axes.vlines([middle, middle + 1], 0, 1, color="black", lw=1.2)
    inside = np.flatnonzero(np.abs(at) <= 0.5 + 1e-9)
    below = 1 - (top + tall + 0.05) / height
    ends = (_LEFT + inside[0] * side) / page(), (_LEFT + (inside[-1] + 1) * side) / page()
    figure.add_artist(_line(ends, below))
    figure.text(sum(ends) / 2, below - 0.03 / height, "original range", ha="center", va="top", fontsize=6)
    for k in (0, middle, steps - 1):
        label = "the sample" if at[k] == 0 else f"{at[k]:+.2g} lengths"
        if k != middle:
            figure.text(
                (_LEFT + (k + (0.5 if side > 0.35 else k / (steps - 1))) * side) / page(),
                below - 0.03 / height,
                label,
                ha="center" if side > 0.35 else "left" if k == 0 else "right",
                va="top",
                fontsize=6,
                color="0.35",
            )


def _line(ends: tuple[float, float], y: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(ends, [y, y], color="black", lw=1.0)


def _target(result: Result) -> list[tuple[int, int]]:
    """Columns of the attributes that the turn is about, with the sign that points to `to`."""
    words = [set(result.metrics[key].split("/")) for key in ("from", "to")]
    out = []
    for k, (low, high) in enumerate(_SIDES.values()):
        if low in words[0] and high in words[1]:
            out.append((k, 1))
        elif high in words[0] and low in words[1]:
            out.append((k, -1))
    return out


def _score_panel(axes: Any, result: Result) -> None:
    """The first method's score against step, in standard deviations of samples: the target and the others."""
    method = result.settings["methods"][0]
    scores = result.arrays[f"{method}_scores"].astype(float)
    at = np.linspace(-result.settings["reach"], result.settings["reach"], scores.shape[1])
    scores = scores - scores[:, len(at) // 2].mean(0)
    targets = dict(_target(result))
    for k, name in enumerate(_READABLE.values()):
        values = scores[..., k] * targets.get(k, 1)
        mean, spread = values.mean(0), 1.96 * values.std(0) / np.sqrt(len(values))
        lead = k in targets
        colour = OKABE_ITO[0] if lead else OKABE_ITO[1 + k]
        label = f"to {result.metrics['to']}" if lead else name
        axes.plot(
            at,
            mean,
            "-o" if lead else "-",
            color=colour,
            lw=1.5 if lead else 0.8,
            ms=2.2,
            label=label,
            zorder=4 if lead else 3,
        )
        axes.fill_between(at, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
    axes.axvspan(-0.5, 0.5, color="0.94", zorder=0)
    axes.set(xlabel="step (lengths of the direction)", ylabel="judge's score\n(s.d. of samples)")
    axes.legend(frameon=False, fontsize=5.6, labelspacing=0.3, handlelength=1.4)
    m = result.metrics
    axes.set_title(f"{method}: R² {m['r2']:.2f}, monotone {m['monotone_share']:.2f}", fontsize=5.8, loc="left")


def _methods_panel(axes: Any, result: Result) -> None:
    """Change of the target against that of the others, from the first step to the last and every pair between."""
    targets = _target(result)
    kept = [k for k in range(4) if k not in dict(targets)]
    for method, colour in zip(result.settings["methods"], OKABE_ITO, strict=False):
        scores = result.arrays[f"{method}_scores"].astype(float)
        pairs = range(scores.shape[1] // 2)
        x = [np.abs(scores[:, -1 - i, kept] - scores[:, i, kept]).mean() for i in pairs]
        y = [np.mean([sign * (scores[:, -1 - i, k] - scores[:, i, k]).mean() for k, sign in targets]) for i in pairs]
        axes.plot(x, y, "-o", color=colour, lw=1, ms=2.2, label=method)
    axes.set(
        xlabel="|change| of the others (s.d.)", ylabel="change of the target (s.d.)", xlim=(0, None), ylim=(0, None)
    )
    axes.legend(
        frameon=False, fontsize=5.6, labelspacing=0.6, handlelength=1.2, loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )


def _success_panel(axes: Any, result: Result) -> None:
    """Success with its controls, at the count that is drawn."""
    m, n = result.metrics, str(result.metrics["shown"])
    for k, (name, label) in enumerate(_SUCCESS.items()):
        of = m["controls"][name] if name else m
        value, (low, high) = ({str(c): v for c, v in of[key].items()}[n] for key in ("success", "success_ci"))
        axes.errorbar(
            [value],
            [k],
            xerr=[[max(value - low, 0)], [max(high - value, 0)]],
            fmt="o",
            color=OKABE_ITO[0] if not name else "0.45",
            ms=3.4,
            lw=1,
        )
        axes.text(1.08, k, label, va="center", fontsize=5.8)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(_SUCCESS) - 0.5, -0.5), xlabel=f"success, {n} a side", yticks=[])
    axes.spines["left"].set_visible(False)


def draw(result: Result) -> Figure:
    """Samples moved along a direction as in the paper's Fig. 8; with a judge the scores beneath."""
    steps = result.metrics["steps"]
    side = (page() - _LEFT - 0.06) / steps
    methods = result.settings["methods"]
    rows = sum(len(result.arrays[f"{m}_images"]) for m in methods)
    judged = bool(result.metrics.get("success"))
    tall = rows * side + 0.03 * len(methods)
    several = len(methods) > 1
    panels = [(0.0, 0.74, 2.3, 3.1), (3.2, 3.6, 1.7, 7.0)]
    if several:  # the last holds its labels at the right
        panels = [(0.0, 0.74, 1.42, 2.25), (2.26, 2.7, 1.25, 5.0), (4.8, 5.1, 0.6, 7.0)]
    placed = flow(panels) if judged else []
    plots = _PLOTS * (placed[-1][2] + 1) if placed else 0.0
    height = 0.05 + side + 0.12 + tall + 0.25 + plots + 0.28
    figure = Figure(figsize=(page(), height))
    _arrow(figure, result, 0.05, side)
    _rows(figure, result, 0.05 + side + 0.12, side)
    if judged:
        places = [
            (x / page(), (0.28 + 0.38 + plots - _PLOTS * (row + 1)) / height, width / page(), 1.25 / height)
            for x, width, row in placed
        ]
        _score_panel(figure.add_axes(places[0]), result)
        if several:
            _methods_panel(figure.add_axes(places[1]), result)
        axes = figure.add_axes(places[-1])
        if several or len(result.metrics["success"]) == 1:
            _success_panel(axes, result)
        else:
            success_curves(axes, result.metrics, True)
            axes.set_xlabel("exemplars a side")
            axes.legend(frameon=False, fontsize=5.6, labelspacing=0.5, loc="upper left", bbox_to_anchor=(1.0, 1.05))
    text = f"Direction from {result.metrics['shown']} exemplars a side; the samples are new and not chosen, each in the middle of its row."
    if judged:
        text += (
            f" Scores: {result.metrics['samples']} new samples, bands 95 %; success: {result.settings['draws']} draws."
        )
    note(figure, 0.06, 0.05, text, fontsize=5.4, linespacing=None)
    return figure
