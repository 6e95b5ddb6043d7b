"""`probe ablate`: switch single feature maps off, or scale them, and see what that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    """Switch feature maps of the generator off, or scale them, everywhere or in a region, beside random other maps."""
    from probe import runs, surgery
    from probe.ablation import Settings, effect
    from probe.checkpoints import save as save_checkpoint
    from probe.concepts import is_rooms
    from probe.readers import load_rooms
    from probe.regions import numbers, region

    if where is not None and save is not None:
        raise ProbeError(
            f"--save {save}: a convolution's weights are the same at every place, so an edit of a region (--where) does not "
            "go into them; save without --where"
        )
    wanted = figure_formats(formats)
    runs.check_output(out)
    settings = Settings(layer, numbers(units, "--units"), scale, numbers(samples, "--samples"), draws=draws, seed=seed)
    gan = load_gan(ckpt, disc, model, prior, device)
    place = None if where is None else region(where, gan.size)
    edited = None
    if save is not None:
        runs.check_rebuildable(gan, save, ordinary=True)
        edited = (
            surgery.scale(gan, layer, settings.units, scale) if scale else surgery.ablate(gan, layer, settings.units)
        )
    judge = load_rooms()["judge"] if is_rooms(gan) else None
    with runs.progress(as_json) as tell:
        result = effect(gan, settings, place, judge, tell)
    if where is not None:
        result.settings["where"] = Path(where).name
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    if edited is not None and save is not None:
        save_checkpoint(edited, save)
    conclude(result, figure, as_json, _summary(result.metrics) + _saved(save, gan.prior))


def _saved(save: Path | None, prior: str) -> str:
    if save is None:
        return ""
    bare = save.suffix in (".pth", ".pt")
    return f"\ncheckpoint: {save}" + (f" (does not hold the prior: open it with --prior {prior})" if bare else "")


def _p(value: float | None) -> str:
    return "" if value is None else f", p = {value:.2g}"


def _summary(m: dict[str, Any]) -> str:
    low, high = m["change_ci"]
    random = m["random"]
    lines = [f"{m['layer']}: mean change {m['change']:.4f} [{low:.4f}, {high:.4f}]"]
    if random["draws"]:
        lines[0] += f"; random sets of other maps {random['change_mean']:.4f}{_p(m['p_value'])}"
    if m["inside"] is not None and m["outside"] is not None:
        lines.append(f"inside the region {m['inside']:.4f}, outside {m['outside']:.4f}")
    for name, o in m["objects"].items():
        if o["ratio"] is not None:
            low, high = o["ratio_ci"]
            mean = o["random"]["ratio_mean"]
            known = "" if mean is None else f"; random {mean:.2f}{_p(o['p_value'])}"
            lines.append(f"  {name:8} area after / before {o['ratio']:.2f} [{low:.2f}, {high:.2f}]{known}")
    return "\n".join(lines)
