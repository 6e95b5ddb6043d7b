"""What runs thousands of times gives the numbers of the network as it was trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probe.models.fusion import Pointwise, fused, subpixel
from probe.models.gan import use_batch_statistics
from tests.conftest import give_structure


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_fused_layers_give_the_same_without_a_batchnorm():
    network = nn.Sequential(
        nn.Sequential(nn.ConvTranspose2d(6, 5, 4, 2, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        nn.Sequential(nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 1)),
    )
    give_structure(network, 1)
    network.eval()
    x = random(2, 6, 5, 5)
    lean = fused(network)
    torch.testing.assert_close(lean(x), network(x), rtol=1e-4, atol=1e-4)
    assert not [m for m in lean.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]) == 2  # the original is as it was


@torch.no_grad()
def test_batchnorms_that_cannot_be_part_of_a_convolution_stay():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    give_structure(network, 2)
    use_batch_statistics(network[2])
    lean = fused(network.eval())
    x = random(3, 3, 6, 6)
    torch.testing.assert_close(lean(x), network(x))
    assert len([m for m in lean.modules() if isinstance(m, nn.BatchNorm2d)]) == 3


@torch.no_grad()
def test_convolutions_that_are_no_products_stay():
    network = nn.Sequential(
        nn.Conv2d(4, 3, 1, stride=2), nn.Conv2d(3, 3, 1, padding=1), nn.Conv2d(3, 3, 1, groups=3), nn.BatchNorm2d(3)
    ).eval()
    x = random(2, 4, 6, 6)
    torch.testing.assert_close(fused(network)(x), network(x))


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    subpixel(nn.ConvTranspose2d(4, 3, 4, 2, 1))
    expected = torch.rand(2)
    torch.manual_seed(5)
    nn.ConvTranspose2d(4, 3, 4, 2, 1)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "padding", "extra"), [(4, 1, 0), (5, 2, 1)])
@torch.no_grad()
def test_subpixel_is_the_transposed_convolution(kernel, padding, extra, bias):
    deconv = nn.ConvTranspose2d(7, 3, kernel, 2, padding, extra, bias=bias)
    deconv.weight.copy_(random(*deconv.weight.shape, seed=3))
    x = random(2, 7, 5, 6)
    torch.testing.assert_close(subpixel(deconv)(x), deconv(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "deconv",
    [
        nn.ConvTranspose2d(4, 2, 4, 1, 0),
        nn.ConvTranspose2d(4, 2, 5, 2, 1, 0),
        nn.ConvTranspose2d(4, 2, (4, 5), 2, 1),
        nn.ConvTranspose2d(4, 2, 4, 2, 1, groups=2),
        nn.ConvTranspose2d(4, 2, 4, 2, 1, dilation=2),
    ],
)
def test_other_transposed_convolutions_are_left(deconv):
    assert subpixel(deconv) is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pointwise_is_the_convolution_and_has_its_gradient(bias, layout):
    conv = nn.Conv2d(6, 3, 1, bias=bias)
    x = random(2, 6, 4, 5).contiguous(memory_format=layout).requires_grad_()
    for module in (conv, Pointwise(conv)):
        y = module(x)
        gradient = torch.autograd.grad((y * random(*y.shape, seed=1)).sum(), x)[0]
        if module is conv:
            expected = y, gradient
    torch.testing.assert_close((y, gradient), expected, rtol=1e-4, atol=1e-5)
