"""Trials of the hold-out test where the truth is known: generators that copy nothing, and planted copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.measures import statistics as measures
from probe.questions.memorization import copying
from probe.questions.memorization.copying import Neighbours, Permutations

Kinds = dict[str, Callable[[np.random.Generator], Tensor]]


@dataclass(frozen=True)
class Sizes:
    """Images of each label, samples and label permutations of a trial."""

    train: int
    holdout: int
    samples: int
    permutations: int


def neighbours(samples: Tensor, images: Tensor, n: Sizes) -> Neighbours:
    """Sorted distances of samples (M, D) to images (N, D), training images first."""
    k = copying.list_length(n.train, n.holdout, n.samples, n.permutations)
    found = torch.cdist(samples, images).topk(k, largest=False)
    return Neighbours(found.values.numpy(), found.indices.numpy())


def null_trials(
    kinds: Kinds, pool: Callable[[np.random.Generator, int], Tensor], n: Sizes, runs: int
) -> dict[str, np.ndarray]:
    """p-values, and the lower ends of the share of copies, (runs, 2), of generators that never saw an image of T or H.

    `pool(rng, number)` draws images for both.
    """
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for run in range(runs):
        for i, (kind, draw) in enumerate(kinds.items()):
            rng = np.random.default_rng([run, i])
            near = neighbours(draw(rng), pool(rng, n.train + n.holdout), n)
            shuffles = Permutations(n.train, n.holdout, n.permutations, run)
            floor = copying.floor_of(near)
            ratios, below = shuffles.ratios(near, floor), copying.thresholds(shuffles.ratios(near, floor, skip=1))
            low = copying.copy_share(ratios, below, n.train, n.holdout)[1][0]
            found[kind].append((copying.p_of(ratios), low))
    return {kind: np.array(values) for kind, values in found.items()}


def rates(trials: np.ndarray) -> dict[str, Any]:
    """Of trials (runs, 2): shares of p-values to 0.05 and 0.01, and of shares of copies above 0; Wilson intervals."""
    n, (p, low) = len(trials), trials.T
    counts = {
        "false_alarm": p <= 0.05,
        "false_alarm_001": p <= 0.01,
        "copy_share_above_zero": low > 0,
        "detected": (p < 0.01) & (low > 0),
    }
    made: dict[str, Any] = {"null_runs": n}
    for name, flags in counts.items():
        made |= {f"{name}_rate": float(flags.mean()), f"{name}_ci": measures.share_ci(int(flags.sum()), n)}
    return made


def power(
    trial: Callable[[np.random.Generator, float], tuple[Tensor, Tensor]],
    shares: tuple[float, ...],
    n: Sizes,
    draws: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of detection, rows of share, rate, low, high: of the test, and of its lower tail alone (p < 0.01).

    `trial(rng, share)` makes samples of which a share are copies of training images, and the images, T first.
    """
    caught = np.zeros((2, len(shares)), dtype=int)
    for j, share in enumerate(shares):
        for draw in range(draws):
            samples, images = trial(np.random.default_rng([draw, j]), share)
            near = neighbours(samples, images, n)
            shuffles, floor = Permutations(n.train, n.holdout, n.permutations, draw), copying.floor_of(near)
            ratios = shuffles.ratios(near, floor)
            below = copying.thresholds(shuffles.ratios(near, floor, skip=1))
            caught[0, j] += copying.detected(ratios, below, n.train, n.holdout)
            k = max(1, round(copying.TAIL * n.samples))
            low = -np.partition(ratios, k - 1, axis=1)[:, :k].mean(1)
            caught[1, j] += measures.p_value(low[0], low[1:]) < 0.01
    rows = [
        [[s, c / draws, *measures.share_ci(int(c), draws)] for s, c in zip(shares, counts, strict=True)]
        for counts in caught
    ]
    return np.array(rows[0]), np.array(rows[1])
