"""`probe evaluate`: how far are samples from real images?"""

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
def evaluate(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    data: Annotated[str, typer.Option("--data", help="Real images: rooms[:N], a folder, parquet:, idx:, npz:, mat:, lmdb: or hf:; the checkpoint's own source gives its held-out images.")] = "rooms:5000@77",
    exclude: Annotated[Path | None, typer.Option(help="The list that `probe train --exclude` took, where it did.")] = None,
    features: Annotated[str | None, typer.Option("--features", help="segmenter (the built-in rooms judge; the default for rooms), random (weights of seed 0; the default else), the weights FILE of FID's Inception (a state dict; a TorchScript is refused, since it runs code), or pkg.module:factory (your own code, which is run).")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Images in each set, 200 to 10,000; default: 2,500, or what there are.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/evaluate"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fréchet distance, KID, precision and recall of samples. Between a floor and a ceiling; FID in Inception's features."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.evaluate(gan, data, exclude=exclude, features=features, n=n, seed=seed, report=tell)
    result.provenance = runs.provenance(gan, seed)
    conclude(result, runs.publish(result, out, wanted), as_json, summarise(result).text)
