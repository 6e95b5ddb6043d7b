"""Forgetting in seconds: one-sided erasure along one linear discriminant, not tuned, without controls.

The discriminant tells places inside the boxes from all other places of all labelled samples, at the second layer from
the latent; the strength is the user's. What the page shows is a preview, and says so: `probe forget` tunes, compares
and measures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.edits import surgery
from probe.models.hooks import Site, capture, edit
from probe.ui.suggest import LEAST, counts, fit, labelled, segmenter_of, segmenter_scores
from probe.ui.workbench import Workbench

MOST, LEAST_OF_IT, POOL = 8, 4, 128
"""Of POOL new samples those shown: MOST with the largest area of the concept, LEAST_OF_IT with the smallest."""
_BOUNDARY = 0.25


@dataclass(frozen=True)
class Preview:
    """Images before and after (12, C, S, S) in [-1, 1], by falling area of the concept; what changed, in words."""

    before: Tensor
    after: Tensor
    summary: str
    seconds: float


def layer(bench: Workbench) -> Site:
    """The layer to erase at: the second from the latent."""
    return bench.sites[min(1, len(bench.sites) - 1)]


def forget_now(bench: Workbench, boxes: Boxes, strength: float) -> Preview:
    """Erase the concept from new samples by a discriminant fitted to the labels; raises ProbeError for too few."""
    began = time.perf_counter()
    have, lack = counts(boxes)
    if min(have, lack) < LEAST:
        raise ProbeError(
            f"{boxes.concept}: {have} samples with a box and {lack} without; forgetting needs {LEAST} of each, better "
            "16 and more"
        )
    site = layer(bench)
    inside, elsewhere = labelled(bench, boxes, site.name).inside(site.name, bench.seed)
    eraser = surgery.fit_erase(inside, elsewhere, _BOUNDARY).eraser(strength).to(bench.slow.device)
    new = bench.slow.latents(POOL, seeds.FORGET_HELDOUT.of(bench.seed))
    fitted = None if segmenter_of(bench, boxes.concept) else fit(bench, boxes)
    with bench.slow_lock, capture(bench.slow.generator, [bench.site.name]) as seen:
        before, maps = (torch.cat(parts) for parts in zip(*_drawn(bench, new, seen), strict=True))
        with edit(bench.slow.generator, {site.name: eraser}):
            after = bench.slow.images(new)
    area = _read(bench, boxes.concept, before) if fitted is None else _area(fitted.scores(maps, bench.slow.size))
    order = area.argsort(descending=True, stable=True)
    shown = torch.cat([order[:MOST], order.flip(0)[:LEAST_OF_IT]])
    change = (after - before).abs().mean((1, 2, 3)) / 2
    with_it = area >= boxes.typical_area / 4
    there, apart = _mean(change[with_it]), _mean(change[~with_it])
    summary = f"Mean change of a picture: {there:.3f} where it is seen, {apart:.3f} elsewhere."
    if fitted is None:
        left = _read(bench, boxes.concept, after).sum() / area.sum().clamp(min=1)
        summary = f"The built-in judge finds {1 - float(left):.0%} of its area gone on {POOL} new samples. " + summary
    return Preview(before[shown], after[shown], summary, time.perf_counter() - began)


def pairs(found: Preview) -> Tensor:
    """Images (24, C, S, S): each one before and, next, after."""
    return torch.stack([found.before, found.after], 1).flatten(0, 1)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _drawn(bench: Workbench, z: Tensor, seen: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and the feature maps the probe looks at, a batch at a time."""
    for images in bench.slow.batches(z):
        yield images.cpu(), seen[bench.site.name].cpu()


def _area(scores: Tensor) -> Tensor:
    return (scores > 0).flatten(1).sum(1).float()


def _read(bench: Workbench, concept: str, images: Tensor) -> Tensor:
    judge = segmenter_of(bench, concept, "judge")
    assert judge is not None
    return _area(segmenter_scores(judge, images, concept))
