"""Forgetting by activation patching.

`patch`     places that show the concept take their features from the same latent moved off the concept; where the segmenters
            are good, how it moves is adjusted by gradient; the strength is how far it moves
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from probe.base import seeds
from probe.concepts.probing import LabelledMaps
from probe.edits import surgery
from probe.edits.context import Fit
from probe.edits.refinement import patch_edits, refine
from probe.edits.scoring import Scorer
from probe.edits.tuning import AtStrength, Method
from probe.models.gan import support
from probe.models.hooks import Site
from probe.models.replay import Replay

_DISTANCES = (0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # of patch
_FAR = 2.0  # the largest of them where nothing is adjusted: further on it is an extrapolation of few labels


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


def patch(fit: Fit) -> list[Method]:
    """Activation patching: adjusted by gradient where the segmenters are good, else at every layer and boundary."""
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
