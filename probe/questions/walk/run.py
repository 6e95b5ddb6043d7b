"""Walks through the latent space: does the image move smoothly, or does it sit still and jump?

A step is s_k = |φ(x_k+1) - φ(x_k)|. The number of steps is doubled until the largest one halves with it; where it never
does, up to a limit, there is a jump that no finer walk resolves. Neither a jump nor a plateau proves memorisation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.measures import statistics as measures
from probe.measures.features import Feature
from probe.measures.statistics import Array
from probe.models.dcgan import Generator, initialise
from probe.models.gan import GAN, recalibrate, to_bytes
from probe.results.result import Result

Report = Callable[[str, int, int], None]
RESOLVED, SHARP, PLATEAU = 0.9, 10.0, 0.05  # order above which a path is resolved; × median; × mean
_FIRST = 4  # steps between two frames at the coarsest
_DRAWN = 8  # places of the profile between two frames
_INITIALISATIONS, _ENOUGH = 3, 19
_EPSILON = 1e-3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A walk: a chain of `points` latents of the seed (or between two seeds), `frames` images between neighbours.

    `loop` closes the chain. `interpolation` is lerp, slerp, or auto: lerp for a uniform prior, slerp for a normal one.
    `most_steps` is the largest number of steps tried between two points; `pairs` the number of pairs for PPL.
    """

    points: int = 9
    frames: int = 8
    between: tuple[int, int] | None = None
    loop: bool = False
    interpolation: str = "auto"
    most_steps: int = 2304
    pairs: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ProbeError(f"points {self.points}: a walk needs at least 2 points; raise `points`")
        if self.between and not all(0 <= seed < 2**31 for seed in self.between):
            raise ProbeError(f"between {self.between[0]} {self.between[1]}: expected two seeds from 0 to 2147483647")
        if self.between and self.between[0] == self.between[1]:
            raise ProbeError(f"between {self.between[0]} {self.between[1]}: the same latent twice; give two seeds")
        if self.frames < 1 or self.pairs < 2 or self.most_steps < self.coarsest * 2:
            found = f"frames {self.frames}, pairs {self.pairs}, most_steps {self.most_steps}"
            raise ProbeError(f"{found}: expected at least 1, 2 and {2 * self.coarsest} (8 steps to a frame)")
        if self.interpolation not in ("auto", "lerp", "slerp"):
            raise ProbeError(f"interpolation {self.interpolation}: expected auto, lerp or slerp")

    @property
    def coarsest(self) -> int:
        """Steps between two points to begin with; a multiple of the steps between frames."""
        return _FIRST * (self.frames + 1)


def interpolate(a: Tensor, b: Tensor, t: Tensor, kind: str) -> Tensor:
    """Latents (..., nz) a share t (...) of the way from a to b, (..., nz).

    `slerp` turns the direction along the great circle (Shoemake 1985) and moves the norm evenly; where the directions
    are parallel, opposite or undefined there is no one circle, and the line is taken.
    """
    t = t[..., None]
    straight = torch.lerp(a.expand_as(t * a), b.expand_as(t * b), t)
    if kind == "lerp":
        return straight
    norm_a, norm_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / norm_a.clamp(min=1e-12), b / norm_b.clamp(min=1e-12)
    angle = (u * v).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    turned = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine.clamp(min=1e-12)
    found = turned * ((1 - t) * norm_a + t * norm_b)
    return torch.where((sine < 1e-4) | (norm_a * norm_b == 0), straight, found)


def way(gan: GAN, settings: Settings) -> tuple[Tensor, str]:
    """The points of a walk (P, nz), the first again at the end of a loop, and how to go between them."""
    if settings.between:
        points = torch.cat([gan.latents(1, seed) for seed in settings.between])
    else:
        points = gan.latents(settings.points, settings.seed)
    if settings.loop:
        points = torch.cat([points, points[:1]])
    kind = settings.interpolation
    return points, {"uniform": "lerp", "normal": "slerp"}[gan.prior] if kind == "auto" else kind


@dataclass(frozen=True)
class Segment:
    """Steps (N,) between two points at the finest, and the largest step for each number of steps tried."""

    steps: Array
    history: list[tuple[int, float]]

    @property
    def order(self) -> float:
        """log2 of the ratio of the largest steps at the last doubling: 1 for a smooth path, 0 for a jump."""
        coarse, fine = self.history[-2][1], self.history[-1][1]
        return float(np.log2(coarse / fine)) if fine > 0 else 1.0

    @property
    def resolved(self) -> bool:
        """Whether the largest step halves when the steps are doubled."""
        return self.order > RESOLVED


def _steps(gan: GAN, phi: Feature, a: Tensor, b: Tensor, n: int, kind: str) -> Array:
    z = interpolate(a, b, torch.linspace(0, 1, n + 1), kind)
    found, last = [], None
    for images in gan.batches(z):
        rows = phi(images.float())
        rows = rows if last is None else torch.cat([last, rows])
        found.append((rows[1:] - rows[:-1]).norm(dim=1).cpu())
        last = rows[-1:]
    return measures.to_numpy(torch.cat(found))


def trace(
    gan: GAN, phi: Feature, points: Tensor, kind: str, first: int, limit: int, tell: Report, name: str
) -> list[Segment]:
    """The segments of a way (P, nz), each refined until its largest step halves or `limit` steps are not enough."""
    segments = []
    for i, (a, b) in enumerate(itertools.pairwise(points)):
        steps = _steps(gan, phi, a, b, first, kind)
        history = [(first, float(steps.max()))]
        while len(history) < 2 or (Segment(steps, history).order <= RESOLVED and 2 * len(steps) <= limit):
            steps = _steps(gan, phi, a, b, 2 * len(steps), kind)
            history.append((len(steps), float(steps.max())))
        segments.append(Segment(steps, history))
        tell(name, i + 1, len(points) - 1)
    return segments


def speeds(segments: Sequence[Segment]) -> list[Array]:
    """Step lengths of each segment over the median of the whole walk; a step counts by the way it covers.

    Infinite where the median is zero and the step is not.
    """
    finest = max(len(s.steps) for s in segments)
    scaled = [s.steps * len(s.steps) for s in segments]
    median = np.median(np.concatenate([np.repeat(v, finest // len(v)) for v in scaled]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return [np.where(v > 0, v / median, 0.0) for v in scaled]


def statistics(segments: Sequence[Segment]) -> dict[str, Any]:
    """The measures of a walk; `sharp_transitions` counts runs of steps over 10 × the median, and unresolved jumps."""
    relative = speeds(segments)
    mean = np.mean([s.steps.sum() for s in segments])
    still = np.array([np.mean(s.steps * len(s.steps) < PLATEAU * mean) if mean else 1.0 for s in segments])
    sharp = [max(_runs(v > SHARP), 0 if s.resolved else 1) for s, v in zip(segments, relative, strict=True)]
    return {
        "max_over_median": float(max(v.max() for v in relative)),
        "plateau_share": float(still.mean()),
        "plateau_share_ci": measures.mean_ci(still) if len(still) > 1 else None,
        "order": min(s.order for s in segments),
        "resolved": all(s.resolved for s in segments),
        "sharp_transitions": sum(sharp),
        "segments": [
            {
                "steps": len(s.steps),
                "length": float(s.steps.sum()),
                "order": s.order,
                "resolved": s.resolved,
                "sharp": k,
            }
            for s, k in zip(segments, sharp, strict=True)
        ],
    }


def _runs(flags: Array) -> int:
    return int(flags[0]) + int((flags[1:] & ~flags[:-1]).sum())


def path_length(gan: GAN, phi: Feature, kind: str, pairs: int, seed: int) -> dict[str, Any]:
    """Perceptual path length of Karras et al. 2019: mean |φ(x_t+ε) - φ(x_t)|² / ε² over random pairs and t.

    `ppl` is over all pairs; `ppl_trimmed` leaves out the lowest and highest 1 %, as the usual code does.
    """
    z = gan.latents(2 * pairs, seeds.PATH_LENGTH.of(seed))
    t = torch.rand(pairs, generator=torch.Generator().manual_seed(seed)) * (1 - _EPSILON)
    rows = [
        torch.cat([phi(x.float()).cpu() for x in gan.batches(interpolate(z[::2], z[1::2], at, kind))])
        for at in (t, t + _EPSILON)
    ]
    values = measures.to_numpy((rows[1] - rows[0]).square().sum(1).double() / _EPSILON**2)
    low, high = np.percentile(values, 1, method="lower"), np.percentile(values, 99, method="higher")
    trimmed = values[(values >= low) & (values <= high)]
    return {"ppl": float(values.mean()), "ppl_ci": measures.mean_ci(values), "ppl_trimmed": float(trimmed.mean())}


def _initialisations(gan: GAN) -> list[GAN]:
    """The same architecture with random weights, where it can be built; too smooth to be a null, but shown."""
    if not isinstance(gan.generator, Generator):
        return []
    found = []
    for seed in range(_INITIALISATIONS):
        g = Generator(gan.generator.blocks)
        initialise(g, seed)
        recalibrate(g, gan.nz, gan.prior, 256)
        found.append(GAN(g, None, gan.nz, gan.size, gan.channels, gan.prior).to(gan.device))
    return found


def walk(gan: GAN, phi: Feature, settings: Settings, nulls: Sequence[GAN] = (), report: Report | None = None) -> Result:
    """Walk through latents and measure the steps in a feature.

    `nulls` are generators of the same recipe and other seeds; from 19 on they give a p-value of `max_over_median`.
    Arrays: `images` (segments, frames + 2, C, S, S) uint8; `profile` (segments, places) the largest step at each place
    over the walk's median; `largest` (rows, 3) segment, steps, largest step; `null`, `initialised` their
    `max_over_median`; `points` (P, nz). Raises ProbeError for nulls of another shape or given twice.
    """
    s, tell = settings, report or (lambda *_: None)
    seen = [g.provenance.get("sha256") for g in (gan, *nulls)]
    twice = next((g for g, sha in zip(nulls, seen[1:], strict=True) if sha and seen.count(sha) > 1), None)
    if twice:
        name = twice.provenance.get("checkpoint")
        raise ProbeError(
            f"{name}: given twice; a null is another training, so pass each once, and not the generator itself"
        )
    for other in nulls:
        if (other.nz, other.size, other.channels) != (gan.nz, gan.size, gan.channels):
            found, name = (
                f"nz {other.nz}, {other.channels}x{other.size}x{other.size}",
                other.provenance.get("checkpoint"),
            )
            expected = f"nz {gan.nz}, {gan.channels}x{gan.size}x{gan.size}"
            raise ProbeError(f"{name}: {found}; expected {expected}: a null is of the same recipe as the generator")
    points, kind = way(gan, s)
    segments = trace(gan, phi, points, kind, s.coarsest, s.most_steps, tell, "walking")

    def ratio(other: GAN, name: str) -> float:
        return float(
            statistics(trace(other, phi, points, kind, s.coarsest, s.most_steps, tell, name))["max_over_median"]
        )

    null = np.array([ratio(g, f"null {i + 1}") for i, g in enumerate(nulls)])
    random = np.array([ratio(g, f"random weights {i + 1}") for i, g in enumerate(_initialisations(gan))])
    measured = statistics(segments)
    p = measures.p_value(measured["max_over_median"], null) if len(null) >= _ENOUGH else None
    metrics = {
        "points": len(points) - s.loop,
        "frames": s.frames,
        "interpolation": kind,
        "feature": phi.name,
        **measured,
        "p_value": p,
        "null": {"generators": len(null), "max_over_median": null.tolist()},
        "random_weights": {"generators": len(random), "max_over_median": random.tolist()},
        **path_length(gan, phi, kind, s.pairs, s.seed),
    }
    shown = torch.stack(
        [gan.images(interpolate(a, b, torch.linspace(0, 1, s.frames + 2), kind)) for a, b in itertools.pairwise(points)]
    )
    places = _DRAWN * (s.frames + 1)
    arrays = {
        "images": to_bytes(shown).numpy(), "points": measures.to_numpy(points), "null": null, "initialised": random,
        "profile": np.stack([v.reshape(places, -1).max(1) for v in speeds(segments)]).astype(np.float32),
        "largest": np.array([(i, n, size) for i, segment in enumerate(segments) for n, size in segment.history]),
    }  # fmt: skip
    return Result("walk", metrics, asdict(s), _assumed(s, kind, phi), dict(gan.provenance), arrays)


def _assumed(s: Settings, kind: str, phi: Feature) -> list[str]:
    return [
        "the paper interpolates 'between a series of 9 random points' and shows ten rows: here a chain, a row for each pair of neighbours",
        f"interpolation: {kind}; steps are Euclidean distances in {phi.name} on float images",
        f"a path is resolved when doubling the steps divides the largest by more than 2^{RESOLVED}; at most {s.most_steps} steps a row",
        "p_value: of max_over_median among generators of the same recipe and other seeds, at least 19 of them; random weights are no null",
        f"PPL: epsilon {_EPSILON}, nothing trimmed; ppl_trimmed drops the lowest and highest 1 % as the usual code does",
    ]


def write_movie(gan: GAN, settings: Settings, path: Path, frames: int = 24, pixels: int = 192) -> None:
    """Write the walk as an animated GIF, `frames` images from point to point at 12 a second, at least `pixels` wide."""
    points, kind = way(gan, settings)
    t = torch.arange(frames) / frames
    z = torch.cat([interpolate(a, b, t, kind) for a, b in itertools.pairwise(points)])
    z = z if settings.loop else torch.cat([z, points[-1:]])
    side = gan.size * -(-pixels // gan.size)
    pictures = [
        Image.fromarray(x.permute(1, 2, 0).numpy().squeeze()).resize((side, side), Image.Resampling.NEAREST)
        for x in to_bytes(gan.images(z))
    ]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=83, loop=0)
