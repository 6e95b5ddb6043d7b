"""What one cell of a discriminator's feature maps sees, and a network that computes that cell from it alone.

A convolution pads every layer's maps with zeros, not the image alone, so a field that leaves the image cannot just be
filled up: `Cells` convolves without padding and sets what lies outside of a layer's maps to zero.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.models.dcgan import Block, Discriminator


@dataclass(frozen=True)
class Field:
    """Cell (y, x) of a layer sees `size` x `size` pixels; cell (0, 0) from `start` on, `stride` lies between cells."""

    size: int
    stride: int
    start: int


def field(blocks: tuple[Block, ...]) -> Field:
    """The receptive field of a cell behind a list of convolutions."""
    size, stride, start = 1, 1, 0
    for b in blocks:
        size += (b.kernel - 1) * stride
        start -= (b.padding + b.pad[0]) * stride
        stride *= b.stride
        size += (b.pool - 1) * stride
        stride *= b.pool
    return Field(size, stride, start)


def is_local(blocks: tuple[Block, ...]) -> bool:
    """Whether `Cells` computes the last of some blocks: convolutions on the maps as they are, and norms with statistics."""
    return all(
        b.kind == "conv" and b.upsample == b.pool == 1 and b.norm in ("none", "map") and not b.unit_input
        for b in blocks
    )


def trunk(model: Discriminator, layer: str) -> nn.Sequential:
    """A copy of a discriminator's layers up to one of them (`layer4`), in eval mode."""
    depth = int(layer.removeprefix("layer"))
    return nn.Sequential(OrderedDict((f"layer{i + 1}", copy.deepcopy(model.layers()[i])) for i in range(depth))).eval()


def _reach(places: Tensor, where: Field) -> tuple[Tensor, Tensor]:
    """The rows and the columns (N, R) of pixels that cells (N, 2) see, in the image or not."""
    steps = torch.arange(where.size, device=places.device)
    rows, columns = (where.start + where.stride * places[:, i, None] + steps for i in (0, 1))
    return rows, columns


def cut(images: Tensor, places: Tensor, where: Field) -> Tensor:
    """The fields (N, C, R, R) of cells (N, 2), row and column, one in each image (N, C, S, S); zero outside of it."""
    size = images.shape[-1]
    rows, columns = (steps.clamp(0, size - 1) for steps in _reach(places, where))
    n, c = (torch.arange(k, device=images.device) for k in images.shape[:2])
    picked = images[n[:, None, None, None], c[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]
    return picked * inside(places, where, size)[:, None]


def inside(places: Tensor, where: Field, size: int) -> Tensor:
    """Which pixels of the fields of cells (N, 2) lie in images of a size, (N, R, R) boolean."""
    rows, columns = ((steps >= 0) & (steps < size) for steps in _reach(places, where))
    return rows[:, :, None] & columns[:, None, :]


class Cells(nn.Module):
    """Fields (N, C, R, R) of cells (N, 2) -> responses (N,) of units (N,) of a trunk's last layer, not yet activated.

    The trunk is shared, not copied; `blocks` describe it and `size` is the images' side.
    """

    def __init__(self, model: nn.Sequential, blocks: tuple[Block, ...], size: int) -> None:
        super().__init__()
        self.model, self.blocks, self.size = model, blocks, size
        self.gate = nn.Identity()  # where a gradient starts

    def forward(self, x: Tensor, places: Tensor, units: Tensor) -> Tensor:
        grid = self.size
        layers: list[dict[str, Any]] = [dict(layer.named_children()) for layer in self.model]
        *lower, last = layers
        for depth, layer in enumerate(lower, 1):
            block = self.blocks[depth - 1]
            x = F.conv2d(x, layer["conv"].weight, layer["conv"].bias, layer["conv"].stride)
            for name in block.order.split("-"):
                x = layer[name](x) if name in layer else x
            grid = block.side(grid)
            x = x * inside(places, field(self.blocks[depth:]), grid)[:, None]
        conv = last["conv"]
        out = (x * conv.weight[units]).sum((1, 2, 3))
        out = out if conv.bias is None else out + conv.bias[units]
        if "norm" in last and self.blocks[-1].order == "norm-act":
            norm = last["norm"]
            out = (out - norm.running_mean[units]) * (norm.running_var[units] + norm.eps).rsqrt()
            out = out * norm.weight[units] + norm.bias[units] if norm.affine else out
        response: Tensor = self.gate(out)
        return response
