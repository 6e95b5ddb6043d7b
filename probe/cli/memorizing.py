"""`probe memorization`: does the generator copy its training images?"""

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


@app.command()
def memorization(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    data: Annotated[str | None, typer.Option("--data", help="The source given to `probe train --holdout`; the checkpoint knows its split.")] = None,
    train: Annotated[str | None, typer.Option("--train", help="Training images, where the checkpoint does not know them.")] = None,
    holdout: Annotated[str | None, typer.Option("--holdout-data", help="Images of the same kind that were not trained on.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="The list that `probe train --exclude` took, where it did.")] = None,
    distance: Annotated[str, typer.Option(help="pixels, random-conv, or pkg.module:factory; never the audited D's features.")] = "pixels",
    samples: Annotated[int, typer.Option(help="Samples tested.", min=40, max=100_000)] = 2000,
    permutations: Annotated[int, typer.Option(help="Label permutations.", min=199, max=100_000)] = 999,
    targets: Annotated[int, typer.Option(help="Training images recovered in latent space, as copies to plant; few of them understate the power.", min=1, max=2000)] = 200,
    out: Annotated[Path, typer.Option("--out")] = Path("out/memorization"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Test for copies of training images. Against held-out ones: verdict, p-value, share of copies, power, nearest images."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.memorization(
            gan, data, train=train, holdout_data=holdout, exclude=exclude, distance=distance, samples=samples,
            permutations=permutations, targets=targets, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    conclude(result, runs.publish(result, out, wanted), as_json, summarise(result).text)
