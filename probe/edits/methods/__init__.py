"""Ways to make a generator forget, by name: probe's own, a file each kind, and those that are registered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.base.plugins import made
from probe.concepts.probing import LabelledMaps
from probe.edits.context import Fit
from probe.edits.methods import linear, maps, patching
from probe.edits.protocols import EditMethod
from probe.edits.tuning import AtStrength, Method

__all__ = ["BUILDERS", "METHODS", "OPTIONAL", "Fit", "candidates", "chosen", "register_edit_method"]

METHODS = ("paper", "logistic", "iou", "causal", "patch")
OPTIONAL = ("lda", "leace")

BUILDERS: dict[str, Callable[[Fit], list[Method]]] = {
    "paper": maps.paper,
    "logistic": maps.ranked_by_weight,
    "iou": maps.ranked_by_overlap,
    "causal": maps.ranked_by_effect,
    "patch": patching.patch,
    "lda": linear.lda,
    "leace": linear.leace,
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
