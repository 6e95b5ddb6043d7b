"""The real images that samples are held against."""

from __future__ import annotations

import numpy as np

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.base.progress import Report
from probe.data import exclusion
from probe.data import loading as sources
from probe.measures.statistics import Array
from probe.models.gan import GAN
from probe.training.loop import own_split, same_source


def reals(gan: GAN, data: str, exclude: File | None, seed: int, tell: Report) -> tuple[Array, Array, str]:
    """Reference images and other real ones, disjoint and in random order, and where they come from."""
    images = sources.load(
        data, gan.size, gan.channels, progress=lambda done, total: tell(f"reading {data}", done, total or done)
    )
    run = gan.provenance.get("training") or {}
    same = same_source(gan, images.name, images.sha256)
    own = same is not False
    doubt = "; the checkpoint, of an earlier version, knows it by name and count only" if same is None else ""
    if not own and run.get("source") == images.name:
        doubt = f", other images than the {run['source']} that the checkpoint was trained on, by their contents"
    rng = np.random.default_rng(seed)
    if own and (run.get("split") or {}).get("holdout"):
        left_out = exclusion.load(path_of(exclude, "exclude")) if exclude else None
        trained, held = own_split(gan, images.images, images.name, left_out, images.sha256)
        return (
            rng.permutation(held),
            rng.permutation(trained),
            f"held-out images of {images.name}; floor: its training images{doubt}",
        )
    if exclude:
        raise ProbeError("`exclude`: is for `data` that the checkpoint was trained on with images held out")
    order = rng.permutation(len(images.images))
    half = len(order) // 2
    parts = (images.images[np.sort(part)] for part in (order[:half], order[half:]))
    reference, others = (rng.permutation(part) for part in parts)
    warning = ", which it was TRAINED on" if own else ""
    return reference, others, f"half of {images.name}{warning}; floor: its other half{doubt}"
