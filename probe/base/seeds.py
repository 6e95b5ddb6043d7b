"""Named streams of random numbers: what else a run draws than the samples of its seed, each of a seed of its own.

The numbers are a contract: another one in a row changes every result that its draw has a part in. A new draw takes a
row of its own, apart from the rows of the draws that it meets in a run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stream:
    """The seeds, one for each seed of a run, of one kind of draw: `times` the run's seed, plus `plus`."""

    what: str
    plus: int = 0
    times: int = 1

    def of(self, seed: int, at: int = 0) -> int:
        """The seed of this draw in a run of a seed; `at` counts where there is one a step, a layer or a fit."""
        return self.times * seed + self.plus + at


@dataclass(frozen=True)
class Branch:
    """What NumPy's generators are seeded with for one kind of draw: the run's seed, where in the run, and a number."""

    what: str
    number: int

    def of(self, seed: int, *at: int) -> list[int]:
        """The entropy of this draw in a run of a seed, for `numpy.random.default_rng`."""
        return [seed, *at, self.number]


TUNING = Stream("forget, insert: latents on which layers and strengths are chosen", 3_000_017, times=1000)
FORGET_HELDOUT = Stream("forget, the page's preview: latents on which an edit is measured", 29_000_003, times=1000)
HELDOUT = Stream("insert, ablate: latents on which an edit is measured", 7_000_003, times=1000)
REFINEMENT = Stream("forget: latents on which a patch is adjusted by gradient", 41_000_003, times=1000)
UNLEARNING = Stream("unlearn: latents on which the weights are tuned", 5_000_011)
LABEL_DRAWS = Stream("forget: negatives of the k-th refit to labels drawn anew")
SEGMENTERS = Stream("segmenters fitted to boxes: weights and batches of the k-th")
UNSEEN_ROOMS = Stream("rooms that no segmenter was trained on", 9_000_001)

RANDOM_DIRECTIONS = Stream("arithmetic, turn: random directions, the control of n exemplars")
COMPARED = Stream("arithmetic: samples that results are compared with", 1_000_003)
PRINCIPAL = Stream("turn: latents whose activations are decomposed", 1_000_005)
TURNED = Stream("turn: new samples that are turned", 1_000_007)
TURNED_DRAWS = Stream("turn: new samples, one for each draw of exemplars", 2_000_014)
PATH_LENGTH = Stream("walk: latents of the perceptual path length", 1)
RECOVERY = Stream("memorization: samples from which recovery starts", 7)
RANDOM_LAYERS = Stream("guided_backprop: random weights of layer k", times=1000)
RANDOM_WEIGHTS = Stream("classify: a discriminator that was never trained", 1)

TRAIN_DISCRIMINATOR = Stream("train: first weights of the discriminator, beside the generator's of the seed itself", 1)
TRAIN_PICTURES = Stream("train: latents of the pictures drawn along the way", 1_000_003)
TRAIN_LATENTS = Stream("train: latents of a step", 1, times=2**32)
TRAIN_SHIFTS = Stream("train: how far the images of a step are moved", 2**31 + 1, times=2**32)
TRAIN_NOISE = Stream("train: noise on the images of a step", 2**31, times=2**32)

DIAGNOSIS = Branch("arithmetic: draws of n exemplars that tell why it fails", 1)
TRAIN_ORDER = Branch("train: order of the images in an epoch", 1)
TRAIN_FLIPS = Branch("train: images of a step that are mirrored", 2)
VALIDATION = Branch("classify: which images are for validation", 3)
FEW_LABELS = Branch("classify: which images keep their labels", 4)
SHIFTS = Branch("classify: how far a view is moved", 5)
PATCHES = Branch("classify: patches that K-means is fitted to", 6)
SUPERVISED = Branch("classify: batches of the supervised network", 7)
