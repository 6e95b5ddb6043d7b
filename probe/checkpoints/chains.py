"""A state dict as a chain of layers.

    Conventions               what a format leaves unsaid: activations, BatchNorm's eps, ...
    read_network(...)         the generator or discriminator that a whole state dict is, or MismatchError

Names only group entries into layers. What a layer is follows from its shapes: the layers of a network must form a
chain, each taking the feature maps the one before gives, from a latent to an image or from an image to one number.
A transposed convolution's weight is (inputs, outputs, k, k), a convolution's (outputs, inputs, k, k).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from probe.models.dcgan import Activation, Kind, Norm, kernel_geometry

Role = Literal["generator", "discriminator"]
Geometry = tuple[int, int, int]  # stride, padding, output padding

# Generators of 28 px whose strides the usual rule would get wrong, by their kernels.
GENERATORS_28: dict[tuple[int, ...], list[Geometry]] = {
    (3, 4, 3, 4): [(1, 0, 0), (1, 0, 0), (2, 0, 0), (2, 0, 0)],
    (4, 3, 4, 4): [(1, 0, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0)],
    (4, 4, 4, 4, 1): [(1, 0, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0), (1, 2, 0)],
}
CHANNELS = (1, 3, 4)
SIZES = range(16, 1025)
_LAYER = {"weight", "bias", "weight_orig", "weight_u", "weight_v"}


@dataclass(frozen=True)
class Conventions:
    """The facts about a format's networks that no shape shows."""

    eps: float = 1e-5
    bare: Activation = "relu"  # after a generator's projection without BatchNorm
    hidden: Activation = "leaky"  # in the discriminator
    pooled: bool = False  # the discriminator's linear layer takes each map's sum over positions
    statistics: bool = True  # BatchNorm's running statistics are stored


class MismatchError(Exception):
    """Why a state dict is not a network of some kind, and how many layers in the reason was found."""

    def __init__(self, reason: str, depth: int) -> None:
        super().__init__(reason)
        self.depth = depth


@dataclass
class Link:
    """One layer of a chain: what it is, its weights, and its BatchNorm where it has one."""

    name: str
    weight: Tensor
    bias: Tensor | None
    spectral: list[Tensor]  # the vectors u and v of spectral normalisation, or none
    kind: Kind = "conv"
    inputs: int = 0
    outputs: int = 0
    grid: int = 1
    norm: Norm = "none"
    statistics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kernel(self) -> int:
        """The side of its kernel."""
        return self.weight.shape[-1]


@dataclass
class Network:
    """A chain of layers found at a place in a checkpoint; `size` is a generator's, in pixels."""

    place: str
    role: Role
    conventions: Conventions
    links: list[Link]
    geometry: list[Geometry] = field(default_factory=list)
    size: int = 0
    output: Activation = "tanh"  # of a generator


def read_network(place: str, state: dict[str, Tensor], conventions: Conventions) -> Network:
    """The network a whole state dict is, in the order stored or, where that is no chain, in numeric order."""
    mismatches = []
    for keys in (list(state), sorted(state, key=_natural)):
        for chain in (_generator_chain, _discriminator_chain):
            try:
                links, norms = _layers({key: state[key] for key in keys})
                network = chain(place, conventions, links)
                _attach(network, norms)
                return network
            except MismatchError as mismatch:
                mismatches.append(mismatch)
    raise max(mismatches, key=lambda mismatch: mismatch.depth)


def _natural(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]


_Norms = list[tuple[str, int, dict[str, Tensor]]]  # name, the layer before it, entries


def _layers(state: dict[str, Tensor]) -> tuple[list[Link], _Norms]:
    """Group a state dict by module into layers (weights of 2 or 4 dimensions) and norms (1)."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        groups.setdefault(module, {})[leaf] = tensor
    links: list[Link] = []
    norms: _Norms = []
    for name, group in groups.items():
        weight = group.get("weight", group.get("weight_orig"))
        square = weight is not None and weight.dim() in (2, 4) and weight.shape[2:3] == weight.shape[3:4]
        if square and weight is not None and weight.numel() and weight.is_floating_point() and set(group) <= _LAYER:
            spectral = [group[leaf] for leaf in ("weight_u", "weight_v") if leaf in group]
            links.append(Link(name, weight, group.get("bias"), spectral))
        elif "running_mean" in group or (weight is not None and weight.dim() == 1 and "bias" in group):
            norms.append((name, len(links) - 1, group))
        elif any(tensor.dim() for tensor in group.values()):
            shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in group.items())
            raise MismatchError(f"{name} ({shapes}) is neither a convolution, a linear layer nor BatchNorm", len(links))
    return links, norms


def _take(link: Link, before: int, depth: int, kind: Kind) -> int:
    """Make a link take `before` feature maps as a layer of a kind; the number it gives."""
    shape = link.weight.shape
    link.kind, link.inputs, link.outputs = kind, shape[kind != "deconv"], shape[kind == "deconv"]
    if link.inputs != before:
        raise MismatchError(
            f"layer {link.name} {tuple(shape)} does not take the {before} outputs of the layer before", depth
        )
    return link.outputs


def _generator_chain(place: str, conventions: Conventions, links: list[Link]) -> Network:
    """Read layers as a generator, or raise MismatchError."""
    if len(links) < 3 or any(link.weight.dim() != 4 for link in links[1:]):
        raise MismatchError(
            f"{len(links)} layers, of which a generator needs 3 or more, all but the first convolutional", 0
        )
    first, last = links[0], links[-1]
    if first.weight.dim() == 2:
        first.kind, first.inputs, first.outputs = "linear", first.weight.shape[1], links[1].weight.shape[0]
        first.grid = math.isqrt(first.weight.shape[0] // first.outputs)
        if first.outputs * first.grid**2 != first.weight.shape[0]:
            raise MismatchError(
                f"layer {first.name} {tuple(first.weight.shape)} does not fold into {first.outputs} maps", 0
            )
        maps = first.outputs
    else:
        maps = _take(first, first.weight.shape[0], 0, "deconv")
    for depth, link in enumerate(links[1:], 1):
        convolves = link is last and link.weight.shape[0] != maps
        maps = _take(link, maps, depth, "conv" if convolves else "deconv")
    if maps not in CHANNELS:
        raise MismatchError(f"layer {last.name} gives {maps} maps, not an image of 1, 3 or 4 channels", len(links))
    geometry, size = _generator_geometry(links)
    return Network(place, "generator", conventions, links, geometry, size)


def _generator_geometry(links: list[Link]) -> tuple[list[Geometry], int]:
    """Strides and paddings, and the image size they lead to: every transposed convolution doubles the grid."""
    kernels = tuple(link.kernel for link in links if link.kind != "linear")
    listed = ", ".join(map(str, kernels[:12]))
    strided = [link.kernel for link in links[1:] if link.kind == "deconv"]
    if kernels in GENERATORS_28 and links[0].kind == links[-1].kind == "deconv":
        return GENERATORS_28[kernels], 28
    if len({kernel % 2 for kernel in strided}) > 1 or 1 in strided:
        raise MismatchError(f"kernels {listed} do not tell the strides", len(links))
    geometry = [(1, 0, 0)]
    for link in links[1:]:
        doubling = kernel_geometry(link.kernel)
        keeping = (1, link.kernel // 2, 0)
        geometry.append((2, *doubling) if link.kind == "deconv" else keeping)
    size = (links[0].grid if links[0].kind == "linear" else links[0].kernel) * 2 ** len(strided)
    if size not in SIZES or (links[-1].kind == "conv" and links[-1].kernel % 2 == 0):
        raise MismatchError(f"kernels {listed} lead to an image of {size} px", len(links))
    return geometry, size


def _discriminator_chain(place: str, conventions: Conventions, links: list[Link]) -> Network:
    """Read layers as a discriminator, or raise Mismatch; its strides follow once the image size is known."""
    last = links[-1] if links else None
    if len(links) < 3 or last is None or any(link.weight.dim() != 4 for link in links[:-1]):
        raise MismatchError(
            f"{len(links)} layers, of which a discriminator needs 3 or more, all but the last convolutional", 0
        )
    maps = links[0].weight.shape[1]
    if maps not in CHANNELS:
        raise MismatchError(f"layer {links[0].name} takes {maps} maps, not an image of 1, 3 or 4 channels", 0)
    for depth, link in enumerate(links):
        if link.weight.dim() == 2 and link.weight.shape[1] % maps == 0:
            maps = _take(link, link.weight.shape[1], depth, "linear")
        else:
            maps = _take(link, maps, depth, "conv")
    if maps != 1:
        raise MismatchError(f"layer {last.name} gives {maps} numbers for an image, not one", len(links))
    return Network(place, "discriminator", conventions, links)


def _attach(network: Network, norms: _Norms) -> None:
    """Give each norm to the layer of its width with the same number in the name, or else to the one before it."""
    for name, before, group in norms:
        width = group.get("running_mean", group.get("weight", torch.empty(0))).numel()
        fits = [i for i, link in enumerate(network.links) if not link.statistics and width in _widths(link)]
        same = [i for i in fits if _number(name) and _number(name) == _number(network.links[i].name)]
        at = same[0] if same else before if before in fits else fits[0] if len(fits) == 1 else None
        if at is None:
            raise MismatchError(f"norm {name} of width {width} belongs to no layer", before)
        if network.conventions.statistics and "running_var" not in group:
            reason = "has no running statistics (InstanceNorm or GroupNorm, or BatchNorm without them)"
            raise MismatchError(f"norm {name} {reason}", len(network.links))
        link = network.links[at]
        link.norm = "unit" if link.grid > 1 and width == link.weight.shape[0] else "map"
        ones, zeros = torch.ones(width), torch.zeros(width)
        defaults = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
        defaults["num_batches_tracked"] = torch.tensor(0)
        link.statistics = {leaf: group.get(leaf, default).clone() for leaf, default in defaults.items()}


def _widths(link: Link) -> set[int]:
    return {link.outputs, link.weight.shape[0]} if link.kind == "linear" else {link.outputs}


def _number(name: str) -> str:
    """The module a name is in with the number of its last component: blocks.0.conv1 and blocks.0.bn1 agree."""
    module, _, leaf = name.rpartition(".")
    digits = "" if leaf.isdigit() else "".join(re.findall(r"\d+", leaf))
    return f"{module}.{digits}" if digits else ""
