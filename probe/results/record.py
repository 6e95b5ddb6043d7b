"""What a run found and how, as plain data: the part of a result that is written down."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probe.base.files import save_tensors, save_text

SCHEMA = 2


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
class Record:
    """What a question found. `metrics` uses the published names; `arrays` hold all that its figure needs.

    Not part of it on disk: `gan` is the GAN that came of it where the question operates on one, `files` are what the
    question writes beside it (name -> a function of the path), `remarks` what a person should hear of this run.
    """

    command: str
    metrics: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    gan: Any = field(default=None, kw_only=True, compare=False)
    files: dict[str, Callable[[Path], None]] = field(default_factory=dict, kw_only=True, compare=False)
    remarks: list[str] = field(default_factory=list, kw_only=True, compare=False)

    def document(self) -> dict[str, Any]:
        """The JSON document, without the arrays."""
        names = ("command", "metrics", "settings", "assumptions", "provenance")
        return {"schema": SCHEMA, **{name: _plain(getattr(self, name)) for name in names}}

    def write(self, folder: Path) -> None:
        """Write result.json and arrays.safetensors alone into an existing folder, each atomically."""
        arrays = {k: np.ascontiguousarray(v) for k, v in self.arrays.items()}
        save_tensors(folder / "arrays.safetensors", arrays, of="numpy")
        save_text(folder / "result.json", json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n")
