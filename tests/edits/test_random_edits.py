"""Random edits beside a method: scaled to its collateral, and drawn as seldom as can be."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from probe.concepts.labels import from_masks
from probe.edits.methods.maps import energy_matched
from probe.edits.scoring import Edits, Scorer
from probe.edits.tuning import AtStrength, Method, random_edits
from probe.models.gan import GAN
from probe.models.hooks import Site
from probe.models.replay import Replay
from tests.toy import Segmenter, toy_gan


@pytest.fixture(scope="module")
def toy() -> GAN:
    return toy_gan()


@pytest.fixture(scope="module")
def scorer(toy: GAN) -> Scorer:
    return Scorer(
        Replay(toy, toy.latents(40, 5), ["first"]),
        Segmenter(),
        from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3),
    )


def test_random_edits_have_the_methods_collateral_on_all_latents(scorer: Scorer) -> None:
    def edits(strength: float) -> Edits:
        return {"first": lambda x: x * (1 - 0.3 * strength)}

    def random(_: float, rng: np.random.Generator) -> AtStrength:
        power = rng.uniform(0.6, 2)  # how collateral grows with the scale
        return lambda scale: {"first": lambda x: x * (1 + 0.05 * scale**power)}

    method = Method(
        name="a", sites=(Site("first", 4, 32, 1),), strengths=(1.0,), edits=edits, refit=lambda *_: edits, random=random
    )
    summary, _, points = random_edits(method, 1.0, scorer, 12, 0, lambda *_: None)
    own = scorer.score(edits(1.0)).collateral
    assert own > 0.01
    np.testing.assert_allclose(points[:, 1], own, rtol=0.1)
    assert summary["method_collateral"] == own


@pytest.mark.parametrize("left_alone", [8, 7])
def test_random_edits_that_leave_the_first_latents_alone_are_matched(toy: GAN, monkeypatch, left_alone: int) -> None:
    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    z = toy.latents(400, 5)
    z = z[z[:, 0] > 0.5][:48]
    z = z[z[:, 2].argsort()]  # map 1 grows with it
    height = toy.generator.paper[1].mean() * (1 + 0.3 * z[left_alone - 1 : left_alone + 1, 2].mean())
    scorer = Scorer(Replay(toy, z, ["first"]), Segmenter(), boxes)

    def edits(strength: float) -> Edits:
        return {"first": lambda x: x * (1 - 0.3 * strength)}

    def random(_: float, rng: np.random.Generator) -> AtStrength:
        def change(x: Tensor, scale: float) -> Tensor:
            moved = x[:, 1].mean((1, 2)) > height
            return x * (1 + min(scale, 30.0) * 0.3 * moved[:, None, None, None])  # no further than that

        return lambda scale: {"first": lambda x: change(x, scale)}

    method = Method(
        name="a", sites=(Site("first", 4, 32, 1),), strengths=(1.0,), edits=edits, refit=lambda *_: edits, random=random
    )
    tried: list[int] = []
    draw = scorer.replay.images
    monkeypatch.setattr(scorer.replay, "images", lambda *a: tried.append(1) or draw(*a))
    _, _, points = random_edits(method, 1.0, scorer, 3, 0, lambda *_: None)
    np.testing.assert_allclose(points[:, 1], scorer.score(edits(1.0)).collateral, rtol=0.1)
    assert len(tried) <= 2 + 3 * 7  # of the method; of each edit four on the first and three on all


def test_random_sets_of_maps_go_no_further_than_to_zero(scorer: Scorer) -> None:
    scales: list[float] = []

    def edits(strength: float) -> Edits:
        return {"first": lambda x: x * (1 - strength)}

    def random(_: float, rng: np.random.Generator) -> AtStrength:
        return lambda scale: scales.append(scale) or {"first": lambda x: x * (1 - 0.1 * scale)}

    method = Method(
        name="a",
        sites=(Site("first", 4, 32, 1),),
        strengths=(1.0,),
        edits=edits,
        refit=lambda *_: edits,
        random=random,
        start=lambda _: 0.5,
        most=1.0,
    )
    summary, _, _ = random_edits(method, 1.0, scorer, 3, 0, lambda *_: None)
    assert max(scales) == 1
    assert summary["collateral"] < 0.5 * summary["method_collateral"]


def test_what_the_first_random_edit_tells_of_the_scale_spares_the_others_steps(scorer: Scorer, monkeypatch) -> None:
    drawn: list[int] = []
    images = scorer.replay.images
    monkeypatch.setattr(scorer.replay, "images", lambda *a: drawn.append(1) or images(*a))

    def edits(strength: float) -> Edits:
        return {"first": lambda x: x * (1 - 0.3 * strength)}

    def random(_: float, rng: np.random.Generator) -> AtStrength:
        return lambda scale: {"first": lambda x: x * (1 + 0.06 * scale**2)}

    counts = []
    for draws in (1, 6):
        drawn.clear()
        random_edits(
            Method(
                name="a",
                sites=(Site("first", 4, 32, 1),),
                strengths=(1.0,),
                edits=edits,
                refit=lambda *_: edits,
                random=random,
            ),
            1.0,
            scorer,
            draws,
            0,
            lambda *_: None,
        )
        counts.append(len(drawn))
    each = (counts[1] - counts[0]) / 5
    assert each < counts[0] - 2  # besides the method's own two


def test_a_random_edit_that_matches_at_once_is_drawn_once_on_each_latent(scorer: Scorer, monkeypatch) -> None:
    drawn: list[int] = []
    draw = scorer.replay.images

    def images(edits: Edits, rows: Tensor | None = None) -> Tensor:
        drawn.extend([] if rows is None else rows.tolist())
        return draw(edits, rows)

    monkeypatch.setattr(scorer.replay, "images", images)

    def edits(strength: float) -> Edits:
        return {"first": lambda x: x * (1 - 0.5 * strength)}

    own = scorer.score(edits(1.0))
    method = Method(
        name="a",
        sites=(Site("first", 4, 32, 1),),
        strengths=(1.0,),
        edits=edits,
        refit=lambda *_: edits,
        random=lambda *_: edits,
    )
    _, p, points = random_edits(method, 1.0, scorer, 3, 0, lambda *_: None)
    np.testing.assert_array_equal(points, [(own.removal, own.collateral)] * 3)
    assert p == 1
    assert drawn == [*range(8), *range(40), *range(40), *range(40)]  # the first eight are of the method


def test_energy_matched_sets() -> None:
    rng = np.random.default_rng(0)
    energy = rng.gamma(0.5, size=64)
    units = rng.choice(64, 20, replace=False)
    draws = [energy_matched(energy, units, rng) for _ in range(50)]
    assert all(len(set(d.tolist())) == 20 for d in draws)
    assert all(abs(energy[d].sum() / energy[units].sum() - 1) <= 0.1 for d in draws)
    assert len({tuple(sorted(d.tolist())) for d in draws}) > 40
