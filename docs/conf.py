"""Sphinx settings, the docstrings' Markdown as reStructuredText, the gallery; `make docs` builds it offline."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

from probe import __version__
from probe.results.result import load
from probe.results.summary import summarise

ROOT = Path(__file__).parents[1]

project = "probe"
author = "the probe contributors"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
html_theme = "furo"
html_title = f"probe {__version__}"
html_show_copyright = False
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_rtype = False
myst_heading_anchors = 2
nb_execution_mode = "force"  # the tutorial is stored without outputs and run at every build
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
os.environ.setdefault("MPLBACKEND", "agg")

_GALLERY = Path(__file__).with_name("gallery.md")
_ABOUT = """# Gallery

The figures of the repository, drawn by the recipes of `analyses/` and committed with the numbers behind them.
"""


def recipe(folder: Path, command: str) -> Path:
    """The recipe that wrote a folder of figures: which its result names, else which mentions it or begins its name."""
    known = sorted((ROOT / "analyses").glob("*.py"))
    named = [path for path in known if command.split(" ")[-1].split(".")[-1] == path.stem]
    found = [
        *named,
        *(p for p in known if folder.name in p.read_text(encoding="utf-8") or folder.name.startswith(p.stem)),
    ]
    if not found:
        raise ValueError(f"{folder}: no recipe in analyses/ writes it")
    return found[0]


def entry(folder: Path) -> str:
    """A figure's part of the gallery: what its recipe and its result say, the figure, the command that repeats it."""
    result = load(folder)
    path = recipe(folder, str(result.provenance.get("command", "")))
    says = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
    summary = summarise(result)
    said = [] if summary.verdict == result.command else [f"Verdict: {summary.verdict}."]
    said += [f"{name}: {value}." for name, value in summary.numbers.items()]
    return (
        f"\n## {folder.name}\n\n{says}\n\n{' '.join(said)}\n\n"
        f"![{folder.name}: {summary.verdict}](../figures/{folder.name}/figure.png)\n\n"
        f"```sh\npython -m analyses.{path.stem}\n```\n"
    )


def write_gallery(app: Any) -> None:
    """Write the gallery's page from `figures/`."""
    folders = sorted(path.parent for path in (ROOT / "figures").glob("*/figure.png"))
    _GALLERY.write_text(_ABOUT + "".join(map(entry, folders)), encoding="utf-8")


def from_markdown(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are in Markdown, as people read them: `code` becomes ``code``, other marks stand for themselves."""
    if what == "module":  # its table of contents is the page's own
        del lines[lines.index("") if "" in lines else len(lines) :]
    for k, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...", ":", "..")):
            continue
        parts = re.split(r"(``?[^`]+``?)", line)
        lines[k] = "".join(
            f"``{part.strip('`')}``" if i % 2 else re.sub(r"([|*\\]|_(?=\W|$))", r"\\\1", part)
            for i, part in enumerate(parts)
        )


def plain_factories(
    app: Any, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A dataclass's `<factory>` is no Python, so Sphinx would show the whole signature raw."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Any) -> None:
    """Register the hooks; docstrings are turned before Napoleon reads their sections."""
    app.connect("builder-inited", write_gallery)
    app.connect("autodoc-process-signature", plain_factories)
    app.connect("autodoc-process-docstring", from_markdown, priority=100)
