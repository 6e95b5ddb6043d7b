"""Images in arrays, IDX and NumPy's: what was written is what is read, and every bad file is one clear line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from probe.base.errors import ProbeError
from probe.data import loading as data
from tests.pictures import EXPECTED, chw, noise

pytestmark = pytest.mark.usefixtures("cache")


# ---- idx


def write_idx(path: Path, array: np.ndarray) -> None:
    raw = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize(
    ("images_name", "labels_name", "folder"),
    [
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", False),
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte", False),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte.gz", True),
        ("train-images-idx3-ubyte.gz", None, True),
    ],
)
def test_idx(tmp_path, images_name, labels_name, folder):
    digits, labels = noise(5, 8, 8), np.arange(5, dtype=np.uint8) + 3
    write_idx(tmp_path / "mnist" / images_name, digits)
    if labels_name:
        write_idx(tmp_path / "mnist" / labels_name, labels)
    path = tmp_path / "mnist" if folder else tmp_path / "mnist" / images_name
    images = data.load(f"idx:{path}", size=8, channels=1)
    np.testing.assert_array_equal(images.images, digits[:, None])
    assert (images.labels.tolist() if labels_name else images.labels) == (labels.tolist() if labels_name else None)
    assert images.name == f"idx:{images_name}"
    np.testing.assert_array_equal(data.load(f"idx:{path}", size=8).images, np.stack([digits] * 3, 1))


def test_idx_errors(tmp_path):
    def load(name: str = "") -> None:
        data.load(f"idx:{tmp_path / name}", size=8)

    with pytest.raises(ProbeError, match=r"0 files of training images found; expected one train-images-idx3-ubyte"):
        load()
    write_idx(tmp_path / "x-images-idx3-ubyte", noise(5, 8, 8))
    raw = (tmp_path / "x-images-idx3-ubyte").read_bytes()
    (tmp_path / "short").write_bytes(raw[:-100])
    with pytest.raises(ProbeError, match=r"idx:short: ends or is damaged after 3 of 5 entries"):
        load("short")
    (tmp_path / "short.gz").write_bytes(gzip.compress(raw)[:-60])
    with pytest.raises(ProbeError, match=r"idx:short\.gz: ends or is damaged after \d of 5 entries"):
        load("short.gz")
    (tmp_path / "long").write_bytes(raw + b"x")
    with pytest.raises(ProbeError, match=r"idx:long: holds more than the 5 entries"):
        load("long")
    (tmp_path / "huge").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(ProbeError, match=r"idx:huge: ends or is damaged after 0 of 1 entries"):
        load("huge")
    write_idx(tmp_path / "labels", np.arange(5, dtype=np.uint8))
    with pytest.raises(ProbeError, match=r"idx:labels: starts with 00 00 08 01; expected 00 00 08 03 and 3 sizes"):
        load("labels")
    (tmp_path / "none").write_bytes(b"")
    with pytest.raises(ProbeError, match=r"idx:none: starts with nothing readable; expected"):
        load("none")
    write_idx(tmp_path / "zero", noise(0, 8, 8))
    with pytest.raises(ProbeError, match=r"idx:zero: 0 images found; expected at least one"):
        load("zero")
    write_idx(tmp_path / "x-labels-idx1-ubyte", np.arange(4, dtype=np.uint8))
    with pytest.raises(ProbeError, match=r"idx:x-labels-idx1-ubyte: 4 labels for 5 images; expected one an image"):
        load("x-images-idx3-ubyte")


# ---- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "arrays",
    [
        {"X": EXPECTED, "Y": np.array([3, 1, 2])},
        {"images": chw(EXPECTED), "labels": np.array([[3], [1], [2]], np.uint8)},
        {"data": np.asfortranarray(EXPECTED), "y": np.array([3, 1, 2], np.int16)},
    ],
)
def test_npz(tmp_path, save, arrays):
    save(tmp_path / "x.npz", **arrays)
    images = data.load(f"npz:{tmp_path / 'x.npz'}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels.tolist() == [3, 1, 2]
    assert images.name == "npz:x.npz"


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 8, 8, 1), (1, 1, 8, 8)])
def test_npz_of_greys_without_labels(tmp_path, shape):
    np.savez(tmp_path / "x.npz", x=noise(*shape))
    images = data.load(f"npz:{tmp_path / 'x.npz'}", size=8, channels=1)
    np.testing.assert_array_equal(images.images.ravel(), noise(*shape).ravel())
    assert images.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"npz:x\.npz: holds no arrays; expected one of X, images, data, x, x_train"),
        (
            {"a": noise(2), "b": noise(2)},
            r"npz:x\.npz: found the arrays a, b; expected one of X, images, data, x, x_train",
        ),
        (
            {"X": np.full((2, 8, 8), 1e3)},
            r"npz:x\.npz: all 2 images are left out, such as x\.npz image 0 \(floats from 1000 to 1000, of an unknown range\)",
        ),
        ({"X": np.zeros((2, 8, 8), complex)}, r"npz:x\.npz: X is complex128 \(2, 8, 8\); expected numbers of"),
        ({"X": noise(2, 3072)}, r"X is uint8 \(2, 3072\); expected numbers of \(N, H, W\), \(N, H, W, C\)"),
        ({"X": noise(2, 0, 8, 3)}, r"npz:x\.npz: all 2 images are left out, such as x\.npz image 0"),
        ({"X": noise(2, 8, 8, 7)}, r"X is uint8 \(2, 8, 8, 7\); expected .* C = 1, 3 or 4"),
        ({"X": np.array([None])}, r"X is object \(1,\); expected numbers"),
        ({"X": noise(0, 8, 8)}, r"npz:x\.npz: 0 images found; expected at least one readable image"),
        ({"X": noise(2, 8, 8), "y": np.arange(3)}, r"y is int64 \(3,\); expected 2 integers: convert or remove it"),
        ({"X": noise(2, 8, 8), "y": np.ones(2)}, r"y is float64 \(2,\); expected 2 integers"),
        (
            {"X": noise(2, 8, 8), "y": np.array([None] * 2)},
            r"Object arrays cannot be loaded .*; expected a file by np\.savez",
        ),
    ],
)
def test_npz_errors(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ProbeError, match=message) as error:
        data.load(f"npz:{tmp_path / 'x.npz'}", size=8)
    assert "\n" not in str(error.value)


def test_npz_that_is_none_or_is_damaged(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"junk")
    with pytest.raises(ProbeError, match=r"npz:x\.npz: File is not a zip file; expected a file by np\.savez"):
        data.load(f"npz:{tmp_path / 'x.npz'}")
    np.savez(tmp_path / "y.npz", X=noise(5, 32, 32))
    raw = bytearray((tmp_path / "y.npz").read_bytes())
    raw[2000] ^= 255
    (tmp_path / "y.npz").write_bytes(raw)
    with pytest.raises(ProbeError, match=r"npz:y\.npz: ends or is damaged after \d of 5 entries"):
        data.load(f"npz:{tmp_path / 'y.npz'}", size=32)
