"""`probe guided-backprop`: what the discriminator's units see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probe.cli.common import (
    AsJson,
    Ckpt,
    Device,
    Disc,
    Formats,
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)


@app.command("guided-backprop")
def guided_backprop(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    data: Annotated[str | None, typer.Option("--data", help="Images to look at: as for `probe train`, or samples[:N]. Default: rooms:2048@1 for a model of rooms, else samples:2048.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first images of the source.", min=1)] = None,
    layer: Annotated[str, typer.Option("--layer", help="The discriminator's layer by name (layer2), rank (2, -1) or grid (8x8).")] = "-1",
    units: Annotated[str, typer.Option("--units", help="Such as 0-5; top: the six that stand out most; all: also an atlas as PDF.")] = "0-5",
    rule: Annotated[str, typer.Option("--rule", help="guided, leaky, deconvnet or gradient.")] = "guided",
    crops: Annotated[int, typer.Option("--crops", help="Images for each unit.", min=1, max=16)] = 5,
    batchnorm: Annotated[str | None, typer.Option("--batchnorm", help="The discriminator's statistics: running (stored), data (estimated from it) or batch.")] = None,
    sanity: Annotated[str, typer.Option("--sanity", help="fast, or full: every layer randomised, 5 seeds.")] = "fast",
    inputs: Annotated[bool, typer.Option("--inputs", help="Show the crops of the images beside their gradients.")] = False,
    out: Annotated[Path, typer.Option("--out")] = Path("out/guided-backprop"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what the discriminator's units see (figure 5). By guided backpropagation, beside random weights and sanity checks."""
    from probe.questions import calls as questions
    from probe.questions.guided_backprop.figure import atlas
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.guided_backprop(
            gan, data, limit=limit, layer=layer, units=units, rule=rule, crops=crops, batchnorm=batchnorm, sanity=sanity,
            inputs=inputs, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    every = units == "all"
    figure = runs.publish(result, out, wanted, (lambda folder: atlas(result, folder / "atlas.pdf")) if every else None)
    notes = [note for note in result.assumptions if note.startswith("data:") or "resized" in note or "skipped" in note]
    lines = [summarise(result).text, *notes, *([f"atlas: {out / 'atlas.pdf'}"] if every else [])]
    conclude(result, figure, as_json, "\n".join(lines))
