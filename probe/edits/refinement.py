"""A counterfactual adjusted by gradient: as much of the concept gone as can be, as little else changed as can be.

What is adjusted is how a latent moves. Whatever it moves to, the generator draws the image, so that the descent cannot
paint what a segmenter happens not to call the concept: directions free at a layer painted brown panels over windows. It
needs a segmenter that reads well all the same: `forget` adjusts where the segmenters' IoU is at least READABLE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from probe.edits.directions import Counterfactual
from probe.edits.scoring import Edits, Scorer
from probe.models.dcgan import Patch
from probe.models.hooks import LATENT

READABLE = 0.8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Directions added to the fitted one, and the descent: Adam, cosine decay to zero, batches of the scorer's latents.

    `price` weighs collateral (mean |x - x'| far from the concept, images in [0, 1]) against the share of the concept's
    area that is left, `nearness` how much else the counterfactual changes: mean |x' - x| / mean |x| of the layer's
    features where the gate is shut, so that a patch has the colours of what surrounds it.
    """

    directions: int = 128
    latents: int = 512
    steps: int = 100
    batch: int = 16
    rate: float = 3e-3
    price: float = 3.0
    nearness: float = 0.2


def patch_edits(patch: Patch, layer: str, apart: Callable[[Tensor, Tensor], None] | None = None) -> Edits:
    """Edits that run latents and counterfactuals together up to a layer and join them there; `apart` sees both."""

    def other(z: Tensor) -> Tensor:
        return patch.counterfactual(z.flatten(1)).view(z.shape)

    def join(x: Tensor) -> Tensor:
        own, other = x.chunk(2)
        if apart:
            apart(own, other)
        return patch(own, other)  # type: ignore[no-any-return]

    return {LATENT: other, layer: join}


def _widened(found: Counterfactual, directions: int, seed: int) -> Counterfactual:
    """The same counterfactual with further directions, random and of no step yet."""
    generator = torch.Generator().manual_seed(seed)
    nz = found.weight.shape[1]
    weight = torch.randn(directions, nz, generator=generator) * nz**-0.5
    bias = torch.zeros(directions)
    return replace(
        found,
        weight=torch.cat([found.weight, weight]),
        bias=torch.cat([found.bias, bias]),
        step=torch.cat([found.step, torch.zeros(directions, nz)]),
    )


def _elsewhere(patch: Patch, own: Tensor, other: Tensor) -> Tensor:
    """Mean |x' - x| / mean |x| where the gate is shut, on the CPU as the scorer's numbers."""
    shut = 1 - patch.opened(own)
    return ((shut * (other - own).abs()).float().mean() / own.float().abs().mean()).cpu()


def refine(
    found: Counterfactual,
    scorer: Scorer,
    layer: str,
    settings: Settings,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Counterfactual:
    """A new counterfactual: how latents move adjusted on those of a scorer, by its segmenter (the selector).

    The loss is (Σ soft area after) / (Σ area before) + price · collateral + nearness · (see Settings), over random
    batches of the latents that show the concept: its mean over two halves, which go side by side.
    """
    wide = _widened(found, settings.directions, seed)
    patch = wide.patch().to(scorer.replay.gan.device)
    tensors = [patch.weight, patch.bias, patch.step]
    for tensor in tensors:
        tensor.requires_grad_()

    def gradients(half: tuple[Tensor, int]) -> tuple[Tensor, ...]:
        drift: list[Tensor] = []
        edits = patch_edits(patch, layer, lambda own, other: drift.append(_elsewhere(patch, own, other)))
        area, collateral = scorer.soft_scores(edits, half[0], torch.Generator().manual_seed(half[1]))
        loss = area + settings.price * collateral + settings.nearness * drift.pop()
        return torch.autograd.grad(loss, tensors)

    generator = torch.Generator().manual_seed(seed)
    shown = torch.from_numpy(np.flatnonzero(scorer.has))
    first, second = ([torch.zeros_like(t) for t in tensors] for _ in range(2))  # Adam's moments
    steps = [torch.tensor(0.0) for _ in tensors]
    with scorer.workers() as run:
        for done in range(settings.steps):
            rows = shown[torch.randperm(len(shown), generator=generator)[: settings.batch]]
            seeds = torch.randint(2**31, (2,), generator=generator).tolist()
            halves = run(gradients, zip(rows.chunk(2), seeds, strict=False))
            slopes = [torch.stack(both).mean(0) for both in zip(*halves, strict=True)]
            rate = settings.rate * (1 + math.cos(math.pi * done / settings.steps)) / 2
            with torch.no_grad():
                # the class torch.optim.Adam imports torch's compiler when made, which takes a second
                adam(
                    tensors,
                    slopes,
                    first,
                    second,
                    [],
                    steps,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=rate,
                    weight_decay=0.0,
                    eps=1e-8,
                    maximize=False,
                )
            if report:
                report(done + 1, settings.steps)
    weight, bias, step = (t.detach().cpu() for t in tensors)
    return replace(wide, weight=weight, bias=bias, step=step)
