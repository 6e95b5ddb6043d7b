"""`probe label`: a local page to mark objects, choose exemplars and switch units."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from probe.base import reads
from probe.base.errors import ProbeError
from probe.cli.options import Device, Opening, Quiet, Seed, opens


@opens()
def label(
    opening: Opening,
    samples: Annotated[
        int, typer.Option("-n", "--samples", metavar="N", min=1, max=10_000, help="Samples to show.")
    ] = 150,
    labels: Annotated[Path, typer.Option("--labels", metavar="FILE", help="COCO JSON to open or start.")] = Path(
        "out/label/labels.coco.json"
    ),
    concepts: Annotated[
        Path | None,
        typer.Option(
            "--concepts", metavar="FILE", help="Exemplar file to open or start; by default beside the labels."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port on 127.0.0.1; 0 is any free one.")
    ] = 0,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Open a local web page to mark objects on samples."""
    if importlib.util.find_spec("nicegui") is None:
        raise ProbeError("label: the page needs the extra `ui`; pip install 'dcgan-probe[ui]'")
    gan = opening.load(device, quiet)
    from probe.ui.server import open_desk, serve

    with reads.noting() as noted:
        desk = open_desk(gan, opening.named, labels, concepts or labels.with_name("exemplars.json"), samples, seed)
    for line in dict.fromkeys(source.told() for source in noted if source.about()["left_out"]):
        print(f"{line}; they stay in the file as they are", file=sys.stderr)
    serve(desk, port)
