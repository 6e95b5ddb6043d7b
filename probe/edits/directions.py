"""Where a concept lies among a layer's feature vectors, and how to take it away; fitted, not applied (see surgery)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.models.dcgan import Erase, Patch

SHRINKAGE = 0.05
OPENING = 0.25
_MOVES = 0.25


@dataclass(frozen=True)
class Direction:
    """A concept at a layer: discriminant w (C,), mean without it μ₀ (C,), and the shift between the means μ₁ - μ₀ (C,).

    `boundary` says where between the means erasure begins: 0 at μ₀, 0.5 half way, the discriminant's own boundary.
    """

    weight: Tensor
    mean: Tensor
    shift: Tensor
    boundary: float = 0.5

    def eraser(self, strength: float) -> Erase:
        """The edit x' = max(0, x - s·max(0, w·(x - m))·(μ₁ - μ₀) / (w·(μ₁ - m))), s the strength, m on the boundary.

        m = μ₀ + boundary·(μ₁ - μ₀): only places on the concept's side of it, w·(x - m) > 0, are touched. Strength 1
        brings a place from the concept's mean to the mean without it; more overshoots.
        """
        module = Erase(len(self.weight))
        for name, value in zip(("weight", "bias", "step"), self.gate(), strict=True):
            getattr(module, name).copy_(value[None])
        module.step.mul_(strength)
        return module

    def gate(self) -> tuple[Tensor, Tensor, Tensor]:
        """The edit as w (C,), b () and v (C,): at strength 1, x' = x - max(0, w·x + b) v."""
        across = self.weight @ self.shift
        reach = (1 - self.boundary) * across  # w·(μ₁ - m)
        return self.weight, -(self.weight @ self.mean + self.boundary * across), self.shift / reach


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """What a generator would draw without a concept, and where: see `dcgan.Patch` for the formula.

    `weight`, `step` (K, nz) and `bias` (K,) move a latent off the concept; `gate` (C,) and `threshold` () tell the
    places of a layer's feature vectors that show it; latents stay within ±`limit`.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor
    gate: Tensor
    threshold: Tensor
    limit: float

    def patch(self, strength: float = 1.0) -> Patch:
        """The edit, with the latent moved `strength` times as far."""
        module = Patch(self.weight.shape[1], len(self.gate), len(self.weight))
        for name in ("weight", "bias", "step", "gate", "threshold"):
            getattr(module, name).copy_(getattr(self, name))
        module.step.mul_(strength)
        module.limit.fill_(self.limit)
        return module


def fit_erase(positive: Tensor, negative: Tensor, boundary: float = 0.5) -> Direction:
    """Fit a direction to feature vectors (P, C) with the concept and (Q, C) without it.

    Linear discriminant w = Σ⁻¹(μ₁ - μ₀); Σ the within-class covariance, shrunk by 5 % to a multiple of the identity.
    """
    if len(positive) < 2 or len(negative) < 2:
        raise ProbeError(
            f"erase: {len(positive)} places with the concept, {len(negative)} without; at least 2 of each are needed"
        )
    mean1, mean0 = positive.mean(0), negative.mean(0)
    centred = torch.cat([positive - mean1, negative - mean0])
    covariance = (centred.T @ centred / len(centred)).cpu().double()  # not every device has double precision
    ridge = covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance), dtype=torch.float64)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * ridge
    shift = mean1 - mean0
    weight = torch.linalg.solve(covariance, shift.cpu().double()).float().to(shift.device)
    return Direction(weight, mean0, shift, boundary)


def fit_patch(
    latents: tuple[Tensor, Tensor], places: tuple[Tensor, Tensor], boundary: float, limit: float
) -> Counterfactual:
    """Fit a counterfactual to latents (P, nz), (Q, nz) and features (R, C), (S, C) with the concept and without.

    A latent moves as `fit_erase` moves a vector, from a quarter of the way between the means on. A place counts when
    its discriminant lies beyond `boundary` between the means (0 the mean without the concept, 1 with it), fully so
    OPENING further. Raises ProbeError as `fit_erase`.
    """
    weight, bias, step = fit_erase(*latents, _MOVES).gate()
    place = fit_erase(*places, boundary)
    scale = OPENING * (place.weight @ place.shift)
    at, threshold, _ = place.gate()
    return Counterfactual(
        weight=weight[None], bias=bias[None], step=step[None], gate=at / scale, threshold=threshold / scale, limit=limit
    )


def leace(positive: Tensor, negative: Tensor, shrinkage: float = 0.0) -> tuple[Tensor, Tensor]:
    """The affine map x -> matrix·x + offset that erases a binary concept from every linear probe: (C, C) and (C,).

    For feature vectors (P, C) with the concept and (Q, C) without it the means afterwards agree, at the least mean
    squared change: x' = x - δ (δᵀ Σ⁺ δ)⁻¹ δᵀ Σ⁺ (x - μ), δ the difference of the means (parallel to Σ_xz), Σ the
    covariance and μ the mean of all vectors together, Σ⁺ the pseudo-inverse; matrix = I minus a matrix of rank one.
    `shrinkage` in [0, 1] draws Σ to a multiple of the identity. Both are made on the CPU, wherever the vectors are.
    Source: Belrose et al. 2023, LEACE, theorem 4.3.

    Raises ProbeError for fewer than 2 vectors of a kind, vectors of unequal length and shrinkage out of range.
    """
    if len(positive) < 2 or len(negative) < 2:
        raise ProbeError(
            f"leace: {len(positive)} vectors with the concept, {len(negative)} without; at least 2 of each are needed"
        )
    if positive.ndim != 2 or positive.shape[1:] != negative.shape[1:]:
        shapes = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ProbeError(f"leace: vectors of shapes {shapes}; expected (P, C) and (Q, C)")
    if not 0 <= shrinkage <= 1:
        raise ProbeError(f"leace: shrinkage {shrinkage:g}: expected 0 to 1")
    every = torch.cat([positive, negative]).detach().cpu().double()
    mean = every.mean(0)
    shift = every[: len(positive)].mean(0) - every[len(positive) :].mean(0)
    centred = every - mean
    covariance = centred.T @ centred / len(every)
    eye = torch.eye(len(mean), dtype=torch.float64)
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean() * eye
    weight = torch.linalg.pinv(covariance, rtol=1e-10, hermitian=True) @ shift
    reach = shift @ weight
    if not reach > 0:  # equal means: no linear probe sees the concept as it is
        return eye.float(), torch.zeros(len(mean))
    away = torch.outer(shift, weight) / reach
    return (eye - away).float(), (away @ mean).float()
