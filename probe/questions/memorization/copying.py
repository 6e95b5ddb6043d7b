"""The hold-out test for copies: are samples nearer to training images than to others of the same kind?

Under the hypothesis that the generator knows training and held-out images equally well, their labels can be exchanged,
so the test is exact whatever the generator: poor, shrunk or with dropped modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from probe.measures.statistics import Array

TAIL = 0.05  # share of the samples in each tail
_RARE, _Z = (0.01, 0.001), 2.2414  # ratios this rare without copies count as those of copies; normal quantile
_FLOOR = 0.01  # distances are floored at this share of the median nearest one, so that exact copies have a logarithm


@dataclass(frozen=True)
class Neighbours:
    """Distances (M, K) of samples to their nearest images, ascending, and which images (M, K) these are."""

    distances: Array
    indices: Array

    def take(self, rows: Array) -> Neighbours:
        """Those of some samples."""
        return Neighbours(self.distances[rows], self.indices[rows])


def list_length(train: int, holdout: int, samples: int, permutations: int) -> int:
    """How many neighbours a sample needs so that, with odds of 1000 to 1, every shuffling has one of each label."""
    rarer = min(train, holdout) / (train + holdout)
    if rarer >= 1:
        return train + holdout
    return min(train + holdout, math.ceil(math.log(1000 * samples * permutations) / -math.log1p(-rarer)) + 1)


def floor_of(neighbours: Neighbours) -> float:
    """The smallest distance told from zero."""
    return max(_FLOOR * float(np.median(neighbours.distances[:, 0])), 1e-12)


def log_ratios(neighbours: Neighbours, trained: Array, floor: float, skip: int = 0) -> Array:
    """Log d(g, T) / d(g, H) (M,) for labels `trained` (N,) boolean; `skip` leaves out that many nearest images.

    Where a list ends without one of a label, its last distance stands for it, which makes the ratio milder.
    """
    labels = trained[neighbours.indices[:, skip:]]
    logs = np.log(np.maximum(neighbours.distances[:, skip:], floor))
    rows = np.arange(len(labels))
    return np.asarray(_first(labels, logs, rows) - _first(~labels, logs, rows))


def _first(labels: Array, logs: Array, rows: Array) -> Array:
    place = labels.argmax(1)
    return np.asarray(logs[rows, np.where(labels[rows, place], place, labels.shape[1] - 1)])


class Permutations:
    """Shufflings of the labels of `train` training images (first) and `holdout` others; row 0 is the true labelling."""

    def __init__(self, train: int, holdout: int, permutations: int, seed: int) -> None:
        rng, self.train, self.holdout = np.random.default_rng(seed), train, holdout
        true = np.arange(train + holdout) < train
        self.labels = [true, *(rng.permutation(true) for _ in range(permutations))]

    def ratios(self, neighbours: Neighbours, floor: float, skip: int = 0) -> Array:
        """Log-ratios (1 + B, M) of samples under every labelling."""
        return np.stack([log_ratios(neighbours, labels, floor, skip) for labels in self.labels]).astype(np.float32)


def statistic(ratios: Array) -> Array:
    """S (...) of log-ratios (..., M): minus the mean of the lowest 5 %, minus the mean of the highest 5 %.

    The upper tail is what the lower one would be with the labels exchanged. Without it the test is blind to a generator
    that copies much: shuffled labels leave it half of its copies, more than enough to fill the lowest 5 %.
    """
    m = ratios.shape[-1]
    k = max(1, round(TAIL * m))
    parted = np.partition(ratios, [k - 1, m - k], axis=-1)
    return np.asarray(-parted[..., :k].mean(-1) - parted[..., m - k :].mean(-1))


def p_of(ratios: Array) -> float:
    """The p-value (1 + #{S_b >= S}) / (B + 1) of log-ratios (1 + B, M), row 0 the true ones."""
    s = statistic(ratios)
    return float((1 + (s[1:] >= s[0] - 1e-9).sum()) / len(s))


def thresholds(ratios_without_nearest: Array) -> Array:
    """Log-ratios that 1 % and 0.1 % of shuffled ones stay below without copies: for many poor copies, for few good.

    Takes log-ratios (1 + B, M) without each sample's nearest image, which takes away what is copied.
    """
    return np.quantile(ratios_without_nearest[1:], _RARE)


def copy_share(ratios: Array, below: Array, train: int, holdout: int) -> tuple[float, list[float]]:
    """Estimated share of copies, and its 95 % interval, at the threshold that gives the larger lower end.

    A copy's ratio lies below the threshold under the true labels, and under shuffled ones where its source is still
    labelled training, which happens with probability π = |T| / (|T| + |H|): F_true - mean F_shuffled = share · (1 - π).
    The interval joins the spread over labels and over samples, each at 97.5 % as there are two thresholds. Copies too
    poor to tell are missed, and with many copies shuffled labels spread more than the true ones: it is wide downwards.
    """
    found = [_share_below(ratios < threshold, holdout / (train + holdout)) for threshold in below]
    return max(found, key=lambda pair: pair[1][0])


def _share_below(below: Array, left: float) -> tuple[float, list[float]]:
    shuffled = below[1:].mean(1)
    excess = below[0] - below[1:].mean(0)  # (M,)
    spread = np.quantile(np.abs(shuffled - shuffled.mean()), 1 - 0.05 / len(_RARE))
    half = math.hypot(spread, _Z * float(excess.std()) / math.sqrt(len(excess)))
    low, share, high = (float(np.clip((excess.mean() + side * half) / left, 0, 1)) for side in (-1, 0, 1))
    return share, [low, high]


def detected(ratios: Array, below: Array, train: int, holdout: int) -> bool:
    """Whether p < 0.01 and the estimated share of copies has an interval above zero."""
    return p_of(ratios) < 0.01 and copy_share(ratios, below, train, holdout)[1][0] > 0


def power(
    ratios: Array, planted: Array, share: float, below: Array, sizes: tuple[int, int], draws: int, seed: int
) -> tuple[int, float]:
    """How many of `draws` are detected when a share of the samples is replaced by copies; and the mean z of S.

    `ratios` (1 + B, M) and `planted` (1 + B, P) are log-ratios of samples and of copies under the same labellings.
    """
    rng, m = np.random.default_rng([seed, round(1e4 * share)]), ratios.shape[1]
    caught, z = 0, []
    for _ in range(draws):
        mixed = ratios.copy()
        places = rng.choice(m, max(1, round(share * m)), replace=False)
        mixed[:, places] = planted[:, rng.integers(0, planted.shape[1], len(places))]
        caught += detected(mixed, below, *sizes)
        s = statistic(mixed)
        z.append((s[0] - s[1:].mean()) / max(float(s[1:].std()), 1e-12))
    return caught, float(np.mean(z))
