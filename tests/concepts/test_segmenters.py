"""Segmenters: what they return, that truth follows a warp, and that both halves of boxed images are really apart."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import uniform_filter
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.concepts import segmenters as segmenters
from probe.concepts.labels import Boxes
from probe.concepts.networks import ARCHITECTURES, lean
from probe.concepts.segmenters import WEIGHTS, Segmenter, degrade, fit, fit_to_boxes, load_rooms
from probe.data.rooms import scenes as rooms
from probe.data.rooms.scenes import ATTRIBUTES, OBJECTS
from probe.models.gan import from_bytes
from tests.conftest import give_structure


def toy(n: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A bright square somewhere on a dark ground, and its mask."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, size, size), dtype=np.uint8)
    for label, (y, x) in zip(labels, rng.integers(2, size - 14, (n, 2)), strict=True):
        label[y : y + 12, x : x + 12] = 1
    images = np.where(labels[:, None], 220, 40) + rng.integers(-15, 16, (n, 3, size, size))
    return images.astype(np.uint8), labels


# ---- networks


@pytest.mark.parametrize("architecture", ["unet", "dilated"])
@pytest.mark.parametrize("size", [28, 32, 48])
def test_shapes(architecture, size):
    network = ARCHITECTURES[architecture](1, 3, 5).eval()
    scores, attributes = network(torch.randn(2, 1, size, size))
    assert scores.shape == (2, 3, size, size)
    assert attributes.shape == (2, 5)


def test_selector_and_judge_share_no_layer():
    kinds = [{tuple(p.shape) for p in ARCHITECTURES[a](3, 7, 8).parameters() if p.ndim == 4} for a in ARCHITECTURES]
    assert not kinds[0] & kinds[1]


@pytest.mark.parametrize("size", [28, 32, 48])
@pytest.mark.parametrize("architecture", ["unet", "dilated"])
def test_a_lean_network_scores_the_same(architecture, size):
    network = ARCHITECTURES[architecture](3, 4, 5)
    give_structure(network, 0)
    network.eval()
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores, again = network(images)[0], lean(network, size)(images)
    assert scores.std() > 1
    torch.testing.assert_close(again, scores, rtol=1e-4, atol=1e-4 * float(scores.abs().max()))


class Stub(nn.Module):
    """Scores that are known: the first channel, its negative, and a constant."""

    seen: ClassVar[list[torch.Size]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(x.shape)
        grey = x[:, :1]
        return torch.cat([-grey, grey, torch.full_like(grey, 0.25)], 1), x.mean((2, 3)) @ torch.eye(3, 8)


def test_labels_are_the_highest_class():
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    segmenter = Segmenter(Stub(), "stub", ("a", "b", "c"), size=16)
    found = segmenter.labels(images, batch=2)
    expected = np.where(images[:, 0] > 0.25, 1, np.where(images[:, 0] < -0.25, 0, 2))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, expected)


def test_of_equal_classes_the_first_is_taken():
    scores = torch.randint(0, 3, (2, 5, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(segmenters._highest(scores), scores.argmax(1).to(torch.uint8))


def test_no_image_has_no_labels():
    for segmenter in load_rooms().values():
        assert segmenter.labels(torch.zeros(0, 3, 64, 64)).shape == (0, 64, 64)


def test_images_of_another_size_are_read_at_the_segmenters_and_answered_at_their_own():
    smooth = F.interpolate(torch.linspace(-1, 1, 4).expand(2, 3, 4, 4), 48, mode="bilinear")
    network = Stub()
    segmenter = Segmenter(network, "stub", ("a", "b", "c"), size=32)
    scores = segmenter.scores(smooth)
    assert network.seen[-1] == (2, 3, 32, 32)
    torch.testing.assert_close(scores[:, 1], smooth[:, 0], atol=0.03, rtol=0)
    smooth.requires_grad_()
    segmenter.scores(smooth)[:, 1].sum().backward()
    assert smooth.grad[:, 0].min() > 0


def test_attributes_are_decoded():
    raw = torch.tensor([[0.0, 2.0, -30.0, -0.5, 0.0, 1.0, 3.0, 0.0], [9.0, 0, 0, 1, 0, -2, -1, -1]])

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, raw[: len(x)]

    found = Segmenter(Fixed(), "fixed", OBJECTS, size=16).attributes(torch.zeros(2, 3, 16, 16))
    table = {name: found[:, i].tolist() for i, name in enumerate(ATTRIBUTES)}
    assert table["window"] == pytest.approx([0.5, 1 / (1 + np.exp(-9))])
    assert table["night"] == pytest.approx([1 / (1 + np.exp(-2)), 0.5])
    assert table["lamp"] == pytest.approx([0, 0.5], abs=1e-6)
    assert table["yaw"] == pytest.approx([-7, 14])
    assert table["wall_hue"] == pytest.approx([0, 0.5])  # (sine, cosine) of 2π hue
    assert table["bed_hue"] == pytest.approx([0.25, 0.625])


# ---- degrade


def patterned(n: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """Blobs at ±0.8, and their masks with the labels 0 and 5."""
    coarse = torch.randn(n, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    mask = F.interpolate(coarse, size, mode="bicubic")[:, 0] > 0
    x = torch.where(mask, 0.8, -0.8)[:, None].expand(n, 3, size, size).contiguous()
    return x, mask.to(torch.uint8) * 5


def test_truth_follows_the_warp():
    """One image at a time, so that none is blended in: brightness still tells the label, away from edges always."""
    x, labels = patterned(40)
    moved = 0
    for i in range(len(x)):
        image, label = degrade(x[i : i + 1], labels[i : i + 1], torch.Generator().manual_seed(i))
        assert label.dtype == torch.uint8
        assert set(label.unique().tolist()) <= {0, 5}
        bright = uniform_filter(image[0].mean(0).numpy(), 3) > 0
        new, old = (m.numpy() == 5 for m in (label[0], labels[i]))
        share = uniform_filter(new.astype(np.float64), 5)
        away = (share < 0.01) | (share > 0.99)
        assert (bright == new)[away].mean() > 0.995
        if (new != old).mean() > 0.03:
            moved += 1
            assert (bright != new).mean() < 0.5 * (bright != old).mean()
    assert moved >= 10


def test_one_image_in_four_keeps_its_geometry_and_detail():
    n = 400
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, 16, 16, generator=g) - 0.5
    labels = (torch.rand(n, 16, 16, generator=g) * 7).to(torch.uint8)
    found, truth = degrade(x, labels, g)
    ratio = found / x
    spread = ratio.flatten(2).std(2).amax(1)  # at most a gain a channel
    clean = spread < 1e-3
    interval = binomtest(int(clean.sum()), n).proportion_ci(0.999)
    assert interval.low < 0.25 < interval.high
    assert torch.equal(truth[clean], labels[clean])
    assert found.abs().max() <= 1


def test_degrade_leaves_its_input_alone_and_follows_its_generator():
    x, labels = patterned(4)
    before = x.clone(), labels.clone()
    first, second = (degrade(x, labels, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(x, before[0])
    assert torch.equal(labels, before[1])
    assert not torch.equal(degrade(x, labels, torch.Generator().manual_seed(6))[0], first[0])


# ---- fit


@pytest.mark.parametrize("architecture", ["unet", "dilated"])
def test_fit_is_a_function_of_its_seed(architecture):
    images, labels = toy(8)
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    told: list[tuple[int, int]] = []
    options = {"steps": 2, "batch": 4, "flip": True}
    segmenter = fit(architecture, ("ground", "square"), images, labels, **options, report=lambda *now: told.append(now))
    assert torch.equal(torch.rand(2), expected)  # the global generator is left alone
    torch.randn(5)
    same = fit(architecture, ("ground", "square"), images, labels, **options)
    other = fit(architecture, ("ground", "square"), images, labels, **options, seed=1)
    weights = [r.network.state_dict() for r in (segmenter, same, other)]
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert not torch.equal(weights[0]["masks.weight" if architecture == "unet" else "rise.weight"],
                           weights[2]["masks.weight" if architecture == "unet" else "rise.weight"])  # fmt: skip
    assert told == [(1, 2), (2, 2)]
    assert (segmenter.size, segmenter.channels, segmenter.objects) == (32, 3, ("ground", "square"))
    assert not segmenter.network.training


def test_fit_learns_a_bright_square():
    images, labels = toy(48)
    segmenter = fit("unet", ("ground", "square"), images, labels, steps=60, batch=8, lr=1e-2)
    fresh, truth = toy(16, seed=9)
    found = segmenter.labels(from_bytes(torch.from_numpy(fresh))).numpy() == 1
    assert (found & (truth == 1)).sum() / (found | (truth == 1)).sum() > 0.8


def test_attributes_are_fitted():
    """One room over and over: its attributes come back, within what some steps can do."""
    room = rooms.render(1, seed=1, size=32)
    images, labels = (np.repeat(a, 8, 0) for a in (room.images, room.labels))
    truth = np.repeat(room.attributes, 8, 0)

    def error(segmenter: Segmenter) -> float:
        found = segmenter.attributes(from_bytes(torch.from_numpy(room.images)))[0].numpy()
        wrong = np.abs(found - room.attributes[0])
        hues = [ATTRIBUTES.index("wall_hue"), ATTRIBUTES.index("bed_hue")]
        return float(wrong[:3].mean() + wrong[3] / 14 + np.minimum(wrong[hues], 1 - wrong[hues]).mean())

    few, many = (fit("unet", OBJECTS, images, labels, truth, steps=s, batch=8) for s in (1, 30))
    assert error(many) < 0.5 * error(few)


def test_state_is_what_load_rooms_reads(tmp_path):
    drawn = rooms.render(4, seed=1, size=32)
    fitted = {
        role: fit(architecture, OBJECTS, drawn.images, drawn.labels, drawn.attributes, steps=1, batch=4)
        for role, architecture in (("selector", "dilated"), ("judge", "unet"))
    }
    stored = segmenters.state(fitted)
    assert {v.dtype for v in stored.values()} == {torch.float16, torch.int64}
    save_file(stored, tmp_path / "segmenters.safetensors")
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    for role, segmenter in load_rooms(folder=tmp_path).items():
        with torch.no_grad():
            for value in fitted[role].network.state_dict().values():
                value.copy_(value.half()) if value.is_floating_point() else None
        fitted[role].size = 64
        torch.testing.assert_close(segmenter.scores(images), fitted[role].scores(images), atol=1e-4, rtol=1e-3)
        assert (segmenter.architecture, segmenter.objects) == (fitted[role].architecture, OBJECTS)


@pytest.mark.skipif(
    not (WEIGHTS / "segmenters.safetensors").exists(), reason="the built-in segmenters are not in the tree"
)
def test_built_in_segmenters_read_fresh_rooms():
    found = load_rooms()
    assert {role: segmenter.architecture for role, segmenter in found.items()} == {
        "selector": "dilated",
        "judge": "unet",
    }
    for segmenter in found.values():
        assert segmenters.rooms_iou(segmenter, n=24) > 0.7
    drawn = rooms.render(24, seed=77)
    said = found["judge"].attributes(from_bytes(torch.from_numpy(drawn.images))).numpy()
    assert ((said[:, 0] > 0.5) == drawn.attributes[:, 0]).mean() > 0.85


# ---- boxes


def boxed(n: int, having: int) -> tuple[Tensor, Boxes]:
    images, labels = toy(n)
    rng = np.random.default_rng(1)
    boxes = {}
    for i in sorted(rng.permutation(n)[:having].tolist()):
        rows, columns = labels[i].nonzero()
        boxes[100 + i] = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float64)
    images = np.where([[[[100 + i in boxes]]] for i in range(n)], images, 60).astype(np.uint8)
    return from_bytes(torch.from_numpy(images)), Boxes("hat", tuple(range(100, 100 + n)), boxes)


@pytest.mark.parametrize("having", [0, 1, 15])
def test_too_few_boxes(having):
    message = rf"^hat: boxes in {having} images; at least 16 are needed to fit a selector and a judge$"
    with pytest.raises(ProbeError, match=message):
        fit_to_boxes(*boxed(20, having))


def test_selector_and_judge_see_disjoint_halves(monkeypatch):
    seen, plain = [], segmenters.fit

    def spy(architecture, objects, images, labels, **options):
        seen.append((architecture, objects, images, labels))
        return plain(architecture, objects, images, labels, **options)

    monkeypatch.setattr(segmenters, "fit", spy)
    images, boxes = boxed(41, 17)
    told: list[tuple[str, int, int]] = []
    selector, judge, iou = fit_to_boxes(images, boxes, steps=1, report=lambda *now: told.append(now))
    assert [(a, o) for a, o, _, _ in seen] == [("dilated", ("background", "hat")), ("unet", ("background", "hat"))]
    halves = [{image.tobytes() for image, label in zip(i, m, strict=True) if label.any()} for _, _, i, m in seen]
    assert not halves[0] & halves[1]
    assert [len(half) for half in halves] == [9, 8]  # dealt evenly
    assert [len(i) for _, _, i, _ in seen] == [21, 20]
    for _, _, _, masks in seen:
        assert {int(mask.sum()) for mask in masks} == {0, 144}
    assert told == [("fitting the selector", 1, 1), ("fitting the judge", 1, 1)]
    assert (selector.architecture, judge.architecture) == ("dilated", "unet")
    # the overlap is that of the judge on the selector's half
    half = from_bytes(torch.from_numpy(seen[0][2]))
    found, truth = judge.labels(half).numpy() == 1, seen[0][3] == 1
    assert iou == pytest.approx((found & truth).sum() / (found | truth).sum())
