"""What a reader of a source answers, and what the readers share."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from probe.base.errors import ProbeError

Array = NDArray[Any]
Items = Generator[tuple[str, Callable[[], Image.Image], int | None], None, None]
"""A lazy stream of pictures: a name to report when unreadable, a function that opens it, a class label or None."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # PIL knows others that start foreign programs


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reader's answer: `stamp` changes with the content; `count` is None where unknown before the end.

    `ready`: images (N, 3, S, S) that need no preparation, and their labels (N,). `classes`: names of the labels 0, 1,
    …, where the source has such.
    """

    name: str
    stamp: str
    count: int | None
    items: Items
    ready: tuple[Array, Array] | None = None
    classes: tuple[str, ...] = ()


def existing(prefix: str, text: str) -> Path:
    """The path behind a prefix; raises ProbeError where nothing is there."""
    path = Path(text).expanduser()
    if not text or not path.exists():
        raise ProbeError(f"{prefix}:{text}: no such file or folder; expected {prefix}:PATH: check the path")
    return path


def reading(
    prefix: str,
    shown: Path | str,
    files: Iterable[Path],
    count: int | None,
    items: Items,
    classes: tuple[str, ...] = (),
) -> Reading:
    """A reading of files, stamped with their absolute paths, sizes and modification times."""
    name = f"{prefix}:{os.path.basename(os.path.abspath(shown)) if isinstance(shown, Path) else shown}"
    name = name.encode("utf-8", "backslashreplace").decode()  # bytes that are no text cannot be written as such
    stats = ((os.path.abspath(file), file.stat()) for file in files if file.exists())  # not so a broken link
    stamp = name + repr([(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats])
    return Reading(name=name, stamp=stamp, count=count, items=items, classes=classes)


@contextlib.contextmanager
def sound(where: str, errors: tuple[type[Exception], ...], wanted: str) -> Iterator[None]:
    """Turn a foreign library's errors about its input into one line."""
    try:
        yield
    except ProbeError:
        raise
    except errors as error:
        found = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ProbeError(f"{where}: {found}; expected {wanted}: check the source") from error


def extra(module: str, extra: str) -> Any:
    """Import an optional module; raises ProbeError naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ProbeError(f"{extra}: this source needs {package}: pip install 'dcgan-probe[{extra}]'") from error


def encoded(file: Path | bytes) -> Callable[[], Image.Image]:
    """What opens an encoded image, of the formats that cannot start foreign programs."""
    return partial(Image.open, io.BytesIO(file) if isinstance(file, bytes) else file, formats=_FORMATS)


def pictures(arrays: Iterable[Array], labels: Iterable[int | None], name: str) -> Items:
    """Pictures from uint8 arrays (H, W), or (H, W, C) with C of 1, 3 or 4."""
    for i, (array, label) in enumerate(zip(arrays, labels, strict=False)):
        array = array[..., 0] if array.shape[2:] == (1,) else array
        yield f"{name} image {i}", partial(Image.fromarray, array), label
