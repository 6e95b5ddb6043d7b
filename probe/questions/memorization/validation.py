"""Is the memorisation test right: false alarms, power, and models that saw few and many images."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, OKABE_ITO, columns, flow, note, page, show, tile
from probe.questions.memorization.figure import power_panel
from probe.results.result import Result

_LOW = 1.75
_COLUMNS = 4


def _false_alarms(axes: Any, result: Result) -> None:
    """Shares of p-values up to each level, of generators that copy nothing: on the diagonal where the test is exact."""
    level = np.linspace(0, 0.2, 101)
    groups = sorted(k for k in result.arrays if k.startswith("p_"))  # files keep no order
    for name, colour in zip(groups, OKABE_ITO, strict=False):
        p = result.arrays[name][:, 0]
        style = "-" if "simulated" in name else "--"
        label = name.removeprefix("p_").replace("_", ", ", 1) + f" ({len(p)})"
        axes.plot(level, (p[:, None] <= level + 1e-9).mean(0), style, color=colour, lw=0.9, label=label)
    axes.plot([0, 0.2], [0, 0.2], ":", color="0.4", lw=0.9)
    axes.axvline(0.05, color="0.8", lw=0.6, zorder=0)
    axes.set(xlim=(0, 0.2), ylim=(0, 0.36), xlabel="level", ylabel="false alarms", title="generators that copy nothing")
    axes.legend(frameon=False, fontsize=4.8, loc="upper left", handlelength=1.6, borderaxespad=0.1, labelspacing=0.25)


def _powers(axes: Any, result: Result, where: str, title: str) -> None:
    """Rate of detection of planted copies, by the test and by the lower tail of the ratios alone."""
    power_panel(axes, result.arrays[f"power_{where}"], BLUE, "the test")
    power_panel(axes, result.arrays[f"lower_{where}"], OKABE_ITO[4], "lower tail alone")
    axes.set_title(title, fontsize=7.5 if page() > 6.5 else 5.8)
    if where == "images":
        axes.legend(frameon=False, fontsize=5.5, loc="lower right", borderaxespad=0.1)


def _model(figure: Figure, result: Result, name: str, left: float, y: float, side: float, height: float) -> None:
    """A model's most suspicious samples over their nearest training and held-out images, and its verdict."""
    parts = ("suspects", "suspects_train", "suspects_holdout")
    picture = np.concatenate([result.arrays[f"{name}_{part}"] for part in parts])
    columns = len(picture) // 3
    show(figure, [left / page(), y / height, columns * side / page(), 3 * side / height], tile(picture, columns, 1))
    m = result.metrics["details"][name]
    low, high = m["copy_share_ci"]
    floor = f" at ≥ {m['floor']:.0%}" if m["floor"] else ""
    verdict = f"{result.metrics['models'][name]}{floor}"
    text = f"p = {m['p_value']:.2g}\ncopies {m['copy_share']:.0%} [{low:.0%}, {high:.0%}]\n$C_T$ {m['ct']:.1f}, authenticity {m['authenticity']:.2f}"
    x, trained = left / page(), f"{m['train_images']:,} trained on, {m['holdout_images']:,} held out"
    figure.text(x, (y - 0.05) / height, name, fontsize=5.6, va="top", weight="bold")
    figure.text(x, (y - 0.15) / height, verdict, fontsize=5.6, va="top", color=BLUE)
    figure.text(x, (y - 0.26) / height, f"{trained}\n{text}", fontsize=5, va="top")


def draw(result: Result) -> Figure:
    """Models in a row with their verdicts; below, false alarms and power."""
    names = list(result.metrics["models"])
    count = columns(len(names), page() - 0.6, 1.2)
    pitch = (page() - 0.6) / count
    side = (pitch - 0.12) / _COLUMNS
    placed = flow([(0, 0.48, 1.5, 2.05), (2.04, 2.47, 1.3, 3.8), (3.6, 4.03, 1.3, 5.37), (5.16, 5.59, 1.3, 7.0)])
    block, under = 3 * side + 0.72, (_LOW + 0.25) * placed[-1][2]
    height = 0.1 + block * -(-len(names) // count) + _LOW + 0.45 + under
    figure = Figure(figsize=(page(), height))
    for i, name in enumerate(names):
        y = height - 0.06 - 3 * side - (i // count) * block
        _model(figure, result, name, 0.56 + (i % count) * pitch, y, side, height)
        for k, label in enumerate(("held out", "training", "samples") if i % count == 0 else ()):
            figure.text(0.5 / page(), (y + (k + 0.5) * side) / height, label, fontsize=5.5, ha="right", va="center")
    places = [
        (x / page(), (0.86 + under - (_LOW + 0.25) * row) / height, width / page(), 1.25 / height)
        for x, width, row in placed
    ]
    _false_alarms(figure.add_axes(places[0]), result)
    titles = {
        "images": "rooms, 1,000 + 1,000",
        "simulated": "simulated, 1,000 + 1,000",
        "uneven": "simulated, 400 + 80",
    }
    for i, (where, title) in enumerate(titles.items()):
        axes = figure.add_axes(places[1 + i])
        _powers(axes, result, where, title)
        if placed[1 + i][2] == placed[i][2] and i:
            axes.set(ylabel="", yticklabels=[])
    m, images = result.metrics, result.metrics["images"]
    (a, b), (c, d) = m["false_alarm_ci"], images["false_alarm_ci"]
    text = (
        "Above: for each model its most suspicious samples, the training and the held-out images nearest to them, and the verdict. Below: false alarms, exact on the dotted line; and how "
        f"often planted copies\nare detected (numbers: trained on + held out), with 95 % intervals; blue: p < 0.01 and a share of copies above 0; orange: p < 0.01 by the lowest 5 % of r alone.\nFalse alarms at 0.05: {m['false_alarm_rate']:.3f} [{a:.3f}, {b:.3f}] of {m['null_runs']} simulated, "
        f"{images['false_alarm_rate']:.3f} [{c:.3f}, {d:.3f}] of {images['null_runs']} on images."
    )
    note(figure, 0.06, 0.05, text, fontsize=4.9, linespacing=1.35)
    return figure
