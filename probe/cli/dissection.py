"""`probe dissect`: which unit of a layer has to do with which concept."""

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
    LabelSeed,
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)


@app.command()
def dissect(
    layer: Annotated[str, typer.Option("--layer", help="A layer by name (layer2), rank (2, -2) or grid (8x8).")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO JSON of boxes, one category a concept; not needed on rooms.")] = None,
    label_seed: LabelSeed = None,
    causal: Annotated[bool, typer.Option("--causal", help="With --labels: fit segmenters to the boxes (minutes a concept) for effects.")] = False,
    samples: Annotated[int, typer.Option(help="Samples that the built-in segmenter labels.", min=16, max=4096)] = 256,
    top: Annotated[int, typer.Option("--top", help="Units listed for each concept.", min=1)] = 8,
    shuffles: Annotated[int, typer.Option(help="Shufflings of the images, for the control.", min=50)] = 100,
    out: Annotated[Path, typer.Option("--out")] = Path("out/dissect"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Score every unit of a layer against every concept. By overlap, ranking and causal effect; a table and a figure."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs
    from probe.results.tables import write_tables

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.dissect(
            gan, layer, labels=labels, label_seed=label_seed, causal=causal, samples=samples, top=top,
            shuffles=shuffles, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted, lambda folder: write_tables(result, folder))
    conclude(result, figure, as_json, f"{summarise(result).text}\ntables: {out / 'units.csv'}, {out / 'units.tex'}")
