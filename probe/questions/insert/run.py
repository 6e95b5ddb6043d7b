"""Can the generator be made to draw a concept where it did not? Insertion at a place, and its controls.

The opposite of forgetting, after GAN Dissection (Bau et al. 2019, section 4.3). At the cells of a layer inside the box,
with μ₁ the mean activations where the concept is, μ₀ those at the same places of images without it, and s the strength:

    pattern  x' = max(0, x + s·(μ₁ - μ₀)), the means taken place by place: the upper left of the box learns from the upper
             left of every labelled box, so that a window gets its frame
    shift    the same with one mean over all places
    units    x'_u = max(0, μ₀ + s·(μ₁ - μ₀))_u for the units of largest contrast (μ₁ - μ₀)_u / σ_u; s = 1 sets them to
             their mean where the concept is, as GAN Dissection does (which ranks units by their causal effect)

Three disjoint sets of latents: labelled (boxes; fitting), tuning (the selector picks variant, layers and strength), held-out
(the judge measures); of the last two only those without the concept in the box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.concepts.protocols import Segmenter
from probe.measures.statistics import Array
from probe.models.gan import GAN, to_bytes
from probe.models.hooks import Site, feature_maps, resolve, sites
from probe.questions.insert.placement import FREE, HALF, Box, Candidate, Donors, Spot, cells, moved_boxes, summary
from probe.questions.insert.positions import exemplars, positions
from probe.results.result import Result

LEAST, SHOWN = 16, 12
ENOUGH = 0.9  # success on the tuning latents beyond which a smaller change is preferred to a larger one
Report = Callable[[str, int, int], None]
_ASSUMED = (
    f"an image has the concept in the box when the segmenter sees it on {FREE:.0%} of the box or more; insertion succeeds when it "
    f"then covers {HALF:.0%} or more",
    f"of the tried variants, layers, units and strengths whose mean change outside the dilated box is within the bound, the one "
    f"that succeeds on {ENOUGH:.0%} of the tuning latents, by the selector, with the least change inside; if none does, the largest "
    "success; if none is within the bound, the least change outside",
    "map of positions: the edit as tuned at `where`; beside it labelled exemplars pasted in pixels, since the judge may not "
    "recognise a concept where it never is",
    "random control: the same edit fitted to boxes moved to other images, its strength scaled until the mean change inside the "
    "box is the method's",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `insert`. `layer` None means the second from the latent, the second from the pixels, and both together.

    `units` are numbers of units tried, as shares of a layer's; `bound` is the largest mean change outside the dilated
    box, in [0, 1] units; `positions` latents are tried at each place of the map.
    """

    layer: str | None = None
    strengths: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
    units: tuple[float, ...] = (0.1, 0.3)
    bound: float = 0.03
    tuning: int = 64
    heldout: int = 128
    draws: int = 100
    random_latents: int = 64
    positions: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.tuning < LEAST or self.heldout < LEAST or self.random_latents < LEAST:
            raise ProbeError(
                f"insert: draws {self.draws}, tuning {self.tuning}, heldout {self.heldout}, random latents {self.random_latents}: "
                f"expected at least 1, {LEAST}, {LEAST} and {LEAST}"
            )
        if not self.strengths or not all(s > 0 for s in self.strengths) or not all(0 < u <= 1 for u in self.units):
            raise ProbeError(
                "insert: strengths and units: expected strengths above 0, at least one, and shares of 0 to 1"
            )
        if not self.bound > 0:
            raise ProbeError(f"insert: bound {self.bound:g}: expected a change above 0, in [0, 1] units")


def _free(gan: GAN, segmenter: Segmenter, concept: str, box: Box, n: int, seed: int) -> tuple[Tensor, float]:
    """The first latents of a seed, at most n, without the concept in a box, and the share of samples that lack it there."""
    z = gan.latents(4 * n, seed)
    inside, value = cells(box, gan.size, gan.size), segmenter.objects.index(concept)
    seen = segmenter.labels(gan.images(z))[:, inside] == value
    lacks = seen.float().mean(1) < FREE
    if lacks.sum() < LEAST:
        raise ProbeError(
            f"insert: {concept}: {int(lacks.sum())} of {len(z)} samples lack it in that box; at least {LEAST} are needed: choose another `where`"
        )
    return z[lacks][:n], float(lacks.float().mean())


def places(gan: GAN, layer: str | None, box: Box) -> list[Site]:
    """The layer asked for, else the second from the latent and the second from the pixels; those whose cells fit in the box.

    Raises ProbeError for a box that is not inside the image, or smaller than a cell of every such layer.
    """
    x0, y0, x1, y1 = box
    text = ",".join(f"{v:g}" for v in box)
    if not (0 <= x0 < x1 <= gan.size and 0 <= y0 < y1 <= gan.size):
        raise ProbeError(
            f"where {text}: expected x0,y0,x1,y1 in pixels with 0 <= x0 < x1 <= {gan.size} and 0 <= y0 < y1 <= {gan.size}"
        )
    known = sites(gan)
    if layer is None and len(known) < 2:
        raise ProbeError(f"insert: {len(known)} layers with feature maps in the generator; at least 2 are needed")
    wanted = [resolve(gan, layer)] if layer is not None else list({s.name: s for s in (known[1], known[-2])}.values())
    fitting = [s for s in wanted if min(x1 - x0, y1 - y0) * s.grid >= gan.size]
    if not fitting:
        names = " and ".join(f"{s.name} ({gan.size / s.grid:g} px)" for s in wanted)
        raise ProbeError(
            f"where {text}: smaller than a cell of {names}; enlarge it, or take a `layer` nearer the pixels"
        )
    return fitting


def _rank(found: dict[str, Any], bound: float) -> tuple[float, ...]:
    """How good a tuning score is, best last; see `_ASSUMED`. A box over the whole image has no outside to change."""
    outside = found["collateral"] if np.isfinite(found["collateral"]) else 0.0
    if outside > bound:
        return 0, -outside
    if found["success"] >= ENOUGH:
        return 2, -found["inside"]
    return 1, found["success"], found["covered"]


def _tune(
    candidates: list[Candidate], donors: Donors, spot: Spot, settings: Settings, report: Report
) -> dict[str, tuple[Candidate, float, dict[str, Any]]]:
    """Of each variant the best candidate, its strength and its tuning scores; the best variant first."""
    best: dict[str, tuple[tuple[float, ...], Candidate, float, dict[str, Any]]] = {}
    for k, candidate in enumerate(candidates):
        edits = candidate.fitted(donors, spot.box)
        for strength in settings.strengths:
            found = summary(spot.score(edits(strength)))
            rank = _rank(found, settings.bound)
            if candidate.variant not in best or rank > best[candidate.variant][0]:
                best[candidate.variant] = (rank, candidate, strength, found)
        report("tuning", k + 1, len(candidates))
    ranked = sorted(best.items(), key=lambda item: item[1][0], reverse=True)
    return {name: (candidate, strength, found) for name, (_, candidate, strength, found) in ranked}


def insert(
    gan: GAN,
    boxes: Boxes,
    selector: Segmenter,
    judge: Segmenter,
    where: Box,
    settings: Settings | None = None,
    *,
    judge_iou: float = float("nan"),
    report: Report | None = None,
) -> Result:
    """Make a generator draw a concept in a box x0, y0, x1, y1 (pixels), and measure how often it does.

    `boxes` label the samples `gan.latents(max(boxes.images) + 1, boxes.seed)`. Metrics as published under `insert`;
    arrays for the figure: images before and after, curves of both variants, random points, maps of positions. The GAN
    is unchanged. Raises ProbeError for a box outside the image or smaller than a cell of the layers, a concept that the
    segmenters do not know, and where nearly every sample has the concept there.
    """
    s = settings or Settings()
    tell = report or (lambda *_: None)
    for segmenter in (selector, judge):
        if boxes.concept not in segmenter.objects[1:]:
            raise ProbeError(f"concept {boxes.concept}: the segmenters know {', '.join(segmenter.objects[1:])}")
    layers = places(gan, s.layer, where)
    names = [p.name for p in layers]
    z_labelled = gan.latents(max(boxes.images) + 1, boxes.seed or 0)[list(boxes.images)]
    donors = Donors(feature_maps(gan, z_labelled, names), boxes, gan.size, s.seed)
    together = [(p,) for p in layers] + ([tuple(layers)] if len(layers) > 1 else [])
    tried: tuple[tuple[str, float | None], ...] = (("pattern", None), ("shift", None), *(("units", u) for u in s.units))
    candidates = [Candidate(variant, sites, units) for variant, units in tried for sites in together]

    z, _ = _free(gan, selector, boxes.concept, where, s.tuning, seeds.TUNING.of(s.seed))
    tuned = _tune(candidates, donors, Spot(gan, z, selector, boxes.concept, where, names), s, tell)
    z, lacking = _free(gan, judge, boxes.concept, where, s.heldout, seeds.HELDOUT.of(s.seed))
    heldout = Spot(gan, z, judge, boxes.concept, where, names)
    methods: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for variant, (candidate, strength, found) in tuned.items():
        edits = candidate.fitted(donors, where)
        curve = {d: summary(heldout.score(edits(d))) for d in s.strengths}
        arrays[f"{variant}_curve"] = np.array([(d, m["success"], m["collateral"]) for d, m in curve.items()])
        methods[variant] = {
            "layers": [p.name for p in candidate.sites], "strength": strength,
            "units": {p.name: candidate.count(p) or p.maps for p in candidate.sites},
            **curve[strength], "tuning": {k: found[k] for k in ("success", "collateral")},
        }  # fmt: skip
    chosen, (candidate, strength, _) = next(iter(tuned.items()))
    small = Spot(gan, z[: s.random_latents], judge, boxes.concept, where, names)
    random, p, points = moved_boxes(
        candidate, strength, donors, small, s.draws, s.seed, lambda k, n: tell("random control", k, n)
    )
    pool = gan.latents(4 * s.heldout, seeds.HELDOUT.of(s.seed))
    grids, by_object = positions(
        gan,
        pool,
        judge,
        boxes.concept,
        where,
        names,
        lambda box: candidate.fitted(donors, box)(strength),
        exemplars(gan.images(z_labelled), boxes),
        s.positions,
        lambda k, n: tell("positions", k, n),
    )
    after = heldout.replay.images(candidate.fitted(donors, where)(strength), torch.arange(SHOWN))
    arrays |= {
        "before": to_bytes(heldout.images[:SHOWN]).numpy(),
        "after": to_bytes(after).numpy(),
        "random": points,
        **grids,
    }
    metrics = {
        "concept": boxes.concept,
        "where": list(where),
        "variant": chosen,
        **methods[chosen],
        "p_value": p,
        "random": random,
        "latents": len(z),
        "lacking": lacking,
        "bound": s.bound,
        "methods": methods,
        "by_object": by_object,
        "boxes": len(boxes),
        "images_labelled": len(boxes.images),
        "judge_iou": judge_iou,
    }
    reading = f"layers: {' and '.join(map(str, layers))}" + ("" if s.layer is None else ", as asked")
    return Result(
        "insert", metrics, {**asdict(s), "where": list(where)}, [reading, *_ASSUMED], dict(gan.provenance), arrays
    )
