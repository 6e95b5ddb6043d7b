"""Generators, edits of their feature maps and forward passes written out, for the tests of hooks and of replays."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from probe.models.gan import GAN

Edits = dict[str, Callable[[Tensor], Tensor]]


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def plain_gan() -> GAN:
    """A user's generator: activations in place, one of them at the image's own size."""
    torch.manual_seed(0)
    g = nn.Sequential(
        nn.Unflatten(1, (6, 1, 1)),
        nn.ConvTranspose2d(6, 5, 4, 1, 0), nn.BatchNorm2d(5), nn.ReLU(True),
        nn.ConvTranspose2d(5, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1, True),
        nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.ReLU(), nn.Conv2d(3, 1, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip
    return GAN(g.eval(), None, 6, 16, 1)


def forward_with(generator: nn.Module, z: Tensor, edits: Edits) -> Tensor:
    """A DCGAN's forward pass, layer by layer, with changes behind some."""
    x = z[:, :, None, None]
    with torch.no_grad():
        for name, layer in generator.named_children():
            x = layer(x)
            x = edits[name](x) if name in edits else x
    return x


EDITS: list[Edits] = [
    {"layer2": lambda x: x * torch.arange(8)[:, None, None] / 4},
    {"layer1": lambda x: x.flip(1)},
    {"layer1": lambda x: x + 0.3, "layer3": lambda x: x.roll(2, 3) * 0.5},
    {"layer3": lambda x: torch.zeros_like(x), "layer2": lambda x: 1 - x},
]
