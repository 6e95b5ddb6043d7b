"""Folding: matrices and offsets in the weights equal hooks; LEACE equals the package of its authors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.edits.surgery import Direction, ablate, erase, fold, leace, scale
from probe.models.dcgan import Block, Generator
from probe.models.gan import GAN
from probe.models.hooks import capture, edit

Z = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))


def affine(matrix: Tensor, offset: Tensor | None = None):
    shift = torch.zeros(len(matrix)) if offset is None else offset
    return lambda x: torch.einsum("dc,nchw->ndhw", matrix, x) + shift[:, None, None]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hooked(gan: GAN, name: str, change) -> Tensor:
    with edit(gan.generator, {name: change}):
        return gan.images(Z)


def filled(blocks: list[Block], size: int) -> GAN:
    g = Generator(blocks).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for key, value in g.state_dict().items():
            if value.is_floating_point() and not key.endswith("running_var"):
                value.normal_(0.05, 0.3)
    return GAN(g, None, 8, size, 1)


# ---- a matrix


@pytest.mark.parametrize(
    ("layer", "name", "maps"), [("layer1", "layer1", 16), (2, "layer2", 8), ("16x16", "layer3", 4)]
)
def test_a_matrix_equals_a_hook_everywhere(tiny_gan, layer, name, maps):
    matrix, before = draw(maps, maps), {k: v.clone() for k, v in tiny_gan.generator.state_dict().items()}
    expected = hooked(tiny_gan, name, affine(matrix))
    new = fold(tiny_gan, layer, matrix)
    torch.testing.assert_close(new.images(Z), expected, atol=1e-5, rtol=1e-5)
    assert new.generator.blocks == tiny_gan.generator.blocks  # an ordinary DCGAN
    assert new.provenance["edits"] == [f"fold a matrix behind {name}"]
    assert "edits" not in tiny_gan.provenance
    assert all(torch.equal(v, before[k]) for k, v in tiny_gan.generator.state_dict().items())


FIRST = [
    Block("linear", 8, 6, norm="unit", grid=4),
    Block("linear", 8, 6, norm="map", grid=4, activation="leaky"),
    Block("deconv", 8, 6, 4, 1, 0, bias=True, norm="none"),
]
NEXT = {
    "deconv": [Block("deconv", 6, 1, norm="none", activation="tanh")],
    "deconv with bias": [Block("deconv", 6, 5, bias=True, norm="none"), Block("conv", 5, 1, 3, 1, 1, norm="none")],
    "conv": [Block("conv", 6, 5, 3, 1, 1, bias=True), Block("deconv", 5, 1, norm="none", activation="tanh")],
}


@pytest.mark.parametrize("following", NEXT)
@pytest.mark.parametrize("first", FIRST, ids=lambda b: f"{b.kind}-{b.norm}")
def test_a_matrix_behind_and_before_other_layers(first, following):
    gan, matrix = filled([first, *NEXT[following]], 8), draw(6, 6)
    expected = hooked(gan, "layer1", affine(matrix))
    torch.testing.assert_close(fold(gan, 1, matrix).images(Z), expected, atol=1e-5, rtol=1e-5)


# ---- an offset


def test_an_offset_before_a_1x1_convolution_is_exact(tmp_path):
    """The convolution has neither bias nor BatchNorm: it gets a bias."""
    blocks = [
        Block("deconv", 8, 6, 8, 1, 0),
        Block("conv", 6, 5, 1, 1, 0, norm="none"),
        Block("deconv", 5, 1, norm="none"),
    ]
    gan, matrix, offset = filled(blocks, 16), draw(6, 6), draw(6, seed=1)
    expected = hooked(gan, "layer1", affine(matrix, offset))
    new = fold(gan, 1, matrix, offset)
    torch.testing.assert_close(new.images(Z), expected, atol=1e-5, rtol=1e-5)
    assert [b.bias for b in new.generator.blocks] == [False, True, False]
    assert not any(b.bias for b in gan.generator.blocks)
    assert new.provenance["edits"][0].startswith("fold a matrix and an offset behind layer1, off by up to ")
    checkpoints.save(new, tmp_path / "x.safetensors")
    assert torch.equal(checkpoints.load(tmp_path / "x.safetensors").images(Z), new.images(Z))


@pytest.mark.parametrize(("norm", "bias"), [("map", False), ("map", True), ("none", True), ("none", False)])
def test_an_offset_before_a_3x3_convolution_is_exact_but_at_the_border(norm, bias):
    gan = filled([Block("deconv", 8, 6, 8, 1, 0), Block("conv", 6, 5, 3, 1, 1, bias=bias, norm=norm), FINAL], 16)
    offset = draw(6, seed=1)
    with edit(gan.generator, {"layer1": affine(torch.eye(6), offset)}):
        expected = maps(gan, "layer2")
    new = fold(gan, 1, torch.eye(6), offset)
    found = maps(new, "layer2")
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[inside], expected[inside], atol=1e-5, rtol=1e-4)
    stated = float(new.provenance["edits"][0].split()[-4])
    worst = (found - expected).abs().max()
    assert 0.3 * stated < worst <= 1.01 * stated  # before the activation, which swallows some of it


FINAL = Block("deconv", 5, 1, norm="none", activation="tanh")


def test_phases_that_agree_take_an_offset(tiny_gan):
    """A kernel with equal taps has one answer for all phases: an offset behind it is then a bias."""
    with torch.no_grad():
        weight = tiny_gan.generator.layer2.conv.weight
        weight.copy_(weight.mean((2, 3), keepdim=True).expand_as(weight))
    offset = draw(16, seed=2).abs()
    new = fold(tiny_gan, 1, torch.eye(16), offset)
    with edit(tiny_gan.generator, {"layer1": affine(torch.eye(16), offset)}):
        expected = maps(tiny_gan, "layer2")
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(maps(new, "layer2")[inside], expected[inside], atol=1e-5, rtol=1e-4)
    assert (maps(new, "layer2") - expected).abs().max() > 0.01  # the border, as stated


def maps(gan: GAN, name: str) -> Tensor:
    with capture(gan.generator, [name]) as seen:
        gan.images(Z)
    return seen[name]


def test_an_offset_that_becomes_a_pattern_is_refused_with_its_size(tiny_gan):
    offset = draw(8, seed=3)
    with pytest.raises(
        ProbeError, match=r"^fold: the offset behind layer2 is no constant behind layer3: its 2x2 "
    ) as error:
        fold(tiny_gan, 2, torch.eye(8), offset)
    stated = float(str(error.value).split("by up to ")[1].split()[0])
    # By hand: the four sums of 2x2 taps, in units of BatchNorm's output.
    conv, norm = tiny_gan.generator.layer3.conv, tiny_gan.generator.layer3.norm
    taps = torch.einsum("iokl,i->okl", conv.weight.detach(), offset)
    phases = torch.stack([taps[:, i::2, j::2].sum((1, 2)) for i in (0, 1) for j in (0, 1)])
    apart = (phases - phases.mean(0)).abs() * (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    assert stated == pytest.approx(float(apart.max()), rel=0.01)
    assert "edits" in fold(tiny_gan, 2, torch.eye(8), offset, tolerance=stated * 1.01).provenance


def test_an_offset_of_zeros_is_none(tiny_gan):
    new = fold(tiny_gan, 2, torch.eye(8), torch.zeros(8))
    assert new.provenance["edits"] == ["fold a matrix behind layer2"]


@pytest.mark.parametrize(
    ("matrix", "offset", "message"),
    [
        (torch.eye(5), None, r"fold: layer2 has 8 maps; matrix of shape \(5, 5\) given, expected \(8, 8\)"),
        (torch.eye(8), torch.ones(5), r"fold: layer2 has 8 maps; offset of shape \(5,\) given, expected \(8,\)"),
        (torch.eye(8) * float("nan"), None, "fold: matrix behind layer2 holds NaN or infinite values"),
    ],
)
def test_what_does_not_fit(tiny_gan, matrix, offset, message):
    with pytest.raises(ProbeError, match=rf"^{message}$"):
        fold(tiny_gan, "layer2", matrix, offset)


# ---- one after the other


def test_edits_compose(tiny_gan):
    """Each edit does what a hook on the GAN it was given does."""
    first, second = draw(8, 8), draw(8, 8, seed=1)
    generator = torch.Generator().manual_seed(5)
    vectors = [torch.rand(20, 8, generator=generator) + k for k in (0.3, 0)]
    direction = Direction(vectors[0].mean(0), vectors[1].mean(0), vectors[0].mean(0) - vectors[1].mean(0))
    steps = [
        ("layer2", lambda g: erase(g, {"layer2": direction}, 1.5), direction.eraser(1.5)),
        ("layer2", lambda g: ablate(g, 2, [0, 5]), None),
        ("layer2", lambda g: scale(g, 2, [1, 3], 1.8), affine(torch.diag(torch.tensor([1, 1.8, 1, 1.8, 1, 1, 1, 1])))),
        ("layer2", lambda g: fold(g, 2, first), affine(first)),
        ("layer2", lambda g: fold(g, 2, second), affine(second)),
        ("layer1", lambda g: scale(g, 1, [1, 3], 0.2), affine(torch.diag(torch.tensor([1, 0.2, 1, 0.2, *[1] * 12])))),
    ]
    gan = tiny_gan
    for name, operate, change in steps:
        new = operate(gan)
        if change is not None:
            torch.testing.assert_close(new.images(Z), hooked(gan, name, change), atol=1e-4, rtol=1e-4)
        gan = new
    kinds = [text.split()[0] for text in gan.provenance["edits"]]
    assert kinds == ["erase", "ablate", "scale", "fold", "fold", "scale"]


def test_ablate_scale_fold_against_one_hook(tiny_gan):
    matrix = draw(8, 8)
    gains = torch.ones(8)
    gains[[0, 5]], gains[2] = 0, 3
    new = fold(scale(ablate(tiny_gan, 2, [0, 5]), 2, [2], 3), 2, matrix)
    expected = hooked(tiny_gan, "layer2", affine(matrix @ torch.diag(gains)))
    torch.testing.assert_close(new.images(Z), expected, atol=1e-5, rtol=1e-5)


# ---- LEACE


def vectors(kind: str) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    positive, negative = rng.normal(size=(90, 6)) @ mix + rng.normal(size=6), rng.normal(size=(160, 6)) @ mix
    if kind == "dead maps":
        positive[:, 2] = negative[:, 2] = 0
    elif kind == "dependent maps":
        positive[:, 4], negative[:, 4] = positive[:, :2].sum(1), negative[:, :2].sum(1)
    elif kind == "few":
        positive, negative = positive[:3], negative[:2]
    return torch.from_numpy(positive), torch.from_numpy(negative)


@pytest.mark.parametrize("kind", ["full", "dead maps", "dependent maps"])
def test_leace_equals_its_authors_package(kind):
    package = pytest.importorskip("concept_erasure")
    positive, negative = vectors(kind)
    every, truth = torch.cat([positive, negative]), torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    options = {"shrinkage": False, "constrain_cov_trace": False, "svd_tol": 1e-6}
    eraser = package.LeaceEraser.fit(every, truth, **options)
    matrix, offset = leace(positive, negative)
    torch.testing.assert_close(matrix.double(), eraser.P, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(every @ matrix.double().T + offset, eraser(every), atol=1e-4, rtol=1e-4)


def test_leace_by_least_squares():
    """Independent of the formula: the means agree afterwards, no linear probe is left, and the rest is untouched."""
    positive, negative = vectors("full")
    matrix, offset = (v.double() for v in leace(positive, negative))
    after = [v @ matrix.T + offset for v in (positive, negative)]
    torch.testing.assert_close(after[0].mean(0), after[1].mean(0), atol=1e-5, rtol=1e-5)
    every, clean = torch.cat([positive, negative]), torch.cat(after)
    torch.testing.assert_close(clean.mean(0), every.mean(0), atol=1e-5, rtol=1e-5)
    assert torch.linalg.matrix_rank(torch.eye(6) - matrix, rtol=1e-4) == 1
    truth = np.repeat([1, 0], [len(positive), len(negative)])
    assert LogisticRegression(C=1e6).fit(every, truth).score(every, truth) > 0.75
    probe = LogisticRegression(C=1e6, class_weight="balanced").fit(clean, truth)
    assert abs(probe.coef_).max() < 1e-3


def test_leace_is_the_least_change():
    """No other map of the same kind with equal means afterwards moves the vectors less (Belrose et al. 2023)."""
    positive, negative = vectors("full")
    every, shift = torch.cat([positive, negative]), positive.mean(0) - negative.mean(0)
    mean = every.mean(0)
    matrix, offset = (v.double() for v in leace(positive, negative))
    moved = (every @ matrix.T + offset - every).square().sum(1).mean()
    for seed in range(20):
        other = draw(6, seed=seed).double()
        away = torch.outer(shift, other) / (other @ shift)
        assert ((every - mean) @ away.T).square().sum(1).mean() > moved


def test_leace_shrunk_fully_is_the_orthogonal_projection():
    positive, negative = vectors("full")
    shift = positive.mean(0) - negative.mean(0)
    expected = torch.eye(6) - torch.outer(shift, shift) / (shift @ shift)
    torch.testing.assert_close(leace(positive, negative, 1.0)[0].double(), expected, atol=1e-5, rtol=1e-5)


def test_leace_of_few_vectors_and_of_equal_means():
    matrix, offset = leace(*vectors("few"))
    positive, negative = (v @ matrix.double().T + offset for v in vectors("few"))
    torch.testing.assert_close(positive.mean(0), negative.mean(0), atol=1e-4, rtol=1e-4)
    same = draw(9, 4)
    matrix, offset = leace(same, same)
    assert torch.equal(matrix, torch.eye(4))
    assert not offset.any()


@pytest.mark.parametrize(
    ("shapes", "shrinkage", "message"),
    [
        (((1, 4), (9, 4)), 0, "leace: 1 vectors with the concept, 9 without; at least 2 of each are needed"),
        (((9, 4), (9, 5)), 0, r"leace: vectors of shapes \(9, 4\) and \(9, 5\); expected \(P, C\) and \(Q, C\)"),
        (((9, 4), (9, 4)), 1.5, "leace: shrinkage 1.5: expected 0 to 1"),
    ],
)
def test_leace_refuses(shapes, shrinkage, message):
    with pytest.raises(ProbeError, match=f"^{message}$"):
        leace(draw(*shapes[0]), draw(*shapes[1]), shrinkage)


def test_leace_folded_erases_from_the_next_layers_view(tiny_gan):
    """Behind the fold the concept's means agree: the matrix alone moves both classes by the same offset."""
    x = maps(tiny_gan, "layer2").permute(0, 2, 3, 1).flatten(0, 2)
    has = x[:, 0] > x[:, 0].median()
    matrix, _ = leace(x[has], x[~has])
    expected = hooked(tiny_gan, "layer2", affine(matrix))
    torch.testing.assert_close(fold(tiny_gan, 2, matrix).images(Z), expected, atol=1e-5, rtol=1e-5)
    after = x @ matrix.T
    torch.testing.assert_close(after[has].mean(0), after[~has].mean(0), atol=1e-4, rtol=1e-3)
