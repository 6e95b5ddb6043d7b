"""Which values of a source's pictures are black and white, where their type does not say it: looked at, then told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Range:
    """Values to bytes: `low` becomes 0 and `high` 255, or whole numbers of `bits` keep their upper eight."""

    words: str
    low: float = 0.0
    high: float = 1.0
    bits: int = 0

    def to_bytes(self, values: Array) -> Array:
        """Values of any shape as uint8."""
        if self.bits:
            return (values.astype(np.int64) >> (self.bits - 8)).clip(0, 255).astype(np.uint8)
        scaled = (values.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        return np.asarray(scaled.clip(0, 255).round(), np.uint8)


SIXTEEN = Range("", bits=16)
UNIT = Range("floats taken as 0 … 1", 0, 1)


def of_whole_numbers(low: float, high: float) -> Range:
    """The range of whole numbers between two; raises ValueError where nothing is known of such."""
    if low < 0 or high > 65535:
        raise ValueError(f"whole numbers from {low:g} to {high:g}, of an unknown range")
    if high == 1:
        return Range("values of 0 and 1 taken as black and white", 0, 1)
    bits = next(depth for depth in _DEPTHS if high < 2**depth)
    return SIXTEEN if bits == 16 else Range(f"values up to {high:g} taken as {bits} bits", bits=bits)


def of_floats(low: float, high: float) -> Range:
    """The range of floats between two: 0 … 1, -1 … 1 or 0 … 255; raises ValueError where it could be another one."""
    if low >= 0 and high <= 1:
        return UNIT
    if low >= -1 and high <= 1:
        return Range("floats taken as -1 … 1", -1, 1)
    if low >= 0 and 2 <= high <= 255:
        return Range("floats taken as 0 … 255", 0, 255)
    raise ValueError(f"floats from {low:g} to {high:g}, of an unknown range")


@dataclass
class Levels:
    """What the pictures of one source hold: by kind the least and largest value seen, and the range to read it by.

    Kinds: `whole` numbers of more than 8 bits, `floats`, plain `bytes`, and `colour` of 16 bits, of which the decoder
    gives the upper eight. A first pass over a source sees, `decide` says whether a second one must read otherwise.
    """

    ranges: dict[str, Range | ValueError] = field(default_factory=lambda: {"whole": SIXTEEN, "floats": UNIT})
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    def see(self, kind: str, low: float, high: float) -> None:
        """Note a picture's least and largest value."""
        before = self.seen.get(kind, (low, high))
        self.seen[kind] = min(before[0], low), max(before[1], high)

    def to_bytes(self, values: Array) -> Array:
        """Whole numbers or floats as uint8, by their range; raises ValueError for what is no number or has no range."""
        kind = "floats" if values.dtype.kind == "f" else "whole"
        if kind == "floats" and not np.isfinite(values).all():
            raise ValueError("pixels that are not numbers")
        self.see(kind, float(values.min()), float(values.max()))
        by = self.ranges[kind]
        if isinstance(by, ValueError):
            raise by
        return by.to_bytes(values)

    def decide(self) -> Levels | None:
        """The levels to read the source by, where they are not those it was read by; else None."""
        ranges = dict(self.ranges)
        for kind, of in (("whole", of_whole_numbers), ("floats", of_floats)):
            if kind in self.seen and not isinstance(ranges[kind], ValueError):
                try:
                    ranges[kind] = of(*self.seen[kind])
                except ValueError as error:
                    ranges[kind] = error
        if set(self.seen) == {"bytes"} and self.seen["bytes"][1] == 1:
            ranges["bytes"] = of_whole_numbers(0, 1)
        return None if ranges == self.ranges else Levels(ranges)

    @property
    def words(self) -> tuple[str, ...]:
        """What was assumed of the values, where their type alone does not say it."""
        used = {kind: self.ranges.get(kind) for kind in self.seen}
        return tuple(by.words for by in used.values() if isinstance(by, Range) and by.words)
