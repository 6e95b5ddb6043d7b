"""HTML from results: what a notebook shows of one, and the page of a report. Nothing is fetched; images are inside.

fragment(result)     figure, verdict and table, for `Result._repr_html_`
page(**names)        the report's page, from its template
picture(path)        a figure as a data URI
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from probe.plots import FIGURES, draw
from probe.questions.summaries import summarise
from probe.results.result import Result

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names of checkpoints, labels and paths are other people's text
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def picture(path: Path) -> str:
    """A figure's PNG as a data URI, its provenance inside."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def fragment(result: Result) -> str:
    """A result's figure, verdict and numbers as a piece of HTML; without a figure where its command draws none."""
    uri = None
    if result.command in FIGURES:
        with tempfile.TemporaryDirectory() as folder:
            uri = picture(draw(result, Path(folder))[0])
    return _TEMPLATES.get_template("result.html.j2").render(result=result, summary=summarise(result), uri=uri)


def page(**names: Any) -> str:
    """The report's page; `names` are those of `templates/report.html.j2`."""
    return _TEMPLATES.get_template("report.html.j2").render(**names)
