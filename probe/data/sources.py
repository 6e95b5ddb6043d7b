"""Where images come from: a reader a source, each a lazy stream of pictures."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from probe.base.errors import ProbeError
from probe.data import array_files
from probe.data.faces import faces
from probe.data.reading import FORMATS, Encoded, Fetched, Items, Reading, drawn, existing, extra, reading, sound
from probe.data.rooms import scenes as rooms

_SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
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
    made = rooms.load(min(n, limit or n), seed, size, edition)
    labels = made.attributes[:, rooms.ATTRIBUTES.index("window")].astype(np.int64)
    stamp = f"{prefix} {n}@{seed} {hashlib.sha256(made.images[:16].tobytes()).hexdigest()}"
    return Reading(
        name=f"{prefix}:{n}@{seed}" if seed else f"{prefix}:{n}",
        stamp=stamp,
        count=len(labels),
        items=lambda: drawn((image.transpose(1, 2, 0) for image in made.images), labels.tolist(), prefix),
        ready=(made.images, labels),
        sha256=hashlib.sha256(f"{prefix}:{len(labels)}@{seed}".encode()).hexdigest(),
    )


def _walked(root: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Files below a folder by their names in it, hidden ones apart; and the links to folders that were read already.

    Each folder is read once, whatever links lead to it, and where it is rather than where it is linked to.
    """
    files: dict[str, Path] = {}
    left: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    waiting, linked = [root], list[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        about = folder.stat()
        if (about.st_dev, about.st_ino) in seen:
            left.append((folder.relative_to(root).as_posix(), "a link to a folder that was read already"))
            continue
        seen.add((about.st_dev, about.st_ino))
        try:
            within = sorted(folder.iterdir())
        except OSError as error:
            left.append((folder.relative_to(root).as_posix(), f"a folder that cannot be read ({error.strerror})"))
            continue
        for path in within:
            if path.name.startswith("."):
                continue
            if path.is_dir():
                (linked if path.is_symlink() else waiting).append(path)
            else:
                files[path.relative_to(root).as_posix()] = path
    return files, left


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name, or else by how it starts."""
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with path.open("rb") if path.is_file() else io.BytesIO() as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(file, formats=FORMATS).close()
    except Exception:  # PIL's decoders raise whatever they stumble over
        return False
    return True


def _folder(text: str, *_: object) -> Reading:
    """PATH: images at any depth, hidden ones apart; if all lie in subfolders, the first of these are the classes.

    Subfolders that are all called by numbers, such as 0 … 9, are labels themselves; others are numbered in order.
    """
    root = existing("folder", text)
    if not root.is_dir():
        raise ProbeError(f"{text}: is a file; expected a folder, or a file with its prefix: parquet:, idx: or npz:")
    files, left = _walked(root)
    order = sorted(name for name, path in files.items() if _is_picture(path))
    left += [(name, "no image") for name in sorted(files.keys() - set(order))]
    if not order:
        found = f"0 images found{f' among {len(files)} files' if files else ''}"
        raise ProbeError(f"{text}: {found}; expected files {' '.join(_SUFFIXES)}: check the path")
    tops = sorted({name.split("/")[0] for name in order}) if all("/" in name for name in order) else []
    numbers = {top: int(top) for top in tops if re.fullmatch(r"[0-9]{1,9}", top)}
    numbered = len(set(numbers.values())) == len(tops)
    labels = numbers if numbered else {top: i for i, top in enumerate(tops)}

    def items() -> Items:
        yield from ((_text(n), Encoded(files[n]), labels.get(n.split("/")[0])) for n in order)

    named = () if numbered else tuple(map(_text, tops))
    left_out = tuple((_text(name), why) for name, why in left)
    return reading("folder", root, (files[name] for name in order), len(order), items, named, left_out)


def _faces(text: str, size: int, _limit: int | None) -> Reading:
    """PATH: the faces in a folder's pictures, found by OpenCV, each cropped and kept where it has `size` pixels."""
    return faces(_folder(text), size)


def _text(name: str) -> str:
    """A name of a file; bytes that are no text cannot be written as such."""
    return name.encode("utf-8", "backslashreplace").decode()


def _columns(images: list[str], integers: list[str], found: Iterable[str], where: str) -> tuple[str, str | None]:
    """The columns of images and of labels among those that could hold them."""
    if not images:
        wanted = "a column of encoded images as bytes, or as a struct of bytes and path"
        raise ProbeError(f"{where}: found the columns {', '.join(found)}; expected {wanted}: check the dataset")
    image = next((name for name in images if name.lower() in ("image", "img")), images[0])
    return image, next((known for name in _LABEL_COLUMNS for known in integers if known.lower() == name), None)


def _parquet(text: str, *_: object) -> Reading:
    """FILE, GLOB or DIR (all its files): Hugging Face image parquet, read a few rows at a time.

    Labels that are texts are numbered in their order.
    """
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

    def columns(table: Any, where: str) -> tuple[str, str | None, bool]:
        kinds = {field.name: field.type for field in table.schema_arrow}
        structs = [n for n, t in kinds.items() if pa.types.is_struct(t) and t.get_field_index("bytes") >= 0]
        structs += [n for n, t in kinds.items() if pa.types.is_binary(t) or pa.types.is_large_binary(t)]
        texts = [n for n, t in kinds.items() if pa.types.is_string(getattr(t, "value_type", t))]
        labels = [n for n, t in kinds.items() if pa.types.is_integer(t)] + texts
        typed = [f"{n} ({'struct' if pa.types.is_struct(t) else t})" for n, t in kinds.items()]
        image, label = _columns(structs, labels, typed, where)
        return image, label, label in texts

    def rows(file: Path) -> Items:
        with guarded(f"parquet:{file.name}"), pq.ParquetFile(file) as table:
            image, label, _ = columns(table, f"parquet:{file.name}")
            batches = table.iter_batches(64, columns=[image, label] if label else [image])
            for i, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                cell = row[image] or {}
                cell = {"bytes": cell} if isinstance(cell, bytes) else cell
                name = os.path.basename(cell.get("path") or f"{file.name} row {i}")
                yield name, Encoded(cell.get("bytes") or b""), number.get(row.get(label), row.get(label))

    count, found_texts = 0, set[str]()
    for file in files:
        with guarded(f"parquet:{file.name}"), pq.ParquetFile(file) as table:
            count += table.metadata.num_rows
            _image, label, is_text = columns(table, f"parquet:{file.name}")
            if label and is_text:
                found_texts |= set(table.read([label])[label].unique().to_pylist()) - {None}
    classes = tuple(sorted(found_texts))
    number = {word: i for i, word in enumerate(classes)}

    def items() -> Items:
        for file in files:
            yield from rows(file)

    return reading("parquet", path, files, count, items, classes)


def _lmdb(text: str, *_: object) -> Reading:
    """DIR: a database whose values are encoded images, as those of LSUN; in the order of its keys."""
    lmdb, path = extra("lmdb", "lmdb"), existing("lmdb", text)
    guarded = partial(sound, f"lmdb:{path.name}", (lmdb.Error, OSError), "a folder with an LMDB data.mdb")
    opened = partial(lmdb.open, str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)

    def items() -> Items:
        with guarded(), opened() as database, database.begin() as transaction:
            for key, value in transaction.cursor():
                yield key.decode(errors="replace"), Encoded(value), None

    with guarded(), opened() as database:
        count = database.stat()["entries"]
    return reading("lmdb", path, [path / "data.mdb" if path.is_dir() else path], count, items)


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
                    structs += [key for key, value in row.items() if isinstance(value, bytes)]
                    integers = [key for key, value in row.items() if isinstance(value, int)]
                    typed = [f"{key} ({type(value).__name__})" for key, value in row.items()]
                    image, label = _columns(structs, integers, typed, f"hf:{text}")
                cell = row[image] or {"bytes": b""}
                cell = {"bytes": cell} if isinstance(cell, bytes) else cell
                remote = partial(datasets.Image().decode_example, cell)
                picture = Fetched(remote) if cell["bytes"] is None else Encoded(cell["bytes"])
                yield os.path.basename(cell.get("path") or f"row {i}"), picture, row.get(label)

    files = [file for file in sorted(Path(name).rglob("*")) if file.is_file()]  # a local folder is a dataset, too
    return reading("hf", f"{Path(name).name if files else name}:{split}", files, None, items)


ROOMS = {"rooms": 1, "rooms@2": 2}
"""Prefixes of the procedural rooms, and the edition that each means."""
SOURCES: dict[str, Callable[[str, int, int | None], Reading]] = {
    "rooms": _rooms,
    "rooms@2": partial(_rooms, edition=2),
    "folder": _folder,
    "faces": _faces,
    "parquet": _parquet,
    "idx": array_files.idx,
    "npz": array_files.npz,
    "mat": array_files.mat,
    "lmdb": _lmdb,
    "hf": _hf,
}
"""Prefix -> reader: what stands behind the prefix, the image size and the limit -> a `Reading`."""
