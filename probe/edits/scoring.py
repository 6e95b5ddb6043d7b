"""What an edit did to every image, by a segmenter's word; two edits compared image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import parallel
from probe.base.parallel import Found, Item
from probe.concepts.labels import Boxes
from probe.concepts.protocols import Segmenter, scores
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.replay import Replay

Edits = Mapping[str, Callable[[Tensor], Tensor]]
_SHARED = np.linspace(0.05, 0.95, 19)  # removals at which two methods are compared


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an edit did to each image: concept area before and after, and mean change by place, (N,) each.

    `others` holds the areas (2, N), before and after, of every other object that the segmenter knows.
    """

    before: Array
    after: Array
    outside: Array
    inside: Array
    has: Array
    others: dict[str, Array] = field(default_factory=dict)

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
        others = {
            name: {"change": float(after.sum() / max(before.sum(), 1) - 1), "change_ci": [v - 1 for v in interval]}
            for name, (before, after) in self.others.items()
            for interval in [measures.ratio_ci(after, before)]
        }
        return {
            "removal": self.removal,
            "removal_ci": [1 - high, 1 - low],
            "collateral": self.collateral,
            "collateral_ci": measures.mean_ci(self.outside[self.has & np.isfinite(self.outside)]),
            "inside": float(np.nanmean(self.inside[self.has])),
            "concept_free_change": float(self.outside[~self.has].mean()) if (~self.has).any() else None,
            "others": others,
        }


class Scorer:
    """A replay of fixed latents and what a segmenter saw in their unedited images; scores edits on the same latents.

    An image has the concept when the segmenter sees at least a quarter of the median box's area of it.
    """

    def __init__(self, replay: Replay, segmenter: Segmenter, boxes: Boxes) -> None:
        self.replay, self.segmenter, self.boxes = replay, segmenter, boxes
        self.value = segmenter.objects.index(boxes.concept)
        self.images = replay.unedited
        self.labels = segmenter.labels(self.images)
        self.masks = self.labels == self.value
        self.areas = measures.areas(self.labels, len(segmenter.objects))  # (N, objects)
        self.before = self.areas[:, self.value]
        self.has = self.before >= boxes.typical_area / 4
        self.near = measures.dilate(self.masks)

    def having(self, n: int) -> Scorer:
        """A scorer of the first n latents that have the concept."""
        chosen = torch.from_numpy(np.flatnonzero(self.has)[:n])
        return Scorer(self.replay.take(chosen), self.segmenter, self.boxes)

    def collateral(self, after: Tensor) -> float:
        """Collateral alone, of images of the first latents: no segmenter is asked."""
        n = len(after)
        outside, _ = measures.change(self.images[:n], after, self.near[:n])
        return float(np.nanmean(outside[self.has[:n]]))

    def soft_scores(self, edits: Edits, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The share of the concept's area left (by the segmenter's probabilities) and collateral; both differentiable.

        The segmenter sees each image moved, mirrored, and with noise, so that no edit can rest on one quirk of it.
        """
        with torch.enable_grad():
            after = self.replay.draw(edits, rows).cpu()
            seen = scores(self.segmenter, _shaken(after, generator)).softmax(1)[:, self.value]
        far = ~self.near[rows]
        change = (after - self.images[rows]).abs().mean(1) / 2
        return seen.sum() / self.masks[rows].sum().clamp(min=1), (change * far).sum() / far.sum()

    def score(self, edits: Edits) -> Scores:
        return self.compare(self.replay.images(edits))

    def workers(self) -> AbstractContextManager[parallel.Map[Any, Any]]:
        """What maps a function over items, side by side where edits need no hooks, which would be seen by all."""
        apart = not self.replay.hooked and self.replay.gan.device.type == "cpu"
        return parallel.workers() if apart else nullcontext(map)

    def each(self, function: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """function(item) of each, side by side where that can be."""
        with self.workers() as run:
            yield from run(function, items)

    def compare(self, after: Tensor) -> Scores:
        """Scores of images (N, C, S, S) in [-1, 1] drawn from the same latents by whatever was done to the generator."""
        changed = torch.tensor([not torch.equal(a, b) for a, b in zip(after, self.images, strict=True)])
        labels = self.labels.clone()
        if changed.any():
            labels[changed] = self.segmenter.labels(after[changed])
        outside, inside = measures.change(self.images, after, self.near)
        areas = measures.areas(labels, len(self.segmenter.objects))
        others = {
            name: np.stack([self.areas[:, k], areas[:, k]])
            for k, name in enumerate(self.segmenter.objects)
            if k not in (0, self.value)
        }
        return Scores(
            before=self.before, after=areas[:, self.value], outside=outside, inside=inside, has=self.has, others=others
        )


def _shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images moved by up to a sixteenth of their side, mirrored half the time, with another contrast and noise."""
    reach = images.shape[-1] // 16
    down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    contrast, mirrored = (torch.rand(2, generator=generator)).tolist()
    out = images.roll((down, right), (2, 3)) * (0.8 + 0.4 * contrast)
    out = out.flip(-1) if mirrored < 0.5 else out
    noisy: Tensor = out + 0.1 * torch.randn(out.shape, generator=generator)
    return noisy


def _least(removal: Array, collateral: Array, at: Array) -> Array:
    """Least collateral (..., K) at which a curve (..., D) from (0, 0) on crosses each of the removals `at` (K,)."""
    zero = np.zeros((*removal.shape[:-1], 1))
    r, c = (np.concatenate([zero, x], -1)[..., None, :] for x in (removal, collateral))
    r0, r1, c0, c1 = r[..., :-1], r[..., 1:], c[..., :-1], c[..., 1:]
    level = at[:, None]
    crossed = (np.minimum(r0, r1) <= level) & (level <= np.maximum(r0, r1))
    share = np.where(crossed, (level - r0) / np.where(r1 == r0, 1, r1 - r0), 0)
    return np.asarray(np.where(crossed, c0 + share * (c1 - c0), np.inf).min(-1))


def compare(one: list[Scores], other: list[Scores], seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Collateral of one method minus another's at every removal (in steps of 0.05) both reach, paired by image.

    Each list holds a curve's scores in the order of the strengths; the interval resamples images, the same for both.
    `below_everywhere` says that the whole interval lies below zero at every shared removal.
    """
    rows = np.random.default_rng(seed).integers(0, len(one[0].before), (resamples, len(one[0].before)))
    rows = np.concatenate([np.arange(len(one[0].before))[None], rows])  # the first is the sample itself
    least = []
    for curve in (one, other):
        removal = np.stack([1 - s.after[rows].sum(1) / np.maximum(s.before[rows].sum(1), 1) for s in curve], -1)
        collateral = np.stack([np.nanmean(np.where(s.has, s.outside, np.nan)[rows], 1) for s in curve], -1)
        least.append(_least(removal, collateral, _SHARED))
    shared = np.isfinite(least[0][0]) & np.isfinite(least[1][0])
    with np.errstate(invalid="ignore"):
        difference = (least[0] - least[1])[:, shared]
    reached = np.isfinite(difference)  # a resample may fall short of a removal: it says nothing there
    draws = np.where(reached, difference, np.nan)[1:]
    low, high = np.nanpercentile(draws, [2.5, 97.5], axis=0) if shared.any() else (np.array([]), np.array([]))
    return {
        "removal": _SHARED[shared].round(2).tolist(),
        "difference": difference[0].tolist(),
        "difference_ci": np.stack([low, high], 1).tolist(),
        "below_everywhere": bool(shared.any() and (high < 0).all()),
    }
