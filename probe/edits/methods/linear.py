"""Forgetting by linear erasure.

`lda`       one-sided erasure of one linear discriminant; the strength is its strength
`leace`     linear erasure (Belrose et al. 2023, `surgery.leace`) at every place; the strength is its strength, 1 as published
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.concepts.probing import LabelledMaps
from probe.edits import surgery
from probe.edits.context import Fit
from probe.edits.tuning import AtStrength, Method
from probe.models.hooks import Site

_STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of leace


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


def lda(fit: Fit) -> list[Method]:
    """One-sided erasure along one discriminant, at each layer and all of them, at each boundary."""

    def apply(direction: surgery.Direction, strength: float) -> Any:
        return direction.eraser(strength).to(fit.gan.device)

    return [
        _directed("lda", places, fit, partial(surgery.fit_erase, boundary=b), apply, fit.strengths, boundary=b)
        for places in fit.together
        for b in fit.boundaries
    ]


def leace(fit: Fit) -> list[Method]:
    """Linear erasure at each layer and all of them."""

    def apply(edit: tuple[Tensor, Tensor], strength: float) -> Any:
        matrix, offset = (part.to(fit.gan.device) for part in edit)

        def change(x: Tensor) -> Tensor:
            away = torch.einsum("nchw,dc->ndhw", x, matrix.to(x.dtype)) + offset.to(x.dtype)[:, None, None] - x
            return x + strength * away

        return change

    return [_directed("leace", places, fit, surgery.leace, apply, _STRENGTHS) for places in fit.together]
