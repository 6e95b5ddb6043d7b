"""Guided backpropagation: one cell against the whole image, the scan against a full sort, sanity checks, the atlas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import NeuronGradient
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.models.gan import GAN, use_batch_statistics
from probe.models.hooks import capture, resolve, sites
from probe.questions.guided_backprop import lens, sanity
from probe.questions.guided_backprop.figure import atlas
from probe.questions.guided_backprop.lens import Source, from_samples, gradients, scan
from probe.questions.guided_backprop.naming import name_units
from probe.questions.guided_backprop.receptive import Field, cut, inside
from probe.questions.guided_backprop.run import OUTSIDE, Settings, guided
from probe.results.drawing import draw
from probe.results.result import Result
from tests.looking import looking

N = 40


@pytest.fixture
def images() -> Tensor:
    return torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(3)).tanh()


@pytest.fixture
def source(images: Tensor) -> Source:
    return Source("noise", N, lambda rows: images[rows])


class Custom(nn.Module):
    """The tiny GAN's discriminator as somebody else would write it."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        layers = [m for layer in own.layers() for m in layer]
        self.features, self.last = nn.Sequential(*layers[:-1]), layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.features(x))).flatten()


def test_layers_of_the_discriminator_by_name_rank_and_grid(tiny_gan: GAN) -> None:
    assert [(s.name, s.maps, s.grid) for s in sites(tiny_gan, "discriminator")] == [
        ("layer1", 4, 16),
        ("layer2", 8, 8),
        ("layer3", 16, 4),
    ]
    assert resolve(tiny_gan, "-1", "discriminator").name == resolve(tiny_gan, "4x4", "discriminator").name == "layer3"
    with pytest.raises(
        ProbeError, match=r"^layer 9: the discriminator has no such layer; it has layer1 = 1 = -3 = 16x16"
    ):
        resolve(tiny_gan, "9", "discriminator")


@pytest.mark.parametrize("rule", ["guided", "leaky", "deconvnet", "gradient"])
@pytest.mark.parametrize("layer", ["1", "2", "3"])
def test_one_cell_is_as_in_the_whole_image(tiny_gan: GAN, images: Tensor, layer: str, rule: str) -> None:
    found = looking(tiny_gan, layer, rule)
    g = torch.Generator().manual_seed(0)
    units = torch.randint(0, found.site.maps, (N,), generator=g)
    places = torch.randint(0, found.site.grid, (N, 2), generator=g)
    whole = NeuronGradient(found.model, found.gate).attribute(
        images.clone().requires_grad_(),
        lambda out: out[torch.arange(N), units, places[:, 0], places[:, 1]],
        attribute_to_neuron_input=True,
    )
    ours = found.gradients(images, units, places)
    assert ours.shape == (N, 3, found.field.size, found.field.size)
    assert (ours - cut(whole, places, found.field)).abs().max() < 1e-6
    assert ours.abs().sum() == pytest.approx(float(whole.abs().sum()), rel=1e-5)  # nothing lies outside of the field


def test_receptive_field_is_what_the_gradient_covers(tiny_gan: GAN, images: Tensor) -> None:
    found = looking(tiny_gan, "2", "gradient")
    assert found.field == Field(size=10, stride=4, start=-3)
    picture = NeuronGradient(found.model, found.gate).attribute(
        images[:1].clone().requires_grad_(), (0, 3, 5), attribute_to_neuron_input=True
    )
    rows, columns = picture[0].abs().sum(0).nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (-3 + 4 * 3, -3 + 4 * 3 + 9)
    assert (int(columns.min()), int(columns.max())) == (-3 + 4 * 5, -3 + 4 * 5 + 9)


def test_a_custom_discriminator_gives_the_same_gradients(tiny_gan: GAN, images: Tensor) -> None:
    own = looking(tiny_gan)
    other = replace(tiny_gan, discriminator=Custom(tiny_gan.discriminator).eval())
    theirs = looking(other)
    assert (own.before, own.rectifiers, theirs.before, theirs.rectifiers) == (2, 3, 2, 3)
    units, places = torch.arange(N) % 16, torch.stack([torch.arange(N) % 4, torch.arange(N) // 4 % 4], 1)
    assert torch.allclose(own.responses(images), theirs.responses(images), atol=1e-6)
    whole = theirs.gradients(images, units, places)
    assert torch.allclose(own.gradients(images, units, places), cut(whole, places, own.field), atol=1e-6)


class Leaky(Custom):
    """A discriminator whose activation is a function."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self.features:
            x = module(x) if isinstance(module, nn.Conv2d | nn.BatchNorm2d) else F.leaky_relu(x, 0.2)
        return self.last(x).flatten()


def test_functional_activations_of_a_custom_discriminator_are_refused(tiny_gan: GAN, source: Source) -> None:
    other = replace(tiny_gan, discriminator=Leaky(tiny_gan.discriminator).eval())
    with pytest.raises(
        ProbeError, match=r"^activation LeakyRelu: called as a function in Leaky, so no rule reaches it"
    ):
        guided(other, source, Settings())


@pytest.mark.parametrize("batch", [7, 13, 64])
def test_scan_finds_what_a_full_sort_finds(
    tiny_gan: GAN, images: Tensor, source: Source, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens, "BATCH", batch)
    asked: list[int] = []
    watched = Source("noise", N, lambda rows: asked.append(len(rows)) or images[rows])  # type: ignore[func-returns-value]
    found = looking(tiny_gan)
    top = scan(found, watched, [2, 5, 11], 4, False, lambda *_: None)
    assert max(asked) <= batch + 1
    with capture(tiny_gan.discriminator, ["layer3.norm"]) as seen:
        tiny_gan.discriminator(images)
    maps = seen["layer3.norm"][:, [2, 5, 11]]
    best = maps.flatten(2).amax(2)
    expected, rows = best.sort(dim=0, descending=True, stable=True)
    assert torch.allclose(top.values, expected[:4].T, atol=1e-5)
    assert torch.equal(top.images, rows[:4].T)
    for u in range(3):
        for k in range(4):
            y, x = top.places[u, k]
            assert maps[top.images[u, k], u, y, x] == maps[top.images[u, k], u].max()
    spread = (expected[0] - maps.mean((0, 2, 3))) / maps.std((0, 2, 3), correction=0)
    assert torch.allclose(top.spread, spread, rtol=1e-3)


def test_batchnorm_by_batch(tiny_gan: GAN, images: Tensor, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "BATCH", 20)
    found = looking(tiny_gan)
    top = scan(found, source, range(16), 3, True, lambda *_: None)
    use_batch_statistics(tiny_gan.discriminator)
    best = []
    for part in images.split(20):
        with capture(tiny_gan.discriminator, ["layer3.norm"]) as seen:
            tiny_gan.discriminator(part)
        best.append(seen["layer3.norm"].flatten(2).amax(2))
    expected = torch.cat(best).sort(dim=0, descending=True).values[:3].T
    assert torch.allclose(top.values, expected, rtol=0.02, atol=0.02)  # running variances have Bessel's correction
    pictures = gradients(found, source, top, True)
    for u, k in ((0, 0), (7, 2)):  # each in the statistics of its own batch
        row = int(top.images[u, k])
        found.settle(images[row // 20 * 20 :][:20])
        alone = found.gradients(images[row : row + 1], top.units[u : u + 1], top.places[u, k][None])
        assert torch.allclose(pictures[u, k], alone[0], atol=1e-6)


def test_result(tiny_gan: GAN, source: Source) -> None:
    result = guided(tiny_gan, source, Settings(units="0-2", crops=3, sanity="full"))
    m, a = result.metrics, result.arrays
    assert (m["layer"], m["units"], m["rule"], m["activations_replaced"]) == ("layer3", [0, 1, 2], "guided", 3)
    found = looking(tiny_gan)
    top = scan(found, source, [0, 1, 2], 3, False, lambda *_: None)
    maps = gradients(found, source, top, False)
    plain = gradients(looking(tiny_gan, rule="gradient"), source, top, False)
    assert m["difference_from_gradient"] == pytest.approx(float((maps - plain).norm() / plain.norm()), rel=1e-5)
    assert m["difference_from_gradient"] > 0.1
    valid = inside(top.places.flatten(0, 1), found.field, 32).unflatten(0, (3, 3))[:, :, None].expand_as(maps)
    assert np.array_equal(a["gradients"] == OUTSIDE, ~valid.numpy())
    scale = np.quantile(maps.abs()[valid].numpy(), 0.995)
    assert float(a["scale"]) == pytest.approx(scale)
    kept = valid & (maps.abs() < scale)
    drawn = torch.from_numpy(a["gradients"]).float() * float(scale) / 127
    assert (drawn - maps)[kept].abs().max() <= 0.51 * scale / 127
    assert np.array_equal(a["images"], top.images.numpy())
    assert not np.array_equal(a["random_images"], a["images"])  # the random network's maxima are its own
    check_sanity(result)


def check_sanity(result: Result) -> None:
    sane = result.metrics["sanity"]
    assert list(sane["rows"]) == [
        "all layers random", "layers 2–3 random", "only layer 3 random", "only layer 2 random", "only layer 1 random",
        "plain gradient", "Sobel edges", "input", "another unit's crop",
    ]  # fmt: skip
    assert (sane["seeds"], sane["crops"], sane["threshold"]) == (5, 9, 0.5)
    for name, row in sane["rows"].items():
        low, high = row["spearman_ci"]
        assert low <= row["spearman"] <= high, name
    assert sane["verdict"] == ("pass" if sane["spearman_ci"][1] < 0.5 else "fail")
    table = result.arrays["similarity"]
    assert table.shape == (9, 5, 9, 4)
    assert np.isfinite(table[0]).all()
    assert sane["spearman"] == pytest.approx(float(table[0, :, :, 0].mean()), rel=1e-5)


def test_verdict_follows_the_upper_bound() -> None:
    rng = np.random.default_rng(0)
    for centre, word in ((0.3, "pass"), (0.49, "fail"), (0.8, "fail"), (np.nan, "fail")):
        values = centre + 0.1 * rng.standard_normal((3, 30, 4))
        assert sanity.verdict({"all layers random": values}, "fast")["verdict"] == word


def test_similarities_of_known_pairs() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 3, 24, 24, generator=g)
    valid = torch.ones(2, 24, 24, dtype=torch.bool)
    same = sanity.compare(x, x, valid)
    assert same == pytest.approx(np.ones((2, 4)), abs=1e-6)
    flipped = sanity.compare(x, -x, valid)
    assert flipped[:, 0] == pytest.approx(1)  # absolute values are the same
    assert flipped[:, 1] == pytest.approx(-1)
    assert np.abs(sanity.compare(x, y, valid)[:, :2]).max() < 0.1
    half = valid.clone()
    half[:, 12:] = False
    mixed = torch.where(half[:, None], x, y)
    assert sanity.compare(x, mixed, half)[:, 1] == pytest.approx(1)  # only valid pixels count
    assert np.isnan(sanity.compare(x, torch.zeros_like(x), valid)[:, :2]).all()


def test_randomised_layers(tiny_gan: GAN, images: Tensor) -> None:
    model = tiny_gan.require_discriminator()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    every, one = (sanity.randomised(model, layers, 4, iter([images])).state_dict() for layers in (None, [1]))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for k in (1, 2, 3):
        key = f"layer{k}.conv.weight"
        assert torch.equal(one[key], before[key]) == (k != 2)
        assert 0.015 < float(every[key].std()) < 0.025
    assert torch.equal(one["layer2.conv.weight"], every["layer2.conv.weight"])
    with torch.no_grad():  # statistics are those of the images
        maps = F.conv2d(
            F.leaky_relu(F.conv2d(images, every["layer1.conv.weight"], stride=2, padding=1), 0.2),
            every["layer2.conv.weight"],
            stride=2,
            padding=1,
        )
    assert torch.allclose(every["layer2.norm.running_mean"], maps.mean((0, 2, 3)), atol=1e-6)


def test_a_rule_that_changes_nothing_is_an_error(
    tiny_gan: GAN, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = lens.replaced
    monkeypatch.setattr(lens, "replaced", lambda model, rule: honest(model, "gradient"))
    with pytest.raises(ProbeError, match=r"^rule guided: gives the plain gradient in layer3 though 2 activations"):
        guided(tiny_gan, source, Settings())


def test_the_first_layer_has_no_activation_before_it(tiny_gan: GAN, source: Source) -> None:
    found = guided(tiny_gan, source, Settings(layer="1", units="0-3", crops=2))
    assert (found.metrics["activations_replaced"], found.metrics["difference_from_gradient"]) == (1, 0)
    assert any("no activation lies before layer1" in note for note in found.assumptions)


def test_words_for_units(tiny_gan: GAN, images: Tensor) -> None:
    found = looking(tiny_gan)
    peak = found.responses(images)[:, 3].flatten(1).amax(1)
    classes = (peak > peak.median()).long().numpy()  # class 1 is what unit 3 responds to
    rows = name_units(found, Source("noise", N, lambda rows: images[rows], classes), torch.tensor([3, 8]), None, 0)
    assert rows["3"]["concept"] == "class 1"
    assert rows["3"]["score"] == pytest.approx(1)
    assert rows["3"]["chance"] < 0.9
    assert name_units(found, Source("noise", N, lambda rows: images[rows]), torch.tensor([3]), None, 0) == {}


def test_atlas_and_figure(tiny_gan: GAN, source: Source, tmp_path: Path) -> None:
    found = guided(tiny_gan, source, Settings(units="all", crops=2, inputs=True))
    assert found.arrays["atlas_gradients"].shape[:2] == (16, 2)
    assert found.metrics["units"] == [0, 1, 2, 3, 4, 5]
    atlas(found, tmp_path / "atlas.pdf")
    assert (tmp_path / "atlas.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "atlas.pdf").stat().st_size > 10_000
    assert draw(found, tmp_path, ["png", "pdf"])[0].stat().st_size > 5000


REAL = Path(__file__).resolve().parents[4] / "shared" / "checkpoints" / "newmu-svhn"


@pytest.mark.skipif(not REAL.is_dir(), reason="the authors' SVHN arrays are not here")
def test_the_authors_own_discriminator() -> None:
    from probe.checkpoints import load as open_checkpoint

    gan = open_checkpoint(REAL)
    found = guided(gan, from_samples(gan, 128, 0), Settings(units="0-2", crops=3))
    m = found.metrics
    assert (m["layer"], m["maps_total"], m["batchnorm"], m["activations_replaced"]) == ("layer3", 256, "data", 3)
    assert m["receptive_field"] == {"size": 29, "stride": 8, "start": -14}
    assert m["sanity"]["verdict"] == "pass"
    assert m["difference_from_gradient"] > 0.5
