"""What all tabs share: labels, exemplars, the model, and results that need not be computed twice."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from probe.ui.marks import Marks
from probe.ui.picks import Picks
from probe.ui.workbench import Workbench

T = TypeVar("T")
_KEPT = 64

# Okabe and Ito's colours, apart for the colour-blind, each with the ink that is read on it.
_COLOURS = (
    ("#e69f00", "#000"), ("#56b4e9", "#000"), ("#009e73", "#000"), ("#f0e442", "#000"), ("#0072b2", "#fff"),
    ("#d55e00", "#000"), ("#cc79a7", "#000"), ("#f5f5f5", "#000"),
)  # fmt: skip


@dataclass
class Here:
    """Where one tab of the browser is: the sample and the concept (None before there is one) in hand."""

    sample: int = 0
    concept: int | None = None


@dataclass
class Desk:
    """One run of `probe label`."""

    marks: Marks
    picks: Picks
    bench: Workbench
    ckpt: str
    samples: str
    _kept: dict[Hashable, Any] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def concepts(self) -> list[dict[str, Any]]:
        """The concepts as the browser gets them, each with its colour."""
        rows = []
        for k, (concept, name) in enumerate(self.marks.concepts.items()):
            colour, ink = _COLOURS[k % len(_COLOURS)]
            rows.append({"id": concept, "name": name, "colour": colour, "ink": ink})
        return rows

    async def slowly(self, key: Hashable, work: Callable[[], T]) -> T:
        """The result of a computation in a thread of its own, one at a time; kept, so that two tabs compute it once."""
        async with self._lock:
            if key not in self._kept:
                found = await asyncio.to_thread(work)
                while len(self._kept) >= _KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = found
            kept: T = self._kept[key]
            return kept

    def command(self, *words: str) -> str:
        """A command on this checkpoint, to be run in the same folder."""
        return shlex.join(["probe", *words, "--ckpt", self.ckpt])
