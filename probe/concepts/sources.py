"""Where boxes and segmenters of a concept come from: the built-in ones on rooms, a labels file, or a segmenter of your own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.base.plugins import made
from probe.base.progress import Report
from probe.concepts import labels, segmenters
from probe.concepts.protocols import Segmenter, checked_segmenter
from probe.data.sources import ROOMS
from probe.models.gan import GAN


@dataclass(frozen=True)
class Concept:
    """Boxes of a concept, the selector and the judge that read it, and what was assumed on the way.

    `selector` draws boxes, ranks units and tunes; `judge` alone measures, and its `judge_iou` (nan where it is not
    known) is on images that it was not trained on.
    """

    boxes: labels.Boxes
    selector: Segmenter
    judge: Segmenter
    judge_iou: float
    assumptions: list[str]


def rooms_edition(gan: GAN) -> int | None:
    """The edition of the rooms that this generator was trained on; None where it was trained on something else."""
    source = str((gan.provenance.get("training") or {}).get("source", ""))
    return ROOMS.get(source.partition(":")[0])


def is_rooms(gan: GAN) -> bool:
    """Whether the built-in segmenters know this generator's images: it was trained on rooms."""
    return rooms_edition(gan) is not None


def segmenters_of(gan: GAN) -> dict[str, segmenters.Segmenter]:
    """The built-in segmenters, `selector` and `judge`, of the edition of rooms that this generator was trained on."""
    return segmenters.load_rooms(rooms_edition(gan) or 1, gan.device)


def fresh_rooms(gan: GAN, n: int, seed: int) -> str:
    """The source of n rooms of a seed, of the edition that this generator was trained on, else of the first."""
    edition = rooms_edition(gan) or 1
    return f"{next(prefix for prefix, e in ROOMS.items() if e == edition)}:{n}@{seed}"


def from_rooms(gan: GAN, name: str, samples: int, seed: int) -> Concept:
    """Boxes drawn by the built-in selector on the first `samples` samples of a seed; for generators of rooms only."""
    if not is_rooms(gan):
        raise ProbeError(
            f"{gan.provenance.get('checkpoint', 'this model')}: not trained on rooms, so its {name}s must be boxed by hand: "
            "write numbered samples with `probe sample --each`, label them in any COCO tool, pass the file as `labels`"
        )
    known = segmenters_of(gan)
    selector, judge = known["selector"], known["judge"]
    if name not in selector.objects[1:]:
        raise ProbeError(f"concept {name}: the built-in segmenters know {', '.join(selector.objects[1:])}")
    masks = selector.labels(gan.sample(samples, seed)) == selector.objects.index(name)
    boxes = labels.from_masks(masks, name, seed)
    if len(boxes.boxes) < 8:
        raise ProbeError(
            f"{name}: found in {len(boxes.boxes)} of {samples} samples; at least 8 are needed, raise `samples`"
        )
    assumptions = [
        f"boxes drawn by the selector (dilated convolutions) around its {name} masks on {samples} samples of seed {seed}; in the paper by hand, 52 on 150",
        "judge: a U-Net trained on other renders than the selector; judge_iou on fresh clean renders",
    ]
    return Concept(boxes, selector, judge, segmenters.rooms_iou(judge, name, rooms_edition(gan) or 1), assumptions)


def read_boxes(gan: GAN, path: Path, name: str, label_seed: int | None) -> tuple[labels.Boxes, list[str]]:
    """Boxes of a concept from a COCO file, with the seed of their samples, and what was assumed.

    Raises ProbeError for labels of another checkpoint or another seed than asked for.
    """
    boxes = labels.load(path, name, gan.size)
    assumptions = []
    if boxes.checkpoint and gan.provenance.get("sha256") not in (None, boxes.checkpoint):
        raise ProbeError(
            f"{path.name}: labels of samples of checkpoint {boxes.checkpoint[:12]}…, but this one is {gan.provenance['sha256'][:12]}…; "
            "label this checkpoint's samples"
        )
    if label_seed is not None and boxes.seed not in (None, label_seed):
        raise ProbeError(f"{path.name}: labels of samples of seed {boxes.seed}, but `label_seed` is {label_seed}")
    if boxes.seed is None:
        boxes = labels.Boxes(boxes.concept, boxes.images, boxes.boxes, label_seed or 0, boxes.checkpoint)
        if label_seed is None:
            assumptions.append(f"{path.name} names no sampling seed: 0 taken")
    if gan.provenance.get("prior_source") == "assumed":
        assumptions.append(f"the checkpoint does not say its prior: {gan.prior} taken")
    assumptions.append(
        f"labels: {path.name}, {len(boxes)} boxes on {len(boxes.images)} samples of seed {boxes.seed or 0}"
    )
    return boxes, assumptions


def from_labels(
    gan: GAN,
    path: Path,
    name: str,
    label_seed: int | None,
    seed: int,
    report: Callable[[str, int, int], None] | None = None,
) -> Concept:
    """Boxes from a COCO file; a selector and a judge are fitted to disjoint halves of the labelled samples' pixels."""
    boxes, assumptions = read_boxes(gan, path, name, label_seed)
    boxes.require_absence()
    images = gan.latents(max(boxes.images) + 1, boxes.seed or 0)[list(boxes.images)]
    selector, judge, found = segmenters.fit_to_boxes(
        gan.images(images), boxes, seed=seed, device=gan.device, report=report
    )
    assumptions.append(
        f"selector and judge fitted to boxes on disjoint halves of {len(boxes.images)} labelled samples, from pixels alone; "
        "judge_iou on the half the judge did not see, filled boxes as truth"
    )
    return Concept(boxes, selector, judge, found, assumptions)


def from_segmenter(gan: GAN, name: str, given: Any, samples: int, seed: int) -> Concept:
    """Boxes that a segmenter of a user's own draws on the first `samples` samples; a pair is (selector, judge)."""
    selector, judge = given if isinstance(given, tuple | list) else (given, given)
    for one in (selector, judge):
        if name not in tuple(one.objects)[1:]:
            raise ProbeError(f"concept {name}: the segmenter knows {', '.join(tuple(one.objects)[1:]) or 'nothing'}")
    masks = selector.labels(gan.sample(samples, seed)) == tuple(selector.objects).index(name)
    boxes = labels.from_masks(masks, name, seed)
    if len(boxes.boxes) < 8:
        raise ProbeError(
            f"{name}: found in {len(boxes.boxes)} of {samples} samples; at least 8 are needed, raise `samples`"
        )
    notes = [f"boxes drawn by the segmenter given around its {name} masks on {samples} samples of seed {seed}"]
    if selector is judge:
        notes.append("selector and judge are the same segmenter: what was tuned to it is measured by it")
    return Concept(boxes, selector, judge, float("nan"), notes)


def segmenter_of(value: Any) -> Any:
    """A segmenter, or a pair (selector, judge), given as such or as pkg.module:factory; ProbeError for anything else."""
    value = made(value, "segmenter") if isinstance(value, str) else value
    if isinstance(value, tuple | list) and len(value) == 2:
        return tuple(map(checked_segmenter, value))
    return checked_segmenter(value)


def concept(
    gan: GAN,
    wanted: str | Concept,
    file: File | None,
    label_seed: int | None,
    segmenter: Any,
    samples: int,
    seed: int,
    report: Report | None,
) -> Concept:
    """A concept by its name, from a labels file, a segmenter or the built-in ones; or one that is given whole."""
    if isinstance(wanted, Concept):
        return wanted
    if not isinstance(wanted, str):
        raise ProbeError(f"`concept`: is a {type(wanted).__name__}; expected a name or a Concept")
    if file is not None and segmenter is not None:
        raise ProbeError("`labels` and `segmenter` both given; boxes come from one of them")
    if file is not None:
        return from_labels(gan, path_of(file, "labels"), wanted, label_seed, seed, report)
    if segmenter is not None:
        return from_segmenter(gan, wanted, segmenter_of(segmenter), samples, seed)
    return from_rooms(gan, wanted, samples, seed)
