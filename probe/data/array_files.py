"""Images kept as one array: IDX files of the MNIST family, npz archives, SVHN's .mat files; read an image at a time."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import itertools
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from probe.base.errors import ProbeError
from probe.data.reading import Array, Items, Reading, drawn, existing, reading, sound

_DAMAGE = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile)
_BYTES = np.dtype(np.uint8)


def _read(file: IO[bytes], n: int) -> bytes:
    """Up to n bytes; none where a compressed file is damaged."""
    try:
        return file.read(n)
    except (*_DAMAGE, MemoryError, OverflowError):  # the last two: sizes that only a damaged header can hold
        return b""


def _frames(file: IO[bytes], shape: tuple[int, ...], where: str, dtype: np.dtype[Any] = _BYTES) -> Iterator[Array]:
    """Arrays of shape[1:] one after another; raises ProbeError where there are fewer or more than shape[0]."""
    size = math.prod(shape[1:]) * dtype.itemsize
    for i in range(shape[0]):
        data = _read(file, size)
        if len(data) < size:
            raise ProbeError(f"{where}: ends or is damaged after {i} of {shape[0]} entries: fetch the file again")
        yield np.frombuffer(data, dtype).reshape(shape[1:])
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


def idx(text: str, *_: object) -> Reading:
    """FILE or DIR of the MNIST family, gzipped or not; labels are read from the file beside where there is one."""
    path = existing("idx", text)
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
    for file in beside:
        count = _idx_shape(file, 1)
        if count != shape[:1]:
            found_labels = f"{count[0]} labels for {shape[0]} images"
            raise ProbeError(f"idx:{file.name}: {found_labels}; expected one an image: check both files")

    def items() -> Items:
        labels: Iterator[int | None] = itertools.repeat(None)
        for file in beside:
            labels = (int(label) for label in _idx_arrays(file, shape[:1]))
        return drawn(_idx_arrays(path, shape), labels, path.name)

    return reading("idx", path, [path, *beside], shape[0], items)


_IMAGES = ("X", "images", "data", "x", "x_train", "X_train", "train_images", "train_x", "arr_0")
_LABELS = ("Y", "labels", "y", "y_train", "Y_train", "train_labels", "train_y", "label", "arr_1")


def npz(text: str, *_: object) -> Reading:
    """FILE by np.savez or np.save: images under X, images, data, x, x_train, train_images or arr_0, and integer labels.

    Images are bytes, whole numbers of up to 16 bits, or floats in 0 … 1, -1 … 1 or 0 … 255.
    """
    path = existing("npz", text)
    where = f"npz:{path.name}"
    labels = None
    with sound(where, _DAMAGE, "a file by np.savez with arrays of numbers"):
        key, names = _npz_key(path, where)
        with _npy(path, key) as file:
            shape, fortran, dtype = _npy_header(file)
        kind = dtype.kind in "biuf" and dtype.itemsize <= 8
        if not kind or len(shape) not in (3, 4) or not (len(shape) == 3 or _channels(shape)):
            wanted = "numbers of (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1, 3 or 4"
            raise ProbeError(f"{where}: {key} is {dtype} {shape}; expected {wanted}: convert it")
        for label in [name for name in _LABELS if name in names and name != key][:1]:
            with _npy(path, label) as file:
                labels = np.lib.format.read_array(file, allow_pickle=False)
            if labels.dtype.kind not in "iu" or labels.shape not in (shape[:1], (shape[0], 1)):
                found = f"{label} is {labels.dtype} {labels.shape}"
                raise ProbeError(f"{where}: {found}; expected {shape[0]} integers: convert or remove it")
    channels_last = len(shape) == 3 or 3 in _channels(shape)
    frame = _BYTES if dtype == np.bool_ else dtype

    def frames() -> Iterator[Array]:
        with _npy(path, key) as file:
            if fortran:  # cannot be read image by image
                yield from np.lib.format.read_array(file, allow_pickle=False).astype(frame)
            else:
                _npy_header(file)
                yield from _frames(file, shape, where, frame)

    def items() -> Items:
        arrays = (frame if channels_last else frame.transpose(1, 2, 0) for frame in frames())
        return drawn(arrays, itertools.repeat(None) if labels is None else labels.ravel().tolist(), path.name)

    return reading("npz", path, [path], shape[0], items)


def _channels(shape: tuple[int, ...]) -> list[int]:
    """Which axes of (N, ?, ?, ?) may be the channels."""
    return [axis for axis in (3, 1) if shape[axis] in (1, 3, 4)]


def _npz_key(path: Path, where: str) -> tuple[str, list[str]]:
    """The name of the array of images in an archive, and all names; of a single array's file the empty name."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                return "", []
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    key = next((name for name in _IMAGES if name in names), None)
    if key is None:
        found = f"found the arrays {', '.join(names)}" if names else "holds no arrays"
        raise ProbeError(f"{where}: {found}; expected one of {', '.join(_IMAGES)}: save the images under such a name")
    return key, names


@contextlib.contextmanager
def _npy(path: Path, key: str) -> Iterator[IO[bytes]]:
    """One array of an archive, or that of a single array's file, opened."""
    if not key:
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        yield member


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def mat(text: str, *_: object) -> Reading:
    """FILE: SVHN's cropped digits, X uint8 (H, W, C, N) and y (N, 1) as in train_32x32.mat; label 10 is a 0."""
    path = existing("mat", text)
    where, loadmat = f"mat:{path.name}", importlib.import_module("scipy.io").loadmat
    with sound(where, (Exception,), "a MATLAB file of version 5, as SVHN's train_32x32.mat"):
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

    def items() -> Items:
        return drawn((np.ascontiguousarray(x[..., i]) for i in range(x.shape[3])), numbers, path.name)

    return reading("mat", path, [path], x.shape[3], items)
