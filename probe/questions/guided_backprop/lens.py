"""Looking through a discriminator at one of its layers: responses of its units, and gradients of single responses.

A response is what goes into the layer's own activation. Activations are monotone, so its maxima are those of the
feature map; and where the map is positive its gradient is the same, since the activation's own is 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerActivation, NeuronGradient
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.data.loading import Images
from probe.models.dcgan import Block, Discriminator
from probe.models.gan import GAN, estimate_statistics, from_bytes
from probe.models.hooks import Site
from probe.questions.guided_backprop.receptive import Cells, Field, cut, field, inside, is_local, trunk
from probe.questions.guided_backprop.rules import Rectifier, Rule, check_path, replaced

BATCH = 128  # the paper's; with BatchNorm by batch it decides what a response is
_CROPS = 64  # the fastest batch of crops on the machines tried

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """`count` images by index: `fetch` takes rows (M,), gives (M, C, S, S) in [-1, 1]; `classes` (count,) or None."""

    name: str
    count: int
    fetch: Callable[[Tensor], Tensor]
    classes: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None

    def parts(self, n: int | None = None) -> list[Tensor]:
        """The rows of all images, or of n spread evenly, by batches; a last single image joins the one before."""
        rows = torch.arange(self.count)
        if n is not None and n < self.count:  # not the first: a folder comes sorted by classes
            rows = torch.arange(n) * self.count // n
        parts = list(rows.split(BATCH))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def some(self, n: int) -> Tensor:
        """At most n images, spread evenly."""
        return torch.cat([self.fetch(rows) for rows in self.parts(n)])

    def batches(self, n: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and images, of all or of n spread evenly, a batch at a time."""
        for rows in self.parts(n):
            yield rows, self.fetch(rows)


def from_images(images: Images) -> Source:
    """The prepared images of a data source."""

    def fetch(rows: Tensor) -> Tensor:
        return from_bytes(torch.from_numpy(np.asarray(images.images[rows.numpy()])))

    return Source(images.name, len(images.images), fetch, images.labels)


def from_samples(gan: GAN, n: int, seed: int) -> Source:
    """The generator's own samples, drawn again whenever they are asked for."""
    z = gan.latents(n, seed)
    return Source(f"samples:{n}@{seed}", n, lambda rows: gan.images(z[rows]))


class Lens:
    """A discriminator up to a layer, as a copy whose activations go back by a rule.

    Of probe's own `Discriminator` only the cell asked for is computed, from its receptive field (`field`); of any other
    module, and where a norm makes a cell depend on the whole image, that image (`field` covers it). `rectifiers` counts
    the replaced activations up to and including the layer's own, `before` those that a gradient goes through.
    """

    def __init__(self, discriminator: nn.Module, site: Site, size: int, channels: int, rule: Rule) -> None:
        own = isinstance(discriminator, Discriminator) and is_local(discriminator.blocks[: site.rank])
        device = next(discriminator.parameters()).device
        model = trunk(discriminator, site.name) if own else copy.deepcopy(discriminator)  # type: ignore[arg-type]
        self.site, self.size, self.channels, self.rule, self.device = site, size, channels, rule, device
        self.model, _ = replaced(model, rule)
        self.model.eval()
        layer = self.model.get_submodule(site.name)
        self.gate = dict(layer.named_children()).get("act", layer)
        self._into = isinstance(self.gate, Rectifier)  # the response is what goes in, not what comes out
        blocks: tuple[Block, ...] = discriminator.blocks[: site.rank] if own else ()  # type: ignore[index,assignment]
        self.cells = Cells(self.model, blocks, size) if own else None  # type: ignore[arg-type]
        self.field = field(blocks) if own else Field(size, 0, 0)
        self.before = self._check()
        self.rectifiers = self.before + self._into

    def _check(self) -> int:
        """Run two grey images, and refuse activations before the layer that no rule reaches."""
        seen: list[Tensor] = []
        hook = self.gate.register_forward_hook(lambda _, args, out: seen.append(args[0] if self._into else out))
        try:
            with torch.enable_grad():
                x = torch.zeros(2, self.channels, self.size, self.size, device=self.device, requires_grad=True)
                self.model(x)
        except (RuntimeError, ValueError) as error:
            raise ProbeError(
                f"the discriminator does not take images of {self.channels} channels and {self.size} px: "
                f"{str(error).splitlines()[0]}"
            ) from None
        finally:
            hook.remove()
        assert len(seen) == 1, f"{self.site.name} ran {len(seen)} times"
        return check_path(self.model, seen[0])

    def settle(self, images: Tensor) -> None:
        """Take BatchNorm's statistics from one batch of images (N, C, S, S)."""
        estimate_statistics(self.model, [images.to(self.device)])

    def responses(self, images: Tensor) -> Tensor:
        """Responses (N, units, H, W) on images (N, C, S, S) in [-1, 1]."""
        attribution = LayerActivation(self.model, self.gate)
        with torch.no_grad():
            out: Tensor = attribution.attribute(images.to(self.device), attribute_to_layer_input=self._into)
        return out

    def gradients(self, images: Tensor, units: Tensor, places: Tensor) -> Tensor:
        """Gradient (N, C, R, R) of the response of unit (N,) at place (N, 2) of image n, in its receptive field.

        Images (N, C, S, S) in [-1, 1]; where a field leaves the image the gradient is zero.
        """
        parts = []
        for rows in torch.arange(len(images)).split(_CROPS):
            x, unit, at = images[rows].to(self.device), units[rows].to(self.device), places[rows].to(self.device)
            if self.cells is None:

                def pick(out: Tensor, unit: Tensor = unit, at: Tensor = at) -> Tensor:
                    return out[torch.arange(len(out), device=out.device), unit, at[:, 0], at[:, 1]]

                attribution = NeuronGradient(self.model, self.gate)
                part = attribution.attribute(x.requires_grad_(), pick, attribute_to_neuron_input=self._into)
            else:
                fields = cut(x, at, self.field).requires_grad_()
                attribution = NeuronGradient(self.cells, self.cells.gate)
                part = attribution.attribute(fields, lambda out: out, additional_forward_args=(at, unit))
                part = part * inside(at, self.field, self.size)[:, None]
            parts.append(part.detach().cpu())
        return torch.cat(parts)


@dataclass(frozen=True, kw_only=True)
class Top:
    """The largest responses of units (U,): `values` (U, K), falling, `images` (U, K) by row, `places` (U, K, 2).

    Each is of another image. `spread` (U,) is how far the largest lies from the unit's mean over all places, in its
    standard deviations.
    """

    units: Tensor
    values: Tensor
    images: Tensor
    places: Tensor
    spread: Tensor

    def rows(self, picked: Sequence[int]) -> Top:
        """Only some of the units, by position."""
        at = torch.tensor(list(picked))
        return Top(
            units=self.units[at],
            values=self.values[at],
            images=self.images[at],
            places=self.places[at],
            spread=self.spread[at],
        )


def scan(lens: Lens, source: Source, units: Sequence[int], k: int, by_batch: bool, tell: Tell) -> Top:
    """The k images, and the place in each, at which each unit responds most; of equal ones the first.

    With `by_batch` BatchNorm takes the statistics of each batch of 128 images.
    """
    chosen = torch.tensor(list(units))
    values = torch.full((k, len(chosen)), -torch.inf)
    images, cells = torch.zeros(k, len(chosen), dtype=torch.long), torch.zeros(k, len(chosen), dtype=torch.long)
    total, squares, places, width = torch.zeros(len(chosen)).double(), torch.zeros(len(chosen)).double(), 0, 1
    for rows, x in source.batches():
        if by_batch:
            lens.settle(x)
        found = lens.responses(x)[:, chosen].cpu()
        width = found.shape[-1]
        flat = found.flatten(2)
        places += flat.shape[0] * flat.shape[2]
        total += flat.sum((0, 2), dtype=torch.double)
        squares += flat.square().sum((0, 2), dtype=torch.double)
        best, cell = flat.max(2)  # (batch, units): one place an image
        every = torch.cat([values, best])
        values, order = every.sort(dim=0, descending=True, stable=True)
        values, order = values[:k], order[:k]
        images = torch.cat([images, rows[:, None].expand_as(cell)]).gather(0, order)
        cells = torch.cat([cells, cell]).gather(0, order)
        tell(int(rows[-1]) + 1, source.count)
    mean = total / places
    deviation = (squares / places - mean**2).clamp(min=1e-12).sqrt()
    spread = ((values[0] - mean) / deviation).float()
    where = torch.stack([cells.T // width, cells.T % width], -1)
    return Top(units=chosen, values=values.T.contiguous(), images=images.T.contiguous(), places=where, spread=spread)


def gradients(lens: Lens, source: Source, top: Top, by_batch: bool) -> Tensor:
    """Gradients (U, K, C, R, R) of what a scan found, in receptive fields; with the statistics of the scan's batch."""
    units = top.units[:, None].expand_as(top.images).flatten()
    images, places = top.images.flatten(), top.places.flatten(0, 1)
    out = torch.zeros(len(units), lens.channels, lens.field.size, lens.field.size)
    for rows in source.parts() if by_batch else [torch.arange(source.count)]:
        group = torch.nonzero((images >= rows[0]) & (images <= rows[-1])).flatten()
        if by_batch and len(group):
            lens.settle(source.fetch(rows))
        for part in group.split(_CROPS):
            out[part] = lens.gradients(source.fetch(images[part]), units[part], places[part])
    shaped: Tensor = out.unflatten(0, top.images.shape)
    return shaped
