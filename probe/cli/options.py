"""What the commands share: common options, opening a checkpoint, printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.base.errors import ProbeError
from probe.base.parameters import as_flags

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
Batchnorm = Annotated[
    str | None,
    typer.Option(
        "--batchnorm",
        metavar="running|batch|recalibrated",
        help="Where the generator's BatchNorms take their statistics from; default: what the file stores.",
    ),
]
Class = Annotated[
    int | None, typer.Option("--class", metavar="K", help="The class, from 0 on, that a conditional generator draws.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a checkpoint whose own statistics contradict how it was read.")
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


def load_gan(
    ckpt: str,
    disc: Path | None,
    model: str | None,
    prior: str | None,
    device: str,
    *,
    batchnorm: str | None = None,
    label: int | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> GAN:
    """Open what the common options name, on the device asked for; a reading in doubt is told on standard error."""
    from probe.checkpoints import load, warnings
    from probe.models.device import pick_device

    if prior not in (None, "uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    gan = load(
        None if model and ckpt == "rooms" else ckpt,
        disc=disc,
        model=model,
        prior=prior,  # type: ignore[arg-type]
        device=pick_device(device),
        strict=strict,
        batchnorm=batchnorm,  # type: ignore[arg-type]
        label=label,
    )
    for line in [] if quiet else warnings(gan):
        print(as_flags(line, {"batchnorm": "--batchnorm", "label": "--class", "model": "--model"}), file=sys.stderr)
    return gan


def opening(but: Container[str] = ()) -> dict[str, tuple[Any, Any]]:
    """The options that open a checkpoint, by name: annotation and default; without those that a command uses otherwise."""
    every = {
        "ckpt": (Ckpt, "rooms"),
        "disc": (Disc, None),
        "model": (Model, None),
        "prior": (PriorOption, None),
        "batchnorm": (Batchnorm, None),
        "label": (Class, None),
        "strict": (Strict, False),
    }
    return {name: row for name, row in every.items() if name not in but}


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def say(quiet: bool, *lines: str) -> None:
    """Print lines, unless quiet."""
    if not quiet:
        print("\n".join(lines))
