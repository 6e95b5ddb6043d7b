"""Trying a way to forget: its strength, beside random edits of equal collateral, and fitted to other labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from probe.base import seeds
from probe.concepts.probing import LabelledMaps
from probe.edits.scoring import Edits, Scorer, Scores
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.hooks import Site

AtStrength = Callable[[float], Edits]
Report = Callable[[str, int, int], None]
AIM = 0.95
BOUND = 0.025  # the collateral that is small: of a strength that falls short, and for showing methods side by side
_FIRST = 8  # latents on which collateral is matched roughly, before it is on all


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to forget at given layers, fitted to labels.

    `edits` gives the edit of a strength, `strengths` its curve; `refit` fits the same method to other labels; `random`
    draws a random counterpart of a strength, whose strength can be scaled from 0 to at most `most` (a strength of its
    own where 0 < most). `about` is what the result says of it, `units` which maps a strength drops, `fitted` what
    surgery needs of it; `aim` is the removal its strength is tuned to, `least` the smallest strength that tuning may
    choose.
    """

    name: str
    sites: tuple[Site, ...]
    strengths: tuple[float, ...]
    edits: AtStrength
    refit: Callable[[LabelledMaps, int], AtStrength]
    random: Callable[[float, np.random.Generator], AtStrength]
    start: Callable[[float], float] = lambda strength: strength
    most: float = float("inf")
    units: Callable[[float], list[int]] = lambda _: []
    about: dict[str, Any] = field(default_factory=dict)
    fitted: Any = None
    aim: float = AIM
    least: float = 0.0


def tune(methods: list[Method], scorer: Scorer, report: Report) -> tuple[Method, float]:
    """The layers and the smallest strength that reach a method's aim on a scorer, at the least collateral.

    Reached means that the lower end of the removal's 95 % interval over images is not below it. If none reaches it: of
    the strengths with collateral up to BOUND (of all where there is none such) that of least collateral whose removal
    is no more than a standard error, of the difference on the same images, below the largest (the one-standard-error
    rule, Breiman et al. 1984): a longer strength on a plateau buys collateral alone.

    A strength is passed over where on a quarter of the images (16 at least) the upper end of the interval is below the
    aim already.
    """
    reached: list[tuple[float, Method, float]] = []
    few = scorer.having(max(16, len(scorer.has) // 4))
    allowed = [[strength for strength in method.strengths if strength >= method.least] for method in methods]
    for k, (method, strengths) in enumerate(zip(methods, allowed, strict=True)):
        for strength in strengths:
            edits = method.edits(strength)
            if _removed(few.score(edits))[1] < method.aim:
                continue
            scores = scorer.score(edits)
            if _removed(scores)[0] >= method.aim:
                reached.append((scores.collateral, method, strength))
                break
        report(f"tuning {method.name}", k + 1, len(methods))
    if reached:
        return min(reached, key=lambda r: r[0])[1:]
    tried: list[tuple[Scores, Method, float]] = []
    for k, (method, strengths) in enumerate(zip(methods, allowed, strict=True)):
        tried += [(scorer.score(method.edits(strength)), method, strength) for strength in strengths]
        report(f"tuning {method.name}, no strength reaches {method.aim:g}", k + 1, len(methods))
    small = [t for t in tried if t[0].collateral <= BOUND] or tried
    best = max((scores for scores, _, _ in small), key=lambda scores: scores.removal)
    return min((t for t in small if _as_good(t[0], best)), key=lambda t: t[0].collateral)[1:]


def _removed(scores: Scores) -> tuple[float, float]:
    """The ends of a removal's interval over images."""
    low, high = measures.ratio_ci(scores.after, scores.before)
    return 1 - high, 1 - low


def _as_good(one: Scores, best: Scores) -> bool:
    """Whether a removal is no more than a standard error of the difference, over the same images, below another."""
    low, high = measures.ratio_ci(one.after - best.after, one.before)
    return best.removal - one.removal <= (high - low) / (2 * 1.96)


def _matched(
    edits: AtStrength, start: float, most: float, targets: tuple[float, float], scorer: Scorer, growth: float = 1.0
) -> tuple[Scores, float]:
    """Scores of a random edit scaled to the method's collateral: roughly on the first latents, then on all.

    Collateral is taken for a power of the scale: that of the last two scales tried, `growth` at first. Returns that
    power, too (`growth` where nothing matched). Within 10 % on all latents; the last scale tried where eight fall
    short. Where four do not match the first latents (an edit may leave them alone), the search on all starts over.
    """
    scale, power, n = start, growth, len(scorer.has)
    images, drawn = scorer.images[:0], start  # what has been drawn, and at which scale
    for rows, target, tolerance, tries in ((min(_FIRST, n), targets[0], 0.15, 4), (n, targets[1], 0.1, 8)):
        tried: list[tuple[float, float]] = []
        for _ in range(tries):
            kept = images if scale == drawn else images[:0]
            images = torch.cat([kept, scorer.replay.images(edits(scale), torch.arange(len(kept), rows))])
            drawn = scale
            excess = max(scorer.collateral(images), 1e-6) / max(target, 1e-6)
            tried.append((np.log(scale), np.log(excess)))
            if len(tried) > 1:
                (s, e), (s0, e0) = tried[-1], tried[-2]
                power = float(np.clip((e - e0) / (s - s0), 1 / 3, 3))
            if abs(excess - 1) <= tolerance or (excess < 1 and scale >= most):
                break
            scale = float(np.clip(scale / excess ** (1 / power), scale / 50, min(scale * 20, most)))
        else:
            scale, power = start, growth
    return scorer.compare(images), power


def random_edits(
    method: Method, strength: float, scorer: Scorer, draws: int, seed: int, report: Report
) -> tuple[dict[str, Any], float, Array]:
    """Random edits at a method's own collateral, the method rescored on the same latents.

    Returns the published numbers, the p-value, and (removal, collateral) of every draw, (draws, 2).
    """
    own = scorer.score(method.edits(strength))
    first = scorer.replay.images(method.edits(strength), torch.arange(len(scorer.has))[:_FIRST])
    targets = scorer.collateral(first), own.collateral
    rng = np.random.default_rng(seed)
    points = np.zeros((draws, 2))
    everything = (
        len(method.units(strength)) == method.sites[0].maps
    )  # the one random set of all maps is that of the method

    def matched(edits: AtStrength, growth: float = 1.0) -> tuple[Scores, float]:
        return _matched(edits, method.start(strength), method.most, targets, scorer, growth)

    drawn = [method.random(strength, rng) for _ in range(1 if everything else draws)]
    pilot, growth = matched(drawn[0])  # the others start from the power that it found
    others = scorer.each(lambda edits: matched(edits, growth)[0], drawn[1:])
    for k, scores in enumerate(itertools.chain([pilot], others)):
        points[k:] = scores.removal, scores.collateral
        report(f"random control of {method.name}", k + 1, draws)
    removal, collateral = points.T
    summary = {
        "removal_mean": removal.mean(),
        "removal_p95": np.percentile(removal, 95),
        "collateral": collateral.mean(),
        "draws": draws,
        "latents": len(scorer.has),
        "method_removal": own.removal,
        "method_collateral": own.collateral,
    }
    return summary, measures.p_value(own.removal, removal), points


def label_draws(
    method: Method, strength: float, labelled: LabelledMaps, scorer: Scorer, draws: int, seed: int
) -> dict[str, Any]:
    """Intervals over label draws: images resampled, the method refitted at its layers and strength, rescored."""
    rng = np.random.default_rng(seed)
    points = []
    for k in range(draws):
        again = labelled.take(rng.integers(0, len(labelled), len(labelled)))
        scores = scorer.score(method.refit(again, seeds.LABEL_DRAWS.of(seed, k))(strength))
        points.append((scores.removal, scores.collateral))
    low, high = np.percentile(points, [2.5, 97.5], axis=0)
    return {
        "removal_label_ci": [low[0], high[0]],
        "collateral_label_ci": [low[1], high[1]],
        "label_draws": draws,
    }
