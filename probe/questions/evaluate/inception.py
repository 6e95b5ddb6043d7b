"""The Inception-v3 that FID is defined by, from a weights file that the user has: its 2,048 pooled features.

The file (`pt_inception-2015-12-05-6726825d.pth`, `weights-inception-2015-12-05-6726825d.pth`) is read as weights only:
a TorchScript, which is code, is refused. The network is TensorFlow's of 2015: averages leave out the border, the last
block takes a maximum, and images are resized as TensorFlow 1 did, without half-pixel centres.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.checkpoints.weightfiles import read

SIDE, FEATURES = 299, 2048
_ENDS = {"Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1)}


class _Inception:
    """The network as a function of its state dict, whose shapes say how wide every convolution is."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, x: Tensor, name: str, stride: int = 1, same: bool = True) -> Tensor:
        """Convolution, BatchNorm and ReLU; `same` pads so that a stride of 1 keeps the size."""
        parts = ("conv.weight", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias")
        weight, mean, variance, gain, bias = (self.state[f"{name}.{part}"].to(x.device) for part in parts)
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if same else (0, 0)
        x = F.conv2d(x, weight, None, stride, padding)
        return F.relu(F.batch_norm(x, mean, variance, gain, bias, eps=1e-3))

    def chain(self, x: Tensor, block: str, *names: str) -> Tensor:
        for name in names:
            x = self.conv(x, f"{block}.{name}")
        return x

    def pooled(self, x: Tensor, block: str, maximum: bool = False) -> Tensor:
        pool = F.max_pool2d(x, 3, 1, 1) if maximum else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return self.conv(pool, f"{block}.branch_pool")

    def square(self, x: Tensor, block: str) -> Tensor:
        """35x35: 1x1, 5x5 and two 3x3 beside each other."""
        triple = self.chain(x, block, *(f"branch3x3dbl_{i}" for i in (1, 2, 3)))
        double = self.chain(x, block, "branch5x5_1", "branch5x5_2")
        return torch.cat([self.conv(x, f"{block}.branch1x1"), double, triple, self.pooled(x, block)], 1)

    def rows_and_columns(self, x: Tensor, block: str) -> Tensor:
        """17x17: 7x7 kernels taken apart into rows and columns."""
        single = self.chain(x, block, *(f"branch7x7_{i}" for i in (1, 2, 3)))
        double = self.chain(x, block, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)))
        return torch.cat([self.conv(x, f"{block}.branch1x1"), single, double, self.pooled(x, block)], 1)

    def wide(self, x: Tensor, block: str, maximum: bool) -> Tensor:
        """8x8: rows and columns side by side."""
        single = self.conv(x, f"{block}.branch3x3_1")
        double = self.chain(x, block, "branch3x3dbl_1", "branch3x3dbl_2")
        parts = [
            (single, "branch3x3_2a"),
            (single, "branch3x3_2b"),
            (double, "branch3x3dbl_3a"),
            (double, "branch3x3dbl_3b"),
        ]
        split = [self.conv(h, f"{block}.{name}") for h, name in parts]
        return torch.cat([self.conv(x, f"{block}.branch1x1"), *split, self.pooled(x, block, maximum)], 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1 or 3, S, S) in [-1, 1] -> (N, 2048)."""
        x = _resized(images.expand(-1, 3, -1, -1) * 127.5 - 0.5) / 128  # (0 … 255 - 128) / 128
        x = self.conv(self.conv(x, "Conv2d_1a_3x3", 2, same=False), "Conv2d_2a_3x3", same=False)
        x = F.max_pool2d(self.conv(x, "Conv2d_2b_3x3"), 3, 2)
        x = F.max_pool2d(self.conv(self.conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3", same=False), 3, 2)
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.square(x, block)
        triple = self.chain(x, "Mixed_6a", "branch3x3dbl_1", "branch3x3dbl_2")
        halves = [(x, "Mixed_6a.branch3x3"), (triple, "Mixed_6a.branch3x3dbl_3")]
        x = torch.cat([*(self.conv(h, name, 2, same=False) for h, name in halves), F.max_pool2d(x, 3, 2)], 1)
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.rows_and_columns(x, block)
        single, longer = (
            self.chain(x, "Mixed_7a", *n) for n in (["branch3x3_1"], [f"branch7x7x3_{i}" for i in (1, 2, 3)])
        )
        halves = [(single, "Mixed_7a.branch3x3_2"), (longer, "Mixed_7a.branch7x7x3_4")]
        x = torch.cat([*(self.conv(h, name, 2, same=False) for h, name in halves), F.max_pool2d(x, 3, 2)], 1)
        x = self.wide(self.wide(x, "Mixed_7b", False), "Mixed_7c", True)
        return x.mean((2, 3))


def _resized(x: Tensor) -> Tensor:
    """Bilinear, as TensorFlow 1 did: pixel i of the result is taken at i·S/299, nothing beyond the last one."""
    size = x.shape[-1]
    at = (torch.arange(SIDE) * (size / SIDE)).clamp(max=size - 1)
    weights = (1 - (at[:, None] - torch.arange(size)).abs()).clamp_min(0).to(x)
    return weights @ x @ weights.T


def load_inception(path: Path) -> Callable[[Tensor], Tensor]:
    """Read a weights file; raises ProbeError where it holds anything else."""
    wanted = (
        "expected FID's Inception as a state dict: pt_inception-2015-12-05-6726825d.pth, or the same as safetensors"
    )
    tree, _ = read(path)
    state = {k: v for k, v in tree.items() if isinstance(v, Tensor)} if isinstance(tree, dict) else {}
    shapes = {name: tuple(state[name].shape) if name in state else None for name in _ENDS}
    wrong = next((name for name, shape in shapes.items() if shape != _ENDS[name]), None)
    if wrong:
        found = f"{wrong} of {shapes[wrong]}" if shapes[wrong] else f"no {wrong} among {len(state)} tensors"
        raise ProbeError(f"{path.name}: {found}; {wanted}")
    state = {k: v.float() for k, v in state.items()}
    network = _Inception(state)
    try:
        features = network(torch.zeros(1, 3, 32, 32))
    except (KeyError, RuntimeError) as error:
        raise ProbeError(f"{path.name}: lacks or misshapes {next(iter(str(error).splitlines()))}; {wanted}") from error
    if not features.isfinite().all():
        raise ProbeError(f"{path.name}: gives numbers that are not finite; {wanted}")
    return network
