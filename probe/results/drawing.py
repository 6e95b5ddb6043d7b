"""Results -> figures, in a style and at a width, with their provenance inside; the drawing itself is the question's."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from probe.base.errors import DrawingError, ProbeError
from probe.base.files import save_text, writing
from probe.base.plugins import drawer, drawn
from probe.results.captions import captions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probe.plots.style import Look
    from probe.results.record import Record

FORMATS = ("png", "pdf", "svg")


def formats(text: str | Sequence[str]) -> tuple[str, ...]:
    """Figure formats, with commas between in a text; raises ProbeError for one that is not drawn."""
    found = tuple(part.strip() for part in (text.split(",") if isinstance(text, str) else text) if part.strip())
    wrong = [f for f in found if f not in FORMATS]
    if wrong or not found:
        raise ProbeError(f"`format` {wrong[0] if wrong else '(none)'}: expected png, pdf or svg, comma-separated")
    return found


@contextmanager
def drawing(result: Record, look: Look | None, place: str) -> Iterator[tuple[Figure, str]]:
    """A result's figure and its notes, finished, while matplotlib's settings are those of its look.

    Raises ProbeError, naming the `place` of the result, where its command has no figure, and DrawingError where it cannot
    be drawn, as one that was changed by other hands.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from probe.plots.style import Look, finish

    look = look or Look()
    draw_it = drawer(result.command)
    if draw_it is None:
        raise ProbeError(f"{result.command}: has no figure; expected a result of {', '.join(drawn())}")
    with look.context(result.command):
        try:
            figure = draw_it(result)
            FigureCanvasAgg(figure)
            notes = finish(figure, look, result.command)
        except (ProbeError, OSError, MemoryError):
            raise
        except KeyError as error:
            raise DrawingError(
                f"{place}: the result lacks {error}, which its figure shows; run the command again"
            ) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:  # of a result changed by other hands
            raise DrawingError(
                f"{place}: the result is not as probe {result.command} writes it ({_first_line(error)}); run the command again"
            ) from error
        except Exception as error:  # whatever matplotlib stumbles over
            raise undrawn(place, error) from error
        yield figure, notes


def _first_line(error: Exception) -> str:
    return (next(iter(str(error).splitlines()), "") or type(error).__name__)[:160]


def undrawn(place: str, error: Exception) -> DrawingError:
    """What is said of a figure that matplotlib could not draw."""
    return DrawingError(f"{place}: the figure could not be drawn ({_first_line(error)}); check matplotlib's settings")


def draw(
    result: Record, folder: Path, formats: Sequence[str] = ("png",), look: Look | None = None, drawn: str = ""
) -> list[Path]:
    """Draw a result's figure into a folder, as figure.png and so on; returns the files written.

    With a look, the caption goes beside it, as caption.tex and caption.txt. `drawn` is the command that draws,
    recorded in the figure beside the provenance of the result.
    """
    from probe.plots.style import Look, extent

    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise ProbeError(f"format {unknown[0]}: expected {', '.join(FORMATS)}")
    about = json.dumps(result.document()["provenance"] | ({"drawn": drawn} if drawn else {}))
    with drawing(result, look, str(folder)) as (figure, notes):
        part = extent(figure, look or Look())
        for kind in formats:
            metadata = {
                "png": {"Software": None, "probe": about},
                "pdf": {"Subject": about, "CreationDate": None},
                "svg": {"Description": about, "Date": None},
            }
            image = io.BytesIO()  # not to the file: on a full disk the PDF writer fails in ways of its own
            try:
                figure.savefig(image, format=kind, metadata=metadata[kind], bbox_inches=part)
            except (OSError, MemoryError):
                raise
            except Exception as error:  # whatever matplotlib stumbles over, such as a missing LaTeX
                raise undrawn(str(folder), error) from error
            with writing(folder / f"figure.{kind}") as temporary:
                temporary.write_bytes(image.getvalue())
    for name, text in captions(result, notes).items() if look is not None else ():
        save_text(folder / name, text)
    return [folder / f"figure.{kind}" for kind in formats]
