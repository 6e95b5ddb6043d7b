"""One-sided erasure adjusted by gradient: as much of the concept gone as can be, as little else changed as can be.

Settings       every constant
refine(...)    Gates at several layers -> better ones, on the labelled images and by the chooser's word alone

What is adjusted is where and how much to move, not where to: with the steps free, the descent painted brown panels over
windows and orange over eyes, which neither chooser nor judge calls a window or glasses. And only for readers that read
well: with weak ones (IoU 0.56, of glasses on faces) even the gates went astray. `forget` adjusts where the readers' IoU is
at least READABLE.
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
    """An eraser whose gates (w, b) and amounts take gradients, in float32; where to move, v, stays what the labels said.

    Free steps are a way to paint what a reader does not call the concept, whatever it looks like.
    """

    def __init__(self, gates: Gates, device: torch.device) -> None:
        super().__init__(gates.weight.shape[1], len(gates.weight))
        self.weight = gates.weight.to(device, copy=True).requires_grad_()
        self.bias = gates.bias.to(device, copy=True).requires_grad_()
        self.amount = torch.ones(len(gates.bias), 1, device=device).requires_grad_()
        self.away = gates.step.to(device)

    def forward(self, x: Tensor) -> Tensor:
        self.step = self.amount * self.away
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def refine(
    gates: Mapping[str, Gates], bench: Bench, settings: Settings, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> dict[str, Gates]:  # fmt: skip
    """Adjust the gates of all layers together on the images of a bench, by its reader (the chooser); returns new ones.

    The loss is (Σ soft area after) / (Σ area before) + price · collateral, over random batches of the bench's latents,
    those without the concept included: there everything counts as collateral.
    """
    modules = {name: _Trainable(g, bench.gan.device) for name, g in gates.items()}
    tensors = [t for m in modules.values() for t in (m.weight, m.bias, m.amount)]
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
    return {
        name: Gates(*(t.detach().cpu() for t in (m.weight, m.bias, m.amount * m.away))) for name, m in modules.items()
    }
