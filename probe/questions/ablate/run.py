"""What single feature maps do: they are scaled or switched off, everywhere or in a region, and the images compared.

The images that are counted are of other latents than those shown, so that units picked by eye on shown samples are
not judged on them. Formulas: `change` is mean |x - x'| over pixels and channels, in [0, 1]; `ratio` of an object is
ΣA_after / ΣA_before, A its area by the judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts.segmenters import Segmenter
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.gan import GAN, to_bytes
from probe.models.hooks import Site, cover, resolve, within
from probe.models.replay import Replay
from probe.results.result import Result

Report = Callable[[str, int, int], None]
Change = Callable[[Tensor], Tensor]
_LARGEST = 1_000_000  # factor; beyond it float32 has no numbers for what comes of it
_ENOUGH = 19  # random sets for a p-value: fewer cannot say 0.05


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `effect`: which maps of which layer are multiplied by `scale`, and on how many images it is counted.

    `indices` are the samples of the seed that the figure shows; `draws` random sets of other maps are the control.
    """

    layer: str
    units: tuple[int, ...]
    scale: float = 0.0
    indices: tuple[int, ...] = tuple(range(12))
    latents: int = 64
    draws: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.units or not self.indices:
            raise ProbeError(f"{'units' if not self.units else 'indices'}: none given; expected at least one")
        if not abs(self.scale) <= _LARGEST:
            raise ProbeError(
                f"scale {self.scale:g}: expected a number from -{_LARGEST:g} to {_LARGEST:g}; 0 switches the maps off"
            )
        if self.latents < 8 or self.draws < 1:
            raise ProbeError(f"latents {self.latents}, draws {self.draws}: expected at least 8 and 1")


def scaling(units: Array, maps: int, factor: float, cells: Tensor | None = None) -> Change:
    """An edit that multiplies some of the maps (N, maps, H, W) by a factor, in the given cells (H, W) or everywhere."""
    gains = torch.ones(maps)
    gains[torch.as_tensor(units, dtype=torch.long)] = factor

    def change(x: Tensor) -> Tensor:
        return x * gains.to(x)[:, None, None]

    return change if cells is None else within(change, cells)


def other_sets(units: tuple[int, ...], maps: int, draws: int, seed: int) -> list[Array]:
    """Random sets of as many of the other maps, (len(units),) each; all there are where they are fewer than `draws`."""
    others = np.setdiff1d(np.arange(maps), units)
    possible = math.comb(len(others), len(set(units)))
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, ...], Array] = {}
    while len(found) < min(draws, possible):
        chosen = np.sort(rng.permutation(others)[: len(set(units))])
        found[tuple(chosen)] = chosen
    return list(found.values())


class _Scorer:
    """Held-out images before any edit, what the judge sees in them, and what an edit does to both."""

    def __init__(self, gan: GAN, site: Site, settings: Settings, where: Tensor | None, judge: Segmenter | None) -> None:
        z = gan.latents(settings.latents, seeds.HELDOUT.of(settings.seed))
        self.name, self.judge = site.name, judge
        self.replay = Replay(gan, z, [site.name])
        self.before = self.replay.unedited
        inside = torch.zeros(gan.size, gan.size) if where is None else where
        self.inside = (inside > 0.5).expand(len(z), -1, -1)
        self.areas = self._areas(self.before)

    def _areas(self, images: Tensor) -> Array:
        """Pixels of each object but the background in each image, (N, objects)."""
        if self.judge is None:
            return np.zeros((len(images), 0))
        return measures.areas(self.judge.labels(images), len(self.judge.objects))[:, 1:]

    def score(self, change: Change) -> tuple[Array, Array, Array, Array]:
        """Mean change of each image in all, outside and inside the region (N,), and areas after (N, objects)."""
        after = self.replay.images({self.name: change})
        outside, inside = measures.change(self.before, after, self.inside)
        whole = measures.to_numpy((self.before - after).abs().mean((1, 2, 3)) / 2)
        return whole, outside, inside, self._areas(after)

    def ratios(self, after: Array) -> Array:
        """ΣA_after / ΣA_before of each object; nan where there is none before."""
        before = self.areas.sum(0)
        return np.where(before > 0, after.sum(0) / np.maximum(before, 1), np.nan)


def effect(
    gan: GAN,
    settings: Settings,
    where: Tensor | None = None,
    judge: Segmenter | None = None,
    report: Report | None = None,
) -> Result:
    """What multiplying some maps of a layer by a factor does to images, beside random sets of other maps.

    `where` (size, size) in [0, 1] restricts the edit to a region of the image, laid over the layer's cells by the share
    of each it covers; `judge` reads objects (rooms only). Arrays for the figure: `before`, `after` (samples, C, S, S)
    uint8, `random_change` (draws,), `random_ratio` (draws, objects), and `where`. The GAN is unchanged.
    Raises ProbeError for a layer or a unit that is not there, and for a region that is not of the images' size.
    """
    s = settings
    site = resolve(gan, s.layer)
    wrong = [u for u in s.units if not 0 <= u < site.maps]
    if wrong:
        raise ProbeError(f"units: {site.name} has maps 0 to {site.maps - 1}; there is no map {wrong[0]}")
    if where is not None and where.shape != (gan.size, gan.size):
        raise ProbeError(f"region of {tuple(where.shape)} pixels; the images are {gan.size}x{gan.size}")
    cells = None if where is None else cover(where, site.grid)
    change = scaling(np.array(s.units), site.maps, s.scale, cells)
    scorer = _Scorer(gan, site, s, where, judge)
    whole, outside, inside, areas = scorer.score(change)
    sets = other_sets(s.units, site.maps, s.draws, s.seed)
    random_change, random_ratio = np.zeros(len(sets)), np.zeros((len(sets), scorer.areas.shape[1]))
    for k, chosen in enumerate(sets):
        found = scorer.score(scaling(chosen, site.maps, s.scale, cells))
        random_change[k], random_ratio[k] = found[0].mean(), scorer.ratios(found[3])
        if report:
            report("random sets of other maps", k + 1, len(sets))
    metrics: dict[str, Any] = {
        "layer": site.name, "maps_total": site.maps, "units": list(s.units), "scale": s.scale, "latents": s.latents,
        "change": float(whole.mean()), "change_ci": measures.mean_ci(whole),
        **_parts(where, outside, inside),
        "random": {"draws": len(sets), **_spread(random_change, "change")},
        "p_value": measures.p_value(float(whole.mean()), random_change) if len(sets) >= _ENOUGH else None,
        "objects": _objects(scorer, areas, random_ratio) if judge else {},
    }  # fmt: skip
    z = gan.latents(max(s.indices) + 1, s.seed)[list(s.indices)]
    shown = Replay(gan, z, [site.name])
    arrays = {name: to_bytes(shown.images(e)).numpy() for name, e in (("before", {}), ("after", {site.name: change}))}
    arrays |= {"random_change": random_change, "random_ratio": random_ratio}
    if where is not None:
        arrays["where"] = measures.to_numpy(where)
    return Result("ablate", metrics, asdict(s), _assumed(s, where, judge, len(sets)), dict(gan.provenance), arrays)


def _parts(where: Tensor | None, outside: Array, inside: Array) -> dict[str, Any]:
    """The change inside and outside of a region, with intervals; null without a region or where it leaves nothing."""
    out: dict[str, Any] = {}
    for name, values in (("inside", inside), ("outside", outside)):
        known = where is not None and bool(np.isfinite(values).all())
        out |= {
            name: float(values.mean()) if known else None,
            f"{name}_ci": measures.mean_ci(values) if known else None,
        }
    return out


def _spread(values: Array, name: str) -> dict[str, float | None]:
    """Mean and 5th and 95th percentile of what random sets did."""
    known = values[np.isfinite(values)]
    found = [known.mean(), *np.percentile(known, [5, 95])] if len(known) else [None] * 3
    return {f"{name}_{part}": value for part, value in zip(("mean", "p5", "p95"), found, strict=True)}


def _objects(scorer: _Scorer, after: Array, random: Array) -> dict[str, Any]:
    """Each object's area before and after by the judge, as shares of all pixels, their ratio, and the random sets'."""
    assert scorer.judge is not None
    pixels, ratios = scorer.before[:, 0].numel(), scorer.ratios(after)
    out = {}
    for k, name in enumerate(scorer.judge.objects[1:]):
        seen = bool(np.isfinite(ratios[k]))
        p = measures.p_value(abs(1 - ratios[k]), np.abs(1 - random[:, k])) if seen and len(random) >= _ENOUGH else None
        out[name] = {
            "area_before": scorer.areas[:, k].sum() / pixels, "area_after": after[:, k].sum() / pixels,
            "ratio": float(ratios[k]), "ratio_ci": measures.ratio_ci(after[:, k], scorer.areas[:, k]) if seen else None,
            "random": _spread(random[:, k], "ratio"), "p_value": p,
        }  # fmt: skip
    return out


def _assumed(s: Settings, where: Tensor | None, judge: Segmenter | None, sets: int) -> list[str]:
    out = [
        f"counted on {s.latents} latents of seed {seeds.HELDOUT.of(s.seed)}; shown are samples of seed {s.seed}",
        f"control: {sets} distinct random sets of as many of the layer's other maps, the same factor and region, not matched in energy"
        if sets
        else "no control: the layer has fewer other maps than were edited",
    ]
    if where is not None:
        out.append(
            "a cell of the feature map is edited by the share of it that the region covers; kernels spread that beyond"
        )
    if judge is not None:
        out.append(
            "objects: the judge's label maps; p_value of an object: random sets that change its area as much, up or down"
        )
    return out
