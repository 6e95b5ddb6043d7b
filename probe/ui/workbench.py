"""The model behind the page: its samples, their feature maps, and two copies of the generator.

Edits are hooks on a running model, so that one thread at a time may use a copy. What must answer at once (a picture
while a slider moves) uses one copy, what takes seconds (proposals, forgetting) the other.
"""

from __future__ import annotations

import base64
import copy
import io
import threading

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.models.gan import GAN, to_bytes
from probe.models.hooks import Site, feature_maps, sites

SHEET = 10
"""Samples of the browser come in sheets of SHEET x SHEET."""


def png(image: Tensor | np.ndarray) -> bytes:
    """A picture as a PNG file: a tensor (C, H, W) in [-1, 1], or bytes (H, W), (H, W, 3) or (H, W, 4)."""
    pixels = to_bytes(image).permute(1, 2, 0).cpu().numpy() if isinstance(image, Tensor) else image
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=1)
    return out.getvalue()


def data_url(image: Tensor | np.ndarray) -> str:
    """A picture as text that a browser shows as it is."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def tile(images: Tensor, columns: int) -> Tensor:
    """Images (N, C, S, S) side by side as one (C, rows·S, columns·S), the rest of the last row white."""
    n, channels, size, _ = images.shape
    rows = -(-n // columns)
    full = torch.ones(rows * columns, channels, size, size)
    full[:n] = images
    grid = full.view(rows, columns, channels, size, size).permute(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * size, columns * size)


class Workbench:
    """The first n samples of a seed and what the page asks of their generator."""

    def __init__(self, gan: GAN, n: int, seed: int) -> None:
        self.quick, self.slow = gan, copy.deepcopy(gan)
        self.n, self.seed = n, seed
        self.z = gan.latents(n, seed)
        self.sites: list[Site] = sites(gan)
        self.quick_lock, self.slow_lock = threading.Lock(), threading.Lock()
        self._sheets: dict[int, bytes] = {}
        self._maps: dict[str, Tensor] = {}
        self._images: Tensor | None = None

    @property
    def site(self) -> Site:
        """The layer that labels are probed at: the last hidden one but one, mostly a quarter of the picture's side."""
        return self.sites[max(len(self.sites) - 2, 0)]

    def sheet(self, k: int) -> bytes:
        """Samples 100·k to 100·k + 99 as one PNG of 10 x 10."""
        if k not in self._sheets:
            rows = self.z[k * SHEET**2 : (k + 1) * SHEET**2]
            with self.slow_lock:
                images = self.slow.images(rows)
            self._sheets[k] = png(tile(images, SHEET))
        return self._sheets[k]

    def prepare(self) -> None:
        """Draw all sheets, in a thread of its own while the user looks at the first."""
        threading.Thread(target=lambda: [self.sheet(k) for k in range(-(-self.n // SHEET**2))], daemon=True).start()

    def draw(self, z: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] of latents, at once."""
        with self.quick_lock:
            return self.quick.images(z)

    def images(self) -> Tensor:
        """All samples (n, C, S, S) in [-1, 1]; computed once."""
        with self.slow_lock:
            if self._images is None:
                self._images = self.slow.images(self.z)
            return self._images

    def maps(self, name: str) -> Tensor:
        """Feature maps of a layer on all samples, (n, C, H, H) on the CPU; the two latest layers are kept."""
        with self.slow_lock:
            if name not in self._maps:
                found = feature_maps(self.slow, self.z, [name])
                while len(self._maps) > 1:
                    self._maps.pop(next(iter(self._maps)))
                self._maps |= found
            return self._maps[name]
