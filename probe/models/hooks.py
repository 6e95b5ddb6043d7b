"""Layers of a network by name or rank; looking at their feature maps, and changing them, for a while.

Ranks count hidden layers (feature maps, not the image) in the order of execution: 1 is the first, -1 the last. Both
contexts restore the model when they end, however they end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.models.dcgan import Discriminator, Generator
from probe.models.gan import GAN

LATENT = "<latent>"
"""The name under which `edit` adds latents to those that a generator takes, for an edit of a layer to join the two.

Where a latent stays as it is, both are the same, and such an edit must leave the image as it is.
"""
Role = Literal["generator", "discriminator"]
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU)


@dataclass(frozen=True)
class Site:
    """A layer's feature maps: `maps` of them, `grid` x `grid` each, after the activation."""

    name: str
    maps: int
    grid: int
    rank: int

    def __str__(self) -> str:
        return f"{self.name} ({self.maps} maps of {self.grid}x{self.grid})"


def sites(gan: GAN, role: Role = "generator") -> list[Site]:
    """A network's hidden layers in the order of execution.

    Of a `Generator` or `Discriminator` all layers but the last; of any other module its activations, or where it has
    none as modules its BatchNorms, that yield maps smaller than the image. Raises ProbeError where there is no
    discriminator.
    """
    model = gan.generator if role == "generator" else gan.require_discriminator()
    found: list[tuple[str, type[nn.Module], torch.Size]] = []
    wanted = {m: name for name, m in model.named_modules() if name and _is_candidate(model, name, m)}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and (own or output.shape[-1] < gan.size):
            found.append((wanted[module], type(module), output.shape))

    own = isinstance(model, Generator | Discriminator)
    takes = (gan.nz,) if role == "generator" else (gan.channels, gan.size, gan.size)
    handles = [m.register_forward_hook(note) for m in wanted]
    try:
        with torch.no_grad():
            model(torch.zeros(2, *takes, device=gan.device))
    finally:
        for handle in handles:
            handle.remove()
    calls = Counter(name for name, _, _ in found)
    if own:
        found = list({f[0]: f for f in found}.values())  # a patched generator runs its first layers twice
    found = [f for f in found if own or calls[f[0]] == 1]  # a module used twice is no one layer
    if any(issubclass(kind, _ACTIVATIONS) for _, kind, _ in found):
        found = [f for f in found if issubclass(f[1], _ACTIVATIONS)]
    return [Site(name, shape[1], shape[2], i + 1) for i, (name, _, shape) in enumerate(found)]


def _is_candidate(model: nn.Module, name: str, module: nn.Module) -> bool:
    if isinstance(model, Generator | Discriminator):
        return name in {f"layer{i}" for i in range(1, len(model.blocks))}
    return isinstance(module, (*_ACTIVATIONS, nn.BatchNorm2d))


def resolve(gan: GAN, layer: str | int, role: Role = "generator") -> Site:
    """The layer of a name, a rank from the first (1 …) or from the last (-1 …), or a grid such as `8x8`."""
    known = sites(gan, role)
    text = str(layer)
    for site in known:
        grid = f"{site.grid}x{site.grid}"
        if text in (site.name, str(site.rank), str(site.rank - len(known) - 1), grid):
            return site
    listing = ", ".join(f"{s.name} = {s.rank} = {s.rank - len(known) - 1} = {s.grid}x{s.grid}" for s in known)
    raise ProbeError(f"layer {text}: the {role} has no such layer; it has {listing or 'none with feature maps'}")


def usual(gan: GAN) -> Site:
    """The layer that a question takes where none is named: the second from the pixels, or the only one."""
    known = sites(gan)
    if not known:
        raise ProbeError("the generator has no layer with feature maps; expected at least one")
    return known[-2:][0]


@contextmanager
def capture(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules at each forward pass; yields name -> the latest output, a clone."""
    modules = {name: _module(model, name) for name in names}
    seen: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_: nn.Module, __: object, output: Tensor) -> None:
            seen[name] = output.detach().clone()  # a later in-place activation would overwrite it

        return record

    handles = [module.register_forward_hook(recorder(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def feature_maps(
    gan: GAN, z: Tensor, names: Sequence[str], images: Callable[[Tensor], None] | None = None
) -> dict[str, Tensor]:
    """Feature maps of the generator's named layers on latents (N, nz), (N, C, H, H) each, on the CPU.

    The images that they became go to `images`, (n, C, S, S) in [-1, 1], a batch at a time. Raises ProbeError for an
    unknown layer.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    with capture(gan.generator, names) as seen:
        for batch in gan.batches(z):
            for name, kept in parts.items():
                kept.append(seen[name].cpu())
            if images is not None:
                images(batch)
    return {name: torch.cat(kept) for name, kept in parts.items()}


@contextmanager
def edit(model: nn.Module, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the outputs of the named modules by a function of themselves while the context lasts.

    What the function under LATENT makes of the latents (N, nz) runs behind them: edited layers see both, 2N rows.
    """
    modules = {name: _module(model, name) for name in edits if name != LATENT}
    handles = [
        module.register_forward_hook(lambda _, __, output, change=edits[name]: change(output))
        for name, module in modules.items()
    ]
    if LATENT in edits:
        handles.append(
            model.register_forward_pre_hook(lambda _, inputs: torch.cat([inputs[0], edits[LATENT](inputs[0])]))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def cover(region: Tensor, grid: int) -> Tensor:
    """The share of each cell of a grid x grid feature map that a region of the image covers, (grid, grid) in [0, 1].

    `region` (S, S) has values in [0, 1] by pixel: 1 inside, 0 outside.
    """
    return F.interpolate(region[None, None].float(), (grid, grid), mode="area")[0, 0]


def within(change: Callable[[Tensor], Tensor], cells: Tensor) -> Callable[[Tensor], Tensor]:
    """An edit of feature maps (N, C, H, W) that holds only in some cells (H, W), by their share in [0, 1].

    Raises ProbeError, when it is used, for maps of another grid.
    """

    def restricted(x: Tensor) -> Tensor:
        if x.shape[-2:] != cells.shape:
            raise ProbeError(
                f"region of {tuple(cells.shape)} cells on feature maps of {tuple(x.shape[-2:])}; use cover()"
            )
        return torch.lerp(x, change(x), cells.to(x))

    return restricted


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = ", ".join(n for n, _ in model.named_children())
        raise ProbeError(f"layer {name}: the model has no such module; at the top it has {names}") from None
