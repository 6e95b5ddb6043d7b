"""A result: what a run found and how, on disk, before anything is drawn; reading one needs no torch.

Result      metrics, settings, assumptions, provenance, arrays; save(), load()
OUT/result.json, OUT/arrays.safetensors, OUT/figure.png (and pdf, svg)
"""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.base.files import save_tensors, save_text

SCHEMA = 2
_RENAMED = {  # keys of metrics and arrays, and values of settings, that schema 1 called otherwise
    "erase": "patch", "dose": "strength", "matched_dose": "matched_strength", "chooser": "selector",
    "narrow_less_erase": "narrow_less_patch",
    "wearers": "positives", "glasses_on_wearers": "seen_on_positives", "glasses_on_wearers_ci": "seen_on_positives_ci",
    "glasses_on_others": "seen_on_others", "glasses_on_others_ci": "seen_on_others_ci",
}  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of probe, torch and Python, without importing torch."""
    out = {"python": platform.python_version()}
    for name, package in (("probe", "dcgan-probe"), ("torch", "torch")):
        try:
            out[name] = version(package)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def _plain(value: Any) -> Any:
    """JSON has no nan: it becomes null. Numbers keep six significant digits."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


@dataclass
class Result:
    """What a command found. `metrics` uses the published names; `arrays` hold all that its figure needs."""

    command: str
    metrics: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON document, without the arrays."""
        names = ("command", "metrics", "settings", "assumptions", "provenance")
        return {"schema": SCHEMA, **{name: _plain(getattr(self, name)) for name in names}}

    def save(self, folder: Path) -> None:
        """Write result.json and arrays.safetensors into an existing folder, each atomically."""
        arrays = {k: np.ascontiguousarray(v) for k, v in self.arrays.items()}
        save_tensors(folder / "arrays.safetensors", arrays, of="numpy")
        save_text(folder / "result.json", json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n")

    def _repr_html_(self) -> str:
        """What a notebook shows: the figure and a table. Drawing is layers above this one, so it is found by name."""
        return str(import_module("probe.results.html").fragment(self))


def _renamed(value: Any) -> Any:
    """Metrics or settings of schema 1 by today's names."""
    if isinstance(value, dict):
        return {_RENAMED.get(key, key): _renamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_RENAMED.get(item, item) if isinstance(item, str) else _renamed(item) for item in value]
    return value


def _upgraded(result: Result) -> Result:
    """A result of schema 1 by today's names, in its arrays, too: `erase_curve`, `first_erase`."""
    result.metrics, result.settings = _renamed(result.metrics), _renamed(result.settings)
    result.arrays = {
        "_".join(_RENAMED.get(part, part) for part in name.split("_")): array for name, array in result.arrays.items()
    }
    return result


def load(folder: str | Path) -> Result:
    """Read a result directory; raises ProbeError where it is none, or from a newer probe."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    try:
        document = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        schema = document.pop("schema")
        if schema > SCHEMA:
            raise ProbeError(
                f"{folder}: written by a newer probe (schema {schema}; this one reads {SCHEMA}); upgrade dcgan-probe"
            )
        for name in ("metrics", "settings", "provenance"):
            if not isinstance(document.get(name, {}), dict):
                raise TypeError(f"{name} is no object")
        if not isinstance(document["command"], str):
            raise TypeError("command is no text")
        assumed = document.get("assumptions", [])
        if not isinstance(assumed, list) or not all(isinstance(line, str) for line in assumed):
            raise TypeError("assumptions is no list of lines")
        result = Result(**document, arrays=load_file(folder / "arrays.safetensors"))
        return _upgraded(result) if schema < 2 else result
    except ProbeError:
        raise
    except (
        OSError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise ProbeError(
            f"{folder}: not a result directory ({error}); expected result.json and arrays.safetensors"
        ) from error
