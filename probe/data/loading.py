"""Images to train on and to probe with: many sources, one preparation, one cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import PIL
from PIL import Image, ImageOps

from probe.base.errors import ProbeError
from probe.data.reading import Array, Reading
from probe.data.rooms import scenes as rooms
from probe.data.sources import ROOMS, SOURCES

Progress = Callable[[int, int | None], None]
_PREPARATION = 3  # part of the cache's key: to be raised when `prepare` or a source's labels change


@dataclass(frozen=True)
class Images:
    """Prepared images: (N, C, S, S) uint8 in 0 … 255, read-only, in the same order on every machine.

    `labels` (N,) int64, -1 where one is missing, or None; `name` is the source with base names only, such as
    `folder:bedrooms`; `skipped` are the base names of what could not be read; `resized` counts those of another size;
    `classes` names the labels 0, 1, … of a source that has names for them.
    """

    images: Array
    labels: Array | None
    name: str
    skipped: tuple[str, ...] = ()
    resized: int = 0
    classes: tuple[str, ...] = ()


def prepare(image: Image.Image, size: int, channels: int) -> Array:
    """One picture -> (channels, size, size) uint8: the paper's min-resize and centre crop.

    The shorter side becomes `size` by PIL's BICUBIC, which is antialiased when it shrinks; only the centred square is
    resized, so that a very long picture costs no memory. A picture of that size is left untouched. EXIF rotation is
    applied, transparency becomes white, 16-bit greys keep their upper 8 bits, an animation gives its first frame.
    Raises what PIL raises on an unreadable picture, and ValueError where it has no pixels or they are floats.
    """
    image = ImageOps.exif_transpose(image)
    if min(image.size) < 1:
        raise ValueError("a picture without pixels")
    if image.mode == "F":
        raise ValueError("pixels are floats of an unknown range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)  # (C, S, S)


def load(
    source: str, size: int = 64, channels: int = 3, limit: int | None = None, progress: Progress | None = None
) -> Images:
    """Images of a source given as text: a folder, or a prefix of `SOURCES` and what its reader takes.

    `limit` keeps the first readable images. Pictures are decoded once, into the cache (`$PROBE_CACHE`, else
    `~/.cache/probe`; safe to delete), whose key holds paths, sizes and times of the source's files; for `hf` it
    holds the name only. `progress(done, total)` is called while decoding, with total None where unknown.
    Raises ProbeError when the source is unknown, missing, malformed or without a readable image.
    """
    if size < 1 or channels not in (1, 3) or (limit is not None and limit < 1):
        found = f"size {size}, channels {channels}, limit {limit}"
        raise ProbeError(f"{source}: {found} asked for; expected size >= 1, channels 1 or 3, limit >= 1 or none")
    prefix, text = _parts(source)
    try:
        reading = SOURCES[prefix](text, size, limit)
        if reading.ready and channels == 3:
            return Images(*reading.ready, name=reading.name)
        key = repr((reading.stamp, size, channels, limit, _PREPARATION, PIL.__version__))
        folder = rooms.cache_dir() / f"data-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
        if not folder.exists():
            _write(reading, folder, (channels, size, size), limit, progress)
        with np.load(folder / "about.npz") as about:
            labels, skipped, resized = about["labels"], tuple(about["skipped"].tolist()), int(about["resized"])
        images = np.load(folder / "images.npy", mmap_mode="r")
        return Images(images, labels if len(labels) else None, reading.name, skipped, resized, reading.classes)
    except (OSError, EOFError) as error:
        advice = "expected a readable source and a writable cache: check both, or set PROBE_CACHE to another folder"
        raise ProbeError(f"{source}: {error}; {advice}") from error


def stamp(source: str) -> str:
    """A text that changes with the files of a source (of rooms never); raises ProbeError where it is missing."""
    prefix, text = _parts(source)
    try:
        return source if prefix in ROOMS else SOURCES[prefix](text, 1, None).stamp
    except (OSError, EOFError) as error:
        raise ProbeError(f"{source}: {error}; expected a readable source: check it") from error


def _parts(source: str) -> tuple[str, str]:
    """A source's prefix, known, and what stands behind it."""
    prefix, colon, text = source.partition(":")
    if source in ROOMS or (colon and prefix in SOURCES):
        return prefix, text
    if re.fullmatch(r"\w[\w@]+", prefix) and colon and not Path(source).exists():
        raise ProbeError(f"{source}: unknown source '{prefix}'; expected a folder or one of {', '.join(SOURCES)}")
    return "folder", source


def _write(
    reading: Reading, folder: Path, shape: tuple[int, int, int], limit: int | None, progress: Progress | None
) -> None:
    """Prepare a reading into a cache folder, a picture at a time: under a temporary name, moved when complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".data-", ignore_cleanup_errors=True) as outer:
        temporary = Path(outer, "data")
        temporary.mkdir()
        with (temporary / "images.npy").open("wb") as file, contextlib.closing(reading.items):
            labels, skipped, resized = _fill(file, reading, shape, limit, progress or (lambda done, total: None))
        if not labels:
            found = f"all {len(skipped)} images are unreadable, such as {skipped[0]}" if skipped else "0 images found"
            raise ProbeError(f"{reading.name}: {found}; expected at least one readable image: check the source")
        numbers = [-1 if label is None else label for label in labels] if set(labels) != {None} else []
        np.savez(
            temporary / "about.npz",
            labels=np.array(numbers, np.int64),
            skipped=np.array(skipped, np.str_),
            resized=resized,
        )
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.exists():  # unless another process finished first
                raise


def _fill(
    file: IO[bytes], reading: Reading, shape: tuple[int, int, int], limit: int | None, progress: Progress
) -> tuple[list[int | None], list[str], int]:
    """Write a reading's pictures as a .npy file; returns labels, what is unreadable, how many were resized."""
    total = min((n for n in (reading.count, limit) if n is not None), default=None)
    labels: list[int | None] = []
    skipped: list[str] = []
    resized = 0

    def header() -> None:  # of the same length whatever the number of images
        layout = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *shape)}
        np.lib.format.write_array_header_1_0(file, layout)

    header()
    for name, opened, label in reading.items:
        picture = _readable(opened, shape)
        if picture is None:
            skipped.append(name)
            continue
        file.write(picture[0].tobytes())
        resized += picture[1] != shape[1:]
        labels.append(label)
        if len(labels) % 256 == 0:
            progress(len(labels), total)
        if len(labels) == limit:
            break
    if len(labels) % 256:
        progress(len(labels), total)
    file.seek(0)
    header()
    return labels, skipped, resized


def _readable(opened: Callable[[], Image.Image], shape: tuple[int, int, int]) -> tuple[Array, tuple[int, int]] | None:
    """The prepared picture (C, S, S) and the size it had, or None when it is unreadable or a decompression bomb."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with opened() as image:
                return prepare(image, shape[1], shape[0]), image.size
        except Exception:  # PIL's decoders raise whatever they stumble over
            return None
