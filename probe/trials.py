"""Trying an edit: what it did to every image by a reader's word, beside random edits of equal collateral.

Scores        concept area before and after, and mean change by place, of each image
Bench         fixed latents and a reader; scores edits on the same latents
Method        a way to forget: edits for a dose, and a random counterpart
control(...)  random edits scaled to a method's own collateral
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from probe import measures
from probe.gan import GAN
from probe.labels import Boxes
from probe.layers import Replay, Site
from probe.measures import Array
from probe.readers import Reader

Edits = Mapping[str, Callable[[Tensor], Tensor]]
Report = Callable[[str, int, int], None]
_MATCHED = 16  # latents on which collateral is matched


@dataclass(frozen=True)
class Scores:
    """What an edit did to each image: concept area before and after, and mean change by place, (N,) each."""

    before: Array
    after: Array
    outside: Array
    inside: Array
    has: Array
    others: dict[str, list[float]] = field(default_factory=dict)

    @property
    def removal(self) -> float:
        """1 - ΣA_after / ΣA_before."""
        return float(1 - self.after.sum() / max(self.before.sum(), 1))

    @property
    def collateral(self) -> float:
        """Mean change outside the dilated mask, over images that have the concept."""
        return float(np.nanmean(self.outside[self.has]))

    def metrics(self) -> dict[str, Any]:
        """The published names, with intervals over images."""
        low, high = measures.ratio_ci(self.after, self.before)
        return {
            "removal": self.removal,
            "removal_ci": [1 - high, 1 - low],
            "collateral": self.collateral,
            "collateral_ci": measures.mean_ci(self.outside[self.has & np.isfinite(self.outside)]),
            "inside": float(np.nanmean(self.inside[self.has])),
            "concept_free_change": float(self.outside[~self.has].mean()) if (~self.has).any() else None,
            "others": self.others,
        }


class Bench:
    """Fixed latents, their unedited images and what a reader saw in them; scores edits on the same latents.

    An image has the concept when the reader sees at least a quarter of the median box's area of it.
    """

    def __init__(self, gan: GAN, z: Tensor, reader: Reader, boxes: Boxes, names: list[str]) -> None:
        self.reader, self.value = reader, reader.objects.index(boxes.concept)
        self.replay = Replay(gan, z, names)
        self.images = self.replay.images({})
        self.labels = reader.labels(self.images)
        self.masks = self.labels == self.value
        self.before = measures.areas(self.masks)
        self.has = self.before >= boxes.typical_area / 4
        self.near = measures.dilate(self.masks)

    def collateral(self, edits: Edits, n: int) -> float:
        """Collateral alone, on the first n latents: no reader is asked."""
        outside, _ = measures.change(self.images[:n], self.replay.images(edits, n), self.near[:n])
        return float(np.nanmean(outside[self.has[:n]]))

    def score(self, edits: Edits) -> Scores:
        after = self.replay.images(edits)
        labels = self.reader.labels(after)
        outside, inside = measures.change(self.images, after, self.near)
        counts = [[float((maps == k).sum()) for maps in (self.labels, labels)] for k in range(len(self.reader.objects))]
        others = {n: counts[k] for k, n in enumerate(self.reader.objects) if k and k != self.value}
        return Scores(self.before, measures.areas(labels == self.value), outside, inside, self.has, others)


@dataclass(frozen=True)
class Method:
    """A way to forget: edits for a dose (at `most`), the doses of its curve, and a random counterpart."""

    sites: tuple[Site, ...]
    edits: Callable[[float], Edits]
    doses: tuple[float, ...]
    dose: float
    random: Callable[[np.random.Generator], Callable[[float], Edits]]
    maps_dropped: int = 0
    most: float = float("inf")


def _match(edits: Callable[[float], Edits], method: Method, dose: float, target: float, bench: Bench) -> float:
    """The dose at which a random edit's collateral is the method's, on the first latents: two proportional steps."""
    for _ in range(2):
        found = bench.collateral(edits(dose), _MATCHED)
        dose = float(np.clip(dose * target / max(found, 1e-6), dose / 50, min(dose * 20, method.most)))
    return dose


def control(
    method: Method, dose: float, bench: Bench, draws: int, seed: int, report: Callable[[int, int], None]
) -> tuple[dict[str, Any], float, Array]:
    """Random edits at a method's own collateral, the method rescored on the same latents.

    Returns the published numbers, the p-value, and (removal, collateral) of every draw, (draws, 2).
    """
    own = bench.score(method.edits(dose))
    target = bench.collateral(method.edits(dose), _MATCHED)
    rng = np.random.default_rng(seed)
    points = np.zeros((draws, 2))
    for k in range(draws):
        edits = method.random(rng)
        scores = bench.score(edits(_match(edits, method, dose, target, bench)))
        points[k] = scores.removal, scores.collateral
        report(k + 1, draws)
    removal, collateral = points.T
    summary = {
        "removal_mean": removal.mean(),
        "removal_p95": np.percentile(removal, 95),
        "collateral": collateral.mean(),
    }
    summary |= {
        "latents": len(bench.has),
        "draws": draws,
        "method_removal": own.removal,
        "method_collateral": own.collateral,
    }
    return summary, measures.p_value(own.removal, removal), points
