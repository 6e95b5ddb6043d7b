"""`probe classify`: what the discriminator's features are worth to a linear classifier."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from probe.errors import ProbeError

if TYPE_CHECKING:
    from probe.data import Images
    from probe.gan import GAN
    from probe.runs import Report


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
    both_signs: Annotated[bool, typer.Option("--both-signs", help="The smallest value of each pooled cell, too.")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="Mirror images in training and test.")] = False,
    baselines: Annotated[str, typer.Option("--baselines", help="Comma-separated: pixels, random_weights, kmeans, supervised; or none.")] = "pixels,random_weights,kmeans,supervised",
    centroids: Annotated[int, typer.Option("--centroids", help="Centroids of the K-means baseline.", min=1)] = 1600,
    supervised_steps: Annotated[int, typer.Option("--supervised-steps", help="Steps of the supervised baseline.", min=1)] = 600,
    limit: Annotated[int | None, typer.Option(help="Use only the first images of both sources.", min=1)] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/classify"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Classify images by D's features and a linear SVM, beside baselines: Tables 1 and 2, a figure, CSV and LaTeX."""
    from probe import runs
    from probe.classification import SVHN_1000, Settings
    from probe.classification import classify as run
    from probe.tables import write_accuracies

    if protocol not in (None, "svhn-1000"):
        raise ProbeError(f"protocol {protocol}: expected svhn-1000, or none")
    if protocol and (labels or draws > 1 or costs or validation or both_signs or flips):
        raise ProbeError(
            "--protocol svhn-1000 fixes labels, draws, costs, validation, signs and flips; leave those out"
        )
    names = tuple(part for part in baselines.split(",") if part and baselines != "none")
    settings = SVHN_1000 if protocol else Settings(
        labels=labels, draws=draws, both_signs=both_signs, flips=flips, **_given(costs, validation)
    )  # fmt: skip
    settings = replace(settings, baselines=names, centroids=centroids, supervised_steps=supervised_steps, seed=seed)
    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    gan.require_discriminator()
    with runs.progress(as_json) as tell:
        train, tested = (_images(gan, source, limit, tell) for source in (data, test))
        result = run(gan, train, tested, settings, tell)
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted, lambda folder: write_accuracies(result, folder))
    for note in result.metrics["notes"]:
        print(note, file=sys.stderr)
    conclude(result, figure, as_json, f"{_summary(result.metrics)}\ntables: {out / 'table.csv'}, {out / 'table.tex'}")


def _given(costs: str | None, validation: int | None) -> dict[str, Any]:
    """Settings of options that were given."""
    try:
        values = tuple(sorted(float(part) for part in costs.split(","))) if costs else None
    except ValueError:
        raise ProbeError(f"--costs {costs}: expected numbers with commas between them, such as 0.1,1,10") from None
    return {k: v for k, v in (("costs", values), ("validation", validation)) if v is not None}


def _images(gan: GAN, source: str, limit: int | None, tell: Report) -> Images:
    from probe import data

    return data.load(
        source, gan.size, gan.channels, limit, lambda done, total: tell(f"reading {source}", done, total or done)
    )


def _summary(m: dict[str, Any]) -> str:
    def line(name: str, found: dict[str, Any]) -> str:
        low, high = found["accuracy_ci"]
        cost = "" if found["C"] is None else f", C = {found['C']:g}"
        return f"{name}: {100 * found['accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}], {found['features']} features{cost}"

    lines = [line("discriminator", m), *(line(name.replace("_", " "), found) for name, found in m["baselines"].items())]
    return "\n".join(lines)
