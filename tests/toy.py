"""A toy generator whose concept is known by construction, and a segmenter that sees it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.models.gan import GAN

SIZE, MAPS = 32, 6


class Toy(nn.Module):
    """Map 0 holds a bright "window" in one of four corners where z_0 > 0; the other maps hold smooth wallpaper.

    Where it is `smooth`, the window fades as z_0 falls to 0.
    """

    def __init__(self, smooth: bool = False) -> None:
        super().__init__()
        self.smooth = smooth
        self.first, self.second = nn.ReLU(), nn.ReLU()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("paper", torch.rand(MAPS, 8, 8, generator=generator))
        self.mix = nn.Parameter(torch.rand(3, MAPS, generator=generator) * 0.08)

    def forward(self, z: Tensor) -> Tensor:
        maps = self.paper * (1 + 0.3 * z[:, 1 : MAPS + 1, None, None])
        maps[:, 0] = 0
        corner = (z[:, 7] > 0).long() * 2 + (z[:, 8] > 0).long()
        for i in torch.nonzero(z[:, 0] > 0)[:, 0].tolist():
            y, x = 1 + 4 * (corner[i] // 2), 1 + 4 * (corner[i] % 2)
            maps[i, 0, y : y + 2, x : x + 2] = (4 * z[i, 0]).clamp(max=4) if self.smooth else 4.0
        h = self.first(maps)
        h = self.second(h.repeat_interleave(2, 2).repeat_interleave(2, 3))  # (N, 6, 16, 16)
        image = torch.einsum("nchw,dc->ndhw", h, self.mix)
        image[:, 0] = image[:, 0] + 0.4 * h[:, 0]
        return torch.tanh(image - 0.8).repeat_interleave(2, 2).repeat_interleave(2, 3)  # (N, 3, 32, 32)


class Segmenter:
    """Sees a window where the red channel is bright."""

    objects = ("background", "window")

    def labels(self, images: Tensor, batch: int = 64) -> Tensor:
        return (images[:, 0] > 0.2).to(torch.uint8)

    def scores(self, images: Tensor) -> Tensor:
        bright = 20 * (images[:, 0] - 0.2)
        return torch.stack([-bright, bright], 1)


def toy_gan(smooth: bool = False) -> GAN:
    return GAN(Toy(smooth).eval(), None, nz=10, size=SIZE, channels=3)
