"""Measures: by hand, by ranks, and intervals by how often they cover the truth."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata

from probe.measures.statistics import areas, auc_ci, change, dilate, iou, mean_ci, p_value, ratio_ci, to_numpy


def masks(*shape: int, share: float = 0.3, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def test_areas():
    labels = torch.zeros(3, 4, 4, dtype=torch.uint8)
    labels[1, 0, :3] = 2
    labels[2] = 1
    assert areas(labels, 4).tolist() == [[16, 0, 0, 0], [13, 0, 3, 0], [0, 16, 0, 0]]


@pytest.mark.parametrize(("size", "radius"), [(64, 4), (32, 2), (128, 8), (28, 2), (16, 1), (8, 1)])
def test_dilate(size, radius):
    m = masks(3, size, size, share=0.01, seed=size)
    m[2] = False
    found = dilate(m)
    assert found.dtype == torch.bool
    square = np.ones((2 * radius + 1, 2 * radius + 1))
    for mask, grown in zip(m.numpy(), found.numpy(), strict=True):
        np.testing.assert_array_equal(grown, binary_dilation(mask, square))
    assert m[0].any()
    assert not found[0].all()


def test_change_against_a_loop():
    g = torch.Generator().manual_seed(0)
    before, after = (torch.rand(2, 3, 4, 5, generator=g) * 2 - 1 for _ in range(2))
    m = masks(2, 4, 5)
    outside, inside = change(before, after, m)
    for n in range(2):
        groups: dict[bool, list[float]] = {True: [], False: []}
        for i in range(4):
            for j in range(5):
                for c in range(3):
                    difference = abs(float(before[n, c, i, j]) - float(after[n, c, i, j]))
                    groups[bool(m[n, i, j])].append(difference / 2)
        assert outside[n] == pytest.approx(np.mean(groups[False]), abs=1e-6)
        assert inside[n] == pytest.approx(np.mean(groups[True]), abs=1e-6)


def test_change_is_in_unit_range_and_nan_where_there_is_no_pixel():
    black, white = -torch.ones(3, 1, 4, 4), torch.ones(3, 1, 4, 4)
    m = torch.zeros(3, 4, 4, dtype=torch.bool)
    m[1] = True
    m[2, 0] = True
    outside, inside = change(black, white, m)
    np.testing.assert_array_equal(outside, [1, np.nan, 1])
    np.testing.assert_array_equal(inside, [np.nan, 1, 1])


def test_iou():
    a, b = masks(4, 6, 6, seed=1), masks(4, 6, 6, seed=2)
    first = {tuple(i) for i in a.nonzero().tolist()}
    second = {tuple(i) for i in b.nonzero().tolist()}
    assert iou(a, b) == pytest.approx(len(first & second) / len(first | second))
    assert iou(a, a) == 1
    assert iou(a, ~a) == 0
    assert np.isnan(iou(a & ~a, b & ~b))


@pytest.mark.parametrize(
    ("observed", "random", "expected"),
    [
        (0.5, [0.1, 0.5, 0.6, 0.2], Fraction(3, 5)),  # two are as large
        (0.7, [0.1, 0.5, 0.6, 0.2], Fraction(1, 5)),
        (0.0, [0.1, 0.5, 0.6, 0.2], Fraction(5, 5)),
        (1.0, [0.0] * 199, Fraction(1, 200)),
        (1.0, [], Fraction(1, 1)),
    ],
)
def test_p_value(observed, random, expected):
    assert p_value(observed, np.array(random)) == pytest.approx(float(expected))


# ---- intervals


def coverage(interval, draw, truth: float, rounds: int = 200) -> float:
    """How often an interval of data drawn anew holds the truth."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(rounds):
        low, high = interval(*draw(rng))
        assert low < high
        hits += low <= truth <= high
    return hits / rounds


def test_ratio_ci_covers_the_ratio_of_sums():
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        before = rng.gamma(2.0, 50.0, 60) * (rng.random(60) < 0.7)  # some images have nothing
        return before * rng.beta(2, 6, 60), before

    assert 0.88 <= coverage(ratio_ci, draw, 0.25) <= 0.99


def test_mean_ci_covers_the_mean():
    assert 0.88 <= coverage(mean_ci, lambda rng: (rng.exponential(2.0, 60),), 2.0) <= 0.99


def test_intervals_against_normal_theory():
    x = np.random.default_rng(1).normal(3, 2, 400)
    half = 1.96 * x.std() / 20
    np.testing.assert_allclose(mean_ci(x), [x.mean() - half, x.mean() + half], atol=0.15 * half)
    np.testing.assert_allclose(ratio_ci(x, np.ones(400)), mean_ci(x))
    np.testing.assert_allclose(ratio_ci(3 * x, x), [3, 3])
    assert mean_ci(x, seed=1) == mean_ci(x, seed=1) != mean_ci(x, seed=2)


def test_a_concept_that_is_nowhere_has_a_ratio_of_zero():
    assert ratio_ci(np.zeros(5), np.zeros(5)) == [0, 0]


# ---- area under the curve


def scored(rng: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    truth = np.arange(n) % 2
    return np.round(rng.normal(shift * truth), 1), truth  # with ties


def test_auc_is_the_rank_statistic():
    scores, truth = scored(np.random.default_rng(0), 100, 1.0)
    positives = truth.sum()
    u = rankdata(scores)[truth == 1].sum() - positives * (positives + 1) / 2
    auc, (low, high) = auc_ci(scores, truth, np.arange(100), resamples=50)
    assert auc == pytest.approx(u / (positives * (100 - positives)))
    assert low < auc < high
    assert auc_ci(-scores, truth, np.arange(100), resamples=2)[0] == pytest.approx(1 - auc)
    perfect = auc_ci(truth.astype(float), truth, np.arange(100), resamples=20)
    assert perfect == (1, [1, 1])


def test_auc_interval_covers():
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        truth = np.arange(80) % 2
        return rng.normal(truth), truth

    def interval(scores: np.ndarray, truth: np.ndarray) -> list[float]:
        return auc_ci(scores, truth, np.arange(80), resamples=40)[1]

    assert 0.8 <= coverage(interval, draw, 0.7602, rounds=30) <= 1  # Φ(1/√2)


def test_auc_resamples_images_not_places():
    """Ten copies of each row in its image are no new evidence; ten images more would be."""
    scores, truth = scored(np.random.default_rng(3), 40, 0.8)
    groups = np.arange(40)
    once = auc_ci(scores, truth, groups, resamples=100)
    copied = auc_ci(np.repeat(scores, 10), np.repeat(truth, 10), np.repeat(groups, 10), resamples=100)
    np.testing.assert_allclose(copied[1], once[1])
    assert copied[0] == pytest.approx(once[0])
    independent = auc_ci(np.repeat(scores, 10), np.repeat(truth, 10), np.arange(400), resamples=100)
    assert np.ptp(independent[1]) < 0.6 * np.ptp(once[1])


def test_auc_of_images_with_one_kind_of_place():
    """Resamples without both kinds are left out."""
    auc, interval = auc_ci(np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 1]), resamples=20)
    assert (auc, interval) == (1, [1, 1])


def test_to_numpy():
    x = torch.tensor([0.5, -2.0], dtype=torch.bfloat16, requires_grad=True)
    assert to_numpy(x).dtype == np.float32
    assert to_numpy(x).tolist() == [0.5, -2]
    assert to_numpy(torch.tensor([3])).dtype == np.int64
