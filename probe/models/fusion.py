"""Trained networks with fewer products, equal up to rounding: for what runs thousands of times."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_FEW = 16  # maps that fill a vector


class Pointwise(nn.Module):
    """A 1x1 convolution as a product that yields whole planes, four times as fast where there are few."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().flatten(1))  # (K, C)
        bias = self.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(bias[:, None])

    def forward(self, x: Tensor) -> Tensor:
        n, maps, *grid = x.shape
        places = x.permute(0, 2, 3, 1).reshape(-1, maps)  # (N·H·W, C)
        planes: Tensor = torch.addmm(self.bias, self.weight, places.T)
        return planes.view(len(self.weight), n, *grid).transpose(0, 1)  # (N, K, H, W)


def _is_product(conv: nn.Conv2d) -> bool:
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)


def fused(network: nn.Module) -> nn.Module:
    """A copy in eval mode: each BatchNorm2d with statistics is part of the convolution before it in a Sequential.

    1x1 convolutions to a few maps, which convolutions do slowly, are products.
    """
    network = copy.deepcopy(network).eval()
    for part in [*network.modules()]:
        for name, conv in part.named_children():
            if isinstance(conv, nn.Conv2d) and _is_product(conv) and conv.out_channels < _FEW:
                setattr(part, name, Pointwise(conv))
    for part in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for (name, conv), (after, norm) in itertools.pairwise([*part.named_children()]):
            if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
                continue
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and conv.groups == 1:
                setattr(part, name, fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d)))
                setattr(part, after, nn.Identity())
    return network


def subpixel(deconv: nn.ConvTranspose2d) -> nn.Sequential | None:
    """A transposed convolution that doubles a grid as a 3x3 one and a pixel shuffle; None for one of another kind.

    out[2i + a] = Σ_s in[i + s] w[a + p - 2s], p the padding and s from -1 to 1: one map for each of the four (a, b),
    with up to 9 products a place in place of 4, which still is faster where the maps are few (an image's), as they fill
    a vector.
    """
    form = (deconv.kernel_size, deconv.padding, deconv.output_padding, deconv.stride, deconv.dilation)
    known = [tuple((n, n) for n in numbers) for numbers in ((4, 1, 0, 2, 1), (5, 2, 1, 2, 1))]
    if form not in known or deconv.groups > 1:
        return None
    kernel, pad = deconv.kernel_size[0], int(deconv.padding[0])
    weight = deconv.weight.detach()  # (inputs, outputs, kernel, kernel)
    inputs, outputs = weight.shape[:2]
    with torch.random.fork_rng(devices=[]):
        conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1, bias=deconv.bias is not None).to(weight)
    taps = torch.zeros_like(conv.weight).view(outputs, 2, 2, inputs, 3, 3)
    for a, b, s, r in itertools.product((0, 1), (0, 1), (-1, 0, 1), (-1, 0, 1)):
        k, m = a + pad - 2 * s, b + pad - 2 * r
        if 0 <= k < kernel and 0 <= m < kernel:
            taps[:, a, b, :, s + 1, r + 1] = weight[:, :, k, m].T
    conv.weight = nn.Parameter(taps.view_as(conv.weight))
    if deconv.bias is not None:
        conv.bias = nn.Parameter(deconv.bias.detach().repeat_interleave(4))
    return nn.Sequential(conv, nn.PixelShuffle(2))
