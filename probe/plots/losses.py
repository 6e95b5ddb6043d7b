"""How a training went: both losses, and how often the discriminator tells real images from drawn ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probe.base.files import writing
from probe.plots.common import OKABE_ITO, page
from probe.plots.style import Look

_CURVES = (  # panel, column of the log, words, colour
    (0, "loss_d", "discriminator", OKABE_ITO[0]),
    (0, "loss_g", "generator", OKABE_ITO[4]),
    (1, "accuracy_real", "on real images", OKABE_ITO[0]),
    (1, "accuracy_fake", "on drawn images", OKABE_ITO[4]),
)
_POINTS = 200


def means(values: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Means of every `width` numbers (N,) in a row; a rest that is shorter counts as one more."""
    return np.array([values[i : i + width].mean() for i in range(0, len(values), width)])


def draw(log: dict[str, np.ndarray[Any, Any]], changes: dict[int, str] | None = None) -> Figure:
    """The columns of a log of losses, (N,) each, as means of some steps; `changes` are words at the steps they belong to."""
    width = -(-len(log["step"]) // _POINTS)
    figure = Figure(figsize=(page(), 1.9), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, column, words, colour in _CURVES:
        panels[panel].plot(means(log["step"], width), means(log[column], width), lw=1, color=colour, label=words)
    for axes, title in zip(panels, ("loss", "accuracy of the discriminator"), strict=True):
        axes.set(title=title, xlabel="step" if width == 1 else f"step (means of {width})", xlim=(0, log["step"].max()))
        axes.legend(frameon=False)
        for step, words in (changes or {}).items():
            axes.axvline(step, color="0.8", lw=0.6, zorder=0)
            axes.annotate(
                words, (step, axes.get_ylim()[1]), (1, -1), textcoords="offset points", va="top", fontsize=5.2
            )
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0.45, 1.02)
    panels[1].axhline(0.5, color="0.75", lw=0.6, ls=":", zorder=0)
    return figure


def changes(history: list[dict[str, Any]]) -> dict[int, str]:
    """What was changed on the way, in words, by the step from which on it held; a run's provenance has the history."""
    return {
        now["from"]: ", ".join(f"{k} {v}" for k, v in now.items() if k != "from" and v != before.get(k))
        for before, now in pairwise(history)
    }


def save(log: dict[str, np.ndarray[Any, Any]], history: list[dict[str, Any]], path: Path) -> None:
    """Draw a run's log of losses, with the changes in its history, to a PNG."""
    with Look().context("losses"), writing(path) as temporary:
        draw(log, changes(history)).savefig(temporary, format="png", dpi=150, metadata={"Software": None})
