"""What the commands share: common options, opening a checkpoint, printing."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from probe.base.errors import ProbeError
from probe.base.parameters import as_flags

if TYPE_CHECKING:
    from probe.models.gan import GAN

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


_CKPT = "Checkpoint: a file, a folder, or the built-in `rooms` (the default)."
_DISC = "The discriminator's file; without --ckpt it is opened alone, for what is asked of a discriminator."
_DISC_MODEL = "Any other discriminator module, as pkg.module:factory; --disc is loaded into it."
_BATCHNORM = "Where the generator's BatchNorms take their statistics from; default: what the file stores."
_CLASS = "The class, from 0 on, that a conditional generator draws; `probe sample` takes all, for a row each."


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The options that open a checkpoint."""

    ckpt: Annotated[str | None, typer.Option("--ckpt", metavar="FILE", help=_CKPT)] = None
    disc: Annotated[Path | None, typer.Option("--disc", metavar="FILE", help=_DISC)] = None
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Any other generator module, as pkg.module:factory.")
    ] = None
    disc_model: Annotated[str | None, typer.Option("--disc-model", metavar="NAME", help=_DISC_MODEL)] = None
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior", metavar="uniform|normal", help="The latents' prior, where the checkpoint does not say."
        ),
    ] = None
    batchnorm: Annotated[
        str | None, typer.Option("--batchnorm", metavar="running|batch|recalibrated", help=_BATCHNORM)
    ] = None
    label: Annotated[str | None, typer.Option("--class", metavar="K|all", help=_CLASS)] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a checkpoint whose own statistics contradict how it was read.")
    ] = False

    @property
    def named(self) -> str:
        """The checkpoint, as it was named."""
        return self.ckpt or self.model or str(self.disc or self.disc_model or "rooms")

    def load(self, device: str, quiet: bool = False) -> GAN:
        """Open it on a device; a reading in doubt is told on standard error."""
        from probe.checkpoints import load, warnings
        from probe.models.device import pick_device

        if self.prior not in (None, "uniform", "normal"):
            raise ProbeError(f"`prior` {self.prior}: expected uniform or normal")
        if self.label == "all":
            raise ProbeError(
                "`label` all: a row for each class is what `probe sample` draws; choose one class, from 0 on"
            )
        if self.label is not None and not self.label.isdecimal():
            raise ProbeError(f"`label` {self.label}: expected a class, from 0 on, or all")
        alone = self.model or self.disc or self.disc_model
        gan = load(
            self.ckpt or (None if alone else "rooms"),
            disc=self.disc,
            model=self.model,
            disc_model=self.disc_model,
            prior=self.prior,  # type: ignore[arg-type]
            device=pick_device(device),
            strict=self.strict,
            batchnorm=self.batchnorm,  # type: ignore[arg-type]
            label=None if self.label is None else int(self.label),
        )
        for line in [] if quiet else warnings(gan):
            print(as_flags(line, FLAGS), file=sys.stderr)
        return gan

    def every_class(self, device: str, quiet: bool = False) -> list[GAN]:
        """Open it at each of its classes; raises ProbeError for a generator without classes."""
        first = replace(self, label="0").load(device, quiet)
        return [first.at_class(k) for k in range(first.provenance["class"]["classes"])]


FLAGS = {"batchnorm": "--batchnorm", "label": "--class", "model": "--model", "prior": "--prior", "disc": "--disc"}
"""Parameters of `probe.load` -> options."""


def opening(but: Container[str] = ()) -> list[inspect.Parameter]:
    """The options that open a checkpoint, without those that a command uses otherwise."""
    kinds = get_type_hints(Opening, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(f.name, keyword, annotation=kinds[f.name], default=f.default)
        for f in fields(Opening)
        if f.name not in but
    ]


def opens(*but: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first parameter is an `Opening`, with the options that open a checkpoint in its place, but some."""

    def extended(call: Callable[..., None]) -> Callable[..., None]:
        parameters = opening(but)
        names = [p.name for p in parameters]

        @functools.wraps(call)
        def run(**given: Any) -> None:
            call(Opening(**{name: given.pop(name) for name in names}), **given)

        _, *own = inspect.signature(call, eval_str=True).parameters.values()
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature([*parameters, *keyword])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*parameters, *keyword)}
        return run

    return extended


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def say(quiet: bool, *lines: str) -> None:
    """Print lines, unless quiet."""
    if not quiet:
        print("\n".join(lines))
