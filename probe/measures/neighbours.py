"""Exact nearest neighbours of many images among many, in little memory.

Candidates come from a matrix product, a block at a time, and are ranked again by distances computed from differences,
since |a|² + |b|² - 2ab loses the small distances that matter here. Two blocks of rows and the lists are all that is
held: images stay bytes, on disk where they are memory-mapped. (A flat index of a library holds all rows as float32.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.measures.features import Feature
from probe.measures.statistics import Array
from probe.models.gan import from_bytes

_BLOCK, _SPARE, _GATHERED = 2048, 8, 1 << 26  # rows a block; candidates beyond k; numbers gathered at once


class Rows:
    """Images (N, C, S, S) uint8 seen as rows (N, D) float32 of a feature."""

    def __init__(self, images: np.ndarray[Any, Any], phi: Feature) -> None:
        self.images, self.phi = images, phi

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice | Array) -> Tensor:
        """Rows of a slice or of indices."""
        chosen = torch.from_numpy(np.array(self.images[which]))
        return torch.cat([self.phi(from_bytes(part)) for part in chosen.split(512)])


def nearest(
    queries: Rows, among: Rows, k: int, report: Callable[[int, int], None] | None = None
) -> tuple[Array, Array]:
    """The k nearest rows of each query: distances (M, k) float32, ascending, and indices (M, k) int64; k at most N."""
    k, wanted = min(k, len(among)), min(k + _SPARE, len(among))
    centre = among[slice(0, 512)].mean(0)  # products of small numbers lose less
    found_d, found_i = [], []
    for start in range(0, len(queries), _BLOCK):
        q = queries[slice(start, start + _BLOCK)]
        indices = _candidates(q - centre, among, centre, wanted)
        distances = _exact(q, among, indices)
        order = distances.argsort(dim=1, stable=True)[:, :k]
        found_d.append(distances.gather(1, order))
        found_i.append(indices.gather(1, order))
        if report:
            report(min(start + _BLOCK, len(queries)), len(queries))
    return torch.cat(found_d).numpy(), torch.cat(found_i).numpy()


def _candidates(q: Tensor, among: Rows, centre: Tensor, wanted: int) -> Tensor:
    """Indices (M, wanted) of the nearest by the matrix product."""
    scores, indices = torch.empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.int64)
    for start in range(0, len(among), _BLOCK):
        x = among[slice(start, start + _BLOCK)] - centre
        block = torch.addmm(x.square().sum(1), q, x.T, alpha=-2)  # |x|² - 2qx; |q|² moves no rank
        here = torch.arange(start, start + len(x)).expand(len(q), -1)
        scores, indices = torch.cat([scores, block], 1), torch.cat([indices, here], 1)
        scores, kept = scores.topk(min(wanted, scores.shape[1]), dim=1, largest=False)
        indices = indices.gather(1, kept)
    return indices


def _exact(q: Tensor, among: Rows, indices: Tensor) -> Tensor:
    """Distances (M, wanted) from differences."""
    found = []
    step = max(1, _GATHERED // (indices.shape[1] * q.shape[1]))
    for part, rows in zip(q.split(step), indices.split(step), strict=True):
        unique, place = rows.unique(return_inverse=True)
        found.append((among[unique.numpy()][place] - part[:, None]).norm(dim=2))
    return torch.cat(found)
