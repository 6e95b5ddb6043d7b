"""`probe evaluate`: how far are samples from real images?"""

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
    from probe.measures import Array
    from probe.runs import Report

_FRESH = "rooms:5000@77"


@app.command()
def evaluate(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    data: Annotated[str, typer.Option("--data", help="Real images: rooms[:N], a folder, parquet:, idx:, npz:, lmdb: or hf:; the checkpoint's own source gives its held-out images.")] = _FRESH,
    exclude: Annotated[Path | None, typer.Option(help="The list that `probe train --exclude` took, where it did.")] = None,
    features: Annotated[str | None, typer.Option("--features", help="reader (the built-in rooms judge; the default for rooms), random (weights of seed 0; the default else), the weights FILE of FID's Inception (a state dict; a TorchScript is refused, since it runs code), or pkg.module:factory (your own code, which is run).")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Images in each set, 200 to 10,000; default: 2,500, or what there are.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/evaluate"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fréchet distance (FID in Inception's features), KID, precision and recall, between a floor and a ceiling."""
    from probe import runs
    from probe.backbones import backbone
    from probe.evaluation import Settings
    from probe.evaluation import evaluate as run

    wanted = figure_formats(formats)
    runs.check_output(out)
    Settings(n or 2500, seed)
    gan = load_gan(ckpt, disc, model, prior, device)
    network = backbone(features or ("reader" if data.startswith("rooms") else "random"), gan.channels, gan.device)
    with runs.progress(as_json) as tell:
        reference, others, note = _reals(gan, data, exclude, seed, tell)
        settings = Settings(n or min(2500, max(200, min(len(reference), len(others)))), seed)
        result = run(gan, reference, others, network, settings, tell, note)
    result.provenance = runs.provenance(gan, seed)
    conclude(result, runs.publish(result, out, wanted), as_json, _summary(result.metrics))


def _reals(gan: GAN, data: str, exclude: Path | None, seed: int, tell: Report) -> tuple[Array, Array, str]:
    """Reference images and other real ones, disjoint and in random order, and where they come from."""
    import numpy as np

    from probe import data as sources
    from probe import exclusion
    from probe.memorizing import own_split

    images = sources.load(
        data, gan.size, gan.channels, progress=lambda done, total: tell(f"reading {data}", done, total or done)
    )
    run = gan.provenance.get("training") or {}
    own = run.get("source") == images.name
    rng = np.random.default_rng(seed)
    if own and (run.get("split") or {}).get("holdout"):
        left_out = exclusion.load(exclude) if exclude else None
        trained, held = own_split(gan, images.images, images.name, left_out)
        return (
            rng.permutation(held),
            rng.permutation(trained),
            f"held-out images of {images.name}; floor: its training images",
        )
    if exclude:
        raise ProbeError("--exclude: is for --data that the checkpoint was trained on with images held out")
    order = rng.permutation(len(images.images))
    half = len(order) // 2
    parts = (images.images[np.sort(part)] for part in (order[:half], order[half:]))
    reference, others = (rng.permutation(part) for part in parts)
    warning = ", which it was TRAINED on" if own else ""
    return reference, others, f"half of {images.name}{warning}; floor: its other half"


def _summary(m: dict[str, Any]) -> str:
    lines = [
        f"{m['measure']}; {m['n']} images a set; reference: {m['reference']}",
        f"{'':12}{'samples':>28}{'floor':>28}{'ceiling':>28}",
    ]
    for key, name in (
        ("fid", "FID" if m["measure"] == "FID" else "Fréchet"),
        ("kid", "KID"),
        ("precision", "precision"),
        ("recall", "recall"),
    ):
        cells = []
        for found in (m, m["floor"], m["ceiling"]):
            low, high = found[f"{key}_ci"]
            cells.append(f"{found[key]:.3g} [{low:.3g}, {high:.3g}]")
        lines.append(f"{name:12}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)
