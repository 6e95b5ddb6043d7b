"""The hold-out test: search against brute force, false alarms and power where the truth is known, verdicts, the command."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm
from torch import Tensor, nn

import probe
from probe import cli
from probe.base.errors import ProbeError
from probe.base.progress import silent
from probe.data import loading
from probe.data.rooms import scenes as rooms
from probe.measures import neighbours
from probe.measures.features import feature
from probe.measures.neighbours import Rows, nearest
from probe.models.gan import GAN, from_bytes, to_bytes
from probe.questions.memorization import copying
from probe.questions.memorization.copying import (
    Neighbours,
    Permutations,
    copy_share,
    detected,
    list_length,
    log_ratios,
    p_of,
    statistic,
    thresholds,
)
from probe.questions.memorization.hits import combined, hits, p_of_counts
from probe.questions.memorization.images import held_out
from probe.questions.memorization.recovery import recover
from probe.questions.memorization.run import Settings, _Search, _verdict, memorization
from probe.results.drawing import draw
from probe.training.loop import own_split, split

PIXELS = feature("pixels", 3)
QUICK = Settings(samples=300, permutations=199, targets=4, draws=10)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255.0


@pytest.fixture(scope="module")
def pool() -> np.ndarray:
    return rooms.render(560, 3, 16).images


# --- search


@pytest.mark.parametrize("name", ["pixels", "random-conv"])
def test_search_equals_brute_force_down_to_exact_copies(
    pool: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 64)
    phi, queries = feature(name, 3), pool[:90].copy()
    queries[:30, 0, 0, 0] ^= 1  # copies but for one grey level; 30 to 59 exact copies; then images that are not there
    among = np.concatenate([pool[:60], pool[90:400]])
    expected = cdist(
        phi(from_bytes(torch.from_numpy(queries))).double(), phi(from_bytes(torch.from_numpy(among))).double()
    )
    distances, indices = nearest(Rows(queries, phi), Rows(among, phi), 5)
    np.testing.assert_array_equal(indices[:60, 0], np.arange(60))
    np.testing.assert_allclose(distances, np.sort(expected, 1)[:, :5], rtol=1e-4, atol=1e-6)
    assert (distances[30:60, 0] < 1e-6).all()
    assert nearest(Rows(queries[:2], phi), Rows(among[:3], phi), 10)[0].shape == (2, 3)


# --- the test itself


def points(
    rng: np.random.Generator, t: int, h: int, m: int, copies: float, noise: float = 0.2, d: int = 12
) -> Neighbours:
    x, g = rng.standard_normal((t + h, d)), rng.standard_normal((m, d))
    k = round(copies * m)
    g[:k] = x[rng.integers(0, t, k)] + noise * rng.standard_normal((k, d))
    distances = cdist(g, x)
    order = distances.argsort(1)[:, : list_length(t, h, m, 199)]
    return Neighbours(np.take_along_axis(distances, order, 1), order)


def shuffled(near: Neighbours, t: int, h: int, seed: int = 0, b: int = 199) -> tuple[np.ndarray, np.ndarray]:
    shuffles, floor = Permutations(t, h, b, seed), copying.floor_of(near)
    return shuffles.ratios(near, floor), thresholds(shuffles.ratios(near, floor, skip=1))


def test_log_ratios_are_those_of_the_nearest_of_each_label() -> None:
    rng = np.random.default_rng(0)
    x, g, labels = rng.random((30, 3)), rng.random((20, 3)), rng.permutation(30) < 12
    distances = cdist(g, x)
    order = distances.argsort(1)
    near = Neighbours(np.take_along_axis(distances, order, 1), order)
    expected = np.log(distances[:, labels].min(1) / distances[:, ~labels].min(1))
    np.testing.assert_allclose(log_ratios(near, labels, 1e-9), expected, atol=1e-6)


def test_true_labels_find_both_kinds_even_where_one_crowds_the_list() -> None:
    found = _Search((np.array([[0.1, 0.2, 0.3]]), np.array([[2, 0, 1]])), (np.array([[1.0, 2.0]]), np.array([[1, 0]])))
    ratios = log_ratios(found.merged(3, 2), np.arange(5) < 3, 1e-9)
    np.testing.assert_allclose(ratios, np.log(0.1 / 1.0))


def test_statistic_by_hand() -> None:
    ratios = np.concatenate([[-3.0, -2.0], np.zeros(36), [0.5, 1.5]])
    assert statistic(ratios) == pytest.approx(2.5 - 1.0)
    assert p_of(np.stack([ratios, -ratios, ratios, np.zeros(40)])) == pytest.approx((1 + 1) / 4)


def test_lists_are_long_enough_for_every_shuffling() -> None:
    k = list_length(950, 50, 200, 199)
    assert 200 * 199 * 0.95**k < 1e-3 < 200 * 199 * 0.95 ** (k - 3)
    assert list_length(3, 3, 200, 199) == 6


@pytest.mark.parametrize(("t", "h", "spread"), [(60, 60, 1.0), (90, 30, 0.3)])
def test_false_alarms_are_as_many_as_the_level_says(t: int, h: int, spread: float) -> None:
    rng, p = np.random.default_rng(1), []
    for seed in range(100):
        x, g = rng.standard_normal((t + h, 6)), spread * rng.standard_normal((60, 6)) + rng.standard_normal(6)
        distances = cdist(g, x)
        order = distances.argsort(1)
        p.append(p_of(shuffled(Neighbours(np.take_along_axis(distances, order, 1), order), t, h, seed)[0]))
    p = np.array(p)
    assert 0.0 < (p <= 0.05).mean() <= 0.12  # 0.05 within 3.2 standard errors, and not conservative
    assert abs(p.mean() - 0.5) < 0.1


@pytest.mark.parametrize("sizes", [(200, 200), (40, 300), (300, 60)])
@pytest.mark.parametrize("copies", [0.2, 1.0])
def test_copies_are_detected_and_their_share_is_estimated(sizes: tuple[int, int], copies: float) -> None:
    near = points(np.random.default_rng(5), *sizes, 400, copies)
    ratios, below = shuffled(near, *sizes)
    assert detected(ratios, below, *sizes)
    share, (low, high) = copy_share(ratios, below, *sizes)
    assert low - 0.02 <= copies <= high + 0.02
    assert share == pytest.approx(copies, abs=0.12)


def test_the_share_of_copies_is_rarely_above_zero_where_nothing_is_copied() -> None:
    rng, above = np.random.default_rng(4), 0
    for seed in range(60):
        x, g = rng.standard_normal((150, 6)), 0.2 * rng.standard_normal((80, 6)) + rng.standard_normal(6)  # one mode
        distances = cdist(g, x)
        order = distances.argsort(1)
        ratios, below = shuffled(Neighbours(np.take_along_axis(distances, order, 1), order), 100, 50, seed)
        above += copy_share(ratios, below, 100, 50)[1][0] > 0
    assert above <= 7  # 1.5 expected at 2.5 %; a spread taken without the copied images gives more than 10


def test_the_lower_tail_alone_is_blind_to_a_generator_that_copies_everything() -> None:
    ratios, _ = shuffled(points(np.random.default_rng(2), 300, 60, 400, 1.0), 300, 60)
    low = -np.sort(ratios, 1)[:, :20].mean(1)
    assert (1 + (low[1:] >= low[0]).sum()) / 200 > 0.05
    assert p_of(ratios) == pytest.approx(1 / 200)


def test_power_grows_with_the_share_of_copies() -> None:
    ratios, below = shuffled(points(np.random.default_rng(3), 200, 200, 400, 0.0), 200, 200)
    copies = points(np.random.default_rng(3), 200, 200, 60, 1.0)  # the same images: the same generator draws them first
    planted = Permutations(200, 200, 199, 0).ratios(copies, copying.floor_of(copies))
    caught = [copying.power(ratios, planted, share, below, (200, 200), 20, 0)[0] for share in (0.0025, 0.3)]
    assert caught[0] < 5
    assert caught[1] == 20


# --- images


class Copier(nn.Module):
    """Draws one of its images, chosen by the latent, a little brighter or darker."""

    def __init__(self, images: np.ndarray, noise: float = 0.02) -> None:
        super().__init__()
        self.images, self.noise = from_bytes(torch.from_numpy(images)), noise

    def forward(self, z: Tensor) -> Tensor:
        which = ((z[:, 0] + 1) / 2 * len(self.images)).long().clamp(0, len(self.images) - 1)
        return (self.images[which] + self.noise * z[:, 1, None, None, None]).clamp(-1, 1)


def copier(images: np.ndarray) -> GAN:
    return GAN(Copier(images).eval(), None, 4, 16, 3, "uniform", {}, {"checkpoint": "copier"})


def test_a_copier_is_detected_and_one_of_fresh_images_is_not(pool: np.ndarray, tmp_path: Path) -> None:
    train, holdout, fresh = pool[:150], pool[150:300], pool[300:]
    m = memorization(copier(train), train, holdout, PIXELS, QUICK).metrics
    assert (m["verdict"], m["floor"], m["p_value"]) == ("detected", None, 1 / 200)
    assert m["copy_share_ci"][0] > 0.7
    assert m["ct"] < -5
    assert m["authenticity"] < 0.05
    result = memorization(copier(fresh), train, holdout, PIXELS, QUICK)
    assert result.metrics["verdict"] != "detected"
    assert result.metrics["p_value"] > 0.01
    assert result.metrics["copy_share_ci"][0] == 0
    assert result.arrays["suspects"].shape == (10, 3, 16, 16)
    draw(result, tmp_path)
    picture = np.asarray(Image.open(tmp_path / "figure.png").convert("L"))
    assert (picture[-picture.shape[0] // 8 :, -4:] == 255).all()  # the caption ends on the page


class Regurgitator(nn.Module):
    """Draws one of `copied` in `share` of the samples, else a fresh image."""

    def __init__(self, copied: np.ndarray, fresh: np.ndarray, share: float = 0.2) -> None:
        super().__init__()
        self.copied, self.fresh, self.share = Copier(copied), Copier(fresh), share

    def forward(self, z: Tensor) -> Tensor:
        copies = ((z[:, 2] + 1) / 2 < self.share)[:, None, None, None]
        return torch.where(copies, self.copied(z), self.fresh(z))


def made_of(network: nn.Module) -> GAN:
    return GAN(network.eval(), None, 4, 16, 3, "uniform", {}, {"checkpoint": "planted"})


@pytest.mark.parametrize("sources", [1, 3, 10])
def test_copies_of_few_images_are_detected(sources: int) -> None:
    images = rooms.render(1300, 17, 16).images
    train, holdout, fresh = images[:300], images[300:400], images[400:]
    settings = Settings(samples=1000, permutations=199, targets=12, draws=10)
    m = memorization(made_of(Regurgitator(train[:sources], fresh)), train, holdout, PIXELS, settings).metrics
    assert m["verdict"] == "detected"
    if sources == 1:
        assert m["p_value"] > 0.01  # the permutation alone does not see it
        assert m["most_hits"]["train"] == pytest.approx(200, abs=50)


class Constant(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return 0 * z[:, :1, None, None].expand(-1, 3, 16, 16)


def test_trivial_twins_are_not_detected(pool: np.ndarray) -> None:
    for network in (Constant(), Copier(pool[300:301]), Copier(pool[300:])):
        m = memorization(made_of(network), pool[:150], pool[150:300], PIXELS, QUICK).metrics
        assert m["verdict"] != "detected"
        assert m["p_hits"] > 0.01


def test_a_grey_generator_beside_a_grey_training_image_is_not_detected(pool: np.ndarray) -> None:
    """As an untrained one draws: near one image by chance, with all that it draws."""
    train = pool[:150].copy()
    train[7] = 120
    m = memorization(made_of(Constant()), train, pool[150:300], PIXELS, QUICK).metrics
    assert m["most_hits"]["train"] == QUICK.samples
    assert m["p_hits"] < 0.001  # so that hits alone would call it copies
    assert m["verdict"] == "inconclusive"
    assert "one picture only" in m["reason"]


def test_hits_by_hand() -> None:
    assert p_of_counts(0, 0, 100) == 1
    assert p_of_counts(10, 0, 100) == pytest.approx(100 / 1024)
    assert p_of_counts(3, 1, 1) == pytest.approx(5 / 16)
    assert combined(0.009, 1.0) == pytest.approx(0.01)
    assert combined(1.0, 0.0005) == pytest.approx(0.005)
    grey = np.array([0, 80, 160, 240], np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 4), np.uint8)
    train, holdout, drawn = grey[:2], grey[2:], grey[:3].copy()
    drawn[0] += 39  # within half of the 80 to the next image
    drawn[1] += 41  # beyond it, and within that of the held-out image
    search = [nearest(Rows(drawn, PIXELS), Rows(x, PIXELS), 1) for x in (train, holdout)]
    found = hits(*search, train, holdout, PIXELS)
    assert found.train.tolist() == [0, -1, -1]
    assert found.holdout.tolist() == [-1, 0, 0]


def test_descriptions_equal_their_definitions(pool: np.ndarray) -> None:
    train, holdout, gan = pool[:80], pool[80:200], copier(pool[200:400])
    m = memorization(gan, train, holdout, PIXELS, QUICK).metrics
    g, t, h = flat(to_bytes(gan.sample(300)).numpy()), flat(train), flat(holdout)
    own = cdist(t, t) + 1e9 * np.eye(len(t))
    near = cdist(g, t)
    authentic = near.min(1) > own.min(1)[near.argmin(1)]
    assert m["authenticity"] == pytest.approx(authentic.mean())
    p = mannwhitneyu(
        near.min(1), cdist(h, t).min(1), alternative="less", use_continuity=False, method="asymptotic"
    ).pvalue
    assert m["ct"] == pytest.approx(norm.ppf(p), abs=0.02)


def test_without_held_out_images_there_is_no_verdict(pool: np.ndarray, tmp_path: Path) -> None:
    result = memorization(copier(pool[:50]), pool[:50], None, PIXELS, QUICK)
    assert (result.metrics["verdict"], result.metrics["p_value"], result.metrics["copy_share"]) == (
        "scores only",
        None,
        None,
    )
    assert result.metrics["authenticity"] < 0.05
    draw(result, tmp_path)


def test_overlap_shapes_and_too_few_images_are_said(pool: np.ndarray) -> None:
    gan = copier(pool[:50])
    with pytest.raises(ProbeError, match="7 of 50 held-out images are training images, pixel for pixel"):
        memorization(gan, pool[:100], pool[93:143], PIXELS, QUICK)
    with pytest.raises(ProbeError, match=r"held-out images of \(3, 8, 8\); expected \(3, 16, 16\)"):
        memorization(gan, pool[:9], pool[9:30, :, :8, :8], PIXELS, QUICK)
    with pytest.raises(ProbeError, match="1 held-out image; expected at least 2"):
        memorization(gan, pool[:9], pool[9:10], PIXELS, QUICK)
    with pytest.raises(ProbeError, match="samples 10, permutations 999"):
        Settings(samples=10)
    m = memorization(gan, pool[:3], pool[60:63], PIXELS, QUICK).metrics
    assert m["verdict"] == "inconclusive"
    least = m["images_needed"] - 3
    assert math.comb(3 + least, 3) >= 1000 > math.comb(2 + least, 3)
    assert f"hold out at least {least}" in m["reason"]


CURVE = [[0.01, 0.1, 0, 0.2], [0.05, 0.5, 0.4, 0.6], [0.1, 0.85, 0.8, 0.9], [0.2, 1, 0.9, 1]]


@pytest.mark.parametrize(
    ("p", "interval", "curve", "verdict", "floor"),
    [
        (0.001, [0.02, 0.2], CURVE, "detected", None),
        (0.001, [0.0, 0.2], CURVE, "inconclusive", None),
        (0.03, [0.02, 0.2], CURVE, "inconclusive", None),
        (0.3, [0.0, 0.2], CURVE, "not detected", 0.1),
        (0.3, [0.0, 0.2], CURVE[:2], "inconclusive", None),
    ],
)
def test_verdicts(p: float, interval: list[float], curve: list[list[float]], verdict: str, floor: float | None) -> None:
    by_sources = {"1": {"20": 0.2}, "10": {"10": 0.3, "20": 0.9}, "all": {"10": 0.9, "20": 1.0}}
    made = _verdict(p, interval, curve, 1.6, 500, 500, 1.0, by_sources, False)
    assert (made["verdict"], made["floor"]) == (verdict, floor)
    if len(curve) == 2:
        assert made["images_needed"] == 4000  # four times as many for twice the z
    if floor:
        assert made["floor_sources"] == {"sources": "10", "share": 0.2}
        assert "20% of the samples been copies of 10 training images or more" in made["reason"]
    missed = _verdict(p, interval, curve, 1.6, 500, 500, 1.0, {"1": {"20": 0.9}, "all": {"20": 0.2}}, False)
    assert missed["verdict"] == ("detected" if verdict == "detected" else "inconclusive")


def test_images_that_the_generator_can_draw_are_recovered(tiny_gan: GAN) -> None:
    images = to_bytes(tiny_gan.sample(4, 123)).numpy()
    found = recover(tiny_gan, images)
    error = (found - from_bytes(torch.from_numpy(images))).flatten(1).norm(dim=1)
    nearest_sample = (
        torch.cdist(from_bytes(torch.from_numpy(images)).flatten(1), tiny_gan.sample(256, 7).flatten(1)).min(1).values
    )
    assert (error < 0.5 * nearest_sample).all()


def test_a_generator_without_gradient_is_refused(pool: np.ndarray) -> None:
    class Hard(Copier):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z).detach()

    gan = GAN(Hard(pool[:9]).eval(), None, 4, 16, 3, "uniform")
    with pytest.raises(ProbeError, match="passes no gradient"):
        recover(gan, pool[:2])


def test_a_checkpoint_knows_its_split(pool: np.ndarray) -> None:
    gan = copier(pool)
    with pytest.raises(ProbeError, match="copier: held no images out"):
        own_split(gan, pool, "x")
    gan.provenance["training"] = {"source": "rooms:560", "settings": {"seed": 4}, "split": {"holdout": 60, "of": 560}}
    train, held = own_split(gan, pool, "x")
    np.testing.assert_array_equal(held, pool[split(560, 60, 4)[1]])
    assert len(train) == 500
    with pytest.raises(ProbeError, match="x: 10 images; expected the 560 of rooms:560"):
        own_split(gan, pool[:10], "x")
    for wrong in ({"holdout": 560, "of": 560}, {"holdout": -3, "of": "many"}, {"holdout": 60}):
        gan.provenance["training"]["split"] = wrong
        with pytest.raises(ProbeError, match=r"copier: says that .* held out with seed 4, which cannot be"):
            own_split(gan, pool, "x")


def test_a_checkpoint_knows_its_images_by_their_contents(
    pool: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(name: str, images: np.ndarray) -> str:
        (tmp_path / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / name / f"{i:03d}.png")
        return str(tmp_path / name)

    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    own, other = written("a/images", pool[:60]), written("b/images", pool[60:120])
    moved = written("c/moved", pool[:60])
    gan = copier(pool[:60])
    run = {"source": "folder:images", "settings": {"seed": 4}, "split": {"holdout": 20, "of": 60}}
    gan.provenance["training"] = run | {"contents": loading.load(own, 16).sha256}
    train, held = split(60, 20, 4)
    for source in (own, moved):
        found = held_out(gan, source, None, None, None, silent)
        np.testing.assert_array_equal(found.train, pool[train])
        assert found.train_names == [f"{i:03d}.png" for i in train]
        assert found.holdout_names == [f"{i:03d}.png" for i in held]
        assert len(found.notes) == 1
    with pytest.raises(
        ProbeError, match=r"folder:images: other images than the folder:images that copier was trained on"
    ):
        held_out(gan, other, None, None, None, silent)
    gan.provenance["training"] = run  # as an earlier version noted it
    assert "by name and count only" in held_out(gan, own, None, None, None, silent).notes[1]
    with pytest.raises(
        ProbeError, match=r"folder:moved given; expected folder:images, which the checkpoint knows by name"
    ):
        held_out(gan, moved, None, None, None, silent)
    result = probe.memorization(gan, own, samples=40, permutations=199, targets=2)
    names = {f"{i:03d}.png" for i in train}
    assert result.metrics["suspects"]
    for suspect, image in zip(result.metrics["suspects"], result.arrays["suspects_train"], strict=True):
        assert suspect["train"] in names
        np.testing.assert_array_equal(image, pool[int(suspect["train"][:3])])


# --- the command


def test_command_from_training_to_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    small = ("--size", 32, "--width", 4, "--nz", 8, "--batch", 8, "--steps", 2)
    assert run("train", "--data", "rooms:60", "--holdout", 30, *small, "--out", "run")[0] == 0
    ckpt, quick = "run/checkpoint.safetensors", ("--samples", 60, "--permutations", 199, "--targets", 2)
    code, out, _ = run("memorization", "--ckpt", ckpt, *quick, "--json", "--out", "o")
    m = json.loads(out)
    assert (code, m["train_images"], m["holdout_images"]) == (0, 30, 30)
    assert {"verdict", "p_value", "statistic", "copy_share", "copy_share_ci", "floor", "ct", "authenticity"} <= set(m)
    assert Path("o/figure.png").exists()
    code, out, _ = run("memorization", "--ckpt", ckpt, *quick, "--train", "rooms:20", "--out", "s")
    assert code == 0
    assert "scores only" in out
    for words, text in (
        (("--train", "rooms:40", "--holdout-data", "rooms:20"), "20 of 20 held-out images are training images"),
        (("--data", "rooms:50"), "rooms:50: 50 images; expected the 60 of rooms:60"),
        (("--holdout-data", "rooms:20"), "--holdout-data without --train"),
        (("--data", "rooms:60", "--train", "rooms:60"), "--data and --train both given"),
        (("--distance", "vgg"), "--distance vgg: expected pixels"),
        (("--permutations", 99), "--permutations 99: expected 199 to 100,000"),
    ):
        code, _, err = run("memorization", "--ckpt", ckpt, *words, "--out", "p")
        assert (code, err.count("\n")) == (2, 1)
        assert text in err
        assert not Path("p").exists()
