"""Units by eye: their feature maps over a sample, in a useful order, and what switching them does to the picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.concepts.probing import logistic
from probe.concepts.units import unit_ious
from probe.measures.statistics import Array
from probe.models.hooks import Site, capture, cover, edit, within
from probe.ui.suggest import LEAST, counts, labelled
from probe.ui.workbench import Workbench

ORDERS = ("number", "activation here", "probe weight", "IoU with boxes")
_STRONG = 0.99  # quantile of a unit's activations over all samples that `on` sets it to, as GAN Dissection's painter
_COARSE = 32


def heat(bench: Workbench, site: Site, sample: int, columns: int) -> Array:
    """A layer's maps on one sample as RGBA bytes (rows·H, columns·H, 4), transparent where a unit is silent.

    Unit u is tile u, row by row. Each is scaled by its own largest value on the sample; negative values count as
    silent.
    """
    with bench.quick_lock, capture(bench.quick.generator, [site.name]) as seen:
        bench.quick.images(bench.z[sample : sample + 1])
        maps = seen[site.name][0].float().cpu().clamp(min=0)  # (C, H, H)
    scaled = (maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-6)).numpy()
    rows = -(-site.maps // columns)
    tiles = np.zeros((rows * columns, site.grid, site.grid))
    tiles[: site.maps] = scaled
    split = tiles.reshape(rows, columns, site.grid, site.grid).transpose(0, 2, 1, 3)
    sheet = split.reshape(rows * site.grid, columns * site.grid)
    colour = np.stack([np.full_like(sheet, 255), 255 * (0.25 + 0.6 * sheet**2), 60 * sheet, 230 * sheet], -1)
    return colour.round().astype(np.uint8)


def rank(bench: Workbench, site: Site, by: str, sample: int, boxes: Boxes | None) -> list[tuple[int, float]]:
    """Units with their values, the largest first (by number: as they stand); raises ProbeError for too few labels."""
    if by == "number":
        return [(u, 0.0) for u in range(site.maps)]
    if by == "activation here":
        with bench.quick_lock, capture(bench.quick.generator, [site.name]) as seen:
            bench.quick.images(bench.z[sample : sample + 1])
            values = seen[site.name][0].float().cpu().mean((1, 2))
    elif boxes is None or min(counts(boxes)) < LEAST:
        raise ProbeError(f"{by}: needs {LEAST} labelled samples with a box and {LEAST} without")
    else:
        found = labelled(bench, boxes, site.name)
        if by == "probe weight":
            values = torch.from_numpy(logistic(found.gather(site.name, "same-image", bench.seed)).coef_[0])
        else:
            values, _ = unit_ious(found.maps[site.name], boxes_masks(boxes, bench.quick.size))
    order = values.argsort(descending=True, stable=True).tolist()
    return [(u, float(values[u])) for u in order]


def boxes_masks(boxes: Boxes, size: int) -> Tensor:
    """Filled boxes at a coarse grid, (N, S, S) boolean: units are no finer."""
    side = min(_COARSE, size)
    return torch.stack([boxes.cells(i, side, size) for i in boxes.images])


@dataclass
class Switches:
    """Units of one layer switched off or on; `region` (S, S) in [0, 1] by pixel, or None for everywhere."""

    off: set[int] = field(default_factory=set)
    on: set[int] = field(default_factory=set)
    region: Tensor | None = None

    def set(self, units: list[int], to: str) -> None:
        """Switch units `off`, `on`, or back to `as is`."""
        self.off -= set(units)
        self.on -= set(units)
        if to == "off":
            self.off |= set(units)
        elif to == "on":
            self.on |= set(units)


def strong(bench: Workbench, site: Site) -> Tensor:
    """The level (C,) of each unit that `on` sets: a high quantile of its activations over all samples."""
    maps = bench.maps(site.name)
    flat = maps.transpose(0, 1).flatten(1)
    flat = flat[:, :: max(1, flat.shape[1] // 20_000)]
    return torch.quantile(flat, _STRONG, dim=1)


def paint(bench: Workbench, site: Site, switches: Switches, levels: Tensor | None, z: Tensor) -> Tensor:
    """Images (N, C, S, S) in [-1, 1] of latents under switches; `levels` (C,) are needed where a unit is on."""
    keep = torch.ones(site.maps)
    keep[sorted(switches.off | switches.on)] = 0
    add = torch.zeros(site.maps)
    if switches.on:
        assert levels is not None
        chosen = sorted(switches.on)
        add[chosen] = levels[chosen].float()

    def change(x: Tensor) -> Tensor:
        return x * keep.to(x)[:, None, None] + add.to(x)[:, None, None]

    region = switches.region
    edits = {site.name: change if region is None else within(change, cover(region, site.grid))}
    with bench.quick_lock, edit(bench.quick.generator, edits):
        return bench.quick.images(z)
