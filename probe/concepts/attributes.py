"""What rooms show, as named concepts (`window/day`, `left`): which rooms do, and what arithmetic promises."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from probe.base.errors import ProbeError
from probe.concepts.expressions import Expression
from probe.data.rooms.scenes import ATTRIBUTES
from probe.measures.statistics import Array

VALUES = {
    "window": ("window", 1), "nowindow": ("window", 0), "night": ("night", 1), "day": ("night", 0),
    "lamp": ("lamp", 1), "nolamp": ("lamp", 0), "left": ("yaw", 0), "right": ("yaw", 1),
}  # fmt: skip
"""Words of concepts: the attribute of `rooms` each is about, and on which side of it."""
READABLE = ("window", "night", "lamp", "yaw")
TURNED = 4.0
"""A room counts as seen to the left or right when the camera is turned by this many degrees, of 14 at most."""


def parts(name: str) -> dict[str, int]:
    """The attributes a concept names, 0 or 1 each; raises ProbeError for a word that is not in VALUES."""
    out: dict[str, int] = {}
    for word in name.split("/"):
        if word not in VALUES:
            raise ProbeError(
                f"concept '{name}': unknown word '{word}'; concepts of rooms are {', '.join(VALUES)}, or several with "
                "/ between"
            )
        attribute, side = VALUES[word]
        if out.setdefault(attribute, side) != side:
            raise ProbeError(f"concept '{name}': says both sides of {attribute}")
    return out


class Vocabulary:
    """Every name that `parts` understands, as the collection of known concepts that `expressions.parse` asks for."""

    def __contains__(self, name: object) -> bool:
        try:
            return bool(parts(str(name)))
        except ProbeError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter([*VALUES, "and several with / between"])


def shows(table: Array, attribute: str, side: int) -> Array:
    """Rows (N,) boolean of an attribute table (N, 6) on one side of an attribute; flags are divided at 0.5."""
    values = table[:, ATTRIBUTES.index(attribute)]
    if attribute == "yaw":
        return np.asarray(values >= TURNED if side else values <= -TURNED)
    return np.asarray((values > 0.5) == bool(side))


def holds(table: Array, wanted: dict[str, int]) -> Array:
    """Rows (N,) boolean of an attribute table (N, 6) that show all attributes as wanted."""
    return np.asarray(np.all([shows(table, attribute, side) for attribute, side in wanted.items()], 0))


def expected(expression: Expression) -> tuple[dict[str, int], list[str]]:
    """What the result should show, by attribute, and which of these the arithmetic is to change.

    Σ s·v over the terms, v 0 or 1 and 0.5 where a term does not name the attribute, cut to [0, 1]. Of A - B + C this
    is A's side where A and B differ and C's elsewhere. Attributes that come out in between are not judged, and none is
    where the signs do not add up to one.
    """
    if sum(t.sign for t in expression.terms) != 1:
        return {}, []
    named = [parts(t.name) for t in expression.terms]
    out, targets = {}, []
    for attribute in READABLE:
        if not any(attribute in p for p in named):
            continue
        total = sum(t.sign * p.get(attribute, 0.5) for t, p in zip(expression.terms, named, strict=True))
        value = min(max(total, 0), 1)
        if value in (0, 1):
            out[attribute] = int(value)
            if named[expression.base].get(attribute) != value:
                targets.append(attribute)
    return out, targets


def describe(wanted: dict[str, int]) -> str:
    """The name of a concept: {"window": 1, "night": 0} -> `window/day`."""
    return "/".join(next(w for w, v in VALUES.items() if v == item) for item in wanted.items())


def scores(table: Array) -> Array:
    """Attribute tables (…, 6) -> (…, 4) of READABLE: log-odds of the flags (cut at ±7), degrees of yaw."""
    flags = np.clip(table[..., :3].astype(np.float64), 1e-3, 1 - 1e-3)
    return np.concatenate([np.log(flags / (1 - flags)), table[..., 3:4]], -1)
