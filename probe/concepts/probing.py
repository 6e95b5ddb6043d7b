"""Where a concept lives in a layer: feature vectors at boxed places and elsewhere, and a linear probe between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.measures.statistics import Array, auc_ci, to_numpy

NEGATIVES = ("same-image", "same-place")
_FOLDS = 5


@dataclass(frozen=True)
class LabelledMaps:
    """Feature maps of the layers by name, (N, C, H, H) each, one row for each of `boxes.images`; image side `size`.

    `rows` (N,) says which of the images first labelled each row is.
    """

    maps: dict[str, Tensor]
    boxes: Boxes
    size: int
    rows: Array

    def __len__(self) -> int:
        return len(self.boxes.images)

    def take(self, rows: Array) -> LabelledMaps:
        """The images at the given rows, repeats allowed, numbered anew."""
        found = [self.boxes.boxes.get(self.boxes.images[r]) for r in rows]
        boxes = {i: b for i, b in enumerate(found) if b is not None}
        kept = Boxes(self.boxes.concept, tuple(range(len(rows))), boxes, self.boxes.seed)
        at = torch.from_numpy(rows)
        return LabelledMaps({name: maps[at] for name, maps in self.maps.items()}, kept, self.size, self.rows[rows])

    def shuffled(self, rng: np.random.Generator) -> LabelledMaps:
        """The same images with the boxes moved to other images."""
        order = rng.permutation(self.boxes.images)
        moved = {int(order[self.boxes.images.index(i)]): b for i, b in self.boxes.boxes.items()}
        return replace(self, boxes=replace(self.boxes, boxes=moved))

    @property
    def boxed(self) -> Tensor:
        """Which images have a box, (N,) boolean."""
        return torch.tensor([i in self.boxes.boxes for i in self.boxes.images])

    def inside(self, name: str, seed: int, most: int = 8192) -> tuple[Tensor, Tensor]:
        """Vectors of a layer inside boxes, and of all other places of all images, at most `most` of them, at random."""
        maps = self.maps[name]
        cells = torch.stack([self.boxes.cells(i, maps.shape[-1], self.size) for i in self.boxes.images])
        vectors = maps.permute(0, 2, 3, 1).flatten(0, 2)
        inside, elsewhere = (places.flatten().nonzero()[:, 0] for places in (cells, ~cells))
        chosen = torch.randperm(len(elsewhere), generator=torch.Generator().manual_seed(seed))[:most]
        return vectors[inside], vectors[elsewhere[chosen]]

    def gather(self, name: str, negatives: str, seed: int) -> Places:
        """Places of a layer."""
        return gather(self.maps[name], self.boxes, self.size, negatives, seed)


@dataclass(frozen=True)
class Places:
    """Feature vectors (M, C) with the concept (truth 1) and without (0), and the index of each one's image."""

    vectors: Tensor
    truth: Array
    images: Array

    def split(self) -> tuple[Tensor, Tensor]:
        """Vectors with the concept and vectors without it."""
        return self.vectors[torch.from_numpy(self.truth == 1)], self.vectors[torch.from_numpy(self.truth == 0)]


def gather(maps: Tensor, boxes: Boxes, size: int, negatives: str, seed: int = 0) -> Places:
    """Places of feature maps (N, C, H, H), one row of N for each of `boxes.images`; as many negatives as positives.

    `same-image` takes negatives at random from outside the boxes of the boxed images, as the paper does;
    `same-place` from images without the concept, at the very places where others have it.
    """
    grid = maps.shape[-1]
    inside = torch.stack([boxes.cells(i, grid, size) for i in boxes.images])
    boxed = inside.flatten(1).any(1)
    rng = np.random.default_rng(seed)
    image, row, column = (part.numpy() for part in inside.nonzero(as_tuple=True))
    if negatives == "same-image":
        free = (~inside & boxed[:, None, None]).nonzero().numpy()
        if not len(free):
            raise ProbeError("negatives same-image: the boxes cover every place of their images; draw them tighter")
        chosen = free[rng.choice(len(free), size=min(len(image), len(free)), replace=False)]
    else:
        without = np.flatnonzero(~boxed.numpy())
        if not len(without):
            raise ProbeError("negatives same-place: every labelled image shows the concept; label some without it")
        chosen = np.stack([rng.choice(without, size=len(image)), row, column], 1)
    at = np.concatenate([np.stack([image, row, column], 1), chosen])
    truth = np.repeat([1, 0], [len(image), len(chosen)])
    return Places(maps[at[:, 0], :, at[:, 1], at[:, 2]], truth, at[:, 0])


def logistic(places: Places) -> Any:
    """scikit-learn's logistic regression on raw activations, L2 with C = 1."""
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-6)
    return solver.fit(to_numpy(places.vectors).astype(float), places.truth)


def cross_auc(maps: Tensor, boxes: Boxes, size: int, seed: int = 0) -> dict[str, dict[str, tuple[float, list[float]]]]:
    """AUC of the probe of each kind of negatives on each kind of held-out set: {trained: {tested: (auc, interval)}}.

    Five folds by image, images with and without boxes dealt apart; a fold's scores come from a probe fitted to the
    other four. Where fewer than five images lack the concept, only `same-image` is there. Raises ProbeError where fewer
    than five have it.
    """
    boxed = np.array([i in boxes.boxes for i in boxes.images])
    if boxed.sum() < _FOLDS:
        raise ProbeError(
            f"{boxes.concept}: boxes in {boxed.sum()} images; at least {_FOLDS} are needed to test a probe"
        )
    kinds = NEGATIVES if (~boxed).sum() >= _FOLDS else NEGATIVES[:1]
    sets = {kind: gather(maps, boxes, size, kind, seed) for kind in kinds}
    order = np.random.default_rng(seed).permutation(len(maps))
    fold = np.zeros(len(maps), dtype=int)
    for part in (order[boxed[order]], order[~boxed[order]]):
        fold[part] = np.arange(len(part)) % _FOLDS
    out: dict[str, dict[str, tuple[float, list[float]]]] = {}
    for trained, places in sets.items():
        scores = {tested: np.zeros(len(other.truth)) for tested, other in sets.items()}
        for k in range(_FOLDS):
            rows = fold[places.images] != k
            probe = logistic(Places(places.vectors[torch.from_numpy(rows)], places.truth[rows], places.images[rows]))
            for tested, other in sets.items():
                held = fold[other.images] == k
                if held.any():
                    scores[tested][held] = probe.decision_function(to_numpy(other.vectors)[held])
        out[trained] = {
            tested: auc_ci(scores[tested], other.truth, other.images, seed) for tested, other in sets.items()
        }
    return out
