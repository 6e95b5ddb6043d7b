"""Forgetting by maps at zero: the paper's rule, and maps ranked three ways.

`paper`     every map whose logistic weight is positive, at zero; the strength fades them out (1 drops them)
`logistic`  the maps of largest logistic weight; the strength is their number
`iou`       the maps whose active region overlaps the boxes most (GAN Dissection); the strength is their number
`causal`    the maps that most make the selector see the concept, to first order; the strength is their number
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.concepts.probing import LabelledMaps, logistic
from probe.concepts.units import effects, overlap
from probe.edits.context import Fit
from probe.edits.tuning import AtStrength, Method
from probe.measures.statistics import Array
from probe.models.hooks import Site

_FADES = (0.25, 0.5, 0.75, 1.0)
_COARSE = 32  # side at which boxes are laid over units


def fading(units: Tensor, maps: int) -> AtStrength:
    """Strength -> edit that multiplies the given maps by 1 - strength; strength 1 drops them at all locations."""
    mask = torch.zeros(maps)
    mask[units] = 1
    return lambda strength: lambda x: x * (1 - strength * mask.to(x.device, x.dtype))[:, None, None]  # type: ignore[return-value]


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


def _at(site: Site, edit: Callable[[float], Any]) -> AtStrength:
    return lambda strength: {site.name: edit(strength)}


def _maps_method(
    name: str,
    site: Site,
    fit: Fit,
    choose: Callable[[LabelledMaps, int], Callable[[float], Tensor]],
    strengths: tuple[float, ...],
    fade: bool,
) -> Method:
    """A method that drops the maps `choose(labels, seed)(strength)`; its random counterpart drops others."""
    energy = fit.labelled.maps[site.name].square().mean((0, 2, 3)).numpy()
    chosen = choose(fit.labelled, fit.seed)

    def edits(pick: Callable[[float], Tensor], strength: float) -> Any:
        return {site.name: fading(pick(strength), site.maps)(strength if fade else 1.0)}

    def random(strength: float, rng: np.random.Generator) -> AtStrength:
        return _at(site, fading(torch.from_numpy(energy_matched(energy, chosen(strength).numpy(), rng)), site.maps))

    return Method(
        name=name,
        sites=(site,),
        strengths=strengths,
        edits=partial(edits, chosen),
        refit=lambda labels, seed: partial(edits, choose(labels, seed)),
        random=random,
        start=lambda strength: strength if fade else 1.0,
        most=1.0,
        units=lambda strength: sorted(chosen(strength).tolist()),
    )


def _weights(site: Site, negatives: str, labels: LabelledMaps, seed: int) -> Tensor:
    return torch.from_numpy(logistic(labels.gather(site.name, negatives, seed)).coef_[0])


def paper(fit: Fit) -> list[Method]:
    """The paper's rule at each layer: all maps of positive logistic weight."""

    def choose(site: Site, labels: LabelledMaps, seed: int) -> Callable[[float], Tensor]:
        units = torch.nonzero(_weights(site, "same-image", labels, seed) > 0)[:, 0]
        return lambda _: units

    return [_maps_method("paper", site, fit, partial(choose, site), _FADES, fade=True) for site in fit.sites]


def _ranked(name: str, fit: Fit, score: Callable[[Site, LabelledMaps, int], Tensor]) -> list[Method]:
    def choose(site: Site, labels: LabelledMaps, seed: int) -> Callable[[float], Tensor]:
        order = score(site, labels, seed).argsort(descending=True, stable=True)
        return lambda strength: order[: int(strength)]

    def strengths(site: Site) -> tuple[float, ...]:
        return tuple(float(k) for k in np.unique(np.geomspace(1, site.maps, 12).round()))

    return [_maps_method(name, site, fit, partial(choose, site), strengths(site), fade=False) for site in fit.sites]


def ranked_by_weight(fit: Fit) -> list[Method]:
    """Maps by logistic weight."""
    return _ranked("logistic", fit, lambda site, labels, seed: _weights(site, fit.negatives[site.name], labels, seed))


def ranked_by_overlap(fit: Fit) -> list[Method]:
    """Maps by the overlap of their active region with the boxes."""
    boxes = fit.labelled.boxes
    masks = torch.stack([boxes.cells(i, min(_COARSE, fit.gan.size), fit.gan.size) for i in boxes.images])
    found = {site.name: overlap(fit.labelled.maps[site.name], masks) for site in fit.sites}
    return _ranked("iou", fit, lambda site, labels, _: found[site.name].ious(torch.from_numpy(labels.rows)))


def ranked_by_effect(fit: Fit) -> list[Method]:
    """Maps by how much they make the selector see the concept."""
    value = fit.selector.objects.index(fit.labelled.boxes.concept)
    found = effects(fit.gan, [s.name for s in fit.sites], fit.z, fit.selector, value)
    return _ranked("causal", fit, lambda site, labels, _: found[site.name][torch.from_numpy(labels.rows)].mean(0))
