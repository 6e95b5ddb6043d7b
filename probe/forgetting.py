"""Can the generator be made to forget a concept? The paper's map dropping, one-sided erasure, and their controls.

    Settings       every constant of a run
    forget(...)    (GAN, boxes, readers) -> Result and the operated GAN

Three disjoint sets of latents: labelled (boxes; fitting), tuning (the chooser picks layers and strength), held-out (the
judge measures). Formulas and names of the measures: README, "What the numbers mean".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe import measures, surgery
from probe.dcgan import Generator
from probe.errors import ProbeError
from probe.gan import GAN, to_bytes
from probe.labels import Boxes
from probe.layers import Site, capture, resolve, sites
from probe.measures import Array
from probe.probing import NEGATIVES, cross_auc, gather, logistic
from probe.readers import Reader
from probe.result import Result
from probe.trials import Bench, Edits, Method, Report, control

TARGET, MARGIN = 0.95, 0.01  # the margin keeps the held-out removal from falling just short
SHOWN = 12
_ASSUMED = (
    "paper: logistic regression on activations after ReLU, L2 with C = 1, as many random places outside the boxes of the "
    "same images as places inside; of two readings of the layer the one that removes more is methods.paper",
    "random sets of maps match the number and the activation energy of the dropped ones (10 %); random edits are scaled to "
    "the method's own collateral, sets of maps no further than to zero",
    "erase: layers, boundary and strength are those of least collateral that remove 0.96 of the area on the tuning latents, "
    "by the chooser; if none does, the largest removal",
    "an image has the concept when the reader sees a quarter of the median box's area of it",
)


@dataclass(frozen=True)
class Settings:
    """A run of `forget`. `layer` None means the two readings of the paper's "second-highest" layer."""

    layer: str | None = None
    negatives: str = "auto"
    tuning: int = 128
    heldout: int = 256
    random_latents: int = 64
    draws: int = 200
    boundaries: tuple[float, ...] = (0.25, 0.5)
    strengths: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.negatives not in ("auto", *NEGATIVES):
            raise ProbeError(f"negatives {self.negatives}: expected auto, {' or '.join(NEGATIVES)}")
        if self.draws < 1 or self.heldout < 32 or self.tuning < 16:
            raise ProbeError(
                f"draws {self.draws}, heldout {self.heldout}, tuning {self.tuning}: expected at least 1, 32 and 16"
            )


def _scaler(units: Tensor, maps: int) -> Callable[[float], Callable[[Tensor], Tensor]]:
    """Dose -> edit that multiplies the given maps by 1 - dose; dose 1 drops them at all locations."""
    mask = torch.zeros(maps)
    mask[units] = 1
    return lambda dose: lambda x: x * (1 - dose * mask.to(x.device))[:, None, None]


def energy_matched(energy: Array, units: Array, rng: np.random.Generator, tolerance: float = 0.1) -> Array:
    """A random set of as many maps whose summed activation energy is within 10 % of that of `units`.

    Starts from a uniform set and swaps single maps towards the target; the closest set found where none is near enough.
    """
    target, n = energy[units].sum(), len(energy)
    order = rng.permutation(n)
    inside, outside = order[: len(units)], order[len(units) :]
    for _ in range(20 * n):
        excess = energy[inside].sum() - target
        if abs(excess) <= tolerance * target or not len(outside):
            break
        i, j = rng.integers(len(inside)), rng.integers(len(outside))
        if abs(excess - energy[inside[i]] + energy[outside[j]]) < abs(excess):
            inside[i], outside[j] = outside[j], inside[i]
    return np.asarray(inside)


def _paper(site: Site, maps: Tensor, boxes: Boxes, settings: Settings, size: int) -> Method:
    """Every map with a positive logistic weight dropped at all locations (section 6.2.2 of the paper)."""
    weights = logistic(gather(maps, boxes, size, "same-image", settings.seed)).coef_[0]
    units = np.flatnonzero(weights > 0)
    energy = measures.to_numpy(maps.square().mean((0, 2, 3)))

    def edits(chosen: Array) -> Callable[[float], Edits]:
        scale = _scaler(torch.from_numpy(chosen), site.maps)
        return lambda dose: {site.name: scale(dose)}

    doses = (0.25, 0.5, 0.75, 1.0)

    def random(rng: np.random.Generator) -> Callable[[float], Edits]:
        return edits(energy_matched(energy, units, rng))

    return Method((site,), edits(units), doses, 1.0, random, len(units), most=1.0)


def _erasers(directions: Mapping[str, surgery.Direction], device: torch.device) -> Callable[[float], Edits]:
    return lambda dose: {name: d.eraser(dose).to(device) for name, d in directions.items()}


def _shuffled(boxes: Boxes, rng: np.random.Generator) -> Boxes:
    """The same boxes, moved to other images."""
    order = rng.permutation(boxes.images)
    moved = {int(order[boxes.images.index(i)]): b for i, b in boxes.boxes.items()}
    return Boxes(boxes.concept, boxes.images, moved, boxes.seed)


def _erase(
    places: tuple[Site, ...],
    maps: dict[str, Tensor],
    boxes: Boxes,
    negatives: dict[str, str],
    settings: Settings,
    size: int,
    device: torch.device,
    boundary: float,
) -> tuple[Method, dict[str, surgery.Direction]]:
    """One-sided erasure at one or several layers, from a boundary on."""

    def fit(labels: Boxes, seed: int) -> dict[str, surgery.Direction]:
        gathered = {s.name: gather(maps[s.name], labels, size, negatives[s.name], seed) for s in places}
        return {name: surgery.fit_erase(*g.split(), boundary) for name, g in gathered.items()}

    def random(rng: np.random.Generator) -> Callable[[float], Edits]:
        return _erasers(fit(_shuffled(boxes, rng), int(rng.integers(2**31))), device)

    directions = fit(boxes, settings.seed)
    return Method(places, _erasers(directions, device), settings.strengths, 0.0, random), directions


def _tune(methods: list[Method], bench: Bench, report: Report) -> tuple[Method, float]:
    """The layers and the smallest strength that reach the target and a margin on the tuning latents, by the chooser.

    Among layers that reach it the one with the least collateral; if none does, the largest removal.
    """
    reached: list[tuple[float, Method, float]] = []
    best: tuple[float, Method, float] | None = None
    for k, method in enumerate(methods):
        for dose in method.doses:
            scores = bench.score(method.edits(dose))
            report("tuning", k + 1, len(methods))
            if best is None or scores.removal > best[0]:
                best = (scores.removal, method, dose)
            if scores.removal >= TARGET + MARGIN:
                reached.append((scores.collateral, method, dose))
                break
    assert best is not None
    _, method, dose = min(reached, key=lambda r: r[0]) if reached else best
    return method, dose


def _feature_maps(gan: GAN, z: Tensor, places: list[Site]) -> dict[str, Tensor]:
    """Feature maps of every site on latents, (N, maps, grid, grid) on the CPU."""
    parts: dict[str, list[Tensor]] = {s.name: [] for s in places}
    with capture(gan.generator, list(parts)) as seen:
        for _ in gan.batches(z):
            for name, kept in parts.items():
                kept.append(seen[name].cpu())
    return {name: torch.cat(kept) for name, kept in parts.items()}


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


def _bench(gan: GAN, reader: Reader, boxes: Boxes, names: list[str], n: int, seed: int, least: int) -> Bench:
    """A bench of n latents of a seed, doubled up to eight times n until `least` of them show the concept."""
    for size in (n, 2 * n, 4 * n, 8 * n):
        bench = Bench(gan, gan.latents(size, seed), reader, boxes, names)
        if bench.has.sum() >= least:
            return bench
    if bench.has.sum() >= 16:
        return bench
    raise ProbeError(
        f"{boxes.concept}: the reader sees it in {bench.has.sum()} of {size} samples; at least 16 are needed: "
        "label more samples, or a concept that this generator draws more often"
    )


def _trial(
    method: Method, dose: float, heldout: Bench, small: Bench, settings: Settings, report: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """One method's numbers at its dose, and its curve, random points and edited images for the figure."""
    random, p, points = control(method, dose, small, settings.draws, settings.seed, report)
    about = {"layers": [site.name for site in method.sites], "dose": dose, "maps_dropped": method.maps_dropped}
    scored = {d: heldout.score(method.edits(d)) for d in sorted({*method.doses, dose})}
    curve = [(d, scored[d].removal, scored[d].collateral) for d in method.doses]
    shown = np.flatnonzero(heldout.has)[:SHOWN]
    images = to_bytes(heldout.replay.images(method.edits(dose))[shown]).numpy()
    arrays = {"": images, "_curve": np.array(curve), "_random": points}
    return {**about, **scored[dose].metrics(), "random": random, "p_value": p}, arrays


def _negatives(settings: Settings, aucs: dict[str, Any]) -> dict[str, str]:
    """The kind of negatives at each layer: as asked, or whose probe has the higher minimum AUC over both test sets."""

    def worst(table: Any, kind: str) -> float:
        return float(min(auc for auc, _ in table[kind].values()))

    if settings.negatives != "auto":
        return dict.fromkeys(aucs, settings.negatives)
    return {name: max(NEGATIVES, key=lambda kind, table=table: worst(table, kind)) for name, table in aucs.items()}  # type: ignore[misc]


def forget(
    gan: GAN, boxes: Boxes, chooser: Reader, judge: Reader, settings: Settings | None = None, *,
    judge_iou: float = float("nan"), report: Report | None = None,
) -> tuple[Result, GAN | None]:  # fmt: skip
    """Make a generator forget a concept, by the paper's rule and by one-sided erasure, and measure both.

    `boxes` label the samples `gan.latents(max(boxes.images) + 1, boxes.seed)`. Returns the result (metrics as published
    under `forget`; arrays for the figure: image rows, curves, random points) and the GAN operated by `erase`, or None
    where the generator cannot be rebuilt. The input GAN is unchanged. Raises ProbeError where the concept is too rare.
    """
    s = settings or Settings()
    tell = report or (lambda *_: None)
    places, reading = _places(gan, s.layer)
    names = [p.name for p in places]
    _refuse_operated(gan, names)
    maps = _feature_maps(gan, gan.latents(max(boxes.images) + 1, boxes.seed or 0)[list(boxes.images)], places)
    aucs = {p.name: cross_auc(maps[p.name], boxes, gan.size, s.seed) for p in places}
    negatives = _negatives(s, aucs)
    heldout = _bench(gan, judge, boxes, names, s.heldout, s.seed * 1000 + 7_000_003, s.random_latents)
    having = heldout.replay.z[torch.from_numpy(heldout.has)][: s.random_latents]
    small = Bench(gan, having, judge, boxes, names)
    tuning = _bench(gan, chooser, boxes, names, s.tuning, s.seed * 1000 + 3_000_017, s.random_latents // 2)

    papers = [_paper(p, maps[p.name], boxes, s, gan.size) for p in places]
    readings = {m.sites[0].name: _reading(m, heldout) for m in papers}
    paper = max(papers, key=lambda m: readings[m.sites[0].name]["removal"])
    together = [(p,) for p in places] + ([tuple(places)] if len(places) > 1 else [])
    erasers = [
        _erase(sites, maps, boxes, negatives, s, gan.size, gan.device, boundary)
        for sites in together
        for boundary in s.boundaries
    ]
    erase, dose = _tune([m for m, _ in erasers], tuning, tell)

    methods: dict[str, Any] = {}
    shown = np.flatnonzero(heldout.has)[:SHOWN]
    arrays = {"before": to_bytes(heldout.images[shown]).numpy()}
    for name, method, at in (("paper", paper, paper.dose), ("erase", erase, dose)):
        label = f"random control of {name}"
        methods[name], drawn = _trial(method, at, heldout, small, s, lambda k, n, label=label: tell(label, k, n))  # type: ignore[misc]
        arrays |= {name + suffix: array for suffix, array in drawn.items()}
    methods["paper"]["readings"] = readings
    directions = next(d for m, d in erasers if m is erase)
    methods["erase"]["boundary"] = next(iter(directions.values())).boundary
    auc, interval = aucs[paper.sites[0].name]["same-image"]["same-image"]
    metrics = {
        "concept": boxes.concept, "maps_total": paper.sites[0].maps, "boxes": len(boxes), "images_labelled": len(boxes.images),
        "negatives": negatives[erase.sites[0].name], "probe_auc": auc, "probe_auc_ci": interval,
        "probe_aucs": {n: {a: {b: v[0] for b, v in row.items()} for a, row in table.items()} for n, table in aucs.items()},
        "judge_iou": judge_iou, "methods": methods,
    }  # fmt: skip
    result = Result("forget", metrics, asdict(s), [reading, *_ASSUMED], dict(gan.provenance), arrays)
    return result, surgery.erase(gan, directions, dose) if isinstance(gan.generator, Generator) else None


def _refuse_operated(gan: GAN, names: list[str]) -> None:
    """An erasure cannot be put on top of another."""
    blocks = getattr(gan.generator, "blocks", ())
    for name in names:
        if blocks and blocks[int(name.removeprefix("layer")) - 1].erase:
            raise ProbeError(f"{name} already carries an erasure; take the original checkpoint, or another --layer")


def _reading(method: Method, heldout: Bench) -> dict[str, Any]:
    """What the paper's rule does at one layer, in short."""
    scores = heldout.score(method.edits(method.dose))
    found = {"removal": scores.removal, "collateral": scores.collateral}
    return {**found, "maps_dropped": method.maps_dropped, "maps": method.sites[0].maps}
