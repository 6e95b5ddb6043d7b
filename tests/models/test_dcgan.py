"""The networks against hand-written nn.Sequentials of pytorch/examples, and the guidelines of the paper one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from probe.base.errors import ProbeError
from probe.models.dcgan import (
    Block,
    Discriminator,
    Erase,
    Generator,
    Layer,
    discriminator_blocks,
    generator_blocks,
    initialise,
    kernel_geometry,
    stages,
)

SIZES = (28, 32, 48, 64, 128)


# ---- sizes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", [3, 4, 5, 6, 7])
def test_output_sizes(size, kernel):
    with torch.device("meta"):
        g = Generator(generator_blocks(size, channels=1, nz=5, width=2, kernel=kernel))
        d = Discriminator(discriminator_blocks(size, channels=1, width=2, kernel=kernel))
        assert g(torch.empty(3, 5)).shape == (3, 1, size, size)
        assert d(torch.empty(3, 1, size, size)).shape == (3,)


def test_two_convolutions_a_scale_give_the_maps_of_table_1():
    blocks = discriminator_blocks(32, width=128, depth=2)
    assert [b.outputs for b in blocks[:-1]] == [128, 128, 256, 256, 512, 512]
    assert sum(b.outputs for b in blocks[:-1]) * 4 * 4 == 28_672
    assert [(b.kernel, b.stride) for b in blocks[:-1]] == [(3, 1), (3, 2)] * 3
    assert [b.norm for b in blocks] == ["none", *["map"] * 5, "none"]
    with torch.device("meta"):
        assert Discriminator(discriminator_blocks(28, 1, 4, depth=2))(torch.empty(3, 1, 28, 28)).shape == (3,)


@pytest.mark.parametrize(
    ("size", "expected"), [(28, (7, 2)), (32, (4, 3)), (48, (6, 3)), (64, (4, 4)), (80, (5, 4)), (128, (4, 5))]
)
def test_stages(size, expected):
    assert stages(size) == expected


@pytest.mark.parametrize("size", [0, 1, 4, 8, 14, 30, 36, 100])
def test_sizes_that_cannot_be(size):
    message = rf"image size {size}: not 4, 5, 6 or 7 times a power of two of at least 4; try 28, 32, 64 or 128"
    for blocks in (generator_blocks, discriminator_blocks):
        with pytest.raises(ProbeError, match=message):
            blocks(size)


@pytest.mark.parametrize("kernel", [3, 4, 5, 6, 7])
def test_kernel_geometry_doubles_and_halves(kernel):
    padding, output_padding = kernel_geometry(kernel)
    for side in (4, 7, 12):
        up = nn.ConvTranspose2d(1, 1, kernel, 2, padding, output_padding)
        down = nn.Conv2d(1, 1, kernel, 2, padding)
        assert up(torch.zeros(1, 1, side, side)).shape[-2:] == (2 * side, 2 * side)
        assert down(torch.zeros(1, 1, 2 * side, 2 * side)).shape[-2:] == (side, side)


# ---- against pytorch/examples


def examples_g(ngf: int = 2, nz: int = 6, nc: int = 3) -> nn.Sequential:
    """The generator of pytorch/examples, dcgan/main.py."""
    return nn.Sequential(
        nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
        nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def examples_d(ndf: int = 2, nc: int = 3) -> nn.Sequential:
    """The discriminator of pytorch/examples, without its sigmoid."""
    return nn.Sequential(
        nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 4), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 8), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False),
    )  # fmt: skip


def randomised(model: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.3, 1.5, generator=g)
            elif value.is_floating_point():
                value.normal_(0.1, 0.3, generator=g)
    return model


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """By order, which both layouts share."""
    values = list(source.state_dict().values())
    keys = list(target.state_dict())
    target.load_state_dict(dict(zip(keys, values, strict=True)))


@pytest.mark.parametrize("training", [False, True])
def test_equal_to_pytorch_examples(training):
    theirs_g, theirs_d = randomised(examples_g()), randomised(examples_d())
    g = Generator(generator_blocks(64, nz=6, width=2))
    d = Discriminator(discriminator_blocks(64, width=2))
    copy_weights(theirs_g, g)
    copy_weights(theirs_d, d)
    for model in (theirs_g, theirs_d, g, d):
        model.train(training)
    z = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = theirs_g(z[:, :, None, None])
        assert x.std() > 0.05
        torch.testing.assert_close(g(z), x)
        torch.testing.assert_close(g(z[:, :, None, None]), x)
        torch.testing.assert_close(d(x), theirs_d(x).flatten())
    assert g.nz == 6


def test_a_final_map_is_averaged_into_one_logit():
    d = Discriminator([Block("conv", 3, 1, norm="none", activation="none")])
    x = torch.randn(2, 3, 8, 8)
    expected = nn.functional.conv2d(x, d.layer1.conv.weight, stride=2, padding=1).mean((1, 2, 3))
    torch.testing.assert_close(d(x), expected)


# ---- other blocks


def test_a_linear_first_layer_is_folded_into_maps():
    block = Block("linear", 5, 3, bias=True, norm="map", grid=4)
    layer = randomised(Layer(block)).eval()
    z = torch.randn(2, 5)
    flat = z @ layer.project.weight.T + layer.project.bias
    n = layer.norm
    expected = torch.empty(2, 3, 4, 4)
    for c, row, col in itertools.product(range(3), range(4), range(4)):
        value = flat[:, c * 16 + row * 4 + col]
        scaled = (value - n.running_mean[c]) / (n.running_var[c] + 1e-5) ** 0.5 * n.weight[c] + n.bias[c]
        expected[:, c, row, col] = scaled.clamp(min=0)
    torch.testing.assert_close(layer(z), expected)


def test_batchnorm_over_units():
    layer = randomised(Layer(Block("linear", 5, 3, norm="unit", grid=2, activation="none"))).eval()
    n, z = layer.norm, torch.randn(2, 5)
    flat = (z @ layer.project.weight.T - n.running_mean) / (n.running_var + 1e-5).sqrt() * n.weight + n.bias
    torch.testing.assert_close(layer(z), flat.reshape(2, 3, 2, 2))


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("none", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("leaky", lambda x: np.where(x > 0, x, 0.3 * x)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("prelu", lambda x: np.where(x > 0, x, 0.25 * x)),
        ("elu", lambda x: np.where(x > 0, x, np.exp(x) - 1)),
        ("selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))),
        ("gelu", lambda x: x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / 2**0.5)))(x)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
    ],
)
def test_activations(activation, function):
    layer = Layer(Block("conv", 1, 1, 1, 1, 0, norm="none", activation=activation, slope=0.3))
    with torch.no_grad():
        layer.conv.weight.fill_(1)
    x = torch.linspace(-2, 2, 9).reshape(1, 1, 3, 3)
    np.testing.assert_allclose(layer(x).detach().numpy(), function(x.numpy()), rtol=1e-5, atol=1e-6)


# ---- the guidelines of the paper


@pytest.mark.parametrize("size", SIZES)
def test_guidelines(size):
    g, d = Generator(generator_blocks(size, width=2)), Discriminator(discriminator_blocks(size, width=2))
    for model in (g, d):
        kinds = {type(m) for m in model.modules()}
        assert not any("Pool" in kind.__name__ or kind in (nn.Linear, nn.Upsample) for kind in kinds)
    g_layers, d_layers = list(g.children()), list(d.children())
    normed = [
        [any(isinstance(m, nn.BatchNorm2d) for m in layer) for layer in layers] for layers in (g_layers, d_layers)
    ]
    assert normed[0] == [True] * (len(g_layers) - 1) + [False]
    assert normed[1] == [False] + [True] * (len(d_layers) - 2) + [False]
    assert [type(layer[-1]) for layer in g_layers] == [nn.ReLU] * (len(g_layers) - 1) + [nn.Tanh]
    assert [type(layer[-1]) for layer in d_layers[:-1]] == [nn.LeakyReLU] * (len(d_layers) - 1)
    assert {layer[-1].negative_slope for layer in d_layers[:-1]} == {0.2}
    assert isinstance(d_layers[-1][-1], nn.Conv2d)  # a logit
    assert [layer.conv.stride for layer in g_layers] == [(1, 1)] + [(2, 2)] * (len(g_layers) - 1)
    assert [layer.conv.stride for layer in d_layers] == [(2, 2)] * (len(d_layers) - 1) + [(1, 1)]
    assert [layer.conv.out_channels for layer in d_layers[:-1]] == [layer.conv.in_channels for layer in g_layers[1:]][
        ::-1
    ]


def test_the_papers_widths_at_64():
    assert [b.outputs for b in generator_blocks(64, width=128)] == [1024, 512, 256, 128, 3]
    assert [b.inputs for b in generator_blocks(64)] == [100, 512, 256, 128, 64]


# ---- initial weights


def test_initialise():
    g = Generator(generator_blocks(32, width=32))
    with torch.no_grad():
        for value in g.parameters():
            value.fill_(9)
    linear = nn.Linear(50, 400)
    model = nn.ModuleList([g, linear])
    initialise(model, 3)
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.ConvTranspose2d | nn.Linear)]
    gains = torch.cat([m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)])
    biases = torch.cat([m.bias for m in model.modules() if isinstance(m, nn.BatchNorm2d)])
    for values, mean in [(k.flatten(), 0.0) for k in kernels] + [(gains, 1.0)]:
        n = len(values)
        assert abs(values.mean().item() - mean) < 4 * 0.02 / n**0.5
        assert abs(values.std().item() / 0.02 - 1) < 4 / (2 * n) ** 0.5
    assert not biases.any()
    assert not linear.bias.any()


def test_initialise_is_a_function_of_the_seed():
    models = [Generator(generator_blocks(32, width=2)) for _ in range(3)]
    for model, seed in zip(models, (7, 7, 8), strict=True):
        initialise(model, seed)
    first, same, other = ([*model.parameters()] for model in models)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1)


# ---- the edit behind a layer


def test_erase_against_a_loop():
    rng = np.random.default_rng(0)
    x, w, v = rng.random((2, 3, 4, 5)), np.array([1.5, -0.5, 1.0]), rng.normal(size=3)
    b = -1.0
    expected = np.empty_like(x)
    changed = 0
    for n, i, j in itertools.product(range(2), range(4), range(5)):
        excess = max(0.0, sum(w[c] * x[n, c, i, j] for c in range(3)) + b)
        changed += excess > 0
        for c in range(3):
            expected[n, c, i, j] = max(0.0, x[n, c, i, j] - excess * v[c])
    assert 0 < changed < 40
    module = Erase(3).double()
    for name, value in (("weight", [w]), ("bias", [b]), ("step", [v])):
        getattr(module, name).copy_(torch.from_numpy(np.array(value)))
    np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), expected, rtol=1e-6)
    assert set(module.state_dict()) == {"weight", "bias", "step"}
    assert not list(module.parameters())


def test_erase_comes_behind_the_activation():
    layer = Layer(Block("conv", 1, 2, 1, 1, 0, norm="none", erase=1))
    assert [name for name, _ in layer.named_children()] == ["conv", "act", "erase"]
    x = torch.randn(2, 1, 3, 3)
    plain = (x * layer.conv.weight.detach().view(1, 2, 1, 1)).clamp(min=0)
    torch.testing.assert_close(layer(x), plain)  # zeros: no edit
    layer.erase.weight.copy_(torch.tensor([[1.0, 0.0]]))
    layer.erase.step.copy_(torch.tensor([[1.0, -2.0]]))
    expected = torch.stack([torch.zeros_like(plain[:, 0]), plain[:, 1] + 2 * plain[:, 0]], 1)
    torch.testing.assert_close(layer(x), expected)
