"""Which images repeat an earlier one: candidates by their hashes, verified by their pixels.

An image that repeats a kept one is removed, and never compared with again: every removal is vouched for by an image
that stays, and no chain of small changes joins two different pictures. Held in memory are the hashes (16 bytes an
image), the indices of the kept ones, and blocks; images are read when a pair of them is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.measures.hashing import BITS
from probe.measures.likeness import aligned, centres, wholes
from probe.measures.statistics import Array
from probe.models.gan import best_precision

_ROWS, _FEW, _COLUMNS = 2048, 64, 2048  # images and hashes at a time
_PAIRS = 1024  # pairs read at a time
_RANKS = (0, 1, 4, 32)  # the nearest hash first: where images are equal, one comparison each is enough


@dataclass(frozen=True)
class Matches:
    """Removed images (R,), the kept image that each repeats (R,), differing bits (R,) and likeness (R,) of the pair."""

    removed: Array
    kept: Array
    distance: Array
    likeness: Array

    @staticmethod
    def empty() -> Matches:
        """No pair."""
        return Matches(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, np.float32)))

    def renamed(self, removed: Array, kept: Array) -> Matches:
        """Positions replaced by what they stand for in two tables."""
        return Matches(removed[self.removed], kept[self.kept], self.distance, self.likeness)

    @staticmethod
    def joined(parts: list[Matches]) -> Matches:
        """Several lists as one, in the order of the removed images."""
        columns = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Matches)]
        order = np.argsort(columns[0], kind="stable")
        return Matches(*(column[order] for column in columns))


@dataclass(frozen=True)
class Rule:
    """What counts as a repetition: hashes that differ in at most `radius` bits, and pixels at least so alike."""

    radius: int = 18
    likeness: float = 0.76


def _signs(packed: Array, precision: torch.dtype) -> Tensor:
    """Packed hashes as -1 and 1, so that a product counts equal bits less different ones."""
    return torch.from_numpy(np.unpackbits(packed, axis=1)).to(precision).mul_(2).sub_(1)


def _near(rows: Array, columns: Array, radius: int) -> Iterator[tuple[Array, Array, Array]]:
    """Pairs (row, column, differing bits) of packed hashes within a radius, by columns; at least a row's 32 nearest."""
    precision = getattr(torch, best_precision("cpu"))  # sums of 128 signs are exact in either
    signs = _signs(rows, precision)
    for start in range(0, len(columns), _COLUMNS):
        products = signs @ _signs(columns[start : start + _COLUMNS], precision).T
        near = products >= BITS - 2 * radius
        if near.sum() > _RANKS[-1] * len(rows):  # hashes that are all alike: only the nearest of each row
            order = products.float() * _COLUMNS - torch.arange(
                products.shape[1]
            )  # exact; of equally near ones the first
            nearest = order.topk(min(_RANKS[-1], order.shape[1]), dim=1).indices
            near &= torch.zeros_like(near).scatter_(1, nearest, True)
        row, column = near.nonzero(as_tuple=True)
        distance = (BITS - products[row, column].float()) / 2
        yield row.numpy(), column.numpy() + start, distance.numpy().astype(np.int64)


def _candidates(rows: Array, columns: Array, radius: int) -> tuple[Array, Array, Array, Array]:
    """The same as one list, with each pair's rank in its row: the 32 nearest columns, the first of equals."""
    row, column, distance = (np.zeros(0, np.int64) for _ in range(3))
    rank = row
    for found in _near(rows, columns, radius):
        row, column, distance = (np.concatenate(p) for p in zip((row, column, distance), found, strict=True))
        order = np.lexsort((column, distance, row))
        row, column, distance = row[order], column[order], distance[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        few = rank < _RANKS[-1]
        row, column, distance, rank = row[few], column[few], distance[few], rank[few]
    return row, column, distance, rank


@dataclass(frozen=True)
class Hashed:
    """Packed hashes (N, 16) of images (M, 3, 32, 32) uint8, those that `index` (N,) names; images may lie on disk."""

    hashes: Array
    images: Any
    index: Array

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: Array | slice) -> Hashed:
        return Hashed(self.hashes[which], self.images, self.index[which])


def first_match(rows: Hashed, among: Hashed, rule: Rule) -> Matches:
    """For each row the image of nearest hash, among others, that the rule joins it with, where there is one.

    `removed` and `kept` are positions in `rows` and `among`. At most the 32 nearest are compared, and none beyond the
    first that agrees.
    """
    row, column, distance, rank = _candidates(rows.hashes, among.hashes, rule.radius)
    found = Matches.empty()
    for low, high in itertools.pairwise(_RANKS):
        asked = np.flatnonzero((rank >= low) & (rank < high) & ~np.isin(row, found.removed))
        alike = _likeness(rows, among, row[asked], column[asked])
        asked, alike = asked[alike >= rule.likeness], alike[alike >= rule.likeness]
        _, first = np.unique(row[asked], return_index=True)
        pair = asked[first]
        found = Matches.joined([found, Matches(row[pair], column[pair], distance[pair], alike[first])])
    return found


def _among_themselves(rows: Hashed, rule: Rule) -> Matches:
    """The same of a few rows, each among the earlier ones that stay."""
    bits = np.unpackbits(rows.hashes, axis=1)
    differing = (bits[:, None] != bits).sum(2)
    row, column = np.nonzero(np.tril(differing <= rule.radius, -1))
    agree = np.zeros(differing.shape, np.float32)
    agree[row, column] = _likeness(rows, rows, row, column)
    joined = np.tril((differing <= rule.radius) & (agree >= rule.likeness), -1)
    stays = np.ones(len(rows), bool)
    pairs = []
    for i, partners in enumerate(joined):
        able = np.flatnonzero(partners & stays)
        if len(able):
            stays[i] = False
            pairs.append((i, able[differing[i, able].argmin()]))
    late, early = np.array(pairs, np.int64).reshape(-1, 2).T
    return Matches(late, early, differing[late, early], agree[late, early])


def _likeness(rows: Hashed, among: Hashed, row: Array, column: Array) -> Array:
    """How alike pairs of positions are, (P,), 1 for equal pixels.

    A row's part in it is made once, a column's for the pairs that stand together.
    """
    found = np.ones(len(row), np.float32)
    differing = _differing(rows, among, row, column)
    if not len(differing):
        return found
    differing = differing[np.argsort(column[differing], kind="stable")]
    used, at = np.unique(row[differing], return_inverse=True)
    left = centres(rows.images[rows.index[used]])
    for start in range(0, len(differing), _PAIRS):
        part = slice(start, start + _PAIRS)
        others, to = np.unique(column[differing[part]], return_inverse=True)
        found[differing[part]] = aligned(left, wholes(among.images[among.index[others]]), at[part], to)
    return found


def _differing(rows: Hashed, among: Hashed, row: Array, column: Array) -> Array:
    """Which pairs differ in a pixel; only equal hashes can be those of equal images."""
    differs = (rows.hashes[row] != among.hashes[column]).any(1)
    same = np.flatnonzero(~differs)
    for start in range(0, len(same), _PAIRS):
        part = same[start : start + _PAIRS]
        pixels = rows.images[rows.index[row[part]]] != among.images[among.index[column[part]]]
        differs[part] = pixels.reshape(len(part), -1).any(1)
    return np.flatnonzero(differs)


def leaders(every: Hashed, rule: Rule, report: Callable[[int, int], None] | None = None) -> Matches:
    """Go through images in their order: one that repeats a kept one is removed, any other is kept.

    Compared are at most the 32 nearest hashes of those kept before a block of 2,048, 32 of the block, and those of up
    to 63 neighbours. Returns the removals, by their indices. Time grows with the square of the kept images (a matrix
    product of bits), memory with their number.
    """
    kept, n, found = np.empty(len(every), np.int64), 0, [Matches.empty()]

    def unmatched(rows: Array, matches: Matches, among: Array) -> Array:
        found.append(matches.renamed(rows, among))
        return np.delete(rows, matches.removed)

    for start in range(0, len(every), _ROWS):
        rows, before = np.arange(start, min(start + _ROWS, len(every))), n
        rows = unmatched(rows, first_match(every[rows], every[kept[:n]], rule), kept)
        for part in np.split(rows, np.arange(_FEW, len(rows), _FEW)):
            fresh = kept[before:n]
            part = unmatched(part, first_match(every[part], every[fresh], rule), fresh)
            part = unmatched(part, _among_themselves(every[part], rule), part)
            kept[n : n + len(part)] = part
            n += len(part)
        if report:
            report(start + min(_ROWS, len(every) - start), len(every))
    return Matches.joined(found).renamed(every.index, every.index)


def same_hash(hashes: Array) -> Array:
    """The paper's rule: of each of (N, 16) hashes the first image that has the same: its own index where it is the first."""
    _, first, place = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[place.ravel()])
