"""Fig. 5 of the paper with its sanity checks, and an atlas of every unit of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from probe.files import writing
from probe.plots.common import show, strip, tile
from probe.result import Result

_WIDTH, _LABEL, _GUTTER = 7.0, 0.5, 0.2
_OUTSIDE = -128  # in int8 gradients
_ROWS, _COLUMNS = 10, 3  # units on a page of the atlas
Array = np.ndarray[Any, Any]


def _grey(levels: Array) -> Array:
    """Signed int8 gradients (…, C, R, R) on a grey scale, white outside of the image."""
    shades = np.round(127.5 + 127.5 / 127 * levels.astype(np.float32)).clip(0, 255).astype(np.uint8)
    return np.where(levels == _OUTSIDE, np.uint8(255), shades)


def _mosaic(images: Array, columns: int) -> Array:
    """Crops (…, C, R, R) uint8 as one picture, small ones enlarged so that the gaps stay thin."""
    flat = images.reshape(-1, *images.shape[-3:])
    times = max(1, 48 // flat.shape[-1])
    return tile(flat.repeat(times, 2).repeat(times, 3), columns)


def _masked(inputs: Array, levels: Array) -> Array:
    """Input crops, white outside of the image as their gradients are."""
    return np.where(levels == _OUTSIDE, np.uint8(255), inputs)


def _panels(result: Result) -> list[tuple[str, Array]]:
    a, replaced = result.arrays, result.metrics["rule"]
    name = {"guided": "guided backprop", "gradient": "gradient"}.get(replaced, replaced)
    found = [
        (f"random filters: {name}", _grey(a["random_gradients"])),
        (f"trained filters: {name}", _grey(a["gradients"])),
    ]
    if result.settings["inputs"]:
        found += [
            ("what random filters respond to most", _masked(a["random_inputs"], a["random_gradients"])),
            ("what trained filters respond to most", _masked(a["inputs"], a["gradients"])),
        ]
    return found


def _word(result: Result, unit: int) -> str:
    return result.metrics["concepts"].get(str(unit), {}).get("concept") or ""


def _fig5(figure: Figure, result: Result, height: float, side: float) -> None:
    """Random filters left, trained ones right; with inputs, the crops below."""
    units, crops = result.arrays["units"], result.arrays["gradients"].shape[1]
    half, tall = (_WIDTH - _LABEL - _GUTTER - 0.05) / 2, side * len(units)
    for i, (title, pictures) in enumerate(_panels(result)):
        left = _LABEL + (i % 2) * (half + _GUTTER)
        bottom = height - 0.22 - tall - (i // 2) * (tall + 0.3)
        axes = show(figure, [left / _WIDTH, bottom / height, half / _WIDTH, tall / height], _mosaic(pictures, crops))
        axes.set_title(title, pad=3)
        for k, unit in enumerate(units):
            y = (bottom + tall - (k + 0.5) * side) / height
            at: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 5.8}
            if i % 2:  # the word is of the trained unit
                figure.text((left - 0.04) / _WIDTH, y, _word(result, int(unit)), rotation=90, **at)
            else:
                figure.text((left - 0.05) / _WIDTH, y, f"unit {unit}", **at)


def _same_images(figure: Figure, result: Result, height: float, base: float, side: float) -> None:
    """The first crop of each unit under other rules and other weights."""
    maps, inputs = result.arrays["example_maps"], result.arrays["inputs"][:, 0]
    rows = [_masked(inputs, maps[0]), *map(_grey, maps)]
    names = ["input", result.metrics["rule"], "random\nweights", "plain\ngradient", "Sobel"]
    picture = _mosaic(np.concatenate(rows), len(inputs))
    wide, tall = side * len(inputs), side * len(rows)
    show(figure, [_LABEL / _WIDTH, base / height, wide / _WIDTH, tall / height], picture)
    for k, name in enumerate(names):
        y = base + tall - (k + 0.5) * side
        figure.text((_LABEL - 0.05) / _WIDTH, y / height, name, ha="right", va="center", fontsize=5.8)
    figure.text(
        (_LABEL + wide / 2) / _WIDTH,
        (base + tall + 0.05) / height,
        "the first crop of each unit",
        ha="center",
        fontsize=7,
    )


def _checks(axes: Any, result: Result) -> None:
    """Absolute Spearman similarity to the picture, by row, with the threshold of full randomisation."""
    sane, table = result.metrics["sanity"], result.arrays["similarity"]
    names = list(sane["rows"])
    axes.axvline(sane["threshold"], color="#D55E00", lw=0.8, ls="--", zorder=0)
    axes.axvline(0, color="0.8", lw=0.6, zorder=0)
    for y, name in enumerate(names):
        row = sane["rows"][name]
        found = np.nan if row["spearman"] is None else row["spearman"]
        strip(axes, y, table[y, ..., 0].ravel(), found, row["spearman_ci"] if np.isfinite(found) else None)
    axes.set(xlim=(-0.35, 1.02), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
    axes.set_xlabel("absolute Spearman similarity to the picture")
    axes.set_title(_verdict(sane), fontsize=7, color="black" if sane["verdict"] == "pass" else "#D55E00", loc="right")


def _verdict(sane: dict[str, Any]) -> str:
    if sane["spearman"] is None:
        return "sanity: FAIL, no gradient under random weights"
    (low, high), limit = sane["spearman_ci"], sane["threshold"]
    word = "pass" if sane["verdict"] == "pass" else "FAIL"
    return f"sanity: {word}, all layers random: {sane['spearman']:.2f} [{low:.2f}, {high:.2f}]; limit {limit}"


def guided_backprop(result: Result) -> Figure:
    """Guided gradients of the strongest responses of some units under random and trained weights, and the sanity checks."""
    units, crops = result.arrays["units"], result.arrays["gradients"].shape[1]
    side = min((_WIDTH - _LABEL - _GUTTER - 0.05) / 2 / crops, 1.1)
    stages = 1 + bool(result.settings["inputs"])
    rows = len(result.metrics["sanity"]["rows"])
    small = 2.85 / max(len(units), 5)
    lower = max(5 * small, 0.17 * rows + 0.5)
    height = stages * (side * len(units) + 0.3) + lower + 1.0
    figure = Figure(figsize=(_WIDTH, height))
    _fig5(figure, result, height, side)
    base = 0.58
    _same_images(figure, result, height, base + lower - 5 * small, small)
    tall = lower - 0.35
    axes = figure.add_axes((4.55 / _WIDTH, (base + 0.3) / height, 2.35 / _WIDTH, tall / height))
    _checks(axes, result)
    figure.text(0.06 / _WIDTH, 0.05 / height, _caption(result), fontsize=5.2, va="bottom", linespacing=1.3)
    return figure


def _caption(result: Result) -> str:
    m, a = result.metrics, result.arrays
    sane = m["sanity"]
    crops, size = a["gradients"].shape[1], m["receptive_field"]["size"]
    lines = [
        f"{m['layer']} of the discriminator, {len(a['units'])} of {m['maps_total']} units; rule: {m['rule']} ({m['activations_replaced']} activations "
        f"replaced). Each row: the {crops} of {m['images']} images to which the unit responds most, cut to its receptive field ({size} px;",
        "white: outside of the image). One signed grey scale a panel, grey is zero. Random filters are shown on their own maxima; below, on the trained ones'. "
        f"Sanity: grey, {sane['crops']} crops by {sane['seeds']} seeds;",
        "blue, mean with 95 % interval over crops and seeds; dashed, the limit that full randomisation must stay below.",
    ]
    if any(row["concept"] for row in m["concepts"].values()):
        lines[-1] += " Words: what goes best with a unit's responses, where it beats chance."
    return "\n".join(lines)


def atlas(result: Result, path: Path) -> None:
    """Write every unit of a result with `atlas_` arrays as a PDF of many pages: top crops above, their gradients below."""
    with writing(path) as temporary, PdfPages(temporary, metadata={"CreationDate": None}) as pdf:
        for start in range(0, len(result.arrays["atlas_units"]), _ROWS * _COLUMNS):
            pdf.savefig(_page(result, start))


def _page(result: Result, start: int) -> Figure:
    """One page of the atlas, from the unit of a position on."""
    m, a = result.metrics, result.arrays
    figure = Figure(figsize=(7.6, 10.8))
    FigureCanvasAgg(figure)
    title = (
        f"{m['layer']}, {m['maps_total']} units, rule {m['rule']}, {m['images']} images; one grey scale for all units"
    )
    figure.text(0.02, 0.985, title, va="top", fontsize=7)
    for i, k in enumerate(range(start, min(start + _ROWS * _COLUMNS, len(a["atlas_units"])))):
        row, column = divmod(i, _COLUMNS)
        levels = a["atlas_gradients"][k]
        pair = np.concatenate([_masked(a["atlas_inputs"][k], levels), _grey(levels)])
        box = [0.02 + 0.325 * column, 0.965 - 0.096 * (row + 1), 0.31, 0.078]
        axes = show(figure, box, _mosaic(pair, len(levels)))
        axes.set_title(_atlas_label(result, k), fontsize=6, pad=2, loc="left")
    return figure


def _atlas_label(result: Result, k: int) -> str:
    unit, value = int(result.arrays["atlas_units"][k]), float(result.arrays["atlas_values"][k, 0])
    row = result.metrics["concepts"].get(str(unit), {})
    word = (
        f"   {row['concept']} ({row['measure'].upper().replace('IOU', 'IoU')} {row['score']:.2f})"
        if row.get("concept")
        else ""
    )
    return f"unit {unit}   max {value:.2g}" + word + ("   never positive" if value <= 0 else "")
