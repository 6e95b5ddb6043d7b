"""`probe dissect`: which unit of a layer has to do with which concept."""

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
    from probe.dissection import Material
    from probe.gan import GAN
    from probe.runs import Report


@app.command()
def dissect(
    layer: Annotated[str, typer.Option("--layer", help="A layer by name (layer2), rank (2, -2) or grid (8x8).")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO JSON of boxes, one category a concept; not needed on rooms.")] = None,
    label_seed: Annotated[int | None, typer.Option("--label-seed", help="Seed of the labelled samples, where the file does not say.")] = None,
    causal: Annotated[bool, typer.Option("--causal", help="With --labels: fit readers to the boxes (minutes a concept) for effects.")] = False,
    samples: Annotated[int, typer.Option(help="Samples that the built-in reader labels.", min=16, max=4096)] = 256,
    top: Annotated[int, typer.Option("--top", help="Units listed for each concept.", min=1)] = 8,
    shuffles: Annotated[int, typer.Option(help="Shufflings of the images, for the control.", min=50)] = 100,
    out: Annotated[Path, typer.Option("--out")] = Path("out/dissect"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Score every unit of a layer against every concept: overlap, ranking, causal effect; a table and a figure."""
    from probe import runs
    from probe.dissection import Settings
    from probe.dissection import dissect as run
    from probe.layers import resolve
    from probe.tables import write_tables

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = load_gan(ckpt, disc, model, prior, device)
    resolve(gan, layer)
    settings = Settings(layer, top, shuffles, seed)
    with runs.progress(as_json) as tell:
        material = _material(gan, labels, label_seed, causal, samples, seed, tell)
        result = run(gan, material, settings, tell)
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted, lambda folder: write_tables(result, folder))
    lines = [_summary(name, concept) for name, concept in result.metrics["concepts"].items()]
    conclude(result, figure, as_json, "\n".join([*lines, f"tables: {out / 'units.csv'}, {out / 'units.tex'}"]))


def _material(
    gan: GAN, path: Path | None, label_seed: int | None, causal: bool, samples: int, seed: int, tell: Report
) -> Material:
    """Masks and readers: the built-in chooser's on rooms, or boxes from a file with readers fitted to them if asked."""
    from probe import labels
    from probe.concepts import from_labels, is_rooms, read_boxes
    from probe.dissection import from_boxes, from_reader
    from probe.readers import load_rooms

    if path is None:
        if causal:
            raise ProbeError("--causal fits readers to boxes; pass their file as --labels, or leave it out on rooms")
        if not is_rooms(gan):
            name = gan.provenance.get("checkpoint", "this model")
            raise ProbeError(
                f"{name}: not trained on rooms, so concepts must be boxed by hand: write numbered samples with "
                "`probe sample --each`, label them in any COCO tool, pass the file as --labels"
            )
        return from_reader(gan, load_rooms()["chooser"], samples, seed)
    names = labels.categories(path)
    read = [read_boxes(gan, path, name, label_seed) for name in names]
    choosers = {}
    for name in names if causal else ():
        choosers[name] = from_labels(gan, path, name, label_seed, seed, tell).chooser
    notes = dict.fromkeys(note for _, found in read for note in found)  # each once
    return from_boxes(gan, [boxes for boxes, _ in read], choosers, list(notes))


def _summary(name: str, concept: dict[str, Any]) -> str:
    best, random = concept["units"][0], concept["random"]
    low, high = best["iou_ci"]
    effect = "" if best["effect"] is None else f", effect {best['effect']:+.4f}"
    return (
        f"{name}: unit {best['unit']}, IoU {best['iou']:.3f} [{low:.3f}, {high:.3f}]{effect}; best of shuffled images "
        f"{random['best_iou_mean']:.3f}, p = {concept['p_value']:.2g}; {concept['detectors']} units above its 95th percentile"
    )
