"""`probe draw`, `probe compare` and `probe rerun`: results drawn for a paper, held against one another, and repeated."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.base.errors import ProbeError
from probe.cli.common import AsJson, app, figure_formats, print_json

if TYPE_CHECKING:
    from probe.results.compare import Comparison

Rtol = Annotated[float, typer.Option("--rtol", help="Relative tolerance of numbers.", min=0)]
Atol = Annotated[float, typer.Option("--atol", help="Absolute tolerance of numbers.", min=0)]
_NOTE = (
    "only base names of files are recorded: pass the files again, as in `probe rerun RESULT --ckpt path/to/netG.pth`"
)


@app.command()
def draw(
    result: Annotated[Path, typer.Argument(help="A result directory; with --where a figure.")],
    where: Annotated[bool, typer.Option("--where", help="Print where a PNG, PDF or SVG comes from and what repeats it.")] = False,
    style: Annotated[str, typer.Option("--style", help="paper, talk or notebook; only a notebook's figure holds its notes.")] = "paper",
    width: Annotated[str | None, typer.Option("--width", help="3.25in, 8cm, 89mm, 234pt, or neurips, icml-column, cvpr-column, ...")] = None,
    formats: Annotated[str, typer.Option("--format", help="Comma-separated: png, pdf, svg.")] = "pdf",
    font: Annotated[str | None, typer.Option("--font", help="A font family that is installed.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to draw into (default: the result's own).")] = None,
) -> None:  # fmt: skip
    """Draw a result's figure again, without the checkpoint. For a column of a paper, a talk or a notebook; and its caption."""
    if where:
        from probe.results.provenance import told

        return print(told(result))
    from probe.plots import draw as draw_result
    from probe.plots.style import Look, inches
    from probe.results.result import load
    from probe.results.runs import command_line

    wanted = figure_formats(formats)
    look = Look(style, None if width is None else inches(width), font)
    found = load(result)
    paths = draw_result(found, out or result, wanted, look, command_line(sys.argv[1:]))
    print("\n".join(f"figure: {path}" for path in paths))
    return print(f"caption: {paths[0].with_name('caption.tex')}, {paths[0].with_name('caption.txt')}")


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(help="A result directory, or a folder of them.")],
    new: Annotated[Path, typer.Argument(help="The same, of another run.")],
    rtol: Rtol = 1e-3, atol: Atol = 1e-5,
    out: Annotated[Path, typer.Option("--out", help="Folder for side-by-side images of drawings that differ.")] = Path("out/compare"),
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say what changed between two results, or folders of them. Exit 1 where something did."""
    from probe.results.compare import Tolerance, compare_trees

    _conclude(compare_trees(baseline, new, Tolerance(rtol, atol), out), as_json)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def rerun(
    context: typer.Context,
    result: Annotated[Path, typer.Argument(help="A result directory. Further options replace those of its command.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the new result.")] = Path("out/rerun"),
    rtol: Rtol = 1e-3, atol: Atol = 1e-5, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Repeat the command that made a result, and compare. Into a new folder; exit 1 where it comes out otherwise."""
    from probe.results.compare import Tolerance, compare_trees
    from probe.results.provenance import repeated
    from probe.results.result import load

    found = load(result)
    words = repeated(found.provenance.get("command"), context.args, out)
    if out.resolve() == result.resolve():
        raise ProbeError(f"--out {out}: is the result itself; choose another folder")
    print(f"repeating: {shlex.join(words)}", file=sys.stderr)
    before = sys.argv
    try:
        with redirect_stdout(sys.stderr):
            if words[0] == "probe":
                sys.argv = words
                app(words[1:], standalone_mode=False)
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
    _conclude(compare_trees(result, made, Tolerance(rtol, atol), out / "compared"), as_json)


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


def _conclude(found: Comparison, as_json: bool) -> None:
    print_json(found.document()) if as_json else print(found.told())
    raise typer.Exit(0 if found.same else 1)
