"""Is the memorisation test right: false alarms, power, and models that saw few and many images."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, OKABE_ITO, show, tile
from probe.plots.memorize import power_panel
from probe.result import Result

_WIDTH, _LOW = 7.0, 1.75
_COLUMNS = 4


def _false_alarms(axes: Any, result: Result) -> None:
    """Shares of p-values up to each level, of generators that copy nothing: on the diagonal where the test is exact."""
    level = np.linspace(0, 0.2, 101)
    groups = [k for k in result.arrays if k.startswith("p_")]
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
    axes.set_title(title)
    if where == "images":
        axes.legend(frameon=False, fontsize=5.5, loc="lower right", borderaxespad=0.1)


def _model(figure: Figure, result: Result, name: str, left: float, y: float, side: float, height: float) -> None:
    """A model's most suspicious samples over their nearest training and held-out images, and its verdict."""
    parts = ("suspects", "suspects_train", "suspects_holdout")
    picture = np.concatenate([result.arrays[f"{name}_{part}"] for part in parts])
    columns = len(picture) // 3
    show(figure, [left / _WIDTH, y / height, columns * side / _WIDTH, 3 * side / height], tile(picture, columns, 1))
    m = result.metrics["details"][name]
    low, high = m["copy_share_ci"]
    floor = f" at ≥ {m['floor']:.0%}" if m["floor"] else ""
    verdict = f"{result.metrics['models'][name]}{floor}"
    text = f"p = {m['p_value']:.2g}\ncopies {m['copy_share']:.0%} [{low:.0%}, {high:.0%}]\n$C_T$ {m['ct']:.1f}, authenticity {m['authenticity']:.2f}"
    x, trained = left / _WIDTH, f"{m['train_images']:,} trained on, {m['holdout_images']:,} held out"
    figure.text(x, (y - 0.05) / height, name, fontsize=5.6, va="top", weight="bold")
    figure.text(x, (y - 0.15) / height, verdict, fontsize=5.6, va="top", color=BLUE)
    figure.text(x, (y - 0.26) / height, f"{trained}\n{text}", fontsize=5, va="top")


def validation(result: Result) -> Figure:
    """Models in a row with their verdicts; below, false alarms and power."""
    names = list(result.metrics["models"])
    pitch = (_WIDTH - 0.6) / len(names)
    side = (pitch - 0.12) / _COLUMNS
    height = 0.1 + 3 * side + 0.72 + _LOW + 0.45
    figure = Figure(figsize=(_WIDTH, height))
    y = height - 0.06 - 3 * side
    for k, label in enumerate(("held out", "training", "samples")):
        figure.text(0.5 / _WIDTH, (y + (k + 0.5) * side) / height, label, fontsize=5.5, ha="right", va="center")
    for i, name in enumerate(names):
        _model(figure, result, name, 0.56 + i * pitch, y, side, height)
    bottom, tall = 0.86 / height, 1.25 / height
    _false_alarms(figure.add_axes((0.48 / _WIDTH, bottom, 1.5 / _WIDTH, tall)), result)
    titles = {
        "images": "rooms, 1,000 + 1,000",
        "simulated": "simulated, 1,000 + 1,000",
        "uneven": "simulated, 400 + 80",
    }
    for i, (where, title) in enumerate(titles.items()):
        axes = figure.add_axes(((2.47 + 1.56 * i) / _WIDTH, bottom, 1.3 / _WIDTH, tall))
        _powers(axes, result, where, title)
        if i:
            axes.set(ylabel="", yticklabels=[])
    m, images = result.metrics, result.metrics["images"]
    (a, b), (c, d) = m["false_alarm_ci"], images["false_alarm_ci"]
    note = (
        "Above: for each model its most suspicious samples, the training and the held-out images nearest to them, and the verdict. Below: false alarms, exact on the dotted line; and how "
        f"often planted copies\nare detected (numbers: trained on + held out), with 95 % intervals; blue: p < 0.01 and a share of copies above 0; orange: p < 0.01 by the lowest 5 % of r alone.\nFalse alarms at 0.05: {m['false_alarm_rate']:.3f} [{a:.3f}, {b:.3f}] of {m['null_runs']} simulated, "
        f"{images['false_alarm_rate']:.3f} [{c:.3f}, {d:.3f}] of {images['null_runs']} on images."
    )
    figure.text(0.06 / _WIDTH, 0.05 / height, note, fontsize=4.9, va="bottom", linespacing=1.35)
    return figure
