"""Where boxes and segmenters of a concept come from: the built-in segmenters on rooms, or a labels file on anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probe.base.errors import ProbeError
from probe.concepts import labels
from probe.concepts import segmenters as segmenters
from probe.concepts.segmenters import Segmenter
from probe.models.gan import GAN


@dataclass(frozen=True)
class Concept:
    """Boxes of a concept, the selector and the judge that read it, and what was assumed on the way."""

    boxes: labels.Boxes
    selector: Segmenter
    judge: Segmenter
    judge_iou: float
    assumptions: list[str]


def is_rooms(gan: GAN) -> bool:
    """Whether the built-in segmenters know this generator's images: it was trained on rooms."""
    return str(gan.provenance.get("training", {}).get("source", "")).startswith("rooms")


def from_rooms(gan: GAN, name: str, samples: int, seed: int) -> Concept:
    """Boxes drawn by the built-in selector on the first `samples` samples of a seed; for generators of rooms only."""
    if not is_rooms(gan):
        raise ProbeError(
            f"{gan.provenance.get('checkpoint', 'this model')}: not trained on rooms, so its {name}s must be boxed by hand: "
            "write numbered samples with `probe sample --each`, label them in any COCO tool, pass the file as --labels"
        )
    known = segmenters.load_rooms(device=gan.device)
    selector, judge = known["selector"], known["judge"]
    if name not in selector.objects[1:]:
        raise ProbeError(f"concept {name}: the built-in segmenters know {', '.join(selector.objects[1:])}")
    masks = selector.labels(gan.sample(samples, seed)) == selector.objects.index(name)
    boxes = labels.from_masks(masks, name, seed)
    if len(boxes.boxes) < 8:
        raise ProbeError(
            f"{name}: found in {len(boxes.boxes)} of {samples} samples; at least 8 are needed, raise --samples"
        )
    assumptions = [
        f"boxes drawn by the selector (dilated convolutions) around its {name} masks on {samples} samples of seed {seed}; in the paper by hand, 52 on 150",
        "judge: a U-Net trained on other renders than the selector; judge_iou on fresh clean renders",
    ]
    return Concept(boxes, selector, judge, segmenters.rooms_iou(judge, name), assumptions)


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
        raise ProbeError(f"{path.name}: labels of samples of seed {boxes.seed}, but --label-seed is {label_seed}")
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
