"""A word for each unit: the object a segmenter sees, or the images' class, that goes best with its responses.

The best of many units and words is found by chance too. A word is given only where its score beats that of every unit
for that word under five shufflings of the images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.concepts import units
from probe.concepts.segmenters import Segmenter
from probe.questions.guided_backprop.lens import Lens, Source

_IMAGES, _SHUFFLES, _LEAST = 256, 5, 8  # the last: images that must show a word's object for it to be tried
_GRID = 16  # cells a side on which responses and objects are compared
_DETECTOR = {"iou": 0.04, "auc": 0.7}  # least scores; the first is Network Dissection's (Bau et al. 2017, section 3.2)


def name_units(
    lens: Lens, source: Source, chosen: Tensor, segmenter: Segmenter | None, seed: int
) -> dict[str, dict[str, Any]]:
    """A word for each unit: `concept` (or None), `score`, `chance` (the best of all, images shuffled), `measure`.

    On 256 of the images. With a segmenter: intersection over union with its objects, of at least 0.04, by Network
    Dissection's rule; else, where the source has classes, the area under the ROC curve of an image's largest response,
    of at least 0.7. Empty without either.
    """
    n = min(_IMAGES, source.count)
    if segmenter is None and source.classes is None:
        return {}
    batches = [(rows, x, lens.responses(x)[:, chosen].cpu()) for rows, x in source.batches(n)]
    maps = torch.cat([found for _, _, found in batches])
    if segmenter is not None:
        truth, measure = _objects(segmenter, torch.cat([x for _, x, _ in batches])), "iou"
    else:
        rows = torch.cat([rows for rows, _, _ in batches]).numpy()
        classes = torch.from_numpy(np.asarray(source.classes[rows]))  # type: ignore[index]
        common = [int(c) for c in classes.unique() if c >= 0 and _LEAST <= int((classes == c).sum()) <= n - _LEAST]
        truth, measure = {f"class {c}": (classes == c)[:, None, None] for c in common}, "auc"
        maps = maps.amax((2, 3), keepdim=True)
    orders = [np.random.default_rng([seed, i]).permutation(n) for i in range(_SHUFFLES)]
    least = _DETECTOR[measure]
    best: list[dict[str, Any]] = [{"concept": None, "score": 0.0, "chance": least, "measure": measure} for _ in chosen]
    for word, where in truth.items():
        scores = _scores(maps, where, measure).nan_to_num().tolist()
        chance = max([least] + [float(_scores(maps, where[order], measure).nan_to_num().max()) for order in orders])
        for row, score in zip(best, scores, strict=True):
            if score / chance > row["score"] / row["chance"]:
                row |= {"concept": word if score > chance else None, "score": score, "chance": chance}
    return {str(int(unit)): row for unit, row in zip(chosen, best, strict=True)}


def _objects(segmenter: Segmenter, images: Tensor) -> dict[str, Tensor]:
    """Each object's cells (N, 16, 16), those covered by half, of those that show on enough images."""
    labels = segmenter.labels(images)
    found = {}
    for value, name in enumerate(segmenter.objects):
        cells = F.adaptive_avg_pool2d((labels == value)[:, None].float(), _GRID)[:, 0] >= 0.5
        if value and int(cells.flatten(1).any(1).sum()) >= _LEAST:
            found[name] = cells
    return found


def _scores(maps: Tensor, where: Tensor, measure: str) -> Tensor:
    return units.unit_ious(maps, where)[0] if measure == "iou" else units.unit_aucs(maps, where)
