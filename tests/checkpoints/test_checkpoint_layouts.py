"""Checkpoints of no known tool: names, biases, kernels, sizes and norms in combinations, against the module itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe import checkpoints
from tests.originals import (
    NZ,
    Named,
    main_g,
    normal_latents,
    randomised,
    same,
    sequential_d,
    sequential_g,
    settled,
    settled_pair,
    up,
)


@pytest.mark.parametrize("name", ["layer_stack", "gen", "net", "model"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_sequential_of_any_name(tmp_path: Path, name: str, bias: bool, dropout: bool) -> None:
    g = randomised(Named(name, sequential_g(bias=bias, dropout=dropout)))
    d = randomised(Named(name, sequential_d(bias=bias, dropout=dropout)), 1)
    settled_pair(g, d)
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pt")
    same(checkpoints.load(tmp_path / "a.pt"), g, d)


class Attributes(nn.Module):
    """Layers as attributes, all convolutions before all norms, the norms' numbers off by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5, 2, 2), nn.Conv2d(8, 16, 5, 2, 2)
        self.conv3, self.fc = nn.Conv2d(16, 24, 5, 2, 2), nn.Linear(24 * 16, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm2d(24)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.bn1(self.conv2(x)), 0.2)
        return self.fc(F.leaky_relu(self.bn2(self.conv3(x)), 0.2).flatten(1))


class Projected(nn.Module):
    """A projection with BatchNorm over maps or over units, then kernels of one size."""

    def __init__(self, kernel: int, unit: bool) -> None:
        super().__init__()
        self.fc, self.bn0 = nn.Linear(NZ, 16 * 49), nn.BatchNorm1d(16 * 49) if unit else nn.BatchNorm2d(16)
        shape = (kernel, 2, (kernel - 1) // 2, kernel % 2)
        self.up1, self.bn1, self.up2 = (
            nn.ConvTranspose2d(16, 8, *shape),
            nn.BatchNorm2d(8),
            nn.ConvTranspose2d(8, 1, *shape),
        )

    def forward(self, z: Tensor) -> Tensor:
        x = self.fc(z)
        x = self.bn0(x).view(-1, 16, 7, 7) if isinstance(self.bn0, nn.BatchNorm1d) else self.bn0(x.view(-1, 16, 7, 7))
        return self.up2(F.relu(self.bn1(self.up1(F.relu(x))))).tanh()


@pytest.mark.parametrize("kernel", [3, 4, 5, 6])
@pytest.mark.parametrize("unit", [False, True])
def test_projection_and_kernels(tmp_path: Path, kernel: int, unit: bool) -> None:
    g = settled(randomised(Projected(kernel, unit)), normal_latents(flat=True))
    torch.save(g.state_dict(), tmp_path / "g.pt")
    gan = checkpoints.load(tmp_path / "g.pt")
    same(gan, g, flat=True)
    assert checkpoints.describe(gan)["generator"]["kernel"] == kernel
    assert gan.size == 28


def test_attributes_and_linear_discriminator(tmp_path: Path) -> None:
    g, d = settled_pair(main_g(kernel=5), randomised(Attributes(), 1))
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pt")
    same(checkpoints.load(tmp_path / "a.pt"), g, d, logits=True)


@pytest.mark.parametrize(
    "layers",
    [
        [(NZ, 16, 3, 2), (16, 12, 4, 1), (12, 8, 3, 2), (8, 1, 4, 2)],
        [(NZ, 16, 4, 1), (16, 12, 3, 2, 1), (12, 8, 4, 2, 1), (8, 1, 4, 2, 1)],
        [(NZ, 16, 4, 1), (16, 12, 4, 2, 1), (12, 8, 4, 2, 1), (8, 6, 4, 2, 1), (6, 1, 1, 1, 2)],
        [(NZ, 16, 7, 1), (16, 8, 4, 2, 1), (8, 1, 4, 2, 1)],
    ],
)
@pytest.mark.parametrize(
    "d",
    [
        nn.Sequential(
            nn.Conv2d(1, 8, 4, 2), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 4, 2), nn.LeakyReLU(0.2), nn.Conv2d(12, 1, 4, 2)
        ),
        nn.Sequential(
            *(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(12, 16, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, 1, 0)),
        ),
        nn.Sequential(
            *(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(12, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, 2, 1)),
        ),
    ],
)
def test_28_pixels(tmp_path: Path, layers: list[tuple[int, ...]], d: nn.Module) -> None:
    g, d = settled_pair(randomised(Named("gen", up(*layers))), randomised(Named("disc", d), 1))
    torch.save({"gen": g.state_dict(), "disc": d.state_dict()}, tmp_path / "mnist.pt")
    same(checkpoints.load(tmp_path / "mnist.pt"), g, d, logits=True)


def test_spectral_norm_of_both_kinds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    new, old = nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm
    g = nn.Sequential(nn.ConvTranspose2d(NZ, 8, 4), nn.ReLU(), old(nn.ConvTranspose2d(8, 8, 4, 2, 1)), nn.ReLU())
    g.extend([new(nn.ConvTranspose2d(8, 3, 4, 2, 1)), nn.Tanh()]).eval()
    d = nn.Sequential(
        new(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2), old(nn.Conv2d(8, 8, 4, 2, 1)), nn.LeakyReLU(0.2)
    )
    d.extend([new(nn.Conv2d(8, 1, 4))]).eval()
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "sn.pt")
    same(checkpoints.load(tmp_path / "sn.pt"), g, d, logits=True)
