"""`probe draw`, `probe compare` and `probe rerun`: results drawn for a paper, held against one another, and repeated."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.base.errors import ProbeError
from probe.cli.options import AsJson, Quiet, print_json, say

if TYPE_CHECKING:
    from probe.results.compare import Comparison

Rtol = Annotated[float, typer.Option("--rtol", metavar="NUMBER", help="Relative tolerance of numbers.", min=0)]
Atol = Annotated[float, typer.Option("--atol", metavar="NUMBER", help="Absolute tolerance of numbers.", min=0)]
_NOTE = (
    "only base names of files are recorded: pass the files again, as in `probe rerun RESULT --ckpt path/to/netG.pth`"
)


def draw(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result directory; with --where a figure.")],
    where: Annotated[
        bool, typer.Option("--where", help="Print where a PNG, PDF or SVG comes from and what repeats it.")
    ] = False,
    style: Annotated[
        str,
        typer.Option(
            "--style", metavar="paper|talk|notebook", help="Only a notebook's figure holds its notes; else the caption."
        ),
    ] = "paper",
    width: Annotated[
        str | None,
        typer.Option(
            "--width", metavar="WIDTH", help="3.25in, 8cm, 89mm, 234pt, or neurips, icml-column, cvpr-column, ..."
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="NAMES", help="Figure formats, comma-separated: png, pdf, svg.")
    ] = "pdf",
    font: Annotated[str | None, typer.Option("--font", metavar="NAME", help="A font family that is installed.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Folder to draw into (default: the result's own).")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw a result's figure again, without the checkpoint."""
    if where:
        from probe.results.provenance import told

        return print(told(result))
    from probe.plots.style import Look, inches
    from probe.results.drawing import draw as draw_result
    from probe.results.drawing import formats as formats_of
    from probe.results.provenance import command_line
    from probe.results.result import load

    wanted = formats_of(formats)
    look = Look(style, None if width is None else inches(width), font)
    paths = draw_result(load(result), out or result, wanted, look, command_line(sys.argv[1:]))
    caption = f"caption: {paths[0].with_name('caption.tex')}, {paths[0].with_name('caption.txt')}"
    return say(quiet, *(f"figure: {path}" for path in paths), caption)


def compare(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="A result directory, or a folder of them.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same, of another run.")],
    rtol: Rtol = 1e-3,
    atol: Atol = 1e-5,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Folder for side-by-side images of drawings that differ."),
    ] = Path("out/compare"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what changed between two results, or folders of them."""
    from probe.results.compare import Tolerance, compare_trees

    _conclude(compare_trees(baseline, new, Tolerance(rtol, atol), out), as_json, quiet)


def rerun(
    context: typer.Context,
    result: Annotated[
        Path,
        typer.Argument(metavar="RESULT", help="A result directory. Further options replace those of its command."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the new result.")] = Path(
        "out/rerun"
    ),
    rtol: Rtol = 1e-3,
    atol: Atol = 1e-5,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Repeat the command that made a result, and compare."""
    from probe.cli import app
    from probe.results.compare import Tolerance, compare_trees
    from probe.results.provenance import repeated
    from probe.results.result import load

    found = load(result)
    words = repeated(found.provenance.get("command"), context.args, out)
    if out.resolve() == result.resolve():
        raise ProbeError(f"--out {out}: is the result itself; choose another folder")
    if not quiet:
        print(f"repeating: {shlex.join(words)}", file=sys.stderr)
    before = sys.argv
    try:
        with redirect_stdout(sys.stderr):
            if words[0] == "probe":
                sys.argv = words
                app(words[1:] + ["--quiet"] * quiet, standalone_mode=False)
            else:
                sys.argv = [f"{words[2].split('.')[-1]}.py", *words[3:]]
                _recipe(words[2])
    except ProbeError as error:
        raise ProbeError(f"{error} ({_NOTE})") from error
    finally:
        sys.argv = before
    made = out if (out / "result.json").exists() else out / result.resolve().name
    if not made.exists():
        raise ProbeError(f"the command wrote no {made}; give the options it needs ({_NOTE})")
    _conclude(compare_trees(result, made, Tolerance(rtol, atol), out / "compared"), as_json, quiet)


def _recipe(module: str) -> None:
    """Run a recipe of analyses/, from the checkout that has it."""
    import runpy

    sys.path.insert(0, str(Path.cwd()))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    except ImportError as error:
        raise ProbeError(f"{module}: {error}; recipes run from a checkout of probe") from error
    finally:
        sys.path.pop(0)


def _conclude(found: Comparison, as_json: bool, quiet: bool) -> None:
    print_json(found.document()) if as_json else say(quiet, found.told())
    raise typer.Exit(0 if found.same else 1)
