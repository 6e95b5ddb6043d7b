"""Labelled images made ready for classification: what is fitted, what is chosen on, what is tested."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.data.loading import Images
from probe.measures.statistics import Array


@dataclass(frozen=True, kw_only=True)
class Task:
    """Training images (N, C, S, S) uint8, of which the last N - `fitted` are for validation, and test images.

    `labels` (N,) and `test_labels` (M,) are places in `classes`, the labels as the source has them, named where it
    names them. `duplicates` counts test images that are also training images, pixel by pixel; `notes` says this and
    what else is odd.
    """

    images: Array
    labels: Tensor
    fitted: int
    test_images: Array
    test_labels: Tensor
    classes: tuple[int | str, ...]
    duplicates: int
    notes: tuple[str, ...]


def make(train: Images, test: Images, validation: int, seed: int) -> Task:
    """Split the training images at random into those fitted and `validation` to choose on.

    Classes that have names go together by name. Raises ProbeError where labels are missing, there is one class only, a
    class of the test set is not in the training set, one set has names for its classes and the other numbers, too few
    images are left, or the pictures of one set are grey and of the other coloured.
    """
    notes: list[str] = []
    (images, numbers), (test_images, test_numbers) = (
        _labelled(s, which, notes) for s, which in ((train, "training"), (test, "test"))
    )
    test_numbers = _renumbered(train, test, test_numbers)
    classes = np.unique(numbers)
    if len(classes) < 2:
        raise ProbeError(
            f"{train.name}: all {len(numbers)} images have the label {_listing(train, classes)}; at least 2 classes "
            "are needed"
        )
    unknown = np.setdiff1d(test_numbers, classes)
    if len(unknown):
        raise ProbeError(
            f"{test.name}: has the labels {_listing(train, unknown)}, which {train.name} lacks; expected some of "
            f"{_listing(train, classes)}"
        )
    _colours(train, test, images, test_images, notes)
    if validation >= len(numbers):
        raise ProbeError(
            f"{train.name}: {len(numbers)} labelled images; more than the {validation} for validation are needed"
        )
    order = np.random.default_rng(seeds.VALIDATION.of(seed)).permutation(len(numbers))
    labels = torch.from_numpy(np.searchsorted(classes, numbers))[order]
    fitted = len(numbers) - validation
    missing = np.setdiff1d(np.arange(len(classes)), labels[:fitted].numpy())
    if len(missing):
        raise ProbeError(
            f"{train.name}: no image of the class {_listing(train, classes[missing[:1]])} is left to fit to; add "
            "images or validate on fewer"
        )
    seen = {_digest(image): i for i, image in reversed(list(enumerate(images)))}
    twice = [(i, seen[digest]) for i, digest in enumerate(map(_digest, test_images)) if digest in seen]
    duplicates = len(twice)
    if duplicates:
        (i, j), named = twice[0], bool(test.names and train.names)
        known = [np.arange(len(s.images)) if s.labels is None else np.flatnonzero(s.labels >= 0) for s in (test, train)]
        first = f", such as {test.named(known[0][i])}, which is {train.named(known[1][j])}" if named else ""
        notes.append(
            f"{duplicates} of {len(test_images)} test images are also training images, pixel by pixel{first}; they are "
            "counted like the others"
        )
    return Task(
        images=images[order],
        labels=labels,
        fitted=fitted,
        test_images=test_images,
        test_labels=torch.from_numpy(np.searchsorted(classes, test_numbers)),
        classes=tuple(_names(train, classes)),
        duplicates=duplicates,
        notes=tuple(notes),
    )


def _labelled(source: Images, which: str, notes: list[str]) -> tuple[Array, Array]:
    """The images that have a label, and the labels."""
    if source.labels is None or (source.labels < 0).all():
        wanted = "a parquet label column, an idx labels file beside, Y in an npz, one folder a class, or a .mat of SVHN"
        raise ProbeError(f"{source.name}: the {which} images have no labels; expected {wanted}")
    known = source.labels >= 0
    if known.all():
        return source.images, source.labels
    notes.append(f"{int((~known).sum())} of {len(known)} {which} images have no label and were left out")
    return source.images[known], source.labels[known]


def _colours(train: Images, test: Images, images: Array, test_images: Array, notes: list[str]) -> None:
    if images.shape[1] == 1:
        return
    grey = [bool((x[:512, :1] == x[:512]).all()) for x in (images, test_images)]
    if grey[0] != grey[1]:
        names = (train.name, test.name) if grey[0] else (test.name, train.name)
        raise ProbeError(
            f"{names[0]}: its images are grey, those of {names[1]} coloured; expected two sets of one kind"
        )
    if grey[0]:
        notes.append(
            "the images are grey and the discriminator takes colour: each is shown to it three times over, as red, "
            "green and blue"
        )


def _digest(image: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def _renumbered(train: Images, test: Images, numbers: Array) -> Array:
    """Labels of the test images as the training images number the same names."""
    if bool(train.classes) != bool(test.classes):
        named, other = (train, test) if train.classes else (test, train)
        raise ProbeError(
            f"{named.name}: its classes have names, such as {named.classes[0]}, those of {other.name} numbers; "
            "expected two of one kind"
        )
    unknown = [name for name in test.classes if name not in train.classes]
    if unknown:
        raise ProbeError(
            f"{test.name}: has the class {unknown[0]}, which {train.name} lacks; expected some of "
            f"{', '.join(train.classes)}"
        )
    return np.array([train.classes.index(name) for name in test.classes])[numbers] if test.classes else numbers


def _names(source: Images, labels: Array) -> list[int | str]:
    return [source.classes[k] if source.classes else k for k in labels.tolist()]


def _listing(source: Images, labels: Array) -> str:
    return ", ".join(map(str, _names(source, labels[:12]))) + (" …" if len(labels) > 12 else "")


def stratified(labels: Tensor, n: int, classes: int, rng: np.random.Generator) -> Tensor:
    """Draw n places of labels (N,), equally by class; raises ProbeError for an n or a class that does not allow it."""
    each, left = divmod(n, classes)
    counts = torch.bincount(labels, minlength=classes)
    if left or not each:
        raise ProbeError(f"labels {n}: expected a multiple of the {classes} classes, to draw as many of each")
    if each > int(counts.min()):
        raise ProbeError(
            f"labels {n}: {each} a class asked for; the smallest class has {int(counts.min())} beside the validation "
            "images"
        )
    every = [rng.choice(np.flatnonzero((labels == k).numpy()), each, replace=False) for k in range(classes)]
    return torch.from_numpy(np.concatenate(every))
