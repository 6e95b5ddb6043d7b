"""Fig. 5 of the paper with its sanity checks, and an atlas of every unit of a layer."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from probe.base.files import writing
from probe.plots.common import flow, note, page, show, strip, tile
from probe.results.result import Result

_LABEL, _GUTTER = 0.5, 0.2
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


def _above() -> float:
    """Inches for the title of a panel, which takes two lines on a narrow page."""
    return 0.3 if page() > 5 else 0.42


def _fig5(figure: Figure, result: Result, height: float, side: float) -> None:
    """Random filters left, trained ones right; with inputs, the crops below."""
    units, crops = result.arrays["units"], result.arrays["gradients"].shape[1]
    above = _above()
    half, tall = (page() - _LABEL - _GUTTER - 0.05) / 2, side * len(units)
    for i, (title, pictures) in enumerate(_panels(result)):
        left = _LABEL + (i % 2) * (half + _GUTTER)
        bottom = height - above + 0.08 - tall - (i // 2) * (tall + above)
        axes = show(figure, [left / page(), bottom / height, half / page(), tall / height], _mosaic(pictures, crops))
        axes.set_title(title if page() > 5 else textwrap.fill(title, 20), pad=3)
        for k, unit in enumerate(units):
            y = (bottom + tall - (k + 0.5) * side) / height
            at: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 5.8}
            if i % 2:  # the word is of the trained unit
                word = _word(result, int(unit)) if side > 0.3 else ""  # no room for it
                figure.text((left - 0.04) / page(), y, word, rotation=90, **at)
            else:
                figure.text((left - 0.05) / page(), y, f"unit {unit}", **at)


def _same_images(figure: Figure, result: Result, height: float, base: float, side: float) -> None:
    """The first crop of each unit under other rules and other weights."""
    maps, inputs = result.arrays["example_maps"], result.arrays["inputs"][:, 0]
    rows = [_masked(inputs, maps[0]), *map(_grey, maps)]
    names = ["input", result.metrics["rule"], "random\nweights", "plain\ngradient", "Sobel"]
    picture = _mosaic(np.concatenate(rows), len(inputs))
    wide, tall = side * len(inputs), side * len(rows)
    show(figure, [_LABEL / page(), base / height, wide / page(), tall / height], picture)
    for k, name in enumerate(names):
        y = base + tall - (k + 0.5) * side
        figure.text((_LABEL - 0.05) / page(), y / height, name, ha="right", va="center", fontsize=5.8)
    figure.text(
        (_LABEL + wide / 2) / page(),
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
    if page() < 6.5:
        axes.set_xticks([0, 0.5, 1])
    axes.set_xlabel("absolute Spearman similarity" + (" " if page() > 6.5 else "\n") + "to the picture")
    axes.set_title(_verdict(sane), fontsize=7, color="black" if sane["verdict"] == "pass" else "#D55E00", loc="right")


def _verdict(sane: dict[str, Any]) -> str:
    if sane["spearman"] is None:
        return "sanity: FAIL, no gradient under random weights"
    (low, high), limit = sane["spearman_ci"], sane["threshold"]
    word = "pass" if sane["verdict"] == "pass" else "FAIL"
    return f"sanity: {word}, all layers random: {sane['spearman']:.2f} [{low:.2f}, {high:.2f}]; limit {limit}"


def draw(result: Result) -> Figure:
    """Guided gradients of the strongest responses of some units under random and trained weights, and the sanity checks."""
    units, crops = result.arrays["units"], result.arrays["gradients"].shape[1]
    side = min((page() - _LABEL - _GUTTER - 0.05) / 2 / crops, 1.1)
    stages = 1 + bool(result.settings["inputs"])
    rows = len(result.metrics["sanity"]["rows"])
    (_, room, _), (left, wide, row) = flow([(0, _LABEL, 2.85, 3.4), (3.5, 4.55, 2.35, 6.95)])
    small = min(room, page() - _LABEL - 0.05) / max(len(units), 5)
    lower = max(5 * small, 0.17 * rows + 0.5)
    under = row * (lower + 0.4)
    height = stages * (side * len(units) + _above()) + lower + 1.0 + under
    figure = Figure(figsize=(page(), height))
    _fig5(figure, result, height, side)
    base = 0.58
    _same_images(figure, result, height, base + under + lower - 5 * small, small)
    tall = lower - 0.35
    axes = figure.add_axes((left / page(), (base + 0.3) / height, wide / page(), tall / height))
    _checks(axes, result)
    note(figure, 0.06, 0.05, _caption(result))
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
