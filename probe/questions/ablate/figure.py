"""Maps switched off or scaled: images before and after, where they changed, and random sets of other maps."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.plots.common import BLUE, columns, flow, note, page, show, strip, tile
from probe.results.result import Result

_COLUMNS, _MOST, _GAP = 12, 48, 2
_LEFT = 0.62


def numbers(units: list[int], most: int = 8) -> str:
    """Numbers as a segmenter takes them in: runs as ranges, and the first few of many."""
    runs: list[list[int]] = []
    for u in sorted(units):
        if runs and u == runs[-1][1] + 1:
            runs[-1][1] = u
        else:
            runs.append([u, u])
    parts = [str(a) if a == b else f"{a}–{b}" for a, b in runs]
    return ", ".join(parts[:most]) + (", …" if len(parts) > most else "")


def _heat(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], most: float) -> np.ndarray[Any, Any]:
    """Mean |change| over channels as colours, (N, 3, S, S) uint8; white is none, the darkest `most` and above."""
    change = np.abs(before.astype(np.float32) - after).mean(1) / 255
    colours = mpl.colormaps["OrRd"](np.clip(change / most, 0, 1))[..., :3]
    colours[change < 0.5 / 255] = 1
    return np.asarray((255 * colours).astype(np.uint8).transpose(0, 3, 1, 2))


def _outline(axes: Any, where: np.ndarray[Any, Any], count: int) -> None:
    """Draw a region's border on each tile of a row."""
    size = where.shape[0]
    padded = np.zeros((size + 2, size + 2))
    padded[1:-1, 1:-1] = where
    at = np.arange(-1, size + 1).clip(-0.5, size - 0.5)
    for k in range(count):
        axes.contour(at + k * (size + _GAP), at, padded, levels=[0.5], colors="#D55E00", linewidths=0.7)


def _rows(figure: Figure, result: Result, height: float) -> float:
    """The blocks of rows; returns the largest change that the colours show."""
    before, after = (result.arrays[name][:_MOST] for name in ("before", "after"))
    count, where = _columns(result), result.arrays.get("where")
    change = np.abs(before.astype(np.float32) - after).mean(1) / 255
    most = max(0.1, float(np.percentile(change, 99.5)))
    side = _side(count)
    top = height - 0.05
    for start in range(0, len(before), count):
        part = slice(start, start + count)
        pictures = {"before": before[part], "after": after[part], "|change|": _heat(before[part], after[part], most)}
        for name, images in pictures.items():
            width = len(images) * side
            bottom = (top - side) / height
            box = [_LEFT / page(), bottom, (width - 0.02) / page(), (side - 0.02) / height]
            axes = show(figure, box, tile(images, len(images), _GAP))
            if where is not None:
                _outline(axes, where, len(images))
                axes.set(
                    xlim=(-0.5, len(images) * (images.shape[-1] + _GAP) - _GAP - 0.5),
                    ylim=(images.shape[-1] - 0.5, -0.5),
                )
            figure.text((_LEFT - 0.06) / page(), bottom + side / 2 / height, name, ha="right", va="center", fontsize=6)
            top -= side
        top -= 0.06
    return most


def _columns(result: Result) -> int:
    """Samples side by side, as many on every row as can be."""
    count = min(len(result.arrays["before"]), _MOST)
    rows = -(-count // columns(_COLUMNS, page() - _LEFT - 0.03, 0.42))
    return -(-count // rows)


def _side(count: int) -> float:
    """The side of a tile in inches, where so many stand side by side."""
    return min((page() - _LEFT - 0.03) / count, 1.0)


def _change_panel(axes: Any, result: Result) -> None:
    m = result.metrics
    strip(axes, 0, result.arrays["random_change"], m["change"], m["change_ci"])
    rows = ["everywhere"]
    for name in ("inside", "outside"):
        if m[name] is not None:
            axes.plot(m[f"{name}_ci"], [len(rows)] * 2, "-", color=BLUE, lw=1.2)
            axes.plot([m[name]], [len(rows)], "o", color=BLUE, ms=4, mec="white", mew=0.4)
            rows.append(f"{name} region")
    axes.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)), yticklabels=rows)
    axes.set_xlabel("mean |change| of a pixel (0–1)")


def _object_panel(axes: Any, result: Result) -> None:
    objects = {k: v for k, v in result.metrics["objects"].items() if v["ratio"] is not None}
    names = list(result.metrics["objects"])
    for y, (name, found) in enumerate(objects.items()):
        strip(axes, y, result.arrays["random_ratio"][:, names.index(name)], found["ratio"], found["ratio_ci"])
    axes.axvline(1, color="0.75", lw=0.6, zorder=0)
    axes.set(xlim=(0, None), ylim=(len(objects) - 0.5, -0.5), yticks=range(len(objects)), yticklabels=list(objects))
    axes.set_xlabel("area after / area before, by the judge")


def _legend(figure: Figure, result: Result, x: float, y: float) -> None:
    m = result.metrics
    factor = "switched off" if m["scale"] == 0 else f"times {m['scale']:g}"
    count = len(m["units"])
    where = ", outlined region only" if "where" in result.arrays else ""
    lines = [
        f"{m['layer']}: {count} of {m['maps_total']} maps {factor}{where}",
        f"map{'' if count == 1 else 's'} {numbers(m['units'])}",
        f"Blue: {m['latents']} latents not shown here, 95 % intervals over images.",
    ]
    draws, p = m["random"]["draws"], m["p_value"]
    if draws:
        known = "too few for a p-value" if p is None else f"change: p = {p:.2g}"
        lines.append(f"Grey: {draws} random set{'s' if draws > 1 else ''} of as many other maps ({known}).")
    note(figure, x, y, "\n".join(lines), fontsize=5.8, va="top", linespacing=1.4)


def draw(result: Result) -> Figure:
    """Samples before and after an edit of some maps, where they differ, and the edit beside random sets of other maps."""
    count = _columns(result)
    blocks = -(-min(len(result.arrays["before"]), _MOST) // count)
    objects = sum(v["ratio"] is not None for v in result.metrics["objects"].values())
    changes = 0.2 * (1 + sum(result.metrics[name] is not None for name in ("inside", "outside")))
    plots = max(0.16 * objects, changes + 0.6)  # above the axis, in inches
    (x, wide, _), (right, narrow, row) = flow([(0.0, 0.95, 1.9, 3.0), (3.3, 3.95, 1.9, 6.9)])
    below = row * (plots + 0.5)  # inches, where the second panel stands under the first
    height = blocks * (3 * _side(count) + 0.06) + (changes if row else plots) + 0.48 + below
    figure = Figure(figsize=(page(), height))
    most = _rows(figure, result, height)
    _change_panel(figure.add_axes((x / page(), (0.34 + below) / height, wide / page(), changes / height)), result)
    bottom = 0.34 / height
    if objects:
        _object_panel(figure.add_axes((right / page(), bottom, narrow / page(), plots / height)), result)
    _legend(figure, result, _LEFT, 0.34 + below + plots)
    bar = figure.add_axes(((right + narrow + 0.45) / page(), bottom, 0.07 / page(), plots / height))
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, most), "OrRd")
    figure.colorbar(scale, cax=bar, label="|change|", ticks=MaxNLocator(4))
    return figure
