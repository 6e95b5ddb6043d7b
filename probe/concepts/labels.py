"""Labels of generated samples: boxes by image, in and out as COCO JSON.

In a labels file an image's number is the index of its sample (from the file name's digits, else its `id`). Every image
listed was looked at; one without a box does not show the concept, unless images say by `neg_category_ids` which
categories they lack. `info.probe.seed` names the seed of the samples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.base.files import writing


@dataclass(frozen=True)
class Boxes:
    """Boxes of a concept. `images` are the samples looked at; `boxes` gives (K, 4) floats x0, y0, x1, y1 in pixels."""

    concept: str
    images: tuple[int, ...]
    boxes: dict[int, np.ndarray[Any, Any]]
    seed: int | None = None
    checkpoint: str | None = None

    def __len__(self) -> int:
        return sum(len(b) for b in self.boxes.values())

    @property
    def typical_area(self) -> float:
        """The median area of a box, in square pixels."""
        every = np.concatenate(list(self.boxes.values()))
        return float(np.median((every[:, 2] - every[:, 0]) * (every[:, 3] - every[:, 1])))

    def require_absence(self) -> None:
        """Raise ProbeError where every image shows the concept."""
        if len(self.boxes) == len(self.images):
            raise ProbeError(
                f"{self.concept}: all {len(self.images)} labelled images show it; list some without it, too"
            )

    def cells(self, image: int, grid: int, size: int) -> Tensor:
        """Places of a grid x grid feature map inside a box of an image, (grid, grid) boolean.

        A place counts when its centre is in a box; a box too small to hold one takes the place of its own centre.
        """
        inside = torch.zeros(grid, grid, dtype=torch.bool)
        scale = grid / size
        for x0, y0, x1, y1 in self.boxes.get(image, np.zeros((0, 4))) * scale:
            columns = [i for i in range(grid) if x0 <= i + 0.5 < x1] or [min(int((x0 + x1) / 2), grid - 1)]
            rows = [i for i in range(grid) if y0 <= i + 0.5 < y1] or [min(int((y0 + y1) / 2), grid - 1)]
            inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        return inside

    def masks(self, size: int) -> Tensor:
        """Filled boxes, one mask an image, (len(images), size, size) boolean."""
        return torch.stack([self.cells(i, size, size) for i in self.images])


def from_masks(masks: Tensor, concept: str, seed: int, smallest: int = 12) -> Boxes:
    """Boxes around the 4-connected regions of at least `smallest` pixels of masks (N, S, S) boolean."""
    from scipy.ndimage import find_objects, label

    boxes = {}
    for i, mask in enumerate(masks.numpy()):
        regions, _ = label(mask)
        found = [
            (s[1].start, s[0].start, s[1].stop, s[0].stop)
            for k, s in enumerate(find_objects(regions), 1)
            if (regions[s] == k).sum() >= smallest
        ]
        if found:
            boxes[i] = np.array(found, dtype=np.float64)
    return Boxes(concept, tuple(range(len(masks))), boxes, seed)


def save(labels: Boxes, path: Path, size: int) -> None:
    """Write a COCO JSON file."""
    images = [{"id": i, "file_name": f"{i:06d}.png", "width": size, "height": size} for i in labels.images]
    rows = [(i, *map(float, box)) for i, boxes in labels.boxes.items() for box in boxes]
    annotations = [
        {
            "id": k,
            "image_id": i,
            "category_id": 1,
            "bbox": [x, y, u - x, v - y],
            "area": (u - x) * (v - y),
            "iscrowd": 0,
        }
        for k, (i, x, y, u, v) in enumerate(rows, 1)
    ]
    info = {"probe": {"seed": labels.seed, "samples": len(images), "sha256": labels.checkpoint}}
    categories = [{"id": 1, "name": labels.concept}]
    document = {"info": info, "images": images, "categories": categories, "annotations": annotations}
    write(document, path)


def write(document: dict[str, Any], path: Path) -> None:
    """Write a COCO document, atomically."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProbeError(
            f"{path}: no such labels file; write one with `probe sample --each` and a labelling tool"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ProbeError(f"{path.name}: not a JSON file ({error}); expected COCO labels") from None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise ProbeError(f"{path.name}: not COCO labels; expected the lists images, annotations and categories")
    return document


def categories(path: str | Path) -> list[str]:
    """The names of a COCO file's categories that have an annotation; raises ProbeError where it is none or has none."""
    path = Path(path)
    document = _read(path)
    try:
        used = {row["category_id"] for row in document["annotations"]}
        names = [str(c["name"]) for c in document["categories"] if c["id"] in used]
    except (KeyError, TypeError) as error:
        raise ProbeError(f"{path.name}: not COCO labels: a field is missing or of the wrong kind ({error})") from None
    if not names:
        raise ProbeError(f"{path.name}: no boxes in it; draw at least a few")
    return names


@dataclass(frozen=True)
class Document:
    """A COCO file as it was read: `raw` is all of it, `names` its categories by id, `images` its rows by sample.

    `rows` holds each annotation with its sample and its box x0, y0, x1, y1 in pixels of the sample.
    """

    raw: dict[str, Any]
    names: dict[Any, str]
    images: dict[int, dict[str, Any]]
    rows: list[tuple[dict[str, Any], int, list[float]]]
    seed: int | None
    checkpoint: str | None

    def looked_at(self, category: Any) -> tuple[int, ...]:
        """The samples that say whether they show a category, in rising order.

        All of them; but where any image lists the categories it is known to lack (`neg_category_ids`, as in LVIS), only
        those with a box of it and those that list it.
        """
        if not any("neg_category_ids" in image for image in self.images.values()):
            return tuple(sorted(self.images))
        lack = {i for i, image in self.images.items() if category in image.get("neg_category_ids", ())}
        return tuple(sorted(lack | {i for row, i, _ in self.rows if row["category_id"] == category}))


def read(path: str | Path, size: int) -> Document:
    """Read a COCO file of samples of `size` pixels; boxes are scaled where its images are larger (labelled enlarged).

    Raises ProbeError for what is no COCO file, boxes outside their image, unknown image ids and category ids.
    """
    path = Path(path)
    return _parse(path, _read(path), size)


def _parse(path: Path, document: dict[str, Any], size: int) -> Document:
    try:
        names = {c["id"]: c["name"] for c in document["categories"]}
        if not all(isinstance(name, str) for name in names.values()):
            raise ProbeError(
                f"{path.name}: categories named {list(names.values())}; expected a name in quotes for each"
            )
        index: dict[Any, int] = {}
        scale = {}
        for image in document["images"]:
            index[image["id"]] = _index(path, image, index.values())
            width, height = scale[image["id"]] = (image.get("width", size), image.get("height", size))
            if not (width > 0 and height > 0):
                raise ProbeError(
                    f"{path.name}: image {image['id']} of {width}x{height} pixels; expected its width and height"
                )
        rows = []
        for row in document["annotations"]:
            if row["category_id"] not in names:
                raise ProbeError(
                    f"{path.name}: annotation {row.get('id')}: category {row['category_id']} is not in the file's list"
                )
            if row["image_id"] not in index:
                raise ProbeError(
                    f"{path.name}: annotation {row.get('id')}: image {row['image_id']} is not in the file's list of "
                    "images"
                )
            rows.append((row, index[row["image_id"]], _box(path, row, *scale[row["image_id"]], size)))
        about = document.get("info", {}).get("probe", {})
        seed = about.get("seed")
        if seed is not None and not (type(seed) is int and 0 <= seed < 2**31):
            raise ProbeError(f"{path.name}: info.probe.seed {seed!r}: expected a whole number from 0 to 2147483647")
        images = {index[image["id"]]: image for image in document["images"]}
        if not all(isinstance(image.get("neg_category_ids", []), list) for image in images.values()):
            raise ProbeError(f"{path.name}: neg_category_ids: expected a list of category ids")
        return Document(document, names, images, rows, seed, about.get("sha256"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(f"{path.name}: not COCO labels: a field is missing or of the wrong kind ({error})") from None


def load(path: str | Path, concept: str | None = None, size: int = 64) -> Boxes:
    """Read the boxes of one concept; with none named, the file must have one category only.

    Boxes are scaled where the file's images are larger than `size` (labelled on enlarged samples). Raises ProbeError
    for a file without boxes, boxes outside their image, unknown image ids and unknown concepts.
    """
    path = Path(path)
    document = _read(path)
    found = _parse(path, document, size) if document["categories"] else None
    chosen = [k for k, name in found.names.items() if concept is None or name == concept] if found else []
    if not found or len(chosen) != 1:
        known = ", ".join(found.names.values()) if found else "none"
        raise ProbeError(f"{path.name}: concept {concept or '(none named)'}: the file has {known}; name one of them")
    boxes: dict[int, list[list[float]]] = {}
    for row, i, box in found.rows:
        if row["category_id"] == chosen[0]:
            boxes.setdefault(i, []).append(box)
    if not boxes:
        raise ProbeError(f"{path.name}: no boxes of {found.names[chosen[0]]} in it; draw at least a few")
    arrays = {i: np.array(b, dtype=np.float64) for i, b in boxes.items()}
    return Boxes(found.names[chosen[0]], found.looked_at(chosen[0]), arrays, found.seed, found.checkpoint)


def _index(path: Path, image: dict[str, Any], taken: Iterable[int]) -> int:
    """The sample an image shows: the six digits that `probe sample --each` put in its name, any digits, or its id."""
    name = Path(image.get("file_name", "")).stem
    digits = re.findall(r"(?<!\d)\d{6}(?!\d)", name) or re.findall(r"\d+", name)
    number = int(digits[-1] if digits else image["id"])
    if not 0 <= number < 1_000_000 or number in taken:
        problem = "a second image of" if number in taken else "no such"
        raise ProbeError(
            f"{path.name}: image {image['id']} ({name}): {problem} sample {number}; name files as `probe sample --each`"
        )
    return number


def _box(path: Path, row: dict[str, Any], width: float, height: float, size: int) -> list[float]:
    x, y, w, h = map(float, row["bbox"])
    if not (w > 0 and h > 0 and x > -0.5 and y > -0.5 and x + w < width + 0.5 and y + h < height + 0.5):
        raise ProbeError(
            f"{path.name}: annotation {row.get('id')}: box {row['bbox']} lies outside its image of {width}x{height}"
        )
    sx, sy = size / width, size / height
    return [max(x * sx, 0), max(y * sy, 0), min((x + w) * sx, size), min((y + h) * sy, size)]
