"""Where vector arithmetic fails: the segmenters, averaging, too few exemplars, the class means, or the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.concepts import attributes
from probe.concepts.draws import Bank, combine, draw
from probe.concepts.exemplars import LabelledLatents
from probe.concepts.expressions import Expression
from probe.concepts.latent_directions import boundary
from probe.concepts.segmenters import Segmenter
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.gan import GAN, from_bytes

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # lengths of the fitted direction that are tried
_FEWEST = 20  # latents of each kind that a fitted direction needs


def diagnose(
    bank: Bank, expression: Expression, labelled: LabelledLatents, n: int, draws: int, seed: int
) -> dict[str, Any]:
    """Success when one possible cause of failure after the other is taken away; n exemplars a concept.

    `exemplars`: share of single exemplars in which the judge sees what the selector saw; low: the segmenters.
    `base_alone`: of means of the base; low: the averaging. `many_exemplars`: all but the base averaged over every
    exemplar there is; high: n are too few. `fitted_direction`: the base's means moved along a logistic direction from
    the base's latents to those that show the result, as far as the selector finds best on other draws; high where class
    means are low: the means point elsewhere; low: the model has no straight way.
    """
    gan, judge = bank.gan, labelled.judge
    wanted = attributes.expected(expression)[0]
    rng = np.random.default_rng(seeds.DIAGNOSIS.of(seed, n))
    single = {}
    for name, rows in bank.rows.items():
        few = torch.from_numpy(rng.choice(rows, min(len(rows), draws), replace=False))
        table = judge.attributes(from_bytes(bank.images[few])).numpy()
        single[name] = float(attributes.holds(table, attributes.parts(name)).mean())
    base_name = expression.terms[expression.base].name

    def bases(count: int) -> Tensor:
        return bank.z[torch.from_numpy(draw(bank, expression, n, count, rng)[:, expression.base])].mean(1)

    base = bases(draws)
    every = torch.stack([bank.z[torch.from_numpy(bank.rows[t.name])].mean(0) for t in expression.terms])
    edit = combine(expression, every) - every[expression.base]
    out: dict[str, Any] = {"exemplars": single}
    tests = {"base_alone": (base, attributes.parts(base_name)), "many_exemplars": (base + edit, wanted)}
    direction = _fitted(labelled, base_name, wanted)
    if direction is not None:
        other = bases(draws // 2 or 1)
        seen = [attributes.holds(read(labelled.selector, gan, other + s * direction), wanted).mean() for s in STRENGTHS]
        out["fitted_length"] = STRENGTHS[int(np.argmax(seen))]
        tests["fitted_direction"] = (base + out["fitted_length"] * direction, wanted)
    for name, (z, aim) in tests.items():
        hits = attributes.holds(read(judge, gan, z), aim).astype(float)
        out[name], out[f"{name}_ci"] = float(hits.mean()), measures.mean_ci(hits)
    return out


def read(segmenter: Segmenter, gan: GAN, z: Tensor) -> Array:
    """A segmenter's attribute table (N, 6) of the images of latents (N, nz)."""
    return np.concatenate([segmenter.attributes(batch.cpu()).numpy() for batch in gan.batches(z)])


def _fitted(labelled: LabelledLatents, base: str, wanted: dict[str, int]) -> Tensor | None:
    """The direction from latents that show the base to those that show the result; None where either is rare."""
    held = [attributes.holds(labelled.table, attributes.parts(base)), attributes.holds(labelled.table, wanted)]
    kinds = [h & ~held[1 - k] for k, h in enumerate(held)]
    if min(k.sum() for k in kinds) < _FEWEST:
        return None
    rows = kinds[0] | kinds[1]
    return boundary(labelled.z[torch.from_numpy(rows)], kinds[1][rows])
