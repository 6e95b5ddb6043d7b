"""A generator and a discriminator in training: what a run is set to, one step of both, the state on disk.

No random state is stored: what a step draws is a function of the run's seed and the step's number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import softplus

from probe.base import files, seeds
from probe.base.errors import ProbeError
from probe.models.dcgan import Discriminator, Generator, discriminator_blocks, generator_blocks, initialise
from probe.models.gan import Prior, autocast, from_bytes, lay_out

SCHEDULE = ("steps", "lr", "noise", "ema", "precision", "decay")
"""What may change where a run is resumed."""
R1_EVERY = 16
"""Steps from one gradient penalty to the next."""
_MOST = {"size": 1024, "nz": 10_000, "width": 10_000, "depth": 32, "batch": 100_000, "steps": 10**9}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A training run. Defaults: Radford et al. 2015, section 4, at 64 px; kernel 4 as in the common ports.

    `ema` is the decay per step of the averaged generator that the checkpoint keeps (0 turns it off), `d_ema` that of an
    averaged discriminator, which the paper does not have. `depth` is the number of D's convolutions a scale (see
    `discriminator_blocks`). `flips` mirrors each real image with probability 1/2.
    `noise` is the standard deviation of Gaussian noise added to whatever D sees, real or not, in units of [-1, 1]: zero
    in the paper; about 0.1 helps where D wins by a texture that G cannot draw (instance noise, Sønderby et al. 2016).
    `r1` is the weight γ of D's gradient penalty on real images, γ/2 E|∇D(x)|² (Mescheder et al. 2018), taken every
    `R1_EVERY` steps with so many times the weight (Karras et al. 2020); zero in the paper. `augment` moves whatever D sees
    by up to an eighth of its side (translation of Zhao et al. 2020), which keeps D from learning images by heart. From the
    share `decay` of the steps on, the learning rate falls to zero in a straight line; 1 leaves it as it is.
    `precision` is `bfloat16` (autocast, weights stay float32) or `float32`.
    """

    size: int = 64
    channels: int = 3
    nz: int = 100
    width: int = 64
    kernel: int = 4
    depth: int = 1
    prior: Prior = "uniform"
    batch: int = 128
    steps: int = 10_000
    lr: float = 2e-4
    beta1: float = 0.5
    ema: float = 0.999
    d_ema: float = 0.0
    flips: bool = False
    noise: float = 0.0
    r1: float = 0.0
    augment: bool = False
    decay: float = 1.0
    holdout: int = 0
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ProbeError(f"{name} {getattr(self, name)}: expected 1 to {most}")
        if self.channels not in (1, 3):
            raise ProbeError(f"channels {self.channels}: expected 1 (grey) or 3 (colour)")
        if self.prior not in get_args(Prior) or self.precision not in ("float32", "bfloat16") or self.seed < 0:
            found = f"prior {self.prior}, precision {self.precision}, seed {self.seed}"
            raise ProbeError(f"{found}: expected uniform or normal, float32 or bfloat16, a seed of at least 0")
        if not 3 <= self.kernel <= 7:
            raise ProbeError(f"kernel {self.kernel}: expected 3 to 7; the paper's code has 5, the ports 4")
        if not 0 <= self.noise <= 1:
            raise ProbeError(f"noise {self.noise}: expected 0 to 1, in units of images in [-1, 1]")
        if not (0 <= self.r1 <= 1000 and 0 <= self.decay <= 1):
            found = f"r1 {self.r1}, decay {self.decay}"
            raise ProbeError(f"{found}: expected a penalty of 0 to 1000, and a share of the steps from 0 to 1")
        if not (0 <= self.ema < 1 and 0 <= self.d_ema < 1 and self.lr > 0 and self.holdout >= 0):
            found = f"ema {self.ema}, d_ema {self.d_ema}, lr {self.lr}, holdout {self.holdout}"
            raise ProbeError(f"{found}: expected decays of at least 0 and below 1, lr > 0, holdout >= 0")


class Run:
    """Networks, their averages and optimisers, and the state that goes to disk."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        s = settings
        self.settings, self.device, self.step = s, device, 0
        self.g = Generator(generator_blocks(s.size, s.channels, s.nz, s.width, s.kernel))
        self.d = Discriminator(discriminator_blocks(s.size, s.channels, s.width, s.kernel, s.depth))
        self.ema, self.d_ema = Generator(self.g.blocks), Discriminator(self.d.blocks)
        initialise(self.g, s.seed)
        initialise(self.d, seeds.TRAIN_DISCRIMINATOR.of(s.seed))
        for net in (self.g, self.d, self.ema, self.d_ema):
            lay_out(net.to(device), torch.channels_last)
        for average, net in ((self.ema, self.g), (self.d_ema, self.d)):
            average.load_state_dict(net.state_dict())
            average.eval()
        self.opt_g, self.opt_d = (
            torch.optim.Adam(net.parameters(), lr=s.lr, betas=(s.beta1, 0.999), fused=device.type != "mps")
            for net in (self.g, self.d)
        )
        self.nets = {"generator": self.g, "discriminator": self.d, "ema": self.ema}
        if s.d_ema:
            self.nets["d_ema"] = self.d_ema

    def _blur(self, shape: torch.Size) -> tuple[Tensor | float, Tensor | float]:
        """This step's instance noise for real images and for samples, a function of (seed, step)."""
        if not self.settings.noise:
            return 0.0, 0.0
        generator = torch.Generator().manual_seed(seeds.TRAIN_NOISE.of(self.settings.seed, self.step))
        a, b = torch.randn(2, *shape, generator=generator).mul_(self.settings.noise).to(self.device)
        return a, b

    def _moved(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What D sees of a step's images: with `augment`, each moved by a step's own shifts, a function of (seed, step)."""
        if not self.settings.augment:
            return real, fake
        generator = torch.Generator().manual_seed(seeds.TRAIN_SHIFTS.of(self.settings.seed, self.step))
        most = self.settings.size // 8
        a, b = torch.randint(-most, most + 1, (2, len(real), 2), generator=generator).to(self.device)
        return moved(real, a), moved(fake, b)

    def _rate(self) -> float:
        """The learning rate of this step."""
        s = self.settings
        left = (s.steps - self.step) / max(s.steps * (1 - s.decay), 1)
        return s.lr * min(1.0, max(left, 0.0)) if s.decay < 1 else s.lr

    def _penalty(self, real: Tensor) -> Tensor:
        """R1 on half of the real images, in float32: its second derivative is too coarse in half precision."""
        real = real[::2].detach().float().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.d(real).sum(), real, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean() * (self.settings.r1 / 2 * R1_EVERY)

    def advance(self, real: Tensor, z: Tensor) -> Tensor:
        """One step of both networks on uint8 images and latents.

        Returns four numbers, detached: the losses of D and G, and D's accuracy on real and on drawn images.
        """
        on_reals, on_fakes = self._blur(real.shape)
        real = (from_bytes(real.to(self.device)) + on_reals).contiguous(memory_format=torch.channels_last)
        z = z.to(self.device)
        rate = self._rate()
        for opt in (self.opt_g, self.opt_d):
            opt.param_groups[0]["lr"] = rate
        with autocast(self.device, self.settings.precision):
            fake = self.g(z) + on_fakes
            real, shown = self._moved(real, fake)
            on_real, on_fake = self.d(real), self.d(shown.detach())
        loss_d = softplus(-on_real.float()).mean() + softplus(on_fake.float()).mean()
        self.opt_d.zero_grad(set_to_none=True)
        loss_d.backward()
        if self.settings.r1 and self.step % R1_EVERY == 0:
            self._penalty(real).backward()
        self.opt_d.step()
        told = torch.stack([loss_d.detach(), (on_real > 0).float().mean(), (on_fake < 0).float().mean()])
        self.d.requires_grad_(False)
        with autocast(self.device, self.settings.precision):
            on_fake = self.d(shown)
        loss_g = softplus(-on_fake.float()).mean()
        self.opt_g.zero_grad(set_to_none=True)
        loss_g.backward()
        self.opt_g.step()
        self.d.requires_grad_(True)
        self.step += 1
        _average(self.ema, self.g, self.settings.ema, self.step)
        if self.settings.d_ema:
            _average(self.d_ema, self.d, self.settings.d_ema, self.step)
        return torch.cat([told[:1], loss_g.detach()[None], told[1:]])

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the state by name; the networks' own memory, so that `restore` can write into it."""
        for name, net in self.nets.items():
            for key, value in net.state_dict().items():
                yield f"{name}.{key}", value
        for name, opt, net in (("opt_g", self.opt_g, self.g), ("opt_d", self.opt_d, self.d)):
            for key, parameter in net.named_parameters():
                for part in ("step", "exp_avg", "exp_avg_sq"):
                    if part not in opt.state[parameter]:
                        zeros = (
                            torch.zeros_like(parameter) if part != "step" else torch.zeros((), device=parameter.device)
                        )
                        opt.state[parameter][part] = zeros.detach()
                    yield f"{name}.{key}.{part}", opt.state[parameter][part]

    def save(self, path: Path, about: dict[str, str]) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.tensors()}
        files.save_tensors(path, tensors, {"step": str(self.step), **about})

    def restore(self, path: Path) -> dict[str, str]:
        """Load a state; returns its metadata."""
        try:
            with safe_open(path, "pt") as file, torch.no_grad():
                about = dict(file.metadata() or {})
                _same_run(json.loads(about["settings"]), asdict(self.settings), path)
                for name, value in self.tensors():
                    value.copy_(file.get_tensor(name))
                self.step = int(about["step"])
                for opt in (self.opt_g, self.opt_d):
                    opt.param_groups[0]["lr"] = self.settings.lr
        except ProbeError:
            raise
        except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
            raise ProbeError(
                f"{path.name}: not a complete training state ({error}); start again without `resume`"
            ) from error
        return about


def moved(images: Tensor, by: Tensor) -> Tensor:
    """Images (N, C, S, S) moved by (N, 2) pixels down and right; what comes in is zero, a middle grey."""
    n, _, height, width = images.shape
    rows = torch.arange(height, device=images.device) - by[:, :1]  # (N, S)
    columns = torch.arange(width, device=images.device) - by[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    at = torch.arange(n, device=images.device)[:, None, None]
    found = images.permute(0, 2, 3, 1)[at, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]
    return (found * inside[..., None]).permute(0, 3, 1, 2)


@torch.no_grad()
def _average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    decay = min(decay, (1 + step) / (10 + step))  # a short memory while the run is young
    both = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    pairs = [(a, b) for a, b in both if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)


def _same_run(stored: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    """Only what SCHEDULE names may change on the way; `history` in the provenance tells when."""
    stored = {**asdict(Settings()), **stored}  # states of earlier versions lack the newer settings
    different = [k for k in asked if k not in SCHEDULE and stored[k] != asked[k]]
    if different:
        found = ", ".join(f"{k} {stored[k]} (asked: {asked[k]})" for k in different)
        raise ProbeError(f"{path.name}: trained with {found}; resume with the same settings or choose another folder")
