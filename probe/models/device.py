"""The device that a run uses."""

from __future__ import annotations

from probe.base.errors import ProbeError


def pick_device(name: str) -> str:
    """`auto` is CUDA, else Apple's MPS, else the CPU; raises ProbeError for a device this machine lacks."""
    import torch

    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(d for d in ("cuda", "mps", "cpu") if have[d])
    if name.split(":")[0] not in have:
        raise ProbeError(f"device {name}: expected auto, cpu, cuda or mps")
    try:
        torch.device(name)
    except RuntimeError:
        raise ProbeError(f"device {name}: expected auto, cpu, cuda or mps, or cuda:0 and so on") from None
    if not have[name.split(":")[0]]:
        raise ProbeError(f"device {name}: torch sees none on this machine; use `device` auto")
    return name
