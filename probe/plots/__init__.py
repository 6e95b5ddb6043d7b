"""Results -> figures; the only package that imports matplotlib, and none that runs a model.

FIGURES      command -> drawing function
draw(...)    a result directory's figure, in the formats asked for, with its provenance inside
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from probe.errors import ProbeError
from probe.files import writing
from probe.plots.ablate import ablation
from probe.plots.arithmetic import arithmetic
from probe.plots.classify import classification
from probe.plots.dissect import dissection
from probe.plots.forget import forgetting
from probe.plots.guided import guided_backprop
from probe.plots.insert import insertion
from probe.plots.memorize import memorization
from probe.plots.repeats import repeats
from probe.plots.samples import samples
from probe.plots.study import study
from probe.plots.turn import turn
from probe.plots.validate import validation
from probe.plots.walk import walk
from probe.result import Result

FORMATS = ("png", "pdf", "svg")
_STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7, "axes.linewidth": 0.6, "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42,
    "svg.fonttype": "none", "svg.hashsalt": "probe", "figure.dpi": 100, "savefig.dpi": 220, "image.interpolation": "none",
}  # fmt: skip


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


FIGURES: dict[str, Callable[[Result], Figure]] = {
    "sample": samples,
    "forget": forgetting,
    "ablate": ablation,
    "classify": classification,
    "dissect": dissection,
    "insert": insertion,
    "guided-backprop": guided_backprop,
    "study": study,
    "arithmetic": arithmetic,
    "turn": turn,
    "repeats": repeats,
    "walk": walk,
    "memorization": memorization,
    "memorization-validation": validation,
}


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
