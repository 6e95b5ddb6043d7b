"""COCO files as tools write them: which sample a row shows, and its box."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.base.errors import ProbeError

_MOST = 1_000_000
_NO_NUMBERS = (  # what tools add to a name, digits and all
    r"[._]rf[._][0-9A-Za-z]{16,}",  # Roboflow's hash
    r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    r"(?<![0-9a-fA-F])[0-9a-fA-F]{32,}(?![0-9a-fA-F])",
    r"^[0-9a-f]{8}-(?=.*\d)",  # Label Studio's
    r"(?<!\d)\d+x\d+(?!\d)",
    r" ?\(\d+\)$",
)


@dataclass(frozen=True)
class Read:
    """What was read of a labels file, and why rows were left out."""

    name: str
    rows: int
    left_out: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """What a result keeps of it."""
        made = {"source": self.name, "read": self.rows, "left_out": len(self.left_out)}
        return made | ({"why": list(self.left_out[:3])} if self.left_out else {})

    def told(self) -> str:
        """A line where rows were left out."""
        if not self.left_out:
            return ""
        more = " …" if self.left_out[3:] else ""
        return (
            f"{self.name}: {self.rows} rows read; {len(self.left_out)} left out: {'; '.join(self.left_out[:3])}{more}"
        )


def samples(where: str, images: Sequence[Mapping[str, Any]]) -> list[int]:
    """The sample that each image of a file shows.

    The one number of six digits in its name, as `probe sample --each` writes it; else the one number that stands alone,
    or that there is; else, of several, the one by which the images of the file differ; without digits its id. Raises
    ProbeError where that leaves a doubt, and for two images of one sample.
    """
    names = [_uploaded(image) for image in images]
    found = [_numbers(name) for name in names]
    doubtful = [numbers for numbers in found if len(set(numbers)) > 1]
    place = _telling(doubtful)
    taken: dict[int, Any] = {}
    for image, name, numbers in zip(images, names, found, strict=True):
        if len(set(numbers)) > 1 and place is None:
            first, second, *_ = dict.fromkeys(numbers)
            raise ProbeError(
                f"{where}: image {image['id']} ({name}): may be sample {first} or {second}; name files as `probe sample --each`"
            )
        number = int(image["id"]) if not numbers else numbers[place or 0] if len(set(numbers)) > 1 else numbers[0]
        if not 0 <= number < _MOST or number in taken:
            problem = f"a second image of sample {number}, beside {taken[number]}" if number in taken else "no such"
            problem += "" if number in taken else f" sample {number}"
            raise ProbeError(f"{where}: image {image['id']} ({name}): {problem}; name files as `probe sample --each`")
        taken[number] = image["id"]
    return list(taken)


def _uploaded(image: Mapping[str, Any]) -> str:
    """The name that an image had when it was uploaded, without folders and suffix."""
    extra = image.get("extra")
    name = extra.get("name") if isinstance(extra, Mapping) else None
    name = name or image.get("file_name", "")
    return re.sub(r"\.[A-Za-z]{2,5}$", "", re.split(r"[\\/]", name)[-1])


def _numbers(name: str) -> list[int]:
    """The numbers in a name that may be its sample's."""
    for pattern in _NO_NUMBERS:
        name = re.sub(pattern, " ", name)
    six = re.findall(r"(?<!\d)\d{6}(?!\d)", name)
    alone = re.findall(r"(?<![A-Za-z\d])\d+(?![A-Za-z\d])", name)
    return [int(digits) for digits in six or alone or re.findall(r"\d+", name)]


def _telling(doubtful: Sequence[Sequence[int]]) -> int | None:
    """At which place the numbers of several names differ throughout, if there is one such place."""
    if len(doubtful) < 2 or len({len(numbers) for numbers in doubtful}) != 1:
        return None
    places = [k for k, column in enumerate(zip(*doubtful, strict=True)) if len(set(column)) == len(doubtful)]
    return places[0] if len(places) == 1 else None


def unlisted(row: Any, categories: Mapping[str, Any], images: Mapping[str, Any]) -> str:
    """Why a row belongs to no category or image of its file, or nothing, its ids then being those of the file's lists.

    The lists hold ids as they are written -> the ids: a tool may write 1 here and "1" there.
    """
    if not isinstance(row, dict):
        return f"not COCO labels: a field is missing or of the wrong kind ({row!r:.40})"
    for key, known in (("category_id", categories), ("image_id", images)):
        if key not in row or isinstance(row[key], list | dict):
            return f"not COCO labels: a field is missing or of the wrong kind ('{key}')"
        if str(row[key]) not in known:
            what, end = ("category", "") if key == "category_id" else ("image", " of images")
            return f"annotation {row.get('id')}: {what} {row[key]} is not in the file's list{end}"
        row[key] = known[str(row[key])]
    return ""


def box(row: Mapping[str, Any], width: float, height: float, size: int) -> list[float]:
    """A row's box x0, y0, x1, y1 in pixels of a sample of `size`, of its polygons or its mask where it has none.

    What reaches over the border by less than half a pixel of the sample is cut. Raises ProbeError where there is none,
    or it is empty or outside.
    """
    try:
        given = row.get("bbox")
        x, y, w, h = map(float, given if given else _outline(row["segmentation"]))
    except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        reason = f"not COCO labels: a field is missing or of the wrong kind ({error})"
        raise ProbeError(f"annotation {row.get('id')}: {reason}") from None
    x, y, w, h = min(x, x + w), min(y, y + h), abs(w), abs(h)  # drawn from any corner
    shown, sx, sy = f"annotation {row.get('id')}: box {given or [x, y, w, h]}", size / width, size / height
    if w == 0 or h == 0:
        raise ProbeError(f"{shown} is empty")
    over = [-x * sx, -y * sy, (x + w - width) * sx, (y + h - height) * sy]
    if not all(distance < 0.5 for distance in over) or not math.isfinite(w + h):
        raise ProbeError(f"{shown} lies outside its image of {width}x{height}")
    return [max(x * sx, 0), max(y * sy, 0), min((x + w) * sx, size), min((y + h) * sy, size)]


def _outline(segmentation: Any) -> tuple[float, float, float, float]:
    """x, y, width and height around polygons, or around a mask as run lengths down its columns."""
    if isinstance(segmentation, Mapping):
        return _around(segmentation["counts"], int(segmentation["size"][0]))
    values = [float(value) for polygon in segmentation for value in polygon]
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _around(counts: Any, height: int) -> tuple[float, float, float, float]:
    runs = _runs(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(runs) < 0:
        raise ValueError("run lengths below 0")
    ends = list(itertools.accumulate(runs))
    filled = [(start, end - 1) for start, end in zip(ends[::2], ends[1::2], strict=False) if end > start]
    columns = [place // height for run in filled for place in run]
    rows = [
        edge
        for first, last in filled
        for edge in ((first % height, last % height) if first // height == last // height else (0, height - 1))
    ]
    return min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1


def _runs(text: str) -> list[int]:
    """Run lengths as COCO packs them: five bits a letter, from the fourth on as differences to the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (1 << shift) if code & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths that end within one")
    return runs
