"""Exemplars chosen by clicking: concept -> samples, kept in the file that `probe arithmetic` and `probe turn` read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.base.files import writing
from probe.concepts import exemplars
from probe.concepts.exemplars import Exemplars
from probe.concepts.expressions import Expression
from probe.models.gan import GAN


class Picks:
    """The exemplars of one checkpoint's samples of one seed, in one file.

    Latents that stand in the file as numbers are kept as they are. Raises ProbeError as `exemplars.load`, and for a
    file made for another seed.
    """

    def __init__(self, path: Path, gan: GAN, seed: int) -> None:
        self.path, self.gan, self.seed = path, gan, seed
        self.lock = threading.RLock()
        self.listeners: list[Callable[[], None]] = []
        self.document: dict[str, Any] = {"seed": seed, "checkpoint": gan.provenance.get("sha256"), "concepts": {}}
        self._stamp: tuple[int, int] | None = None
        if path.exists():
            exemplars.load(path, gan)  # all its checks
            self.document = json.loads(path.read_text(encoding="utf-8"))
            found = self.document.setdefault("seed", 0)
            if found != seed:
                raise ProbeError(
                    f"{path.name}: exemplars of samples of seed {found}, but --seed is {seed}; use --seed {found} or "
                    "another --concepts"
                )
            self.document.setdefault("checkpoint", gan.provenance.get("sha256"))
            self._stamp = self._seen()

    @property
    def concepts(self) -> dict[str, list[Any]]:
        """Concept -> samples (or latents)."""
        rows: dict[str, list[Any]] = self.document["concepts"]
        return rows

    def add(self, name: str) -> str:
        """A concept to pick for; raises ProbeError for a name that expressions cannot hold."""
        name = " ".join(name.split())
        if not name or len(name) > 40 or not name.isprintable() or set(name.split()) & set("+-−="):
            raise ProbeError(f"concept {name[:50]!r}: expected a name of 1 to 40 letters, without + - = between spaces")
        with self.lock:
            self.concepts.setdefault(name, [])
        self._changed()
        return name

    def drop(self, name: str) -> None:
        """Forget a concept."""
        with self.lock:
            self.concepts.pop(name, None)
        self._changed()

    def toggle(self, name: str, sample: int, samples: int) -> None:
        """Take a sample among a concept's exemplars, or out of them."""
        if type(sample) is not int or not 0 <= sample < samples or name not in self.concepts:
            raise ProbeError(f"sample {sample!r} for {name!r}: no such sample or concept")
        with self.lock:
            rows = self.concepts[name]
            rows.remove(sample) if sample in rows else rows.append(sample)
        self._changed()

    def _seen(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _changed(self) -> None:
        """Save the concepts that have exemplars (an exemplar file has no empty ones), and tell the tabs."""
        try:
            with self.lock:
                if self._seen() not in (None, self._stamp):
                    raise ProbeError(f"not saved: another program changed {self.path.name}; move that file away first")
                filled = {name: rows for name, rows in self.concepts.items() if rows}
                if not filled:
                    self.path.unlink(missing_ok=True)
                    self._stamp = None
                else:
                    with writing(self.path) as temporary:
                        text = json.dumps(self.document | {"concepts": filled}, ensure_ascii=False, indent=1)
                        temporary.write_text(text + "\n", encoding="utf-8")
                    self._stamp = self._seen()
        finally:
            for listener in list(self.listeners):
                listener()

    def latents(self) -> Exemplars:
        """The exemplars as `arithmetic` and `turn` take them, concepts without any left out."""
        with self.lock:
            rows = {name: list(found) for name, found in self.concepts.items() if found}
        numbers = [i for found in rows.values() for i in found if type(i) is int]
        drawn = self.gan.latents(max(numbers, default=0) + 1, self.seed)
        stacked = {
            name: torch.stack([drawn[i] if type(i) is int else torch.tensor(i, dtype=torch.float32) for i in found])
            for name, found in rows.items()
        }
        return Exemplars(stacked)


def combine(found: Exemplars, expression: Expression) -> Tensor:
    """The latent (nz,) of an expression over the means of all exemplars of its concepts."""
    return torch.stack([t.sign * found.latents[t.name].mean(0) for t in expression.terms]).sum(0)


def turned(found: Exemplars, before: str, after: str, z: Tensor, steps: Tensor) -> Tensor:
    """Latents (K, nz) along the difference of two concepts' means from a sample (nz,), at steps (K,) in its lengths."""
    direction = found.latents[after].mean(0) - found.latents[before].mean(0)
    return z + steps[:, None] * direction
