"""Layers: names, contexts that leave nothing behind, and edits against a forward pass written out here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.models.gan import GAN
from probe.models.hooks import Site, capture, edit, feature_maps, resolve, sites
from tests.edited import EDITS, forward_with, hooks, plain_gan


class Functional(nn.Module):
    """A generator whose activations are functions, not modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.ConvTranspose2d(6, 5, 4, 1, 0), nn.BatchNorm2d(5)
        self.second, self.norm2 = nn.ConvTranspose2d(5, 2, 4, 2, 1), nn.BatchNorm2d(2)
        self.last = nn.ConvTranspose2d(2, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.norm(self.first(z[:, :, None, None])).relu()
        return self.last(self.norm2(self.second(x)).relu()).tanh()


# ---- names


def test_sites_of_a_dcgan(tiny_gan):
    expected = [Site("layer1", 16, 4, 1), Site("layer2", 8, 8, 2), Site("layer3", 4, 16, 3)]
    assert sites(tiny_gan) == expected
    assert str(expected[1]) == "layer2 (8 maps of 8x8)"
    assert hooks(tiny_gan.generator) == 0


def test_sites_of_a_plain_sequential():
    gan = plain_gan()
    assert sites(gan) == [Site("3", 5, 4, 1), Site("6", 4, 8, 2)]
    assert hooks(gan.generator) == 0


def test_sites_of_a_generator_without_activation_modules():
    gan = GAN(Functional().eval(), None, 6, 16, 1)
    assert sites(gan) == [Site("norm", 5, 4, 1), Site("norm2", 2, 8, 2)]


def test_sites_leave_no_hook_when_the_generator_fails(tiny_gan):
    tiny_gan.nz = 9
    with pytest.raises(RuntimeError):
        sites(tiny_gan)
    assert hooks(tiny_gan.generator) == 0


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("layer1", 1, "1", -3, "-3", "4x4"), Site("layer1", 16, 4, 1)),
        (("layer2", 2, "2", -2, "-2", "8x8"), Site("layer2", 8, 8, 2)),
        (("layer3", 3, "3", -1, "-1", "16x16"), Site("layer3", 4, 16, 3)),
    ],
)
def test_resolve(tiny_gan, names, expected):
    assert {resolve(tiny_gan, name) for name in names} == {expected}


@pytest.mark.parametrize("layer", ["layer4", 0, 4, -4, "32x32", "conv", ""])
def test_an_unknown_layer_lists_the_known_ones(tiny_gan, layer):
    listing = "layer1 = 1 = -3 = 4x4, layer2 = 2 = -2 = 8x8, layer3 = 3 = -1 = 16x16"
    with pytest.raises(ProbeError, match=rf"^layer {layer}: the generator has no such layer; it has {listing}$"):
        resolve(tiny_gan, layer)


def test_a_generator_without_layers():
    g = nn.Sequential(nn.Linear(4, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16)))
    with pytest.raises(ProbeError, match=r"layer 1: the generator has no such layer; it has none with feature maps$"):
        resolve(GAN(g, None, 4, 16, 1), 1)


# ---- capture


def test_capture_clones_what_a_later_activation_overwrites():
    gan = plain_gan()
    conv, norm = gan.generator[1], gan.generator[2]
    with torch.no_grad():
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.bias.uniform_(-0.1, 0.1)
    z = torch.randn(3, 6)
    with capture(gan.generator, ["1", "2", "3"]) as seen:
        gan.images(z)
    raw = nn.functional.conv_transpose2d(z[:, :, None, None], conv.weight, conv.bias)
    scaled = (raw - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    scaled = scaled + norm.bias[:, None, None]
    assert scaled.min() < -0.05
    torch.testing.assert_close(seen["1"], raw)
    torch.testing.assert_close(seen["2"], scaled)
    torch.testing.assert_close(seen["3"], scaled.clamp(min=0))
    assert not any(x.requires_grad for x in seen.values())


def test_capture_holds_the_latest_pass_and_ends(tiny_gan):
    z = tiny_gan.latents(4)
    with capture(tiny_gan.generator, ["layer2"]) as seen:
        tiny_gan.images(z)
        first = seen["layer2"]
        tiny_gan.images(z[2:])
        assert torch.allclose(seen["layer2"], first[2:])
        assert len(seen["layer2"]) == 2
    tiny_gan.images(z)
    assert len(seen["layer2"]) == 2


def test_feature_maps_are_those_of_all_batches_and_their_images_go_where_asked(tiny_gan):
    z = tiny_gan.latents(70)  # more than a batch
    with torch.no_grad():
        first = tiny_gan.generator.layer1(z[:, :, None, None])
        second = tiny_gan.generator.layer2(first)
    drawn: list[Tensor] = []
    maps = feature_maps(tiny_gan, z, ["layer2", "layer1"], drawn.append)
    assert list(maps) == ["layer2", "layer1"]
    torch.testing.assert_close(maps["layer1"], first)
    torch.testing.assert_close(maps["layer2"], second)
    torch.testing.assert_close(torch.cat(drawn), tiny_gan.images(z))
    torch.testing.assert_close(feature_maps(tiny_gan, z[:3], ["layer2"])["layer2"], second[:3])
    with pytest.raises(ProbeError, match="layer layer9"):
        feature_maps(tiny_gan, z, ["layer9"])
    assert hooks(tiny_gan.generator) == 0


# ---- edit


@pytest.mark.parametrize("edits", EDITS)
def test_edit_against_a_forward_pass(tiny_gan, edits):
    z = tiny_gan.latents(70)  # more than a batch
    plain = tiny_gan.images(z)
    expected = forward_with(tiny_gan.generator, z, edits)
    assert (expected - plain).abs().max() > 0.1
    with edit(tiny_gan.generator, edits):
        torch.testing.assert_close(tiny_gan.images(z), expected)
    torch.testing.assert_close(tiny_gan.images(z), plain)
    assert hooks(tiny_gan.generator) == 0


# ---- nothing survives


@pytest.mark.parametrize("context", [lambda g: capture(g, ["layer1"]), lambda g: edit(g, EDITS[2])])
def test_hooks_are_gone_after_an_exception_inside(tiny_gan, context):
    def fail() -> None:
        with context(tiny_gan.generator):
            assert hooks(tiny_gan.generator) > 0
            raise KeyError("inside")

    before = tiny_gan.sample(2)
    with pytest.raises(KeyError, match="inside"):
        fail()
    assert hooks(tiny_gan.generator) == 0
    assert torch.equal(tiny_gan.sample(2), before)


@pytest.mark.parametrize(
    "context",
    [lambda g: capture(g, ["layer1", "layer9"]), lambda g: edit(g, {"layer1": torch.relu, "layer9": torch.relu})],
)
def test_no_hook_is_placed_before_all_names_are_known(tiny_gan, context):
    message = r"^layer layer9: the model has no such module; at the top it has layer1, layer2, layer3, layer4$"
    with pytest.raises(ProbeError, match=message), context(tiny_gan.generator):
        pass
    assert hooks(tiny_gan.generator) == 0


def test_an_edit_that_fails_leaves_no_hook(tiny_gan):
    def bad(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), edit(tiny_gan.generator, {"layer1": bad}):
        tiny_gan.sample(1)
    assert hooks(tiny_gan.generator) == 0
