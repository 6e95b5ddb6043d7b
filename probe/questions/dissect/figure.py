"""Units and concepts: where the units of a concept are active, and overlap beside chance and beside effect."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.plots.common import OKABE_ITO, flow, note, page, show, strip, tile
from probe.results.result import Result

_HALF, _LABEL, _GAP = 3.45, 0.72, 2
_FADED = 0.3  # what is left of the picture where a unit is not active
_ACTIVE, _CONCEPT = "#D55E00", "#0072B2"


def _faded(images: np.ndarray[Any, Any], active: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Images (N, C, S, S) uint8 as they are where a unit is active, faded to white elsewhere."""
    left = np.where(active[:, None] > 0, 1.0, _FADED)
    return np.asarray((255 - (255.0 - images) * left).astype(np.uint8))


def _outlines(axes: Any, regions: np.ndarray[Any, Any], colour: str, width: float) -> None:
    """Draw the borders of regions (N, S, S) on a row of tiles."""
    size = regions.shape[-1]
    at = np.arange(-1, size + 1).clip(-0.5, size - 0.5)
    for k, part in enumerate(regions):
        if part.any():
            axes.contour(at + k * (size + _GAP), at, np.pad(part, 1), levels=[0.5], colors=colour, linewidths=width)
    length = len(regions) * (size + _GAP) - _GAP
    axes.set(xlim=(-0.5, length - 0.5), ylim=(size - 0.5, -0.5))


def _unit_label(result: Result, unit: int, concept: str) -> str:
    row = next(r for r in result.metrics["concepts"][concept]["units"] if r["unit"] == unit)
    text = f"unit {unit}\nIoU {row['iou']:.2f}\n"
    text += "" if row["auc"] is None or np.isnan(row["auc"]) else f"AUC {row['auc']:.2f}"
    return text + ("" if row["effect"] is None else f"\neffect {1000 * row['effect']:+.1f}")


def _layout() -> tuple[float, int]:
    """Inches for a unit's row of images with its label, and how many of them stand side by side."""
    across = 2 if page() > 5 else 1
    return min(_HALF, page() / across - 0.05), across


def _shown(result: Result) -> np.ndarray[Any, Any]:
    """Positions in `shown_units`: all, or each concept's best where units stand one below the other."""
    concepts = result.arrays["shown_units"][:, 1]
    return np.arange(len(concepts)) if _layout()[1] > 1 else np.sort(np.unique(concepts, return_index=True)[1])


def _units(figure: Figure, result: Result, height: float) -> None:
    """Two units a row: the images on which each is most active."""
    names = list(result.metrics["concepts"])
    images = result.arrays["shown_images"]
    half, across = _layout()
    side = (half - _LABEL) / images.shape[1]
    for i, at in enumerate(_shown(result)):
        unit, k = result.arrays["shown_units"][at]
        left = (i % across) * (page() - half) + _LABEL
        bottom = height - 0.04 - (i // across + 1) * (side + 0.05)
        active = result.arrays["shown_active"][at]
        box = [left / page(), bottom / height, (half - _LABEL - 0.03) / page(), side / height]
        axes = show(figure, box, tile(_faded(images[at], active), len(active), _GAP))
        _outlines(axes, active, _ACTIVE, 0.6)
        _outlines(axes, result.arrays["shown_masks"][at], _CONCEPT, 0.7)
        x, middle = (left - 0.05) / page(), bottom + side / 2
        label = f"{names[k]}\n" if len(names[k]) < 13 else f"{names[k][:11]}…\n"
        figure.text(x, (middle + 0.17) / height, label.strip(), ha="right", va="center", fontsize=5.8, weight="bold")
        figure.text(
            x, (middle - 0.06) / height, _unit_label(result, int(unit), names[k]), ha="right", va="center",
            fontsize=4.9, linespacing=1.1,
        )  # fmt: skip


def _chance_panel(axes: Any, result: Result, names: list[str]) -> None:
    order = list(result.metrics["concepts"])
    for y, name in enumerate(names):
        found = result.metrics["concepts"][name]
        strip(axes, y, result.arrays["random_best"][:, order.index(name)], found["best_iou"], found["best_iou_ci"])
        axes.text(
            1.02, y, f"p = {found['p_value']:.2g}", transform=axes.get_yaxis_transform(), va="center", fontsize=5.5
        )
    axes.set(xlim=(0, None), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
    axes.set_xlabel("IoU of the best unit")
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _effect_panel(axes: Any, result: Result, names: list[str]) -> None:
    """Overlap against effect, or against AUC where no concept has an effect."""
    order = list(result.metrics["concepts"])
    effect = np.isfinite(result.arrays["effect"]).any()
    values = 1000 * result.arrays["effect"] if effect else result.arrays["auc"]
    for name, colour in zip(names, OKABE_ITO, strict=False):
        k = order.index(name)
        axes.scatter(result.arrays["iou"][:, k], values[:, k], s=5, color=colour, alpha=0.6, linewidths=0, label=name)
    axes.axhline(0 if effect else 0.5, color="0.75", lw=0.6, zorder=0)
    axes.set_xlabel("IoU of each unit")
    axes.set_ylabel("effect (‰ of pixels)" if effect else "AUC")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if len(names) > 1:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, borderaxespad=0.2)


def draw(result: Result) -> Figure:
    """The best units of each concept on the images that excite them most, the best against chance, overlap and effect."""
    m = result.metrics
    names = sorted(m["concepts"], key=lambda name: -m["concepts"][name]["best_iou"])[: len(OKABE_ITO)]
    half, across = _layout()
    side = (half - _LABEL) / result.arrays["shown_images"].shape[1]
    rows = -(-len(_shown(result)) // across)
    plots = max(1.15, 0.17 * len(names))
    (x0, w0, _), (x1, w1, row) = flow([(0, _LABEL, 1.85, 3.1), (3.43, 3.95, 2.3, 7.0)])
    lower = row * (plots + 0.6)
    height = rows * (side + 0.05) + plots + 1.05 + lower
    figure = Figure(figsize=(page(), height))
    _units(figure, result, height)
    bottom = 0.66 / height
    tall = min(plots, 0.3 * len(names))
    _chance_panel(figure.add_axes((x0 / page(), bottom + lower / height, w0 / page(), tall / height)), result, names)
    _effect_panel(figure.add_axes((x1 / page(), bottom, w1 / page(), plots / height)), result, names)
    effect = "; effect in ‰ of the pixels" if np.isfinite(result.arrays["effect"]).any() else ""
    text = (
        f"{m['layer']}, {m['maps_total']} units, {m['images']} images. Above: images on which a unit is most active; not faded, orange: where it is "
        f"above its threshold; blue: the concept{effect}.\nBelow: blue, the best unit with its 95 % interval over images; grey, the best of all units under "
        f"{len(result.arrays['random_best'])} shufflings of the images."
    )
    note(figure, 0.06, 0.05, text)
    return figure
