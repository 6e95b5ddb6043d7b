"""What single units know, against loops, scikit-learn and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score, roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from probe.concepts.units import QUANTILES, effects, overlap, unit_aucs, unit_ious
from probe.models.hooks import edit

G = torch.Generator().manual_seed(0)


@pytest.fixture
def maps() -> Tensor:
    return torch.rand(5, 6, 8, 8, generator=G)


@pytest.fixture
def masks() -> Tensor:
    return F.interpolate(torch.rand(5, 1, 4, 4, generator=G), 16)[:, 0] > 0.7


def test_overlap_counts_against_a_loop(maps: Tensor, masks: Tensor) -> None:
    found = overlap(maps, masks)
    large = F.interpolate(maps, (16, 16), mode="bilinear")
    for unit in range(6):
        levels = torch.quantile(maps[:, unit], torch.tensor([1 - q for q in QUANTILES]))
        assert torch.isclose(levels, found.thresholds[unit]).any()
        for i in range(5):
            on = large[i, unit] > found.thresholds[unit]
            assert found.active[i, unit] == on.sum()
            assert found.both[i, unit] == (on & masks[i]).sum()
    assert torch.equal(found.area, masks.flatten(1).sum(1).float())


def test_iou_of_a_unit_that_is_the_mask() -> None:
    masks = torch.zeros(4, 16, 16, dtype=torch.bool)
    masks[:, 4:8, 4:8] = True
    maps = torch.rand(4, 3, 16, 16, generator=G) * 0.1
    maps[:, 1] += masks
    ious, _ = unit_ious(maps, masks)
    assert ious[1] > 0.75
    assert ious[[0, 2]].max() < 0.3


def test_threshold_has_the_largest_information_quality(maps: Tensor, masks: Tensor) -> None:
    maps[:, 2] += F.interpolate(masks[:, None].float(), 8, mode="area")[:, 0]
    found = overlap(maps, masks)
    large = F.interpolate(maps, (16, 16), mode="bilinear")[:, 2]
    truth = masks.flatten().numpy()

    def quality(level: float) -> float:
        on = (large > level).flatten().numpy()
        joint = np.unique(np.stack([on, truth]), axis=1, return_counts=True)[1] / len(on)
        return float(mutual_info_score(on, truth) / -(joint * np.log(joint)).sum())

    levels = [float(torch.quantile(maps[:, 2], 1 - q)) for q in QUANTILES]
    assert max(levels, key=quality) == pytest.approx(float(found.thresholds[2]))


def test_resampled_images_are_pooled(maps: Tensor, masks: Tensor) -> None:
    found, rows = overlap(maps, masks), torch.tensor([0, 0, 3])
    both, active, area = found.both[rows].sum(0), found.active[rows].sum(0), found.area[rows].sum()
    torch.testing.assert_close(found.ious(rows), both / (active + area - both))


def test_auc_is_scikit_learns(maps: Tensor) -> None:
    maps = (maps * 8).round()  # ties
    inside = torch.rand(5, 8, 8, generator=G) > 0.8
    for unit, auc in enumerate(unit_aucs(maps, inside)):
        assert auc == pytest.approx(roc_auc_score(inside.flatten(), maps[:, unit].flatten()), abs=1e-5)
    assert unit_aucs(maps, torch.zeros(5, 8, 8, dtype=torch.bool)).isnan().all()


class Bright:
    objects = ("background", "bright")

    def scores(self, images: Tensor) -> Tensor:
        return torch.stack([-images[:, 0], images[:, 0]], 1)


def test_effects_are_the_first_order_of_fading_a_unit(tiny_gan) -> None:
    z, segmenter, names = tiny_gan.latents(5, 1), Bright(), ["layer1", "layer2"]
    found = effects(tiny_gan, names, z, segmenter, 1)
    assert {n: tuple(v.shape) for n, v in found.items()} == {"layer1": (5, 16), "layer2": (5, 8)}

    def area(name: str, unit: int, fade: float) -> Tensor:
        def change(x: Tensor) -> Tensor:
            x = x.clone()
            x[:, unit] *= 1 - fade
            return x

        with edit(tiny_gan.generator, {name: change}):
            return segmenter.scores(tiny_gan.images(z)).double().softmax(1)[:, 1].mean((1, 2))

    for name, unit in (("layer1", 3), ("layer2", 0), ("layer2", 5)):
        slope = (area(name, unit, -0.01) - area(name, unit, 0.01)) / 0.02  # how much the unit adds
        torch.testing.assert_close(found[name][:, unit].double(), slope, rtol=0.05, atol=1e-5)
