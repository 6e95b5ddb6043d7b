"""How long a run will take, and in which precision it is faster here: by taking a few steps of it."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from probe.models.gan import best_precision, latents
from probe.training.adversaries import Run, Settings

LEAST = 100
"""Steps of a run that is worth a measurement."""
_STEPS = 2  # after one that does not count


def seconds_a_step(settings: Settings, device: str) -> float:
    """The time of one step of a run on a device, measured on noise; the gradient penalty, which is rare, left out."""
    run = Run(replace(settings, r1=0.0), torch.device(device))
    shape = (settings.batch, settings.channels, settings.size, settings.size)
    real = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    z = latents(settings.batch, settings.nz, 0, settings.prior)
    run.advance(real, z).tolist()  # numbers are there when the device has worked
    began = time.perf_counter()
    for _ in range(_STEPS):
        run.advance(real, z).tolist()
    return (time.perf_counter() - began) / _STEPS


def measured(
    settings: Settings, device: str, done: int = 0, precision: str | None = None
) -> tuple[Settings, float | None]:
    """The settings in the precision in which this device takes a step sooner, and its seconds a step.

    `bfloat16` is tried only where the hardware multiplies it; the two differ by rounding alone. A run that has `done`
    some steps in a `precision` keeps it. Where fewer than `LEAST` steps are left, nothing is measured: seconds None.
    """
    usual = best_precision(device)
    if settings.steps - done < LEAST:
        return replace(settings, precision=precision or usual), None
    tried = [replace(settings, precision=p) for p in ([precision] if precision else sorted({usual, "float32"}))]
    times = [seconds_a_step(s, device) for s in tried]
    return tried[times.index(min(times))], min(times)
