"""HTML from results: what a notebook shows of one, and the page of a report. Nothing is fetched; images are inside."""

from __future__ import annotations

import base64
import contextlib
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.errors import DrawingError
from probe.base.plugins import drawer
from probe.results.drawing import draw
from probe.results.summary import summarise

if TYPE_CHECKING:
    import jinja2

    from probe.results.record import Record


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # names of checkpoints, labels and paths are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def picture(path: Path) -> str:
    """A figure's PNG as a data URI, its provenance inside."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def fragment(result: Record) -> str:
    """A result's figure, verdict and numbers as a piece of HTML; without a figure where its command draws none."""
    uri = None
    if drawer(result.command):
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(DrawingError):  # a notebook shows the numbers
            uri = picture(draw(result, Path(folder))[0])
    return _templates().get_template("result.html.j2").render(result=result, summary=summarise(result), uri=uri)


def page(**names: Any) -> str:
    """The report's page; `names` are those of `templates/report.html.j2`."""
    return _templates().get_template("report.html.j2").render(**names)
