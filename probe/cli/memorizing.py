"""`probe memorization`: does the generator copy its training images?"""

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


@app.command()
def memorization(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    data: Annotated[str | None, typer.Option("--data", help="The source given to `probe train --holdout`; the checkpoint knows its split.")] = None,
    train: Annotated[str | None, typer.Option("--train", help="Training images, where the checkpoint does not know them.")] = None,
    holdout: Annotated[str | None, typer.Option("--holdout-data", help="Images of the same kind that were not trained on.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="The list that `probe train --exclude` took, where it did.")] = None,
    distance: Annotated[str, typer.Option(help="pixels, random-conv, or pkg.module:factory; never the audited D's features.")] = "pixels",
    samples: Annotated[int, typer.Option(help="Samples tested.", max=100_000)] = 2000,
    permutations: Annotated[int, typer.Option(help="Label permutations.", max=100_000)] = 999,
    targets: Annotated[int, typer.Option(help="Training images recovered in latent space, as copies to plant; few of them understate the power.", max=2000)] = 200,
    out: Annotated[Path, typer.Option("--out")] = Path("out/memorization"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Test for copies against held-out images: verdict, p-value, share of copies, power, nearest images."""
    from probe import features, runs
    from probe.memorization import Settings
    from probe.memorization import memorization as run

    wanted = figure_formats(formats)
    runs.check_output(out)
    settings = Settings(samples, permutations, targets, seed=seed)
    gan = load_gan(ckpt, disc, model, prior, device)
    phi = features.feature(distance, gan.channels)
    with runs.progress(as_json) as tell:
        known, held, notes = _images(gan, data, train, holdout, exclude, tell)
        result = run(gan, known, held, phi, settings, tell)
    result.assumptions += notes
    result.provenance = runs.provenance(gan, seed)
    conclude(result, runs.publish(result, out, wanted), as_json, _summary(result.metrics))


def _images(
    gan: GAN, data: str | None, train: str | None, holdout: str | None, exclude: Path | None, tell: Report
) -> tuple[Array, Array | None, list[str]]:
    """Training and held-out images, from the checkpoint's own split or as given, and where they come from."""
    from probe import data as sources
    from probe import exclusion
    from probe.memorization import known_split, own_split

    def read(source: str) -> sources.Images:
        return sources.load(
            source, gan.size, gan.channels, progress=lambda done, total: tell(f"reading {source}", done, total or done)
        )

    if train:
        if data:
            raise ProbeError("--data and --train both given; --data is for a checkpoint that knows its split")
        if exclude:
            raise ProbeError("--exclude with --train; it is for --data, of a checkpoint trained with such a list")
        known, held = read(train), read(holdout) if holdout else None
        note = f"training images: {known.name}; held out: {held.name if held else 'none'}, as given"
        return known.images, held.images if held else None, [note]
    if holdout:
        raise ProbeError("--holdout-data without --train; pass the training images as --train")
    known_split(gan)  # before images are read
    source = data or (gan.provenance.get("training") or {}).get("source", "")
    if not data and not source.startswith("rooms"):
        raise ProbeError(
            "no images: pass --data (the source of `probe train --holdout`), or --train and --holdout-data"
        )
    left_out = exclusion.load(exclude) if exclude else None
    images = read(source)
    return (
        *own_split(gan, images.images, images.name, left_out),
        [f"training and held-out images: the checkpoint's own split of {images.name}"],
    )


def _summary(m: dict[str, Any]) -> str:
    floor = f" at >= {m['floor']:.0%}" if m["floor"] else ""
    lines = [f"{m['verdict']}{floor}: {m['reason']}"]
    if m["p_value"] is not None:
        low, high = m["copy_share_ci"]
        lines.append(
            f"p = {m['p_value']:.3g}; share of copies {m['copy_share']:.1%} [{low:.1%}, {high:.1%}]; C_T {m['ct']:.1f}"
        )
    lines.append(
        f"authenticity {m['authenticity']:.2f}; {m['samples']} samples, {m['train_images']} training and "
        f"{m['holdout_images']} held-out images, distance in {m['distance']}. No guarantee of privacy."
    )
    return "\n".join(lines)
