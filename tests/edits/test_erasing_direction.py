"""The direction of an erasure against NumPy and scikit-learn, and what its eraser does at each place."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from probe.base.errors import ProbeError
from probe.edits.surgery import Direction, fit_erase


def test_direction_is_the_linear_discriminant():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    positive = (rng.normal(size=(40, 6)) @ mix + rng.normal(size=6)).astype(np.float32)
    negative = (rng.normal(size=(90, 6)) @ mix).astype(np.float32)
    found = fit_erase(torch.from_numpy(positive), torch.from_numpy(negative))
    np.testing.assert_allclose(found.mean, negative.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.shift, positive.mean(0) - negative.mean(0), atol=1e-6)
    within = (np.cov(positive.T, bias=True) * 40 + np.cov(negative.T, bias=True) * 90) / 130
    shrunk = 0.95 * within + 0.05 * np.trace(within) / 6 * np.eye(6)
    by_hand = np.linalg.inv(shrunk) @ (positive.mean(0) - negative.mean(0))
    np.testing.assert_allclose(found.weight, by_hand, rtol=1e-3)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05)
    lda.fit(np.concatenate([positive, negative]).astype(np.float64), np.repeat([1, 0], [40, 90]))
    np.testing.assert_allclose(found.weight, lda.coef_[0], rtol=1e-3)


def test_dead_maps_do_not_break_the_fit():
    generator = torch.Generator().manual_seed(0)
    positive, negative = torch.randn(9, 3, generator=generator) + 1, torch.randn(9, 3, generator=generator)
    positive[:, 1] = negative[:, 1] = 0
    assert fit_erase(positive, negative).weight.isfinite().all()
    assert fit_erase(positive, negative).weight[1] == 0


@pytest.mark.parametrize(("p", "q"), [(1, 9), (9, 1), (0, 0)])
def test_too_few_places(p, q):
    message = rf"^erase: {p} places with the concept, {q} without; at least 2 of each are needed$"
    with pytest.raises(ProbeError, match=message):
        fit_erase(torch.ones(p, 3), torch.ones(q, 3))


@pytest.fixture
def direction() -> Direction:
    g = torch.Generator().manual_seed(1)
    mean0 = torch.rand(5, generator=g) + 1
    mean1 = torch.rand(5, generator=g) + 1.5
    noise = 0.2 * torch.randn(2, 300, 5, generator=g)
    return fit_erase(mean1 + noise[0], mean0 + noise[1])


def at(x: Tensor) -> Tensor:
    return x.reshape(1, -1, 1, 1)


def test_strength_one_maps_the_mean_with_the_concept_onto_the_mean_without(direction):
    mean1 = direction.mean + direction.shift
    torch.testing.assert_close(direction.eraser(1)(at(mean1)), at(direction.mean), atol=1e-5, rtol=1e-5)
    half = direction.eraser(0.5)(at(mean1))
    torch.testing.assert_close(half, at(direction.mean + direction.shift / 2), atol=1e-5, rtol=1e-5)
    twice = direction.eraser(2)(at(mean1))
    torch.testing.assert_close(twice, at(direction.mean - direction.shift).clamp(min=0), atol=1e-5, rtol=1e-5)


def test_places_without_the_concept_are_left_alone(direction):
    for step in (0.0, 0.2, 1.0):
        x = at(direction.mean + (0.5 - step) * direction.shift).clamp(min=0)
        torch.testing.assert_close(direction.eraser(3)(x), x, atol=1e-5, rtol=1e-5)


def test_eraser_against_the_formula(direction):
    w, mean, shift = (np.float64(v.numpy()) for v in (direction.weight, direction.mean, direction.shift))
    x = np.random.default_rng(2).random((2, 5, 3, 3)) * 3
    expected = np.empty_like(x)
    for n, i, j in product(range(2), range(3), range(3)):
        place = x[n, :, i, j]
        expected[n, :, i, j] = np.maximum(
            0, place - 2.5 * max(0, w @ (place - mean - shift / 2)) * shift / (w @ shift / 2)
        )
    assert (expected == 0).any()
    assert np.isclose(expected, x).any()
    found = direction.eraser(2.5)(torch.from_numpy(x).float())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
