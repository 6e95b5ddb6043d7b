"""Results -> figures; the only package that imports matplotlib, and none that runs a model.

FIGURES      command -> drawing function
draw(...)    a result directory's figure, in the formats asked for, with its provenance inside
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from probe.base.errors import ProbeError
from probe.base.files import save_text, writing
from probe.plots.repeats import repeats
from probe.plots.study import study
from probe.plots.style import Look, extent, finish
from probe.questions.ablate.figure import ablation
from probe.questions.arithmetic.figure import arithmetic
from probe.questions.classify.figure import classification
from probe.questions.dedup.figure import deduplication
from probe.questions.dissect.figure import dissection
from probe.questions.evaluate.figure import evaluation
from probe.questions.forget.figure import forgetting
from probe.questions.guided_backprop.figure import guided_backprop
from probe.questions.insert.figure import insertion
from probe.questions.memorization.figure import memorization
from probe.questions.memorization.validation import validation
from probe.questions.sample.figure import samples
from probe.questions.turn.figure import turn
from probe.questions.walk.figure import walk
from probe.results.captions import captions
from probe.results.result import Result

FORMATS = ("png", "pdf", "svg")

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
    "dedup": deduplication,
    "evaluate": evaluation,
}


def draw(
    result: Result, folder: Path, formats: Sequence[str] = ("png",), look: Look | None = None, drawn: str = ""
) -> list[Path]:
    """Draw a result's figure into a folder, as figure.png and so on; returns the files written.

    With a look, the caption goes beside it, as caption.tex and caption.txt. `drawn` is the command that draws,
    recorded in the figure beside the provenance of the result.
    """
    captioned, look = look is not None, look or Look()
    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise ProbeError(f"format {unknown[0]}: expected {', '.join(FORMATS)}")
    if result.command not in FIGURES:
        raise ProbeError(f"{result.command}: has no figure; expected a result of {', '.join(FIGURES)}")
    about = json.dumps(result.document()["provenance"] | ({"drawn": drawn} if drawn else {}))
    with look.context(result.command):
        try:
            figure = FIGURES[result.command](result)
        except KeyError as error:
            raise ProbeError(
                f"{folder}: the result lacks {error}, which its figure shows; run the command again"
            ) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:  # of a result changed by other hands
            found = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ProbeError(
                f"{folder}: the result is not as probe {result.command} writes it ({found}); run the command again"
            ) from error
        FigureCanvasAgg(figure)
        notes = finish(figure, look, result.command)
        part = extent(figure, look)
        for kind in formats:
            metadata = {
                "png": {"Software": None, "probe": about},
                "pdf": {"Subject": about, "CreationDate": None},
                "svg": {"Description": about, "Date": None},
            }
            drawing = io.BytesIO()  # not to the file: on a full disk the PDF writer fails in ways of its own
            figure.savefig(drawing, format=kind, metadata=metadata[kind], bbox_inches=part)
            with writing(folder / f"figure.{kind}") as temporary:
                temporary.write_bytes(drawing.getvalue())
    for name, text in captions(result, notes).items() if captioned else ():
        save_text(folder / name, text)
    return [folder / f"figure.{kind}" for kind in formats]
