"""What the commands share: common options, opening a checkpoint, printing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.base.errors import ProbeError

if TYPE_CHECKING:
    from probe.models.gan import GAN

Ckpt = Annotated[
    str, typer.Option("--ckpt", metavar="FILE", help="Checkpoint: a file, a folder, or the built-in `rooms`.")
]
Disc = Annotated[
    Path | None, typer.Option("--disc", metavar="FILE", help="The discriminator's file, where it is a separate one.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Any other generator module, as pkg.module:factory."),
]
PriorOption = Annotated[
    str | None,
    typer.Option("--prior", metavar="uniform|normal", help="The latents' prior, where the checkpoint does not say."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Seed of everything random.")]
LabelSeed = Annotated[
    int | None,
    typer.Option(
        "--label-seed",
        metavar="N",
        min=0,
        max=2**31 - 1,
        help="Seed of the labelled samples, where the file does not say.",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where the networks run.")]
Formats = Annotated[
    str, typer.Option("--format", metavar="NAMES", help="Figure formats, comma-separated: png, pdf, svg.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


def out_of(default: str) -> Any:
    """The option --out, with its own default by command."""
    words = f"Folder of the result, replaced as a whole (default: {default})."
    return Annotated[Path, typer.Option("--out", metavar="FOLDER", help=words, show_default=False)]


def load_gan(ckpt: str, disc: Path | None, model: str | None, prior: str | None, device: str) -> GAN:
    """Open what the common options name, on the device asked for."""
    from probe.checkpoints import load
    from probe.models.device import pick_device

    if prior not in (None, "uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    path = None if model and ckpt == "rooms" else ckpt
    return load(path, disc=disc, model=model, prior=prior, device=pick_device(device))  # type: ignore[arg-type]


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def say(quiet: bool, *lines: str) -> None:
    """Print lines, unless quiet."""
    if not quiet:
        print("\n".join(lines))
