"""`probe classify`: what the discriminator's features are worth to a linear classifier."""

from __future__ import annotations

import sys
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
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)


@app.command()
def classify(
    data: Annotated[str, typer.Option("--data", help="Training images with labels: a folder a class, parquet:, idx:, npz:, mat:, hf:, rooms:N.")],
    test: Annotated[str, typer.Option("--test", help="Test images with labels, likewise.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    labels: Annotated[int, typer.Option("--labels", help="Fit to so many labels, as many of each class; 0 for all.", min=0)] = 0,
    draws: Annotated[int, typer.Option("--draws", help="With --labels: how often they are drawn for the test.", min=1)] = 1,
    protocol: Annotated[str | None, typer.Option("--protocol", help="svhn-1000: all as in the authors' script for Table 2.")] = None,
    costs: Annotated[str | None, typer.Option("--costs", help="Values of C to choose from, comma-separated.")] = None,
    validation: Annotated[int | None, typer.Option("--validation", help="Training images to choose C on.", min=1)] = None,
    means: Annotated[bool, typer.Option("--means", help="The mean of each pooled cell, too, beside its largest value.")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="Mirror images in training and test.")] = False,
    shifts: Annotated[int, typer.Option("--shifts", help="Copies moved by up to so many pixels to fit to, which doubles the memory; 0 for none.", min=0, max=8)] = 0,
    baselines: Annotated[str, typer.Option("--baselines", help="Comma-separated: pixels, random_weights, kmeans, supervised; or none.")] = "pixels,random_weights,kmeans,supervised",
    centroids: Annotated[int, typer.Option("--centroids", help="Centroids of the K-means baseline.", min=1)] = 1600,
    supervised_steps: Annotated[int, typer.Option("--supervised-steps", help="Steps of the supervised baseline.", min=1)] = 600,
    limit: Annotated[int | None, typer.Option(help="Use only the first images of both sources.", min=1)] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/classify"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Classify images by D's features: tables 1 and 2. By a linear SVM, beside baselines; a figure, CSV and LaTeX."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs
    from probe.results.tables import write_accuracies

    names = [part for part in baselines.split(",") if part and baselines != "none"]
    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.classify(
            gan, data, test, labels=labels, draws=draws, protocol=protocol, costs=_numbers(costs), validation=validation,
            means=means, flips=flips, shifts=shifts, baselines=names, centroids=centroids,
            supervised_steps=supervised_steps, limit=limit, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted, lambda folder: write_accuracies(result, folder))
    for note in result.metrics["notes"]:
        print(note, file=sys.stderr)
    tables = f"tables: {out / 'table.csv'}, {out / 'table.tex'}"
    conclude(result, figure, as_json, f"{summarise(result).text}\n{tables}")


def _numbers(costs: str | None) -> list[float] | None:
    try:
        return [float(part) for part in costs.split(",")] if costs is not None else None
    except ValueError:
        raise ProbeError(f"--costs {costs}: expected numbers with commas between them, such as 0.1,1,10") from None
