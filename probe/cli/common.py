"""What the commands share: the application, its common options, loading and printing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.base.errors import ProbeError

if TYPE_CHECKING:
    from probe.models.gan import GAN
    from probe.results.result import Result

app = typer.Typer(
    name="probe", add_completion=False, rich_markup_mode=None,
    help="Look inside a trained DCGAN and operate on it: one command a question, each ending in a figure and a result.",
)  # fmt: skip

Ckpt = Annotated[str, typer.Option("--ckpt", help="Checkpoint: a file, a directory, or the built-in `rooms`.")]
Disc = Annotated[Path | None, typer.Option("--disc", help="The discriminator's file, where it is a separate one.")]
Model = Annotated[str | None, typer.Option("--model", help="pkg.module:factory for any other generator module.")]
PriorOption = Annotated[
    str | None, typer.Option("--prior", help="uniform or normal, where the checkpoint does not say.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of everything random.")]
LabelSeed = Annotated[
    int | None,
    typer.Option(
        "--label-seed", min=0, max=2**31 - 1, help="Seed of the labelled samples, where the file does not say."
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Formats = Annotated[str, typer.Option("--format", help="Figure formats, comma-separated: png, pdf, svg.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON, nothing else.")]
Layer = Annotated[str | None, typer.Option("--layer", help="A layer by name (layer2), rank (2, -2) or grid (8x8).")]


def load_gan(ckpt: str, disc: Path | None, model: str | None, prior: str | None, device: str) -> GAN:
    """Open what the common options name, on the device asked for."""
    from probe.checkpoints import load
    from probe.results.runs import pick_device

    if prior not in (None, "uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    path = None if model and ckpt == "rooms" else ckpt
    return load(path, disc=disc, model=model, prior=prior, device=pick_device(device))  # type: ignore[arg-type]


def figure_formats(text: str) -> list[str]:
    """The formats of --format; raises ProbeError for one that is not drawn."""
    formats = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [f for f in formats if f not in ("png", "pdf", "svg")]
    if wrong or not formats:
        raise ProbeError(f"format {wrong[0] if wrong else '(none)'}: expected png, pdf or svg, comma-separated")
    return formats


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def conclude(result: Result, figure: Path, as_json: bool, text: str) -> None:
    """Say what came out: the metrics as JSON, or a text and where the figure is."""
    if as_json:
        print_json(result.document()["metrics"])
    else:
        print(f"{text}\nfigure: {figure}")
