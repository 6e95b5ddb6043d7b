"""Sources of images: what was written is what is read, and every bad input is one clear line."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe import data, rooms
from probe.errors import ProbeError

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-test.parquet"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PROBE_CACHE", str(folder))
    return folder


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def chw(arrays: np.ndarray) -> np.ndarray:
    return np.moveaxis(arrays, -1, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, seed in (("b/1.png", 2), ("a/2.png", 1), ("a/10.PNG", 0)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(8, 8, 3, seed=seed)))
    return root


EXPECTED = np.stack([noise(8, 8, 3, seed=seed) for seed in (0, 1, 2)])  # a/10.PNG < a/2.png < b/1.png


# ---- prepare


@pytest.mark.parametrize(
    ("shape", "scaled", "corner"), [((128, 192), (96, 64), (16, 0)), ((256, 64), (32, 128), (0, 48))]
)
def test_prepare_is_resize_then_centre_crop(shape, scaled, corner):
    image = Image.fromarray(noise(*shape, 3))
    size = min(scaled)
    left, top = corner
    plain = image.resize(scaled, Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    np.testing.assert_array_equal(data.prepare(image, size, 3), np.asarray(plain).transpose(2, 0, 1))


def test_prepare_only_crops_where_the_shorter_side_has_the_size():
    array = noise(16, 37, 3)
    np.testing.assert_array_equal(data.prepare(Image.fromarray(array), 16, 3), array[:, 10:26].transpose(2, 0, 1))


def test_prepare_antialiases():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    out = data.prepare(Image.fromarray(board.astype(np.uint8)), 8, 1)
    assert np.abs(out.astype(int) - 127).max() < 4


def test_prepare_long_pictures_cost_no_memory():
    assert data.prepare(Image.new("RGB", (60_000, 1), "red"), 64, 3).shape == (3, 64, 64)


def test_prepare_colours():
    array = noise(8, 8, 3)
    grey = data.prepare(Image.fromarray(array), 8, 1)
    assert np.abs(grey[0] - array @ [0.299, 0.587, 0.114]).max() < 1
    three = data.prepare(Image.fromarray(array[..., 0]), 8, 3)
    np.testing.assert_array_equal(three, np.stack([array[..., 0]] * 3))


def test_prepare_puts_transparent_pictures_on_white():
    array = noise(8, 8, 4)
    alpha = array[..., 3:] / 255
    expected = array[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(data.prepare(Image.fromarray(array), 8, 3) - expected.transpose(2, 0, 1)).max() <= 1


def test_prepare_keeps_the_upper_bits_of_16_bit_greys():
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    np.testing.assert_array_equal(data.prepare(Image.open(io.BytesIO(encoded(deep))), 8, 1)[0], deep >> 8)


def test_prepare_applies_exif_rotation():
    array, exif, file = noise(8, 8, 3), Image.Exif(), io.BytesIO()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(array).save(file, "png", exif=exif)
    np.testing.assert_array_equal(data.prepare(Image.open(file), 8, 3), np.rot90(array, -1).transpose(2, 0, 1))


# ---- folder, and what all sources share


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_folder_is_sorted_and_classes_are_subfolders(folder, prefix):
    images = data.load(f"{prefix}{folder}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 0, 1]
    assert (images.name, images.skipped, images.images.dtype) == ("folder:photos", (), np.uint8)


def test_folder_without_classes_and_with_hidden_files(folder):
    (folder / "z.png").write_bytes(encoded(noise(8, 8, 3, seed=3)))
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "t.png").write_bytes(encoded(noise(8, 8, 3)))
    (folder / "a" / "._2.png").write_bytes(b"resource fork")
    (folder / "a" / "notes.txt").write_text("not an image")
    images = data.load(str(folder), size=8)
    assert images.labels is None
    assert (len(images.images), images.skipped) == (4, ())


def test_unreadable_files_are_named_and_skipped(folder, monkeypatch):
    whole = encoded(noise(32, 32, 3), "jpeg")
    (folder / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "empty.webp").write_bytes(b"")
    (folder / "b" / "bomb.png").write_bytes(encoded(noise(64, 64)))
    (folder / "b" / "warned.png").write_bytes(encoded(noise(40, 40)))
    (folder / "b" / "gone.png").symlink_to(folder / "nowhere")
    (folder / "b" / "foreign.png").write_bytes(encoded(noise(8, 8), "pcx"))  # PIL could read it; it is none of ours
    Image.fromarray(noise(8, 8).astype(np.float32)).save(folder / "b" / "floats.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    images = data.load(str(folder), size=8)
    names = ("cut.jpg", "bomb.png", "empty.webp", "floats.tif", "foreign.png", "gone.png", "warned.png")
    assert images.skipped == names
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels.tolist() == [0, 0, 1]
    assert data.load(str(folder), size=8).skipped == names  # from the cache, too


def test_limit_and_progress(folder):
    seen: list[tuple[int, int | None]] = []
    images = data.load(str(folder), size=8, limit=2, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(images.images, chw(EXPECTED[:2]))
    assert seen == [(2, 2)]
    assert len(data.load(str(folder), size=8, limit=9).images) == 3


def test_progress_is_told_every_256_images(tmp_path):
    np.savez(tmp_path / "x.npz", X=noise(600, 2, 2))
    seen = []
    data.load(f"npz:{tmp_path / 'x.npz'}", size=2, progress=lambda *now: seen.append(now))
    assert seen == [(256, 600), (512, 600), (600, 600)]


def test_cache_is_used_and_follows_the_files(folder, cache):
    calls = []

    def load(**options: Any) -> data.Images:
        return data.load(str(folder), **{"size": 8, "progress": lambda *now: calls.append(now)} | options)

    first, second = load(), load()
    assert len(calls) == 1
    assert isinstance(second.images, np.memmap)
    np.testing.assert_array_equal(first.images, second.images)
    assert load(channels=1).images.shape == (3, 1, 8, 8)
    assert load(size=4).images.shape == (3, 3, 4, 4)
    assert len(load(limit=1).images) == 1
    changed = folder / "b" / "1.png"
    changed.write_bytes(encoded(noise(8, 8, 3, seed=9)))
    os.utime(changed, (1, 1))
    np.testing.assert_array_equal(load().images[2], noise(8, 8, 3, seed=9).transpose(2, 0, 1))
    assert len(calls) == 5
    assert all(path.name.startswith("data-") for path in cache.iterdir())


def test_an_interrupted_load_leaves_nothing(folder, cache):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.load(str(folder), size=8, progress=stop)
    assert list(cache.iterdir()) == []


def test_folder_errors(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProbeError, match=r"empty: 0 images found; expected files \.bmp .*: check the path"):
        data.load(str(tmp_path / "empty"))
    for path in folder.rglob("*.*"):
        path.write_bytes(b"junk")
    with pytest.raises(
        ProbeError, match=r"folder:photos: all 3 images are unreadable, such as 10\.PNG; expected at least"
    ):
        data.load(str(folder))
    with pytest.raises(ProbeError, match=r"2\.png: is a file; expected a folder, or a file with its prefix"):
        data.load(str(folder / "a" / "2.png"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at/all", "folder:nowhere/at/all: no such file or folder; expected folder:PATH"),
        ("", "folder:: no such file or folder"),
        *[(f"{prefix}:nowhere", f"{prefix}:nowhere: no such") for prefix in ("folder", "idx", "npz")],
        (
            "flickr:cats",
            "flickr:cats: unknown source 'flickr'; expected a folder or one of rooms, folder, parquet, idx",
        ),
        ("rooms:many", "rooms:many of 64 px asked for; expected rooms:N or rooms:N@SEED"),
        ("rooms:0", "expected rooms:N or rooms:N@SEED, N >= 1"),
        ("hf:", "names no dataset; expected hf:NAME or hf:NAME:SPLIT"),
    ],
)
def test_unknown_and_missing_sources(source, message):
    with pytest.raises(ProbeError, match=message) as error:
        data.load(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"size": 0}, {"channels": 2}, {"limit": 0}])
def test_bad_options(options):
    with pytest.raises(ProbeError, match=r"asked for; expected size >= 1, channels 1 or 3, limit >= 1"):
        data.load("rooms:1", **options)


def test_a_cache_that_cannot_be_written(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        ProbeError, match=r"photos: .*; expected a readable source and a writable cache: .*set PROBE_CACHE"
    ):
        data.load(str(folder))


# ---- rooms


def test_rooms_are_the_rendered_rooms():
    images, drawn = data.load("rooms:3@5", size=16), rooms.render(3, seed=5, size=16)
    np.testing.assert_array_equal(images.images, drawn.images)
    np.testing.assert_array_equal(images.labels, drawn.attributes[:, 0])
    assert images.name == "rooms:3@5"
    grey = data.load("rooms:24000@5", size=16, channels=1, limit=3)
    assert grey.name == "rooms:24000@5"
    assert np.abs(grey.images[:, 0] - np.tensordot(drawn.images, [0.299, 0.587, 0.114], (1, 0))).max() < 1
    with pytest.raises(ProbeError, match=r"of 8 px asked for; expected .* size >= 16"):
        data.load("rooms:2", size=8)


def test_rooms_without_a_number_are_24000(monkeypatch):
    asked = []
    small = rooms.render(2, size=16)
    monkeypatch.setattr(rooms, "load", lambda *args: asked.append(args) or small)
    assert data.load("rooms", size=16).name == "rooms:24000"
    assert asked == [(24000, 0, 16)]


# ---- parquet


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)


def cells(*seeds: int) -> list[dict[str, Any]]:
    return [{"bytes": encoded(noise(8, 8, 3, seed=seed)), "path": None} for seed in seeds]


@pytest.mark.parametrize("form", ["hub", "hub/train-*.parquet"])
def test_parquet_folder_and_glob(tmp_path, form):
    write_parquet(tmp_path / "hub" / "train-1.parquet", {"img": cells(2), "fine_label": [5]})
    write_parquet(tmp_path / "hub" / "train-0.parquet", {"n": [1, 2], "img": cells(0, 1), "fine_label": [7, None]})
    images = data.load(f"parquet:{tmp_path / form}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels.tolist() == [7, -1, 5]
    assert images.name == f"parquet:{Path(form).name}"


def test_parquet_file_with_another_column_and_unreadable_rows(tmp_path):
    broken = [{"bytes": b"junk", "path": "dir/broken.jpg"}, {"bytes": None, "path": None}, None]
    write_parquet(tmp_path / "x.parquet", {"photo": cells(0, 1) + broken + cells(2), "label": list("abcdef")})
    images = data.load(f"parquet:{tmp_path / 'x.parquet'}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels is None
    assert images.skipped == ("broken.jpg", "x.parquet row 3", "x.parquet row 4")


def test_parquet_errors(tmp_path, monkeypatch):
    write_parquet(tmp_path / "text.parquet", {"text": ["a"], "label": [1]})
    with pytest.raises(
        ProbeError, match=r"parquet:text\.parquet: found the columns text, label; expected a column image"
    ):
        data.load(f"parquet:{tmp_path / 'text.parquet'}")
    (tmp_path / "junk.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ProbeError, match=r"parquet:junk\.parquet: .*; expected a parquet file"):
        data.load(f"parquet:{tmp_path / 'junk.parquet'}")
    with pytest.raises(ProbeError, match=r"parquet:.*\*\.pq: 0 files found"):
        data.load(f"parquet:{tmp_path}/*.pq")
    with pytest.raises(ProbeError, match=r"parquet:nowhere: no such file or folder"):
        data.load("parquet:nowhere")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ProbeError, match=r"parquet: this source needs pyarrow: pip install 'dcgan-probe\[parquet\]'"):
        data.load(f"parquet:{tmp_path}")


@pytest.mark.skipif(not CIFAR.exists(), reason="shared/data/cifar10-test.parquet is not beside the repository")
def test_parquet_cifar():
    pq = pytest.importorskip("pyarrow.parquet")
    images = data.load(f"parquet:{CIFAR}", size=32, limit=70)
    table = pq.read_table(CIFAR).slice(0, 70).to_pylist()
    expected = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in table])
    np.testing.assert_array_equal(images.images, chw(expected))
    assert images.labels.tolist() == [row["label"] for row in table]


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
        ({}, r"npz:x\.npz: holds no arrays; expected X, images, data or x"),
        ({"a": noise(2), "b": noise(2)}, r"npz:x\.npz: found the arrays a, b; expected X, images, data or x"),
        ({"X": np.zeros((2, 8, 8))}, r"npz:x\.npz: X is float64 \(2, 8, 8\); expected uint8 in 0 … 255"),
        ({"X": noise(2, 3072)}, r"X is uint8 \(2, 3072\); expected uint8 in 0 … 255 of \(N, H, W\), \(N, H, W, C\)"),
        ({"X": noise(2, 8, 8, 7)}, r"X is uint8 \(2, 8, 8, 7\); expected .* C = 1, 3 or 4"),
        ({"X": np.array([None])}, r"X is object \(1,\); expected uint8"),
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


# ---- lmdb


def test_lmdb_in_the_order_of_keys(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "church"), map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for key, seed in ((b"c", 2), (b"a", 0), (b"b", 1)):
            transaction.put(key, encoded(noise(8, 8, 3, seed=seed)))
        transaction.put(b"bad", b"junk")
    images = data.load(f"lmdb:{tmp_path / 'church'}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert (images.labels, images.name, images.skipped) == (None, "lmdb:church", ("bad",))


def test_lmdb_errors(tmp_path, monkeypatch):
    pytest.importorskip("lmdb")
    with pytest.raises(ProbeError, match=r"lmdb:nowhere: no such file or folder"):
        data.load("lmdb:nowhere")
    with pytest.raises(ProbeError, match=r"lmdb:.*; expected a folder with an LMDB data\.mdb"):
        data.load(f"lmdb:{tmp_path}")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ProbeError, match=r"lmdb: this source needs lmdb: pip install 'dcgan-probe\[lmdb\]'"):
        data.load(f"lmdb:{tmp_path}")


# ---- hf, with a stand-in for `datasets`


class Stream:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def decode(self, enable: bool) -> Iterator[dict[str, Any]]:
        assert not enable
        return iter(self.rows)


def stand_in(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> list[Any]:
    asked: list[Any] = []

    class Feature:
        def decode_example(self, cell: dict[str, Any]) -> Image.Image:
            return Image.open(cell["path"])

    def load_dataset(name: str, split: str, streaming: bool) -> Stream:
        asked.append((name, split, streaming))
        if split == "nosplit":
            raise ValueError("Bad split: nosplit.\nAvailable splits: ['train']")
        return Stream(rows)

    module = types.ModuleType("datasets")
    module.load_dataset, module.Image = load_dataset, Feature  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_hf(tmp_path, monkeypatch):
    (tmp_path / "remote.png").write_bytes(encoded(noise(8, 8, 3, seed=2)))
    last = {"bytes": None, "path": str(tmp_path / "remote.png")}
    pictures = [*cells(0, 1), {"bytes": b"junk", "path": "x/broken.jpg"}, None, last]
    rows = [{"id": "n", "img": picture, "label": i} for i, picture in enumerate(pictures)]
    asked = stand_in(monkeypatch, rows)
    seen: list[Any] = []
    images = data.load("hf:someone/rooms", size=8, progress=lambda *now: seen.append(now))
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels.tolist() == [0, 1, 4]
    assert (images.name, images.skipped) == ("hf:someone/rooms:train", ("broken.jpg", "row 3"))
    assert seen == [(3, None)]
    assert len(data.load("hf:someone/rooms:test", size=8, limit=1).images) == 1
    data.load("hf:someone/rooms:train", size=8)
    assert asked == [("someone/rooms", "train", True), ("someone/rooms", "test", True)]


def test_hf_errors(monkeypatch):
    stand_in(monkeypatch, [{"text": "a"}])
    with pytest.raises(ProbeError, match=r"hf:books: found the columns text; expected a column image or img"):
        data.load("hf:books")
    with pytest.raises(ProbeError, match=r"hf:books:nosplit: Bad split: nosplit\.; expected hf:NAME or hf:NAME:SPLIT"):
        data.load("hf:books:nosplit")
    stand_in(monkeypatch, [])
    with pytest.raises(ProbeError, match=r"hf:none:train: 0 images found"):
        data.load("hf:none")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProbeError, match=r"hf: this source needs datasets: pip install 'dcgan-probe\[hf\]'"):
        data.load("hf:other")


def test_nothing_heavy_is_imported():
    code = "import sys, probe.data; print(*{'torch', 'pyarrow', 'lmdb', 'datasets', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
