"""Any other network: an nn.Module that a user's function returns, opened as `--model` or `--disc-model` pkg.module:factory.

build(spec, tree)                the generator with a checkpoint's weights in it, its latent size and what images it makes
discriminator(spec, tree, ...)   the discriminator, likewise, and the shape of the images that it takes
call(spec, ...)                  the module that a factory returns
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.base.plugins import made
from probe.checkpoints.chains import words
from probe.checkpoints.formats import named_role, plain, state_dicts
from probe.models.gan import Prior, latents

_NZ = ("nz", "latent_dim", "z_dim")


class Flat(nn.Module):
    """A generator that takes (N, nz, 1, 1), made to take (N, nz)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, nz) -> images."""
        images: Tensor = self.module(z.flatten(1)[:, :, None, None])
        return images


class Rescaled(nn.Module):
    """A generator whose images are times `scale` and moved by `shift`, so that they lie in [-1, 1]."""

    def __init__(self, module: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.module, self.scale, self.shift = module, scale, shift

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, nz) -> images in [-1, 1]."""
        images: Tensor = self.module(z)
        return images.float() * self.scale + self.shift


def build(spec: str, tree: Any, prior: Prior) -> tuple[nn.Module, int, torch.Size, list[str]]:
    """A factory's generator, as `opened` has it."""
    module = call(spec).cpu()  # wherever the factory put it, it is tried here and moved later
    if tree is not None:
        _fill(module, tree, spec)
    return opened(module, spec, prior)


def opened(module: nn.Module, spec: str, prior: Prior) -> tuple[nn.Module, int, torch.Size, list[str]]:
    """A generator in eval mode, its latent size, the shape (2, channels, size, size) of two images, and what was assumed.

    Images in [0, 1] or 0 … 255 are brought to [-1, 1]. Raises ProbeError for what makes no images, and for a module that
    draws another picture of the same latents each time.
    """
    module.eval()
    nz = _latent_size(module, spec)
    z, reasons = latents(2, nz, 0, prior), []
    for generator in (module, Flat(module).eval()):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                images = generator(z)
        except Exception as error:  # somebody else's code may raise anything
            reasons.append((str(error) or type(error).__name__).splitlines()[0][:120])
            continue
        shape = _checked(images, spec)
        ranged, notes = _ranged(generator, nz, spec, prior)
        return ranged, nz, shape, notes
    found = f"takes neither (N, {nz}) ({reasons[0]}) nor (N, {nz}, 1, 1) ({reasons[1]})"
    raise ProbeError(f"{spec}: the module {found}; return one that takes the latent alone and has its size as `nz`")


class Logits(nn.Module):
    """A discriminator that gives (N, 1) or (N, 1, 1, 1) numbers, made to give (N,)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, channels, size, size) -> numbers (N,)."""
        found: Tensor = self.module(images)
        return found.reshape(len(images))


def discriminator(spec: str, tree: Any, shapes: Sequence[tuple[int, int]]) -> tuple[nn.Module, int, int]:
    """A factory's discriminator, as `judging` has it."""
    module = call(spec, "disc_model").cpu()
    if tree is not None:
        _fill(module, tree, spec, "disc_model")
    return judging(module, f"`disc_model` {spec}", shapes)


def judging(module: nn.Module, spec: str, shapes: Sequence[tuple[int, int]]) -> tuple[nn.Module, int, int]:
    """A discriminator in eval mode, and the first (channels, size) among `shapes` of images that it takes."""
    model, reasons = Logits(module).eval(), []
    for channels, size in shapes:
        images = torch.zeros(2, channels, size, size)
        try:
            with torch.no_grad():
                found = model(images)
        except Exception as error:  # somebody else's code may raise anything
            reasons.append((str(error) or type(error).__name__).splitlines()[0][:120])
            continue
        if isinstance(found, Tensor) and found.isfinite().all():
            return model, channels, size
        reasons.append("it gives NaN or infinite numbers")
    tried = ", ".join(f"{size} px of {channels} channels" for channels, size in shapes[:3])
    raise ProbeError(
        f"{spec}: does not take images of {tried} ({reasons[0]}); return a module that gives one number an image"
    )


def _ranged(generator: nn.Module, nz: int, spec: str, prior: Prior) -> tuple[nn.Module, list[str]]:
    """A generator whose images lie in [-1, 1], made so where they lie elsewhere, and what was assumed of them."""
    z = latents(64, nz, 2, prior)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        drawn, again = generator(z).float(), generator(z).float()
    low, high = drawn.min().item(), drawn.max().item()
    if not torch.allclose(drawn, again, rtol=0, atol=1e-3 * max(high - low, 1e-6)):
        raise ProbeError(
            f"{spec}: the module draws another picture of the same latents each time; expected the same one: return a "
            "module without noise of its own, or with that noise fixed"
        )
    if low >= 0 and high > 2:
        if high > 255.5:
            raise ProbeError(f"{spec}: the module's pixels go up to {high:.4g}; expected [-1, 1], [0, 1] or 0 … 255")
        words, scale = "0 … 255", 1 / 127.5
    elif low >= 0 and 0.5 < high <= 1 + 1e-3:
        words, scale = "[0, 1]", 2.0
    elif max(-low, high) > 1.5:
        return generator, [
            f"its images go from {low:.3g} to {high:.3g}; what lies beyond [-1, 1] is drawn black or white"
        ]
    else:
        return generator, []
    found = f"its images lie in {words} (from {low:.3g} to {high:.4g} in 64 samples); they are brought to [-1, 1]"
    return Rescaled(generator, scale, -1.0).eval(), [found]


def _checked(images: Any, spec: str) -> torch.Size:
    advice = "expected images (N, channels, size, size) in [-1, 1]; return a module that makes them"
    if not isinstance(images, Tensor):
        raise ProbeError(f"{spec}: the module returns a {type(images).__name__}; {advice}")
    if images.dim() != 4 or images.shape[2] != images.shape[3] or len(images) != 2:
        raise ProbeError(f"{spec}: the module makes {tuple(images.shape)} of 2 latents; {advice}")
    if not images.isfinite().all():
        raise ProbeError(f"{spec}: the module makes NaN or infinite pixels; {advice}")
    return images.shape


def call(spec: str, option: str = "model") -> nn.Module:
    """What a factory given as pkg.module:name returns; raises ProbeError naming the option where that is no module."""
    module = made(spec, option)
    if not isinstance(module, nn.Module):
        raise ProbeError(
            f"`{option}` {spec}: the factory returns a {type(module).__name__}; expected a torch.nn.Module"
        )
    return module


def _latent_size(module: nn.Module, spec: str) -> int:
    """The module's own `nz`, `latent_dim` or `z_dim`, or else the inputs of its first layer."""
    for name in _NZ:
        if isinstance(size := getattr(module, name, None), int):
            return size
    for layer in module.modules():
        size = getattr(layer, "in_features", getattr(layer, "in_channels", None))
        if isinstance(size, int):
            return size
    raise ProbeError(f"model {spec}: its latent size is not to be found; give the module an attribute `nz`")


def _fill(module: nn.Module, tree: Any, spec: str, option: str = "model") -> None:
    """Load into a module, strictly, the state dict of a checkpoint whose keys agree best with its own."""
    own = {plain(key): key for key in module.state_dict()}
    best: tuple[tuple[int, bool, bool], dict[str, Tensor]] | None = None
    for place, state in state_dicts(tree, ""):
        for prefix in ("", *dict.fromkeys(key.partition(".")[0] + "." for key in state)):
            part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            name = f"{place}/{prefix}"
            rank = (
                -len(own.keys() ^ part.keys()),
                "ema" in words(name),
                named_role(name) == ("generator" if option == "model" else "discriminator"),
            )
            if best is None or rank > best[0]:
                best = rank, part
    if best is None:
        raise ProbeError(
            f"`{option}` {spec}: the checkpoint holds no state dict; save one with torch.save(model.state_dict(), path)"
        )
    try:
        module.load_state_dict({own.get(key, key): value for key, value in best[1].items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ProbeError(f"`{option}` {spec}: the checkpoint's weights do not fit ({reason})") from None
