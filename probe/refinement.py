"""One-sided erasure adjusted by gradient: as much of the concept gone as can be, as little else changed as can be.

Settings       every constant
refine(...)    Gates at several layers -> better ones, on the labelled images and by the chooser's word alone

Only for readers that read well: a weak one (IoU 0.56, of glasses on faces) let the descent paint orange over the eyes,
which neither chooser nor judge calls glasses. `forget` adjusts where the readers' IoU is at least READABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.dcgan import Erase
from probe.directions import Gates
from probe.trials import Bench

READABLE = 0.8


@dataclass(frozen=True)
class Settings:
    """Directions a layer, where they begin (see `directions.fit_gates`), and the descent: Adam, cosine decay to zero.

    `price` weighs collateral (mean |x - x'| far from the concept, images in [0, 1]) against the share of the concept's
    area that is left; `rate` is relative to the mean size of what is adjusted.
    """

    kinds: int = 4
    boundary: float = 0.25
    strength: float = 1.5
    steps: int = 80
    batch: int = 16
    rate: float = 0.1
    price: float = 5.0


class _Trainable(Erase):
    """An eraser whose buffers take gradients, in float32."""

    def __init__(self, gates: Gates) -> None:
        super().__init__(gates.weight.shape[1], len(gates.weight))
        for name in ("weight", "bias", "step"):
            setattr(self, name, getattr(gates, name).clone().requires_grad_())

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def refine(
    gates: Mapping[str, Gates], bench: Bench, settings: Settings, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> dict[str, Gates]:  # fmt: skip
    """Adjust the gates of all layers together on the images of a bench, by its reader (the chooser); returns new ones.

    The loss is (Σ soft area after) / (Σ area before) + price · collateral, over random batches of the bench's latents,
    those without the concept included: there everything counts as collateral.
    """
    modules = {name: _Trainable(g).to(bench.gan.device) for name, g in gates.items()}
    tensors = [t for m in modules.values() for t in (m.weight, m.bias, m.step)]
    groups = [{"params": [t], "lr": settings.rate * float(t.detach().abs().mean())} for t in tensors]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(settings.steps):
        rows = torch.randperm(len(bench.z), generator=generator)[: settings.batch]
        area, collateral = bench.soft_scores(modules, rows, generator)
        gradients = torch.autograd.grad(area + settings.price * collateral, tensors)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient
        optimiser.step()
        schedule.step()
        if report:
            report(step + 1, settings.steps)
    return {name: Gates(*(t.detach().cpu() for t in (m.weight, m.bias, m.step))) for name, m in modules.items()}
