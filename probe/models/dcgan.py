"""The DCGAN of Radford et al. 2015, as a list of blocks, for any image size, width and kernel.

    Block                        one layer: projection or (transposed) convolution, BatchNorm, activation
    generator_blocks(...)        the five guidelines of the paper as a list of blocks
    discriminator_blocks(...)    likewise
    Erase, Patch                 optional edits behind a layer
    Generator, Discriminator     modules built from such lists; foreign checkpoints are read into the same

The guidelines (section 3 of the paper): strided convolutions instead of pooling; BatchNorm in both networks but
not on the generator's output and the discriminator's input layer; no hidden fully connected layer; ReLU in the
generator and tanh on its output; LeakyReLU(0.2) in the discriminator.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError

Kind = Literal["linear", "conv", "deconv"]
Norm = Literal["none", "map", "unit", "instance", "pixel"]
Order = Literal["norm-act", "act-norm"]
Interpolation = Literal["nearest", "bilinear"]
Activation = Literal["none", "relu", "leaky", "prelu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"]


@dataclass(frozen=True)
class Block:
    """One layer of a DCGAN.

    The convolution or projection is followed by `norm` and `activation`, or in the order `act-norm` the other way round.
    `norm` is BatchNorm over each feature map (`map`) or, for a linear layer, over each of its outputs (`unit`); `instance`
    normalises each image's maps by themselves, `pixel` each place by the root mean square of its maps. `affine` says
    whether gain and bias follow (never for `pixel`). `slope` is that of `leaky`, `slopes` the number of learned slopes of
    `prelu`, 1 or one a map.
    `grid` is the side of the square a generator's linear layer is folded into; its `outputs` are then feature maps.
    `upsample` is the factor by which maps are enlarged before the convolution. `pad` counts the rows and columns of zeros
    put (before, after) the maps of a convolution besides `padding`, `crop` those cut (before, after) from what a
    transposed one gives. `unit_range` says that its images are in [0, 1], to be brought to [-1, 1], and `resize` the side to
    which they are then interpolated (bilinear); `unit_input` that it takes images in [0, 1], made of those in [-1, 1]. `pool` is
    the side of the squares of which a discriminator's layer keeps the largest number.
    `erase` and `patch` count the directions of an `Erase` or `Patch` edit behind it, which an ordinary DCGAN does not have;
    one layer at most carries a patch.
    """

    kind: Kind
    inputs: int
    outputs: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1
    output_padding: int = 0
    bias: bool = False
    norm: Norm = "map"
    activation: Activation = "relu"
    eps: float = 1e-5
    slope: float = 0.2
    grid: int = 1
    erase: int = 0
    patch: int = 0
    order: Order = "norm-act"
    affine: bool = True
    slopes: int = 1
    upsample: int = 1
    interpolation: Interpolation = "nearest"
    pad: tuple[int, int] = (0, 0)
    crop: tuple[int, int] = (0, 0)
    unit_range: bool = False
    resize: int = 0
    unit_input: bool = False
    pool: int = 1

    def __post_init__(self) -> None:
        for name in ("pad", "crop"):  # JSON knows no tuples
            before, after = getattr(self, name)
            object.__setattr__(self, name, (int(before), int(after)))
        if min(*self.pad, *self.crop, self.resize) < 0 or self.upsample < 1 or self.pool < 1:
            raise ValueError("a layer with negative margins or sides")

    def side(self, before: int) -> int:
        """The side of its feature maps where those before have side `before`, latents 1."""
        return self.resize or self.convolved(before) // self.pool

    def convolved(self, before: int) -> int:
        """The side of its feature maps ahead of `resize` and `pool`."""
        if self.kind == "linear":
            return self.grid
        before *= self.upsample
        if self.kind == "conv":
            return (before + 2 * self.padding + sum(self.pad) - self.kernel) // self.stride + 1
        full = (before - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding
        return full - sum(self.crop)


class Resize(nn.Module):
    """Maps (N, C, H, W) interpolated to a side, or enlarged by a factor."""

    def __init__(self, side: int | None = None, factor: int | None = None, mode: Interpolation = "bilinear") -> None:
        super().__init__()
        self.side, self.factor, self.mode = side, factor, mode

    def forward(self, x: Tensor) -> Tensor:
        corners = None if self.mode == "nearest" else False
        return F.interpolate(x, self.side, self.factor, self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        return f"side={self.side}, factor={self.factor}, mode={self.mode}"


class Margin(nn.Module):
    """Rows and columns of zeros put (before, after) feature maps, or cut from them where the numbers are negative."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.sides = [before, after] * 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.sides)

    def extra_repr(self) -> str:
        return f"before={self.sides[0]}, after={self.sides[1]}"


class PixelNorm(nn.Module):
    """Each place of feature maps (N, C, H, W), or each row of (N, C), divided by the root mean square of its maps."""

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + self.eps).rsqrt()


class ToUnit(nn.Module):
    """Images in [-1, 1] -> [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class FromUnit(nn.Module):
    """Images in [0, 1] -> [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class Erase(nn.Module):
    """One-sided erasure of K directions at every place: x -> max(0, x - Σ_k max(0, w_k·x + b_k) v_k), maps (N, C, H, W).

    An edit that `surgery.erase` puts behind a layer; w (`weight`, (K, C)), b (`bias`, (K,)) and v (`step`, (K, C)) are
    its buffers.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor

    def __init__(self, maps: int, directions: int = 1) -> None:
        super().__init__()
        for name, shape in (("weight", (directions, maps)), ("bias", (directions,)), ("step", (directions, maps))):
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        excess = torch.relu(torch.einsum("nchw,kc->nkhw", x, self.weight) + self.bias[:, None, None])
        floor = x.clamp(max=0)  # zero after a ReLU; what was negative already stays
        return torch.maximum(x - torch.einsum("nkhw,kc->nchw", excess, self.step), floor)  # (N, C, H, W)


class Patch(nn.Module):
    """Activation patching: where a gate opens, a layer's features are taken from a counterfactual latent z'.

    z' = clip(z - Σ_k max(0, w_k·z + b_k) v_k, -limit, limit); at every place x -> x + m·(x' - x), x' the layer's features
    of z', m = clip(u·x + c, 0, 1). `surgery.patch` puts it into a generator; w (`weight`, (K, nz)), b (`bias`, (K,)),
    v (`step`, (K, nz)), u (`gate`, (maps,)), c (`threshold`, ()) and `limit` are its buffers.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor
    gate: Tensor
    threshold: Tensor
    limit: Tensor

    def __init__(self, nz: int, maps: int, directions: int = 1) -> None:
        super().__init__()
        shapes = {"weight": (directions, nz), "bias": (directions,), "step": (directions, nz)}
        for name, shape in (shapes | {"gate": (maps,), "threshold": (), "limit": ()}).items():
            self.register_buffer(name, torch.zeros(shape))

    def counterfactual(self, z: Tensor) -> Tensor:
        """Latents (N, nz) moved off the concept."""
        # products and sums, since autocast would round a matrix product
        excess = torch.relu((z[:, None] * self.weight).sum(-1) + self.bias)  # (N, K)
        moved = z - (excess[:, :, None] * self.step).sum(1)
        return torch.minimum(torch.maximum(moved, -self.limit), self.limit)

    def opened(self, x: Tensor) -> Tensor:
        """How far the gate opens at each place of feature maps x (N, maps, H, W), (N, 1, H, W) in [0, 1]."""
        return (torch.einsum("nchw,c->nhw", x, self.gate) + self.threshold).clamp(0, 1)[:, None].to(x.dtype)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Feature maps x (N, maps, H, W) with those of the counterfactual latents where the gate opens."""
        return torch.lerp(x, other, self.opened(x))


class Layer(nn.Sequential):
    """A block as a module: `conv` (or `project`), then `norm` and `act` where it has them, in the block's order.

    Before and behind them stand, where the block has them, `unit` (to [0, 1]), `upsample`, `pad`, `crop`, `fold`, `signed` (from [0, 1]),
    `resize`, `pool` and `erase`.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        b = block
        if b.unit_input:
            self.add_module("unit", ToUnit())
        if b.upsample > 1:
            self.add_module("upsample", Resize(factor=b.upsample, mode=b.interpolation))
        if any(b.pad):
            self.add_module("pad", Margin(*b.pad))
        if b.kind == "linear":
            self.add_module("project", nn.Linear(b.inputs, b.outputs * b.grid**2, bias=b.bias))
        elif b.kind == "conv":
            self.add_module("conv", nn.Conv2d(b.inputs, b.outputs, b.kernel, b.stride, b.padding, bias=b.bias))
        else:
            deconv = nn.ConvTranspose2d(
                b.inputs, b.outputs, b.kernel, b.stride, b.padding, b.output_padding, bias=b.bias
            )
            self.add_module("conv", deconv)
        if any(b.crop):
            self.add_module("crop", Margin(-b.crop[0], -b.crop[1]))
        parts = {"norm": _norm(b), "act": _activation(b), "fold": _fold(b)}
        order = b.order.split("-")
        order.insert(order.index("norm") + 1 if b.norm == "unit" else 0, "fold")
        for name in order:
            if (part := parts[name]) is not None:
                self.add_module(name, part)
        if b.unit_range:
            self.add_module("signed", FromUnit())
        if b.resize:
            self.add_module("resize", Resize(side=b.resize))
        if b.pool > 1:
            self.add_module("pool", nn.MaxPool2d(b.pool))
        if b.erase:
            self.add_module("erase", Erase(b.outputs, b.erase))


def _norm(b: Block) -> nn.Module | None:
    if b.norm == "unit":
        return nn.BatchNorm1d(b.outputs * b.grid**2, eps=b.eps, affine=b.affine)
    if b.norm == "map":
        return nn.BatchNorm2d(b.outputs, eps=b.eps, affine=b.affine)
    if b.norm == "instance":
        return nn.InstanceNorm2d(b.outputs, eps=b.eps, affine=b.affine)
    return PixelNorm(b.eps) if b.norm == "pixel" else None


def _activation(b: Block) -> nn.Module | None:
    if b.activation == "leaky":
        return nn.LeakyReLU(b.slope)
    if b.activation == "prelu":
        return nn.PReLU(b.slopes)
    kinds = {"relu": nn.ReLU, "elu": nn.ELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
    return None if b.activation == "none" else (kinds | {"sigmoid": nn.Sigmoid})[b.activation]()


def _fold(b: Block) -> nn.Module | None:
    return nn.Unflatten(1, (b.outputs, b.grid, b.grid)) if b.grid > 1 else None


def kernel_geometry(kernel: int) -> tuple[int, int]:
    """Padding and output padding that make a stride-2 transposed convolution exactly double its input (and a convolution halve it)."""
    return (kernel - 1) // 2, kernel % 2


def stages(size: int) -> tuple[int, int]:
    """Split an image side into a first grid of 4 to 7 and the number of doublings; Raises ProbeError otherwise."""
    grid, doublings = size, 0
    while grid > 7 and grid % 2 == 0:
        grid, doublings = grid // 2, doublings + 1
    if not 4 <= grid <= 7 or doublings < 2:
        raise ProbeError(
            f"image size {size}: not 4, 5, 6 or 7 times a power of two of at least 4; try 28, 32, 64 or 128"
        )
    return grid, doublings


def generator_blocks(size: int = 64, channels: int = 3, nz: int = 100, width: int = 64, kernel: int = 4) -> list[Block]:
    """Blocks of a generator of `size` px: `width` maps before the output, doubling at each halving of the grid."""
    grid, doublings = stages(size)
    pad, extra = kernel_geometry(kernel)
    maps = [width * 2**i for i in reversed(range(doublings))]
    blocks = [Block("deconv", nz, maps[0], grid, 1, 0)]
    blocks += [Block("deconv", a, b, kernel, 2, pad, extra) for a, b in itertools.pairwise(maps)]
    return [*blocks, Block("deconv", width, channels, kernel, 2, pad, extra, norm="none", activation="tanh")]


def discriminator_blocks(
    size: int = 64, channels: int = 3, width: int = 64, kernel: int = 4, depth: int = 1
) -> list[Block]:
    """Blocks of the mirror-image discriminator; the last has one output, a logit.

    `depth` is the number of convolutions a scale. With one, each halves the grid. With more, all are 3x3 and the last of
    a scale halves it: 32 px, width 128 and depth 2 give 128-128-256-256-512-512 maps, 1,792 in all as in Table 1.
    """
    grid, doublings = stages(size)
    kernel = kernel if depth == 1 else 3
    maps = [channels, *(width * 2**i for i in range(doublings) for _ in range(depth))]
    blocks = [
        Block("conv", a, b, kernel, 1 if i % depth else 2, (kernel - 1) // 2, norm="map" if i > 1 else "none", activation="leaky")
        for i, (a, b) in enumerate(itertools.pairwise(maps), 1)
    ]  # fmt: skip
    return [*blocks, Block("conv", maps[-1], 1, grid, 1, 0, norm="none", activation="none")]


class _Stack(nn.Module):
    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        for i, block in enumerate(blocks):
            self.add_module(f"layer{i + 1}", Layer(block))

    def layers(self) -> list[nn.Module]:
        """The layers in order; all but the last hold feature maps."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.blocks))]


class Generator(_Stack):
    """Latents (N, nz) or (N, nz, 1, 1) -> images (N, channels, size, size) in [-1, 1]."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__(blocks)
        for block in blocks:
            if block.patch:
                self.patch = Patch(blocks[0].inputs, block.outputs, block.patch)

    @property
    def nz(self) -> int:
        return self.blocks[0].inputs

    @property
    def patched(self) -> int | None:
        """The number of the layer that carries a patch, from 1 on."""
        return next((i for i, block in enumerate(self.blocks, 1) if block.patch), None)

    def enter(self, z: Tensor) -> Tensor:
        """Latents in the shape that the first layer takes."""
        x = z.flatten(1)  # (N, nz)
        return x if self.blocks[0].kind == "linear" else x[:, :, None, None]  # (N, nz, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        layers, at = self.layers(), self.patched
        x = other = self.enter(z)
        if at:
            other = self.enter(self.patch.counterfactual(z.flatten(1)))
            for layer in layers[:at]:
                other = layer(other)
        for i, layer in enumerate(layers, 1):
            x = layer(x)
            if i == at:
                x = self.patch(x, other)
        return x  # (N, channels, size, size)


class Discriminator(_Stack):
    """Images (N, channels, size, size) in [-1, 1] -> logits (N,); a final sigmoid of a checkpoint is left out."""

    def forward(self, x: Tensor) -> Tensor:
        for block, layer in zip(self.blocks, self.layers(), strict=True):
            x = layer(x.flatten(1) if block.kind == "linear" else x)
        return x.flatten(1).mean(1)  # (N,)


def initialise(model: nn.Module, seed: int) -> None:
    """The paper's initial weights: N(0, 0.02) for every kernel, N(1, 0.02) for BatchNorm's gain, zero biases.

    They are drawn on the CPU, so that a seed's weights are the same wherever the model is.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                mean = 0.0
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                mean = 1.0
            else:
                continue
            drawn = torch.empty_like(module.weight, device="cpu")  # of the same strides, by which draws are laid out
            module.weight.copy_(drawn.normal_(mean, 0.02, generator=generator))
            if module.bias is not None:
                module.bias.zero_()
