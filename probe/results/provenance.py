"""Where a result comes from, recorded with it and inside of its figure, and the command that repeats it; needs no torch."""

from __future__ import annotations

import json
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from probe.base.errors import ProbeError
from probe.base.files import picture
from probe.results.record import Record

_Found = TypeVar("_Found", bound=Record)
_SUBJECT = re.compile(rb"/Subject \(((?:\\.|[^\\)])*)\)", re.DOTALL)
_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
_WRITES = ("--out", "--save")  # the first is replaced, the second would write outside of the new folder
_RECIPE = re.compile(r"analyses\.\w+")


def versions() -> dict[str, str]:
    """Versions of probe, torch and Python, without importing torch."""
    out = {"python": platform.python_version()}
    for name, package in (("probe", "dcgan-probe"), ("torch", "torch")):
        try:
            out[name] = version(package)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def command_line(argv: Sequence[str]) -> str:
    """The command with paths cut to their base names, as results record it; names such as `window/day` stay."""

    def short(before: str, word: str) -> str:
        head, rest = re.match(r"((?:--[\w-]+=)?(?:\w+:)?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
        path = (before.startswith("-") or head or Path(rest).exists()) and not re.search(" [-+=] ", rest)
        return head + (Path(rest).name if "/" in rest and path else rest)

    return shlex.join(["probe", *map(short, ["", *argv[:-1]], argv)])


def about(gan: Any, seed: int) -> dict[str, Any]:
    """Where a result came from: checkpoint, versions, seed, device, precision."""
    run = {"seed": seed, "device": gan.device.type, "precision": "float32"}
    return {**gan.provenance, "prior": gan.prior, "batchnorm": gan.batchnorm, "versions": versions(), **run}


def finished(result: _Found, gan: Any, seed: int, notes: Sequence[str] = ()) -> _Found:
    """A result with what was assumed on the way, and where it came from."""
    result.assumptions += notes
    result.provenance = about(gan, seed)
    return result


def provenance(gan: Any, seed: int) -> dict[str, Any]:
    """The same, and the command that is running."""
    return {**about(gan, seed), "command": command_line(sys.argv[1:])}


def read(path: Path) -> dict[str, Any]:
    """The provenance inside a figure; raises ProbeError where there is none."""
    found: str | bytes | None = None
    try:
        if path.suffix == ".pdf":
            subject = _SUBJECT.search(path.read_bytes())
            found = subject and re.sub(rb"\\(.)", rb"\1", subject[1])
        elif path.suffix == ".svg":
            found = ElementTree.parse(path).findtext(f".//{_DESCRIPTION}")
        else:
            with picture(path) as image:
                found = image.info.get("probe")
        about = json.loads(found or "null")
    except (OSError, ValueError, RecursionError, ElementTree.ParseError) as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError):
            raise ProbeError(f"{path}: {error.strerror}; expected a figure that probe drew") from error
        about = None
    if not isinstance(about, dict):
        raise ProbeError(f"{path}: holds no provenance; expected a PNG, PDF or SVG that probe drew")
    return about


def told(path: Path) -> str:
    """A figure's provenance in lines, and last the commands that made it."""
    about = read(path)
    commands = {"repeated by": about.pop("command", None), "drawn by": about.pop("drawn", None)}
    lines = [f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in about.items()]
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in commands.items() if value)])


def repeated(command: str | None, extra: Sequence[str], out: Path) -> list[str]:
    """The words of a recorded command, its options replaced by those of `extra`, writing to `out`."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        words = []
    if words[:1] == ["probe"] and words[1:2] != ["rerun"]:
        head = 1
    elif words[:2] == ["python", "-m"] and len(words) > 2 and _RECIPE.fullmatch(words[2]):
        head = 3
    else:
        raise ProbeError(
            f"the result's command is {command!r}; expected one of probe's or a recipe's, nothing else is run"
        )
    given = {word.split("=")[0] for word in extra if re.match(r"--?[a-zA-Z]", word)}
    return [*words[:head], *_without(words[head:], given.union(_WRITES)), *extra, "--out", str(out)]


def _without(words: Sequence[str], names: set[str]) -> Iterator[str]:
    """Words without some options and their values."""
    skipped = False
    for word in words:
        named = word.split("=")[0] in names
        value = skipped and not re.match(r"--?[a-zA-Z]", word)  # which may be negative
        if not named and not value and word != "--json":
            yield word
        skipped = named and "=" not in word
