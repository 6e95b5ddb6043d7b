"""Where images come from: a reader a source, each a lazy stream of pictures."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from probe.base.errors import ProbeError
from probe.data import array_files
from probe.data.reading import Items, Reading, encoded, existing, extra, pictures, reading, sound
from probe.data.rooms import scenes as rooms

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MOST_ROOMS = 10_000_000
_LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "target")


def _rooms(text: str, size: int, limit: int | None, edition: int = 1) -> Reading:
    """N or N@SEED, else 24000@0: the procedural rooms; the label is 1 where a window shows, else 0."""
    prefix = "rooms" if edition == 1 else f"rooms@{edition}"
    match = re.fullmatch(r"(\d+)(?:@(\d+))?", text or "24000")
    n, seed = (int(match[1][:20]), int((match[2] or "0")[:20])) if match else (0, 0)
    if not (1 <= n <= _MOST_ROOMS and seed < 2**31 and size >= 16):
        wanted = f"{prefix}:N or {prefix}:N@SEED, N of 1 to {_MOST_ROOMS:,}, SEED up to 2147483647, size >= 16"
        raise ProbeError(f"{prefix}:{text} of {size} px asked for; expected {wanted}")
    drawn = rooms.load(min(n, limit or n), seed, size, edition)
    labels = drawn.attributes[:, rooms.ATTRIBUTES.index("window")].astype(np.int64)
    items = pictures((image.transpose(1, 2, 0) for image in drawn.images), labels.tolist(), prefix)
    stamp = f"{prefix} {n}@{seed} {hashlib.sha256(drawn.images[:16].tobytes()).hexdigest()}"
    return Reading(
        name=f"{prefix}:{n}@{seed}" if seed else f"{prefix}:{n}",
        stamp=stamp,
        count=len(labels),
        items=items,
        ready=(drawn.images, labels),
    )


def _folder(text: str, *_: object) -> Reading:
    """PATH: images at any depth, hidden ones apart; if all lie in subfolders, the first of these are the classes.

    Subfolders that are all called by numbers, such as 0 … 9, are labels themselves; others are numbered in order.
    """
    root = existing("folder", text)
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
    numbers = {top: int(top) for top in tops if re.fullmatch(r"[0-9]{1,9}", top)}
    numbered = len(set(numbers.values())) == len(tops)
    labels = numbers if numbered else {top: i for i, top in enumerate(tops)}
    items = ((files[n].name, encoded(files[n]), labels.get(n.split("/")[0])) for n in order)
    named = () if numbered else tuple(top.encode("utf-8", "backslashreplace").decode() for top in tops)
    return reading("folder", root, (files[name] for name in order), len(order), items, named)


def _columns(images: list[str], integers: list[str], found: Iterable[str], where: str) -> tuple[str, str | None]:
    """The columns of images and of labels among those that could hold them."""
    if not images:
        wanted = "a column image or img with bytes and path"
        raise ProbeError(f"{where}: found the columns {', '.join(found)}; expected {wanted}: check the dataset")
    image = next((name for name in ("image", "img") if name in images), images[0])
    return image, next((name for name in _LABEL_COLUMNS if name in integers), None)


def _parquet(text: str, *_: object) -> Reading:
    """FILE, GLOB or DIR (all its files): Hugging Face image parquet, read a few rows at a time."""
    pq, pa = extra("pyarrow.parquet", "parquet"), extra("pyarrow", "parquet")
    path = Path(text).expanduser()
    if path.exists() or not glob.has_magic(text):
        found = existing("parquet", text).rglob("*.parquet") if not path.is_file() else iter([path])
    else:
        found = map(Path, glob.glob(str(path), recursive=True))
    files = sorted((file for file in found if file.is_file()), key=Path.as_posix)
    if not files:
        raise ProbeError(f"parquet:{text}: 0 files found; expected *.parquet files: check the path")

    guarded = partial(sound, errors=(pa.ArrowException, OSError), wanted="a parquet file")

    def rows(file: Path) -> Items:
        with guarded(f"parquet:{file.name}"), pq.ParquetFile(file) as table:
            kinds = {field.name: field.type for field in table.schema_arrow}
            structs = [n for n, t in kinds.items() if pa.types.is_struct(t) and t.get_field_index("bytes") >= 0]
            integers = [n for n, t in kinds.items() if pa.types.is_integer(t)]
            image, label = _columns(structs, integers, kinds, f"parquet:{file.name}")
            batches = table.iter_batches(64, columns=[image, label] if label else [image])
            for i, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                cell = row[image] or {}
                name = os.path.basename(cell.get("path") or f"{file.name} row {i}")
                yield name, encoded(cell.get("bytes") or b""), row.get(label)

    count = 0
    for file in files:
        with guarded(f"parquet:{file.name}"):
            count += pq.read_metadata(file).num_rows
    return reading("parquet", path, files, count, (item for file in files for item in rows(file)))


def _lmdb(text: str, *_: object) -> Reading:
    """DIR: a database whose values are encoded images, as those of LSUN; in the order of its keys."""
    lmdb, path = extra("lmdb", "lmdb"), existing("lmdb", text)
    guarded = partial(sound, f"lmdb:{path.name}", (lmdb.Error, OSError), "a folder with an LMDB data.mdb")
    opened = partial(lmdb.open, str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)

    def items() -> Items:
        with guarded(), opened() as database, database.begin() as transaction:
            for key, value in transaction.cursor():
                yield key.decode(errors="replace"), encoded(value), None

    with guarded(), opened() as database:
        count = database.stat()["entries"]
    return reading("lmdb", path, [path / "data.mdb" if path.is_dir() else path], count, items())


def _hf(text: str, *_: object) -> Reading:
    """NAME or NAME:SPLIT (else train): a dataset of the Hugging Face Hub, streamed."""
    name, _colon, split = text.partition(":")
    split = split or "train"
    if not name:
        raise ProbeError(f"hf:{text}: names no dataset; expected hf:NAME or hf:NAME:SPLIT, such as hf:cifar10:test")

    def items() -> Items:
        datasets = extra("datasets", "hf")
        with sound(f"hf:{text}", (Exception,), "hf:NAME or hf:NAME:SPLIT of a dataset with images"):
            stream = datasets.load_dataset(name, split=split, streaming=True)
            for i, row in enumerate(stream.decode(False)):  # a broken image would end a stream that decodes
                if i == 0:
                    structs = [key for key, value in row.items() if isinstance(value, dict) and "bytes" in value]
                    integers = [key for key, value in row.items() if isinstance(value, int)]
                    image, label = _columns(structs, integers, row, f"hf:{text}")
                cell = row[image] or {"bytes": b""}
                remote = partial(datasets.Image().decode_example, cell)
                opened = remote if cell["bytes"] is None else encoded(cell["bytes"])
                yield os.path.basename(cell.get("path") or f"row {i}"), opened, row.get(label)

    files = [file for file in sorted(Path(name).rglob("*")) if file.is_file()]  # a local folder is a dataset, too
    return reading("hf", f"{Path(name).name if files else name}:{split}", files, None, items())


ROOMS = {"rooms": 1, "rooms@2": 2}
"""Prefixes of the procedural rooms, and the edition that each means."""
SOURCES: dict[str, Callable[[str, int, int | None], Reading]] = {
    "rooms": _rooms,
    "rooms@2": partial(_rooms, edition=2),
    "folder": _folder,
    "parquet": _parquet,
    "idx": array_files.idx,
    "npz": array_files.npz,
    "mat": array_files.mat,
    "lmdb": _lmdb,
    "hf": _hf,
}
"""Prefix -> reader: what stands behind the prefix, the image size and the limit -> a `Reading`."""
