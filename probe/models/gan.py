"""A GAN as probe sees it: two networks, the prior its latents come from, and how BatchNorm is to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from probe.base.errors import ProbeError

Prior = Literal["uniform", "normal"]
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def to_unit(x: Tensor) -> Tensor:
    """Images in [-1, 1] -> [0, 1]."""
    unit: Tensor = (x * 0.5 + 0.5).clamp(0, 1)
    return unit


def to_bytes(x: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8 in 0 … 255."""
    return (255 * to_unit(x.float())).add(0.5).to(torch.uint8)


def from_bytes(x: Tensor) -> Tensor:
    """uint8 images in 0 … 255 -> float32 in [-1, 1]."""
    return x.float() / 127.5 - 1


def latents(n: int, nz: int, seed: int, prior: Prior) -> Tensor:
    """Draw latents (n, nz) float32 from U(-1, 1) or N(0, 1).

    Normal variates are quantiles of uniform ones, so that the first rows of a seed do not depend on `n`
    (torch's own normal generator works in blocks and does not promise that).
    """
    uniform = torch.rand(n, nz, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if prior == "uniform":
        return (uniform * 2 - 1).float()
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-15, 1 - 1e-15)).float()
    return normal


def support(prior: Prior) -> float:
    """Half the width of the range of the prior's numbers: 1 for U(-1, 1), 5 (standard deviations) for N(0, 1)."""
    return 1.0 if prior == "uniform" else 5.0


class NoGenerator(nn.Module):
    """What stands for the generator of a discriminator that was opened alone: whoever draws with it is told so."""

    def forward(self, z: Tensor) -> Tensor:
        raise ProbeError("a discriminator was opened alone; this needs its generator, too: pass its file as `path`")


@dataclass(repr=False)
class GAN:
    """A trained DCGAN.

    `generator` maps latents (N, nz) to images (N, channels, size, size) in [-1, 1]; `discriminator`, where there is
    one, maps images to logits (N,). Both are in eval mode. `batchnorm` names for each network where its statistics
    come from: `running` (stored in the checkpoint), `recalibrated` (estimated from the prior) or `batch` (of the
    batch at hand). `provenance` is text about the checkpoint that results carry along.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    nz: int
    size: int
    channels: int
    prior: Prior = "normal"
    batchnorm: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    by_class: Callable[[int], nn.Module] | None = None  # of a conditional generator: its network at a class

    def at_class(self, label: int) -> GAN:
        """A conditional generator, opened at one class, at another; raises ProbeError where there is none."""
        if self.by_class is None:
            raise ProbeError(f"class {label} of a generator without classes; leave `label` out")
        generator, policy = self.by_class(label).to(self.device), self.batchnorm.get("generator")
        if policy == "batch":
            use_batch_statistics(generator)
        elif policy == "recalibrated":
            recalibrate(generator, self.nz, self.prior)
        told = {"class": self.provenance["class"] | {"label": label}}
        return replace(self, generator=generator, provenance=self.provenance | told)

    def __repr__(self) -> str:
        counts = [sum(p.numel() for p in n.parameters()) for n in (self.generator, self.discriminator) if n is not None]
        d = "none" if self.discriminator is None else f"{counts[-1]:,} parameters"
        return (
            f"<probe.GAN {self.provenance.get('checkpoint', '')}: {self.nz} {self.prior} latents -> "
            f"{self.channels}x{self.size}x{self.size}>\n"
            f"generator: {counts[0]:,} parameters, discriminator: {d}\n"
            f"batchnorm: {', '.join(f'{k} {v}' for k, v in self.batchnorm.items()) or 'none'}, on {self.device}"
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        networks = [network for network in (self.generator, self.discriminator) if network is not None]
        return next((p for network in networks for p in network.parameters()), torch.empty(0)).device

    def to(self, device: str | torch.device) -> GAN:
        """Move both networks; returns self."""
        self.generator.to(device)
        if self.discriminator is not None:
            self.discriminator.to(device)
        return self

    def latents(self, n: int, seed: int = 0) -> Tensor:
        """The first n latents (n, nz) of a seed, on the CPU."""
        return latents(n, self.nz, seed, self.prior)

    def batches(self, z: Any, size: int = 64) -> Iterator[Tensor]:
        """Images of latents (N, nz), a batch at a time, on the generator's device; no gradient.

        Latents may be a tensor or an array of any float type. Raises ProbeError for anything else.
        """
        for part in self._latents(z).split(size):
            with torch.no_grad():
                yield self.generator(part.to(self.device))

    def _latents(self, z: Any) -> Tensor:
        """Latents (N, nz) of any float type, as a tensor or an array, as float32; raises ProbeError for anything else."""
        wanted = f"expected a tensor or an array of floats (N, {self.nz}), as `latents` gives"
        try:
            rows: Tensor = z if isinstance(z, Tensor) else torch.from_numpy(np.array(z))
        except (TypeError, ValueError) as error:
            raise ProbeError(f"latents of type {type(z).__name__}; {wanted}") from error
        if not rows.is_floating_point() or rows.dim() != 2 or rows.shape[1] != self.nz:
            raise ProbeError(f"latents are {rows.dtype} {tuple(rows.shape)}; {wanted}")
        return rows.float()

    def images(self, z: Any) -> Tensor:
        """Images (N, channels, size, size) in [-1, 1] of latents (N, nz) of any float type, on the CPU.

        Raises ProbeError for what are no latents.
        """
        return torch.cat([batch.cpu() for batch in self.batches(z)])

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Images (n, channels, size, size) in [-1, 1] of the first n latents of a seed."""
        return self.images(self.latents(n, seed))

    def require_discriminator(self) -> nn.Module:
        """The discriminator; raises ProbeError where the checkpoint has none."""
        if self.discriminator is None:
            raise ProbeError(
                "the checkpoint holds a generator only; a discriminator is needed: pass its file as `disc`"
            )
        return self.discriminator


def lay_out(model: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Put a model's kernels in a memory format (`torch.channels_last` is the fast one here), in place."""
    model.to(memory_format=memory_format)  # type: ignore[call-overload]
    return model


def best_precision(device: str | torch.device) -> str:
    """`bfloat16` where the hardware multiplies it (on a CPU: AMX or AVX-512 BF16), else `float32`, faster there."""
    kind = torch.device(device).type
    if kind == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"
    known = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    has_units = any(getattr(torch.cpu, name, lambda: False)() for name in known)
    return "bfloat16" if kind == "cpu" and has_units and torch.backends.mkldnn.is_available() else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """A context in which products are of a precision, `bfloat16` or `float32`; the weights stay as they are."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def estimate_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate a network's BatchNorm statistics, as the mean over batches of its input, in place; left in eval mode."""
    norms = [m for m in model.modules() if isinstance(m, _BATCH_NORMS)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        if m.running_mean is None:  # one that took the statistics of the batch at hand
            m.track_running_stats = True
            m.running_mean, m.running_var = torch.zeros_like(m.weight.data), torch.ones_like(m.weight.data)
            m.num_batches_tracked = torch.tensor(0, device=m.weight.device)
        m.reset_running_stats()
        m.momentum = None  # a cumulative average
    try:
        for m in norms:
            m.train()
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        model.eval()


def recalibrate(generator: nn.Module, nz: int, prior: Prior, n: int = 2048, seed: int = 0) -> None:
    """Estimate a generator's BatchNorm statistics from n latents of the prior, in place; it is left in eval mode."""
    device = next(generator.parameters()).device
    estimate_statistics(generator, (z.to(device) for z in latents(n, nz, seed, prior).split(256)))


def takes_batch_statistics(model: nn.Module) -> bool:
    """Whether a BatchNorm takes the batch's own statistics in eval mode, so that images depend on each other."""
    return any(isinstance(m, _BATCH_NORMS) and m.running_mean is None for m in model.modules())


def use_batch_statistics(model: nn.Module) -> None:
    """Make BatchNorm use the statistics of the batch at hand, in eval mode too; in place."""
    for m in model.modules():
        if isinstance(m, _BATCH_NORMS):
            m.track_running_stats = False
            m.running_mean = m.running_var = None
            m.num_batches_tracked = None
