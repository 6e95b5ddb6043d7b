"""Forgetting on a toy generator whose concept is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes, from_masks
from probe.concepts.probing import cross_auc
from probe.edits.directions import Counterfactual
from probe.edits.refinement import Settings as RefinementSettings
from probe.edits.refinement import patch_edits, refine
from probe.edits.scoring import Edits, Scorer
from probe.measures.statistics import dilate
from probe.models import hooks as layers
from probe.models.gan import GAN, latents
from probe.models.hooks import LATENT, feature_maps, sites
from probe.models.replay import Replay
from probe.questions.forget import run as forgetting
from probe.questions.forget.run import Settings, _negatives, forget
from tests.toy import MAPS, SIZE, Segmenter, toy_gan


@pytest.fixture(scope="module")
def toy() -> GAN:
    return toy_gan()


@pytest.fixture(scope="module")
def found(toy: GAN) -> forgetting.Result:
    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    settings = Settings(tuning=48, heldout=96, random_latents=32, draws=19)
    result, operated = forget(toy, boxes, Segmenter(), Segmenter(), settings, judge_iou=1.0)
    assert operated is None  # a module that probe did not build cannot be rebuilt
    return result


def test_toy_is_what_it_says(toy: GAN) -> None:
    z = toy.latents(64, 0)
    has = (Segmenter().labels(toy.images(z)) == 1).flatten(1).any(1)
    assert torch.equal(has, z[:, 0] > 0)
    assert [s.grid for s in layers.sites(toy)] == [8, 16]


def test_erase_removes_the_planted_concept_and_nothing_else(found: forgetting.Result) -> None:
    patch = found.metrics["methods"]["patch"]
    assert patch["removal"] > 0.99
    assert patch["collateral"] < 0.005
    assert patch["concept_free_change"] < 0.005
    assert patch["inside"] > 10 * patch["collateral"]
    assert patch["removal_ci"][0] <= patch["removal"] <= patch["removal_ci"][1]


def test_random_control_separates(found: forgetting.Result) -> None:
    patch = found.metrics["methods"]["patch"]
    assert patch["p_value"] == pytest.approx(1 / 20)
    assert patch["random"]["draws"] == 19
    assert patch["random"]["removal_p95"] < patch["removal"]


def test_paper_drops_the_window_map(found: forgetting.Result) -> None:
    paper = found.metrics["methods"]["paper"]
    assert paper["removal"] > 0.99
    assert paper["maps_dropped"] >= 1
    assert set(paper["readings"]) == {"first", "second"}


def test_contract_of_metrics(found: forgetting.Result) -> None:
    names = {"maps_total", "boxes", "images_labelled", "negatives", "probe_auc", "judge_iou", "methods"}
    assert names <= set(found.metrics)
    inner = {"layers", "strength", "maps_dropped", "removal", "removal_ci", "collateral", "collateral_ci", "inside"}
    for method in found.metrics["methods"].values():
        assert inner | {"concept_free_change", "random", "p_value"} <= set(method)
        assert {"removal_mean", "removal_p95", "collateral", "draws"} <= set(method["random"])
        assert method["random"]["latents"] == found.settings["random_latents"]
    assert found.metrics["probe_auc"] > 0.99


def test_only_edits_without_hooks_run_side_by_side(toy: GAN, tiny_gan: GAN, two_threads: None) -> None:
    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    for gan, name, apart in ((toy, "first", False), (tiny_gan, "layer2", True)):
        with Scorer(Replay(gan, gan.latents(4), [name]), Segmenter(), boxes).workers() as run:
            assert (run is not map) == apart


def test_images_that_do_not_change_are_not_read_again(toy: GAN) -> None:
    scorer = Scorer(
        Replay(toy, toy.latents(12, 5), ["first"]),
        Segmenter(),
        from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3),
    )
    read: list[int] = []
    scorer.segmenter.labels = lambda images: read.append(len(images)) or Segmenter.labels(scorer.segmenter, images)  # type: ignore[method-assign,func-returns-value]
    after = scorer.images.clone()
    after[[2, 7]] = -1
    scores = scorer.compare(after)
    assert read == [2]
    np.testing.assert_array_equal(scores.after, (Segmenter().labels(after) == 1).sum((1, 2)))
    assert scorer.compare(scorer.images).removal == 0
    assert read == [2]


def test_scores_against_a_loop(toy: GAN) -> None:
    z = toy.latents(12, 5)
    scorer = Scorer(
        Replay(toy, z, ["first"]), Segmenter(), from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    )
    scores = scorer.score({"first": lambda x: x * 0.5})
    with layers.edit(toy.generator, {"first": lambda x: x * 0.5}):
        after = toy.images(z)
    before = toy.images(z)
    for i in range(12):
        mask = (before[i, 0] > 0.2).numpy()
        grown = np.zeros_like(mask)
        for y, x in zip(*np.nonzero(mask), strict=True):
            grown[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True  # 4 px at 64 px
        difference = ((before[i] - after[i]).abs().mean(0) / 2).numpy()
        assert scores.before[i] == mask.sum()
        assert scores.after[i] == (after[i, 0] > 0.2).sum()
        assert scores.outside[i] == pytest.approx(difference[~grown].mean(), abs=1e-6)
        assert (dilate(torch.from_numpy(mask)[None])[0].numpy() == grown).all()


def test_concept_too_rare(toy: GAN) -> None:
    class Blind(Segmenter):
        def labels(self, images: Tensor, batch: int = 64) -> Tensor:
            return torch.zeros(images.shape[0], SIZE, SIZE, dtype=torch.uint8)

    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    with pytest.raises(ProbeError, match=r"window: the segmenter sees it in 0 of 768 samples; at least 16"):
        forget(toy, boxes, Segmenter(), Blind(), Settings(tuning=48, heldout=96, draws=1))


def test_concept_on_every_labelled_image(toy: GAN) -> None:
    found = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    boxes = Boxes("window", tuple(found.boxes), found.boxes, 3)
    with pytest.raises(ProbeError, match=r"window: all \d+ labelled images show it; list some without it, too"):
        forget(toy, boxes, Segmenter(), Segmenter(), Settings(tuning=48, heldout=96, draws=1))


def test_few_labelled_images_without_the_concept(toy: GAN) -> None:
    found = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    lacking = [i for i in found.images if i not in found.boxes][:3]
    boxes = Boxes("window", tuple(sorted([*found.boxes, *lacking])), found.boxes, 3)
    maps = feature_maps(toy, toy.latents(80, 3)[list(boxes.images)], [s.name for s in sites(toy)])
    aucs = {name: cross_auc(of, boxes, SIZE) for name, of in maps.items()}
    assert set(_negatives(Settings(), aucs).values()) == {"same-image"}


@pytest.mark.parametrize("wrong", [{"negatives": "none"}, {"draws": 0}, {"heldout": 3}])
def test_bad_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ProbeError, match="expected"):
        Settings(**wrong)  # type: ignore[arg-type]


def test_labelled_tuning_and_heldout_latents_are_disjoint() -> None:
    sets = [
        latents(200, 4, at, "normal")
        for seed in (0, 1)
        for at in (seed, seeds.TUNING.of(seed), seeds.FORGET_HELDOUT.of(seed), seeds.REFINEMENT.of(seed))
    ]
    rows = torch.cat(sets)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_every_method_has_a_curve_a_control_and_a_comparison(found: forgetting.Result) -> None:
    methods = found.metrics["methods"]
    assert list(methods) == ["paper", "logistic", "iou", "causal", "patch"]
    for name, m in methods.items():
        curve, random = found.arrays[f"{name}_curve"], found.arrays[f"{name}_random"]
        assert m["strength"] in curve[:, 0]
        assert (curve[:, 3] <= curve[:, 1] + 1e-9).all()
        assert (curve[:, 1] <= curve[:, 4] + 1e-9).all()
        assert random.shape == (19, 2)
        assert m["seconds"] > 0
    assert set(found.metrics["comparisons"]) == set(methods) - {"patch"}
    for ranked in ("logistic", "iou", "causal"):
        assert methods[ranked]["units"] == [0]  # the window's own map alone
        assert methods[ranked]["removal"] > 0.99


def test_label_draws_and_linear_erasure(toy: GAN) -> None:
    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    settings = Settings(
        tuning=48, heldout=96, random_latents=32, draws=3, label_draws=4, methods=("patch", "leace", "lda")
    )
    result, _ = forget(toy, boxes, Segmenter(), Segmenter(), settings)
    for m in result.metrics["methods"].values():
        low, high = m["removal_label_ci"]
        assert m["label_draws"] == 4
        assert low <= high <= 1
    # two-sided: what no linear probe tells apart any more may still be drawn, and everywhere
    assert result.metrics["methods"]["leace"]["collateral"] > result.metrics["methods"]["patch"]["collateral"]
    patch = result.metrics["methods"]["patch"]
    assert patch["directions"] == 1  # no IoU was given: not adjusted
    assert patch["boundary"] in result.settings["boundaries"]
    assert result.arrays["patch_curve"][:, 0].max() == 2  # nor moved further than the labels vouch for


def test_refinement_lowers_its_own_loss() -> None:
    toy = toy_gan(smooth=True)
    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    scorer = Scorer(Replay(toy, toy.latents(48, 9), ["first", "second"]), Segmenter(), boxes)
    gate = torch.eye(MAPS)[0]
    weak = Counterfactual(
        weight=torch.ones(1, 10),
        bias=torch.zeros(1),
        step=torch.zeros(1, 10),
        gate=gate,
        threshold=torch.tensor(0.0),
        limit=5.0,
    )
    before = weak.step.clone()

    def loss(found: Counterfactual) -> float:
        area, collateral = scorer.soft_scores(
            patch_edits(found.patch(), "first"), torch.arange(48), torch.Generator().manual_seed(0)
        )
        return (area + RefinementSettings().price * collateral).item()

    settings = RefinementSettings(rate=0.03)
    found = refine(weak, scorer, "first", settings, seed=1)
    assert loss(found) < 0.5 * loss(weak)
    assert torch.equal(weak.step, before)
    assert torch.equal(found.gate, gate)  # only how latents move is adjusted
    again = refine(weak, scorer, "first", settings, seed=1)
    assert torch.equal(found.step, again.step)


@pytest.mark.parametrize("seed", range(4))
def test_the_descent_follows_both_halves_of_a_batch(toy: GAN, monkeypatch, seed: int) -> None:
    boxes = from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)
    scorer = Scorer(Replay(toy, toy.latents(24, 9), ["first"]), Segmenter(), boxes)
    one = int(np.flatnonzero(scorer.has)[0])

    def soft_scores(edits: Edits, rows: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
        edits["first"](torch.zeros(2, MAPS, 8, 8))
        pull = (
            3.0 if one in rows else -1.0
        )  # upwards as long as both count, downwards without the half that holds `one`
        return pull * edits[LATENT](torch.ones(1, 10)).sum(), torch.zeros(())

    monkeypatch.setattr(scorer, "soft_scores", soft_scores)
    start = Counterfactual(
        weight=torch.ones(1, 10),
        bias=torch.zeros(1),
        step=torch.zeros(1, 10),
        gate=torch.eye(MAPS)[0],
        threshold=torch.tensor(0.0),
        limit=5.0,
    )
    found = refine(start, scorer, "first", RefinementSettings(steps=1, nearness=0.0, batch=48), seed)
    assert (found.step[0] > 0).all()


def test_unknown_method() -> None:
    with pytest.raises(ProbeError, match=r"method magic: expected paper, logistic, iou, causal, patch, lda, leace"):
        Settings(methods=("magic",))
