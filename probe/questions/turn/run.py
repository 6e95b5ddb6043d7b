"""Moving along a direction from one concept to another: the paper's turn vector (Fig. 8), measured.

A step a adds a·v to a new sample. For the paper's method v is mean(to) - mean(from), so from a = -1/2 to 1/2 a sample
goes as far as the exemplars' means are apart: the original range. What lies outside is beyond it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts import attributes, draws
from probe.concepts.draws import CONTROLS, Bank
from probe.concepts.exemplars import Exemplars, LabelledLatents
from probe.concepts.expressions import Expression, Term
from probe.concepts.latent_directions import METHODS, Evidence, direction
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.gan import GAN, from_bytes, to_bytes
from probe.results.result import Result

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `turn`: methods, exemplars a side (several make a curve of success), frames from -reach to reach.

    `rows` samples are shown; with a judge `scored` are scored at every step, and `draws` draws of exemplars are tried.
    """

    methods: tuple[str, ...] = ("means",)
    exemplars: tuple[int, ...] = (4,)
    frames: int = 11
    reach: float = 1.0
    rows: int = 5
    scored: int = 200
    draws: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [m for m in self.methods if m not in METHODS]
        if unknown or not self.methods:
            raise ProbeError(f"method {unknown[0] if unknown else '(none)'}: expected {', '.join(METHODS)}")
        if not self.exemplars or min(self.exemplars) < 1 or min(self.draws, self.scored) < 2 or self.rows < 1:
            raise ProbeError("exemplars and rows: expected at least 1; draws and scored samples: at least 2")
        if self.frames < 3 or not 0 < self.reach < float("inf"):
            raise ProbeError(
                f"frames {self.frames}, reach {self.reach}: expected at least 3 frames and a reach above 0"
            )

    @property
    def shown(self) -> int:
        """The number of exemplars a side of the directions that are drawn."""
        return 4 if 4 in self.exemplars else self.exemplars[0]

    @property
    def positions(self) -> Array:
        """The steps (K,), in lengths of the direction."""
        return np.linspace(-self.reach, self.reach, self.frames)


def turn(
    gan: GAN,
    before: str,
    after: str,
    exemplars: Exemplars,
    settings: Settings,
    labelled: LabelledLatents | None = None,
    report: Report | None = None,
) -> Result:
    """Turn new samples from one concept to another; with `labelled` (rooms only) score every step by the judge.

    Arrays: `ends` (2, C, S, S), the means of both sides; per method `m_images` (rows, steps, C, S, S), of several methods
    one row each, all uint8; with a judge `m_scores` (scored, steps, 4), columns as `attributes.READABLE` in standard
    deviations of samples. Metrics of the first method stand at the top, all under `methods`. Raises ProbeError for
    too few exemplars and latents of another size.
    """
    tell = report or (lambda *_: None)
    expression = Expression((Term(1, after), Term(-1, before)))
    for count in (1, max(settings.exemplars)):  # unknown names first
        for name in (before, after):
            exemplars.need(name, count, gan.nz)
    if before == after:
        raise ProbeError(f"from '{before}' to itself: name two concepts")
    targets = _targets(before, after) if labelled else {}
    if len(targets) == len(attributes.READABLE):
        raise ProbeError(f"from '{before}' to '{after}': leave an attribute out, to see whether it stays as it is")
    judged = labelled if targets else None
    evidence = _evidence(gan, before, after, exemplars, settings, labelled)
    fresh = gan.latents(settings.scored if judged else settings.rows, seeds.TURNED.of(settings.seed))
    rows = min(settings.rows, len(fresh)) if len(settings.methods) == 1 else 1
    ends = torch.stack([evidence.before.mean(0), evidence.after.mean(0)])
    arrays: dict[str, Array] = {"ends": to_bytes(gan.images(ends)).numpy()}
    metrics: dict[str, Any] = {}
    vectors = {method: direction(method, evidence) for method in settings.methods}
    scale = _scores(gan, judged, fresh).std(0).clip(1e-9) if judged else 1.0
    for method, vector in vectors.items():
        path = _path(fresh, vector, settings)
        images = to_bytes(gan.images(path[:rows].flatten(0, 1))).numpy()
        arrays[f"{method}_images"] = images.reshape(rows, settings.frames, *images.shape[1:])
        cosine = float(torch.cosine_similarity(vector, vectors[settings.methods[0]], 0))
        metrics[method] = {"length": float(vector.norm()) / draws.prior_norm(gan), "cosine_to_first": cosine}
        if judged:
            scores = _scores(gan, judged, path, partial(tell, f"steps along {method}")) / scale
            arrays[f"{method}_scores"] = scores.astype(np.float32)
            metrics[method] |= _line(scores, settings, targets)
    top: dict[str, Any] = {"from": before, "to": after, "shown": settings.shown, "steps": settings.frames}
    top |= {"samples": len(fresh), **dict.fromkeys(("success", "success_ci", "controls", "r2", "monotone_share"))}
    top |= metrics[settings.methods[0]]
    if judged:
        top |= _success(Bank.of(gan, exemplars, expression), expression, judged, settings, tell)
    notes = [*exemplars.assumptions, *_notes(settings, bool(judged))]
    return Result("turn", {**top, "methods": metrics}, asdict(settings), notes, dict(gan.provenance), arrays)


def _notes(settings: Settings, judged: bool) -> list[str]:
    notes = [
        f'exemplars: {settings.shown} a side (the paper\'s "four averaged samples of faces looking left vs looking right" may mean four in all)'
    ]
    if judged:
        notes.append(
            "scores: log-odds of the judge's flags (cut at ±7), degrees of yaw; r2: mean over samples of each sample's own line; "
            "monotone_share: samples whose score never falls from one step to the next; success: `from` seen at the first step and `to` at the last, "
            "every draw with its own exemplars and its own new sample"
        )
    return notes


def _targets(before: str, after: str) -> dict[str, tuple[int, int]]:
    """The attributes in which two concepts differ: attribute -> (side before, side after)."""
    a, b = attributes.parts(before), attributes.parts(after)
    return {name: (a[name], b[name]) for name in a if name in b and a[name] != b[name]}


def _evidence(
    gan: GAN, before: str, after: str, exemplars: Exemplars, settings: Settings, labelled: LabelledLatents | None
) -> Evidence:
    a, b = exemplars.latents[before], exemplars.latents[after]
    others = None
    if labelled:
        kept = [name for name in attributes.READABLE if name not in _targets(before, after)]
        table = np.stack(
            [labelled.table[:, attributes.READABLE.index(k)] > (0 if k == "yaw" else 0.5) for k in kept], 1
        )
        others = labelled.z, table
    side = np.concatenate([np.zeros(len(a)), np.ones(len(b))])
    return Evidence(
        gan=gan,
        before=a[: settings.shown],
        after=b[: settings.shown],
        z=torch.cat([a, b]),
        side=side,
        others=others,
        seed=settings.seed,
    )


def _path(z: Tensor, vector: Tensor, settings: Settings) -> Tensor:
    """Latents (N, steps, nz) along a direction."""
    at = torch.from_numpy(settings.positions).float()
    return z[:, None] + at[None, :, None] * vector


def _scores(gan: GAN, labelled: LabelledLatents, z: Tensor, tell: Callable[[int, int], None] | None = None) -> Array:
    """The judge's scores (…, 4) of latents (…, nz)."""
    flat, out = z.flatten(0, -2), []
    for batch in gan.batches(flat):
        out.append(attributes.scores(labelled.judge.attributes(batch.cpu()).numpy()))
        if tell:
            tell(sum(map(len, out)), len(flat))
    return np.concatenate(out).reshape(*z.shape[:-1], -1)


def _line(scores: Array, settings: Settings, targets: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Score (N, steps, 4) against step: fit, monotony, and the change of the target against that of the others."""
    at = settings.positions
    columns = [attributes.READABLE.index(a) for a in targets]
    signs = np.array([1 if targets[a][1] else -1 for a in targets])
    target = (scores[..., columns] * signs).mean(-1)  # (N, steps)
    inside = np.abs(at) <= 0.5 + 1e-9
    out: dict[str, Any] = {}
    for name, part in (("", np.ones_like(inside)), ("_original_range", inside)):
        if part.sum() < 3:
            continue  # two points are always on a line
        values = r_squared(at[part], target[:, part])
        monotone = (np.diff(target[:, part], axis=1) >= 0).all(1).astype(float)
        out |= {f"r2{name}": float(values.mean()), f"r2{name}_ci": measures.mean_ci(values)}
        out |= {f"monotone_share{name}": float(monotone.mean()), f"monotone_share{name}_ci": measures.mean_ci(monotone)}
    change = target[:, -1] - target[:, 0]
    kept = [k for k in range(len(attributes.READABLE)) if k not in columns]
    moved = np.abs(scores[:, -1, kept] - scores[:, 0, kept])
    out |= {"target_change": float(change.mean()), "target_change_ci": measures.mean_ci(change)}
    out |= {"other_change": float(moved.mean()), "other_change_ci": measures.mean_ci(moved.mean(1))}
    out["others"] = {attributes.READABLE[k]: float(moved[:, i].mean()) for i, k in enumerate(kept)}
    return out


def r_squared(x: Array, y: Array) -> Array:
    """The share of variance that a straight line explains, for each row of y (N, K) over x (K,); 0 where y is constant."""
    x = x - x.mean()
    y = y - y.mean(1, keepdims=True)
    total = (y**2).sum(1)
    return np.asarray(np.divide((y @ x) ** 2, total * (x @ x), out=np.zeros_like(total), where=total > 1e-12))


def _success(
    bank: Bank, expression: Expression, labelled: LabelledLatents, settings: Settings, tell: Report
) -> dict[str, Any]:
    """Success by number of exemplars, every draw on a sample of its own, with the controls of `arithmetic`."""
    after, before = (t.name for t in expression.terms)
    sides = [{k: v[i] for k, v in _targets(before, after).items()} for i in (0, 1)]
    fresh = bank.gan.latents(settings.draws, seeds.TURNED_DRAWS.of(settings.seed))
    curves: dict[str, dict[str, Any]] = {name: {"success": {}, "success_ci": {}} for name in ("mean", *CONTROLS)}
    for n in settings.exemplars:
        rng = np.random.default_rng([settings.seed, n])
        drawn = draws.draw(bank, expression, n, settings.draws, rng)
        shuffled = draws.shuffle(bank, expression, n, settings.draws, rng)
        for k, name in enumerate(curves):
            ends = []
            for a in (-settings.reach, settings.reach):
                images = _moved(
                    bank, expression, fresh, drawn, shuffled, name, a, seeds.RANDOM_DIRECTIONS.of(settings.seed, n)
                )
                ends.append(labelled.judge.attributes(images).numpy())
            hits = attributes.holds(ends[0], sides[0]) & attributes.holds(ends[1], sides[1])
            curves[name]["success"][n] = float(hits.mean())
            curves[name]["success_ci"][n] = measures.mean_ci(hits.astype(float))
            tell(f"success with {n} exemplars", k + 1, len(curves))
    return {**curves["mean"], "controls": {name: curves[name] for name in CONTROLS}}


def _moved(
    bank: Bank, expression: Expression, fresh: Tensor, drawn: Array, shuffled: Array, name: str, a: float, seed: int
) -> Tensor:
    """Images (draws, C, S, S) of new samples moved by a times each draw's direction, or as a control has it."""
    gan = bank.gan
    if name == "pixel":
        pictures = from_bytes(bank.images[torch.from_numpy(drawn)]).mean(2)  # (draws, 2, C, S, S)
        return (gan.images(fresh) + a * (pictures[:, 0] - pictures[:, 1])).clamp(-1, 1)
    z = bank.z[torch.from_numpy(shuffled if name == "shuffled" else drawn)]  # (draws, 2, n, nz)
    vector = draws.combine(expression, z.mean(2))
    length = vector.norm(dim=1, keepdim=True)
    if name == "norm_matched_single":
        vector = draws.combine(expression, z[:, :, 0])
    if name == "random_direction":
        vector = torch.randn(vector.shape, generator=torch.Generator().manual_seed(seed))
    vector = vector * length / vector.norm(dim=1, keepdim=True).clamp(min=1e-9)
    moved = fresh + a * vector
    if name == "norm_restored_mean":
        moved = moved * draws.prior_norm(gan) / moved.norm(dim=1, keepdim=True)
    return gan.images(moved)
