"""`probe inspect` and `probe sample`: what a checkpoint is, and what it draws."""

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
    print_json,
)


@app.command()
def inspect(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None, as_json: AsJson = False
) -> None:
    """Say what is in a checkpoint. Its format, architecture, prior and BatchNorm policy."""
    from probe.checkpoints import describe
    from probe.models.hooks import sites

    gan = load_gan(ckpt, disc, model, prior, "cpu")
    found = describe(gan)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{key:14} {text if text is not None else 'none'}")
    known = sites(gan)
    print("layers        ", "; ".join(f"{s} rank {s.rank} or {s.rank - len(known) - 1}" for s in known))


@app.command()
def sample(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, max=100_000, help="Number of samples.")] = 64,
    each: Annotated[bool, typer.Option("--each", help="Also write numbered images, to be labelled in any tool.")] = False,
    out: Annotated[Path, typer.Option("--out")] = Path("out/sample"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Draw samples as a grid. With --each also as numbered images with their latents."""
    from probe.questions import calls as questions
    from probe.questions.sample.run import write_each
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    result = questions.sample(gan, n, seed=seed)
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted, (lambda folder: write_each(result, folder)) if each else None)
    conclude(
        result,
        figure,
        as_json,
        f"{n} samples of {gan.size}x{gan.size}" + (f"; numbered images in {out / 'images'}" if each else ""),
    )
