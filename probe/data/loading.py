"""Images to train on and to probe with: many sources, one preparation, one cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
from PIL import Image, ImageOps

from probe.base import reads
from probe.base.errors import ProbeError
from probe.data.ranges import SIXTEEN, Levels, Range
from probe.data.reading import Array, Drawn, LeftOutError, Picture, Reading
from probe.data.rooms import scenes as rooms
from probe.data.sources import ROOMS, SOURCES

_DARK = 16  # of 256: 16-bit colours below it hold 12 bits at most, of which the decoder's upper eight say little
Progress = Callable[[int, int | None], None]
_PREPARATION = 4  # part of the cache's key: to be raised when `prepare` or a source's labels change


@dataclass(frozen=True)
class Images:
    """Prepared images: (N, C, S, S) uint8 in 0 … 255, read-only, in the same order on every machine.

    `labels` (N,) int64, -1 where one is missing, or None; `name` is the source with base names only, such as
    `folder:bedrooms`; `skipped` are the names of what was left out and `why` (as many) the reasons; `resized` counts
    those of another size; `classes` names the labels 0, 1, … of a source that has names for them; `names` are those of
    the images in the source, none where it is an array or drawn; `levels` says what was assumed of values whose type does not tell their
    range. `sha256` is a digest of the contents in their order, whatever size they are prepared to: two sources are the
    same where it is.
    """

    images: Array
    labels: Array | None
    name: str
    skipped: tuple[str, ...] = ()
    resized: int = 0
    classes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    sha256: str = ""

    def named(self, i: int) -> str:
        """What image i is called in its source."""
        return self.names[i] if self.names else f"image {i}"

    def about(self) -> dict[str, Any]:
        """What a result keeps of the source: its name, its contents' digest, how many were read, left out, resized."""
        made: dict[str, Any] = {"source": self.name, "sha256": self.sha256, "read": len(self.images)}
        made |= {"left_out": len(self.skipped), "resized": self.resized}
        reasons = {why: [n for n, w in zip(self.skipped, self.why, strict=True) if w == why] for why in self.why}
        made |= {"why": {why: [*n[:3], *(["…"] if n[3:] else [])] for why, n in reasons.items()}} if reasons else {}
        return made | ({"levels": list(self.levels)} if self.levels else {})

    def told(self) -> str:
        """The same in a line for people: nothing of rooms, which are drawn; of a source what became of its files."""
        if self.name.partition(":")[0] in ROOMS:
            return ""
        reasons = dict.fromkeys(self.why)
        left = []
        for why in reasons:
            names = [name for name, w in zip(self.skipped, self.why, strict=True) if w == why]
            left.append(f"{len(names)} left out as {why}: {', '.join(names[:3])}{' …' if names[3:] else ''}")
        size = self.images.shape[-1]
        resized = [f"{self.resized} of another size resized to {size}x{size} (shorter side, centre crop)"]
        return "; ".join(
            [f"{self.name}: {len(self.images)} images read", *left, *(resized if self.resized else []), *self.levels]
        )


def prepare(image: Image.Image, size: int, channels: int, levels: Levels | None = None) -> Array:
    """One picture -> (channels, size, size) uint8: the paper's min-resize and centre crop.

    The shorter side becomes `size` by PIL's BICUBIC, which is antialiased when it shrinks; only the centred square is
    resized, so that a very long picture costs no memory. A picture of that size is left untouched. EXIF rotation is
    applied, transparency becomes white, an animation gives its first frame. `levels` say which values of greys of more
    than 8 bits and of floats are black and white, and note what they see; without them 16-bit greys keep their upper
    8 bits. Raises what PIL raises on an unreadable picture, and ValueError where it has no pixels or their range is not
    known.
    """
    levels = levels or Levels({"whole": SIXTEEN, "floats": ValueError("pixels are floats of an unknown range")})
    coloured = ";16" in str(getattr(image, "tile", "")) and not image.mode.startswith("I")
    image = ImageOps.exif_transpose(image)
    if min(image.size) < 1:
        raise ValueError("a picture without pixels")
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(levels.to_bytes(np.asarray(image)))
    elif image.mode in ("L", "RGB"):
        image = _bytes(image, "colour" if coloured else "bytes", levels)
    else:
        levels.see("bytes", 0, 255)  # a palette, a mask, inks: what it means is known
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)  # (C, S, S)


def _bytes(image: Image.Image, kind: str, levels: Levels) -> Image.Image:
    """A picture of bytes, noted; where those of its source are 0 and 1, black and white."""
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else (extrema,)
    levels.see(kind, min(float(low) for low, _ in pairs), max(float(high) for _, high in pairs))
    by = levels.ranges.get("bytes")
    return image.point(lambda value: 255 * min(value, 1)) if isinstance(by, Range) else image


def load(
    source: str, size: int = 64, channels: int = 3, limit: int | None = None, progress: Progress | None = None
) -> Images:
    """Images of a source given as text: a folder, or a prefix of `SOURCES` and what its reader takes.

    `limit` keeps the first readable images. Pictures are decoded once, into the cache (`$PROBE_CACHE`, else
    `~/.cache/probe`; safe to delete), whose key holds paths, sizes and times of the source's files; for `hf` it
    holds the name only. `progress(done, total)` is called while decoding, with total None where unknown.
    What was read is noted for the result of the question that asks (`base.reads`). Raises ProbeError when the source is
    unknown, missing, malformed or without a readable image.
    """
    found = _load(source, size, channels, limit, progress)
    reads.note(found)
    return found


def _load(source: str, size: int, channels: int, limit: int | None, progress: Progress | None) -> Images:
    if size < 1 or channels not in (1, 3) or (limit is not None and limit < 1):
        found = f"size {size}, channels {channels}, limit {limit}"
        raise ProbeError(f"{source}: {found} asked for; expected size >= 1, channels 1 or 3, limit >= 1 or none")
    prefix, text = _parts(source)
    try:
        reading = SOURCES[prefix](text, size, limit)
        if reading.ready and channels == 3:
            return Images(*reading.ready, name=reading.name, sha256=reading.sha256)
        key = repr((reading.stamp, size, channels, limit, _PREPARATION, PIL.__version__))
        folder = rooms.cache_dir() / f"data-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
        if not folder.exists():
            _write(reading, folder, (channels, size, size), limit, progress)
        with np.load(folder / "about.npz") as about:
            labels, resized, digest = about["labels"], int(about["resized"]), str(about["sha256"])
            names, levels = tuple(about["names"].tolist()), tuple(about["levels"].tolist())
            skipped = [*zip(about["skipped"].tolist(), about["why"].tolist(), strict=True), *reading.left_out]
        return Images(
            np.load(folder / "images.npy", mmap_mode="r"),
            labels if len(labels) else None,
            reading.name,
            tuple(name for name, _ in skipped),
            resized,
            reading.classes,
            tuple(why for _, why in skipped),
            names,
            levels,
            reading.sha256 or digest,
        )
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
    if source in ROOMS and Path(source).exists():
        raise ProbeError(f"{source}: the procedural rooms and a folder here; pass {source}:24000 or ./{source}")
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
        levels: Levels | None = Levels()
        while levels:  # once; again where the values turn out to be of another range than their type says
            with (temporary / "images.npy").open("wb") as file:
                filled = _fill(file, reading, shape, limit, levels, progress or (lambda done, total: None))
            used, levels = levels, levels.decide()
        if not filled.labels:
            found = "0 images found"
            if filled.skipped:
                first = f"{filled.skipped[0]} ({filled.why[0]})"
                found = f"all {len(filled.skipped)} images are left out, such as {first}"
            raise ProbeError(f"{reading.name}: {found}; expected at least one readable image: check the source")
        if "colour" in used.seen and used.seen["colour"][1] < _DARK:
            found = f"colours of 16 bits whose values stay below {256 * (used.seen['colour'][1] + 1):g} of 65536"
            raise ProbeError(f"{reading.name}: {found}; expected them to use the range: save them with 8 bits")
        numbers = [-1 if label is None else label for label in filled.labels] if set(filled.labels) != {None} else []
        np.savez(
            temporary / "about.npz",
            labels=np.array(numbers, np.int64),
            skipped=np.array(filled.skipped, np.str_),
            why=np.array(filled.why, np.str_),
            names=np.array(filled.names, np.str_),
            levels=np.array(used.words, np.str_),
            sha256=filled.sha256,
            resized=filled.resized,
        )
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.exists():  # unless another process finished first
                raise


@dataclass
class _Filled:
    """What became of a reading's pictures."""

    labels: list[int | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    resized: int = 0
    sha256: str = ""


def _fill(
    file: IO[bytes],
    reading: Reading,
    shape: tuple[int, int, int],
    limit: int | None,
    levels: Levels,
    progress: Progress,
) -> _Filled:
    """Write a reading's pictures as a .npy file; returns what became of them."""
    total = min((n for n in (reading.count, limit) if n is not None), default=None)
    made, digest = _Filled(), hashlib.sha256()

    def header() -> None:  # of the same length whatever the number of images
        layout = {"descr": "|u1", "fortran_order": False, "shape": (len(made.labels), *shape)}
        np.lib.format.write_array_header_1_0(file, layout)

    header()
    with contextlib.closing(reading.items()) as items:
        for name, picture, label in items:
            digest.update(picture.sha256())
            try:
                prepared, size = _prepared(picture, shape, levels)
            except Exception as error:  # PIL's decoders raise whatever they stumble over
                made.skipped.append(name)
                made.why.append(_reason(error))
                continue
            file.write(prepared.tobytes())
            made.resized += size != shape[1:]
            made.labels.append(label)
            made.names += [] if isinstance(picture, Drawn) else [name]
            if len(made.labels) % 256 == 0:
                progress(len(made.labels), total)
            if len(made.labels) == limit:
                break
    if len(made.labels) % 256:
        progress(len(made.labels), total)
    file.seek(0)
    header()
    made.sha256 = digest.hexdigest()
    return made


def _prepared(picture: Picture, shape: tuple[int, int, int], levels: Levels) -> tuple[Array, tuple[int, int]]:
    """The prepared picture (C, S, S) and the size it had; raises whatever is wrong with it, also a decompression bomb."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        opened = picture.open()
        with opened if isinstance(opened, Image.Image) else Image.fromarray(levels.to_bytes(opened)) as image:
            return prepare(image, shape[1], shape[0], levels), image.size


def _reason(error: Exception) -> str:
    """Why a picture was left out, in words that hold for others, too."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "of too many pixels"
    if isinstance(error, FileNotFoundError | PermissionError):
        return "missing" if isinstance(error, FileNotFoundError) else "not allowed to be read"
    if isinstance(error, PIL.UnidentifiedImageError):
        return "unreadable, no picture that is known"
    told = isinstance(error, LeftOutError) or (type(error) is ValueError and "range" in str(error))
    return str(error) if told else "unreadable, broken"
