"""The training loop: the paper's recipe, resumable to the bit, deterministic from one seed.

    Settings        every constant of a run; the defaults are the paper's
    split(...)      training and held-out images, reserved before training
    train(...)      images -> GAN; writes samples, losses and a complete state as it goes

No random state is ever stored: the batch and the latents of step k are functions of (seed, k), so a run killed at
any moment and resumed from its last state repeats the same steps and, on the same CPU, ends with the same bits.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import softplus

from probe import files
from probe.dcgan import Discriminator, Generator, discriminator_blocks, generator_blocks, initialise
from probe.errors import ProbeError
from probe.exclusion import Exclusion
from probe.gan import GAN, Prior, from_bytes, latents, lay_out, recalibrate, to_bytes

STATE = "state.safetensors"
_COLLAPSE = 0.01  # a discriminator whose mean loss stays below this gives the generator nothing to learn from
_COLLAPSE_STEPS = 200
_SCHEDULE = ("steps", "lr", "noise", "ema", "precision")


@dataclass(frozen=True)
class Settings:
    """A training run. Defaults: Radford et al. 2015, section 4, at 64 px; kernel 4 as in the common ports.

    `ema` is the decay per step of the averaged generator that the checkpoint keeps (0 turns it off), `d_ema` that of an
    averaged discriminator, which the paper does not have. `depth` is the number of D's convolutions a scale (see
    `discriminator_blocks`). `flips` mirrors each real image with probability 1/2.
    `noise` is the standard deviation of Gaussian noise added to whatever D sees, real or not, in units of [-1, 1]: zero
    in the paper; about 0.1 helps where D wins by a texture that G cannot draw (instance noise, Sønderby et al. 2016).
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
    holdout: int = 0
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("size", "nz", "width", "kernel", "depth", "batch", "steps"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.channels not in (1, 3):
            raise ProbeError(f"channels {self.channels}: expected 1 (grey) or 3 (colour)")
        if self.prior not in get_args(Prior) or self.precision not in ("float32", "bfloat16") or self.seed < 0:
            found = f"prior {self.prior}, precision {self.precision}, seed {self.seed}"
            raise ProbeError(f"{found}: expected uniform or normal, float32 or bfloat16, a seed of at least 0")
        if not 3 <= self.kernel <= 7:
            raise ProbeError(f"kernel {self.kernel}: expected 3 to 7; the paper's code has 5, the ports 4")
        if not 0 <= self.noise <= 1:
            raise ProbeError(f"noise {self.noise}: expected 0 to 1, in units of images in [-1, 1]")
        if not (0 <= self.ema < 1 and 0 <= self.d_ema < 1 and self.lr > 0 and self.holdout >= 0):
            found = f"ema {self.ema}, d_ema {self.d_ema}, lr {self.lr}, holdout {self.holdout}"
            raise ProbeError(f"{found}: expected decays of at least 0 and below 1, lr > 0, holdout >= 0")


@dataclass(frozen=True)
class Progress:
    """What the loop tells of itself after a step: losses are means since the last report, `left` is in seconds."""

    step: int
    steps: int
    loss_d: float
    loss_g: float
    left: float
    warning: str = ""


def split(n: int, holdout: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Indices of the training and of the held-out images among n, both sorted; a function of (n, holdout, seed)."""
    if holdout >= n:
        raise ProbeError(f"holdout {holdout}: the source has {n} images; leave some to train on")
    order = np.random.default_rng([seed, n]).permutation(n)
    return np.sort(order[holdout:]), np.sort(order[:holdout])


class _Batches:
    """The batch of step k: epochs are permutations of the training images, a function of (seed, epoch)."""

    def __init__(self, images: np.ndarray[Any, Any], chosen: np.ndarray[Any, Any], settings: Settings) -> None:
        self.images, self.chosen, self.batch, self.seed = images, chosen, settings.batch, settings.seed
        self.flips = settings.flips
        self.orders: dict[int, np.ndarray[Any, Any]] = {}

    def order(self, epoch: int) -> np.ndarray[Any, Any]:
        if epoch not in self.orders:
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1}
            self.orders[epoch] = np.random.default_rng([self.seed, epoch, 1]).permutation(self.chosen)
        return self.orders[epoch]

    def __getitem__(self, step: int) -> Tensor:
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, n = places // len(self.chosen), len(self.chosen)
        picked = np.concatenate([self.order(e)[places[epochs == e] % n] for e in np.unique(epochs)])
        real = self.images[picked]
        if self.flips:
            turned = np.random.default_rng([self.seed, step, 2]).random(self.batch) < 0.5
            real[turned] = real[turned, ..., ::-1]
        return torch.from_numpy(real)


class _Run:
    """Networks, their averages and optimisers, and the state that goes to disk."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        s = settings
        self.settings, self.device, self.step = s, device, 0
        self.g = Generator(generator_blocks(s.size, s.channels, s.nz, s.width, s.kernel))
        self.d = Discriminator(discriminator_blocks(s.size, s.channels, s.width, s.kernel, s.depth))
        self.ema, self.d_ema = Generator(self.g.blocks), Discriminator(self.d.blocks)
        initialise(self.g, s.seed)
        initialise(self.d, s.seed + 1)
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
        generator = torch.Generator().manual_seed((self.settings.seed << 32) + (1 << 31) + self.step)
        a, b = torch.randn(2, *shape, generator=generator).mul_(self.settings.noise).to(self.device)
        return a, b

    def advance(self, real: Tensor, z: Tensor) -> Tensor:
        """One step of both networks on uint8 images and latents; returns the losses (2,), detached."""
        on_reals, on_fakes = self._blur(real.shape)
        real = (from_bytes(real.to(self.device)) + on_reals).contiguous(memory_format=torch.channels_last)
        z = z.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            fake = self.g(z) + on_fakes
            on_real, on_fake = self.d(real), self.d(fake.detach())
        loss_d = softplus(-on_real.float()).mean() + softplus(on_fake.float()).mean()
        self.opt_d.zero_grad(set_to_none=True)
        loss_d.backward()
        self.opt_d.step()
        self.d.requires_grad_(False)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            on_fake = self.d(fake)
        loss_g = softplus(-on_fake.float()).mean()
        self.opt_g.zero_grad(set_to_none=True)
        loss_g.backward()
        self.opt_g.step()
        self.d.requires_grad_(True)
        self.step += 1
        _average(self.ema, self.g, self.settings.ema, self.step)
        if self.settings.d_ema:
            _average(self.d_ema, self.d, self.settings.d_ema, self.step)
        return torch.stack([loss_d.detach(), loss_g.detach()])

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
                f"{path.name}: not a complete training state ({error}); start again without --resume"
            ) from error
        return about


@torch.no_grad()
def _average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    decay = min(decay, (1 + step) / (10 + step))  # a short memory while the run is young
    both = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    pairs = [(a, b) for a, b in both if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)


def _same_run(stored: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    """Only what _SCHEDULE names may change on the way; `history` in the provenance tells when."""
    stored = {**asdict(Settings()), **stored}  # states of earlier versions lack the newer settings
    different = [k for k in asked if k not in _SCHEDULE and stored[k] != asked[k]]
    if different:
        found = ", ".join(f"{k} {stored[k]} (asked: {asked[k]})" for k in different)
        raise ProbeError(f"{path.name}: trained with {found}; resume with the same settings or choose another --out")


def _log(path: Path, rows: list[list[float]]) -> None:
    """Append loss rows to the CSV, after dropping rows a killed run wrote beyond its last state."""
    kept: list[list[str]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in list(csv.reader(file))[1:] if row and int(row[0]) < rows[0][0]]
    with files.writing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss_d", "loss_g"])
        writer.writerows([*kept, *[[int(a), f"{b:.5f}", f"{c:.5f}"] for a, b, c in rows]])


def _draw(run: _Run, folder: Path, z: Tensor) -> None:
    with torch.no_grad():
        x = to_bytes(run.ema(z.to(run.device))).cpu()
    side = math.isqrt(len(x))
    grid = x.unflatten(0, (side, side)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (side·S, side·S, C)
    with files.writing(folder / f"step-{run.step:07d}.png") as temporary:
        Image.fromarray(grid.squeeze(-1).numpy()).save(temporary, "PNG")


def _animate(folder: Path, path: Path) -> None:
    """All drawn steps as one animated GIF."""
    frames = [Image.open(p).convert("RGB") for p in sorted(folder.glob("step-*.png"))]
    if frames:
        with files.writing(path) as temporary:
            frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=120, loop=0)


def _finish(run: _Run, provenance: dict[str, Any]) -> GAN:
    s = run.settings
    generator: nn.Module = run.ema if s.ema else run.g
    discriminator: nn.Module = run.d_ema if s.d_ema else run.d
    recalibrate(generator, s.nz, s.prior)
    discriminator.eval()
    batchnorm = {"generator": "recalibrated", "discriminator": "running"}
    gan = GAN(generator, discriminator, s.nz, s.size, s.channels, s.prior, batchnorm, {"training": provenance})
    for net in (generator, discriminator):
        lay_out(net, torch.contiguous_format)
    return gan


def train(
    images: np.ndarray[Any, Any],
    settings: Settings,
    out: Path,
    *,
    source: str = "",
    exclude: Exclusion | None = None,
    resume: bool = False,
    device: str = "cpu",
    save_every: int = 500,
    report: Callable[[Progress], None] | None = None,
    report_every: int = 20,
) -> GAN:
    """Train a DCGAN on uint8 images (N, C, S, S) and return it, with the averaged generator.

    Writes to `out`: `state.safetensors` (all that a resumed run needs), `losses.csv`, `samples/step-*.png` (the same
    64 latents each time) and `training.gif`. What `exclude` lists is left out before images are held out. Raises
    ProbeError where images and settings or list disagree, where a state cannot be resumed, and on a loss that is not
    finite (the last good state stays on disk).
    """
    s = settings
    if images.shape[1:] != (s.channels, s.size, s.size):
        raise ProbeError(f"images of shape {images.shape[1:]}: expected ({s.channels}, {s.size}, {s.size})")
    if (out / STATE).exists() and not resume:
        raise ProbeError(f"{out}: holds a run already; go on with it by --resume, or choose another --out")
    kept = exclude.kept(len(images), source) if exclude else np.arange(len(images))
    chosen, _ = split(len(kept), s.holdout, s.seed)
    batches = _Batches(images, kept[chosen], s)
    run = _Run(s, torch.device(device))
    (out / "samples").mkdir(parents=True, exist_ok=True)
    history: list[dict[str, Any]] = []
    if resume and (out / STATE).exists():
        stored = run.restore(out / STATE)
        if (stored.get("source"), stored.get("images")) != (source, str(len(images))):
            found = f"{stored.get('images')} images of {stored.get('source')}"
            raise ProbeError(
                f"{out}: trained on {found}, not on {len(images)} of {source}; resume with the same --data"
            )
        if stored.get("exclude", "") != (exclude.sha256 if exclude else ""):
            raise ProbeError(f"{out}: trained with another --exclude list, or none; resume with the same")
        history = json.loads(stored["history"])
    else:
        for stale in (*out.glob("samples/step-*.png"), *out.glob("losses.csv"), *out.glob("training.gif")):
            stale.unlink()
    now = {k: getattr(s, k) for k in _SCHEDULE if k != "steps"}
    if not history or {**history[-1], **now} != history[-1]:
        history.append({"from": run.step, **now})
    about = {
        "settings": json.dumps(asdict(s)),
        "source": source,
        "images": str(len(images)),
        "history": json.dumps(history),
        **({"exclude": exclude.sha256} if exclude else {}),
    }
    fixed = latents(64, s.nz, s.seed + 1_000_003, s.prior)
    drawn = {int(run.step + k) for k in np.geomspace(1, max(s.steps - run.step, 1), 40)}
    losses: list[list[float]] = []
    recent: deque[tuple[float, float]] = deque(maxlen=max(_COLLAPSE_STEPS, report_every))
    told = run.step
    began, first = time.monotonic(), run.step
    while run.step < s.steps:
        z = latents(s.batch, s.nz, (s.seed << 32) + run.step + 1, s.prior)
        loss_d, loss_g = run.advance(batches[run.step], z).tolist()
        if not math.isfinite(loss_d + loss_g):
            raise ProbeError(
                f"step {run.step}: the loss is not a number; lower lr, or resume from the last state in {out.name}"
            )
        losses.append([run.step, loss_d, loss_g])
        recent.append((loss_d, loss_g))
        if run.step in drawn or run.step == s.steps:
            _draw(run, out / "samples", fixed)
        if run.step % save_every == 0 or run.step == s.steps:
            if not all(bool(p.isfinite().all()) for net in (run.g, run.d) for p in net.parameters()):
                raise ProbeError(
                    f"step {run.step}: weights are not finite; lower lr, or resume from the last state in {out.name}"
                )
            _log(out / "losses.csv", losses)
            run.save(out / STATE, about)
            losses = []
        if report and (run.step % report_every == 0 or run.step == s.steps):
            left = (time.monotonic() - began) / (run.step - first) * (s.steps - run.step)
            mean_d, mean_g = np.array(recent)[told - run.step :].mean(0).tolist()
            collapsed = len(recent) >= _COLLAPSE_STEPS and np.mean([d for d, _ in recent]) < _COLLAPSE
            warning = "the discriminator has won: the generator gets no gradient" if collapsed else ""
            report(Progress(run.step, s.steps, mean_d, mean_g, left, warning))
            told = run.step
    _animate(out / "samples", out / "training.gif")
    split_note = {"holdout": s.holdout, "of": len(kept), "rule": "training.split(of, holdout, seed)"}
    if exclude:
        split_note["excluded"] = exclude.note()
    return _finish(
        run, {"settings": asdict(s), "source": source, "steps": run.step, "history": history, "split": split_note}
    )
