"""How a drawing is set: for a paper, a talk or a notebook, at the width of a column.

WIDTHS       venue -> inches
Look         style, width, font; `laid_out` is the page that a drawing lays itself out on
finish(...)  what a style changes on a figure that is drawn
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection, PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from probe.base.errors import ProbeError

STYLES = ("notebook", "paper", "talk")
# From the venues' LaTeX classes and guides for authors: NeurIPS and ICLR one column; ICML two with 0.25 in between, CVPR with
# 5/16, AAAI with 3/8; ACL 16 and 7.7 cm; ECCV (Springer's LNCS) 12.2 cm; JMLR 6 in; IEEE 7.16 and 3.5 in; Nature 183 and 89 mm.
WIDTHS = {
    "neurips": 5.5, "iclr": 5.5, "jmlr": 6.0, "icml": 6.75, "icml-column": 3.25, "cvpr": 6.875, "cvpr-column": 3.28,
    "eccv": 4.8, "aaai": 7.0, "aaai-column": 3.31, "acl": 6.3, "acl-column": 3.03, "ieee": 7.16, "ieee-column": 3.5,
    "nature": 7.2, "nature-column": 3.5,
}  # fmt: skip
_NATURAL = {"walk": 6.0}  # others are made for a page of 7 inches
_NARROWEST = 3.0
_TALK = 1.8  # a talk's figure is that of a page this much narrower, enlarged
_SMALLEST = 5.0  # points
_ROUNDS = 8  # of making a drawing smaller until its letters fit on the page
_RC: Any = {
    "font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7, "axes.linewidth": 0.6, "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42,
    "svg.fonttype": "none", "svg.hashsalt": "probe", "figure.dpi": 100, "savefig.dpi": 220, "image.interpolation": "none",
}  # fmt: skip
_UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}


def inches(text: str) -> float:
    """A width as people write it, `3.25in`, `8cm`, `89mm`, `234pt` (TeX's) or a venue of WIDTHS; raises ProbeError."""
    found = re.fullmatch(r"([\d.]+)\s*(in|cm|mm|pt)", text.strip())
    try:
        width = float(found[1]) * _UNITS[found[2]] if found else WIDTHS[text]
    except (KeyError, ValueError):
        known = ", ".join(WIDTHS)
        raise ProbeError(f"width {text}: expected a length such as 3.25in, 8cm, 89mm or 234pt, or {known}") from None
    if not _NARROWEST <= width <= 40:
        raise ProbeError(
            f"width {text}: is {width:.2f} in; expected {_NARROWEST:g} to 40, or the text would not be legible"
        )
    return width


@dataclass(frozen=True)
class Look:
    """A style, a width in inches (the drawing's own where None), and a font family."""

    style: str = "notebook"
    width: float | None = None
    font: str | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ProbeError(f"style {self.style}: expected {', '.join(STYLES)}")
        try:
            findfont(self.font or "DejaVu Sans", fallback_to_default=False)
        except ValueError:
            raise ProbeError(
                f"font {self.font}: not installed; DejaVu Sans, DejaVu Serif and STIXGeneral always are"
            ) from None

    def laid_out(self, command: str) -> float:
        """The width in inches that a command's drawing lays itself out on, before it is brought to the width asked for."""
        natural = _NATURAL.get(command, 7.0)
        width = self.asked or natural
        return min(natural, max(_NARROWEST, width / (_TALK if self.style == "talk" else 1)))

    @property
    def asked(self) -> float | None:
        """The width in inches that the figure will have; None for that of its drawing."""
        return self.width or (10.0 if self.style == "talk" else None)

    @contextmanager
    def context(self, command: str) -> Iterator[None]:
        """Matplotlib's settings while a command's figure is drawn and saved; DejaVu Sans comes with matplotlib."""
        family = [self.font, "DejaVu Sans"] if self.font else ["DejaVu Sans"]  # the second for what the first lacks
        with mpl.rc_context({**_RC, "font.family": family, "figure.figsize": (self.laid_out(command), 1.0)}):
            yield


def finish(figure: Figure, look: Look, command: str) -> str:
    """Set a drawn figure in its style; returns its notes, which in a paper and a talk belong to the caption."""
    page = look.laid_out(command)
    notes = [text for text in figure.findobj(Text) if text.get_gid() == "note"]
    said = " ".join(" ".join(note.get_text().split()) for note in notes)
    for note in notes:
        if look.style != "notebook":
            note.set_visible(False)
        elif page < _NATURAL.get(command, 7.0):
            per_line = int((page - 0.12) * 72 / (0.53 * _size(note)))  # DejaVu Sans is 0.53 em wide on average
            lines = textwrap.wrap(" ".join(note.get_text().split()), per_line)
            note.set(text="\n".join(lines), x=0.06 / page, y=-0.02, va="top")
    width = look.asked or figure.get_figwidth()
    _resize(figure, width / figure.get_figwidth(), look.style)
    for _ in range(_ROUNDS if look != Look() else 0):  # letters do not shrink below a size, so once is not enough
        left, right = _ends(figure)
        if right - left <= width + 0.005:
            break
        _resize(figure, width / (right - left), look.style)
    return said


def _drawn(figure: Figure) -> Bbox:
    """What is drawn, in inches."""
    return figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())


def _ends(figure: Figure) -> tuple[float, float]:
    """Left and right end in inches of the page and whatever sticks out of it."""
    drawn = _drawn(figure)
    return min(0.0, drawn.x0), max(float(figure.get_figwidth()), drawn.x1)


def _size(text: Text) -> float:
    return float(text.get_fontsize())


def _resize(figure: Figure, times: float, style: str) -> None:
    """Magnify a figure: places are fractions of the page and follow it, sizes in points are multiplied; no letter is too small."""
    if times == 1 and style == "notebook":
        return
    smallest = 0.0 if style == "notebook" else _SMALLEST * max(1.0, times)
    figure.set_size_inches(*(times * figure.get_size_inches()))
    sizes = [
        (axis, _size(labels[0]))
        for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if (labels := axis.get_ticklabels())
    ]  # fmt: skip
    for artist in figure.findobj():
        if isinstance(artist, Text):
            artist.set_fontsize(max(times * _size(artist), smallest))
        elif isinstance(artist, Line2D):
            artist.set(linewidth=times * artist.get_linewidth(), markersize=times * artist.get_markersize())
        elif isinstance(artist, Collection):
            artist.set_linewidth([times * width for width in np.atleast_1d(artist.get_linewidth())])
            if isinstance(artist, PathCollection):
                artist.set_sizes(times**2 * np.asarray(artist.get_sizes()))
    for axis, size in sizes:  # what later ticks are made from, and how many there is room for
        axis.set_tick_params(labelsize=max(times * size, smallest))


def extent(figure: Figure, look: Look) -> Bbox | None:
    """The part to save, in inches: as wide as was asked for, as high as what is drawn; None for the page itself."""
    if look == Look():
        return None
    drawn, (left, right) = _drawn(figure), _ends(figure)
    return Bbox([[left, drawn.y0 - 0.03], [left + (look.asked or right - left), drawn.y1 + 0.03]])
