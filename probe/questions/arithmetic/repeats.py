"""Repetitions judged by eye: every result with what the observer said of it, successes and failures alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from probe.plots.common import BLUE, columns, note, page, show, tile
from probe.results.result import Result

_LEFT, _COLUMNS, _GAP = 1.3, 10, 2
_FAILED = "#D55E00"


def _frames(axes: Any, kept: np.ndarray[Any, Any], size: int, count: int) -> None:
    """Blue around what kept the promise, orange and crossed where it did not."""
    for k, good in enumerate(kept):
        y, x = (v * (size + _GAP) for v in divmod(k, count))
        colour = BLUE if good else _FAILED
        axes.add_patch(Rectangle((x, y), size - 1, size - 1, fill=False, ec=colour, lw=1.2))
        if not good:
            axes.plot([x + size - 12, x + size - 4], [y + 4, y + 12], color=colour, lw=1.2)
            axes.plot([x + size - 12, x + size - 4], [y + 12, y + 4], color=colour, lw=1.2)


def _says(result: Result, name: str) -> str:
    """A row's name, its count, and those of its controls."""
    counts, head = result.metrics["counts"], name.split("/")[0]
    lines = [head if name == head or not name.startswith("turn") else f"turn, {name.split('/')[1]} step"]
    if head == "turn":
        chosen = {"turned": "turn", "random direction": "random"}
    else:
        chosen = {label: f"{head}/{key}" for key, label in result.metrics["conditions"].items()}
    if not name.endswith("/last"):
        for label, key in chosen.items():
            low, high = counts[key]["ci"]
            lines.append(f"{label}:\n{counts[key]['kept']} of {counts[key]['of']} [{low:.2f}, {high:.2f}]")
    return "\n".join(lines)


def draw(result: Result) -> Figure:
    """Rows of repetitions, framed by the observer's verdict, with counts beside them."""
    names = result.metrics["rows"]
    count = columns(_COLUMNS, page() - _LEFT - 0.05, 0.38)
    side = (page() - _LEFT - 0.05) / count
    rows = [-(-len(result.arrays[f"images_{i}"]) // count) for i in range(len(names))]
    height = sum(rows) * side + 0.1 * len(rows) + 0.3
    figure = Figure(figsize=(page(), height))
    top = 0.03
    for i, name in enumerate(names):
        images, tall = result.arrays[f"images_{i}"], rows[i] * side
        box = (_LEFT / page(), 1 - (top + tall) / height, (page() - _LEFT - 0.05) / page(), tall / height)
        axes = show(figure, box, tile(images, count, _GAP))
        _frames(axes, result.arrays[f"kept_{i}"], images.shape[-1], count)
        head, _, rest = _says(result, name).partition("\n")
        figure.text(0.06 / page(), 1 - top / height, head, fontsize=6.5, va="top", weight="bold")
        figure.text(0.06 / page(), 1 - (top + 0.16) / height, rest, fontsize=5.6, va="top", linespacing=1.25)
        top += tall + 0.1
    text = "All repetitions, not chosen; blue: what was promised is seen by an automated observer who did not know which picture is which; orange: it is not."
    note(figure, 0.06, 0.06, text, fontsize=5.4, linespacing=None)
    return figure
