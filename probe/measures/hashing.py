"""Semantic hashes of images: the thresholded ReLU code of a denoising autoencoder (section 4.1 of the paper).

A bit says whether a unit of the code is active. Each image is centred and scaled to unit deviation first, so that
brightness and contrast move no bit. Images are read a batch at a time and may lie on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.measures.statistics import Array

SIDE, BITS = 32, 128
_PIXELS = 3 * SIDE * SIDE
_BATCH, _LR, _BLOCK = 128, 2e-3, 4096


@dataclass(frozen=True)
class Training:
    """How the autoencoder is fitted: steps of 128 images, noise in standard deviations, dropout on its code."""

    steps: int = 2000
    noise: float = 0.3
    dropout: float = 0.5
    seed: int = 0


class Autoencoder(nn.Module):
    """A linear encoder to 128 ReLU units and a linear decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(_PIXELS, BITS), nn.Linear(BITS, _PIXELS)

    def code(self, x: Tensor) -> Tensor:
        """Standardised images (N, 3072) -> activations (N, 128), zero or above."""
        return F.relu(self.encoder(x))


def standardised(images: Array) -> Tensor:
    """Images (N, 3, 32, 32) uint8 -> rows (N, 3072) of mean 0 and deviation 1; a flat image stays near 0."""
    x = torch.from_numpy(np.array(images)).float().flatten(1)
    x = x - x.mean(1, keepdim=True)
    return x / x.square().mean(1, keepdim=True).sqrt().clamp_min(1)  # one grey level


def fit(images: Any, training: Training, report: Callable[[int, int], None] | None = None) -> Autoencoder:
    """Train an autoencoder on images (N, 3, 32, 32) uint8, also memory-mapped: squared error, Adam, 2e-3 to 0."""
    t = training
    rng, generator = np.random.default_rng(t.seed), torch.Generator().manual_seed(t.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(t.seed)
        network = Autoencoder()
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, t.steps)
    for step in range(t.steps):
        x = standardised(images[np.sort(rng.integers(0, len(images), _BATCH))])
        seen = x + t.noise * torch.randn(x.shape, generator=generator)
        code = network.code(seen)
        kept = torch.rand(code.shape, generator=generator) >= t.dropout
        loss = F.mse_loss(network.decoder(code * kept / (1 - t.dropout)), x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if report and ((step + 1) % 50 == 0 or step + 1 == t.steps):
            report(step + 1, t.steps)
    return network.eval()


def hashes(network: Autoencoder, images: Any, report: Callable[[int, int], None] | None = None) -> Array:
    """The hashes (N, 16) uint8 of images (N, 3, 32, 32) uint8, a bit set where a unit of the code is active."""
    packed = np.empty((len(images), BITS // 8), np.uint8)
    with torch.no_grad():
        for start in range(0, len(images), _BLOCK):
            code = network.code(standardised(images[start : start + _BLOCK]))
            packed[start : start + _BLOCK] = np.packbits(code.numpy() > 0, axis=1)
            if report:
                report(min(start + _BLOCK, len(images)), len(images))
    return packed
