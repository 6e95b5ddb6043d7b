"""Given images as a generator can draw them: latents recovered by gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.measures.statistics import Array
from probe.models.gan import GAN, from_bytes

Report = Callable[[str, int, int], None]
_STEPS, _STARTS, _RATE = 150, 256, 0.05


def recover(gan: GAN, images: Array, seed: int = 0, report: Report | None = None) -> Tensor:
    """The generator's images (N, C, S, S) in [-1, 1] nearest to given ones (uint8), by gradient on the latents.

    From the nearest of 256 samples, 150 steps of Adam on the squared distance of pixels; latents stay where the prior
    has them: in the cube, or for a normal prior within 1.1 times its radius.
    """
    targets = from_bytes(torch.from_numpy(np.array(images))).to(gan.device)
    z0 = gan.latents(_STARTS, seeds.RECOVERY.of(seed))
    near = torch.cdist(targets.flatten(1).cpu(), gan.images(z0).flatten(1)).argmin(1)
    uniform = gan.prior == "uniform"
    free = (z0[near].clamp(-0.999, 0.999).atanh() if uniform else z0[near]).to(gan.device).requires_grad_()
    optimiser = torch.optim.Adam([free], _RATE)
    for step in range(_STEPS):
        drawn = gan.generator(_inside(free, uniform))
        if not drawn.requires_grad:
            raise ProbeError("the generator passes no gradient to its latent; expected a differentiable module")
        (gradient,) = torch.autograd.grad((drawn - targets).square().sum(), [free])
        free.grad = gradient
        optimiser.step()
        if report:
            report("recovering images", step + 1, _STEPS)
    return gan.images(_inside(free.detach(), uniform).cpu())


def _inside(free: Tensor, uniform: bool) -> Tensor:
    if uniform:
        return free.tanh()
    radius = 1.1 * free.shape[1] ** 0.5
    held: Tensor = free * (radius / free.norm(dim=1, keepdim=True).clamp(min=radius))
    return held
