"""Results -> figures; the only module that imports matplotlib, and none that runs a model.

FIGURES      command -> drawing function
draw(...)    a result directory's figure, in the formats asked for, with its provenance inside
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from probe.errors import ProbeError
from probe.files import writing
from probe.result import Result

FORMATS = ("png", "pdf", "svg")
_COLOURS = {"paper": "#D55E00", "erase": "#0072B2"}  # Okabe and Ito's colour-blind-safe palette
_NAMES = {"paper": "paper's rule", "erase": "erase"}
_STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7, "axes.linewidth": 0.6, "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42,
    "svg.fonttype": "none", "svg.hashsalt": "probe", "figure.dpi": 100, "savefig.dpi": 220, "image.interpolation": "none",
}  # fmt: skip


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def tile(images: np.ndarray[Any, Any], columns: int, gap: int = 2) -> np.ndarray[Any, Any]:
    """Images (N, C, S, S) uint8 -> one picture (H, W, 3) uint8, row by row, with white gaps."""
    n, channels, size, _ = images.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (size + gap) - gap, columns * (size + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        pixels = image.transpose(1, 2, 0)
        canvas[y * (size + gap) :, x * (size + gap) :][:size, :size] = (
            pixels if channels == 3 else np.repeat(pixels, 3, 2)
        )
    return canvas


def _show(figure: Figure, box: Sequence[float], picture: np.ndarray[Any, Any]) -> Any:
    axes = figure.add_axes(box)  # type: ignore[call-overload]
    axes.imshow(picture)
    axes.set_axis_off()
    return axes


def samples(result: Result) -> Figure:
    """A grid of samples, after the paper's Figs. 2 and 3; of more than 100 the first."""
    images = result.arrays["images"][:100]
    columns = 10 if len(images) >= 50 else math.ceil(math.sqrt(len(images)))
    picture = tile(images, columns)
    width = min(7.0, max(2.0, picture.shape[1] / 95))
    figure = Figure(figsize=(width, width * picture.shape[0] / picture.shape[1]))
    _show(figure, [0, 0, 1, 1], picture)
    return figure


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _row_label(name: str, m: dict[str, Any], concept: str) -> str:
    if name == "before":
        return "before"
    return f"{_NAMES[name]}\n{_percent(m['removal'])} of {concept}\narea removed"


def _trade_off(axes: Any, result: Result) -> None:
    methods = result.metrics["methods"]
    for name, m in methods.items():
        colour, curve, random = _COLOURS[name], result.arrays[f"{name}_curve"], result.arrays[f"{name}_random"]
        axes.scatter(
            random[:, 1],
            random[:, 0],
            s=5,
            color=colour,
            alpha=0.25,
            linewidths=0,
            label=f"random, for {_NAMES[name]} ({len(random)})",
        )
        axes.plot(curve[:, 2], curve[:, 1], "-", color=colour, lw=1, marker=".", ms=3)
        x, y = m["collateral"], m["removal"]
        error = [[y - m["removal_ci"][0]], [m["removal_ci"][1] - y]]
        spread = [[x - m["collateral_ci"][0]], [m["collateral_ci"][1] - x]]
        marker = "s" if name == "paper" else "o"
        axes.errorbar(
            [x],
            [y],
            yerr=np.abs(error),
            xerr=np.abs(spread),
            fmt=marker,
            ms=5,
            color=colour,
            mec="white",
            mew=0.5,
            lw=1,
            label=_NAMES[name],
            zorder=5,
        )
    axes.axhline(0.95, color="0.6", lw=0.6, ls=":")
    axes.set(xlabel="collateral (mean |change| elsewhere, images in [0, 1])", ylabel="removal", xlim=(0, None))
    low = min(float(result.arrays[f"{n}_random"][:, 0].min()) for n in methods)
    axes.set_ylim(max(-1.0, min(-0.1, low - 0.05)), 1.05)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.4)


def _verdict(name: str, m: dict[str, Any]) -> str:
    low, high = m["removal_ci"]
    what = f"{m['maps_dropped']} maps dropped" if m["maps_dropped"] else f"strength {m['dose']:g}"
    return (
        f"{_NAMES[name]} ({what} at {', '.join(m['layers'])}): removal {m['removal']:.2f} [{low:.2f}, {high:.2f}],\n"
        f"   collateral {m['collateral']:.3f}; random {m['random']['removal_mean']:.2f} at {m['random']['collateral']:.3f}; p = {m['p_value']:.2g}"
    )


def forgetting(result: Result) -> Figure:
    """The paper's Fig. 6 with a second method beneath, and removal against collateral with the random control."""
    before = result.arrays["before"]
    concept, methods = result.metrics["concept"], result.metrics["methods"]
    columns = len(before)
    rows = ["before", *methods]
    side, left = 6.2 / columns, 0.8
    strip = len(rows) * side
    height = strip + 2.35
    figure = Figure(figsize=(7.0, height))
    for k, name in enumerate(rows):
        bottom = height - (k + 1) * side
        _show(figure, [left / 7, bottom / height, 6.2 / 7, side * 0.97 / height], tile(result.arrays[name], columns))
        label = _row_label(name, methods.get(name, {}), concept)
        figure.text(
            (left - 0.06) / 7,
            (bottom + side / 2) / height,
            label,
            ha="right",
            va="center",
            fontsize=5.6,
            linespacing=1.05,
        )
    axes = figure.add_axes((left / 7, 0.4 / height, 2.75 / 7, 1.75 / height))
    _trade_off(axes, result)
    lines = [_verdict(name, m) for name, m in methods.items()]
    quality = result.metrics.get("judge_iou")
    known = "not measured" if quality is None or math.isnan(quality) else f"{quality:.2f}"
    lines.append(
        f"Held-out latents, read by the judge (IoU {known});\n"
        f"first {columns} held-out samples in which the judge sees {concept}, not chosen."
    )
    figure.text(3.75 / 7, 0.34 / height, "\n".join(lines), va="bottom", fontsize=5.6, linespacing=1.35)
    return figure


FIGURES: dict[str, Callable[[Result], Figure]] = {"sample": samples, "forget": forgetting}


def draw(result: Result, folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw a result's figure into a folder, as figure.png and so on; returns the files written."""
    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise ProbeError(f"format {unknown[0]}: expected {', '.join(FORMATS)}")
    if result.command not in FIGURES:
        raise ProbeError(f"{result.command}: has no figure; expected a result of {', '.join(FIGURES)}")
    about = json.dumps(result.document()["provenance"])
    paths = []
    with _style():
        figure = FIGURES[result.command](result)
        FigureCanvasAgg(figure)
        for kind in formats:
            metadata = {
                "png": {"Software": None, "probe": about},
                "pdf": {"Subject": about, "CreationDate": None},
                "svg": {"Description": about, "Date": None},
            }
            with writing(folder / f"figure.{kind}") as temporary:
                figure.savefig(temporary, format=kind, metadata=metadata[kind])
            paths.append(folder / f"figure.{kind}")
    return paths
