"""`probe walk`: does the generator move smoothly through its latent space?"""

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
def walk(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    points: Annotated[int, typer.Option(help="Random latents in the chain, at least 2.", max=100)] = 9,
    frames: Annotated[int, typer.Option(help="Images between two points.", min=1, max=62)] = 8,
    between: Annotated[tuple[int, int] | None, typer.Option("--between", help="Walk between the first latents of two seeds instead.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Return to the first point.")] = False,
    interpolation: Annotated[str, typer.Option(help="lerp, slerp, or auto: lerp for a uniform prior, slerp for a normal one.")] = "auto",
    feature: Annotated[str, typer.Option(help="Steps are measured in: random-conv, pixels, or pkg.module:factory.")] = "random-conv",
    limit: Annotated[int, typer.Option(help="Most steps tried between two points.", max=100_000)] = 2304,
    null: Annotated[list[Path] | None, typer.Option("--null", help="A generator of the same recipe, another seed; 19 or more give a p-value.")] = None,
    movie: Annotated[bool, typer.Option("--movie", help="Also write the walk as OUT/walk.gif.")] = False,
    out: Annotated[Path, typer.Option("--out")] = Path("out/walk"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Walk between random latents (figure 4). Step lengths, sharp transitions, path length; a movie."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.questions.walk.run import Settings, write_movie
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    settings = Settings(
        points=points, frames=frames, between=between, loop=loop, interpolation=interpolation, limit=limit, seed=seed
    )  # refused before anything is read
    gan = load_gan(ckpt, disc, model, prior, device)
    nulls = [load_gan(str(path), None, None, prior, device) for path in null or ()]
    with runs.progress(as_json) as tell:
        result = questions.walk(
            gan, points, frames=frames, between=between, loop=loop, interpolation=interpolation, feature=feature,
            limit=limit, null=nulls, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    extra = (lambda folder: write_movie(gan, settings, folder / "walk.gif")) if movie else None
    figure = runs.publish(result, out, wanted, extra)
    text = summarise(result).text + (f"\nmovie: {out / 'walk.gif'}" if movie else "")
    conclude(result, figure, as_json, text)
