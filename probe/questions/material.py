"""What a question needs besides the GAN: from the built-in segmenters on generators of rooms, or from files that are named.

look_at(...)         images for a discriminator's units
dissectable(...)     masks and segmenters for dissection
concept(...)         boxes, selector and judge of one concept
exemplars(...)       latents that show concepts; known_on_rooms(...) checks their names
held_out(...)        training and held-out images
reals(...)           real images to hold samples against, and others
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from probe.base.errors import ProbeError

if TYPE_CHECKING:
    from probe.concepts.exemplars import Exemplars, Labelled
    from probe.concepts.sources import Concept
    from probe.measures.statistics import Array
    from probe.models.gan import GAN
    from probe.questions.dissect.run import Material
    from probe.questions.guided_backprop.lens import Source

Report = Callable[[str, int, int], None]
File = str | Path


def look_at(gan: GAN, data: str | None, limit: int | None, seed: int, tell: Report) -> tuple[Source, list[str]]:
    """The images to look at, and what has to be said about them."""
    from probe.concepts.sources import is_rooms
    from probe.data import loading as sources
    from probe.questions.guided_backprop.lens import from_images, from_samples

    text = data or ("rooms:2048@1" if is_rooms(gan) else "samples:2048")
    prefix, _, number = text.partition(":")
    if prefix == "samples":
        if not (number or "2048").isdigit() or int(number or 2048) < 1:
            raise ProbeError(f"data {text}: expected samples or samples:N, such as samples:4096")
        n = min(int(number or 2048), limit or 10**9)
        return from_samples(gan, n, seed), [f"data: {n} of the generator's own samples, seed {seed}"]
    tell("reading images", 0, 1)
    images = sources.load(
        text, gan.size, gan.channels, limit, progress=lambda done, total: tell("reading images", done, total or done)
    )
    notes = []
    if images.resized:
        notes.append(
            f"{images.name}: {images.resized} of {len(images.images)} images were of another size and were resized to "
            f"{gan.size}x{gan.size} (shorter side, centre crop)"
        )
    if images.skipped:
        notes.append(f"{images.name}: skipped {len(images.skipped)} unreadable files")
    return from_images(images), notes


def dissectable(
    gan: GAN, path: File | None, label_seed: int | None, causal: bool, samples: int, seed: int, tell: Report
) -> Material:
    """Masks and segmenters: the built-in selector's on rooms, or boxes from a file with segmenters fitted to them if asked."""
    from probe.concepts import labels
    from probe.concepts.segmenters import load_rooms
    from probe.concepts.sources import from_labels, is_rooms, read_boxes
    from probe.questions.dissect.run import from_boxes, from_segmenter

    if path is None:
        if causal:
            raise ProbeError("--causal fits segmenters to boxes; pass their file as --labels, or leave it out on rooms")
        if not is_rooms(gan):
            name = gan.provenance.get("checkpoint", "this model")
            raise ProbeError(
                f"{name}: not trained on rooms, so concepts must be boxed by hand: write numbered samples with "
                "`probe sample --each`, label them in any COCO tool, pass the file as --labels"
            )
        return from_segmenter(gan, load_rooms()["selector"], samples, seed)
    path = Path(path)
    names = labels.categories(path)
    read = [read_boxes(gan, path, name, label_seed) for name in names]
    selectors = {}
    for name in names if causal else ():
        selectors[name] = from_labels(gan, path, name, label_seed, seed, tell).selector
    notes = dict.fromkeys(note for _, found in read for note in found)  # each once
    return from_boxes(gan, [boxes for boxes, _ in read], selectors, list(notes))


def concept(
    gan: GAN, name: str, labels: File | None, label_seed: int | None, samples: int, seed: int, report: Report | None
) -> Concept:
    """Boxes and segmenters of a concept, from the built-in segmenters or from a file."""
    from probe.concepts.sources import from_labels, from_rooms

    if labels is None:
        return from_rooms(gan, name, samples, seed)
    return from_labels(gan, Path(labels), name, label_seed, seed, report)


def known_on_rooms(*expressions: str) -> list[str]:
    """The concepts of expressions over rooms, each once; raises ProbeError, pointing at the place, for an unknown one."""
    from probe.concepts.attributes import Vocabulary
    from probe.concepts.expressions import parse

    parsed = [parse(text, Vocabulary()) for text in expressions]
    return list(dict.fromkeys(term.name for expression in parsed for term in expression.terms))


def exemplars(
    gan: GAN, path: File | None, names: list[str], samples: int, seed: int, report: Report | None
) -> tuple[Exemplars, Labelled | None]:
    """Exemplars from a file, or of named concepts by the built-in selector, with the judge that scores them."""
    from probe.concepts.exemplars import label, load

    if path is not None:
        return load(path, gan), None
    labelled = label(gan, samples, seed, report)
    return labelled.exemplars(names), labelled


def held_out(
    gan: GAN, data: str | None, train: str | None, holdout: str | None, exclude: File | None, tell: Report
) -> tuple[Array, Array | None, list[str]]:
    """Training and held-out images, from the checkpoint's own split or as given, and where they come from."""
    from probe.data import exclusion
    from probe.data import loading as sources
    from probe.training.loop import known_split, own_split

    def read(source: str) -> sources.Images:
        return sources.load(
            source, gan.size, gan.channels, progress=lambda done, total: tell(f"reading {source}", done, total or done)
        )

    if train:
        if data:
            raise ProbeError("--data and --train both given; --data is for a checkpoint that knows its split")
        if exclude:
            raise ProbeError("--exclude with --train; it is for --data, of a checkpoint trained with such a list")
        known, held = read(train), read(holdout) if holdout else None
        note = f"training images: {known.name}; held out: {held.name if held else 'none'}, as given"
        return known.images, held.images if held else None, [note]
    if holdout:
        raise ProbeError("--holdout-data without --train; pass the training images as --train")
    known_split(gan)  # before images are read
    source = data or (gan.provenance.get("training") or {}).get("source", "")
    if not data and not source.startswith("rooms"):
        raise ProbeError(
            "no images: pass --data (the source of `probe train --holdout`), or --train and --holdout-data"
        )
    left_out = exclusion.load(Path(exclude)) if exclude else None
    images = read(source)
    return (
        *own_split(gan, images.images, images.name, left_out),
        [f"training and held-out images: the checkpoint's own split of {images.name}"],
    )


def reals(gan: GAN, data: str, exclude: File | None, seed: int, tell: Report) -> tuple[Array, Array, str]:
    """Reference images and other real ones, disjoint and in random order, and where they come from."""
    import numpy as np

    from probe.data import exclusion
    from probe.data import loading as sources
    from probe.training.loop import own_split

    images = sources.load(
        data, gan.size, gan.channels, progress=lambda done, total: tell(f"reading {data}", done, total or done)
    )
    run = gan.provenance.get("training") or {}
    own = run.get("source") == images.name
    rng = np.random.default_rng(seed)
    if own and (run.get("split") or {}).get("holdout"):
        left_out = exclusion.load(Path(exclude)) if exclude else None
        trained, held = own_split(gan, images.images, images.name, left_out)
        return (
            rng.permutation(held),
            rng.permutation(trained),
            f"held-out images of {images.name}; floor: its training images",
        )
    if exclude:
        raise ProbeError("--exclude: is for --data that the checkpoint was trained on with images held out")
    order = rng.permutation(len(images.images))
    half = len(order) // 2
    parts = (images.images[np.sort(part)] for part in (order[:half], order[half:]))
    reference, others = (rng.permutation(part) for part in parts)
    warning = ", which it was TRAINED on" if own else ""
    return reference, others, f"half of {images.name}{warning}; floor: its other half"
