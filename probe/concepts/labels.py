"""Labels of generated samples: boxes by image, in and out as COCO JSON.

In a labels file an image's number is the index of its sample: from the digits of the name it was uploaded with, where
they leave no doubt (`concepts.coco`), else its `id`. Every image listed was looked at; one without a box does not show
the concept, unless images say by `neg_category_ids` which categories they lack. `info.probe.seed` names the seed of the
samples. A row without a sound box is left out and counted, and its image tells nothing of that category.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import reads
from probe.base.errors import ProbeError
from probe.base.files import writing
from probe.concepts import coco


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
        document = json.loads(path.read_bytes())  # in whichever of UTF-8, -16 and -32 it is written
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
        used = {str(row["category_id"]) for row in document["annotations"]}
        names = list(dict.fromkeys(str(c["name"]).strip() for c in document["categories"] if str(c["id"]) in used))
    except (KeyError, TypeError) as error:
        raise ProbeError(f"{path.name}: not COCO labels: a field is missing or of the wrong kind ({error})") from None
    if not names:
        raise ProbeError(f"{path.name}: no boxes in it; draw at least a few")
    return names


@dataclass(frozen=True)
class Document:
    """A COCO file as it was read: `raw` is all of it, `names` its categories by id, `images` its rows by sample.

    `rows` holds each annotation with its sample and its box x0, y0, x1, y1 in pixels of the sample; `left_out`
    holds each that has no such box, and why; `untold` are their samples and categories.
    """

    raw: dict[str, Any]
    names: dict[Any, str]
    images: dict[int, dict[str, Any]]
    rows: list[tuple[dict[str, Any], int, list[float]]]
    seed: int | None
    checkpoint: str | None
    left_out: tuple[tuple[Any, str], ...] = ()
    untold: frozenset[tuple[int, Any]] = frozenset()

    def looked_at(self, *categories: Any) -> tuple[int, ...]:
        """The samples that say whether they show one of some categories, in rising order.

        All of them, but those whose only box of it was left out; where any image lists the categories it is known to lack
        (`neg_category_ids`, as in LVIS), only those with a box of it and those that list it.
        """
        shown = {i for row, i, _ in self.rows if row["category_id"] in categories}
        untold = {i for i, category in self.untold if category in categories}
        if not any("neg_category_ids" in image for image in self.images.values()):
            return tuple(sorted(shown | (self.images.keys() - untold)))
        lack = {i for i, image in self.images.items() if {*categories} & {*image.get("neg_category_ids", ())}}
        return tuple(sorted(shown | lack))


def read(path: str | Path, size: int) -> Document:
    """Read a COCO file of samples of `size` pixels; boxes are scaled where its images are larger (labelled enlarged).

    Boxes may be missing where there are polygons or masks. Raises ProbeError for what is no COCO file, for images whose
    sample is in doubt, and where no row has a sound box.
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
        samples = coco.samples(path.name, document["images"])
        index = {image["id"]: sample for image, sample in zip(document["images"], samples, strict=True)}
        scale = {}
        for image in document["images"]:
            sizes = (image.get("width"), image.get("height"))
            width, height = scale[image["id"]] = tuple(size if side is None else side for side in sizes)
            if not (width > 0 and height > 0):
                raise ProbeError(
                    f"{path.name}: image {image['id']} of {width}x{height} pixels; expected its width and height"
                )
        rows, left_out, untold = [], [], set()
        written = [{str(key): key for key in known} for known in (names, index)]
        for row in document["annotations"]:
            reason = coco.unlisted(row, *written)
            if not reason:
                image, category = row["image_id"], row["category_id"]
                try:
                    width, height = scale[image]
                    rows.append((row, index[image], coco.box(row, width, height, size)))
                except ProbeError as error:
                    reason = str(error)
                    untold.add((index[image], category))
            left_out += [(row, reason)] if reason else []
        if left_out and not rows:
            raise ProbeError(f"{path.name}: {left_out[0][1]}")
        about = document.get("info", {}).get("probe", {})
        seed = about.get("seed")
        if seed is not None and not (type(seed) is int and 0 <= seed < 2**31):
            raise ProbeError(f"{path.name}: info.probe.seed {seed!r}: expected a whole number from 0 to 2147483647")
        images = {index[image["id"]]: image for image in document["images"]}
        if not all(isinstance(image.get("neg_category_ids", []), list) for image in images.values()):
            raise ProbeError(f"{path.name}: neg_category_ids: expected a list of category ids")
        found = Document(document, names, images, rows, seed, about.get("sha256"), tuple(left_out), frozenset(untold))
        reads.note(coco.Read(path.name, len(rows), tuple(reason for _, reason in left_out)))
        return found
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(f"{path.name}: not COCO labels: a field is missing or of the wrong kind ({error})") from None


def load(path: str | Path, concept: str | None = None, size: int = 64) -> Boxes:
    """Read the boxes of one concept; with none named, the file must have one category only.

    A name is found whatever its case; a category without boxes is none where another is called the same, or none is
    named. Boxes are scaled where the file's images are larger than `size` (labelled on enlarged samples). Raises
    ProbeError for a file without sound boxes, for images whose sample is in doubt and for unknown concepts.
    """
    path = Path(path)
    document = _read(path)
    found = _parse(path, document, size) if document["categories"] else None
    chosen = _chosen(found, concept) if found else []
    if not found or not chosen:
        known = ", ".join(dict.fromkeys(name.strip() for name in found.names.values())) if found else "none"
        raise ProbeError(f"{path.name}: concept {concept or '(none named)'}: the file has {known}; name one of them")
    name = concept if concept in found.names.values() else found.names[chosen[0]].strip()
    boxes: dict[int, list[list[float]]] = {}
    for row, i, box in found.rows:
        if row["category_id"] in chosen:
            boxes.setdefault(i, []).append(box)
    if not boxes:
        raise ProbeError(f"{path.name}: no boxes of {name} in it; draw at least a few")
    arrays = {i: np.array(b, dtype=np.float64) for i, b in boxes.items()}
    return Boxes(str(name), found.looked_at(*chosen), arrays, found.seed, found.checkpoint)


def _chosen(found: Document, concept: str | None) -> list[Any]:
    """The ids of the categories that are a concept: those of its name, or all where none is named and all are one."""
    used = {row["category_id"] for row, _, _ in found.rows}
    exact, alike = str, lambda name: name.strip().casefold()
    for same, among in ((exact, used), (alike, used), (exact, found.names), (alike, found.names)):
        ids = [k for k, name in found.names.items() if k in among and (concept is None or same(name) == same(concept))]
        if ids and len({alike(found.names[k]) for k in ids}) == 1:
            return ids
    return []
