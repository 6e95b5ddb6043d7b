"""Trials of the hold-out test where the truth is known: generators that copy nothing, and planted copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe import copying, measures
from probe.copying import Neighbours, Permutations

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


def null_p_values(
    kinds: Kinds, pool: Callable[[np.random.Generator, int], Tensor], n: Sizes, runs: int
) -> dict[str, np.ndarray]:
    """p-values of generators that never saw an image of T or H; `pool(rng, number)` draws images for both."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for run in range(runs):
        for i, (kind, draw) in enumerate(kinds.items()):
            rng = np.random.default_rng([run, i])
            near = neighbours(draw(rng), pool(rng, n.train + n.holdout), n)
            shuffles = Permutations(n.train, n.holdout, n.permutations, run)
            found[kind].append(copying.p_of(shuffles.ratios(near, copying.floor_of(near))))
    return {kind: np.array(values) for kind, values in found.items()}


def rates(p: np.ndarray) -> dict[str, Any]:
    """Shares of p-values up to 0.05 and up to 0.01, with Wilson intervals."""
    counts = {level: int((p <= level).sum()) for level in (0.05, 0.01)}
    return {
        "null_runs": len(p), "false_alarm_rate": counts[0.05] / len(p), "false_alarm_ci": measures.share_ci(counts[0.05], len(p)),
        "false_alarm_rate_001": counts[0.01] / len(p), "false_alarm_ci_001": measures.share_ci(counts[0.01], len(p)),
    }  # fmt: skip


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
            rare = copying.chance(shuffles.ratios(near, floor, skip=1))
            caught[0, j] += copying.detected(ratios, rare, n.train, n.holdout)
            k = max(1, round(copying.TAIL * n.samples))
            low = -np.partition(ratios, k - 1, axis=1)[:, :k].mean(1)
            caught[1, j] += measures.p_value(low[0], low[1:]) < 0.01
    rows = [
        [[s, c / draws, *measures.share_ci(int(c), draws)] for s, c in zip(shares, counts, strict=True)]
        for counts in caught
    ]
    return np.array(rows[0]), np.array(rows[1])
