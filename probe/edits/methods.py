"""Ways to make a generator forget: the paper's rule, maps ranked three ways, patching, linear erasures.

`paper`     every map whose logistic weight is positive, at zero; the strength fades them out (1 drops them)
`logistic`  the maps of largest logistic weight; the strength is their number
`iou`       the maps whose active region overlaps the boxes most (GAN Dissection); the strength is their number
`causal`    the maps that most make the selector see the concept, to first order; the strength is their number
`patch`     activation patching: places that show the concept take their features from the same latent moved off the concept;
            where the segmenters are good, how it moves is adjusted by gradient; the strength is how far it moves
`lda`       one-sided erasure of one linear discriminant; the strength is its strength
`leace`     linear erasure (Belrose et al. 2023, `surgery.leace`) at every place; the strength is its strength, 1 as published
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.base.plugins import made
from probe.concepts.probing import LabelledMaps, logistic
from probe.concepts.units import effects, overlap
from probe.edits import surgery
from probe.edits.context import Fit
from probe.edits.protocols import EditMethod
from probe.edits.refinement import patch_edits, refine
from probe.edits.scoring import Scorer
from probe.edits.tuning import AtStrength, Method
from probe.measures.statistics import Array
from probe.models.gan import support
from probe.models.hooks import Site
from probe.models.replay import Replay

METHODS = ("paper", "logistic", "iou", "causal", "patch")
OPTIONAL = ("lda", "leace")
_FADES = (0.25, 0.5, 0.75, 1.0)
_STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of leace
_DISTANCES = (0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # of patch
_FAR = 2.0  # the largest of them where nothing is adjusted: further on it is an extrapolation of few labels
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


def _paper(fit: Fit) -> list[Method]:
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


def _logistic(fit: Fit) -> list[Method]:
    return _ranked("logistic", fit, lambda site, labels, seed: _weights(site, fit.negatives[site.name], labels, seed))


def _iou(fit: Fit) -> list[Method]:
    boxes = fit.labelled.boxes
    masks = torch.stack([boxes.cells(i, min(_COARSE, fit.gan.size), fit.gan.size) for i in boxes.images])
    found = {site.name: overlap(fit.labelled.maps[site.name], masks) for site in fit.sites}
    return _ranked("iou", fit, lambda site, labels, _: found[site.name].ious(torch.from_numpy(labels.rows)))


def _causal(fit: Fit) -> list[Method]:
    value = fit.selector.objects.index(fit.labelled.boxes.concept)
    found = effects(fit.gan, [s.name for s in fit.sites], fit.z, fit.selector, value)
    return _ranked("causal", fit, lambda site, labels, _: found[site.name][torch.from_numpy(labels.rows)].mean(0))


def _directed(
    name: str,
    places: tuple[Site, ...],
    fit: Fit,
    make: Callable[[Tensor, Tensor], Any],
    apply: Callable[[Any, float], Any],
    strengths: tuple[float, ...],
    **about: Any,
) -> Method:
    """A method that fits a direction to places with and without the concept; its counterpart moves the boxes."""

    def fitted(labels: LabelledMaps, seed: int) -> dict[str, Any]:
        return {s.name: make(*labels.gather(s.name, fit.negatives[s.name], seed).split()) for s in places}

    def at_strength(found: dict[str, Any], strength: float) -> Any:
        return {key: apply(direction, strength) for key, direction in found.items()}

    def refit(labels: LabelledMaps, seed: int) -> AtStrength:
        return partial(at_strength, fitted(labels, seed))

    def random(_: float, rng: np.random.Generator) -> AtStrength:
        return refit(fit.labelled.shuffled(rng), int(rng.integers(2**31)))

    found = fitted(fit.labelled, fit.seed)
    return Method(
        name=name,
        sites=places,
        strengths=strengths,
        edits=partial(at_strength, found),
        refit=refit,
        random=random,
        about=about,
        fitted=found,
    )


def _lda(fit: Fit) -> list[Method]:
    def apply(direction: surgery.Direction, strength: float) -> Any:
        return direction.eraser(strength).to(fit.gan.device)

    return [
        _directed("lda", places, fit, partial(surgery.fit_erase, boundary=b), apply, fit.strengths, boundary=b)
        for places in fit.together
        for b in fit.boundaries
    ]


def counterfactual(
    fit: Fit, site: Site, boundary: float, labels: LabelledMaps, seed: int, refined: bool
) -> surgery.Counterfactual:
    """What `patch` patches into a layer: fitted to labels and, if asked, adjusted on latents of its own."""
    z, has = fit.z[torch.from_numpy(labels.rows)], labels.boxed
    found = surgery.fit_patch((z[has], z[~has]), labels.inside(site.name, seed), boundary, support(fit.gan.prior))
    if not refined:
        return found
    pool = fit.gan.latents(fit.refinement.latents, seeds.REFINEMENT.of(seed))
    scorer = Scorer(Replay(fit.gan, pool, [site.name]), fit.selector, fit.labelled.boxes)
    return refine(found, scorer, site.name, fit.refinement, seed)


def patching(found: surgery.Counterfactual, site: Site, device: torch.device) -> AtStrength:
    """Strength -> the edits that do to a running generator what `surgery.patch` does to its copy."""
    return lambda strength: patch_edits(found.patch(strength).to(device), site.name)


def _patch(fit: Fit) -> list[Method]:
    device = fit.gan.device

    def method(site: Site, boundary: float, refined: bool) -> Method:
        def refit(labels: LabelledMaps, seed: int) -> AtStrength:
            return patching(counterfactual(fit, site, boundary, labels, seed, refined), site, device)

        def random(_: float, rng: np.random.Generator) -> AtStrength:
            labels, seed = fit.labelled.shuffled(rng), int(rng.integers(2**31))
            fitted = cache(lambda: patching(counterfactual(fit, site, boundary, labels, seed, False), site, device))
            return lambda strength: fitted()(strength)  # fitted when it is tried, beside others

        own = counterfactual(fit, site, boundary, fit.labelled, fit.seed, refined)
        about = {"boundary": boundary, "directions": len(own.bias)}
        edits = patching(own, site, device)
        strengths = tuple(d for d in _DISTANCES if refined or d <= _FAR)
        return Method(
            name="patch",
            sites=(site,),
            strengths=strengths,
            edits=edits,
            refit=refit,
            random=random,
            about=about,
            fitted=own,
            least=float(refined),
        )

    if fit.readable:
        return [method(fit.sites[0], fit.boundaries[0], True)]
    return [method(site, boundary, False) for site in fit.sites for boundary in fit.boundaries]


def _leace(fit: Fit) -> list[Method]:
    def apply(edit: tuple[Tensor, Tensor], strength: float) -> Any:
        matrix, offset = (part.to(fit.gan.device) for part in edit)

        def change(x: Tensor) -> Tensor:
            away = torch.einsum("nchw,dc->ndhw", x, matrix.to(x.dtype)) + offset.to(x.dtype)[:, None, None] - x
            return x + strength * away

        return change

    return [_directed("leace", places, fit, surgery.leace, apply, _STRENGTHS) for places in fit.together]


BUILDERS: dict[str, Callable[[Fit], list[Method]]] = {
    "paper": _paper,
    "logistic": _logistic,
    "iou": _iou,
    "causal": _causal,
    "patch": _patch,
    "lda": _lda,
    "leace": _leace,
}


def candidates(fit: Fit, name: str) -> list[Method]:
    """A method at every layer (or set of layers), fitted to the labels."""
    return BUILDERS[name](fit)


def register_edit_method(method: EditMethod) -> None:
    """Add a way to forget, under its `name`, to `probe.forget` and `probe forget --method`.

    Raises ProbeError for what is no EditMethod, and for a name of probe's own.
    """
    missing = [name for name in ("name", "strengths", "fit", "random") if not hasattr(method, name)]
    if missing:
        raise ProbeError(
            f"`method`: is of type {type(method).__name__}, without `.{missing[0]}`; expected a name or an EditMethod"
        )
    if method.name in (*METHODS, *OPTIONAL) or not str(method.name).isidentifier():
        raise ProbeError(f"method {method.name}: expected a name of one word that probe's own methods do not have")
    BUILDERS[method.name] = partial(_registered, method)


def _registered(method: EditMethod, fit: Fit) -> list[Method]:
    """A registered method as the others are: tuned, refitted to other labels, held against its own random counterpart."""

    def refit(labels: LabelledMaps, seed: int) -> AtStrength:
        return method.fit(replace(fit, labelled=labels, seed=seed)).hooks

    def random(_: float, rng: np.random.Generator) -> AtStrength:
        return method.random(fit, rng).hooks

    own = method.fit(fit)
    touched = set(own.hooks(method.strengths[0]))
    places = tuple(site for site in fit.sites if site.name in touched)
    if not places or touched != {site.name for site in places}:
        known = ", ".join(site.name for site in fit.sites)
        raise ProbeError(
            f"method {method.name}: edits {', '.join(sorted(touched)) or 'no layer'}; expected some of {known}"
        )
    return [
        Method(
            name=method.name,
            sites=places,
            strengths=tuple(method.strengths),
            edits=own.hooks,
            refit=refit,
            random=random,
            fitted=own,
        )
    ]


def chosen(methods: Any) -> tuple[str, ...]:
    """Methods given by name, as EditMethod or as pkg.module:factory of one (in a text with commas between), by name, each once.

    Raises ProbeError for one that there is not.
    """
    parts = (
        methods.split(",") if isinstance(methods, str) else methods if isinstance(methods, list | tuple) else [methods]
    )
    names: dict[str, None] = {}
    for part in itertools.chain(*(p.split(",") if isinstance(p, str) else [p] for p in parts)):
        if isinstance(part, str) and ":" not in part:
            name = {"erase": "patch"}.get(part.strip(), part.strip())
            if name not in BUILDERS:
                raise ProbeError(f"`method` {name}: expected {', '.join(BUILDERS)}, or pkg.module:factory")
        else:
            method = made(part, "method") if isinstance(part, str) else part
            register_edit_method(method)
            name = method.name
        names[name] = None
    return tuple(names)
