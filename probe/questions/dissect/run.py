"""What every unit of a layer has to do with every concept: overlap, ranking and effect, beside shuffled images.

A unit's intersection over union is that of Network and GAN Dissection (units.py says how thresholds are chosen). The
best unit is the best of many: its control is the best unit under masks moved to other images, thresholds chosen anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.base.progress import Report
from probe.concepts import labels, units
from probe.concepts.labels import Boxes
from probe.concepts.protocols import Segmenter, differentiable
from probe.concepts.sources import from_labels, is_rooms, read_boxes, segmenter_of, segmenters_of
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.gan import GAN, to_bytes
from probe.models.hooks import Site, feature_maps, resolve
from probe.questions.dissect.tables import write_csv, write_latex
from probe.results.result import Result

SHOWN, CONCEPTS = 5, 8  # images of a unit and concepts that the figure shows
_CHUNK = 64


@dataclass(frozen=True)
class Material:
    """Latents z (N, nz), masks (N, S, S) boolean of each concept on their images, and who reads it, as label `value`.

    A concept without a segmenter gets no causal effect. `assumptions` says where the masks come from.
    """

    z: Tensor
    masks: Mapping[str, Tensor]
    segmenters: Mapping[str, tuple[Segmenter, int]] = field(default_factory=dict)
    assumptions: Sequence[str] = ()


def material(
    gan: GAN,
    file: File | None,
    label_seed: int | None,
    causal: bool,
    segmenter: Any,
    samples: int,
    seed: int,
    tell: Report,
) -> Material:
    """Masks and segmenters: of a segmenter (the built-in selector on rooms), or boxes from a file, segmenters fitted if asked."""
    if file is not None and segmenter is not None:
        raise ProbeError("`labels` and `segmenter` both given; masks come from one of them")
    if file is None:
        if causal:
            raise ProbeError("`causal` fits segmenters to boxes; pass their file as `labels`, or leave it out on rooms")
        if segmenter is not None:
            given = segmenter_of(segmenter)
            return from_segmenter(gan, given[0] if isinstance(given, tuple) else given, samples, seed)
        if not is_rooms(gan):
            name = gan.provenance.get("checkpoint", "this model")
            raise ProbeError(
                f"{name}: not trained on rooms, so concepts must be boxed by hand: write numbered samples with "
                "`probe sample --each`, label them in any COCO tool, pass the file as `labels`"
            )
        return from_segmenter(gan, segmenters_of(gan)["selector"], samples, seed)
    path = path_of(file, "labels")
    names = labels.categories(path)
    read = [read_boxes(gan, path, name, label_seed) for name in names]
    selectors = {name: from_labels(gan, path, name, label_seed, seed, tell).selector for name in names if causal}
    notes = dict.fromkeys(note for _, found in read for note in found)  # each once
    return from_boxes(gan, [boxes for boxes, _ in read], selectors, list(notes))


def from_segmenter(gan: GAN, segmenter: Segmenter, n: int, seed: int) -> Material:
    """Every object (but the background) that a segmenter sees on the first n samples of a seed."""
    seen = segmenter.labels(gan.sample(n, seed))
    values = {name: k for k, name in enumerate(segmenter.objects) if k and bool((seen == k).any())}
    note = f"masks: the selector's label maps of {n} samples of seed {seed}; effects: on what the same selector sees"
    masks = {name: seen == k for name, k in values.items()}
    sighted = {name: (segmenter, k) for name, k in values.items()} if differentiable(segmenter) else {}
    return Material(gan.latents(n, seed), masks, sighted, [note])


def from_boxes(
    gan: GAN, concepts: Sequence[Boxes], segmenters: Mapping[str, Segmenter] | None = None, notes: Sequence[str] = ()
) -> Material:
    """Boxes of concepts on the samples that tell of all of them; `segmenters` are those fitted to some of them, label 1 the concept."""
    common = sorted(set.intersection(*(set(b.images) for b in concepts)))
    if not common:
        found = ", ".join(b.concept for b in concepts)
        raise ProbeError(f"no sample tells of all of {found}; expected some that were looked at for each of them")
    concepts = [replace(b, images=tuple(common)) for b in concepts]
    first = concepts[0]
    z = gan.latents(max(first.images) + 1, first.seed or 0)[list(first.images)]
    known = {name: (segmenter, 1) for name, segmenter in (segmenters or {}).items()}
    notes = [
        *notes,
        f"masks: filled boxes on {len(first.images)} samples, so overlap stays below what outlines would give",
    ]
    if set(known) != {b.concept for b in concepts}:
        notes.append(
            "no causal effects: they need a segmenter, which boxes alone are not; `causal` fits one to a concept's boxes"
        )
    return Material(z, {b.concept: b.masks(gan.size) for b in concepts}, known, notes)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `dissect`: the layer, how many units a concept are listed, and how often images are shuffled."""

    layer: str
    top: int = 8
    shuffles: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.top < 1 or self.shuffles < 1:
            raise ProbeError(f"top {self.top}, shuffles {self.shuffles}: expected at least 1 of each")


def cells(masks: Tensor, grid: int) -> Tensor:
    """Cells (N, grid, grid) of feature maps inside masks (N, S, S): covered by half, or the image's most covered one."""
    share = F.interpolate(masks[:, None].float(), (grid, grid), mode="area")[:, 0]
    most = share.flatten(1).amax(1)[:, None, None]
    return (share >= 0.5) | ((share == most) & (most > 0))


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Pixels by threshold q, unit c, concept k, image n, shuffle b: active (Q, C, N), both (Q, C, K, N), moved (Q, C, K, B)."""

    levels: Tensor
    active: Tensor
    both: Tensor
    moved: Tensor
    area: Tensor  # (K, N)


def _count(maps: Tensor, masks: Tensor, orders: Tensor, report: Callable[[int, int], None]) -> _Counts:
    """Overlap of maps (N, C, H, H) with masks (N, K, S, S) of the same images, and of others by orders (B, N)."""
    n, channels, side = len(maps), maps.shape[1], masks.shape[-1]
    levels = units.top_levels(maps)  # (Q, C)
    pixels = masks.flatten(2).float()  # (N, K, P)
    active, both = torch.zeros(*levels.shape, n), torch.zeros(*levels.shape, masks.shape[1], n)
    moved = torch.zeros(*levels.shape, masks.shape[1] * len(orders))
    for i in range(n):
        others = torch.cat([pixels[i], pixels[orders[:, i]].flatten(0, 1)])  # (K + B·K, P)
        for part in torch.arange(channels).split(_CHUNK):
            large = F.interpolate(maps[i : i + 1, part], size=(side, side), mode="bilinear")[0].flatten(1)
            on = (large > levels[:, part, None]).float()  # (Q, units, P)
            found = on @ others.T
            active[:, part, i], both[:, part, :, i] = on.sum(2), found[..., : masks.shape[1]]
            moved[:, part] += found[..., masks.shape[1] :]
        report(i + 1, n)
    moved = moved.unflatten(2, (len(orders), -1)).transpose(2, 3)
    return _Counts(levels=levels, active=active, both=both, moved=moved, area=pixels.sum(2).T)


def _best(active: Tensor, both: Tensor, area: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Each unit's best threshold and its overlap, (C, …), from pooled counts both (Q, C, …), as `units.overlap` chooses it."""
    active = active.expand_as(both)
    quality = units.information_quality(active, both, area.expand_as(both), total)
    quality[both * total <= active * area] = -1
    best = quality.argmax(0, keepdim=True)
    iou = both / (active + area - both).clamp(min=1)
    return best[0], iou.gather(0, best)[0]


def dissect(gan: GAN, material: Material, settings: Settings, report: Report | None = None) -> Result:
    """Score every unit of a layer against every concept.

    Arrays: `iou`, `auc`, `effect`, `threshold` (C, K), `random_best` (shuffles, K), and for the figure the images on
    which the top units are most active with where they are and where the concept is: `shown_units` (R, 2) unit and
    concept, `shown_images` (R, 5, channels, S, S) uint8, `shown_active` and `shown_masks` (R, 5, S, S) boolean as uint8.
    `effect` is the mean over images of Σ x·∂A/∂x over places, A the concept's soft area as a share of the pixels; nan
    without a segmenter. Raises ProbeError for a layer that is not there and for material without a concept.
    """
    tell = report or (lambda *_: None)
    if not material.masks or len(material.z) < 2:
        raise ProbeError(f"{len(material.masks)} concepts on {len(material.z)} images; at least 1 on 2 are needed")
    site, names = resolve(gan, settings.layer), list(material.masks)
    drawn: list[Tensor] = []
    maps = feature_maps(gan, material.z, [site.name], lambda batch: drawn.append(batch.cpu()))[site.name]
    images = torch.cat(drawn)
    masks = torch.stack([material.masks[name] for name in names], 1)  # (N, K, S, S)
    rng = np.random.default_rng(settings.seed)
    orders = torch.from_numpy(np.stack([rng.permutation(len(maps)) for _ in range(settings.shuffles)]))
    counts = _count(maps, masks, orders, lambda i, n: tell("overlap, with shuffled images", i, n))
    total, area = masks[:, 0].numel(), counts.area.sum(1)
    active = counts.active.sum(2)[..., None]  # (Q, C, 1)
    chosen, iou = _best(active, counts.both.sum(3), area, total)  # (C, K)
    _, random = _best(active[..., None], counts.moved, area[:, None], total)  # (C, K, B)
    auc = torch.stack([units.unit_aucs(maps, cells(masks[:, k], site.grid)) for k in range(len(names))], 1)
    effect = _effects(gan, site, material, names, tell)  # (N, C, K)
    arrays = {
        "iou": measures.to_numpy(iou),
        "auc": measures.to_numpy(auc),
        "effect": effect.mean(0),
        "threshold": measures.to_numpy(counts.levels.T.gather(1, chosen)),
        "random_best": measures.to_numpy(random.amax(0).T),
    }
    concepts = {name: _concept(k, settings.top, arrays, counts, chosen, effect) for k, name in enumerate(names)}
    for k, name in enumerate(names):
        concepts[name] |= {"images": int(masks[:, k].flatten(1).any(1).sum()), "area": float(area[k]) / total}
    metrics = {"layer": site.name, "maps_total": site.maps, "images": len(maps), "concepts": concepts}
    arrays |= _shown(maps, images, masks, concepts, arrays["threshold"])
    notes = [*material.assumptions, *_ASSUMED]
    result = Result("dissect", metrics, asdict(settings), notes, dict(gan.provenance), arrays)
    result.files |= {"units.csv": partial(write_csv, result), "units.tex": partial(write_latex, result)}
    return result


_ASSUMED = (
    "a unit's threshold is one of six top quantiles, that of the largest information quality ratio (GAN Dissection, section 3.1)",
    "p_value: best IoU of all units under masks moved to other images, thresholds chosen anew; intervals of a unit's IoU are "
    "over images at its threshold and do not account for its having been picked",
    "AUC: cells of the layer covered by half, or the most covered one of an image, against all others",
)


def _effects(gan: GAN, site: Site, material: Material, names: list[str], tell: Report) -> Array:
    """First-order effects by image, (N, C, K); nan for concepts without a segmenter."""
    out = np.full((len(material.z), site.maps, len(names)), np.nan)
    for k, name in enumerate(names):
        if name in material.segmenters:
            segmenter, value = material.segmenters[name]
            found = units.effects(gan, [site.name], material.z, segmenter, value)[site.name]
            out[:, :, k] = measures.to_numpy(found)
        tell("effects", k + 1, len(names))
    return out


def _concept(
    k: int, top: int, arrays: dict[str, Array], counts: _Counts, chosen: Tensor, effect: Array
) -> dict[str, Any]:
    """A concept's best units with intervals, and whether the best beats shuffled images."""
    iou, random = arrays["iou"][:, k], arrays["random_best"][:, k]
    rows = []
    for unit in np.argsort(-iou, kind="stable")[:top]:
        q = int(chosen[unit, k])
        both, active = counts.both[q, unit, k], counts.active[q, unit]
        interval = measures.ratio_ci(both.numpy(), (active + counts.area[k] - both).numpy())
        known = bool(np.isfinite(effect[0, unit, k]))
        rows.append({
            "unit": int(unit), "iou": float(iou[unit]), "iou_ci": interval, "auc": float(arrays["auc"][unit, k]),
            "effect": float(effect[:, unit, k].mean()) if known else None,
            "effect_ci": measures.mean_ci(effect[:, unit, k]) if known else None,
        })  # fmt: skip
    best, p95 = float(iou.max()), float(np.percentile(random, 95))
    control = {"best_iou_mean": float(random.mean()), "best_iou_p95": p95, "draws": len(random)}
    return {
        "best_iou": best, "best_iou_ci": rows[0]["iou_ci"], "random": control,
        "p_value": measures.p_value(best, random), "detectors": int((iou > p95).sum()), "units": rows,
    }  # fmt: skip


def _shown(
    maps: Tensor, images: Tensor, masks: Tensor, concepts: dict[str, Any], thresholds: Array
) -> dict[str, Array]:
    """The images on which each concept's first units are most active, where they are active, and where the concept is."""
    names = sorted(concepts, key=lambda name: -concepts[name]["best_iou"])[:CONCEPTS]
    each = max(2, 8 // len(names))
    order, side = list(concepts), images.shape[-1]
    picked, pictures, active, truth = [], [], [], []
    for name in names:
        k = order.index(name)
        for row in concepts[name]["units"][:each]:
            unit = row["unit"]
            rows = maps[:, unit].flatten(1).amax(1).argsort(descending=True, stable=True)[:SHOWN]
            large = F.interpolate(maps[rows, unit][:, None], size=(side, side), mode="bilinear")[:, 0]
            picked.append((unit, k))
            pictures.append(to_bytes(images[rows]))
            active.append(large > float(thresholds[unit, k]))
            truth.append(masks[rows, k])
    return {
        "shown_units": np.array(picked),
        "shown_images": torch.stack(pictures).numpy(),
        "shown_active": torch.stack(active).to(torch.uint8).numpy(),
        "shown_masks": torch.stack(truth).to(torch.uint8).numpy(),
    }
