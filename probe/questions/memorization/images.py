"""Training and held-out images: of the checkpoint's own split, or as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.base.progress import Report
from probe.data import exclusion
from probe.data import loading as sources
from probe.measures.statistics import Array
from probe.models.gan import GAN
from probe.training.loop import known_split, own_split, same_source


@dataclass(frozen=True)
class Split:
    """Training and held-out images (N, C, S, S), the names they have in their source, and where they come from."""

    train: Array
    holdout: Array | None
    train_names: Sequence[str]
    holdout_names: Sequence[str]
    notes: list[str]


def held_out(
    gan: GAN, data: str | None, train: str | None, holdout: str | None, exclude: File | None, tell: Report
) -> Split:
    """The images of the checkpoint's own split, or as given."""

    def read(source: str) -> sources.Images:
        return sources.load(
            source, gan.size, gan.channels, progress=lambda done, total: tell(f"reading {source}", done, total or done)
        )

    if train:
        if data:
            raise ProbeError("`data` and `train` both given; `data` is for a checkpoint that knows its split")
        if exclude:
            raise ProbeError("`exclude` with `train`; it is for `data`, of a checkpoint trained with such a list")
        known, held = read(train), read(holdout) if holdout else None
        note = f"training images: {known.name}; held out: {held.name if held else 'none'}, as given"
        return Split(known.images, held.images if held else None, known.names, held.names if held else (), [note])
    if holdout:
        raise ProbeError("`holdout_data` without `train`; pass the training images as `train`")
    known_split(gan)  # before images are read
    source = data or (gan.provenance.get("training") or {}).get("source", "")
    if not data and not source.startswith("rooms"):
        raise ProbeError(
            "no images: pass `data` (the source of `probe train --holdout`), or `train` and `holdout_data`"
        )
    left_out = exclusion.load(path_of(exclude, "exclude")) if exclude else None
    images = read(source)
    notes = [f"training and held-out images: the checkpoint's own split of {images.name}"]
    same = same_source(gan, images.name, images.sha256)
    if same is None:
        notes.append(f"{images.name}: the checkpoint, of an earlier version, knows it by name and count only")
    run = gan.provenance["training"]
    if same is False and run.get("source") and not run.get("contents") and len(images.images) >= run["split"]["of"]:
        found = f"{images.name} given; expected {run['source']}, which the checkpoint knows by name and count only"
        raise ProbeError(f"{found}; pass that, or `train` and `holdout_data`")
    indices = np.arange(len(images.images))[:, None]
    trained, unseen = own_split(gan, images.images, images.name, left_out, images.sha256)
    places = own_split(gan, indices, images.name, left_out, images.sha256)
    every = images.names or None
    trained_names, unseen_names = ([every[i] for i in part.ravel().tolist()] if every else [] for part in places)
    return Split(trained, unseen, trained_names, unseen_names, notes)
