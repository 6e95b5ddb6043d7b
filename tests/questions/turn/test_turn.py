"""Turning against lines written out here, on a generator whose attributes are two numbers of the latent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.concepts.draws import prior_norm
from probe.concepts.exemplars import Exemplars, LabelledLatents
from probe.concepts.latent_directions import Evidence, boundary, direction
from probe.models.gan import GAN, to_bytes
from probe.questions.turn.run import Settings, r_squared, turn
from probe.results.drawing import draw
from probe.results.result import Result, load
from tests.questions.arithmetic.test_arithmetic import Colours, Flat, command  # noqa: F401  (a fixture)


@pytest.fixture
def flat() -> GAN:
    return GAN(
        Flat().eval(), None, 8, 16, 3, "normal", {"generator": "running"}, {"checkpoint": "flat", "sha256": None}
    )


@pytest.fixture
def labelled(flat: GAN) -> LabelledLatents:
    z = flat.latents(600, 3)
    return LabelledLatents(z, Colours().attributes(flat.images(z)).numpy(), Colours(), Colours(), ["a note"])  # type: ignore[arg-type]


def run(flat: GAN, labelled: LabelledLatents, before: str = "day", after: str = "night", **settings: object) -> Result:
    small = {"scored": 40, "draws": 60} | settings
    return turn(flat, before, after, labelled.exemplars([before, after]), Settings(**small), labelled)  # type: ignore[arg-type]


def evidence(gan: GAN, side: Tensor, others: Tensor | None = None) -> Evidence:
    z = gan.latents(len(side), 7)
    known = None if others is None else (z, others[:, None].numpy())
    return Evidence(gan=gan, before=z[~side][:4], after=z[side][:4], z=z, side=side.numpy().astype(int), others=known)


@pytest.mark.parametrize("method", ["svm", "logistic"])
def test_boundaries_find_the_normal(flat: GAN, method: str) -> None:
    normal = torch.tensor([0.6, 0.8, 0, 0, 0, 0, 0, 0])
    e = evidence(flat, flat.latents(800, 7) @ normal > 0)
    found = direction(method, e)
    assert torch.cosine_similarity(found, normal, 0) > 0.98
    assert found.norm() == pytest.approx(float((e.after.mean(0) - e.before.mean(0)).norm()), rel=1e-5)


def test_conditional_is_orthogonal_to_the_others(flat: GAN) -> None:
    z = flat.latents(800, 7)
    other = z[:, 0] > 0
    e = evidence(flat, z[:, 0] + z[:, 1] > 0, other)
    found = direction("conditional", e)
    assert abs(float(torch.cosine_similarity(found, boundary(z, other.numpy().astype(int)), 0))) < 1e-5
    assert found[1] / found.norm() > 0.95
    assert direction("logistic", e)[0] / found.norm() > 0.6
    with pytest.raises(ProbeError, match="conditional: needs other attributes"):
        direction("conditional", evidence(flat, z[:, 0] > 0))


def test_eigenvectors_of_weights_against_a_singular_value_decomposition(tiny_gan: GAN) -> None:
    weight = next(tiny_gan.generator.parameters()).detach().flatten(1)  # (nz, outputs)
    left = torch.linalg.svd(weight).U
    for k in (0, 3):
        e = evidence(tiny_gan, tiny_gan.latents(300, 7) @ left[:, k] > 0)
        found = direction("sefa", e)
        assert float(torch.cosine_similarity(found, left[:, k], 0)) == pytest.approx(1, abs=1e-4)
    flat = GAN(Flat(), None, 8, 16, 3)
    e = evidence(flat, flat.latents(300, 7)[:, 0] > 0)
    with pytest.raises(ProbeError, match="no linear layer or transposed convolution that takes 8 numbers"):
        direction("sefa", e)


def test_components_of_activations_find_what_moves_them_most(tiny_gan: GAN) -> None:
    """With one input of the first layer far stronger than all others, the first component is that input."""
    with torch.no_grad():
        next(tiny_gan.generator.parameters())[2] *= 8
    side = tiny_gan.latents(300, 7)[:, 2] > 0
    found = direction("pca", evidence(tiny_gan, side))
    assert found[2] / found.norm() > 0.95


def test_r_squared_against_numpy() -> None:
    rng = np.random.default_rng(0)
    x, y = np.linspace(-1, 1, 7), rng.normal(size=(5, 7))
    assert r_squared(x, y) == pytest.approx([np.corrcoef(x, row)[0, 1] ** 2 for row in y])
    assert r_squared(x, np.ones((1, 7))) == pytest.approx([0])


def test_steps_and_ends_are_the_sums_written_out(flat: GAN, labelled: LabelledLatents) -> None:
    result = run(flat, labelled, exemplars=(3,), frames=5, reach=0.8, rows=2)
    held = labelled.exemplars(["day", "night"]).latents
    vector = held["night"][:3].mean(0) - held["day"][:3].mean(0)
    fresh = flat.latents(2, 1_000_007)
    assert result.arrays["means_images"].shape == (2, 5, 3, 16, 16)
    for k, a in enumerate((-0.8, -0.4, 0, 0.4, 0.8)):
        expected = to_bytes(flat.images(fresh + a * vector)).numpy().astype(int)
        assert np.abs(result.arrays["means_images"][:, k].astype(int) - expected).max() <= 1
    ends = torch.stack([held["day"][:3].mean(0), held["night"][:3].mean(0)])
    assert np.abs(result.arrays["ends"].astype(int) - to_bytes(flat.images(ends)).numpy().astype(int)).max() <= 1
    assert result.metrics["length"] == pytest.approx(float(vector.norm()) / prior_norm(flat))


def test_a_linear_attribute_turns_and_controls_do_not(flat: GAN, labelled: LabelledLatents) -> None:
    m = run(flat, labelled, "day", "night", exemplars=(1, 8), reach=3.0).metrics
    assert m["monotone_share"] == 1.0
    assert m["target_change"] > 2
    assert m["success"][8] > 0.9 > m["controls"]["random_direction"]["success"][8] + 0.3
    assert m["controls"]["shuffled"]["success"][8] < 0.7
    assert set(m["others"]) == {"window", "lamp", "yaw"}
    back = run(flat, labelled, "night", "day", exemplars=(8,), reach=3.0).metrics
    assert back["target_change"] > 2  # signed towards where the turn goes
    assert run(flat, labelled, "day", "night", exemplars=(1, 8), reach=3.0).metrics == m


def test_methods_are_drawn_the_same_way(flat: GAN, labelled: LabelledLatents, tmp_path: Path) -> None:
    methods = ("means", "logistic", "conditional")
    result = run(flat, labelled, "left", "right", methods=methods, rows=4)
    assert [len(result.arrays[f"{m}_images"]) for m in methods] == [1, 1, 1]
    assert result.metrics["methods"]["means"]["cosine_to_first"] == pytest.approx(1)
    by = result.metrics["methods"]
    assert by["logistic"]["target_change"] > by["means"]["target_change"]
    assert by["conditional"]["others"]["night"] < by["means"]["others"]["night"]
    result.write(tmp_path)
    for settings in ({}, {"exemplars": (2, 4)}):
        run(flat, labelled, **settings).write(tmp_path)
        (path,) = draw(load(tmp_path), tmp_path)
        assert path.stat().st_size > 10_000
    draw(result, tmp_path)


def test_what_is_refused(flat: GAN, labelled: LabelledLatents) -> None:
    exemplars = Exemplars({"hat": flat.latents(4), "coat": torch.zeros(9, 5)})
    for names, expected in (
        (("hat", "shoe"), "unknown concept 'shoe'"),
        (("hat", "coat"), "latents of 5 numbers"),
        (("hat", "hat"), "to itself"),
    ):
        with pytest.raises(ProbeError, match=expected):
            turn(flat, *names, exemplars, Settings())
    with pytest.raises(ProbeError, match="'hat': 4 exemplars, but 5 exemplars are asked for"):
        turn(
            flat, "hat", "hood", Exemplars({"hat": flat.latents(4), "hood": flat.latents(9)}), Settings(exemplars=(5,))
        )
    for wrong in (
        {"methods": ("magic",)},
        {"methods": ()},
        {"exemplars": ()},
        {"frames": 2},
        {"reach": 0.0},
        {"scored": 1},
    ):
        with pytest.raises(ProbeError, match="expected"):
            Settings(**wrong)  # type: ignore[arg-type]
    every = Exemplars({"window/day/left/lamp": flat.latents(4), "nowindow/night/right/nolamp": flat.latents(4, 1)})
    with pytest.raises(ProbeError, match="leave an attribute out"):
        turn(flat, *every.latents, every, Settings(), labelled)
    assert run(flat, labelled, "window", "night").metrics["success"] is None  # they do not exclude one another


def test_command(command) -> None:  # noqa: F811
    words = (
        "turn",
        "hat",
        "coat",
        "--ckpt",
        "tiny.safetensors",
        "--concepts",
        "e.json",
        "--exemplars",
        2,
        "--method",
        "means,sefa",
    )
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "hat to coat by means: not judged",
        "hat to coat by sefa: not judged",
        "figure: out/turn/figure.png",
    ]
    assert json.loads(Path("out/turn/result.json").read_text())["metrics"]["r2"] is None
    code, out, err = command(
        "turn", "day", "night", "--by-segmenter", "--samples", 64, "--draws", 4, "--frames", 3, "--scored", 16, "--json"
    )
    assert (code, err) == (0, "")
    metrics = json.loads(out)
    assert metrics["target_change"] > 0
    assert set(metrics["success"]) == {"4"}


TINY = ("--ckpt", "tiny.safetensors", "--concepts", "e.json")
BAD = {
    "unknown": (("hat", "scarf", *TINY), "unknown concept 'scarf'; known: hat, coat, long coat"),
    "word of rooms": (("day", "dusk", "--by-segmenter"), "unknown concept 'dusk'"),
    "too few": (("hat", "long coat", *TINY), "'hat': 3 exemplars, but 4 exemplars are asked for"),
    "method": (("hat", "coat", *TINY, "--method", "magic"), "method magic: expected means, svm"),
    "conditional": (
        ("hat", "coat", *TINY, "--exemplars", 2, "--method", "conditional"),
        "method conditional: needs other attributes",
    ),
    "neither": (("day", "night", "--ckpt", "tiny.safetensors"), "pass it as --concepts"),
    "steps": (("hat", "coat", *TINY, "--frames", 2), "--frames"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(command, case: str) -> None:  # noqa: F811
    words, expected = BAD[case]
    code, out, err = command("turn", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert not Path("out").exists()
