"""Vector arithmetic: the paper's Fig. 7 with its pixel control, and how often it succeeds."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.figure import Figure

from probe.plots.common import note, page, show, tile
from probe.plots.success import success_curves
from probe.results.result import Result

_MARGIN, _LABEL, _STEP = 0.26, 0.3, 1.75
_CURVE = 1.2  # inches, at least, of a panel of curves


def _place(
    figure: Figure, left: float, top: float, side: float, tall: float | None = None
) -> tuple[float, float, float, float]:
    """A box of inches, its top given from the top of the page, in fractions."""
    height = figure.get_figheight()
    tall = side if tall is None else tall
    return left / page(), (height - top - tall) / height, side / page(), tall / height


def _write(figure: Figure, left: float, top: float, text: str, **how: Any) -> None:
    figure.text(left / page(), 1 - top / figure.get_figheight(), text, **how)


def _bracket(figure: Figure, left: float, top: float, side: float) -> None:
    """A brace that gathers a column: open upwards, a tick down in the middle."""
    axes = figure.add_axes(_place(figure, left, top, side, 0.1))
    axes.plot([0.01, 0.01, 0.99, 0.99], [1, 0.45, 0.45, 1], "-", color="0.35", lw=1.1)
    axes.plot([0.5, 0.5], [0.45, 0], "-", color="0.35", lw=1.1)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()


def _sign(figure: Figure, x: float, y: float, size: float, kind: str) -> None:
    """A thick operator around a point, as in the paper's figure."""
    axes = figure.add_axes(_place(figure, x - size / 2, y - size / 2, size))
    bars = {"+": [(0.5, 0), (0.5, 1)], "-": [(0.5, 0)], "=": [(0.3, 0), (0.7, 0)]}[kind]
    for at, upright in bars:
        span = ([at, at], [0.1, 0.9]) if upright else ([0.1, 0.9], [at, at])
        axes.plot(*span, "-", color="0.35", lw=0.2 * size * 72, solid_capstyle="butt")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()


def _wrapped(name: str, width: int = 15) -> str:
    """A name on lines of its own; `/` and spaces are where it may break."""
    return "\n".join(textwrap.wrap(name.replace("/", "/ "), width)).replace("/ ", "/")


def _block(figure: Figure, result: Result, k: int, start: float, top: float, side: float) -> None:
    """One expression: columns of exemplars, their means, the nine results, and beneath them the same in pixels."""
    about = list(result.metrics["expressions"].values())[k]
    step, small = side * _STEP, 6 if side > 0.45 else 5
    a = {
        name: result.arrays[f"{k}_{name}"] for name in ("exemplars", "means", "results", "pixel_means", "pixel_result")
    }
    shown = min(a["exemplars"].shape[1], 3)
    top += max(0, 2 - shown) * side  # the nine results are three high
    mean_top = top + shown * side + 0.14
    pixel_top = mean_top + side + _LABEL
    for j, (sign, name) in enumerate(about["terms"]):
        left = start + j * step
        column = tile(a["exemplars"][j, :shown], 1, 0)
        show(figure, _place(figure, left, top, side, shown * side), column)
        _bracket(figure, left, top + shown * side + 0.02, side)
        show(figure, _place(figure, left, mean_top, side), tile(a["means"][j : j + 1], 1))
        _write(
            figure,
            left + side / 2,
            mean_top + side + 0.03,
            _wrapped(name, 9 if small < 6 else 15),
            ha="center",
            va="top",
            fontsize=small,
            linespacing=1.0,
        )
        show(figure, _place(figure, left, pixel_top, side), tile(a["pixel_means"][j : j + 1], 1))
        if j or sign < 0:
            for row in (mean_top, pixel_top):
                _sign(
                    figure,
                    left - (step - side) / 2,
                    row + side / 2,
                    min(0.3, 0.6 * (step - side)),
                    "+" if sign > 0 else "-",
                )
    left = start + len(about["terms"]) * step
    for row in (mean_top, pixel_top):
        _sign(figure, left - (step - side) / 2, row + side / 2, min(0.3, 0.6 * (step - side)), "=")
    show(figure, _place(figure, left, mean_top - 2 * side, 3 * side), tile(a["results"], 3, 0))
    title = ("should be " if about.get("success") else "") + about["title"]
    _write(
        figure,
        left + 1.5 * side,
        mean_top + side + 0.03,
        _wrapped(title, 34),
        ha="center",
        va="top",
        fontsize=small,
        linespacing=1.0,
    )
    show(figure, _place(figure, left, pixel_top, side), tile(a["pixel_result"], 1))
    _write(
        figure,
        left + 1.12 * side,
        pixel_top + side / 2,
        _verdict(result, about),
        va="center",
        fontsize=small,
        linespacing=1.35,
    )
    for text, row in (("latents", mean_top), ("pixels", pixel_top)):
        _write(
            figure,
            start - 0.1,
            row + side / 2,
            text,
            ha="center",
            va="center",
            fontsize=small,
            rotation=90,
            color="0.35",
        )


def _verdict(result: Result, about: dict[str, Any]) -> str:
    """Success and the controls, in words, beside the pixel control."""
    if not about.get("success"):
        return ""
    n = str(result.metrics["shown"])
    rates = {"latents": ("mean", about), "pixels": ("pixel", about["controls"]["pixel"])}
    known = about["plausible"]
    lines = ["success / D agrees" if known else f"success with {n}:"]
    for label, (key, of) in rates.items():
        share = {str(k): v for k, v in of["success"].items()}[n]
        lines.append(f"{label} {share:.2f}" + (f" / {known[key]:.2f}" if known else ""))
    return "\n".join(lines)


def _success(figure: Figure, result: Result, top: float) -> None:
    judged = {name: m for name, m in result.metrics["expressions"].items() if m.get("success")}
    beside = page() - 0.5 - 1.75 >= _CURVE * len(judged)  # room for the legend beside the curves
    width = (page() - 0.5 - (1.75 if beside else 0)) / max(len(judged), 2)
    for k, (name, about) in enumerate(judged.items()):
        axes = figure.add_axes(_place(figure, 0.5 + k * width, top + 0.38, width - 0.12, 1.15))
        success_curves(axes, about, k == 0)
        axes.set_title(name.replace(" - ", "\n- ").replace(" + ", "\n+ "), fontsize=5.4, loc="left")
    handles, labels = axes.get_legend_handles_labels()
    at = (0.5 + len(judged) * width, top + 0.33) if beside else (0.05, top + 1.9)
    figure.legend(
        handles, labels, loc="upper left", frameon=False, fontsize=5.8, labelspacing=0.5, ncols=1 if beside else 2, columnspacing=1,
        bbox_to_anchor=(at[0] / page(), 1 - at[1] / figure.get_figheight()),
    )  # fmt: skip


def draw(result: Result) -> Figure:
    """Each expression as in the paper's Fig. 7, the pixel control beneath, and curves of success where there is a judge."""
    expressions = list(result.metrics["expressions"].values())
    terms = max(len(m["terms"]) for m in expressions)
    across = 2 if len(expressions) > 2 and terms <= 3 else 1
    side = min(0.62, (page() / across - _MARGIN - 0.1) / (_STEP * terms + 3))
    shown = min(result.arrays["0_exemplars"].shape[1], 3)
    tall = (max(shown, 2) + 2) * side + 0.14 + _LABEL + 0.2
    rows = -(-len(expressions) // across)
    judged = any(m.get("success") for m in expressions)
    height = 0.05 + tall * rows + (2.15 if judged else 0.0) + 0.38
    figure = Figure(figsize=(page(), height))
    for k in range(len(expressions)):
        start = _MARGIN + (k % across) * page() / across
        _block(figure, result, k, start, 0.05 + (k // across) * tall, side)
    if judged:
        _success(figure, result, 0.05 + tall * rows + 0.1)
    noise, n = result.settings["noise"], result.metrics["shown"]
    text = f"Means of {n} exemplar{'s' if n > 1 else ''} a concept{' (three are shown)' if n > 3 else ''}. Right: the result in the middle, around it the result with uniform noise of ±{noise:g}."
    if judged:
        text += f"\nBelow: share of {result.metrics['draws']} draws of exemplars in which the judge sees what the expression promises; bars: 95 % intervals over draws."
        if any(m.get("plausible") for m in expressions):
            text += f" D agrees: the share\nof results with {n} exemplars that the discriminator rates above the 5th percentile of samples, since ghosts in a picture do not disturb the judge."
    note(figure, 0.06, 0.05, text, fontsize=5.4)
    return figure
