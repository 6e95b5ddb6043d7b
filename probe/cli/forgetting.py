"""`probe forget-windows` and `probe forget`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli.common import (
    AsJson,
    Ckpt,
    Device,
    Disc,
    Formats,
    LabelSeed,
    Layer,
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)

if TYPE_CHECKING:
    from probe.models.gan import GAN


@app.command("forget-windows")
def forget_windows(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO JSON of window boxes; not needed on rooms.")] = None,
    label_seed: LabelSeed = None,
    samples: Annotated[int, typer.Option(help="Samples to label with the built-in segmenter.", min=16)] = 150,
    layer: Layer = None,
    negatives: Annotated[str, typer.Option(help="auto, same-image (the paper) or same-place, for the logistic weights.")] = "auto",
    draws: Annotated[int, typer.Option(help="Random edits a control.", min=1)] = 200,
    save: Annotated[Path | None, typer.Option("--save", help="Write the operated generator as a checkpoint.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/forget-windows"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the generator forget windows (figure 6). Measures what else it lost, beside controls."""
    opened = partial(load_gan, ckpt, disc, model, prior, device)
    _forget(opened, "window", labels, label_seed, samples, layer, negatives, draws, save, out, seed, formats, as_json)


@app.command()
def forget(
    concept: Annotated[str, typer.Option("--concept", help="Name of a category in the labels file.")],
    labels: Annotated[Path, typer.Option("--labels", help="COCO JSON of boxes on samples of this generator.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    label_seed: LabelSeed = None,
    layer: Layer = None,
    negatives: Annotated[str, typer.Option(help="auto, same-image (the paper) or same-place, for the logistic weights.")] = "auto",
    draws: Annotated[int, typer.Option(help="Random edits a control.", min=1)] = 200,
    save: Annotated[Path | None, typer.Option("--save", help="Write the operated generator as a checkpoint.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/forget"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the generator forget a concept boxed by hand. Measures what else it lost, beside controls."""
    opened = partial(load_gan, ckpt, disc, model, prior, device)
    _forget(opened, concept, labels, label_seed, 0, layer, negatives, draws, save, out, seed, formats, as_json)


def _forget(
    opened: Callable[[], GAN], concept: str, labels: Path | None, label_seed: int | None, samples: int, layer: str | None, negatives: str,
    draws: int, save: Path | None, out: Path, seed: int, formats: str, as_json: bool,
) -> None:  # fmt: skip
    from probe.checkpoints import save as save_checkpoint
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    gan = opened()
    if save is not None:
        runs.check_rebuildable(gan, save)
    with runs.progress(as_json) as tell:
        result = questions.forget(
            gan, concept, labels=labels, label_seed=label_seed, samples=samples, layer=layer, negatives=negatives,
            draws=draws, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    if save is not None and result.gan is not None:
        save_checkpoint(result.gan, save)
    conclude(
        result, figure, as_json, summarise(result).text + (f"\ncheckpoint without {concept}: {save}" if save else "")
    )
