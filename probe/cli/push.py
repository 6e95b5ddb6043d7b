"""`probe push`: a model and what was found about it, as a repository on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probe.cli.options import Opening, Quiet, opens, say


@opens()
def push(
    opening: Opening,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub.")],
    result: Annotated[
        list[Path] | None,
        typer.Option(
            "--result", metavar="FOLDER", help="A result to put beside the weights and into the card, or several."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where its files are made.")] = Path("out/push"),
    upload: Annotated[
        bool, typer.Option("--upload", help="Upload them; without it nothing leaves this machine.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make the files of a repository on the Hub, and upload them where asked to."""
    from probe.checkpoints import publishing

    gan = opening.load("cpu", quiet)
    for path in publishing.prepare(gan, repository, out, result or []):
        say(quiet, f"{path.stat().st_size:>12,} bytes  {path.relative_to(out)}")
    if upload:
        say(quiet, f"uploaded: {publishing.upload(out, repository, private)}")
    else:
        say(quiet, f"nothing was uploaded; read {out / 'README.md'}, then pass --upload with another --out")
