"""`probe guided-backprop`: what the discriminator's units see."""

from __future__ import annotations

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
    from probe.gan import GAN
    from probe.lens import Source
    from probe.runs import Report


@app.command("guided-backprop")
def guided_backprop(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    data: Annotated[str | None, typer.Option("--data", help="Images to look at: as for `probe train`, or samples[:N]. Default: rooms:2048@1 for a model of rooms, else samples:2048.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first images of the source.", min=1)] = None,
    layer: Annotated[str, typer.Option("--layer", help="The discriminator's layer by name (layer2), rank (2, -1) or grid (8x8).")] = "-1",
    units: Annotated[str, typer.Option("--units", help="Such as 0-5; top: the six that stand out most; all: also an atlas as PDF.")] = "0-5",
    rule: Annotated[str, typer.Option("--rule", help="guided, leaky, deconvnet or gradient.")] = "guided",
    crops: Annotated[int, typer.Option("--crops", help="Images for each unit.", min=1, max=16)] = 5,
    batchnorm: Annotated[str | None, typer.Option("--batchnorm", help="The discriminator's statistics: running (stored), data (estimated from it) or batch.")] = None,
    sanity: Annotated[str, typer.Option("--sanity", help="fast, or full: every layer randomised, 5 seeds.")] = "fast",
    inputs: Annotated[bool, typer.Option("--inputs", help="Show the crops of the images beside their gradients.")] = False,
    out: Annotated[Path, typer.Option("--out")] = Path("out/guided-backprop"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what excites units of the discriminator, by guided backpropagation, beside random weights and sanity checks."""
    from probe import runs
    from probe.concepts import is_rooms
    from probe.guided import Settings, fit_policy, guided, parse_units
    from probe.layers import resolve
    from probe.plots.guided import atlas
    from probe.readers import load_rooms

    wanted = figure_formats(formats)
    runs.check_output(out)
    settings = Settings(layer, units, rule, crops, batchnorm, sanity, inputs, seed)  # type: ignore[arg-type]
    gan = load_gan(ckpt, disc, model, prior, device)
    parse_units(units, resolve(gan, layer, "discriminator"))  # refused before any image is read
    fit_policy(gan, settings.batchnorm)
    with runs.progress(as_json) as tell:
        source, notes = _source(gan, data, limit, seed, tell)
        known = is_rooms(gan) and source.name.startswith(("rooms", "samples"))
        result = guided(gan, source, settings, load_rooms()["judge"] if known else None, tell)
    result.assumptions += notes
    result.provenance = runs.provenance(gan, seed)
    every = units == "all"
    figure = runs.publish(result, out, wanted, (lambda folder: atlas(result, folder / "atlas.pdf")) if every else None)
    lines = [*_summary(result.metrics), *notes, *([f"atlas: {out / 'atlas.pdf'}"] if every else [])]
    conclude(result, figure, as_json, "\n".join(lines))


def _source(gan: GAN, data: str | None, limit: int | None, seed: int, tell: Report) -> tuple[Source, list[str]]:
    """The images to look at, and what has to be said about them."""
    from probe import data as sources
    from probe.concepts import is_rooms
    from probe.lens import from_images, from_samples

    text = data or ("rooms:2048@1" if is_rooms(gan) else "samples:2048")
    prefix, _, number = text.partition(":")
    if prefix == "samples":
        if not (number or "2048").isdigit() or int(number or 2048) < 1:
            raise ProbeError(f"data {text}: expected samples or samples:N, such as samples:4096")
        n = min(int(number or 2048), limit or 10**9)
        return from_samples(gan, n, seed), [f"data: {n} of the generator's own samples, seed {seed}"]
    tell("reading images", 0, 1)
    images = sources.load(
        text, gan.size, gan.channels, limit, progress=lambda done, total: tell("reading images", done, total or done)
    )
    notes = []
    if images.resized:
        notes.append(
            f"{images.name}: {images.resized} of {len(images.images)} images were of another size and were resized to "
            f"{gan.size}x{gan.size} (shorter side, centre crop)"
        )
    if images.skipped:
        notes.append(f"{images.name}: skipped {len(images.skipped)} unreadable files")
    return from_images(images), notes


def _summary(m: dict[str, Any]) -> list[str]:
    sane = m["sanity"]
    words = {unit: row["concept"] for unit, row in m["concepts"].items() if row["concept"]}
    lines = [
        f"{m['layer']}, {m['maps_total']} units, {m['images']} images, rule {m['rule']}: {m['activations_replaced']} activations replaced, "
        f"difference from the plain gradient {m['difference_from_gradient']:.2f}"
    ]
    if sane["spearman"] is None:
        lines.append("sanity fail: no gradient under random weights")
    else:
        (low, high), verb = sane["spearman_ci"], "stays below" if sane["verdict"] == "pass" else "does NOT stay below"
        lines.append(
            f"sanity {sane['verdict']}: with all layers random the picture's absolute Spearman similarity is {sane['spearman']:.2f} "
            f"[{low:.2f}, {high:.2f}]; {verb} {sane['threshold']}"
        )
        lines += [
            f"  {name}: {row['spearman']:.2f}" for name, row in sane["rows"].items() if row["spearman"] is not None
        ]
    if words and len(words) <= 12:
        lines.append("units named: " + ", ".join(f"{unit} {word}" for unit, word in words.items()))
    elif words:
        lines.append(f"units named: {len(words)} of {len(m['concepts'])}")
    return lines
