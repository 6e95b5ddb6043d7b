"""Measures: tensors in, numbers out, with their confidence intervals.

Pixel differences are in [0, 1] units; every interval is at 95 %, from a percentile bootstrap over images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

Array = NDArray[Any]
_RESAMPLES = 2000


def areas(labels: Tensor, values: int) -> Array:
    """Pixels of each value 0 … values - 1 in each image, (N, values), of label maps (N, S, S)."""
    rows = torch.arange(len(labels), device=labels.device)[:, None, None] * values
    return to_numpy(torch.bincount((labels + rows).flatten(), minlength=len(labels) * values).view(-1, values))


def dilate(masks: Tensor) -> Tensor:
    """Masks (N, S, S) grown by 4 px at 64 px, in proportion at other sizes; a square neighbourhood."""
    radius = max(1, round(4 * masks.shape[-1] / 64))
    return F.max_pool2d(masks[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0


def change(before: Tensor, after: Tensor, masks: Tensor) -> tuple[Array, Array]:
    """Mean |x - x'| over pixels and channels outside and inside of masks, (N,) each, in [0, 1] units.

    Images (N, C, S, S) in [-1, 1], masks (N, S, S) boolean; nan where there is no such pixel.
    """
    difference = (before - after).abs_().mean(1).flatten(1).div_(2)
    inside = masks.flatten(1)
    outside, within = ((difference * part).sum(1) / part.sum(1) for part in (~inside, inside))
    return to_numpy(outside), to_numpy(within)


def ratio_ci(numerator: Array, denominator: Array, seed: int = 0) -> list[float]:
    """Bootstrap interval of Σ numerator / Σ denominator over images."""
    rows = _resamples(len(numerator), seed)
    values = numerator[rows].sum(1) / np.maximum(denominator[rows].sum(1), 1e-12)
    return _interval(values)


def mean_ci(values: Array, seed: int = 0) -> list[float]:
    """Bootstrap interval of the mean over images."""
    return _interval(values[_resamples(len(values), seed)].mean(1))


def _resamples(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))


def _interval(values: Array) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def share_ci(successes: int, n: int) -> list[float]:
    """Wilson's 95 % interval of successes / n."""
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return [float(interval.low), float(interval.high)]


def p_value(observed: float, random: Array) -> float:
    """(1 + #{random >= observed}) / (B + 1): Phipson and Smyth 2010."""
    return float((1 + np.sum(np.asarray(random) >= observed)) / (len(random) + 1))


def iou(found: Tensor, truth: Tensor) -> float:
    """Intersection over union of boolean masks, pooled over all images; nan where both are empty."""
    union = (found | truth).sum()
    return float((found & truth).sum() / union) if union else float("nan")


def auc_ci(
    scores: Array, truth: Array, groups: Array, seed: int = 0, resamples: int = 300
) -> tuple[float, list[float]]:
    """Area under the ROC curve of scores (M,) for 0/1 truth (M,), and its interval over groups (images) (M,)."""
    _, member = np.unique(groups, return_inverse=True)
    n = int(member.max()) + 1
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    times = np.stack([np.bincount(rows, minlength=n) for rows in drawn])  # how often each group was drawn
    weights = np.concatenate([np.ones((1, len(scores))), times[:, member]])
    distinct, place = np.unique(scores, return_inverse=True)
    starts = np.searchsorted(np.sort(place), np.arange(len(distinct)))
    order = np.argsort(place, kind="stable")
    positive, negative = (np.add.reduceat((weights * (truth == t))[:, order], starts, axis=1) for t in (1, 0))
    below = negative.cumsum(1) - negative / 2  # ties count half
    total = positive.sum(1) * negative.sum(1)
    values = (positive * below).sum(1)[total > 0] / total[total > 0]
    return float(values[0]), _interval(values[1:])


def to_numpy(x: Tensor) -> Array:
    """A tensor as an array on the CPU."""
    return np.asarray(x.detach().to("cpu", torch.float32 if x.is_floating_point() else x.dtype).numpy())
