"""`probe ablate`: switch single feature maps off, or scale them, and see what that changes."""

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
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)


@app.command()
def ablate(
    layer: Annotated[str, typer.Option("--layer", help="A layer by name (layer2), rank (2, -2) or grid (8x8).")],
    units: Annotated[str, typer.Option("--units", help="Feature maps, such as 3,7,12 or 0-11.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    scale: Annotated[float, typer.Option("--scale", help="Factor for the maps; 0 switches them off.")] = 0.0,
    where: Annotated[str | None, typer.Option("--where", help="Only there: x0,y0,x1,y1 in pixels, or a mask image, white inside.")] = None,
    samples: Annotated[str, typer.Option("--samples", help="Samples of the seed to edit and show, such as 3,5,8-10.")] = "0-11",
    draws: Annotated[int, typer.Option(help="Random sets of other maps, for the control.", min=1)] = 50,
    save: Annotated[Path | None, typer.Option("--save", help="Write the edited generator: .safetensors, or .pth for pytorch/examples.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/ablate"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Switch feature maps of the generator off, or scale them. Everywhere or in a region, beside random other maps."""
    from probe.checkpoints import save as save_checkpoint
    from probe.edits import surgery
    from probe.questions import calls as questions
    from probe.questions.ablate.region import numbers
    from probe.questions.summaries import summarise
    from probe.results import runs

    if where is not None and save is not None:
        raise ProbeError(
            f"--save {save}: a convolution's weights are the same at every place, so an edit of a region (--where) does not "
            "go into them; save without --where"
        )
    wanted = figure_formats(formats)
    runs.check_output(out)
    maps = numbers(units, "--units")
    gan = load_gan(ckpt, disc, model, prior, device)
    edited = None
    if save is not None:
        runs.check_rebuildable(gan, save, ordinary=True)
        edited = surgery.scale(gan, layer, maps, scale) if scale else surgery.ablate(gan, layer, maps)
    with runs.progress(as_json) as tell:
        result = questions.ablate(
            gan, layer, units, scale=scale, where=where, samples=samples, draws=draws, seed=seed, report=tell
        )
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    if edited is not None and save is not None:
        save_checkpoint(edited, save)
    conclude(result, figure, as_json, summarise(result).text + _saved(save, gan.prior))


def _saved(save: Path | None, prior: str) -> str:
    if save is None:
        return ""
    bare = save.suffix in (".pth", ".pt")
    return f"\ncheckpoint: {save}" + (f" (does not hold the prior: open it with --prior {prior})" if bare else "")
