"""Sources of images: how pictures are prepared, folders and rooms, and what all sources share."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.base.errors import ProbeError
from probe.data import loading as data
from probe.data.rooms import scenes as rooms
from tests.pictures import EXPECTED, chw, encoded, noise

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, seed in (("b/1.png", 2), ("a/2.png", 1), ("a/10.PNG", 0)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(8, 8, 3, seed=seed)))
    return root


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
    assert images.classes == ("a", "b")


@pytest.mark.parametrize(
    ("names", "labels"), [(("07", "3"), [7, 7, 3]), (("3", "x"), [0, 0, 1]), (("1", "01"), [0, 1, 1])]
)
def test_subfolders_called_by_numbers_are_labels_themselves(folder, names, labels):
    for before, after in zip("ab", names, strict=True):
        (folder / before).rename(folder / after)
    images = data.load(str(folder), size=8)
    assert images.labels.tolist() == labels
    assert images.classes == (() if labels[0] == 7 else tuple(sorted(names)))


def test_a_folder_whose_name_is_no_text(folder):
    odd = folder.rename(folder.with_name(os.fsdecode(b"pho\xfftos")))
    images = data.load(str(odd), size=8)
    np.testing.assert_array_equal(images.images, chw(EXPECTED))
    assert images.name == r"folder:pho\udcfftos"


def test_folder_without_classes_and_with_hidden_files(folder):
    (folder / "z.png").write_bytes(encoded(noise(8, 8, 3, seed=3)))
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "t.png").write_bytes(encoded(noise(8, 8, 3)))
    (folder / "a" / "._2.png").write_bytes(b"resource fork")
    (folder / "a" / "notes.txt").write_text("not an image")
    images = data.load(str(folder), size=8)
    assert images.labels is None
    assert (len(images.images), images.skipped, images.why) == (4, ("a/notes.txt",), ("no image",))


def test_unreadable_files_are_named_and_skipped(folder, monkeypatch):
    whole = encoded(noise(32, 32, 3), "jpeg")
    (folder / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "empty.webp").write_bytes(b"")
    (folder / "b" / "bomb.png").write_bytes(encoded(noise(64, 64)))
    (folder / "b" / "warned.png").write_bytes(encoded(noise(40, 40)))
    (folder / "b" / "gone.png").symlink_to(folder / "nowhere")
    (folder / "b" / "foreign.png").write_bytes(encoded(noise(8, 8), "pcx"))  # PIL could read it; it is none of ours
    Image.fromarray(noise(8, 8).astype(np.float32) * 1000).save(folder / "b" / "floats.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    (folder / "b" / "text.csv").write_text("no image, and no name of one")
    images = data.load(str(folder), size=8)
    listed = ("a/cut.jpg", "b/bomb.png", "b/empty.webp", "b/floats.tif", "b/foreign.png", "b/gone.png", "b/warned.png")
    names = (*listed, "b/text.csv")
    assert images.skipped == names
    assert [images.why[names.index(f"b/{n}")] for n in ("bomb.png", "gone.png", "foreign.png", "text.csv")] == [
        "of too many pixels", "missing", "unreadable, no picture that is known", "no image"
    ]  # fmt: skip
    assert images.why[0] == "unreadable, broken"
    assert "of an unknown range" in images.why[names.index("b/floats.tif")]
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
    with pytest.raises(ProbeError, match=r"empty: 0 images found; expected files \.avif \.bmp .*: check the path"):
        data.load(str(tmp_path / "empty"))
    for path in folder.rglob("*.*"):
        path.write_bytes(b"junk")
    with pytest.raises(
        ProbeError,
        match=r"folder:photos: all 3 images are left out, such as a/10\.PNG \(unreadable, no picture that is known\); expected at least",
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
            "flickr:cats: unknown source 'flickr'; expected a folder or one of rooms, rooms@2, folder, faces, parquet, idx",
        ),
        ("rooms:many", "rooms:many of 64 px asked for; expected rooms:N or rooms:N@SEED"),
        ("rooms:0", "expected rooms:N or rooms:N@SEED, N of 1 to 10,000,000"),
        ("rooms:99999999999999999999999", "expected rooms:N or rooms:N@SEED, N of 1 to 10,000,000"),
        ("rooms:9@2147483648", "SEED up to 2147483647"),
        ("rooms@2:none", "rooms@2:none of 64 px asked for; expected rooms@2:N or rooms@2:N@SEED"),
        ("rooms@3:9", "rooms@3:9: unknown source 'rooms@3'; expected a folder or one of rooms, rooms@2, folder"),
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
    second = data.load("rooms@2:3@5", size=16)
    np.testing.assert_array_equal(second.images, rooms.render(3, seed=5, size=16, edition=2).images)
    assert second.name == "rooms@2:3@5"
    assert data.stamp("rooms@2") == "rooms@2"


def test_rooms_without_a_number_are_24000(monkeypatch):
    asked = []
    small = rooms.render(2, size=16)
    monkeypatch.setattr(rooms, "load", lambda *args: asked.append(args) or small)
    assert data.load("rooms", size=16).name == "rooms:24000"
    assert data.load("rooms@2", size=16).name == "rooms@2:24000"
    assert asked == [(24000, 0, 16, 1), (24000, 0, 16, 2)]


def test_nothing_heavy_is_imported():
    code = "import sys, probe.data; print(*{'torch', 'pyarrow', 'lmdb', 'datasets', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
