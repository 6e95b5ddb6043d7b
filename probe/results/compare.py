"""What changed between two results, or two folders of them: settings, metrics, arrays and drawing, each judged apart."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from probe.base.errors import ProbeError
from probe.base.files import picture, writing
from probe.base.plugins import drawer
from probe.results.drawing import draw
from probe.results.result import Result, load

VERDICTS = ("settings", "metrics", "arrays", "drawing")
_TIMES = ("seconds",)  # no two runs share them
_MODEL = ("checkpoint", "sha256", "prior", "batchnorm", "seed")
_BLOCK = 16  # pixels: over a whole page a wrong label is lost among what is right
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tolerance:
    """Numbers to `rtol` and `atol`, 8-bit pictures to `levels`, drawings to `rms` levels in their worst block.

    Of an array as many values as `share` may be further off: another CPU rounds otherwise.
    """

    rtol: float = 1e-3
    atol: float = 1e-5
    levels: int = 2
    share: float = 1e-3
    rms: float = 10.0

    def __post_init__(self) -> None:
        if not (0 <= self.rtol < math.inf and 0 <= self.atol < math.inf):
            raise ProbeError(f"rtol {self.rtol}, atol {self.atol}: expected finite numbers of at least 0")

    def near(self, a: float, b: float) -> bool:
        """Whether two numbers are as good as equal."""
        return math.isclose(a, b, rel_tol=self.rtol, abs_tol=self.atol)


@dataclass
class Comparison:
    """Of each result, lines of what changed by verdict, and notes; results that only one side has."""

    results: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether nothing changed that a tolerance or an interval does not cover, and nothing is missing."""
        return not self.missing and not any(found[v] for found in self.results.values() for v in VERDICTS)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"same": self.same, "results": self.results, "missing": self.missing, "extra": self.extra}

    def told(self) -> str:
        """In lines: what changed, then one line on the whole."""
        lines = [f"{name}: missing in the new results" for name in self.missing]
        lines += [f"{name}: new, without a baseline" for name in self.extra]
        for name, found in self.results.items():
            lines += [f"{name}: {kind}: {line}" for kind in (*VERDICTS, "notes") for line in found[kind]]
        changed = sum(any(found[v] for v in VERDICTS) for found in self.results.values())
        count = len(self.results)
        whole = "same" if self.same else f"{changed} of {count} changed, {len(self.missing)} missing"
        return "\n".join([*lines, f"{count} result{'s' if count != 1 else ''} compared: {whole}"])


def compare_trees(baseline: Path, new: Path, tolerance: Tolerance, out: Path) -> Comparison:
    """Compare two results, or all results below two folders by their paths; pictures of differences go to `out`."""
    old, now = _results(baseline), _results(new)
    if ("." in old) != ("." in now):
        one = "the first" if "." in old else "the second"
        raise ProbeError(f"{baseline}, {new}: {one} is a result, the other a folder of results; expected two of a kind")
    found = Comparison(missing=sorted(old.keys() - now.keys()), extra=sorted(now.keys() - old.keys()))
    for name in sorted(old.keys() & now.keys()):
        picture = out / f"{new.resolve().name if name == '.' else name}.png"
        found.results[name] = compare(old[name], now[name], tolerance, picture)
    return found


def _results(path: Path) -> dict[str, Path]:
    """Results at or below a path, by their relative path."""
    found = {str(p.parent.relative_to(path)): p.parent for p in path.rglob("result.json")} if path.is_dir() else {}
    if not found:
        raise ProbeError(f"{path}: no result here or below; expected result.json and arrays.safetensors")
    return {".": path} if "." in found else found


def compare(baseline: Path, new: Path, tolerance: Tolerance, picture: Path) -> dict[str, list[str]]:
    """Lines of what changed, by verdict; beside them `notes`. Drawings that differ are shown side by side in `picture`."""
    a, b = load(baseline), load(new)
    notes: list[str] = []
    found = {
        "settings": list(_settings(a, b)),
        "metrics": [],
        "arrays": list(_arrays(a, b, tolerance)),
        "drawing": [],
        "notes": notes,
    }
    old, now = a.document()["metrics"], b.document()["metrics"]
    found["metrics"] = list(_metrics("", old, now, None, tolerance, notes))
    difference = drawing(_picture(baseline, a), _picture(new, b), tolerance, picture)
    if difference:
        moved = old != now or list(_arrays(a, b, Tolerance(0, 0, 0, 0)))
        drawn_alike = moved and not drawing(_picture(baseline, a), redrawn(a), tolerance, None)
        found["notes" if drawn_alike else "drawing"].append(difference + (", as its numbers do" if drawn_alike else ""))
    return found


def _settings(a: Result, b: Result) -> Iterator[str]:
    old, now = a.document(), b.document()
    for side in (old, now):
        model = {key: side["provenance"].get(key) for key in _MODEL}
        side["all"] = {
            "command": side["command"],
            **side["settings"],
            "assumptions": side["assumptions"],
            "model": model,
        }
    yield from _metrics("", old["all"], now["all"], None, Tolerance(0, 0), [])


def _metrics(name: str, a: Any, b: Any, interval: Any, tolerance: Tolerance, notes: list[str]) -> Iterator[str]:
    """Leaves that differ; a number with an interval may move within that of the baseline, which is noted."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            path = f"{name}.{key}" if name else key
            if key in _TIMES or (key.endswith("_ci") and key[:-3] in a):
                continue
            if key not in a or key not in b:
                yield f"{path}: {'gone' if key in a else 'new'}"
                continue
            inner = a.get(f"{key}_ci", interval.get(key) if isinstance(interval, dict) else None)
            yield from _metrics(path, a[key], b[key], inner, tolerance, notes)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _metrics(f"{name}[{k}]", x, y, None, tolerance, notes)
    elif _number(a) and _number(b):
        if not tolerance.near(a, b):
            bounds = isinstance(interval, list) and all(map(_number, interval)) and len(interval) == 2
            line = f"{name}: {a:g} -> {b:g}" + (f", interval [{interval[0]:g}, {interval[1]:g}]" if bounds else "")
            if bounds and interval[0] <= b <= interval[1] and interval[0] < interval[1]:
                notes.append(f"{line}, within it")
            else:
                yield line
    elif a != b:
        yield f"{name}: {a} -> {b}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _arrays(a: Result, b: Result, tolerance: Tolerance) -> Iterator[str]:
    for name in sorted(a.arrays.keys() | b.arrays.keys()):
        if name not in a.arrays or name not in b.arrays:
            yield f"{name}: {'gone' if name in a.arrays else 'new'}"
            continue
        x, y = a.arrays[name], b.arrays[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            yield f"{name}: {x.dtype} {x.shape} -> {y.dtype} {y.shape}"
            continue
        if x.dtype.itemsize == 1:
            off = np.abs(x.astype(int) - y) > tolerance.levels
        else:
            off = ~np.isclose(x, y, tolerance.rtol, tolerance.atol, equal_nan=True)
        if off.any() and off.mean() > tolerance.share:
            yield f"{name}: {off.mean():.2%} of {off.size} values moved, by {np.abs(x[off] - y[off].astype(float)).max():.3g} at most"


def redrawn(result: Result) -> Array | None:
    """A result's drawing as the code draws it now; None of a result that has none."""
    if not drawer(result.command):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return pixels(draw(result, Path(folder))[0])


def _picture(folder: Path, result: Result) -> Array | None:
    """The drawing that lies in a result's folder, or else a new one."""
    path = folder / "figure.png"
    return pixels(path) if path.exists() else redrawn(result)


def pixels(path: Path) -> Array:
    """A picture as (H, W, 3) in 0-255; raises ProbeError where it is none."""
    try:
        with picture(path) as image:
            return np.asarray(image.convert("RGB")).astype(np.int16)
    except OSError as error:
        raise ProbeError(f"{path}: not a picture ({error}); draw it again") from error


def drawing(a: Array | None, b: Array | None, tolerance: Tolerance, picture: Path | None) -> str:
    """How two drawings differ, in words, empty where they do not; shown in `picture`, if one is named."""
    if a is None or b is None:
        return ""
    if a.shape != b.shape:
        said = f"the drawing is {b.shape[1]}x{b.shape[0]} pixels, was {a.shape[1]}x{a.shape[0]}"
    else:
        worst = _worst(a, b)
        if worst <= tolerance.rms:
            return ""
        said = f"the drawing differs by {worst:.0f} grey levels (RMS of its worst {_BLOCK}x{_BLOCK} pixels)"
    return said + (f", see {_side_by_side(a, b, picture)}" if picture else "")


def _worst(a: Array, b: Array) -> float:
    """The largest RMS difference in a block of pixels."""
    square = np.square((a - b).astype(float)).mean(2)
    edges = [np.arange(0, n, _BLOCK) for n in square.shape]
    sums = np.add.reduceat(np.add.reduceat(square, edges[0], 0), edges[1], 1)
    return float(np.sqrt(sums.max()) / _BLOCK)


def _side_by_side(a: Array, b: Array, path: Path) -> Path:
    """Write baseline, new drawing and their difference (red on white) beside one another."""
    height, width = (max(a.shape[k], b.shape[k]) for k in (0, 1))
    x, y = (np.full((height, width, 3), 255, np.int16) for _ in range(2))
    x[: a.shape[0], : a.shape[1]], y[: b.shape[0], : b.shape[1]] = a, b
    off = np.minimum(255, 3 * np.abs(x - y).max(2))
    red = np.stack([np.full_like(off, 255), 255 - off, 255 - off], 2)
    with writing(path) as temporary:
        Image.fromarray(np.concatenate([x, y, red], 1).astype(np.uint8)).save(temporary)
    return path
