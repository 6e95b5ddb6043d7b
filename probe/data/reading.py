"""What a reader of a source answers, and what the readers share."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.base.errors import ProbeError

Array = NDArray[Any]
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What PIL may open: it knows others that start foreign programs, and leaves out those it was built without."""


class LeftOutError(ValueError):
    """Why a picture is left out, in words that hold for others, too."""


class Picture(Protocol):
    """One picture of a source, not opened yet."""

    def open(self) -> Image.Image | Array:
        """The picture, or its values where they are no bytes, (H, W) or (H, W, C)."""

    def sha256(self) -> bytes:
        """A digest of what the source holds of it."""


Items = Generator[tuple[str, Picture, int | None], None, None]
"""A lazy stream of pictures: the name it has in the source, the picture, a class label or None."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reader's answer: `stamp` changes with the files; `count` is None where unknown before the end.

    `items` streams the pictures, each time from the first. `ready`: images (N, 3, S, S) that need no preparation, and
    their labels (N,). `classes`: names of the labels 0, 1, …, where the source has such. `sha256` is given where the
    contents need not be read to know them. `left_out`: names and reasons of what is not among the items.
    """

    name: str
    stamp: str
    count: int | None
    items: Callable[[], Items]
    ready: tuple[Array, Array] | None = None
    classes: tuple[str, ...] = ()
    sha256: str = ""
    left_out: tuple[tuple[str, str], ...] = ()


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
    items: Callable[[], Items],
    classes: tuple[str, ...] = (),
    left_out: tuple[tuple[str, str], ...] = (),
) -> Reading:
    """A reading of files, stamped with their absolute paths, sizes and times, those of the last change among them.

    A file that is put in the place of another has its own such time, whatever modification time it was given.
    """
    name = f"{prefix}:{os.path.basename(os.path.abspath(shown)) if isinstance(shown, Path) else shown}"
    name = name.encode("utf-8", "backslashreplace").decode()  # bytes that are no text cannot be written as such
    stats = ((os.path.abspath(file), file.stat()) for file in files if file.exists())  # not so a broken link
    stamp = name + repr([(file, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for file, stat in stats])
    return Reading(name=name, stamp=stamp, count=count, items=items, classes=classes, left_out=left_out)


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


@dataclass(frozen=True)
class Encoded:
    """A picture in a file, or in the bytes of one, of the formats that cannot start foreign programs."""

    file: Path | bytes

    def open(self) -> Image.Image:
        """The picture; raises what PIL raises."""
        return Image.open(io.BytesIO(self.file) if isinstance(self.file, bytes) else self.file, formats=FORMATS)

    def sha256(self) -> bytes:
        """A digest of the file as it is, or of nothing where there is none."""
        if isinstance(self.file, bytes):
            return hashlib.sha256(self.file).digest()
        try:
            with self.file.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return hashlib.sha256().digest()


@dataclass(frozen=True)
class Drawn:
    """A picture as an array, (H, W) or (H, W, C) with C of 1, 3 or 4."""

    array: Array

    def open(self) -> Image.Image | Array:
        """The picture, or the array itself where it holds no bytes."""
        array = self.array[..., 0] if self.array.shape[2:] == (1,) else self.array
        return Image.fromarray(array) if array.dtype == np.uint8 else array

    def sha256(self) -> bytes:
        """A digest of the values and their shape."""
        return hashlib.sha256(repr(self.array.shape).encode() + self.array.tobytes()).digest()


@dataclass(frozen=True)
class Fetched:
    """A picture that only the dataset itself can fetch, known by its pixels."""

    fetch: Callable[[], Image.Image]

    def open(self) -> Image.Image:
        """The picture; raises whatever fetching it raises."""
        return self.fetch()

    def sha256(self) -> bytes:
        """A digest of its pixels, or of nothing where it cannot be fetched."""
        try:
            image = self.fetch()
        except Exception:  # of any foreign library
            return hashlib.sha256().digest()
        return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).digest()


def drawn(arrays: Iterable[Array], labels: Iterable[int | None], name: str) -> Items:
    """Pictures from arrays (H, W), or (H, W, C) with C of 1, 3 or 4."""
    for i, (array, label) in enumerate(zip(arrays, labels, strict=False)):
        yield f"{name} image {i}", Drawn(array), label
