"""The labels behind the page: boxes of several concepts on the samples of a seed, changed by several tabs at once.

Each box has a name of its own, given by the tab that drew it, so that changes of two tabs to one sample never replace
each other: a box is there from the first `put` until a `cut`, and a box that one tab moves while another cuts it stays.
A sample's record carries the revision of its latest change.
"""

from __future__ import annotations

import copy
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.concepts import labels
from probe.concepts.labels import Boxes
from probe.models.gan import GAN

_MOST = 200  # boxes on one sample
Listener = Callable[[int], None]


@dataclass
class Record:
    """What is known of one sample: boxes by name, with their concept's id and corners, and the concepts it lacks."""

    boxes: dict[str, tuple[int, tuple[float, ...]]] = field(default_factory=dict)
    lacks: set[int] = field(default_factory=set)
    revision: int = 0

    def has(self, concept: int) -> bool:
        """Whether a box of the concept is on the sample."""
        return any(c == concept for c, _ in self.boxes.values())

    def plain(self) -> dict[str, Any]:
        """The record as the browser gets it."""
        boxes = [{"id": name, "c": c, "b": list(box)} for name, (c, box) in self.boxes.items()]
        return {"boxes": boxes, "lacks": sorted(self.lacks), "revision": self.revision}


class Marks:
    """The labels of one checkpoint's samples of one seed, in one COCO file.

    Raises ProbeError for a file that is none, or was made for another checkpoint or seed (both are named).
    """

    def __init__(self, path: Path, gan: GAN, seed: int) -> None:
        self.path, self.size, self.seed = path, gan.size, seed
        self.lock = threading.RLock()
        self.listeners: list[Listener] = []
        self.revision = 0
        self.records: dict[int, Record] = {}
        about = {k: gan.provenance.get(k) for k in ("checkpoint", "sha256")}
        self.about: dict[str, Any] = {"seed": seed, "prior": gan.prior, **about}
        empty: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": []}
        found = labels.read(path, gan.size) if path.exists() else labels.Document(empty, {}, {}, [], None, None)
        _refuse_foreign(path, found, gan, seed)
        self.document = copy.deepcopy(found.raw)
        if not all(isinstance(k, int) and isinstance(v, str) for k, v in found.names.items()):
            raise ProbeError(f"{path.name}: categories: expected whole numbers as ids and text as names")
        self.concepts: dict[int, str] = dict(found.names)
        self._images = {i: self._row(i, row) for i, row in found.images.items()}
        self._annotations: dict[tuple[int, str], dict[str, Any]] = {}
        self._read: dict[tuple[int, str], tuple[float, ...]] = {}  # boxes as the file has them
        self._unread = [copy.deepcopy(row) for row, _ in found.left_out]
        self._take(found)
        self._stamp = self._seen()

    def _take(self, found: labels.Document) -> None:
        for i in found.images:
            self.records[i] = Record()
        for k, (row, i, box) in enumerate(found.rows):
            self.records[i].boxes[f"f{k}"] = (row["category_id"], tuple(box))
            self._annotations[i, f"f{k}"], self._read[i, f"f{k}"] = dict(row), tuple(box)
        for concept in self.concepts:
            for i in found.looked_at(concept):
                if not self.records[i].has(concept):
                    self.records[i].lacks.add(concept)

    def _row(self, sample: int, row: dict[str, Any] | None = None) -> dict[str, Any]:
        if row is not None:
            return {**row, **{side: row.get(side) or self.size for side in ("width", "height")}}
        taken = {r["id"] for r in self._images.values()}
        number = sample if sample not in taken else max(k for k in taken if isinstance(k, int)) + 1
        return {"id": number, "file_name": f"{sample:06d}.png", "width": self.size, "height": self.size}

    def record(self, sample: int) -> dict[str, Any]:
        """A sample's record as the browser gets it."""
        with self.lock:
            return self.records.get(sample, Record()).plain()

    def everything(self) -> dict[int, dict[str, Any]]:
        """All records, as the browser gets them."""
        with self.lock:
            return {i: record.plain() for i, record in self.records.items()}

    def boxes(self, concept: int) -> Boxes:
        """The labels of one concept as the rest of probe takes them: samples undecided for it are left out."""
        with self.lock:
            looked = sorted(i for i, r in self.records.items() if concept in r.lacks or r.has(concept))
            found = {i: [box for c, box in self.records[i].boxes.values() if c == concept] for i in looked}
        arrays = {i: np.array(rows, dtype=np.float64) for i, rows in found.items() if rows}
        return Boxes(self.concepts[concept], tuple(looked), arrays, self.seed, self.about["sha256"])

    def add_concept(self, name: str) -> int:
        """The id of a concept, new or known; raises ProbeError for a name that is empty, long or of odd characters."""
        name = " ".join(name.split())
        if not name or len(name) > 40 or not name.isprintable():
            raise ProbeError(f"concept {name[:50]!r}: expected a name of 1 to 40 letters")
        with self.lock:
            for concept, known in self.concepts.items():
                if known == name:
                    return concept
            concept = max(self.concepts, default=0) + 1
            self.concepts[concept] = name
            self.document["categories"].append({"id": concept, "name": name})
            self._save()
        self._tell(-1)
        return concept

    def drop_concept(self, concept: int) -> None:
        """Take a concept without boxes from the list; raises ProbeError where it has some."""
        with self.lock:
            if any(record.has(concept) for record in self.records.values()):
                raise ProbeError(f"concept {self.concepts[concept]}: has boxes; delete them first")
            self.concepts.pop(concept, None)
            for record in self.records.values():
                record.lacks.discard(concept)
            rows = self.document["categories"]
            self.document["categories"] = [row for row in rows if row["id"] != concept]
            self._save()
        self._tell(-1)

    def apply(self, changes: list[dict[str, Any]], samples: int) -> list[int]:
        """Take changes from a tab, all of them or none; saved when this returns. Gives the samples changed.

        A change is {do: "put", image, id, c, b: [x0, y0, x1, y1]}, {do: "cut", image, id} or {do: "lacks", image, c,
        on}. Raises ProbeError for a change that makes no sense, and where the file cannot be written (the change is
        kept then, and written with the next).
        """
        with self.lock:
            parsed = [self._checked(change, samples) for change in changes]
            for change in parsed:
                self._change(**change)
            touched = list(dict.fromkeys(change["image"] for change in parsed))
            try:
                self._save()
            finally:
                for sample in touched:
                    self._tell(sample)
        return touched

    def _checked(self, change: dict[str, Any], samples: int) -> dict[str, Any]:
        what, image, concept, name = (change.get(k) for k in ("do", "image", "c", "id"))
        if what not in ("put", "cut", "lacks") or type(image) is not int or not 0 <= image < samples:
            raise ProbeError(f"change {what!r} of sample {image!r}: no such change or sample")
        if what != "cut" and concept not in self.concepts:
            raise ProbeError(f"change of sample {image}: the concept was removed in another tab")
        if what != "lacks" and not (isinstance(name, str) and re.fullmatch(r"[\w-]{1,40}", name)):
            raise ProbeError(f"change of sample {image}: box {name!r}: no such name")
        if what == "cut":
            return {"do": what, "image": image, "id": name}
        if what == "lacks":
            return {"do": what, "image": image, "c": concept, "on": bool(change.get("on"))}
        if len(self.records.get(image, Record()).boxes) >= _MOST:
            raise ProbeError(f"sample {image}: has {_MOST} boxes already")
        return {"do": what, "image": image, "id": name, "c": concept, "b": self._corners(image, change.get("b"))}

    def _corners(self, image: int, box: Any) -> tuple[float, ...]:
        numbers = (
            isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in box)
        )
        x0, y0, x1, y1 = (min(max(float(v), 0.0), float(self.size)) for v in box) if numbers else (0.0,) * 4
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise ProbeError(f"box on sample {image}: smaller than a pixel, or outside the picture")
        return x0, y0, x1, y1

    def _change(self, do: str, image: int, **what: Any) -> None:
        record = self.records.setdefault(image, Record())
        self.revision += 1
        record.revision = self.revision
        if do == "put":
            record.boxes[what["id"]] = (what["c"], what["b"])
            record.lacks.discard(what["c"])
        elif do == "cut":
            record.boxes.pop(what["id"], None)
        elif not what["on"]:
            record.lacks.discard(what["c"])
        elif not record.has(what["c"]):  # another tab may just have drawn one
            record.lacks.add(what["c"])

    def _seen(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _save(self) -> None:
        if self._seen() not in (None, self._stamp):
            raise ProbeError(
                f"not saved: another program changed {self.path.name}; move that file away and the next change saves "
                "everything here"
            )
        labels.write(self._compose(), self.path)
        self._stamp = self._seen()

    def _compose(self) -> dict[str, Any]:
        """The document with the records in it; what probe does not know of is left as it was."""
        images, annotations = [], []
        rows = [*self._annotations.values(), *(row for row in self._unread if isinstance(row, dict))]
        number = max((row["id"] for row in rows if isinstance(row.get("id"), int)), default=0)
        for i in sorted(self.records):
            record = self.records[i]
            if not record.boxes and not record.lacks and i not in self._images:
                continue
            row = self._images.setdefault(i, self._row(i))
            images.append(row | {"neg_category_ids": sorted(record.lacks)})
            for name, (concept, box) in record.boxes.items():
                if (i, name) not in self._annotations:
                    number += 1
                    self._annotations[i, name] = {"id": number, "image_id": row["id"], "iscrowd": 0}
                kept = self._annotations[i, name]
                moved = any(abs(a - b) > 1e-6 for a, b in zip(self._read.get((i, name), (-9,) * 4), box, strict=True))
                annotations.append(kept | (self._bbox(kept, concept, box, row) if moved else {"category_id": concept}))
        annotations += self._unread
        probe = self.document.get("info", {}).get("probe", {}) | self.about | {"samples": len(images)}
        info = self.document.get("info", {}) | {"probe": probe}
        return {**self.document, "info": info, "images": images, "annotations": annotations}

    def _bbox(self, kept: dict[str, Any], concept: int, box: tuple[float, ...], row: dict[str, Any]) -> dict[str, Any]:
        """What an annotation says of a box, in pixels of the file's image; outlines of a box that moved are dropped."""
        sx, sy = row["width"] / self.size, row["height"] / self.size
        x, y, w, h = box[0] * sx, box[1] * sy, (box[2] - box[0]) * sx, (box[3] - box[1]) * sy
        kept.pop("segmentation", None)
        return {"category_id": concept, "bbox": [round(v, 3) for v in (x, y, w, h)], "area": round(w * h, 3)}

    def _tell(self, sample: int) -> None:
        for listener in list(self.listeners):
            listener(sample)


def _refuse_foreign(path: Path, found: labels.Document, gan: GAN, seed: int) -> None:
    own = gan.provenance.get("sha256")
    if found.checkpoint and own not in (None, found.checkpoint):
        raise ProbeError(
            f"{path.name}: labels of samples of checkpoint {found.checkpoint[:12]}…, but this one is {own[:12]}…; "
            "choose another `labels` file for this one"
        )
    if found.seed not in (None, seed):
        raise ProbeError(
            f"{path.name}: labels of samples of seed {found.seed}, but --seed is {seed}; use --seed {found.seed} or "
            "another --labels"
        )
