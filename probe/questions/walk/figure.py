"""A walk through the latent space: its images, under each row how fast they change, and whether the steps resolve."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from probe.plots.common import BLUE, GREY, OKABE_ITO, flow, note, page, show, tile
from probe.results.result import Result

_LEFT, _RIGHT, _GAP = 0.42, 0.05, 2
_PROFILE, _BELOW, _FOOT = 0.26, 0.05, 1.85
_SHARP, _LOW, _RED = 10.0, 0.1, "#D55E00"


def _profile(axes: Any, values: np.ndarray[Any, Any], top: float, resolved: bool) -> None:
    """Steps over the walk's median, on a logarithmic scale that all rows share; sharp ones in red."""
    at = (np.arange(len(values)) + 0.5) / len(values)
    shown = np.clip(np.nan_to_num(values, posinf=top), _LOW, top)
    axes.fill_between(at, _LOW, shown, color=BLUE, alpha=0.25, lw=0, step="mid")
    axes.step(at, shown, where="mid", color=BLUE, lw=0.7)
    axes.axhline(1, color="0.75", lw=0.5, zorder=0)
    axes.axhline(_SHARP, color=_RED, lw=0.5, ls=(0, (3, 2)), zorder=0)
    sharp = values > _SHARP
    if not resolved and not sharp.any():
        sharp = values == values.max()
    if sharp.any():  # an empty line would have a place of its own on the page
        axes.plot(at[sharp], np.full(sharp.sum(), top), "v", color=_RED, ms=3.5, clip_on=False, mec="none")
    axes.set(yscale="log", xlim=(0, 1), ylim=(_LOW, top), xticks=[], yticks=[1, 10])
    axes.set_yticklabels(["1", "10"], fontsize=4.5)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(length=1.5, pad=1, width=0.4)
    axes.spines["left"].set_linewidth(0.4)
    axes.spines["bottom"].set_visible(False)


def _convergence(axes: Any, result: Result) -> None:
    """The largest step of each row against the number of steps: it halves, or there is a jump."""
    rows = result.arrays["largest"]
    for i, segment in enumerate(result.metrics["segments"]):
        part = rows[rows[:, 0] == i]
        if part[0, 2] > 0:
            colour = BLUE if segment["resolved"] else _RED
            axes.plot(part[:, 1], part[:, 2] / part[0, 2], "o-", color=colour, lw=0.8, ms=2.5, zorder=3)
    ends = np.array([rows[:, 1].min(), rows[:, 1].max()])
    axes.plot(ends, ends[0] / ends, "--", color="0.5", lw=0.7)
    axes.plot(ends, [1, 1], ":", color=_RED, lw=0.9)
    axes.text(ends[1], ends[0] / ends[1], " smooth", fontsize=5.5, va="center", color="0.35")
    axes.text(ends[1], 1, " jump", fontsize=5.5, va="center", color=_RED)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps a row",
        ylabel="largest step\n(first = 1)",
        xticks=np.unique(rows[:, 1]),
    )
    axes.set_ylim(0.7 * ends[0] / ends[1], 1.4)
    axes.set_xticklabels([f"{int(n)}" for n in np.unique(rows[:, 1])])
    axes.set_yticks([n for n in (1, 0.5, 0.25, 0.1, 0.03) if n > 0.7 * ends[0] / ends[1]])
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def _ratios(axes: Any, result: Result) -> None:
    """The walk's largest step over its median, beside those of other generators."""
    own = result.metrics["max_over_median"]
    groups = [
        ("random weights", result.arrays["initialised"], GREY),
        ("same recipe,\nother seeds", result.arrays["null"], OKABE_ITO[1]),
    ]
    groups = [g for g in groups if len(g[1])]
    for y, (_, values, colour) in enumerate(groups, 1):
        axes.plot(values, np.full(len(values), y), "o", color=colour, ms=3.5, alpha=0.7, mec="none")
    if own is not None and np.isfinite(own):
        axes.plot([own], [0], "D", color=BLUE, ms=4.5)
    axes.axvline(_SHARP, color=_RED, lw=0.6, ls=(0, (3, 2)))
    every = [1.0, _SHARP, *(v for _, values, _ in groups for v in values), own or 1.0]
    axes.set(xscale="log", xlim=(0.9, 1.4 * max(v for v in every if np.isfinite(v))), ylim=(len(groups) + 0.5, -0.5))
    axes.set(yticks=range(len(groups) + 1), yticklabels=["this generator", *(name for name, _, _ in groups)])
    axes.set_xlabel("largest step over median")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _caption(result: Result) -> str:
    m = result.metrics
    p = "no p-value (it takes 19 generators of the same recipe)" if m["p_value"] is None else f"p = {m['p_value']:.2g}"
    ratio = (
        "infinite" if m["max_over_median"] is None or np.isinf(m["max_over_median"]) else f"{m['max_over_median']:.1f}"
    )
    state = "resolved" if m["resolved"] else "NOT resolved: a jump that no finer walk divides"
    return (
        f"{m['points']} random latents, {m['frames']} images between neighbours ({m['interpolation']}). Under each row: step length in {m['feature']} over the "
        f"walk's median (log scale; dashed: {_SHARP:.0f};\nred triangles: sharp transitions). Largest step over median {ratio}, {p}; plateaus "
        f"{m['plateau_share']:.1%} of the way; sharp transitions: {m['sharp_transitions']};\norder {m['order']:.2f}: {state}. PPL {m['ppl']:.3g} "
        f"[{m['ppl_ci'][0]:.3g}, {m['ppl_ci'][1]:.3g}], {m['ppl_trimmed']:.3g} without the extremes.\nSharp transitions are not memorisation: only a "
        "test with held-out images (probe memorization) can tell."
    )


def draw(result: Result) -> Figure:
    """The paper's Fig. 4, one row a pair of neighbouring latents, with step profiles, convergence and nulls below."""
    images, profile = result.arrays["images"], result.arrays["profile"]
    rows, columns = images.shape[:2]
    strip = page() - _LEFT - _RIGHT
    side = strip / columns
    pitch = side + _PROFILE + _BELOW
    placed = flow([(0, 0.62, 1.75, 2.65), (2.75, 3.75, 2.1, 5.95)])
    under = 1.25 * placed[-1][2]
    height = rows * pitch + _FOOT + 0.03 + under
    figure = Figure(figsize=(page(), height))
    known = profile[np.isfinite(profile)]
    top = max(15.0, 1.5 * float(known.max(initial=1.0)))
    for i in range(rows):
        bottom = height - 0.03 - i * pitch - side
        show(figure, [_LEFT / page(), bottom / height, strip / page(), side / height], tile(images[i], columns, _GAP))
        box = (_LEFT / page(), (bottom - _PROFILE) / height, strip / page(), (_PROFILE - 0.03) / height)
        _profile(figure.add_axes(box), profile[i], top, result.metrics["segments"][i]["resolved"])
    places = [
        (x / page(), (0.88 + under - 1.25 * row) / height, width / page(), 0.8 / height) for x, width, row in placed
    ]
    _convergence(figure.add_axes(places[0]), result)
    _ratios(figure.add_axes(places[1]), result)
    note(figure, 0.05, 0.06, _caption(result), fontsize=4.9, linespacing=1.35)
    return figure
