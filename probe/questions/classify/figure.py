"""What D's features are worth: accuracy beside baselines, by layer, by number of labels, and what is taken for what."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.plots.common import BLUE, GREY, flow, note, page
from probe.results.result import Result

_ROW, _FOOT = 2.3, 0.25  # inches of a row of panels, and of the note below
_THREE = [(0.0, 1.2, 1.2, 2.75), (2.8, 3.4, 1.0, 4.75), (4.85, 5.2, 1.6, 6.95)]
_FOUR = [(0.0, 1.2, 0.75, 2.3), (2.3, 2.85, 0.6, 3.8), (3.85, 4.25, 0.95, 5.3), (5.3, 5.6, 1.3, 6.95)]
_NAMES = {
    "pixels": "pixels", "random_weights": "D, random weights", "kmeans": "K-means", "supervised": "D's layers, supervised",
}  # fmt: skip
_MOST_CLASSES = 20  # more are not numbered in the matrix
_LONGEST = 9  # characters of a class in the matrix


def _interval(axes: Any, y: float, row: dict[str, Any], key: str, colour: str) -> None:
    value, (low, high) = 100 * row[key], (100 * v for v in row[f"{key}_ci"])
    axes.plot([low, high], [y, y], "-", color=colour, lw=1.2)
    axes.plot([value], [y], "o", color=colour, ms=3.8, mec="white", mew=0.4, zorder=5)
    axes.text(1.03, y, f"{value:.1f}", transform=axes.get_yaxis_transform(), va="center", fontsize=6)


def _accuracies(axes: Any, result: Result) -> None:
    m = result.metrics
    found = [("D's features", m), *((_NAMES[name], row) for name, row in m["baselines"].items())]
    for y, (_, row) in enumerate(found):
        _interval(axes, y, row, "accuracy", BLUE if y == 0 else "0.35")
    labels = [f"{name}\n{row['features']:,}" if name != _NAMES["supervised"] else name for name, row in found]
    axes.set(ylim=(len(found) - 0.5, -0.5), yticks=range(len(found)), yticklabels=labels)
    axes.set_xlabel("test accuracy (%)")
    axes.set_title("beside baselines")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _layers(axes: Any, result: Result) -> None:
    m = result.metrics
    names = list(m["layers"])
    for y, name in enumerate(names):
        _interval(axes, y, m["layers"][name], "validation_accuracy", GREY)
    every = m["validation"][f"{m['C']:g}"]
    axes.axvline(100 * every, color=BLUE, lw=0.9, ls="--", zorder=0)
    axes.text(100 * every, -0.58, " all", color=BLUE, fontsize=5.5, ha="left", va="top")
    axes.set(ylim=(len(names) - 0.5, -0.6), yticks=range(len(names)))
    axes.set_yticklabels([f"{name}\n{m['layers'][name]['features']:,}" for name in names])
    axes.set_xlabel("validation accuracy (%)")
    axes.set_title("one layer alone")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _curve(axes: Any, result: Result) -> None:
    """Error against the number of labels: a dot a draw, the mean with its interval."""
    m = result.metrics["curve"]
    for text, row in m.items():
        errors, n = 100 * result.arrays[f"curve_{text}"], int(text)
        jitter = np.exp(np.random.default_rng(0).uniform(-0.08, 0.08, len(errors)))
        axes.plot(n * jitter, errors, ".", color=GREY, ms=2.2, mew=0, alpha=0.6)
        if row["error_ci"]:
            axes.plot([n, n], [100 * v for v in row["error_ci"]], "-", color=BLUE, lw=1.2)
    counts = [int(text) for text in m]
    axes.plot(
        counts, [100 * row["error"] for row in m.values()], "-o", color=BLUE, ms=3.5, mec="white", mew=0.4, lw=0.8
    )
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{n:,}" for n in counts])
    axes.minorticks_off()
    axes.set(xlabel="labels", ylabel="test error (%)", title=f"{result.metrics['draws']} draws")
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _matrix(axes: Any, result: Result) -> None:
    counts = result.arrays["confusion"].astype(float)
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    k, names = len(shares), [str(name) for name in result.metrics["classes"]]
    classes = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
    named = k <= _MOST_CLASSES and max(map(len, classes)) > 2
    if k <= _MOST_CLASSES:
        axes.set_xticks(range(k), classes, fontsize=5.5, rotation=90 if named else 0)
        axes.set_yticks(range(k), classes, fontsize=5.5)
    if k <= 10:
        for i, j in np.ndindex(k, k):
            if shares[i, j] >= 0.5:
                axes.text(
                    j,
                    i,
                    f"{shares[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=4.4,
                    color="white" if shares[i, j] > 55 else "0.15",
                )
    axes.tick_params(length=0, pad=1.5)
    axes.spines[:].set_visible(False)
    if named:  # names take the room of the labels
        axes.set_title("true / predicted (%)")
    else:
        axes.set(xlabel="predicted class", ylabel="true class", title="confusion (%)")


def draw(result: Result) -> Figure:
    """Accuracy beside baselines, layers alone, error against labels where they were drawn, the confusion matrix."""
    m = result.metrics
    panels = _FOUR if m["curve"] else _THREE
    placed = flow(panels)
    height = (placed[-1][2] + 1) * _ROW + _FOOT
    figure = Figure(figsize=(page(), height))
    draw = [_accuracies, _layers, *([_curve] if m["curve"] else []), _matrix]
    for panel, (left, wide, row) in zip(draw, placed, strict=True):
        bottom = height - (row + 1) * _ROW + 0.45
        panel(figure.add_axes((left / page(), bottom / height, wide / page(), 1.55 / height)), result)
    low, high = (100 * v for v in m["accuracy_ci"])
    labelled = f"{m['labels']:,} labels" + (f", {m['draws']} draws" if m["draws"] > 1 else "")
    chosen = " chosen on validation images" if len(m["validation"]) > 1 else ""
    text = (
        f"Linear SVM on {m['features']:,} features of D, {labelled}, C = {m['C']:g}{chosen}; {m['test_images']:,} test images: "
        f"{100 * m['accuracy']:.2f} % [{low:.2f}, {high:.2f}].\n"
        f"Bars: 95 % intervals; below each name: its number of features. Chance: {100 / len(m['classes']):.3g} %. "
        "Layers are scored on validation images, with the C of all."
    )
    note(figure, 0.06, 0.05, text)
    return figure
