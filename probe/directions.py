"""Where a concept lies among a layer's feature vectors, and how to take it away; fitted, not applied (see surgery).

Direction        a discriminant between two sets of vectors, and the one-sided erasure along it
Gates            several one-sided erasures together
fit_erase(...)   a direction from vectors with and without the concept
fit_gates(...)   one direction for each kind of vector with the concept
leace(...)       the matrix and offset that take the concept away from every linear probe
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.dcgan import Erase
from probe.errors import ProbeError

SHRINKAGE = 0.05


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
        across = self.weight @ self.shift
        reach = (1 - self.boundary) * across  # w·(μ₁ - m)
        bias = -(self.weight @ self.mean + self.boundary * across)
        return Gates(self.weight[None], bias[None], self.shift[None] / reach).eraser(strength)


@dataclass(frozen=True)
class Gates:
    """K one-sided erasures at a layer: where w_k·x + b_k > 0 a place moves against v_k. w, v (K, C), b (K,)."""

    weight: Tensor
    bias: Tensor
    step: Tensor

    def eraser(self, strength: float = 1.0) -> Erase:
        """The edit x' = max(0, x - s·Σ_k max(0, w_k·x + b_k)·v_k), s the strength."""
        module = Erase(self.weight.shape[1], len(self.weight))
        module.weight.copy_(self.weight)
        module.bias.copy_(self.bias)
        module.step.copy_(strength * self.step)
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
    centred = torch.cat([positive - mean1, negative - mean0]).double()
    covariance = centred.T @ centred / len(centred)
    ridge = covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance), dtype=torch.float64)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * ridge
    weight = torch.linalg.solve(covariance, (mean1 - mean0).double()).float()
    return Direction(weight, mean0, mean1 - mean0, boundary)


def fit_gates(positive: Tensor, negative: Tensor, kinds: int, boundary: float, strength: float, seed: int = 0) -> Gates:
    """A direction (`fit_erase`) for each of `kinds` clusters (K-means) of the vectors with the concept, at a strength.

    Fewer kinds where there are not 8 vectors for each.
    """
    kinds = max(1, min(kinds, len(positive) // 8))
    kind = np.zeros(len(positive), dtype=int)
    if kinds > 1:
        from sklearn.cluster import KMeans

        kind = KMeans(kinds, n_init=1, random_state=seed).fit_predict(positive.numpy())
    members = [positive[torch.from_numpy(kind == k)] for k in range(kinds)]
    fitted = [fit_erase(m, negative, boundary).eraser(strength) for m in members if len(m) >= 2]
    if not fitted:
        fitted = [fit_erase(positive, negative, boundary).eraser(strength)]
    return Gates(*(torch.cat([getattr(m, name) for m in fitted]) for name in ("weight", "bias", "step")))


def leace(positive: Tensor, negative: Tensor, shrinkage: float = 0.0) -> tuple[Tensor, Tensor]:
    """The affine map x -> matrix·x + offset that erases a binary concept from every linear probe: (C, C) and (C,).

    For feature vectors (P, C) with the concept and (Q, C) without it the means afterwards agree, at the least mean
    squared change: x' = x - δ (δᵀ Σ⁺ δ)⁻¹ δᵀ Σ⁺ (x - μ), δ the difference of the means (parallel to Σ_xz), Σ the
    covariance and μ the mean of all vectors together, Σ⁺ the pseudo-inverse; matrix = I minus a matrix of rank one.
    `shrinkage` in [0, 1] draws Σ to a multiple of the identity. Source: Belrose et al. 2023, LEACE, theorem 4.3.

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
    every = torch.cat([positive, negative]).detach().double().cpu()
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
