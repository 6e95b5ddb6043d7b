"""`probe insert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probe.base.errors import ProbeError
from probe.cli.common import (
    AsJson,
    Ckpt,
    Device,
    Disc,
    Formats,
    LabelSeed,
    Layer,
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)


@app.command()
def insert(
    concept: Annotated[str, typer.Option("--concept", help="What to draw: a category in the labels file; on rooms any object.")],
    where: Annotated[str, typer.Option("--where", help="The box to draw it in: x0,y0,x1,y1 in pixels.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO JSON of boxes on samples of this generator; not needed on rooms.")] = None,
    label_seed: LabelSeed = None,
    samples: Annotated[int, typer.Option(help="Samples to label with the built-in segmenter.", min=16)] = 150,
    layer: Layer = None,
    bound: Annotated[float, typer.Option(help="Largest mean change outside the box, of images in [0, 1].")] = 0.03,
    draws: Annotated[int, typer.Option(help="Random edits of the control.", min=1)] = 100,
    out: Annotated[Path, typer.Option("--out")] = Path("out/insert"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the generator draw a concept in a box. Measures how often it does, beside random edits of as much change."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted, box = figure_formats(formats), _box(where)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.insert(
            gan, concept, box, labels=labels, label_seed=label_seed, samples=samples, layer=layer, bound=bound,
            draws=draws, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    conclude(result, figure, as_json, summarise(result).text)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError:
        raise ProbeError(f"where {text}: expected four numbers x0,y0,x1,y1 in pixels, such as 12,14,32,34") from None
    return x0, y0, x1, y1
