"""A generator's images of fixed latents under many edits, without running again what lies before the edits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.models.dcgan import Generator
from probe.models.fusion import fused, subpixel
from probe.models.gan import GAN, lay_out, takes_batch_statistics
from probe.models.hooks import LATENT, capture, edit

_BATCH = 16  # images at a time: a CPU's cache holds their feature maps


@dataclass(frozen=True)
class _Begun:
    """What lies before the edits: feature maps by the number of their layer, from 1 on, and copies of all layers.

    Without feature maps everything runs again.
    """

    stems: dict[int, Tensor]
    layers: list[nn.Module]

    @classmethod
    def of(cls, gan: GAN, z: Tensor, names: Collection[str]) -> _Begun:
        """The feature maps of the named layers on latents (N, nz); none where the generator is no plain `Generator`."""
        if not isinstance(gan.generator, Generator) or gan.generator.patched:
            return cls({}, [])
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        with capture(gan.generator, list(names)) as seen:
            for _ in gan.batches(z):
                for name, kept in parts.items():
                    kept.append(seen[name])
        numbers = {f"layer{i}": i for i in range(1, len(gan.generator.blocks))}
        stems = {numbers[n]: torch.cat(kept).contiguous(memory_format=torch.channels_last) for n, kept in parts.items()}
        layers = [lay_out(fused(layer), torch.channels_last) for layer in gan.generator.layers()]
        last = getattr(layers[-1], "conv", None)
        shuffled = subpixel(last) if isinstance(last, nn.ConvTranspose2d) else None
        if shuffled:
            layers[-1].add_module("conv", shuffled)
        return cls(stems, layers)

    def take(self, rows: Tensor) -> _Begun:
        """Of some of the latents, by index (M,)."""
        return _Begun({number: x[rows.to(x.device)] for number, x in self.stems.items()}, self.layers)


class Replay:
    """A generator's images of fixed latents (N, nz) under many edits of the named layers.

    Of a `Generator` it keeps copies of the layers as they are when it is made, without hooks of their own.
    """

    def __init__(
        self,
        gan: GAN,
        z: Tensor,
        names: Collection[str],
        *,
        begun: _Begun | None = None,
        unedited: Tensor | None = None,
    ) -> None:
        self.gan, self.z, self.names = gan, z, frozenset(names)
        self.batched = takes_batch_statistics(gan.generator)  # an image depends on the others drawn with it
        self.begun = _Begun.of(gan, z, names) if begun is None else begun
        self._unedited = unedited

    @property
    def hooked(self) -> bool:
        """Whether edits are hooks on the generator itself while images are drawn, which all that use it would see."""
        return not self.begun.stems

    @property
    def unedited(self) -> Tensor:
        """The images (N, C, S, S) in [-1, 1] without an edit, on the CPU; drawn once."""
        if self._unedited is None:
            self._unedited = self._images({}, torch.arange(len(self.z)))
        return self._unedited

    def draw(self, edits: Mapping[str, Callable[[Tensor], Tensor]], rows: Tensor) -> Tensor:
        """Images (M, C, S, S) in [-1, 1] of some of the latents, by index (M,), under edits; differentiable in them."""
        assert set(edits) <= self.names | {LATENT}, (
            f"edits at {set(edits) - self.names}; this replay was not made for them"
        )
        generator, z, stems = self.gan.generator, self.z[rows].to(self.gan.device), self.begun.stems
        if self.hooked:
            with edit(generator, edits):
                images: Tensor = generator(z)
                return images
        assert isinstance(generator, Generator)
        first = min((i for i in stems if f"layer{i}" in edits), default=max(stems))
        x = stems[first][rows.to(z.device)]
        if LATENT in edits:
            other = generator.enter(edits[LATENT](z))
            for layer in self.begun.layers[:first]:
                other = layer(other)
            x = torch.cat([x, other])
        for i, layer in enumerate(self.begun.layers[first - 1 :], first):
            x = x if i == first else layer(x)
            x = edits[f"layer{i}"](x) if f"layer{i}" in edits else x
        return x

    def images(self, edits: Mapping[str, Callable[[Tensor], Tensor]], rows: Tensor | None = None) -> Tensor:
        """Images (M, C, S, S) in [-1, 1] on the CPU of some of the latents, by index (M,), or of all, under edits."""
        rows = torch.arange(len(self.z)) if rows is None else rows
        if LATENT not in edits or self.batched:
            return self._images(edits, rows)
        z = self.z[rows].to(self.gan.device)
        moved = (edits[LATENT](z) != z).flatten(1).any(1).cpu()
        images = self.unedited[rows]
        if moved.any():
            images[moved] = self._images(edits, rows[moved])
        return images

    def take(self, rows: Tensor) -> Replay:
        """The replay of some of the latents, by index (M,)."""
        if self.batched:
            return Replay(self.gan, self.z[rows], sorted(self.names))
        return Replay(self.gan, self.z[rows], self.names, begun=self.begun.take(rows), unedited=self.unedited[rows])

    @torch.no_grad()
    def _images(self, edits: Mapping[str, Callable[[Tensor], Tensor]], rows: Tensor) -> Tensor:
        if self.batched:  # in the same company whichever are asked for
            parts = torch.arange(len(self.z)).split(64)
            return torch.cat([self.draw(edits, part).cpu() for part in parts])[rows]
        return torch.cat([self.draw(edits, part).cpu() for part in rows.split(_BATCH)])
