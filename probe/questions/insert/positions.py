"""Where in the picture does insertion succeed, and where could it be seen to? The same edit at a grid of positions.

A segmenter also judges by context: it may not call a window one on the floor, though it is drawn there. So at each position
real exemplars of the concept are pasted in pixels too; only where the judge sees those does a failure of the edit say
something about the generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.concepts.labels import Boxes
from probe.concepts.protocols import Segmenter
from probe.measures.statistics import Array, ratio_ci
from probe.models.gan import GAN
from probe.questions.insert.placement import FREE, HALF, Box, Edits, Spot, cells

GRID, LEAST = 5, 8  # positions across and down; latents that a position needs


def exemplars(images: Tensor, boxes: Boxes) -> list[Tensor]:
    """The pixels (C, h, w) of the labelled boxes that are at least a quarter of the median one."""
    out = []
    for row, i in enumerate(boxes.images):
        for x0, y0, x1, y1 in boxes.boxes.get(i, ()):
            crop = images[row, :, round(y0) : round(y1), round(x0) : round(x1)]
            if crop[0].numel() and (x1 - x0) * (y1 - y0) >= boxes.typical_area / 4:
                out.append(crop)
    return out


def paste(images: Tensor, crops: list[Tensor], inside: Tensor) -> Tensor:
    """Images (N, C, S, S) with crops, one after the other, resized into the rectangle `inside` (S, S)."""
    out = images.clone()
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in inside.nonzero(as_tuple=True))
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    for k in range(len(images)):
        crop = crops[k % len(crops)][None]
        out[k, :, rows, columns] = F.interpolate(crop, shape, mode="bilinear", antialias=True)[0]
    return out


def steps(first: float, width: float, size: int) -> Array:
    """GRID places of a box of a width along a side, from edge to edge, the nearest of them moved to where it is."""
    places = np.linspace(0, size - width, GRID)
    places[np.abs(places - first).argmin()] = first
    return places


def positions(
    gan: GAN,
    z: Tensor,
    judge: Segmenter,
    concept: str,
    box: Box,
    names: list[str],
    edits: Callable[[Box], Edits],
    crops: list[Tensor],
    n: int,
    report: Callable[[int, int], None],
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Success at a grid of positions of the box, on at most n of the latents, those that lack the concept there.

    Arrays (GRID, GRID), nan where fewer than 8 latents lack it: `map` of the edit's success, `map_pasted` that of crops
    pasted into the same images, `map_latents`, and `map_natural`, the share of all samples with the concept there;
    `map_x` and `map_y` (GRID,) are the boxes' x0 and y0, `box`'s own among them. The table is success of both by the object that the judge saw most of in the box before.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    value, labels = judge.objects.index(concept), judge.labels(gan.images(z))
    out = {k: np.full((GRID, GRID), np.nan) for k in ("map", "map_pasted", "map_latents", "map_natural")}
    out |= {"map_x": steps(box[0], width, gan.size), "map_y": steps(box[1], height, gan.size)}
    by_object: dict[str, Array] = {}  # (places, drawn, pasted) of every latent
    for k, (row, column) in enumerate(np.ndindex(GRID, GRID)):
        x0, y0 = float(out["map_x"][column]), float(out["map_y"][row])
        there = (x0, y0, x0 + width, y0 + height)
        inside = cells(there, gan.size, gan.size)
        share = (labels[:, inside] == value).float().mean(1)
        chosen = torch.nonzero(share < FREE)[:n, 0]
        out["map_natural"][row, column], out["map_latents"][row, column] = (share >= HALF).float().mean(), len(chosen)
        report(k + 1, GRID**2)
        if len(chosen) < LEAST:
            continue
        spot = Spot(gan, z[chosen], judge, concept, there, names)
        drawn = spot.score(edits(there))["covered"] >= HALF
        pasted = spot.covered(paste(spot.images, crops, inside)) >= HALF
        out["map"][row, column], out["map_pasted"][row, column] = drawn.mean(), pasted.mean()
        for at, seen, *good in zip(chosen, spot.labels[:, inside].mode(1).values.tolist(), drawn, pasted, strict=True):
            by_object.setdefault(judge.objects[seen], np.zeros((3, len(z))))[:, at] += (1, *good)
    return out, {name: _row(by_object[name]) for name in sorted(by_object)}


def _row(counts: Array) -> dict[str, Any]:
    """Shares over places, with intervals over latents: one latent is tried at many places."""
    places, drawn, pasted = counts[:, counts[0] > 0]
    return {
        "success": drawn.sum() / places.sum(), "success_ci": ratio_ci(drawn, places),
        "pasted": pasted.sum() / places.sum(), "pasted_ci": ratio_ci(pasted, places), "places": int(places.sum()),
    }  # fmt: skip
