"""Vector arithmetic in latent space as an experiment: what comes of it, how often it succeeds, and beside what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts import attributes, draws
from probe.concepts.draws import CONTROLS, Bank
from probe.concepts.exemplars import Exemplars, LabelledLatents
from probe.concepts.expressions import Expression
from probe.data.rooms.scenes import ATTRIBUTES
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.gan import GAN, to_bytes
from probe.questions.arithmetic.diagnosis import diagnose, read
from probe.results.result import Result

Report = Callable[[str, int, int], None]
NEIGHBOURS = 8  # noisy results around the result, as in the paper

_UNJUDGED: dict[str, Any] = {"success": None, "success_ci": None, "controls": None}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `arithmetic`: exemplars a concept (several make a curve), draws at each, noise around the result.

    The figure averages three exemplars where three is among the counts, else the first count.
    """

    exemplars: tuple[int, ...] = (3,)
    draws: int = 200
    noise: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.exemplars or min(self.exemplars) < 1 or self.draws < 2:
            raise ProbeError(
                f"exemplars {self.exemplars}, draws {self.draws}: expected counts of at least 1 and 2 draws or more"
            )
        if not 0 <= self.noise < float("inf"):
            raise ProbeError(f"noise {self.noise}: expected a number of at least 0")

    @property
    def shown(self) -> int:
        """The number of exemplars that the figure averages."""
        return 3 if 3 in self.exemplars else self.exemplars[0]


def arithmetic(
    gan: GAN,
    expressions: Sequence[Expression],
    exemplars: Exemplars,
    settings: Settings,
    labelled: LabelledLatents | None = None,
    report: Report | None = None,
) -> Result:
    """Do the arithmetic of each expression; with `labelled` (rooms only) also measure how often it succeeds.

    Arrays, k the expression: `k_exemplars` (terms, n, C, S, S), `k_means` (terms, C, S, S), `k_results` (9, C, S, S)
    with the result in the middle, `k_pixel_means`, `k_pixel_result` (1, C, S, S), all uint8. Metrics of the first
    expression stand at the top, those of all under `expressions`. Raises ProbeError for a concept that is not among the
    exemplars or has too few of them, and for latents of another size.
    """
    tell = report or (lambda *_: None)
    expressions = list({str(e): e for e in expressions}.values())
    for expression in expressions:
        for term in expression.terms:
            exemplars.need(term.name, max(settings.exemplars), gan.nz, expression.times(term.name))
    arrays: dict[str, Array] = {}
    metrics: dict[str, Any] = {}
    for k, expression in enumerate(expressions):
        bank = Bank.of(gan, exemplars, expression)
        arrays |= {f"{k}_{name}": a for name, a in _shown(bank, expression, settings).items()}
        metrics[str(expression)] = _measure(bank, expression, labelled, settings, tell) if labelled else dict(_UNJUDGED)
        metrics[str(expression)] |= _title(expression)
    first = next(iter(metrics.values()))
    top = {"exemplars": list(settings.exemplars), "shown": settings.shown, "draws": settings.draws if labelled else 0}
    notes = [
        *exemplars.assumptions,
        *(_ASSUMED if labelled else ()),
        f"noise: uniform in ±{settings.noise:g} on every number of the latent",
    ]
    return Result(
        "arithmetic", {**top, **first, "expressions": metrics}, asdict(settings), notes, dict(gan.provenance), arrays
    )


_ASSUMED = (
    "success: the judge sees A's side of the attributes in which A and B differ and C's side of the others that are "
    "named",
    "exemplars of a draw are taken without replacement; pictures in the figure are of the first exemplars of the seed, "
    "not chosen",
)


def _title(expression: Expression) -> dict[str, Any]:
    try:
        wanted = attributes.expected(expression)[0]
    except ProbeError:  # concepts of a file need not be attributes of rooms
        wanted = {}
    return {
        "terms": [[t.sign, t.name] for t in expression.terms],
        "title": expression.title or attributes.describe(wanted),
    }


def _shown(bank: Bank, expression: Expression, settings: Settings) -> dict[str, Array]:
    """The paper's figure: the first exemplars, their means, the result among noisy neighbours, the pixel control."""
    taken: dict[str, int] = {}
    rows = []
    for term in expression.terms:
        start = taken.get(term.name, 0)
        rows.append(bank.rows[term.name][start : start + settings.shown])
        taken[term.name] = start + settings.shown
    drawn = np.stack(rows)  # (terms, n)
    z = bank.z[torch.from_numpy(drawn)]
    means = z.mean(1)
    generator = torch.Generator().manual_seed(settings.seed)
    noise = (torch.rand(NEIGHBOURS + 1, bank.gan.nz, generator=generator) * 2 - 1) * settings.noise
    noise[NEIGHBOURS // 2] = 0  # the result itself is in the middle
    images = bank.gan.images(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    pixels = draws.pixels(bank, expression, drawn[None])
    return {
        "exemplars": to_bytes(images).numpy(),
        "means": to_bytes(bank.gan.images(means)).numpy(),
        "results": to_bytes(bank.gan.images(draws.combine(expression, means) + noise)).numpy(),
        "pixel_means": to_bytes(images.mean(1)).numpy(),
        "pixel_result": to_bytes(pixels).numpy(),
    }


def _rate(hits: Array) -> tuple[float, list[float]]:
    return float(hits.mean()), measures.mean_ci(hits.astype(float))


def _measure(
    bank: Bank, expression: Expression, labelled: LabelledLatents, settings: Settings, tell: Report
) -> dict[str, Any]:
    """Success by number of exemplars, of the arithmetic and of its controls, and where it fails."""
    wanted, targets = attributes.expected(expression)
    if not wanted:
        return dict(_UNJUDGED)
    tables: dict[int, dict[str, Array]] = {}
    latents: dict[int, dict[str, Tensor]] = {}
    pixels: dict[int, Tensor] = {}
    for n in settings.exemplars:
        rng = np.random.default_rng([settings.seed, n])
        drawn = draws.draw(bank, expression, n, settings.draws, rng)
        shuffled = draws.shuffle(bank, expression, n, settings.draws, rng)
        latents[n] = draws.results(bank, expression, drawn, shuffled, seeds.RANDOM_DIRECTIONS.of(settings.seed, n))
        tables[n] = {}
        for k, (name, z) in enumerate(latents[n].items()):
            tables[n][name] = read(labelled.judge, bank.gan, z)
            tell(f"{expression}, {n} exemplars", k, len(CONTROLS) + 1)
        pixels[n] = draws.pixels(bank, expression, drawn)
        tables[n]["pixel"] = labelled.judge.attributes(pixels[n]).numpy()
        tell(f"{expression}, {n} exemplars", len(CONTROLS) + 1, len(CONTROLS) + 1)
    curves = {name: _curve(name, tables, wanted) for name in ("mean", *CONTROLS)}
    return {
        "expected": attributes.describe(wanted),
        "targets": targets,
        **curves["mean"],
        "controls": {name: curves[name] for name in CONTROLS},
        "attributes": {
            n: {a: float(attributes.shows(t["mean"], a, v).mean()) for a, v in wanted.items()}
            for n, t in tables.items()
        },
        "averaging": {n: _averaging(t, wanted) for n, t in tables.items()},
        "spread": {n: _target_spread(t["mean"], targets) for n, t in tables.items()},
        "norm": {n: float(z["mean"].norm(dim=1).mean()) / draws.prior_norm(bank.gan) for n, z in latents.items()},
        "from_mean_image": _from_mean_image(bank.gan, latents, settings.seed),
        "plausible": _plausible(bank.gan, latents, pixels, settings),
        "drift": {name: _drift(tables[settings.shown], name, wanted) for name in ("mean", "random_direction")},
        "diagnosis": diagnose(bank, expression, labelled, settings.shown, settings.draws, settings.seed),
    }


def _curve(name: str, tables: dict[int, dict[str, Array]], wanted: dict[str, int]) -> dict[str, Any]:
    rates = {n: _rate(attributes.holds(t[name], wanted)) for n, t in tables.items()}
    return {"success": {n: r[0] for n, r in rates.items()}, "success_ci": {n: r[1] for n, r in rates.items()}}


def _averaging(table: dict[str, Array], wanted: dict[str, int]) -> dict[str, Any]:
    """What averaging adds to single exemplars of the same norm, paired by draw."""
    single = attributes.holds(table["norm_matched_single"], wanted).astype(float)
    gain = attributes.holds(table["mean"], wanted) - single
    return {"gain": float(gain.mean()), "gain_ci": measures.mean_ci(gain)}


def _target_spread(table: Array, targets: list[str]) -> float | None:
    """The standard deviation between draws of what the judge reads of the targets, averaged over them."""
    return float(table[:, [ATTRIBUTES.index(a) for a in targets]].std(0).mean()) if targets else None


def _from_mean_image(gan: GAN, latents: dict[int, dict[str, Tensor]], seed: int) -> dict[str, float]:
    """Mean |x - mean image| of results by exemplars, and of samples, in [0, 1] units: are results only less various?"""
    samples = gan.sample(256, seeds.COMPARED.of(seed))
    middle = samples.mean(0)

    def distance(images: Tensor) -> float:
        return float((images - middle).abs().mean()) / 2

    return {"samples": distance(samples), **{str(n): distance(gan.images(z["mean"])) for n, z in latents.items()}}


def _plausible(
    gan: GAN, latents: dict[int, dict[str, Tensor]], images: dict[int, Tensor], settings: Settings
) -> dict[str, float] | None:
    """The share of results that D rates above the 5th percentile of samples; None without D.

    Ghosts of a window satisfy a segmenter, and pixel arithmetic makes ghosts; D has seen none among the real images.
    """
    if gan.discriminator is None:
        return None
    n, samples = settings.shown, gan.latents(512, seeds.COMPARED.of(settings.seed))
    names = ("mean", "norm_matched_single")
    shown = {"samples": gan.images(samples), "pixel": images[n]} | {k: gan.images(latents[n][k]) for k in names}
    with torch.no_grad():
        rated = {k: torch.cat([gan.discriminator(x.to(gan.device)) for x in v.split(64)]) for k, v in shown.items()}
    floor = rated.pop("samples").quantile(0.05)
    return {k: float((r > floor).float().mean()) for k, r in rated.items()}


def _drift(tables: dict[str, Array], name: str, wanted: dict[str, int]) -> dict[str, float]:
    """How far attributes that nobody named move from the base's: share of flags changed, degrees, hue on its circle."""
    out = {}
    for k, attribute in enumerate(ATTRIBUTES):
        if attribute in wanted:
            continue
        a, b = tables["base"][:, k], tables[name][:, k]
        if attribute in ("window", "night", "lamp"):
            change = (a > 0.5) != (b > 0.5)
        else:
            change = np.abs(a - b) if attribute == "yaw" else np.abs((a - b + 0.5) % 1 - 0.5)
        out[attribute] = float(change.mean())
    return out
