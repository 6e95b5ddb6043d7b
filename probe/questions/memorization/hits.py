"""Near-copies of one image: is a training image hit more often than any held-out image is?

Shuffled labels cannot see copies of few images: the one that is copied keeps its label in a share |T| / (|T| + |H|) of
the shufflings. A sample hits an image where it lies within half of the way to that image's nearest other image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from probe.measures.features import Feature
from probe.measures.neighbours import Rows, nearest
from probe.measures.statistics import Array

NEAR = 0.5  # of the distance to the nearest other image: by the triangle inequality no other real image is nearer
WEIGHT = 0.1  # of the level for this criterion; the rest is that of the permutation (weighted Bonferroni)


@dataclass(frozen=True)
class Hits:
    """For each sample the training and the held-out image that it hits (M,), -1 for none."""

    train: Array
    holdout: Array

    def counts(self) -> tuple[int, int]:
        """The most samples that hit one training image, and one held-out image."""
        return _most(self.train), _most(self.holdout)


def _most(hits: Array) -> int:
    return int(np.bincount(hits[hits >= 0], minlength=1).max())


def hits(
    to_train: tuple[Array, Array], to_holdout: tuple[Array, Array], train: Array, holdout: Array, phi: Feature
) -> Hits:
    """Hits of samples, from their nearest images of each kind: distances and indices (M, K) each."""
    return Hits(_of(to_train, train, holdout, phi), _of(to_holdout, holdout, train, phi))


def _of(found: tuple[Array, Array], own: Array, others: Array, phi: Feature) -> Array:
    distances, indices = found[0][:, 0], found[1][:, 0]
    unique, place = np.unique(indices, return_inverse=True)
    rows = Rows(own[unique], phi)
    alike = nearest(rows, Rows(own, phi), 2)[0][:, -1]
    reach = NEAR * np.minimum(alike, nearest(rows, Rows(others, phi), 1)[0][:, 0])
    return np.where(distances < reach[place], indices, -1)


def p_of_counts(most_train: int, most_holdout: int, train: int) -> float:
    """The p-value of the largest count of hits of one of `train` images, against the largest of held-out images.

    Of the hits of two images that are drawn equally often each falls to either with 1/2; times `train` (Bonferroni).
    """
    both = most_train + most_holdout
    return min(1.0, float(train * binom.sf(most_train - 1, both, 0.5))) if both else 1.0


def combined(p_permutation: float, p_hits: float) -> float:
    """One p-value of both criteria."""
    return min(1.0, p_permutation / (1 - WEIGHT), p_hits / WEIGHT)
