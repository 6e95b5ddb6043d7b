"""What the machine makes of the labels so far: boxes to accept or correct, and which samples it is least sure of.

The least sure are those whose highest score lies nearest to the decision (uncertainty sampling, Lewis and Gale 1994).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes, from_masks
from probe.concepts.probing import LabelledMaps, Places, cross_auc, logistic
from probe.concepts.segmenters import Segmenter
from probe.concepts.sources import is_rooms, segmenters_of
from probe.measures.statistics import Array, iou, to_numpy
from probe.ui.workbench import Workbench

_SMALLEST = 12  # pixels of a region that the built-in segmenter sees
LEAST = 5
"""Images with and without boxes that a probe needs."""


@dataclass(frozen=True)
class Suggestions:
    """Boxes by sample, samples by rising distance from the decision, and who says so."""

    boxes: dict[int, list[list[float]]]
    order: list[int]
    by: str


def labelled(bench: Workbench, boxes: Boxes, name: str) -> LabelledMaps:
    """The labelled samples with their feature maps at a layer."""
    rows = torch.tensor(boxes.images, dtype=torch.long)
    return LabelledMaps({name: bench.maps(name)[rows]}, boxes, bench.quick.size, np.arange(len(rows)))


def counts(boxes: Boxes) -> tuple[int, int]:
    """Labelled samples with a box, and without."""
    return len(boxes.boxes), len(boxes.images) - len(boxes.boxes)


def assess(bench: Workbench, boxes: Boxes) -> tuple[float, list[float]] | None:
    """AUC of the probe on held-out images and its interval; None where fewer than LEAST images have a box."""
    if counts(boxes)[0] < LEAST:
        return None
    found = labelled(bench, boxes, bench.site.name)
    table = cross_auc(found.maps[bench.site.name], boxes, bench.quick.size, bench.seed)
    return table["same-image"]["same-image"]


def segmenter_of(bench: Workbench, concept: str, role: str = "selector") -> Segmenter | None:
    """The built-in segmenter, where it knows this generator's images and the concept."""
    if not is_rooms(bench.quick):
        return None
    segmenter = segmenters_of(bench.slow)[role]
    return segmenter if concept in segmenter.objects[1:] else None


def suggest(bench: Workbench, boxes: Boxes) -> Suggestions:
    """Boxes on all samples; raises ProbeError where nobody knows the concept and the labels are too few for a probe."""
    segmenter = segmenter_of(bench, boxes.concept)
    if segmenter is not None:
        scores, by = segmenter_scores(segmenter, bench.images(), boxes.concept), "the built-in segmenter"
        return _decide(scores, boxes.concept, bench.seed, by, _SMALLEST)
    fitted = fit(bench, boxes)
    scores = fitted.scores(bench.maps(bench.site.name), bench.quick.size)
    by = f"a linear probe of {bench.site} fitted to {len(boxes)} boxes"
    return _decide(
        scores, boxes.concept, bench.seed, by, boxes.typical_area / 4
    )  # as `forget` counts who has a concept


@torch.no_grad()
def segmenter_scores(segmenter: Segmenter, images: Tensor, concept: str) -> Tensor:
    """Log-odds (N, S, S) of a concept by a segmenter, pixel by pixel."""
    value = segmenter.objects.index(concept)
    parts = []
    for part in images.split(64):
        shares = segmenter.scores(part).softmax(1)[:, value].clamp(1e-6, 1 - 1e-6)
        parts.append(shares.logit())
    return torch.cat(parts)


@dataclass(frozen=True)
class Fitted:
    """A logistic probe of a layer's feature vectors; a place counts as the concept above `threshold`."""

    weight: Tensor
    bias: float
    threshold: float

    @torch.no_grad()
    def scores(self, maps: Tensor, size: int) -> Tensor:
        """How far above the threshold each pixel lies (N, size, size), for feature maps (N, C, H, H)."""
        found = torch.einsum("nchw,c->nhw", maps, self.weight) + self.bias - self.threshold
        return F.interpolate(found[:, None], (size, size), mode="bilinear")[:, 0]


def fit(bench: Workbench, boxes: Boxes) -> Fitted:
    """Fit a probe to places inside the boxes against all others; its threshold gives the largest IoU with the boxes.

    Raises ProbeError where fewer than LEAST labelled images have a box, or fewer lack one.
    """
    have, lack = counts(boxes)
    if min(have, lack) < LEAST:
        raise ProbeError(
            f"{boxes.concept}: {have} samples with a box and {lack} without; a probe needs {LEAST} of each to propose "
            "boxes"
        )
    name, size = bench.site.name, bench.quick.size
    found = labelled(bench, boxes, name)
    inside, elsewhere = found.inside(name, bench.seed, most=4096)
    vectors = torch.cat([inside, elsewhere])
    truth: Array = np.repeat([1, 0], [len(inside), len(elsewhere)])
    model = logistic(Places(vectors, truth, np.zeros(len(truth), dtype=int)))
    weight, bias = torch.from_numpy(model.coef_[0]).float(), float(model.intercept_[0])
    scores = Fitted(weight, bias, 0.0).scores(found.maps[name], size)
    masks = boxes.masks(size)
    levels = np.quantile(to_numpy(scores[masks]), np.linspace(0.02, 0.7, 18))
    best = max(levels, key=lambda level: iou(scores > float(level), masks))
    return Fitted(weight, bias, float(best))


def _decide(scores: Tensor, concept: str, seed: int, by: str, smallest: float) -> Suggestions:
    found = from_masks(scores > 0, concept, seed, smallest=max(1, round(smallest)))
    boxes = {i: rows.tolist() for i, rows in found.boxes.items()}
    peak = (
        F.avg_pool2d(scores[:, None], 3, 1, 1, count_include_pad=False).flatten(1).amax(1)
    )  # a lone pixel does not make an object
    return Suggestions(boxes, peak.abs().argsort(stable=True).tolist(), by)
