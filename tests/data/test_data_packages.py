"""Sources that need a package (parquet, LMDB, Hugging Face): what was written is what is read, or one clear line."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.base.errors import ProbeError
from probe.data import loading as data
from tests.pictures import EXPECTED, chw, encoded, noise

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-test.parquet"
pytestmark = pytest.mark.usefixtures("cache")


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
    assert (images.labels.tolist(), images.classes) == ([0, 1, 5], tuple("abcdef"))
    assert images.skipped == ("broken.jpg", "x.parquet row 3", "x.parquet row 4")


def test_parquet_errors(tmp_path, monkeypatch):
    write_parquet(tmp_path / "text.parquet", {"text": ["a"], "label": [1]})
    with pytest.raises(
        ProbeError,
        match=r"parquet:text\.parquet: found the columns text \(string\), label \(int64\); expected a column of",
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
    with pytest.raises(ProbeError, match=r"hf:books: found the columns text \(str\); expected a column of"):
        data.load("hf:books")
    with pytest.raises(ProbeError, match=r"hf:books:nosplit: Bad split: nosplit\.; expected hf:NAME or hf:NAME:SPLIT"):
        data.load("hf:books:nosplit")
    stand_in(monkeypatch, [])
    with pytest.raises(ProbeError, match=r"hf:none:train: 0 images found"):
        data.load("hf:none")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProbeError, match=r"hf: this source needs datasets: pip install 'dcgan-probe\[hf\]'"):
        data.load("hf:other")
