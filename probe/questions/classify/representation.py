"""What a network's layers say of images, as rows of features in half precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.measures.statistics import Array
from probe.models.dcgan import initialise
from probe.models.gan import GAN, estimate_statistics, from_bytes, lay_out
from probe.models.hooks import capture, sites

GRID = 4
_BATCH = 32  # small, so that a layer's maps stay in the cache
_STATISTICS_BATCH = 128  # BatchNorm sees batches as large as in training


@dataclass(frozen=True)
class Representation:
    """Images (N, C, S, S) in [-1, 1] -> features (N, D); `parts` names the columns of each layer, if any."""

    name: str
    function: Callable[[Tensor], Tensor]
    parts: dict[str, slice] = field(default_factory=dict)


def pool(maps: Tensor, grid: int = GRID, means: bool = False) -> Tensor:
    """Feature maps (N, C, H, W), max-pooled to grid x grid at most, as rows (N, C · grid²); twice that with means."""
    if maps.shape[-1] <= grid:
        return maps.flatten(1)
    pooled = [F.adaptive_max_pool2d(maps, grid), *([F.adaptive_avg_pool2d(maps, grid)] if means else [])]
    return torch.cat(pooled, 1).flatten(1)


def of_discriminator(gan: GAN, name: str = "discriminator", means: bool = False) -> Representation:
    """The features of the paper's section 5: all of D's convolution layers after their activations.

    With `means` the mean of each cell stands beside its largest value, of layers larger than the grid.
    Raises ProbeError where the checkpoint has no discriminator, or none with feature maps.
    """
    model = gan.require_discriminator()
    found = sites(gan, "discriminator")
    if not found:
        raise ProbeError("the discriminator has no convolution layer before its logit; its features cannot be read")
    lay_out(model, torch.channels_last)
    names = [site.name for site in found]

    def function(images: Tensor) -> Tensor:
        with capture(model, names) as seen:
            model(images.to(gan.device).contiguous(memory_format=torch.channels_last))
        maps = [seen[layer].contiguous() for layer in names]
        return torch.cat([pool(m, means=means) for m in maps], 1)

    parts, start = {}, 0
    for site in found:
        end = start + site.maps * min(site.grid, GRID) ** 2 * (1 + (means and site.grid > GRID))
        parts[site.name], start = slice(start, end), end
    return Representation(name, function, parts)


def untrained_discriminator(gan: GAN, seed: int) -> GAN:
    """The same GAN with a discriminator as it was before training: the paper's initial weights, drawn from a seed."""
    model: nn.Module = copy.deepcopy(gan.require_discriminator())
    initialise(model, seed)
    return GAN(gan.generator, model, gan.nz, gan.size, gan.channels, gan.prior, dict(gan.batchnorm))


def adapt(gan: GAN, images: Array) -> None:
    """Estimate the discriminator's BatchNorm statistics anew from images (N, C, S, S) uint8, in place."""
    batches = np.array_split(images, max(1, len(images) // _STATISTICS_BATCH))
    model = gan.require_discriminator()
    estimate_statistics(model, (from_bytes(torch.from_numpy(np.array(b))).to(gan.device) for b in batches))


@dataclass(frozen=True)
class Views:
    """What is described beside each image: its mirror image (`flips`), and copies moved by up to `shifts` pixels.

    How far is drawn from `seed`; pixels at the edge are repeated. The image itself is the first of its `count` views.
    """

    flips: bool = False
    shifts: int = 0
    seed: int = 0

    @property
    def count(self) -> int:
        """How many views an image has, itself included."""
        return (1 + self.flips) * (1 + (self.shifts > 0))

    @property
    def unmoved(self) -> Views:
        """The image and, with `flips`, its mirror image: the first views of each image."""
        return Views(self.flips)

    def of(self, images: Tensor, start: int) -> Tensor:
        """Images (N, C, S, S), the first of them number `start` of all, and their views, (N · count, C, S, S)."""
        views = [images, images.flip(3)] if self.flips else [images]
        if self.shifts:
            rng = np.random.default_rng(seeds.SHIFTS.of(self.seed, start))
            views += [_moved(view, self.shifts, rng) for view in views]
        return torch.stack(views, 1).flatten(0, 1)


def _moved(images: Tensor, reach: int, rng: np.random.Generator) -> Tensor:
    """Each image moved down or up, right or left by up to `reach` pixels."""
    size, larger = images.shape[-1], F.pad(images, (reach,) * 4, mode="replicate")
    corners = rng.integers(0, 2 * reach + 1, (len(images), 2))
    return torch.stack([x[:, i : i + size, j : j + size] for x, (i, j) in zip(larger, corners, strict=True)])


def batches(
    representation: Representation, images: Array, views: Views, report: Callable[[int, int], None] | None = None
) -> Iterator[Tensor]:
    """Features of images (N, C, S, S) uint8 and their views, image after image, by batches; float32 on the CPU."""
    for start in range(0, len(images), _BATCH):
        x = from_bytes(torch.from_numpy(np.array(images[start : start + _BATCH])))
        with torch.no_grad():
            yield representation.function(views.of(x, start)).cpu()
        if report:
            report(min(start + _BATCH, len(images)), len(images))


def rows(
    representation: Representation,
    images: Array,
    views: Views = Views(),
    report: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Features of images (N, C, S, S) uint8 and their views as float16 (N · count, D).

    Raises ProbeError for features that are not finite, or too large for half precision.
    """
    out, done = torch.empty(0), 0
    for batch in batches(representation, images, views, report):
        if not done:
            out = torch.empty(len(images) * views.count, batch.shape[1], dtype=torch.float16)
        largest = float(batch.abs().max())
        if not largest < 65_504:  # nan, too
            raise ProbeError(f"{representation.name}: a feature of {largest:.3g}; expected finite ones below 65504")
        out[done : done + len(batch)] = batch
        done += len(batch)
    return out


def pixels(size: int, channels: int) -> Representation:
    """The image itself, a colour after another."""
    return Representation("pixels", lambda images: images.flatten(1), {"pixels": slice(0, size * size * channels)})
