"""Can the generator be made to forget a concept? The paper's map dropping, its rivals and ours, and their controls.

Three disjoint sets of latents: labelled (boxes; fitting), tuning (the selector picks layers and strength), held-out (the
judge measures). The methods: probe/edits/methods/; formulas and names of the measures: docs/numbers.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from probe.base import parallel, seeds
from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.concepts.probing import NEGATIVES, LabelledMaps, cross_auc
from probe.concepts.protocols import Segmenter, differentiable
from probe.edits import surgery
from probe.edits.context import Fit
from probe.edits.methods import BUILDERS, METHODS, candidates
from probe.edits.refinement import READABLE
from probe.edits.scoring import Scorer, Scores, compare
from probe.edits.tuning import BOUND, Method, Report, label_draws, random_edits, tune
from probe.measures.statistics import Array, mean_ci, ratio_ci
from probe.models.dcgan import Generator
from probe.models.gan import GAN, to_bytes
from probe.models.hooks import Site, feature_maps, resolve, sites
from probe.models.replay import Replay
from probe.results.result import Result

SHOWN = 12
_ASSUMED = (
    "paper: logistic regression on activations after ReLU, L2 with C = 1, as many random places outside the boxes of the "
    "same images as places inside; of two readings of the layer the one that removes more is methods.paper",
    "random sets of maps match the number and the activation energy of the dropped ones (10 %); random edits are scaled to "
    "the method's own collateral, sets of maps no further than to zero",
    "every method but the paper's: the smallest strength whose removal on the tuning latents, by the selector, is 0.95 or more "
    "at the lower end of its interval over images (for an adjusted patch at least the strength it was adjusted at, 1), at "
    "the layers where that strength costs least collateral; if there is none, of the strengths of collateral up to "
    "0.025 that of least collateral whose removal is within a standard error, of their difference, of the largest",
    "patch: how latents move off the concept is adjusted by gradient, on latents of its own and by the selector, only where "
    "the segmenters are good (judge's IoU of at least 0.8), elsewhere the gate's width is chosen beside layer and strength; its random "
    "control moves the boxes and is not adjusted",
    "iou: a unit is active above one of its top quantiles (0.5 to 20 %), that of the largest information quality ratio",
    "causal: gradient times activation of the selector's soft area, summed over places, averaged over the labelled images",
    "an image has the concept when the segmenter sees a quarter of the median box's area of it",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `forget`. `layer` None means the two readings of the paper's "second-highest" layer.

    `boundaries` say how far between the means without and with the concept a gate opens (see `directions`): an adjusted
    `patch` has the first, otherwise the best is chosen; `strengths` are the strengths of `lda`.
    """

    layer: str | None = None
    negatives: str = "auto"
    methods: tuple[str, ...] = METHODS
    tuning: int = 128
    heldout: int = 256
    random_latents: int = 64
    draws: int = 200
    label_draws: int = 0
    boundaries: tuple[float, ...] = (0.25, 0.0, 0.5)
    strengths: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.negatives not in ("auto", *NEGATIVES):
            raise ProbeError(f"negatives {self.negatives}: expected auto, {' or '.join(NEGATIVES)}")
        wrong = [m for m in self.methods if m not in BUILDERS]
        if wrong or not self.methods:
            raise ProbeError(f"method {wrong[0] if wrong else '(none)'}: expected {', '.join(BUILDERS)}")
        if self.draws < 1 or self.heldout < 32 or self.tuning < 16:
            raise ProbeError(
                f"draws {self.draws}, heldout {self.heldout}, tuning {self.tuning}: expected at least 1, 32 and 16"
            )


def _places(gan: GAN, layer: str | None) -> tuple[list[Site], str]:
    """The layers to work on, and the reading of the paper that chose them."""
    if layer is not None:
        site = resolve(gan, layer)
        return [site], f"the layer is {site}, as asked"
    known = sites(gan)
    if len(known) < 2:
        raise ProbeError(f"{len(known)} layers with feature maps in the generator; forgetting needs at least 2")
    chosen = {s.name: s for s in (known[1], known[-2])}
    names = " and ".join(str(s) for s in chosen.values())
    reading = f"'second-highest convolution layer' is read from the latent and from the pixels: {names}"
    return list(chosen.values()), reading


def _scorer(gan: GAN, segmenter: Segmenter, boxes: Boxes, names: list[str], n: int, seed: int, least: int) -> Scorer:
    """A scorer of n latents of a seed, doubled up to eight times n until `least` of them show the concept."""
    for size in (n, 2 * n, 4 * n, 8 * n):
        scorer = Scorer(Replay(gan, gan.latents(size, seed), names), segmenter, boxes)
        if scorer.has.sum() >= least:
            return scorer
    if scorer.has.sum() >= 16:
        return scorer
    raise ProbeError(
        f"{boxes.concept}: the segmenter sees it in {scorer.has.sum()} of {size} samples; at least 16 are needed: "
        "label more samples, or a concept that this generator draws more often"
    )


def _negatives(settings: Settings, aucs: dict[str, Any]) -> dict[str, str]:
    """The kind of negatives at each layer: as asked, or whose probe has the higher minimum AUC over both test sets."""

    def worst(table: Any, kind: str) -> float:
        return float(min(auc for auc, _ in table[kind].values()))

    if settings.negatives != "auto":
        return dict.fromkeys(aucs, settings.negatives)
    return {name: max(table, key=lambda kind, table=table: worst(table, kind)) for name, table in aucs.items()}  # type: ignore[misc]


def _refuse_operated(gan: GAN, names: list[str]) -> None:
    """An erasure cannot be put on top of another, nor a patch in one that has one."""
    if not isinstance(gan.generator, Generator):
        return
    blocks = gan.generator.blocks
    taken = [n for n in names if blocks[int(n.removeprefix("layer")) - 1].erase]
    if taken or gan.generator.patched:
        where = taken[0] if taken else f"layer{gan.generator.patched}"
        raise ProbeError(f"{where} already carries an edit that forgets a concept; take the original checkpoint")


def _reading(method: Method, heldout: Scorer) -> dict[str, Any]:
    """What the paper's rule does at one layer, in short."""
    scores = heldout.score(method.edits(1.0))
    found = {"removal": scores.removal, "collateral": scores.collateral}
    return {**found, "maps_dropped": len(method.units(1.0)), "maps": method.sites[0].maps}


def heldout_scorer(gan: GAN, judge: Segmenter, boxes: Boxes, settings: Settings) -> Scorer:
    """The scorer of held-out latents that `forget` measures on, for whatever else is to be measured beside it."""
    names = [p.name for p in _places(gan, settings.layer)[0]]
    return _scorer(
        gan, judge, boxes, names, settings.heldout, seeds.FORGET_HELDOUT.of(settings.seed), settings.random_latents
    )


def curve(strengths: Sequence[float], scores: Sequence[Scores]) -> Array:
    """Of each strength (D, 7): strength, removal, collateral, and the ends of the intervals of both over images."""
    rows = []
    for strength, found in zip(strengths, scores, strict=True):
        low, high = ratio_ci(found.after, found.before)
        rows.append((strength, found.removal, found.collateral, 1 - high, 1 - low, *mean_ci(found.outside[found.has])))
    return np.array(rows)


def _trial(
    method: Method, strength: float, scorers: Sequence[Scorer], labelled: LabelledMaps, s: Settings, tell: Report
) -> tuple[dict[str, Any], dict[str, Array], list[Scores]]:
    """One method's numbers at its strength, what the figure needs, and the scores of its curve.

    The scorers: all held-out latents, those for curves and those for random controls.
    """
    heldout, scorer, small = scorers
    random, p, points = random_edits(method, strength, small, s.draws, s.seed, tell)
    about = {
        "layers": [site.name for site in method.sites],
        "strength": strength,
        "maps_dropped": len(method.units(strength)),
    }
    about |= {"units": method.units(strength)} if method.units(strength) else {}
    metrics = {**about, **method.about, **heldout.score(method.edits(strength)).metrics()}
    if s.label_draws:
        metrics |= label_draws(method, strength, labelled, small, s.label_draws, s.seed)
    scores = list(scorer.each(scorer.score, map(method.edits, method.strengths)))
    rows = curve(method.strengths, scores)
    within = [row[0] for row in rows if row[2] <= BOUND and row[0] <= strength]
    metrics["matched_strength"] = max(within) if within else None
    first = torch.from_numpy(np.flatnonzero(heldout.has)[:SHOWN])
    shown = {"": method.edits(strength), "_matched": method.edits(max(within)) if within else {}}
    drawn = {key: to_bytes(heldout.replay.images(edits, first)).numpy() for key, edits in shown.items()}
    return {**metrics, "random": random, "p_value": p}, {**drawn, "_curve": rows, "_random": points}, scores


def forget(
    gan: GAN,
    boxes: Boxes,
    selector: Segmenter,
    judge: Segmenter,
    settings: Settings | None = None,
    *,
    judge_iou: float = float("nan"),
    report: Report | None = None,
) -> tuple[Result, GAN | None]:
    """Make a generator forget a concept, by the paper's rule, by ranked maps and by erasure, and measure all of them.

    `boxes` label the samples `gan.latents(max(boxes.images) + 1, boxes.seed)`. Returns the result (metrics as published
    under `forget`; arrays for the figure: image rows, curves, random points) and the GAN operated by `patch`, or None
    where the generator cannot be rebuilt or `patch` was not asked for. The input GAN is unchanged. Raises ProbeError
    where the concept is too rare, or on every labelled image.
    """
    s = settings or Settings()
    tell = report or (lambda *_: None)
    places, reading = _places(gan, s.layer)
    names = [p.name for p in places]
    _refuse_operated(gan, names)
    boxes.require_absence()
    z = gan.latents(max(boxes.images) + 1, boxes.seed or 0)[list(boxes.images)]
    labelled = LabelledMaps(feature_maps(gan, z, names), boxes, gan.size, np.arange(len(z)))
    found = parallel.each(lambda name: cross_auc(labelled.maps[name], boxes, gan.size, s.seed), names)
    aucs = dict(zip(names, found, strict=True))
    fit = Fit(
        gan=gan,
        labelled=labelled,
        z=z,
        selector=selector,
        sites=tuple(places),
        negatives=_negatives(s, aucs),
        boundaries=s.boundaries,
        strengths=s.strengths,
        seed=s.seed,
        readable=judge_iou >= READABLE and differentiable(selector),
    )
    heldout = heldout_scorer(gan, judge, boxes, s)
    scorers = (heldout, heldout.having(2 * s.random_latents), heldout.having(s.random_latents))
    tuning = _scorer(gan, selector, boxes, names, s.tuning, seeds.TUNING.of(s.seed), s.random_latents // 2)
    tuning = tuning.having(s.tuning)

    methods: dict[str, Any] = {}
    curves: dict[str, list[Scores]] = {}
    arrays = {"before": to_bytes(heldout.images[np.flatnonzero(heldout.has)[:SHOWN]]).numpy()}
    operated = None
    for name in s.methods:
        began = time.perf_counter()
        options = candidates(fit, name)
        if name == "paper":
            readings = {m.sites[0].name: _reading(m, heldout) for m in options}
            method, strength = max(options, key=lambda m: readings[m.sites[0].name]["removal"]), 1.0
        else:
            method, strength = tune(options, tuning, tell)
        seconds = time.perf_counter() - began
        methods[name], drawn, curves[name] = _trial(method, strength, scorers, labelled, s, tell)
        methods[name]["seconds"] = seconds
        arrays |= {name + suffix: array for suffix, array in drawn.items()}
        if name == "paper":
            methods[name]["readings"] = readings
        if name == "patch" and isinstance(gan.generator, Generator):
            operated = surgery.patch(gan, method.sites[0].name, method.fitted, strength)
        elif operated is None and hasattr(method.fitted, "apply"):
            operated = method.fitted.apply(gan, strength)
    metrics = _metrics(s, boxes, aucs, fit, methods, curves) | {"judge_iou": judge_iou}
    return Result("forget", metrics, asdict(s), [reading, *_ASSUMED], dict(gan.provenance), arrays), operated


def _metrics(
    s: Settings, boxes: Boxes, aucs: dict[str, Any], fit: Fit, methods: dict[str, Any], curves: dict[str, list[Scores]]
) -> dict[str, Any]:
    """The published names; the probe's AUC is that of the layer of the first method."""
    layer = next(iter(methods.values()))["layers"][0]
    auc, interval = aucs[layer]["same-image"]["same-image"]
    others = [name for name in curves if name != "patch"] if "patch" in curves else []
    return {
        "concept": boxes.concept,
        "maps_total": next(p.maps for p in fit.sites if p.name == layer),
        "boxes": len(boxes),
        "images_labelled": len(boxes.images),
        "negatives": fit.negatives[methods.get("patch", {"layers": [layer]})["layers"][0]],
        "probe_auc": auc,
        "probe_auc_ci": interval,
        "probe_aucs": {
            n: {a: {b: v[0] for b, v in row.items()} for a, row in table.items()} for n, table in aucs.items()
        },
        "matched_collateral": BOUND,
        "methods": methods,
        "comparisons": {name: compare(curves["patch"], curves[name], s.seed) for name in others},
    }
