"""Layers that the paper's DCGAN has not, but other people's have: against functions written out, and under edits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.edits import surgery
from probe.models.dcgan import Block, Discriminator, Generator, Layer
from probe.models.gan import GAN
from probe.models.hooks import capture, edit, sites
from probe.models.replay import Replay
from probe.questions.guided_backprop.receptive import Cells, cut, field, is_local, trunk

CONV = Block("conv", 3, 4, 3, 1, 1, norm="none", activation="none")


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in module.modules():
            for name, p in m.named_parameters(recurse=False):
                p.normal_(1.0 if "norm" in type(m).__name__.lower() and name == "weight" else 0.0, 0.3, generator=g)
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.3, generator=g)
                m.running_var.uniform_(0.3, 1.5, generator=g)
    return module.eval()


def batchnorm(x: Tensor, m: nn.Module) -> Tensor:
    return F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, False, 0, m.eps)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_the_order_of_norm_and_activation() -> None:
    layer = filled(Layer(replace(CONV, norm="map", activation="leaky", slope=0.2, order="act-norm", eps=0.8)))
    x = random(2, 3, 5, 5)
    expected = batchnorm(F.leaky_relu(F.conv2d(x, layer.conv.weight, padding=1), 0.2), layer.norm)
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_the_order_on_a_linear_layer_that_is_folded() -> None:
    layer = filled(Layer(Block("linear", 5, 3, norm="unit", grid=2, activation="elu", order="act-norm")))
    z = random(4, 5)
    expected = batchnorm(F.elu(z @ layer.project.weight.T), layer.norm).view(4, 3, 2, 2)
    torch.testing.assert_close(layer(z), expected)


@torch.no_grad()
def test_norms_of_an_image_and_of_a_place() -> None:
    x = random(2, 3, 5, 5)
    layer = filled(Layer(replace(CONV, norm="instance")))
    h = F.conv2d(x, layer.conv.weight, padding=1)
    expected = (h - h.mean((2, 3), keepdim=True)) / (h.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = expected * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected)
    assert not [*Layer(replace(CONV, norm="instance", affine=False)).norm.parameters()]
    layer = filled(Layer(replace(CONV, norm="pixel", eps=1e-8)))
    h = F.conv2d(x, layer.conv.weight, padding=1)
    torch.testing.assert_close(layer(x), h / ((h**2).sum(1, keepdim=True) / 4 + 1e-8).sqrt())


@torch.no_grad()
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_before_a_convolution(mode: str) -> None:
    block = replace(CONV, upsample=2, interpolation=mode)
    layer, x = filled(Layer(block)), random(2, 3, 4, 4)
    larger = nn.Upsample(scale_factor=2, mode=mode)(x)
    torch.testing.assert_close(layer(x), F.conv2d(larger, layer.conv.weight, padding=1))
    assert block.side(4) == 8


@torch.no_grad()
def test_margins_of_unequal_sides() -> None:
    """TensorFlow's "same": of an odd total the larger part comes after."""
    block = Block("conv", 3, 4, 5, 2, 0, pad=(1, 2), norm="none", activation="none")
    layer, x = filled(Layer(block)), random(2, 3, 8, 8)
    torch.testing.assert_close(layer(x), F.conv2d(F.pad(x, (1, 2, 1, 2)), layer.conv.weight, stride=2))
    assert layer(x).shape[-1] == block.side(8) == 4
    block = Block("deconv", 3, 4, 5, 2, 0, crop=(1, 2), norm="none", activation="none")
    layer = filled(Layer(block))
    torch.testing.assert_close(layer(x), F.conv_transpose2d(x, layer.conv.weight, stride=2)[:, :, 1:-2, 1:-2])
    assert layer(x).shape[-1] == block.side(8) == 16


@torch.no_grad()
def test_images_in_0_to_1_and_interpolated() -> None:
    block = replace(CONV, activation="sigmoid", unit_range=True, resize=7)
    layer, x = filled(Layer(block)), random(2, 3, 5, 5)
    unit = torch.sigmoid(F.conv2d(x, layer.conv.weight, padding=1))
    expected = F.interpolate(unit, size=(7, 7), mode="bilinear") * 2 - 1
    torch.testing.assert_close(layer(x), expected)
    assert block.side(5) == 7


KINDS = {
    "leaky linear first": [
        Block("linear", 8, 10, norm="unit", activation="leaky", slope=0.1),
        Block("linear", 10, 6, bias=True, grid=4, order="act-norm"),
        Block("deconv", 6, 3, 4, 4, 0, norm="none", activation="tanh"),
    ],
    "upsampling": [
        Block("linear", 8, 6, grid=4, activation="none"),
        Block("conv", 6, 5, 3, 1, 1, bias=True, upsample=2, order="act-norm", activation="prelu", slopes=5, eps=0.8),
        Block("conv", 5, 3, 3, 1, 1, norm="none", activation="sigmoid", unit_range=True, upsample=2),
    ],
    "instance": [
        Block("deconv", 8, 6, 4, 1, 0, norm="instance", activation="prelu"),
        Block("deconv", 6, 5, 5, 2, 0, crop=(1, 2), norm="instance", affine=False, activation="selu"),
        Block("deconv", 5, 3, norm="none", activation="tanh", resize=24),
    ],
    "pixel": [
        Block("deconv", 8, 6, 4, 1, 0, norm="pixel", activation="gelu"),
        Block("deconv", 6, 5, norm="pixel", activation="silu", order="act-norm"),
        Block("deconv", 5, 3, norm="none", activation="tanh"),
    ],
}  # fmt: skip


def gan_of(blocks: list[Block]) -> GAN:
    g = filled(Generator(blocks))
    with torch.no_grad():
        size = g(torch.zeros(2, 8)).shape[-1]
    return GAN(g, None, 8, size, 3, "normal", {"generator": "running"})


@pytest.mark.parametrize("kind", KINDS)
def test_own_format_keeps_them(tmp_path: Path, kind: str) -> None:
    gan = gan_of(KINDS[kind])
    checkpoints.save(gan, tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    assert back.generator.blocks == gan.generator.blocks
    torch.testing.assert_close(back.sample(3), gan.sample(3))


@pytest.mark.parametrize("kind", KINDS)
def test_replay_and_sites(kind: str) -> None:
    gan = gan_of(KINDS[kind])
    names = [site.name for site in sites(gan)]
    assert names == [
        f"layer{i}" for i, b in enumerate(gan.generator.blocks[:-1], 1) if b.kind != "linear" or b.grid > 1
    ]
    z = gan.latents(3)
    with capture(gan.generator, names) as seen:
        expected = gan.images(z)
    assert [seen[s.name].shape[1:] for s in sites(gan)] == [(s.maps, s.grid, s.grid) for s in sites(gan)]
    torch.testing.assert_close(Replay(gan, z, names).unedited, expected, atol=1e-5, rtol=1e-4)


def same_edit(kind: str, verb: str) -> None:
    """A permanent edit of the first layer with maps draws what a hook on that layer draws."""
    gan = gan_of(KINDS[kind])
    z, site = gan.latents(3), sites(gan)[0]
    gains, matrix, shift = torch.ones(site.maps), random(site.maps, site.maps), random(site.maps, seed=1)
    gains[1] = 0.0 if verb == "ablate" else 0.5
    direction = surgery.Direction(torch.ones(site.maps), -torch.ones(site.maps), torch.ones(site.maps), boundary=0.0)
    if verb in ("ablate", "scale"):
        new, change = surgery.scale(gan, site.name, [1], gains[1].item()), lambda x: x * gains[:, None, None]
    elif verb == "fold":
        new, change = surgery.fold(gan, site.name, matrix), lambda x: torch.einsum("dc,nchw->ndhw", matrix, x)
    elif verb == "offset":
        with torch.no_grad():  # borders are off by what the kernel sees beyond them: so a kernel of one tap
            kernel = gan.generator.layers()[int(site.name[-1])].conv.weight
            kernel[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
        new, change = surgery.fold(gan, site.name, torch.eye(site.maps), shift), lambda x: x + shift[:, None, None]
    else:
        new, change = surgery.erase(gan, {site.name: direction}, 1.0), direction.eraser(1.0)
    with edit(gan.generator, {site.name: change}):
        expected = gan.images(z)
    torch.testing.assert_close(new.images(z), expected, atol=1e-5, rtol=1e-4)
    assert (expected - gan.images(z)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["fold", "erase"])
def test_permanent_edits(kind: str, verb: str) -> None:
    same_edit(kind, verb)


@pytest.mark.parametrize("verb", ["ablate", "scale"])
@pytest.mark.parametrize("kind", ["leaky linear first", "upsampling", "instance"])
def test_scaled_maps(kind: str, verb: str) -> None:
    same_edit(kind, verb)


def test_an_offset_before_an_enlarged_convolution() -> None:
    same_edit("upsampling", "offset")


def test_what_no_factor_passes() -> None:
    with pytest.raises(ProbeError, match="layer1 has a norm without gains, which takes any factor out again"):
        surgery.scale(gan_of(KINDS["pixel"]), "layer1", [1], 0.5)
    blocks = [replace(KINDS["pixel"][0], norm="none"), *KINDS["pixel"][1:]]
    with pytest.raises(ProbeError, match="layer1 ends in gelu, which passes no factor on"):
        surgery.scale(gan_of(blocks), "layer1", [1], 0.5)


@torch.no_grad()
def test_a_cell_of_a_discriminator_with_the_norm_behind() -> None:
    """eriklindernoren/PyTorch-GAN's order, and TensorFlow's margins, from the receptive field alone."""
    blocks = [
        Block("conv", 3, 4, 3, 2, 1, bias=True, norm="none", activation="leaky"),
        Block("conv", 4, 5, 5, 2, 0, pad=(1, 2), order="act-norm", activation="leaky", eps=0.8),
        Block("conv", 5, 6, 3, 2, 1, order="act-norm", activation="leaky", eps=0.8),
    ]
    d = filled(Discriminator([*blocks, Block("conv", 6, 1, 4, 1, 0, norm="none", activation="none")]))
    assert is_local(d.blocks[:3])
    assert not is_local((replace(blocks[0], norm="instance"),))
    images = random(4, 3, 32, 32)
    model = trunk(d, "layer3")
    with capture(model, ["layer3.conv"]) as seen:
        model(images)
    places, units = torch.tensor([[0, 0], [1, 3], [3, 2], [2, 1]]), torch.tensor([0, 5, 2, 3])
    got = Cells(model, d.blocks[:3], 32)(cut(images, places, field(d.blocks[:3])), places, units)
    expected = seen["layer3.conv"][torch.arange(4), units, places[:, 0], places[:, 1]]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
