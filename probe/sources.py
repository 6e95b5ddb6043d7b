"""Where images come from: a reader a source, each a lazy stream of pictures.

SOURCES           rooms, folder, parquet, idx, npz, mat, lmdb, hf: one row and one reader a source
Reading           what a reader answers
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import importlib
import io
import itertools
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe import rooms
from probe.errors import ProbeError

Array = NDArray[Any]
Items = Generator[tuple[str, Callable[[], Image.Image], int | None], None, None]
"""A lazy stream of pictures: a name to report when unreadable, a function that opens it, a class label or None."""

_DAMAGE = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile)
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # PIL knows others that start foreign programs
_LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "target")


@dataclass(frozen=True)
class Reading:
    """A reader's answer: `stamp` changes with the content; `count` is None where unknown before the end.

    `ready`: images (N, 3, S, S) that need no preparation, and their labels (N,).
    """

    name: str
    stamp: str
    count: int | None
    items: Items
    ready: tuple[Array, Array] | None = None


def _existing(prefix: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not text or not path.exists():
        raise ProbeError(f"{prefix}:{text}: no such file or folder; expected {prefix}:PATH: check the path")
    return path


def _reading(prefix: str, shown: Path | str, files: Iterable[Path], count: int | None, items: Items) -> Reading:
    """A reading of files, stamped with their absolute paths, sizes and modification times."""
    name = f"{prefix}:{os.path.basename(os.path.abspath(shown)) if isinstance(shown, Path) else shown}"
    stats = ((os.path.abspath(file), file.stat()) for file in files if file.exists())  # not so a broken link
    return Reading(name, name + repr([(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]), count, items)


@contextlib.contextmanager
def _sound(where: str, errors: tuple[type[Exception], ...], wanted: str) -> Iterator[None]:
    """Turn a foreign library's errors about its input into one line."""
    try:
        yield
    except ProbeError:
        raise
    except errors as error:
        found = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ProbeError(f"{where}: {found}; expected {wanted}: check the source") from error


def _extra(module: str, extra: str) -> Any:
    """Import an optional module; raises ProbeError naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ProbeError(f"{extra}: this source needs {package}: pip install 'dcgan-probe[{extra}]'") from error


def _encoded(file: Path | bytes) -> Callable[[], Image.Image]:
    return partial(Image.open, io.BytesIO(file) if isinstance(file, bytes) else file, formats=_FORMATS)


def _arrays(arrays: Iterable[Array], labels: Iterable[int | None], name: str) -> Items:
    """Pictures from uint8 arrays (H, W), or (H, W, C) with C of 1, 3 or 4."""
    for i, (array, label) in enumerate(zip(arrays, labels, strict=False)):
        array = array[..., 0] if array.shape[2:] == (1,) else array
        yield f"{name} image {i}", partial(Image.fromarray, array), label


def _rooms(text: str, size: int, limit: int | None) -> Reading:
    """N or N@SEED, else 24000@0: the procedural rooms; the label is 1 where a window shows, else 0."""
    match = re.fullmatch(r"(\d+)(?:@(\d+))?", text or "24000")
    if not match or int(match[1]) < 1 or size < 16:
        raise ProbeError(f"rooms:{text} of {size} px asked for; expected rooms:N or rooms:N@SEED, N >= 1, size >= 16")
    n, seed = int(match[1]), int(match[2] or 0)
    drawn = rooms.load(min(n, limit or n), seed, size)
    labels = drawn.attributes[:, rooms.ATTRIBUTES.index("window")].astype(np.int64)
    items = _arrays((image.transpose(1, 2, 0) for image in drawn.images), labels.tolist(), "rooms")
    stamp = f"rooms {n}@{seed} {hashlib.sha256(drawn.images[:16].tobytes()).hexdigest()}"
    return Reading(f"rooms:{n}@{seed}" if seed else f"rooms:{n}", stamp, len(labels), items, (drawn.images, labels))


def _folder(text: str, *_: object) -> Reading:
    """PATH: images at any depth, hidden ones apart; if all lie in subfolders, the first of these are the classes."""
    root = _existing("folder", text)
    if not root.is_dir():
        raise ProbeError(f"{text}: is a file; expected a folder, or a file with its prefix: parquet:, idx: or npz:")
    files: dict[str, Path] = {}
    for here, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(here, n) for n in names if n.lower().endswith(_SUFFIXES) and not n.startswith(".")]
        files |= {path.relative_to(root).as_posix(): path for path in paths}
    if not files:
        raise ProbeError(f"{text}: 0 images found; expected files {' '.join(_SUFFIXES)}: check the path")
    order = sorted(files)
    tops = sorted({name.split("/")[0] for name in order}) if all("/" in name for name in order) else []
    classes = {top: i for i, top in enumerate(tops)}
    items = ((files[n].name, _encoded(files[n]), classes.get(n.split("/")[0])) for n in order)
    return _reading("folder", root, (files[name] for name in order), len(order), items)


def _columns(images: list[str], integers: list[str], found: Iterable[str], where: str) -> tuple[str, str | None]:
    """The columns of images and of labels among those that could hold them."""
    if not images:
        wanted = "a column image or img with bytes and path"
        raise ProbeError(f"{where}: found the columns {', '.join(found)}; expected {wanted}: check the dataset")
    image = next((name for name in ("image", "img") if name in images), images[0])
    return image, next((name for name in _LABEL_COLUMNS if name in integers), None)


def _parquet(text: str, *_: object) -> Reading:
    """FILE, GLOB or DIR (all its files): Hugging Face image parquet, read a few rows at a time."""
    pq, pa = _extra("pyarrow.parquet", "parquet"), _extra("pyarrow", "parquet")
    path = Path(text).expanduser()
    if path.exists() or not glob.has_magic(text):
        found = _existing("parquet", text).rglob("*.parquet") if not path.is_file() else iter([path])
    else:
        found = map(Path, glob.glob(str(path), recursive=True))
    files = sorted((file for file in found if file.is_file()), key=Path.as_posix)
    if not files:
        raise ProbeError(f"parquet:{text}: 0 files found; expected *.parquet files: check the path")

    sound = partial(_sound, errors=(pa.ArrowException, OSError), wanted="a parquet file")

    def rows(file: Path) -> Items:
        with sound(f"parquet:{file.name}"), pq.ParquetFile(file) as table:
            kinds = {field.name: field.type for field in table.schema_arrow}
            structs = [n for n, t in kinds.items() if pa.types.is_struct(t) and t.get_field_index("bytes") >= 0]
            integers = [n for n, t in kinds.items() if pa.types.is_integer(t)]
            image, label = _columns(structs, integers, kinds, f"parquet:{file.name}")
            batches = table.iter_batches(64, columns=[image, label] if label else [image])
            for i, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                cell = row[image] or {}
                name = os.path.basename(cell.get("path") or f"{file.name} row {i}")
                yield name, _encoded(cell.get("bytes") or b""), row.get(label)

    count = 0
    for file in files:
        with sound(f"parquet:{file.name}"):
            count += pq.read_metadata(file).num_rows
    return _reading("parquet", path, files, count, (item for file in files for item in rows(file)))


def _read(file: IO[bytes], n: int) -> bytes:
    """Up to n bytes; none where a compressed file is damaged."""
    try:
        return file.read(n)
    except (*_DAMAGE, MemoryError, OverflowError):  # the last two: sizes that only a damaged header can hold
        return b""


def _frames(file: IO[bytes], shape: tuple[int, ...], where: str) -> Iterator[Array]:
    """uint8 arrays of shape[1:] one after another; raises ProbeError where there are fewer or more than shape[0]."""
    for i in range(shape[0]):
        data = _read(file, math.prod(shape[1:]))
        if len(data) < math.prod(shape[1:]):
            raise ProbeError(f"{where}: ends or is damaged after {i} of {shape[0]} entries: fetch the file again")
        yield np.frombuffer(data, np.uint8).reshape(shape[1:])
    if _read(file, 1):
        raise ProbeError(f"{where}: holds more than the {shape[0]} entries that its header says: fetch the file again")


def _idx_open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def _idx_shape(path: Path, rank: int) -> tuple[int, ...]:
    with _idx_open(path) as file:
        head = _read(file, 4 + 4 * rank)
    if head[:4] != bytes([0, 0, 8, rank]) or len(head) < 4 + 4 * rank:
        wanted = f"00 00 08 {rank:02} and {rank} sizes, as in …-images-idx3-ubyte and …-labels-idx1-ubyte"
        found = f"starts with {head[:4].hex(' ') or 'nothing readable'}"
        raise ProbeError(f"idx:{path.name}: {found}; expected {wanted}: check the file")
    return tuple(np.frombuffer(head[4:], ">u4").tolist())


def _idx_arrays(path: Path, shape: tuple[int, ...]) -> Iterator[Array]:
    with _idx_open(path) as file:
        file.seek(4 + 4 * len(shape))
        yield from _frames(file, shape, f"idx:{path.name}")


def _idx(text: str, *_: object) -> Reading:
    """FILE or DIR of the MNIST family, gzipped or not; labels are read from the file beside where there is one."""
    path = _existing("idx", text)
    if path.is_dir():
        found = sorted(path.glob("*train-images?idx3-ubyte*"))
        if len({file.name.removesuffix(".gz") for file in found}) != 1:
            wanted = "one train-images-idx3-ubyte, gzipped or not"
            raise ProbeError(f"idx:{text}: {len(found)} files of training images found; expected {wanted}: pass a file")
        path = found[0]
    shape = _idx_shape(path, 3)
    name = path.name.removesuffix(".gz")
    twin = re.sub(r"images([-.])idx3", r"labels\1idx1", name)
    beside = [path.with_name(n) for n in (twin, f"{twin}.gz") if twin != name and path.with_name(n).exists()][:1]
    labels: Iterator[int | None] = itertools.repeat(None)
    for file in beside:
        count = _idx_shape(file, 1)
        if count != shape[:1]:
            found_labels = f"{count[0]} labels for {shape[0]} images"
            raise ProbeError(f"idx:{file.name}: {found_labels}; expected one an image: check both files")
        labels = (int(label) for label in _idx_arrays(file, count))
    return _reading("idx", path, [path, *beside], shape[0], _arrays(_idx_arrays(path, shape), labels, path.name))


def _npz(text: str, *_: object) -> Reading:
    """FILE: uint8 images under X, images, data or x; integer labels under Y, labels or y, where there are some."""
    path = _existing("npz", text)
    where = f"npz:{path.name}"
    labels = None
    with _sound(where, _DAMAGE, "a file by np.savez with arrays of numbers"), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        key = next((name for name in ("X", "images", "data", "x") if name in names), None)
        if key is None:
            found = f"found the arrays {', '.join(names)}" if names else "holds no arrays"
            raise ProbeError(f"{where}: {found}; expected X, images, data or x: save the images under such a name")
        with archive.open(f"{key}.npy") as file:
            shape, fortran, dtype = _npy_header(file)
        channels_last = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))
        if dtype != np.uint8 or not (channels_last or (len(shape) == 4 and shape[1] in (1, 3, 4))):
            wanted = "uint8 in 0 … 255 of (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1, 3 or 4"
            raise ProbeError(f"{where}: {key} is {dtype} {shape}; expected {wanted}: convert it")
        for label in [name for name in ("Y", "labels", "y") if name in names][:1]:
            with archive.open(f"{label}.npy") as file:
                labels = np.lib.format.read_array(file, allow_pickle=False)
            if labels.dtype.kind not in "iu" or labels.shape not in (shape[:1], (shape[0], 1)):
                found = f"{label} is {labels.dtype} {labels.shape}"
                raise ProbeError(f"{where}: {found}; expected {shape[0]} integers: convert or remove it")

    def frames() -> Iterator[Array]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            if fortran:  # cannot be read image by image
                yield from np.lib.format.read_array(file, allow_pickle=False)
            else:
                _npy_header(file)
                yield from _frames(file, shape, where)

    arrays = (frame if channels_last else frame.transpose(1, 2, 0) for frame in frames())
    numbers = itertools.repeat(None) if labels is None else labels.ravel().tolist()
    return _reading("npz", path, [path], shape[0], _arrays(arrays, numbers, path.name))


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _mat(text: str, *_: object) -> Reading:
    """FILE: SVHN's cropped digits, X uint8 (H, W, C, N) and y (N, 1) as in train_32x32.mat; the label 10 stands for 0."""
    path = _existing("mat", text)
    where, loadmat = f"mat:{path.name}", importlib.import_module("scipy.io").loadmat
    with _sound(where, (Exception,), "a MATLAB file of version 5, as SVHN's train_32x32.mat"):
        held = loadmat(path, variable_names=("X", "y"))
    x, y = held.get("X"), held.get("y")
    if x is None or x.dtype != np.uint8 or x.ndim != 4 or x.shape[2] not in (1, 3, 4):
        found = "holds no X" if x is None else f"X is {x.dtype} {x.shape}"
        raise ProbeError(
            f"{where}: {found}; expected X, uint8 of (H, W, C, N), as SVHN's cropped digits: check the file"
        )
    numbers: Iterable[int | None] = itertools.repeat(None)
    if y is not None:
        if y.size != x.shape[3] or y.dtype.kind not in "iu":
            raise ProbeError(f"{where}: y is {y.dtype} {y.shape}; expected {x.shape[3]} integers: check the file")
        y = y.ravel().astype(np.int64)
        svhn = y.min() == 1 and y.max() == 10
        numbers = np.where(svhn & (y == 10), 0, y).tolist()
    arrays = (np.ascontiguousarray(x[..., i]) for i in range(x.shape[3]))
    return _reading("mat", path, [path], x.shape[3], _arrays(arrays, numbers, path.name))


def _lmdb(text: str, *_: object) -> Reading:
    """DIR: a database whose values are encoded images, as those of LSUN; in the order of its keys."""
    lmdb, path = _extra("lmdb", "lmdb"), _existing("lmdb", text)
    sound = partial(_sound, f"lmdb:{path.name}", (lmdb.Error, OSError), "a folder with an LMDB data.mdb")
    opened = partial(lmdb.open, str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)

    def items() -> Items:
        with sound(), opened() as database, database.begin() as transaction:
            for key, value in transaction.cursor():
                yield key.decode(errors="replace"), _encoded(value), None

    with sound(), opened() as database:
        count = database.stat()["entries"]
    return _reading("lmdb", path, [path / "data.mdb" if path.is_dir() else path], count, items())


def _hf(text: str, *_: object) -> Reading:
    """NAME or NAME:SPLIT (else train): a dataset of the Hugging Face Hub, streamed."""
    name, _colon, split = text.partition(":")
    split = split or "train"
    if not name:
        raise ProbeError(f"hf:{text}: names no dataset; expected hf:NAME or hf:NAME:SPLIT, such as hf:cifar10:test")

    def items() -> Items:
        datasets = _extra("datasets", "hf")
        with _sound(f"hf:{text}", (Exception,), "hf:NAME or hf:NAME:SPLIT of a dataset with images"):
            stream = datasets.load_dataset(name, split=split, streaming=True)
            for i, row in enumerate(stream.decode(False)):  # a broken image would end a stream that decodes
                if i == 0:
                    structs = [key for key, value in row.items() if isinstance(value, dict) and "bytes" in value]
                    integers = [key for key, value in row.items() if isinstance(value, int)]
                    image, label = _columns(structs, integers, row, f"hf:{text}")
                cell = row[image] or {"bytes": b""}
                remote = partial(datasets.Image().decode_example, cell)
                opened = remote if cell["bytes"] is None else _encoded(cell["bytes"])
                yield os.path.basename(cell.get("path") or f"row {i}"), opened, row.get(label)

    files = [file for file in sorted(Path(name).rglob("*")) if file.is_file()]  # a local folder is a dataset, too
    return _reading("hf", f"{Path(name).name if files else name}:{split}", files, None, items())


SOURCES: dict[str, Callable[[str, int, int | None], Reading]] = {
    "rooms": _rooms,
    "folder": _folder,
    "parquet": _parquet,
    "idx": _idx,
    "npz": _npz,
    "mat": _mat,
    "lmdb": _lmdb,
    "hf": _hf,
}
"""Prefix -> reader: what stands behind the prefix, the image size and the limit -> a `Reading`."""
