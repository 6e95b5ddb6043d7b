"""Near-duplicates: hashes, likeness and the greedy pass against references, planted copies."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import uniform_filter

from probe.base.errors import ProbeError
from probe.data.rooms import scenes as rooms
from probe.measures import hashing
from probe.measures import likeness as closeness
from probe.measures.hashing import Training
from probe.questions.dedup import matching, planting
from probe.questions.dedup.matching import Hashed, Matches, Rule, first_match, leaders, same_hash
from probe.questions.dedup.run import Settings, dedup, recall
from probe.results.drawing import draw


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return rooms.render(240, 5, 32).images


# --- hashes


def test_standardised_rows_ignore_brightness_and_contrast(pictures: np.ndarray) -> None:
    x = pictures[:5].reshape(5, -1).astype(float)
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    np.testing.assert_allclose(hashing.standardised(pictures[:5]).numpy(), expected, atol=1e-4)
    darker = hashing.standardised((pictures[:5] // 2).astype(np.uint8))
    np.testing.assert_allclose(darker.numpy(), expected, atol=0.05)
    flat = hashing.standardised(np.full((1, 3, 32, 32), 200, np.uint8))
    assert flat.abs().max() == 0


def test_the_autoencoder_learns_and_its_bits_are_active_units(pictures: np.ndarray) -> None:
    def error(network: hashing.Autoencoder) -> float:
        x = hashing.standardised(pictures)
        with torch.no_grad():
            return float((network.decoder(network.code(x)) - x).square().mean())

    short, longer = (hashing.fit(pictures, Training(steps=n)) for n in (1, 60))
    assert error(longer) < 0.8 < error(short)
    weight, bias = (p.detach().numpy() for p in (longer.encoder.weight, longer.encoder.bias))
    active = hashing.standardised(pictures).numpy() @ weight.T + bias > 0
    found = np.unpackbits(hashing.hashes(longer, pictures), axis=1)
    assert (found == active).mean() > 0.999  # rounding at zero
    again = hashing.hashes(hashing.fit(pictures, Training(steps=60)), pictures)
    np.testing.assert_array_equal(again, np.packbits(found, axis=1))


# --- likeness


def likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """That of pairs of images, one by one, with hashes that say nothing."""
    each, same = np.arange(len(a)), np.zeros((len(a), 16), np.uint8)
    return matching._likeness(Hashed(same, a, each), Hashed(same, b, each), each, each)


def slow_likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The same without zoom, by loops: correlation with one grey level added to both sizes, over 49 places."""

    def fine(x: np.ndarray) -> np.ndarray:
        grey = x.mean(0)
        detail = grey - uniform_filter(grey, 5, mode="nearest")
        return np.sign(detail) * np.sqrt(np.abs(detail))

    x, y = fine(a.astype(float))[3:-3, 3:-3], fine(b.astype(float))
    best = -1.0
    for dy in range(7):
        for dx in range(7):
            z = y[dy : dy + 26, dx : dx + 26]
            covariance = ((x - x.mean()) * (z - z.mean())).mean()
            best = max(best, covariance / np.sqrt((x.var() + 1) * (z.var() + 1)))
    return best


def test_likeness_equals_loops(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closeness, "_ZOOMS", ())
    monkeypatch.setattr(closeness, "_BLOCK", 7)
    a, b = pictures[:20], np.roll(pictures[10:30], 2, axis=3)
    expected = [slow_likeness(p, q) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(likeness(a, b), expected, atol=1e-4)


def test_likeness_finds_shifts_and_zooms_and_denies_others(
    pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = pictures[:60]
    assert likeness(a, a).tolist() == [1] * 60
    copies = planting.plant(a, 0)
    scores = {kind: likeness(a, copy) for kind, copy in copies.items()}
    for kind in ("shift_1", "shift_2", "crop_30", "crop_28", "darker"):
        assert (scores[kind] > 0.7).mean() > 0.9, kind
        assert (likeness(copies[kind], a) > 0.7).mean() > 0.9, kind
    assert (scores["jpeg_75"] > 0.7).mean() > 0.9
    others = likeness(a, np.roll(a, 1, axis=0))
    assert np.quantile(others, 0.95) < np.quantile(scores["crop_28"], 0.05)
    monkeypatch.setattr(closeness, "_ZOOMS", ())
    assert likeness(a, copies["crop_28"]).mean() < scores["crop_28"].mean() - 0.2
    flat = np.stack([np.full((3, 32, 32), value, np.uint8) for value in (10, 200)])
    assert likeness(flat, flat[::-1]).max() < 0.01  # nothing to see, nothing alike


# --- the greedy pass


def greedy_by_loops(bits: np.ndarray, radius: int) -> tuple[list[int], list[int]]:
    kept: list[int] = []
    removed = []
    for i, row in enumerate(bits):
        (removed if any((row != bits[k]).sum() <= radius for k in kept) else kept).append(i)
    return removed, kept


@pytest.mark.parametrize("radius", [0, 6, 20])
def test_leaders_equal_loops(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch, radius: int) -> None:
    monkeypatch.setattr(matching, "_ROWS", 64)
    monkeypatch.setattr(matching, "_COLUMNS", 48)
    monkeypatch.setattr(matching, "_PAIRS", 50)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (40, 128))[rng.integers(0, 40, 240)] ^ (rng.random((240, 128)) < 0.06)
    bits[200:] = bits[:40]
    found = leaders(Hashed(np.packbits(bits, axis=1), pictures, np.arange(240)), Rule(radius, -1))
    removed, kept = greedy_by_loops(bits, radius)
    np.testing.assert_array_equal(found.removed, removed)
    assert set(found.kept) <= set(kept)
    np.testing.assert_array_equal((bits[found.removed] != bits[found.kept]).sum(1), found.distance)
    np.testing.assert_allclose(found.likeness, likeness(pictures[found.removed], pictures[found.kept]), atol=1e-6)


def test_many_equal_images_need_no_many_comparisons(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.repeat(pictures[:2], 1500, axis=0)
    codes = np.repeat(np.array([[0] * 16, [255] * 16], np.uint8), 1500, axis=0)
    counted = []
    plain = matching._likeness
    monkeypatch.setattr(matching, "_likeness", lambda *of: counted.append(len(of[-1])) or plain(*of))
    found = leaders(Hashed(codes, images, np.arange(3000)), Rule())
    assert len(found.removed) == 2998
    assert set(found.kept) == {0, 1500}
    assert sum(counted) < 3 * 3000


def test_of_many_alike_hashes_the_32_nearest_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_COLUMNS", 100)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 3, 32, 32), dtype=np.uint8)  # noise: none is like another
    bits = rng.random((300, 128)) < 0.04
    rows = rng.random((60, 128)) < 0.04
    originals = rng.permutation(300)[:60]
    distance = (rows[:, None] != bits).sum(2)
    place = np.argsort(np.argsort(distance, axis=1, kind="stable"), axis=1)[np.arange(60), originals]
    expected = np.flatnonzero((place < 32) & (distance[np.arange(60), originals] <= 18))
    hashed, among = (np.packbits(b, axis=1) for b in (rows, bits))
    found = first_match(Hashed(hashed, images, originals), Hashed(among, images, np.arange(300)), Rule(likeness=0.9))
    np.testing.assert_array_equal(found.removed, expected)
    np.testing.assert_array_equal(found.kept, originals[expected])
    assert 3 < len(expected) < 60


def test_equal_hashes_are_the_papers_rule() -> None:
    codes = np.array([[1, 2], [3, 4], [1, 2], [3, 4], [5, 6]], np.uint8)
    np.testing.assert_array_equal(same_hash(codes), [0, 1, 0, 1, 4])


# --- planted copies


def test_what_is_planted(pictures: np.ndarray) -> None:
    copies = planting.plant(pictures[:8], 3)
    assert list(copies) == list(planting.KINDS)
    assert all(copy.shape == (8, 3, 32, 32) and copy.dtype == np.uint8 for copy in copies.values())
    for kind, k in (("shift_1", 1), ("shift_2", 2)):
        for image, copy in zip(pictures, copies[kind], strict=False):
            inner = copy[:, k:-k, k:-k]
            places = [(y, x) for y in (0, k, 2 * k) for x in (0, k, 2 * k) if (y, x) != (k, k)]
            assert any((inner == image[:, y : y + 32 - 2 * k, x : x + 32 - 2 * k]).all() for y, x in places)
    file = io.BytesIO()
    Image.fromarray(pictures[0].transpose(1, 2, 0)).save(file, "JPEG", quality=40)
    np.testing.assert_array_equal(copies["jpeg_40"][0], np.asarray(Image.open(file)).transpose(2, 0, 1))
    np.testing.assert_allclose(copies["darker"], pictures[:8] * 0.8, atol=0.51)
    assert copies["brighter"].max() == 255


def test_recall_counts_only_copies_found_for_their_original() -> None:
    images = rooms.render(6, 5, 32).images
    codes = np.packbits(np.random.default_rng(0).integers(0, 2, (6, 128)), axis=1)
    every, nothing = Hashed(codes, images, np.arange(6)), Matches(*(np.zeros(0, np.int64) for _ in range(4)))
    settings = Settings(planted=6)
    right, plain = recall(lambda x: codes, every, nothing, Rule(0, -1), settings)
    assert set(right["recall"].values()) == set(plain["recall"].values()) == {1.0}
    moved, plain = recall(lambda x: np.roll(codes, 1, axis=0), every, nothing, Rule(0, -1), settings)
    assert set(moved["recall"].values()) == set(plain["recall"].values()) == {0.0}


def test_duplicates_of_rooms_are_removed_and_little_else(
    pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = planting.plant(pictures[40:60], 1)
    images = np.concatenate([pictures, copies["jpeg_75"], copies["darker"], pictures[:3]])
    network = hashing.fit(images, Training(steps=150))
    monkeypatch.setattr(hashing, "fit", lambda *_: network)
    result = dedup(images, "rooms and copies", Settings(planted=10))
    removed = result.arrays["removed"]
    m = result.metrics
    assert np.isin(np.arange(280, 283), removed).all()
    assert np.isin(np.arange(260, 280), removed).sum() >= 19
    assert np.isin(np.arange(240, 260), removed).sum() >= 14  # JPEG takes the grain from flat walls
    assert (removed < 240).sum() <= 3
    assert (m["images"], m["removed"], m["false_positive_rate"]) == (283, len(removed), None)
    assert m["groups"] == len(set(result.arrays["kept"].tolist()))
    assert set(m["recall"]) == set(planting.KINDS)
    assert m["recall"]["darker"] > 0.8 > m["plain"]["recall"]["crop_28"]
    assert m["plain"]["removed"] >= 3
    assert all(low <= m["recall"][k] <= high for k, (low, high) in m["recall_ci"].items())
    assert draw(result, tmp_path)[0].stat().st_size > 10_000
    plain = dedup(images, "x", Settings(planted=10, plain=True), distinct=True)
    assert (
        len(plain.arrays["removed"])
        == plain.metrics["removed"]
        == plain.metrics["plain"]["removed"]
        == m["plain"]["removed"]
    )
    assert plain.metrics["false_positive_rate"] == 1.0  # `distinct` says that whatever is removed is wrong
    assert draw(plain, tmp_path)


def test_what_dedup_refuses(pictures: np.ndarray) -> None:
    with pytest.raises(ProbeError, match=r"x: images of \(1, 3, 32, 32\); expected at least 2"):
        dedup(pictures[:1], "x")
    for wrong in ({"radius": 41}, {"likeness": 2.0}, {"steps": 0}, {"dropout": 1.0}, {"planted": 0}):
        with pytest.raises(ProbeError, match="expected 0 to"):
            Settings(**wrong)
