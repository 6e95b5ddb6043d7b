"""What would be removed: the least alike pairs, the largest groups, and the recall of planted copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import BLUE, GREY, OKABE_ITO, columns, note, page, show, tile
from probe.results.result import Result

_EDGE, _COLUMNS, _LABEL = 0.08, 8, 0.53
_OTHERS = (OKABE_ITO[1], OKABE_ITO[4])
_NAMES = {
    "shift_1": "shift\n1 px", "shift_2": "shift\n2 px", "crop_30": "crop\n30/32", "crop_28": "crop\n28/32",
    "jpeg_75": "JPEG\n75", "jpeg_40": "JPEG\n40", "darker": "light\n× 0.8", "brighter": "light\n× 1.25",
}  # fmt: skip


def _pairs() -> tuple[int, float]:
    """How many pairs stand side by side, and the side of a picture in inches."""
    count = columns(_COLUMNS, page() - 2 * _EDGE, 0.8)
    return count, ((page() - 2 * _EDGE) / count - 0.1) / 2


def _members(result: Result) -> tuple[int, float]:
    """How many images of a group stand side by side, and their side in inches."""
    space = page() - _EDGE - _LABEL
    count = columns(result.arrays["groups"].shape[1], space, 0.4)
    return count, space / count


def _doubtful(figure: Figure, result: Result, top: float, height: float) -> float:
    """Pairs of a kept image and one removed for it, with their likeness; returns how low they come, in inches."""
    pairs, alike = result.arrays["doubtful"], result.arrays["doubtful_likeness"]
    count, side = _pairs()
    for i, (pair, value) in enumerate(zip(pairs, alike, strict=True)):
        row, column = divmod(i, count)
        x, y = _EDGE + column * (2 * side + 0.1), top - row * (side + 0.16) - side
        show(figure, [x / page(), y / height, 2 * side / page(), side / height], tile(pair, 2, 1))
        figure.text((x + side) / page(), (y + side + 0.02) / height, f"{value:.2f}", ha="center", fontsize=5.5)
    rows = -(-len(pairs) // count)
    return float(top - rows * (side + 0.16))


def _groups(figure: Figure, result: Result, top: float, height: float) -> float:
    groups, sizes = result.arrays["groups"], result.arrays["group_sizes"]
    count, side = _members(result)
    for i, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        y = top - (i + 1) * side
        members = group[: min(count, size)]
        box = [_LABEL / page(), y / height, side * len(members) / page(), side / height]
        show(figure, box, tile(members, len(members), 1))
        figure.text((_LABEL - 0.05) / page(), (y + side / 2) / height, f"{size}", ha="right", va="center", fontsize=6)
    return float(top - len(groups) * side)


def _bars(axes: Any, result: Result) -> None:
    m = result.metrics
    kinds = list(m["recall"])
    rows = [("the paper's rule: equal hashes", GREY, m["plain"])]
    if not result.settings["plain"]:
        rows.insert(0, (f"within {result.settings['radius']} bits, verified", BLUE, m))
    rows += [(b["name"], colour, b) for b, colour in zip(m.get("baselines", []), _OTHERS, strict=False)]
    width = 0.8 / len(rows)
    for k, (label, colour, found) in enumerate(rows):
        at = np.arange(len(kinds)) + (k - (len(rows) - 1) / 2) * width
        value = np.array([found["recall"][kind] for kind in kinds])
        ends = np.array([found["recall_ci"][kind] for kind in kinds]).T
        axes.bar(at, value, width * 0.92, color=colour, label=label)
        error = np.abs(ends - value)
        axes.errorbar(at, value, error, fmt="none", ecolor="0.15", elinewidth=0.6)
    axes.set(ylim=(0, 1.04), ylabel="share of planted copies found", xlim=(-0.6, len(kinds) - 0.4))
    axes.set_xticks(range(len(kinds)), [_NAMES[kind] for kind in kinds])
    axes.legend(
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(rows) if page() > 6 else 1,
        borderaxespad=0.1,
        handlelength=1,
    )


def _caption(result: Result) -> str:
    m = result.metrics
    wrong, text = m["false_positive_rate"], ""
    if wrong is not None:
        ends = m.get("false_positive_ci")
        text = f"; wrong removals {wrong:.1%}" + (f" [{ends[0]:.1%}, {ends[1]:.1%}]" if ends else "")
    return (
        f"{m['images']:,} images, {m['removed']:,} removed in {m['groups']:,} groups{text}. "
        f"Equal hashes alone: {m['plain']['removed']:,} removed. {m['planted']} planted copies of each kind, 95 % intervals."
    )


def draw(result: Result) -> Figure:
    """Doubtful pairs (kept, removed), the largest groups, and recall by kind of planted copy."""
    pairs, groups = len(result.arrays["doubtful"]), len(result.arrays["groups"])
    count, side = _pairs()
    tiles = -(-pairs // count) * (side + 0.16)
    rows = groups * _members(result)[1] if groups else 0
    height = 0.2 + (tiles + 0.25 if pairs else 0) + (rows + 0.3 if groups else 0) + (2.35 if page() > 6 else 2.75)
    figure = Figure(figsize=(page(), height))
    y = height - 0.1
    for draw, some, title in (
        (_doubtful, pairs, "the least alike: kept, and removed for it"),
        (_groups, groups, "the largest groups: how many, the kept, the removed"),
    ):
        if some:
            figure.text(_EDGE / page(), (y - 0.05) / height, title, fontsize=7, va="center")
            y = draw(figure, result, y - (0.3 if draw is _doubtful else 0.16), height) - 0.16
    _bars(figure.add_axes((0.5 / page(), 0.62 / height, (page() - 0.65) / page(), 1.35 / height)), result)
    note(figure, _EDGE, 0.06, _caption(result), fontsize=5.8)
    return figure
