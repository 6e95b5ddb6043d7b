"""`probe export`: a generator for code that knows nothing of probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probe.base.errors import ProbeError
from probe.cli.options import Opening, Quiet, opens, say


@opens("disc", "disc_model")
def export(
    opening: Opening,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="torch|onnx", help="A file of plain PyTorch beside its weights, or an ONNX graph."
        ),
    ] = "torch",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Default: out/export/generator.py or generator.onnx.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a generator, patched or not, for code that knows nothing of probe."""
    from probe.checkpoints.standalone import export as write

    if to not in ("torch", "onnx"):
        raise ProbeError(f"`to` {to}: expected torch or onnx")
    place = out or Path("out/export") / ("generator.py" if to == "torch" else "generator.onnx")
    gan = opening.load("cpu", quiet)
    written = write(gan, place, to)  # type: ignore[arg-type]
    say(quiet, *(f"written: {path}" for path in written))
