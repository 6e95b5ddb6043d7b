"""What every command shares: the device, provenance, progress, and an output folder that appears whole or not at all."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from probe.base.errors import ProbeError
from probe.base.files import replacing, writing
from probe.results.result import Result, load, versions

if TYPE_CHECKING:
    from probe.models.gan import GAN
    from probe.training.loop import Progress

_OF_A_RESULT = re.compile(
    r"result\.json|arrays\.safetensors|figure\.(png|pdf|svg)|caption\.(tex|txt)|(table|units)\.(csv|tex)|"
    r"exclude\.json|atlas\.pdf|walk\.gif|images/\d{6}\.png|compared/.*|(.*/)?\.DS_Store"
)


def pick_device(name: str) -> str:
    """`auto` is CUDA, else Apple's MPS, else the CPU; raises ProbeError for a device this machine lacks."""
    import torch

    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(d for d in ("cuda", "mps", "cpu") if have[d])
    if name.split(":")[0] not in have:
        raise ProbeError(f"device {name}: expected auto, cpu, cuda or mps")
    try:
        torch.device(name)
    except RuntimeError:
        raise ProbeError(f"device {name}: expected auto, cpu, cuda or mps, or cuda:0 and so on") from None
    if not have[name.split(":")[0]]:
        raise ProbeError(f"device {name}: torch sees none on this machine; use --device auto")
    return name


def command_line(argv: Sequence[str]) -> str:
    """The command with paths cut to their base names, as results record it; names such as `window/day` stay."""

    def short(before: str, word: str) -> str:
        head, rest = re.match(r"((?:--[\w-]+=)?(?:\w+:)?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
        path = (before.startswith("-") or head or Path(rest).exists()) and not re.search(" [-+=] ", rest)
        return head + (Path(rest).name if "/" in rest and path else rest)

    return shlex.join(["probe", *map(short, ["", *argv[:-1]], argv)])


def about(gan: GAN, seed: int) -> dict[str, Any]:
    """Where a result came from: checkpoint, versions, seed, device, precision."""
    run = {"seed": seed, "device": gan.device.type, "precision": "float32"}
    return {**gan.provenance, "prior": gan.prior, "batchnorm": gan.batchnorm, "versions": versions(), **run}


def provenance(gan: GAN, seed: int) -> dict[str, Any]:
    """The same, and the command that is running."""
    return {**about(gan, seed), "command": command_line(sys.argv[1:])}


def check_output(out: Path) -> None:
    """Refuse, before any work, to replace a folder that is not a result of probe, or that holds more than one."""
    if out.exists() and not (out.is_dir() and ((out / "result.json").exists() or not any(out.iterdir()))):
        raise ProbeError(f"{out}: exists and is not a result of probe; choose another --out")
    held = (path for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    names = (path.relative_to(out).as_posix() for path in held)
    foreign = next((name for name in names if not _OF_A_RESULT.fullmatch(name)), None)
    if foreign:
        raise ProbeError(
            f"{out}: holds {foreign}, which is no part of a result and would be lost; move it or choose another --out"
        )
    parent = next(p for p in (out, *out.resolve().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise ProbeError(f"{out}: cannot write there (permission denied in {parent}); choose another --out")


def check_rebuildable(gan: GAN, path: Path, ordinary: bool = False) -> None:
    """Refuse, before any work, to save an operated generator that cannot be rebuilt or has nowhere to go.

    `ordinary` says that the operation leaves the generator's architecture as it is.
    """
    from probe.checkpoints import export

    if not path.name or (path.exists() and not path.is_file()):
        raise ProbeError(f"--save {path}: is no file; expected a file's name, such as edited.safetensors")
    if not hasattr(gan.generator, "blocks"):
        kind = type(gan.generator).__name__
        raise ProbeError(f"--save {path}: the generator is a {kind}; only a DCGAN read by probe can be rebuilt")
    if path.suffix in export.SUFFIXES:
        if not ordinary:
            raise ProbeError(f"--save {path}: an erasure has no place in a {path.suffix} file; use .safetensors")
        export.check(gan, path)
    with writing(path.with_name(f".{path.name}.try")):
        pass
    path.with_name(f".{path.name}.try").unlink()


def publish(result: Result, out: Path, formats: Sequence[str], extra: Callable[[Path], None] | None = None) -> Path:
    """Save and draw a result into `out`, replaced as a whole; returns the first figure's path."""
    from probe.plots import draw

    with replacing(out) as folder:
        result.save(folder)
        figures = draw(load(folder), folder, formats)  # as it will be drawn again: with numbers as they were written
        if extra:
            extra(folder)
    return out / figures[0].name


class Report(Protocol):
    """Tells of a named task: how much is done, of how much, and a note behind the name."""

    def __call__(self, name: str, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def progress(quiet: bool = False) -> Iterator[Report]:
    """A bar with time left for each named task, on standard error; silent where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda name, done, total, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def tell(name: str, done: int, total: int, note: str = "") -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total, description=f"{name}  {note}".strip())

        yield tell


@contextmanager
def training_bar(quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Reports a training run's losses and time left; warnings are printed once, terminal or not."""
    warned: set[str] = set()
    with progress(quiet) as tell:

        def report(p: Progress) -> None:
            tell("training", p.step, p.steps, f"loss D {p.loss_d:.2f}  G {p.loss_g:.2f}")
            if p.warning and p.warning not in warned:
                warned.add(p.warning)
                print(f"step {p.step}: {p.warning}", file=sys.stderr)

        yield report
