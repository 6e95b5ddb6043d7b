"""In what space two images are near: fixed, named features of images.

Distances are Euclidean between rows. `random-conv` is a convolutional network whose weights are drawn from a fixed
seed: it has seen no data, so nothing can leak into it, and it tolerates small shifts, which pixels do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.base.plugins import made

NAMES = ("pixels", "random-conv")
_WIDTHS, _SEED = (32, 64, 128), 0


@dataclass(frozen=True)
class Feature:
    """A named function of images (N, C, S, S) in [-1, 1] that returns rows (N, D) of finite numbers."""

    name: str
    function: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            rows = self.function(images)
        if not isinstance(rows, Tensor) or rows.shape[:1] != images.shape[:1] or not rows.isfinite().all():
            found = f"{tuple(rows.shape)}, finite or not" if isinstance(rows, Tensor) else type(rows).__name__
            raise ProbeError(f"feature {self.name}: gives {found}; expected finite numbers, {len(images)} rows of them")
        return rows.flatten(1).float()


class RandomConv(nn.Module):
    """Three strided convolutions with ReLU and weights N(0, 2 / fan-in) of a fixed seed; all three layers are used.

    Each layer's maps are averaged to at most `grid` x `grid` and scaled by 1/sqrt(their number), so that each counts alike.
    """

    def __init__(self, channels: int, grid: int = 8) -> None:
        super().__init__()
        self.grid = grid
        generator = torch.Generator().manual_seed(_SEED)
        widths = (channels, *_WIDTHS)
        layers = [nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in itertools.pairwise(widths)]
        for layer in layers:
            nn.init.normal_(layer.weight, 0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] -> (N, D)."""
        rows = []
        for layer in self.layers:
            x = F.relu(layer(x))
            pooled = F.adaptive_avg_pool2d(x, min(self.grid, x.shape[-1])).flatten(1)
            rows.append(pooled / pooled.shape[1] ** 0.5)
        return torch.cat(rows, 1)


def feature(
    given: str | Callable[[Tensor], Tensor],
    channels: int,
    device: str | torch.device = "cpu",
    parameter: str = "feature",
) -> Feature:
    """The feature of a name, for images of 1 or 3 channels, or one that is given as a function or module.

    `pixels` are the image's values in [0, 1]; `pkg.module:factory` is a module taking images (N, C, S, S) in [-1, 1].
    Raises ProbeError, naming the parameter, for one that is not known.
    """
    if isinstance(given, Feature):
        return given
    if callable(given):
        return Feature(getattr(given, "__name__", type(given).__name__), given)
    if not isinstance(given, str):
        raise ProbeError(f"`{parameter}`: is a {type(given).__name__}; expected a name or a function of images")
    if given == "pixels":
        return Feature(given, lambda images: images * 0.5 + 0.5)
    if given == "random-conv":
        return Feature(given, RandomConv(channels).to(device).eval())
    if ":" not in given:
        raise ProbeError(f"`{parameter}` {given}: expected {', '.join(NAMES)} or pkg.module:factory")
    return Feature(given, module(given, parameter).to(device).eval())


def module(spec: str, parameter: str) -> nn.Module:
    """What a factory given as pkg.module:name returns; raises ProbeError naming the parameter where that is no module."""
    found = made(spec, parameter)
    if not isinstance(found, nn.Module):
        raise ProbeError(
            f"`{parameter}` {spec}: the factory returns a {type(found).__name__}; expected a torch.nn.Module"
        )
    return found
