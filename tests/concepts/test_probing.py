"""Places by hand, the regression by its own optimality condition, and probes on planted and on absent concepts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.concepts.probing import NEGATIVES, Places, cross_auc, gather, logistic
from probe.measures.statistics import auc_ci

SIZE, GRID = 64, 8


def addressed(n: int) -> torch.Tensor:
    """Feature maps that hold their own address: image, row, column."""
    axes = torch.meshgrid(torch.arange(n), torch.arange(GRID), torch.arange(GRID), indexing="ij")
    return torch.stack([a.float() for a in axes], 1)


BOXES = Boxes("x", (3, 5, 8, 9), {5: np.array([[8.0, 16, 32, 24]]), 9: np.array([[0.0, 0, 16, 16], [56, 56, 64, 64]])})
INSIDE = {(1, 2, 1), (1, 2, 2), (1, 2, 3), (3, 0, 0), (3, 0, 1), (3, 1, 0), (3, 1, 1), (3, 7, 7)}


def places_of(places: Places) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The addresses of the places with the concept and of those without it."""
    with_it, without = places.split()
    return [tuple(v) for v in with_it.int().tolist()], [tuple(v) for v in without.int().tolist()]


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gather(negatives):
    places = gather(addressed(4), BOXES, SIZE, negatives, seed=1)
    positive, negative = places_of(places)
    assert set(positive) == INSIDE
    assert len(positive) == len(negative) == len(INSIDE)
    assert places.truth.tolist() == [1] * 8 + [0] * 8
    np.testing.assert_array_equal(places.images, places.vectors[:, 0])
    if negatives == "same-image":
        assert len(set(negative)) == 8
        assert not set(negative) & INSIDE
        assert {image for image, _, _ in negative} <= {1, 3}
    else:
        assert {image for image, _, _ in negative} <= {0, 2}
        assert Counter(p[1:] for p in negative) == Counter(p[1:] for p in positive)


def test_negatives_are_drawn_from_everywhere_and_by_the_seed():
    drawn = {kind: Counter() for kind in NEGATIVES}
    for kind in NEGATIVES:
        for seed in range(150):
            drawn[kind].update(places_of(gather(addressed(4), BOXES, SIZE, kind, seed))[1])
        again = [places_of(gather(addressed(4), BOXES, SIZE, kind, 7))[1] for _ in range(2)]
        assert again[0] == again[1]
    free = {(image, row, column) for image in (1, 3) for row in range(GRID) for column in range(GRID)} - INSIDE
    assert set(drawn["same-image"]) == free
    assert set(drawn["same-place"]) == {(image, *place[1:]) for image in (0, 2) for place in INSIDE}


def test_fewer_negatives_where_boxes_leave_little():
    boxes = Boxes("x", (0,), {0: np.array([[0.0, 0, 64, 56]])})
    positive, negative = places_of(gather(addressed(1), boxes, SIZE, "same-image"))
    assert len(positive) == 56
    assert sorted(negative) == [(0, 7, column) for column in range(8)]


def test_same_place_needs_images_without_the_concept():
    message = r"^negatives same-place: every labelled image shows the concept; label some without it$"
    with pytest.raises(ProbeError, match=message):
        gather(addressed(1), Boxes("x", (0,), {0: np.array([[0.0, 0, 8, 8]])}), SIZE, "same-place")


def test_logistic_is_at_the_optimum():
    """The gradient of ½|w|² + Σ log(1 + exp(-y (w·x + b))) vanishes, so C is 1 and the activations are raw."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(80, 3, generator=g) * torch.tensor([1.0, 5.0, 0.2]) + 2
    truth = (x[:, 0] + torch.randn(80, generator=g) > 2).int().numpy()
    found = logistic(Places(x, truth, np.arange(80)))
    w, b = found.coef_[0], found.intercept_[0]
    y = 2 * truth - 1
    pull = y / (1 + np.exp(y * (x.numpy() @ w + b)))
    np.testing.assert_allclose(w - pull @ x.numpy(), 0, atol=0.02)
    assert abs(pull.sum()) < 0.02
    assert abs(w[0]) > 0.5


def scene(n: int, channels: int, boxed: int, seed: int = 0) -> tuple[torch.Tensor, Boxes]:
    """Noise, and boxes at one spot of the first `boxed` images."""
    maps = torch.randn(n, channels, GRID, GRID, generator=torch.Generator().manual_seed(seed))
    return maps, Boxes("x", tuple(range(n)), {i: np.array([[16.0, 16, 32, 32]]) for i in range(boxed)})


def test_cross_auc_of_a_planted_concept():
    maps, boxes = scene(30, 4, 15)
    maps[:15, 2, 2:4, 2:4] += 12
    found = cross_auc(maps, boxes, SIZE)
    assert set(found) == set(NEGATIVES)
    for tested in found.values():
        assert set(tested) == set(NEGATIVES)
        for auc, (low, high) in tested.values():
            assert auc > 0.99
            assert low <= auc <= high <= 1


def test_cross_auc_of_nothing_is_chance():
    """With more channels than places a probe fits any labels; on images it did not see it must know nothing."""
    maps, boxes = scene(24, 150, 12)
    places = gather(maps, boxes, SIZE, "same-image")
    fitted = logistic(places).decision_function(places.vectors.numpy())
    assert auc_ci(fitted, places.truth, places.images, resamples=2)[0] == 1
    for tested in cross_auc(maps, boxes, SIZE).values():
        for _, (low, high) in tested.values():
            assert low < 0.5 + 0.08
            assert high > 0.5 - 0.08


def test_a_place_is_not_a_concept():
    """What always sits in the same place: other places of the same images as negatives find the place."""
    maps, boxes = scene(40, 3, 20)
    maps[:, 0, 2:4, 2:4] += 12  # in all images: the place
    maps[:20, 1, 2:4, 2:4] += 2  # the concept
    found = cross_auc(maps, boxes, SIZE)
    assert found["same-image"]["same-image"][0] > 0.99
    assert found["same-place"]["same-place"][0] > 0.85
    assert found["same-place"]["same-place"][0] > found["same-image"]["same-place"][0] + 0.03
