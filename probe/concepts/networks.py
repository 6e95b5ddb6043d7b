"""Networks that say of every pixel what it shows, the segmenters' two architectures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.models.fusion import Pointwise, fused


def _unit(inputs: int, outputs: int, dilation: int = 1, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _joined(a: Tensor, b: Tensor) -> Tensor:
    """torch.cat([a, b], 1) of maps (N, C, H, W) in channels_last, five times as fast there."""
    return torch.cat([a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)], -1).permute(0, 3, 1, 2)


class UNet(nn.Module):
    """Encoder and decoder with skips (Ronneberger et al. 2015): three halvings, max-pooled."""

    def __init__(self, channels: int, classes: int, attributes: int, width: int = 16) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList([_unit(channels, w), _unit(w, 2 * w), _unit(2 * w, 4 * w), _unit(4 * w, 4 * w)])
        self.up = nn.ModuleList([_unit(8 * w, 2 * w), _unit(4 * w, w), _unit(2 * w, w)])
        self.masks = nn.Conv2d(w, classes, 1)
        self.attributes = nn.Linear(4 * w * 4, attributes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skips = []
        for i, layer in enumerate(self.down):
            x = layer(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        attributes = self.attributes(F.adaptive_avg_pool2d(x, 2).flatten(1))
        for layer, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = layer(_joined(F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip))
        return self.masks(x), attributes  # (N, classes, S, S), (N, attributes)


class Dilated(nn.Module):
    """Residual dilated convolutions at half resolution (Yu and Koltun 2016), sharpened by the input at the end."""

    def __init__(self, channels: int, classes: int, attributes: int, width: int = 32) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(nn.Conv2d(channels, w, 5, 2, 2, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True))
        self.body = nn.ModuleList([_unit(w, w, dilation) for dilation in (1, 2, 4, 8, 4, 2, 1)])
        self.rise = nn.Conv2d(w, 4 * 16, 1)
        self.masks = nn.Sequential(_unit(16 + channels, 24), _unit(24, 24), nn.Conv2d(24, classes, 1))
        self.attributes = nn.Linear(w * 16, attributes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.stem(x)
        for layer in self.body:
            h = h + layer(h)
        attributes = self.attributes(F.adaptive_max_pool2d(h, 4).flatten(1))
        return self.masks(torch.cat([F.pixel_shuffle(self.rise(h), 2), x], 1)), attributes


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "dilated": Dilated}


class _LeanUNet(nn.Module):
    """A trained UNet without attributes. BatchNorms are part of the convolutions; what is enlarged is never made.

    A 3x3 convolution of a map enlarged by two, each value in a square of four, is a transposed 4x4 convolution of the
    map itself, whose taps are sums of the nine: four products a place in place of nine.
    """

    def __init__(self, net: UNet) -> None:
        super().__init__()
        down, ups = ([_convolution(unit) for unit in fused(units).children()] for units in (net.down, net.up))
        self.down = nn.ModuleList(down)
        self.up, self.skip = nn.ModuleList(), nn.ModuleList()
        for whole, below in zip(ups, reversed(down[:-1]), strict=True):
            shared = below.out_channels
            enlarged, skip = whole.weight.detach().split([whole.in_channels - shared, shared], 1)
            up = nn.ConvTranspose2d(enlarged.shape[1], len(enlarged), 4, 2, 1, bias=False)
            up.weight = nn.Parameter(_enlarging(_enlarging(enlarged, -1), -2).transpose(0, 1).contiguous())
            whole.weight = nn.Parameter(skip.contiguous())
            self.up.append(up)
            self.skip.append(whole)
        self.masks = Pointwise(net.masks)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, conv in enumerate(self.down):
            x = F.relu_(conv(_pooled(x) if i else x))
            skips.append(x)
        for up, conv, skip in zip(self.up, self.skip, reversed(skips[:-1]), strict=True):
            x = F.relu_(up(x).add_(conv(skip)))
        return self.masks(x)  # type: ignore[no-any-return]


def _convolution(unit: nn.Module) -> nn.Conv2d:
    conv = unit.get_submodule("0")
    assert isinstance(conv, nn.Conv2d)
    return conv


def _pooled(x: Tensor) -> Tensor:
    """F.max_pool2d(x, 2) of maps (N, C, H, W) of even sides, which would note the places as well."""
    x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(x[..., ::2], x[..., 1::2])


def _enlarging(taps: Tensor, axis: int) -> Tensor:
    """The three taps of a convolution of an enlarged map as the four of a transposed one of the map, along an axis."""
    a, b, c = taps.unbind(axis)
    return torch.stack([c, b + c, a + b, a], axis)


class _Scores(nn.Module):
    """A network's label scores alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = fused(net)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]  # type: ignore[no-any-return]


def lean(network: nn.Module, size: int) -> nn.Module:
    """A network in eval mode for label scores (N, classes, S, S) of images of side S alone, equal up to rounding.

    A UNet is rebuilt where sides can be halved three times.
    """
    fits = isinstance(network, UNet) and size % 8 == 0
    return _LeanUNet(network).eval() if fits else _Scores(network)  # type: ignore[arg-type]
