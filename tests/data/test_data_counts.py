"""What a source says of itself: read once each whatever its name, at the range it has, known by its contents."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import probe
from probe import cli
from probe.base import reads
from probe.base.errors import ProbeError
from probe.data import loading as data
from tests.pictures import EXPECTED, chw, encoded, noise

pytestmark = pytest.mark.usefixtures("cache")


def written(folder: Path, arrays: np.ndarray, suffix: str = ".png") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i}{suffix}")
    return str(folder)


# ---- nothing lost, nothing multiplied


def test_a_picture_is_known_by_its_contents_where_its_name_says_nothing(tmp_path):
    greys = noise(3, 8, 8)
    for name, array, kind in (("a.pgm", greys[0], "ppm"), ("b", greys[1], "png"), ("c.xyz", greys[2], "tiff")):
        (tmp_path / name).write_bytes(encoded(array, kind))
    (tmp_path / "d.jfif").write_bytes(encoded(np.full((8, 8), 200, np.uint8), "jpeg"))
    images = data.load(str(tmp_path), size=8, channels=1)
    np.testing.assert_array_equal(images.images[:3, 0], greys)
    assert images.images[3].min() == images.images[3].max() == 200
    assert images.names == ("a.pgm", "b", "c.xyz", "d.jfif")
    assert images.skipped == ()


@pytest.mark.parametrize("target", ["..", ".", "../../photos", "../other"])
def test_a_link_to_a_folder_is_followed_once(tmp_path, target):
    folder = tmp_path / "photos"
    written(folder / "real", EXPECTED)
    written(folder / "other", EXPECTED[:1])
    (folder / "real" / "again").symlink_to(target)
    images = data.load(str(folder), size=8)
    assert images.names == ("other/0.png", "real/0.png", "real/1.png", "real/2.png")
    assert (images.skipped, images.why) == (("real/again",), ("a link to a folder that was read already",))


def test_a_link_to_a_folder_elsewhere_is_read(tmp_path):
    written(tmp_path / "elsewhere", EXPECTED)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cats").symlink_to("../elsewhere")
    images = data.load(str(tmp_path / "photos"), size=8)
    assert images.names == ("cats/0.png", "cats/1.png", "cats/2.png")
    assert (images.classes, images.skipped) == (("cats",), ())


def test_a_source_says_what_became_of_its_files(tmp_path):
    source = written(tmp_path / "photos", noise(5, 8, 8))
    for i in range(4):
        (tmp_path / "photos" / f"x{i}.png").write_bytes(b"\x89PNG broken")
    Image.fromarray(noise(16, 8)).save(tmp_path / "photos" / "5.png")
    (tmp_path / "photos" / "notes.txt").write_text("notes")
    images = data.load(source, size=8, channels=1)
    why = "unreadable, no picture that is known"
    assert images.about() == {
        "source": "folder:photos", "sha256": images.sha256, "read": 6, "left_out": 5, "resized": 1,
        "why": {why: ["x0.png", "x1.png", "x2.png", "…"], "no image": ["notes.txt"]},
    }  # fmt: skip
    assert images.told() == (
        f"folder:photos: 6 images read; 4 left out as {why}: x0.png, x1.png, x2.png …; 1 left out as no image: notes.txt; "
        "1 of another size resized to 8x8 (shorter side, centre crop)"
    )


def test_every_question_keeps_and_tells_what_it_read(tmp_path):
    source = written(tmp_path / "photos", noise(40, 32, 32, 3))
    (tmp_path / "photos" / "x.png").write_bytes(b"broken")
    result = probe.dedup(source, steps=2, planted=2)
    kept = result.provenance["sources"]
    assert [(s["source"], s["read"], s["left_out"]) for s in kept] == [("folder:photos", 40, 1)]
    assert result.remarks[0].startswith("folder:photos: 40 images read; 1 left out as unreadable")


def test_training_says_and_keeps_what_it_read(tmp_path, monkeypatch, capsys):
    source = written(tmp_path / "photos", noise(9, 28, 28, 3))
    (tmp_path / "photos" / "x.png").write_bytes(b"broken")
    words = [
        "--size",
        "28",
        "--width",
        "2",
        "--nz",
        "4",
        "--steps",
        "1",
        "--batch",
        "4",
        "--json",
        "--out",
        str(tmp_path / "run"),
    ]
    monkeypatch.setattr(sys, "argv", ["probe", "train", "--data", source, *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr()
    assert stop.value.code == 0
    assert told.err.startswith(
        "folder:photos: 9 images read; 1 left out as unreadable, no picture that is known: x.png"
    )
    assert json.loads(told.out)["skipped"] == 1
    training = probe.load(tmp_path / "run" / "checkpoint.safetensors").provenance["training"]
    assert (training["data"]["read"], training["data"]["left_out"]) == (9, 1)
    assert training["contents"] == training["data"]["sha256"] == data.load(source, 28).sha256


def test_a_refusal_tells_what_was_left_out(tmp_path):
    source = written(tmp_path / "photos", noise(1, 32, 32, 3))
    (tmp_path / "photos" / "x.png").write_bytes(b"broken")
    with pytest.raises(
        ProbeError, match=r"expected at least 2 .* \(folder:photos: 1 images read; 1 left out as .*x\.png"
    ):
        probe.dedup(source)


def test_what_is_read_outside_of_a_question_is_kept_by_none(tmp_path):
    data.load(written(tmp_path / "photos", EXPECTED), size=8)
    with reads.noting() as noted:
        data.load(str(tmp_path / "photos"), size=4)
    assert [source.name for source in noted] == ["folder:photos"]


# ---- known by its contents


def test_a_digest_is_of_the_contents_in_their_order_and_of_nothing_else(tmp_path):
    def digest(name: str, arrays: np.ndarray, size: int = 8, **options: int) -> str:
        return data.load(written(tmp_path / name, arrays), size=size, **options).sha256

    first = digest("a/images", EXPECTED)
    assert first == digest("b/others", EXPECTED) == digest("a/images", EXPECTED, size=4)
    others = [
        digest("c/images", EXPECTED[::-1]),
        digest("d/images", EXPECTED[:2]),
        digest("a/images", EXPECTED, limit=1),
    ]
    assert len({first, *others}) == 4
    (tmp_path / "a" / "images" / "notes.txt").write_text("no image")
    assert data.load(str(tmp_path / "a" / "images"), size=8).sha256 == first
    (tmp_path / "a" / "images" / "0.png").rename(tmp_path / "a" / "images" / "z.png")
    assert data.load(str(tmp_path / "a" / "images"), size=8).sha256 != first


def test_a_file_in_the_place_of_another_is_read_anew_whatever_its_time_and_size(tmp_path):
    for name, array in (("a.npy", noise(2, 8, 8)), ("b.npy", noise(2, 8, 8, seed=1))):
        np.save(tmp_path / name, array)
        os.utime(tmp_path / name, (1, 1))
    first = data.load(f"npz:{tmp_path / 'a.npy'}", size=8, channels=1)
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    second = data.load(f"npz:{tmp_path / 'a.npy'}", size=8, channels=1)
    np.testing.assert_array_equal(second.images[:, 0], noise(2, 8, 8, seed=1))
    assert first.sha256 != second.sha256


def test_rooms_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "rooms", EXPECTED)
    for ask in (data.load, data.stamp):
        with pytest.raises(
            ProbeError, match=r"rooms: the procedural rooms and a folder here; pass rooms:24000 or \./rooms"
        ):
            ask("rooms")
    assert data.load("./rooms", size=8).name == "folder:rooms"
    assert data.load("rooms:2", size=16).name == "rooms:2"


def test_rooms_are_known_by_what_they_are_drawn_from():
    known = [
        data.load(s, size=16, channels=c).sha256
        for s, c in (("rooms:3", 3), ("rooms:3", 1), ("rooms:3@1", 3), ("rooms:2", 3))
    ]
    assert known[0] == known[1]
    assert len(set(known)) == 3


# ---- at the range it has


@pytest.mark.parametrize(("bits", "words"), [(8, "8 bits"), (10, "10 bits"), (12, "12 bits"), (16, None)])
def test_the_depth_of_greys_is_what_a_whole_source_uses(tmp_path, bits, words):
    deep = (noise(3, 8, 8).astype(np.uint16) << (bits - 8)) | 1
    deep[0] //= 64  # a dark picture stays dark
    deep[2].flat[:1] = 2**bits - 1
    images = data.load(written(tmp_path / "deep", deep, ".tif"), size=8, channels=1)
    np.testing.assert_array_equal(images.images[:, 0], deep >> (bits - 8))
    assert images.levels == ((f"values up to {2**bits - 1} taken as {words}",) if words else ())


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255)])
@pytest.mark.parametrize("layout", ["tif", "nhwc", "nchw"])
def test_floats_are_read_by_the_range_of_the_source(tmp_path, low, high, layout):
    pixels = noise(4, 8, 8, 1) if layout == "tif" else noise(4, 8, 8, 3)
    pixels[0].flat[:2] = 0, 255
    floats = (pixels / 255 * (high - low) + low).astype(np.float32)
    if layout == "tif":
        source = written(tmp_path / "floats", floats[..., 0], ".tif")
    else:
        np.savez(tmp_path / "x.npz", x_train=floats if layout == "nhwc" else chw(floats))
        source = f"npz:{tmp_path / 'x.npz'}"
    images = data.load(source, size=8, channels=pixels.shape[-1])
    np.testing.assert_array_equal(images.images, chw(pixels))
    assert images.levels == (f"floats taken as {low} … {high}",)


@pytest.mark.parametrize(("low", "high"), [(0, 1.5), (-3, 3), (0, 1000)])
def test_floats_of_an_unknown_range_are_refused_with_it(tmp_path, low, high):
    np.savez(tmp_path / "x.npz", np.linspace(low, high, 2 * 64).reshape(2, 8, 8))
    with pytest.raises(
        ProbeError, match=rf"all 2 images are left out, .*\(floats from {low} to {high:g}, of an unknown range"
    ):
        data.load(f"npz:{tmp_path / 'x.npz'}", size=8)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool])
def test_zeros_and_ones_are_black_and_white(tmp_path, kind):
    ones = np.indices((2, 8, 8)).sum(0) % 2
    np.save(tmp_path / "x.npy", ones.astype(kind))
    images = data.load(f"npz:{tmp_path / 'x.npy'}", size=8, channels=1)
    np.testing.assert_array_equal(images.images[:, 0], ones * 255)
    assert images.levels == ("values of 0 and 1 taken as black and white",)


def test_dark_colours_of_16_bits_are_refused_where_the_decoder_loses_them(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(values: np.ndarray) -> bytes:  # (8, 8, 3) of 16 bits, which PIL does not write
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    pixels = noise(8, 8, 3).astype(np.uint16)
    (tmp_path / "0.png").write_bytes(png(pixels << 4))
    with pytest.raises(
        ProbeError, match=r"colours of 16 bits whose values stay below 4096 of 65536; expected .*: save them"
    ):
        data.load(str(tmp_path), size=8)
    (tmp_path / "0.png").write_bytes(png(pixels << 8))
    np.testing.assert_array_equal(data.load(str(tmp_path), size=8).images, chw(pixels[None]))


@pytest.mark.parametrize("key", ["arr_0", "x_train", "train_images"])
def test_names_that_arrays_are_saved_under(tmp_path, key):
    labels = {"x_train": {"y_train": np.array([2, 0, 1])}, "train_images": {"train_labels": np.array([[2], [0], [1]])}}
    np.savez(tmp_path / "x.npz", **{key: EXPECTED}, **labels.get(key, {}))
    images = data.load(f"npz:{tmp_path / 'x.npz'}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert (None if images.labels is None else images.labels.tolist()) == ([2, 0, 1] if key in labels else None)


def test_parquet_of_plain_bytes(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [encoded(array) for array in EXPECTED]
    pq.write_table(pa.table({"Image": pa.array(rows, pa.binary()), "Label": [1, 0, 2]}), tmp_path / "x.parquet")
    images = data.load(f"parquet:{tmp_path / 'x.parquet'}", size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.labels.tolist() == [1, 0, 2]
    assert Image.open(io.BytesIO(rows[0])).size == (8, 8)


@pytest.mark.parametrize("kind", ["string", "dictionary"])
def test_parquet_labels_that_are_texts(tmp_path, kind):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for part, labels in (("0", ["dog", "cat"]), ("1", [None])):
        column = pa.array(labels, pa.string())
        column = column.dictionary_encode() if kind == "dictionary" else column
        images = pa.array([encoded(EXPECTED[0])] * len(labels), pa.binary())
        pq.write_table(pa.table({"image": images, "label": column}), tmp_path / f"{part}.parquet")
    images = data.load(f"parquet:{tmp_path}", size=8)
    assert (images.labels.tolist(), images.classes) == ([1, 0, -1], ("cat", "dog"))
