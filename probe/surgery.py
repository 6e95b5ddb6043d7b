"""Permanent edits of a generator: a GAN in, a new GAN out; the input is left as it was.

fit_erase(...)   the direction of a concept, from feature vectors with and without it
erase(...)       put one-sided erasures behind layers
ablate(...)      drop feature maps, folded into the weights: the result is an ordinary DCGAN
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probe.dcgan import Erase, Generator, Layer
from probe.errors import ProbeError
from probe.gan import GAN

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
        module = Erase(len(self.weight))
        module.weight.copy_(self.weight)
        module.bias.copy_(-(self.weight @ self.mean + self.boundary * across))
        module.step.copy_(strength * self.shift / reach)
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


def _copy(gan: GAN, what: str) -> tuple[GAN, Generator]:
    if not isinstance(gan.generator, Generator):
        raise ProbeError(
            f"{what}: the generator is a {type(gan.generator).__name__}; only a DCGAN read by probe can be rebuilt"
        )
    generator = copy.deepcopy(gan.generator)
    edits = [*gan.provenance.get("edits", []), what]
    return replace(gan, generator=generator, provenance={**gan.provenance, "edits": edits}), generator


def erase(gan: GAN, directions: Mapping[str, Direction], strength: float) -> GAN:
    """A GAN whose generator erases a concept behind the named layers (`layer2`, …) of a DCGAN."""
    new, generator = _copy(gan, f"erase at {', '.join(directions)}, strength {strength:g}")
    blocks = list(generator.blocks)
    for name, direction in directions.items():
        index = int(name.removeprefix("layer")) - 1
        layer = generator.get_submodule(name)
        if blocks[index].erase:
            raise ProbeError(f"erase: {name} already carries an erasure; one a layer")
        layer.add_module("erase", direction.eraser(strength).to(gan.device))
        blocks[index] = replace(blocks[index], erase=True)
    generator.blocks = tuple(blocks)
    return new


def ablate(gan: GAN, name: str, units: Sequence[int]) -> GAN:
    """A GAN whose generator has the given feature maps of a layer at zero everywhere; folded into the weights."""
    new, generator = _copy(gan, f"ablate {len(units)} maps of {name}")
    layer = generator.get_submodule(name)
    assert isinstance(layer, Layer)
    block = generator.blocks[int(name.removeprefix("layer")) - 1]
    wrong = [u for u in units if not 0 <= u < block.outputs]
    if wrong:
        raise ProbeError(f"ablate: {name} has maps 0 to {block.outputs - 1}; there is no map {wrong[0]}")
    index = torch.tensor(list(units), dtype=torch.long)
    with torch.no_grad():
        if block.norm != "none":
            last, axis = layer.get_submodule("norm"), 0
        else:  # only a transposed convolution has its outputs second
            last, axis = layer[0], int(block.kind == "deconv")
        if block.erase:
            layer.get_submodule("erase").get_buffer("step")[index] = 0
        for key, parameter in last.named_parameters():
            outputs = axis if key == "weight" else 0
            parameter.unflatten(outputs, (block.outputs, -1)).index_fill_(outputs, index, 0)
    return new
