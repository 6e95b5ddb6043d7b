"""Many draws of exemplars, the arithmetic on each, and what it is to be compared with.

Σ of means of three independent latents has exactly the prior's variance, single exemplars three times that, more
exemplars less: averaging changes the norm, so every comparison has a control of equal norm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from probe.concepts.exemplars import Exemplars
from probe.concepts.expressions import Expression
from probe.measures.statistics import Array
from probe.models.gan import GAN, from_bytes, to_bytes

CONTROLS = ("norm_matched_single", "norm_restored_mean", "random_direction", "shuffled", "pixel")


@dataclass
class Bank:
    """Latents z (P, nz) of several concepts, one after the other; `rows` says which are whose."""

    gan: GAN
    z: Tensor
    rows: dict[str, Array]
    _images: Tensor | None = field(default=None, repr=False)

    @classmethod
    def of(cls, gan: GAN, exemplars: Exemplars, expression: Expression) -> Bank:
        """The concepts of one expression."""
        names = list(dict.fromkeys(t.name for t in expression.terms))
        ends = np.cumsum([0, *(len(exemplars.latents[name]) for name in names)])
        rows = {name: np.arange(ends[k], ends[k + 1]) for k, name in enumerate(names)}
        return cls(gan, torch.cat([exemplars.latents[name] for name in names]), rows)

    @property
    def images(self) -> Tensor:
        """Their images (P, C, S, S) uint8."""
        if self._images is None:
            self._images = torch.cat([to_bytes(batch.cpu()) for batch in self.gan.batches(self.z)])
        return self._images


def draw(bank: Bank, expression: Expression, n: int, draws: int, rng: np.random.Generator) -> Array:
    """Indices (draws, terms, n) of exemplars, none twice in a draw, each term from its own concept."""
    out = np.zeros((draws, len(expression.terms), n), dtype=np.int64)
    for name, rows in bank.rows.items():
        terms = [i for i, t in enumerate(expression.terms) if t.name == name]
        for d in range(draws):
            out[d, terms] = rng.choice(rows, n * len(terms), replace=False).reshape(len(terms), n)
    return out


def shuffle(bank: Bank, expression: Expression, n: int, draws: int, rng: np.random.Generator) -> Array:
    """The same after all labels were permuted, every concept as frequent as the rarest; indices (draws, terms, n)."""
    fewest = min(map(len, bank.rows.values()))
    size = n * len(expression.terms)
    out = np.zeros((draws, len(expression.terms), n), dtype=np.int64)
    for d in range(draws):
        every = np.concatenate([rng.choice(rows, fewest, replace=False) for rows in bank.rows.values()])
        out[d] = rng.choice(every, size, replace=size > len(every)).reshape(-1, n)
    return out


def prior_norm(gan: GAN) -> float:
    """The root mean square norm of latents of the prior."""
    return float((gan.nz / 3 if gan.prior == "uniform" else gan.nz) ** 0.5)


def _signs(expression: Expression) -> Tensor:
    return torch.tensor([float(t.sign) for t in expression.terms])


def combine(expression: Expression, values: Tensor) -> Tensor:
    """Σ sign · value over the terms: (…, terms, nz) -> (…, nz)."""
    return (_signs(expression).to(values.device)[:, None] * values).sum(-2)


def results(bank: Bank, expression: Expression, drawn: Array, shuffled: Array, seed: int) -> dict[str, Tensor]:
    """Latents (draws, nz) by method, of exemplars drawn (draws, terms, n).

    `mean`: sum of the concepts' means. `norm_matched_single`: of one exemplar a concept, scaled to the norm of `mean`.
    `norm_restored_mean`: `mean` scaled to the prior's norm. `random_direction`: the base's mean, moved as far as `mean`
    is from it but anywhere. `shuffled`: as `mean` with labels permuted. `base`: the base's mean, unmoved.
    """
    z = bank.z[torch.from_numpy(drawn)]  # (draws, terms, n, nz)
    means = z.mean(2)
    mean, base = combine(expression, means), means[:, expression.base]
    length = mean.norm(dim=1, keepdim=True)
    single = combine(expression, z[:, :, 0])
    random = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    random *= (mean - base).norm(dim=1, keepdim=True) / random.norm(dim=1, keepdim=True)
    return {
        "mean": mean,
        "norm_matched_single": single * length / single.norm(dim=1, keepdim=True).clamp(min=1e-9),
        "norm_restored_mean": mean * prior_norm(bank.gan) / length.clamp(min=1e-9),
        "random_direction": base + random,
        "shuffled": combine(expression, bank.z[torch.from_numpy(shuffled)].mean(2)),
        "base": base,
    }


def pixels(bank: Bank, expression: Expression, drawn: Array) -> Tensor:
    """The arithmetic on the images of the drawn exemplars, cut to [-1, 1]: (draws, C, S, S)."""
    out = []
    for rows in drawn:
        means = from_bytes(bank.images[torch.from_numpy(rows)]).mean(1)  # (terms, C, S, S)
        out.append(combine(expression, means.flatten(1)).unflatten(0, means.shape[1:]).clamp(-1, 1))
    return torch.stack(out)
