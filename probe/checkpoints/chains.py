"""A state dict as a chain of layers.

    Conventions               what a format leaves unsaid: activations, BatchNorm's eps, ...
    Link, Network             one layer with its weights and what names tell about it; the chain
    read_network(...)         the generator or discriminator that a whole state dict is, or MismatchError

Names only group entries into layers. What a layer is follows from its shapes: the layers of a network must form a
chain, each taking the feature maps the one before gives, from a latent to an image or from an image to one number.
A transposed convolution's weight is (inputs, outputs, k, k), a convolution's (outputs, inputs, k, k). Numbers in names
count the children of an nn.Sequential: what lies between two of them has no weights, an activation for instance.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.models.dcgan import Activation, Kind, Norm

Role = Literal["generator", "discriminator"]

CHANNELS = (1, 3, 4)
SIZES = range(16, 1025)
_LAYER = {"weight", "bias", "weight_orig", "weight_u", "weight_v"}
_TABLE_WORDS = {"emb", "embed", "embedding", "embeddings", "label", "labels", "class", "classes", "cond", "condition"}
_RESIDUAL = re.compile(r"(^|[._])(res|resblocks?|residual\w*|resnet\w*|rrdb\w*|shortcut)[._\d]")


@dataclass(frozen=True)
class Conventions:
    """The facts about a format's networks that no shape shows."""

    eps: float = 1e-5
    bare: Activation = "relu"  # after a generator's projection without BatchNorm
    hidden: Activation = "leaky"  # in the discriminator
    activation: Activation = "relu"  # in the generator
    pooled: bool = False  # the discriminator's linear layer takes each map's sum over positions
    statistics: bool = True  # BatchNorm's running statistics are stored
    settled: bool = False  # the format's own code is known: nothing is to be tried


class MismatchError(Exception):
    """Why a state dict is not a network of some kind, and how many layers in the reason was found."""

    def __init__(self, reason: str, depth: int) -> None:
        super().__init__(reason)
        self.depth = depth


@dataclass
class Link:
    """One layer of a chain: its weights, its norm where it has one, and what the names tell about the places between.

    `between` counts the modules without weights from the layer to its norm, `after` those from there to the next layer;
    None where the names do not tell. `transposed` is None where the shapes fit a convolution as well.
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    spectral: list[Tensor]  # the vectors u and v of spectral normalisation, or none
    inputs: int = 0
    outputs: int = 0
    grid: int = 1
    transposed: bool | None = False
    norm: Norm = "none"
    affine: bool = True
    norm_name: str = ""
    statistics: dict[str, Tensor] = field(default_factory=dict)
    slopes: Tensor | None = None  # of a PReLU
    between: int | None = None
    after: int | None = None

    @property
    def flat(self) -> bool:
        """Whether it is a linear layer."""
        return self.weight.dim() == 2

    @property
    def kernel(self) -> int:
        """The side of its kernel."""
        return self.weight.shape[-1]

    @property
    def counted(self) -> bool:
        """Whether its norm has statistics that training has changed."""
        mean, var = self.statistics.get("running_mean"), self.statistics.get("running_var")
        if self.norm not in ("map", "unit") or mean is None:
            return False
        return bool(mean.any()) or (var is not None and bool((var != 1).any()))

    def plain_weight(self, kind: Kind, place: str) -> Tensor:
        """Its weight, float32, with spectral normalisation divided out: W / (uᵀ W v), W's rows its outputs."""
        weight = self.weight.detach().float()
        if not self.spectral:
            return weight
        u, v = (vector.detach().float().flatten() for vector in self.spectral)
        matrix = weight.transpose(0, 1 if kind == "deconv" else 0).flatten(1)
        if [u.numel(), v.numel()] != list(matrix.shape):
            raise ProbeError(f"{place}: the spectral norm of layer {self.name} is damaged; fetch the file again")
        return weight / (u @ matrix @ v)


@dataclass
class Table:
    """What a conditional generator makes of a class: `values` (classes, numbers), and the module that holds them."""

    name: str
    values: Tensor


@dataclass
class Network:
    """A chain of layers found at a place in a checkpoint; `channels` are its images'."""

    place: str
    role: Role
    conventions: Conventions
    links: list[Link]
    channels: int
    table: Table | None = None
    output: Activation = "tanh"  # of a generator
    leftover: list[str] = field(default_factory=list)  # tensors that no layer takes


@dataclass
class _Parts:
    """The modules of a state dict by kind, in order; norms and slopes with the number of layers before them."""

    links: list[Link] = field(default_factory=list)
    norms: list[tuple[str, int, dict[str, Tensor]]] = field(default_factory=list)
    slopes: list[tuple[str, int, Tensor]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def read_network(place: str, state: dict[str, Tensor], conventions: Conventions) -> Network:
    """The network a whole state dict is, in the order stored or, where that is no chain, in numeric order."""
    mismatches = []
    for keys in (list(state), sorted(state, key=_natural)):
        for chain in (_generator_chain, _discriminator_chain):
            try:
                parts = _parts({key: state[key] for key in keys})
                network = chain(place, conventions, parts)
                _attach(network, parts)
                return network
            except MismatchError as mismatch:
                mismatches.append(mismatch)
    raise max(mismatches, key=lambda mismatch: mismatch.depth)


def _natural(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]


def words(name: str) -> set[str]:
    """The words of a camelCase, dotted or under_scored name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def normed_weight(length: Tensor, direction: Tensor) -> Tensor:
    """The weight of a layer with weight norm: `direction` at `length`, whose sides are 1 where one length is shared."""
    if length.dim() != direction.dim() or any(
        n not in (1, m) for n, m in zip(length.shape, direction.shape, strict=True)
    ):
        raise ValueError(f"weight_g {tuple(length.shape)} does not belong to weight_v {tuple(direction.shape)}")
    shared = [d for d in range(direction.dim()) if length.shape[d] == 1]
    norm: Tensor = torch.linalg.vector_norm(direction, dim=shared, keepdim=True)
    return length * direction / norm


def _parts(state: dict[str, Tensor]) -> _Parts:
    """Group a state dict by module into layers (weights of 2 or 4 dimensions), norms (1), slopes and class tables."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        groups.setdefault(module, {})[leaf] = tensor
    parts = _Parts()
    for name, group in groups.items():
        if {"weight_g", "weight_v"} <= set(group):
            try:
                group["weight"] = normed_weight(group.pop("weight_g"), group.pop("weight_v"))
            except ValueError as error:
                raise MismatchError(f"{name}: {error}", len(parts.links)) from None
        weight = group.get("weight", group.get("weight_orig"))
        square = weight is not None and weight.dim() in (2, 4) and weight.shape[2:3] == weight.shape[3:4]
        if square and weight is not None and weight.numel() and weight.is_floating_point() and set(group) <= _LAYER:
            if weight.dim() == 2 and set(group) == {"weight"} and words(name) & _TABLE_WORDS:
                parts.tables.append(Table(name, weight.detach().float()))
                continue
            spectral = [group[leaf] for leaf in ("weight_u", "weight_v") if leaf in group]
            parts.links.append(Link(name, weight, group.get("bias"), spectral))
        elif "running_mean" in group or (weight is not None and weight.dim() == 1 and "bias" in group):
            parts.norms.append((name, len(parts.links) - 1, group))
        elif weight is not None and weight.dim() == 1 and set(group) == {"weight"} and weight.is_floating_point():
            parts.slopes.append((name, len(parts.links) - 1, weight.detach().float()))
        elif any(tensor.dim() for tensor in group.values()):
            shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in group.items())
            reason = f"{name} ({shapes}) is neither a convolution, a linear layer nor BatchNorm"
            raise MismatchError(reason, len(parts.links))
    return parts


def _broken(link: Link, before: int, depth: int) -> MismatchError:
    shape = tuple(link.weight.shape)
    return MismatchError(f"layer {link.name} {shape} does not take the {before} outputs of the layer before", depth)


def _generator_chain(place: str, conventions: Conventions, parts: _Parts) -> Network:
    """Read layers as a generator, or raise MismatchError."""
    links = parts.links
    if len(links) >= 3 and all(link.flat for link in links):
        raise MismatchError(f"a fully connected network ({len(links)} linear layers), which has no feature maps", 1)
    first = next((i for i, link in enumerate(links) if not link.flat), len(links))
    if len(links) < 3 or any(link.flat for link in links[first:]):
        reason = f"{len(links)} layers, of which a generator needs 3 or more, all but the first convolutional"
        raise MismatchError(reason, 0)
    table = _one_table(parts.tables) or _join_branches(parts)
    links = parts.links
    first = next((i for i, link in enumerate(links) if not link.flat), len(links))
    flat, convolutions = links[:first], links[first:]
    if len(flat) > 1 and flat[1].weight.shape[1] > len(flat[0].weight) and table is None:
        weight, bias = flat[0].weight.detach().float(), flat[0].bias  # of one-hot classes, before it joins the noise
        table = Table(flat[0].name, weight.T if bias is None else weight.T + bias.detach().float())
        flat = flat[1:]
    for depth, link in enumerate(flat):
        link.outputs, link.inputs = link.weight.shape
        if depth and link.inputs != flat[depth - 1].outputs:
            raise _broken(link, flat[depth - 1].outputs, depth)
    mismatches = []
    for transposed in (True, False):
        try:
            maps = convolutions[0].weight.shape[not transposed]
            if flat:
                _fold(flat[-1], maps)
            elif not transposed:
                continue
            channels = _convolutions(convolutions, maps, len(flat), latent=not flat)
            return Network(place, "generator", conventions, [*flat, *convolutions], channels, table)
        except MismatchError as mismatch:
            mismatches.append(mismatch)
    raise max(mismatches, key=lambda mismatch: mismatch.depth)


def _join_branches(parts: _Parts) -> Table | None:
    """Two first layers side by side, of the latent and of a one-hot class, whose maps the third one takes together, as one.

    The one layer takes latent and class; the class's rows of its weight are the smaller branch's. None where there are no two.
    """
    one, two, *rest = parts.links
    shapes = [tuple(link.weight.shape) for link in (one, two)]
    if one.flat or two.flat or shapes[0][2:] != shapes[1][2:] or one.spectral or two.spectral or not rest:
        return None
    (a, maps), (b, more) = shapes[0][:2], shapes[1][:2]
    if rest[0].flat or a == b or maps == b or maps + more not in rest[0].weight.shape[:2]:
        return None
    norms = [[group for _, position, group in parts.norms if position == at] for at in (0, 1)]
    if [len(found) for found in norms] not in ([0, 0], [1, 1]):
        return None
    weight = one.weight.new_zeros(a + b, maps + more, *shapes[0][2:])
    at, behind = (0, a) if a > b else (b, 0)  # the latent's rows stand first, whichever branch is its
    weight[at : at + a, :maps] = one.weight
    weight[behind : behind + b, maps:] = two.weight
    biases = [
        torch.zeros(width) if link.bias is None else link.bias.detach() for link, width in ((one, maps), (two, more))
    ]
    bias = None if one.bias is None and two.bias is None else torch.cat(biases)
    parts.links = [Link(one.name, weight, bias, []), *rest]
    if norms[0]:
        joined = {
            leaf: torch.cat([tensor, norms[1][0][leaf]]) if tensor.dim() else tensor
            for leaf, tensor in norms[0][0].items()
            if leaf in norms[1][0]
        }
        name = next(name for name, position, _ in parts.norms if position == 0)
        parts.norms = [(name, 0, joined), *[row for row in parts.norms if row[1] > 1]]
    parts.norms = [(name, position - (position > 0), group) for name, position, group in parts.norms]
    parts.slopes = [(name, position - (position > 0), slopes) for name, position, slopes in parts.slopes]
    return Table((two if a > b else one).name, torch.eye(min(a, b)))


def _one_table(tables: list[Table]) -> Table | None:
    if len(tables) > 1:
        names = ", ".join(f"{table.name} {tuple(table.values.shape)}" for table in tables)
        raise MismatchError(f"{len(tables)} tables of classes ({names}), and their use is not known", 1)
    return tables[0] if tables else None


def _fold(link: Link, maps: int) -> None:
    """Fold the outputs of a generator's linear layer into a square of feature maps."""
    link.grid, link.outputs = math.isqrt(link.weight.shape[0] // maps), maps
    if link.outputs * link.grid**2 != link.weight.shape[0]:
        raise MismatchError(f"layer {link.name} {tuple(link.weight.shape)} does not fold into {maps} maps", 0)


def _convolutions(links: list[Link], maps: int, before: int, latent: bool) -> int:
    """Chain the convolutions of a generator from a number of maps on; the channels of its images."""
    for depth, link in enumerate(links, before):
        shape = link.weight.shape
        fits = [bool(shape[not transposed] == maps) for transposed in (True, False)]
        if not any(fits):
            raise _broken(link, maps, depth)
        link.transposed = True if latent and depth == 0 else None if all(fits) else fits[0]
        link.inputs, maps = maps, shape[1] if fits[0] else shape[0]
        link.outputs = maps
        if link.transposed is False and link.kernel % 2 == 0:
            reason = f"layer {link.name} {tuple(shape)} is a convolution of even kernel, which no generator here has"
            raise MismatchError(reason, depth)
    if maps not in CHANNELS:
        reason = f"layer {links[-1].name} gives {maps} maps, not an image of 1, 3 or 4 channels"
        raise MismatchError(reason, before + len(links))
    return maps


def _discriminator_chain(place: str, conventions: Conventions, parts: _Parts) -> Network:
    """Read layers as a discriminator, or raise MismatchError; its strides follow once the image size is known."""
    links = parts.links
    flat = next((i for i, link in enumerate(links) if link.flat), len(links))
    if len(links) < 3 or flat < 2 or any(not link.flat for link in links[flat:]):
        reason = f"{len(links)} layers, of which a discriminator needs 3 or more, all but the last convolutional"
        raise MismatchError(reason, 0)
    channels = maps = links[0].weight.shape[1]
    if maps not in CHANNELS:
        raise MismatchError(f"layer {links[0].name} takes {maps} maps, not an image of 1, 3 or 4 channels", 0)
    for depth, link in enumerate(links):
        link.outputs, link.inputs = link.weight.shape[:2]
        if link.inputs % maps if depth == flat else link.inputs != maps:
            raise _broken(link, maps, depth)
        maps = link.outputs
    if flat == len(links) and maps in CHANNELS and _image_to_image(links):
        reason = "a network from images to images (super-resolution, translation), no generator from latents"
        raise MismatchError(reason, len(links) + 1)
    if maps != 1:
        raise MismatchError(f"layer {links[-1].name} gives {maps} numbers for an image, not one", len(links))
    return Network(place, "discriminator", conventions, links, channels, _one_table(parts.tables))


def _image_to_image(links: list[Link]) -> bool:
    odd = all(link.kernel % 2 for link in links)
    return odd and (links[-1].kernel >= 5 or any(_RESIDUAL.search(link.name) for link in links))


# Norms, slopes and the places between ----------------------------------------------------------------------------------


def _attach(network: Network, parts: _Parts) -> None:
    """Give each norm to the layer of its width with the same number in the name, or else to the one before it."""
    offset = len(parts.links) - len(network.links)  # a class table was the first
    for name, position, group in parts.norms:
        before = position - offset
        width = group.get("running_mean", group.get("weight", torch.empty(0))).numel()
        fits = [i for i, link in enumerate(network.links) if link.norm == "none" and width in _widths(link)]
        same = [i for i in fits if _number(name) and _number(name) == _number(network.links[i].name)]
        at = same[0] if same else before if before in fits else fits[0] if len(fits) == 1 else None
        if at is None:
            raise MismatchError(f"norm {name} of width {width} belongs to no layer", before)
        link = network.links[at]
        if network.conventions.statistics and "running_var" not in group:
            if link.flat:
                raise MismatchError(f"norm {name} of a linear layer has no running statistics", len(network.links))
            link.norm, link.norm_name = "instance", name
            link.statistics = {leaf: group[leaf].clone() for leaf in ("weight", "bias")}
            continue
        link.norm, link.norm_name = "unit" if link.flat and width == link.weight.shape[0] else "map", name
        link.affine = "weight" in group or not network.conventions.statistics
        zeros, ones = torch.zeros(width), torch.ones(width)
        defaults = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
        defaults["num_batches_tracked"] = torch.tensor(0)
        kept = {leaf: group.get(leaf, default).clone() for leaf, default in defaults.items()}
        link.statistics = {k: v for k, v in kept.items() if link.affine or k not in ("weight", "bias")}
    _give_slopes(network, parts, offset)
    for link, following in zip(network.links, [*network.links[1:], None], strict=True):
        link.between = _places(link.name, link.norm_name) if link.norm_name else None
        link.after = _places(link.norm_name or link.name, following.name) if following else None


def _give_slopes(network: Network, parts: _Parts, offset: int) -> None:
    """Give each PReLU to the layer before it; a single one with several layers after it is shared by all but the last."""
    links = network.links
    for name, position, slopes in parts.slopes:
        at = position - offset
        numbered = [i for i, link in enumerate(links) if _number(name) and _number(name) == _number(link.name)]
        at = numbered[0] if numbered else at
        targets = links[:-1] if len(parts.slopes) == 1 and not name.rpartition(".")[2].isdigit() else links[at : at + 1]
        for link in targets:
            if slopes.numel() not in (1, link.outputs):
                raise MismatchError(f"{name} has {slopes.numel()} slopes, its layer {link.outputs} maps", len(links))
            link.slopes = slopes
        if not targets:
            raise MismatchError(f"the slopes {name} belong to no layer", 0)


def _places(before: str, after: str) -> int | None:
    """How many modules without weights lie between two of an nn.Sequential, None where they are not of the same one."""
    parents, leaves = zip(*(name.rpartition(".")[::2] for name in (before, after)), strict=True)
    if parents[0] != parents[1] or not all(leaf.isdigit() for leaf in leaves):
        return None
    number = int(leaves[1]) - int(leaves[0]) - 1
    return number if number >= 0 else None


def _widths(link: Link) -> set[int]:
    return {link.outputs, link.weight.shape[0]} if link.flat else {link.outputs}


def _number(name: str) -> str:
    """The module a name is in with the number of its last component: blocks.0.conv1 and blocks.0.bn1 agree."""
    module, _, leaf = name.rpartition(".")
    digits = "" if leaf.isdigit() else "".join(re.findall(r"\d+", leaf))
    return f"{module}.{digits}" if digits else ""
