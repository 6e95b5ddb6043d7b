"""Trying an edit: what it did to every image by a reader's word, beside random edits of equal collateral.

Scores          concept area before and after, and mean change by place, of each image
Bench           fixed latents and a reader; scores edits on the same latents
Method          a way to forget: edits for a dose, refitted to other labels, and a random counterpart
control(...)    random edits scaled to a method's own collateral
label_draws     the method refitted to labelled images drawn anew
compare(...)    two methods' collateral at equal removal, paired by image
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe import measures, parallel
from probe.gan import GAN
from probe.labels import Boxes
from probe.layers import Replay, Site
from probe.measures import Array
from probe.parallel import Found, Item
from probe.probing import Labelled
from probe.readers import Reader

Edits = Mapping[str, Callable[[Tensor], Tensor]]
Dosed = Callable[[float], Edits]
Report = Callable[[str, int, int], None]
AIM = 0.95
BOUND = 0.025  # the collateral that is small: of a dose that falls short, and for showing methods side by side
_MATCHED = 8  # latents on which collateral is matched
_SHARED = np.linspace(0.05, 0.95, 19)  # removals at which two methods are compared


@dataclass(frozen=True)
class Scores:
    """What an edit did to each image: concept area before and after, and mean change by place, (N,) each.

    `others` holds the areas (2, N), before and after, of every other object that the reader knows.
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


class Bench:
    """Fixed latents, their unedited images and what a reader saw in them; scores edits on the same latents.

    An image has the concept when the reader sees at least a quarter of the median box's area of it.
    """

    def __init__(self, gan: GAN, z: Tensor, reader: Reader, boxes: Boxes, names: list[str]) -> None:
        self.gan, self.z, self.reader, self.boxes, self.names = gan, z, reader, boxes, names
        self.value = reader.objects.index(boxes.concept)
        self.replay = Replay(gan, z, names)
        self.images = self.replay.images({})
        labels = reader.labels(self.images)
        self.masks = labels == self.value
        self.areas = measures.areas(labels, len(reader.objects))  # (N, objects)
        self.before = self.areas[:, self.value]
        self.has = self.before >= boxes.typical_area / 4
        self.near = measures.dilate(self.masks)

    def having(self, n: int) -> Bench:
        """A bench of the first n latents that have the concept."""
        chosen = torch.from_numpy(np.flatnonzero(self.has)[:n])
        return Bench(self.gan, self.z[chosen], self.reader, self.boxes, self.names)

    def collateral(self, edits: Edits, n: int) -> float:
        """Collateral alone, on the first n latents: no reader is asked."""
        outside, _ = measures.change(self.images[:n], self.replay.images(edits, n), self.near[:n])
        return float(np.nanmean(outside[self.has[:n]]))

    def soft_scores(self, edits: Edits, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The share of the concept's area left (by the reader's probabilities) and collateral; both differentiable.

        The reader sees each image moved, mirrored, and with noise, so that no edit can rest on one quirk of it.
        """
        with torch.enable_grad():
            after = self.replay.draw(edits, rows).cpu()
            seen = self.reader.scores(_shaken(after, generator)).softmax(1)[:, self.value]
        far = ~self.near[rows]
        change = (after - self.images[rows]).abs().mean(1) / 2
        return seen.sum() / self.masks[rows].sum().clamp(min=1), (change * far).sum() / far.sum()

    def score(self, edits: Edits) -> Scores:
        return self.compare(self.replay.images(edits))

    def each(self, function: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """function(item) of each, side by side where edits need no hooks, which would be seen by all."""
        apart = self.replay.stems and self.gan.device.type == "cpu"
        return parallel.each(function, items) if apart else map(function, items)

    def compare(self, after: Tensor) -> Scores:
        """Scores of images (N, C, S, S) in [-1, 1] drawn from the same latents by whatever was done to the generator."""
        labels = self.reader.labels(after)
        outside, inside = measures.change(self.images, after, self.near)
        areas = measures.areas(labels, len(self.reader.objects))
        others = {
            name: np.stack([self.areas[:, k], areas[:, k]])
            for k, name in enumerate(self.reader.objects)
            if k not in (0, self.value)
        }
        return Scores(self.before, areas[:, self.value], outside, inside, self.has, others)


def _shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images moved by up to a sixteenth of their side, mirrored half the time, with another contrast and noise."""
    reach = images.shape[-1] // 16
    down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    contrast, mirrored = (torch.rand(2, generator=generator)).tolist()
    out = images.roll((down, right), (2, 3)) * (0.8 + 0.4 * contrast)
    out = out.flip(-1) if mirrored < 0.5 else out
    noisy: Tensor = out + 0.1 * torch.randn(out.shape, generator=generator)
    return noisy


@dataclass(frozen=True)
class Method:
    """A way to forget at given layers, fitted to labels.

    `edits` gives the edit of a dose, `doses` its curve; `refit` fits the same method to other labels; `random` draws a
    random counterpart of a dose, whose strength can be scaled from 0 to at most `most` (a dose of its own where 0 < most).
    `about` is what the result says of it, `units` which maps a dose drops, `fitted` what surgery needs of it; `aim`
    is the removal its dose is tuned to, `least` the smallest dose that tuning may choose.
    """

    name: str
    sites: tuple[Site, ...]
    doses: tuple[float, ...]
    edits: Dosed
    refit: Callable[[Labelled, int], Dosed]
    random: Callable[[float, np.random.Generator], Dosed]
    start: Callable[[float], float] = lambda dose: dose
    most: float = float("inf")
    units: Callable[[float], list[int]] = lambda _: []
    about: dict[str, Any] = field(default_factory=dict)
    fitted: Any = None
    aim: float = AIM
    least: float = 0.0


def tune(methods: list[Method], bench: Bench, report: Report) -> tuple[Method, float]:
    """The layers and the smallest dose that reach a method's aim on a bench; of layers that reach it, the least collateral.

    Reached means that the lower end of the removal's 95 % interval over images is not below it. If none reaches it: of the
    doses with collateral up to BOUND (of all where there is none such) that of least collateral whose removal is no more
    than a standard error, of the difference on the same images, below the largest (the one-standard-error rule, Breiman
    et al. 1984): a longer dose on a plateau buys collateral alone.
    """
    reached: list[tuple[float, Method, float]] = []
    tried: list[tuple[Scores, Method, float]] = []
    for k, method in enumerate(methods):
        for dose in (d for d in method.doses if d >= method.least):
            scores = bench.score(method.edits(dose))
            tried.append((scores, method, dose))
            if 1 - measures.ratio_ci(scores.after, scores.before)[1] >= method.aim:
                reached.append((scores.collateral, method, dose))
                break
        report(f"tuning {method.name}", k + 1, len(methods))
    if reached:
        return min(reached, key=lambda r: r[0])[1:]
    small = [t for t in tried if t[0].collateral <= BOUND] or tried
    best = max((scores for scores, _, _ in small), key=lambda scores: scores.removal)
    return min((t for t in small if _as_good(t[0], best)), key=lambda t: t[0].collateral)[1:]


def _as_good(one: Scores, best: Scores) -> bool:
    """Whether a removal is no more than a standard error of the difference, over the same images, below another."""
    low, high = measures.ratio_ci(one.after - best.after, one.before)
    return best.removal - one.removal <= (high - low) / (2 * 1.96)


def _match(edits: Dosed, start: float, most: float, target: float, bench: Bench) -> float:
    """The scale at which a random edit's collateral is the method's (5 %), on the first latents.

    Proportional steps, since collateral grows with the scale at most in proportion; the last scale where eight fall short.
    """
    scale = start
    for _ in range(8):
        ratio = target / max(bench.collateral(edits(scale), _MATCHED), 1e-6)
        if abs(ratio - 1) <= 0.05 or (ratio > 1 and scale >= most):
            break
        scale = float(np.clip(scale * ratio, scale / 50, min(scale * 20, most)))
    return scale


def control(
    method: Method, dose: float, bench: Bench, draws: int, seed: int, report: Report
) -> tuple[dict[str, Any], float, Array]:
    """Random edits at a method's own collateral, the method rescored on the same latents.

    Returns the published numbers, the p-value, and (removal, collateral) of every draw, (draws, 2).
    """
    own = bench.score(method.edits(dose))
    target = bench.collateral(method.edits(dose), _MATCHED)
    rng = np.random.default_rng(seed)
    points = np.zeros((draws, 2))
    everything = len(method.units(dose)) == method.sites[0].maps  # the one random set of all maps is that of the method

    def tried(edits: Dosed) -> tuple[float, float]:
        scores = bench.score(edits(_match(edits, method.start(dose), method.most, target, bench)))
        return scores.removal, scores.collateral

    drawn = [method.random(dose, rng) for _ in range(1 if everything else draws)]
    for k, point in enumerate(bench.each(tried, drawn)):
        points[k:] = point
        report(f"random control of {method.name}", k + 1, draws)
    removal, collateral = points.T
    summary = {
        "removal_mean": removal.mean(),
        "removal_p95": np.percentile(removal, 95),
        "collateral": collateral.mean(),
        "draws": draws,
        "latents": len(bench.has),
        "method_removal": own.removal,
        "method_collateral": own.collateral,
    }
    return summary, measures.p_value(own.removal, removal), points


def label_draws(method: Method, dose: float, labelled: Labelled, bench: Bench, draws: int, seed: int) -> dict[str, Any]:
    """Intervals over label draws: labelled images resampled, the method refitted at its layers and dose, rescored."""
    rng = np.random.default_rng(seed)
    points = []
    for k in range(draws):
        again = labelled.take(rng.integers(0, len(labelled), len(labelled)))
        scores = bench.score(method.refit(again, seed + k)(dose))
        points.append((scores.removal, scores.collateral))
    low, high = np.percentile(points, [2.5, 97.5], axis=0)
    return {
        "removal_label_ci": [low[0], high[0]],
        "collateral_label_ci": [low[1], high[1]],
        "label_draws": draws,
    }


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

    Each list holds a curve's scores in the order of the doses; the interval resamples images, the same for both.
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
