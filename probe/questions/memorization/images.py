"""Training and held-out images: of the checkpoint's own split, or as given."""

from __future__ import annotations

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.base.progress import Report
from probe.data import exclusion
from probe.data import loading as sources
from probe.measures.statistics import Array
from probe.models.gan import GAN
from probe.training.loop import known_split, own_split


def held_out(
    gan: GAN, data: str | None, train: str | None, holdout: str | None, exclude: File | None, tell: Report
) -> tuple[Array, Array | None, list[str]]:
    """Training and held-out images, from the checkpoint's own split or as given, and where they come from."""

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
        return known.images, held.images if held else None, [note]
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
    return (
        *own_split(gan, images.images, images.name, left_out),
        [f"training and held-out images: the checkpoint's own split of {images.name}"],
    )
