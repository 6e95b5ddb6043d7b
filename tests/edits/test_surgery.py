"""Surgery: the input stays, and the output equals hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.edits.surgery import Direction, ablate, erase, fit_erase, scale
from probe.models.dcgan import Block, Generator
from probe.models.gan import GAN
from probe.models.hooks import capture, edit
from probe.models.replay import Replay

Z = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))


def maps(gan: GAN, name: str, z: Tensor = Z) -> Tensor:
    with capture(gan.generator, [name]) as seen:
        gan.images(z)
    return seen[name]


def fitted(gan: GAN, name: str) -> Direction:
    """A concept made up: places where two maps together are high."""
    vectors = maps(gan, name, gan.latents(50)).permute(0, 2, 3, 1).flatten(0, 2)
    score = vectors[:, 0] - vectors[:, 1]
    return fit_erase(vectors[score > score.quantile(0.8)], vectors[score < score.quantile(0.6)])


def filled(blocks: list[Block]) -> GAN:
    """A GAN of these blocks with random weights and statistics; 8 latents, 8 px, grey."""
    g = Generator(blocks).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for key, value in g.state_dict().items():
            if value.is_floating_point() and not key.endswith("running_var"):
                value.normal_(0.1, 0.4)
    return GAN(g, None, 8, 8, 1)


def snapshot(gan: GAN) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in gan.generator.state_dict().items()}


# ---- the input is left as it was


@pytest.mark.parametrize(
    ("operate", "note"),
    [
        (lambda gan: ablate(gan, "layer2", [1, 3]), "ablate 2 maps of layer2: 1,3"),
        (lambda gan: scale(gan, "8x8", [3, 1, 3], 2.5), "scale 2 maps of layer2 by 2.5: 1,3"),
        (lambda gan: erase(gan, {"layer2": fitted(gan, "layer2")}, 2.5), "erase at layer2, strength 2.5"),
    ],
)
def test_the_input_is_unchanged(tiny_gan, operate, note):
    before, weights = tiny_gan.images(Z), snapshot(tiny_gan)
    blocks, provenance = tiny_gan.generator.blocks, dict(tiny_gan.provenance)
    new = operate(tiny_gan)
    assert (new.images(Z) - before).abs().max() > 0.05
    assert torch.equal(tiny_gan.images(Z), before)
    assert tiny_gan.generator.blocks == blocks
    assert tiny_gan.provenance == provenance
    assert set(tiny_gan.generator.state_dict()) == set(weights)
    with torch.no_grad():
        for value in new.generator.parameters():
            value.fill_(9)  # nothing is shared
    assert all(torch.equal(v, weights[k]) for k, v in tiny_gan.generator.state_dict().items())
    assert new.provenance == {**provenance, "edits": [note]}
    assert new.discriminator is tiny_gan.discriminator
    assert (new.nz, new.size, new.channels, new.prior, new.batchnorm) == (8, 32, 3, "normal", tiny_gan.batchnorm)


def test_edits_are_listed_in_order(tiny_gan):
    new = ablate(ablate(tiny_gan, "layer1", [0]), "layer2", [0, 1])
    assert new.provenance["edits"] == ["ablate 1 maps of layer1: 0", "ablate 2 maps of layer2: 0,1"]


# ---- ablate


def zeroing(units: list[int]):
    def change(x: Tensor) -> Tensor:
        x = x.clone()
        for unit in units:
            x[:, unit] = 0
        return x

    return change


@pytest.mark.parametrize(
    ("name", "units"), [("layer1", [0, 15, 7]), ("layer2", [2]), ("layer3", [0, 1, 2, 3]), ("layer2", [])]
)
def test_ablate_equals_zeroing_by_a_hook(tiny_gan, name, units):
    with edit(tiny_gan.generator, {name: zeroing(units)}):
        expected = tiny_gan.images(Z)
    new = ablate(tiny_gan, name, units)
    torch.testing.assert_close(new.images(Z), expected)
    assert new.generator.blocks == tiny_gan.generator.blocks  # an ordinary DCGAN
    assert not maps(new, name)[:, units].any()


LAYERS = [
    Block("linear", 8, 6, norm="unit", grid=4),
    Block("linear", 8, 6, norm="map", grid=4, activation="leaky"),
    Block("linear", 8, 6, bias=True, norm="none", grid=4),
    Block("linear", 8, 6, bias=False, norm="none", grid=4),
    Block("deconv", 8, 6, 4, 1, 0, bias=True, norm="none"),
    Block("deconv", 8, 6, 4, 1, 0, bias=False, norm="none", activation="leaky"),
]


@pytest.mark.parametrize("first", LAYERS, ids=lambda b: f"{b.kind}-{b.norm}-{b.bias}")
def test_ablate_of_other_layers(first):
    check_ablate([first, Block("deconv", 6, 1, norm="none", activation="tanh")], "layer1")


@pytest.mark.parametrize("bias", [False, True])
def test_ablate_of_a_convolution_that_keeps_the_grid(bias):
    middle = Block("conv", 5, 6, 3, 1, 1, bias=bias, norm="none")
    check_ablate(
        [Block("deconv", 8, 5, 4, 1, 0), middle, Block("deconv", 6, 1, norm="none", activation="tanh")], "layer2"
    )


def check_ablate(blocks: list[Block], name: str) -> None:
    gan = filled(blocks)
    assert maps(gan, name)[:, [1, 4]].abs().max() > 0.1
    with edit(gan.generator, {name: zeroing([1, 4])}):
        expected = gan.images(Z)
    torch.testing.assert_close(ablate(gan, name, [1, 4]).images(Z), expected)


@pytest.mark.parametrize("unit", [-1, 8])
def test_ablate_of_a_map_that_is_not_there(tiny_gan, unit):
    with pytest.raises(ProbeError, match=rf"^ablate: layer2 has maps 0 to 7; there is no map {unit}$"):
        ablate(tiny_gan, "layer2", [0, unit])


# ---- scale


def times(units: list[int], factor: float):
    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, units] *= factor
        return x

    return change


@pytest.mark.parametrize("factor", [0, 0.3, 1, 4])
@pytest.mark.parametrize("layer", ["layer1", -2, "16x16"])
def test_scale_equals_a_hook(tiny_gan, layer, factor):
    name = {"layer1": "layer1", -2: "layer2", "16x16": "layer3"}[layer]
    with edit(tiny_gan.generator, {name: times([0, 2], factor)}):
        expected = tiny_gan.images(Z)
    torch.testing.assert_close(scale(tiny_gan, layer, [2, 0], factor).images(Z), expected)


@pytest.mark.parametrize("first", LAYERS, ids=lambda b: f"{b.kind}-{b.norm}-{b.bias}")
def test_scale_of_other_layers(first):
    gan = filled([first, Block("deconv", 6, 1, norm="none", activation="tanh")])
    with edit(gan.generator, {"layer1": times([1, 4], 1.7)}):
        expected = gan.images(Z)
    torch.testing.assert_close(scale(gan, 1, [1, 4], 1.7).images(Z), expected)


@pytest.mark.parametrize("factor", [0.4, 3])
def test_scale_acts_behind_an_erasure(tiny_gan, factor):
    """The erasure goes on to look at the maps as they were."""
    once = erase(tiny_gan, {"layer2": fitted(tiny_gan, "layer2")}, 3)
    units = [0, int(once.generator.layer2.erase.step.argmin())]
    with edit(once.generator, {"layer2": times(units, factor)}):
        expected = once.images(Z)
    torch.testing.assert_close(scale(once, "layer2", units, factor).images(Z), expected)


@pytest.mark.parametrize(
    ("units", "factor", "message"),
    [
        ([8], 2, "scale: layer2 has maps 0 to 7; there is no map 8"),
        ([0], float("nan"), "scale: factor nan: expected a finite number of at least 0"),
        ([0], float("inf"), "scale: factor inf: expected a finite number of at least 0"),
        ([0], -1, "scale: factor -1 is negative, and the activation stands between .* fold a matrix"),
    ],
)
def test_scale_refuses(tiny_gan, units, factor, message):
    with pytest.raises(ProbeError, match=rf"^{message}"):
        scale(tiny_gan, "layer2", units, factor)


def test_an_activation_that_passes_no_factor_on():
    gan = filled(
        [Block("deconv", 8, 6, 4, 1, 0, activation="tanh"), Block("deconv", 6, 1, norm="none", activation="tanh")]
    )
    with pytest.raises(ProbeError, match=r"^scale: layer1 ends in tanh, which passes no factor on; fold a matrix"):
        scale(gan, 1, [0], 0.5)
    with edit(gan.generator, {"layer1": zeroing([0])}):
        expected = gan.images(Z)
    torch.testing.assert_close(ablate(gan, 1, [0]).images(Z), expected)


def test_a_layer_that_is_not_there(tiny_gan):
    with pytest.raises(ProbeError, match=r"^layer 9: the generator has no such layer; it has layer1 = 1"):
        ablate(tiny_gan, 9, [0])


# ---- erase


@pytest.mark.parametrize("names", [["layer2"], ["layer3"], ["layer1", "layer3"]])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_an_erased_gan_equals_a_replay_with_erasers(tiny_gan, names, strength, tmp_path):
    directions = {name: fitted(tiny_gan, name) for name in names}
    erasers = {name: d.eraser(strength) for name, d in directions.items()}
    expected = Replay(tiny_gan, Z, names).images(erasers)
    assert (expected - tiny_gan.images(Z)).abs().max() > 0.02
    new = erase(tiny_gan, directions, strength)
    torch.testing.assert_close(new.images(Z), expected)
    assert [b.erase for b in new.generator.blocks] == [f"layer{i}" in names for i in (1, 2, 3, 4)]
    checkpoints.save(new, tmp_path / "erased.safetensors")
    again = checkpoints.load(tmp_path / "erased.safetensors")
    assert torch.equal(again.images(Z), new.images(Z))
    assert again.provenance["edits"] == [f"erase at {', '.join(names)}, strength {strength:g}"]


def test_erasing_removes_the_concept_from_the_layer(tiny_gan):
    direction = fitted(tiny_gan, "layer2")

    def excess(gan: GAN) -> float:
        centred = maps(gan, "layer2") - direction.mean[:, None, None]
        return torch.einsum("nchw,c->nhw", centred, direction.weight).clamp(min=0).sum().item()

    assert excess(erase(tiny_gan, {"layer2": direction}, 1)) < 0.7 * excess(tiny_gan)


def test_erase_by_rank_or_grid(tiny_gan):
    direction = fitted(tiny_gan, "layer2")
    by_name = erase(tiny_gan, {"layer2": direction}, 2)
    assert torch.equal(erase(tiny_gan, {"8x8": direction}, 2).images(Z), by_name.images(Z))
    with pytest.raises(ProbeError, match=r"^erase: layer2 already carries an erasure; one a layer$"):
        erase(tiny_gan, {"layer2": direction, "2": direction}, 1)


def test_erase_refuses_what_does_not_fit(tiny_gan):
    direction = fitted(tiny_gan, "layer2")
    with pytest.raises(ProbeError, match=r"^erase: layer3 has 4 maps; the direction is for 8$"):
        erase(tiny_gan, {"layer3": direction}, 1)
    with pytest.raises(ProbeError, match=r"^erase: strength nan: expected a finite number$"):
        erase(tiny_gan, {"layer2": direction}, float("nan"))


def test_one_erasure_a_layer(tiny_gan):
    direction = fitted(tiny_gan, "layer2")
    once = erase(tiny_gan, {"layer2": direction}, 1)
    with pytest.raises(ProbeError, match=r"^erase: layer2 already carries an erasure; one a layer$"):
        erase(once, {"layer2": direction}, 1)
    both = erase(once, {"layer3": fitted(once, "layer3")}, 1)
    assert [b.erase for b in both.generator.blocks] == [False, True, True, False]


def test_ablate_after_erase(tiny_gan):
    """Ablated maps are at zero, though the erasure behind the layer would lift some of them."""
    once = erase(tiny_gan, {"layer2": fitted(tiny_gan, "layer2")}, 3)
    lifted = int(once.generator.layer2.erase.step.argmin())
    assert once.generator.layer2.erase.step[0, lifted] < 0
    assert not maps(ablate(once, "layer2", [lifted]), "layer2")[:, lifted].any()


@pytest.mark.parametrize(
    ("operate", "what"),
    [
        (lambda gan: ablate(gan, "0", [0]), "ablate 1 maps of 0"),
        (lambda gan: erase(gan, {"0": Direction(*torch.ones(3, 2))}, 1), "erase at 0, strength 1"),
    ],
)
def test_only_a_dcgan_can_be_rebuilt(operate, what):
    gan = GAN(nn.Sequential(nn.Linear(8, 8)), None, 8, 16, 1)
    message = rf"^{what}: the generator is a Sequential; only a DCGAN read by probe can be rebuilt$"
    with pytest.raises(ProbeError, match=message):
        operate(gan)
