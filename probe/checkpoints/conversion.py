"""A network found in a checkpoint as one of probe's own modules.

generator(network)           a probe Generator
discriminator(network, ...)  a probe Discriminator, its strides worked out from the image size
assemble(...)                a module around given weights
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.chains import Conventions, Geometry, Link, Network
from probe.models.dcgan import Activation, Block, Discriminator, Generator
from probe.models.gan import use_batch_statistics

_Model = TypeVar("_Model", Generator, Discriminator)


def generator(network: Network) -> Generator:
    """A found generator as probe's own module, float32, in eval mode."""
    says, links = _normalised(network), network.links
    blocks = []
    for link, geometry in zip(links, network.geometry, strict=True):
        act: Activation = "relu" if link.norm != "none" or link.kind != "linear" else says.bare
        blocks.append(_block(link, geometry, network.output if link is links[-1] else act, says))
    return assemble(network.place, Generator, blocks, _state(network))


def discriminator(network: Network, size: int) -> Discriminator:
    """A found discriminator as probe's own module, for images of a size; raises ProbeError where it takes others."""
    says, links = _normalised(network), network.links
    geometry = _discriminator_geometry(network, size)
    blocks = []
    for link, shape in zip(links, geometry, strict=True):
        blocks.append(_block(link, shape, "none" if link is links[-1] else says.hidden, says))
    return assemble(network.place, Discriminator, blocks, _state(network))


def _normalised(network: Network) -> Conventions:
    """Divide spectral normalisation out of the weights, W / (uᵀ W v) with W's rows its outputs; the conventions."""
    for link in network.links:
        if not link.spectral:
            continue
        weight, *vectors = (tensor.detach().float() for tensor in (link.weight, *link.spectral))
        matrix = weight.transpose(0, 1 if link.kind == "deconv" else 0).flatten(1)
        if [vector.numel() for vector in vectors] != list(matrix.shape):
            raise ProbeError(
                f"{network.place}: the spectral norm of layer {link.name} is damaged; fetch the file again"
            )
        link.weight, link.spectral = weight / (vectors[0].flatten() @ matrix @ vectors[1].flatten()), []
    return network.conventions


def _discriminator_geometry(network: Network, size: int) -> list[Geometry]:
    """The first of the usual rules for strides and paddings that leads from an image of `size` to one number."""
    links = network.links
    halving = [(2, (link.kernel - 1) // 2, 0) for link in links]
    final = [*halving[:-1], (1, 0, 0)]
    pairs = [(1, 1, 0) if link.kernel == 3 else shape for link, shape in zip(links, final, strict=True)]
    unpadded = [(2, 0, 0) for _ in links]
    for rule in (pairs, final, halving, unpadded):
        side = size
        for link, (stride, padding, _) in zip(links, rule, strict=True):
            if link.kind == "linear":
                side = _flatten(network, link, side)
            else:
                side = (side + 2 * padding - link.kernel) // stride + 1 if side + 2 * padding >= link.kernel else 0
        if side == 1:
            return rule
    found = f"no usual strides take this discriminator from the generator's {size} px images to one number"
    raise ProbeError(f"{network.place}: {found}; pass the discriminator that was trained with it")


def _flatten(network: Network, link: Link, side: int) -> int:
    """Whether a linear layer takes maps of this side: 1, or 0. One over sums of maps becomes one over positions."""
    maps = network.links[-2].outputs
    if network.conventions.pooled and link.inputs == maps and side > 0:
        link.weight = link.weight[:, :, None].expand(1, maps, side**2).reshape(1, -1)  # (1, maps·side·side)
        link.inputs = link.weight.shape[1]
    return int(link.inputs == maps * side**2)


def _block(link: Link, geometry: Geometry, activation: Activation, conventions: Conventions) -> Block:
    block = Block(link.kind, link.inputs, link.outputs, bias=link.bias is not None, norm=link.norm, grid=link.grid)
    block = replace(block, activation=activation, eps=conventions.eps)
    if link.kind == "linear":
        return block
    stride, padding, output_padding = geometry
    return replace(block, kernel=link.kernel, stride=stride, padding=padding, output_padding=output_padding)


def _state(network: Network) -> dict[str, Tensor]:
    """The state dict of probe's own module; raises ProbeError where a weight is not finite."""
    state = {}
    for i, link in enumerate(network.links, 1):
        entries = {"weight": link.weight} | ({} if link.bias is None else {"bias": link.bias})
        for leaf, tensor in entries.items():
            state[f"layer{i}.{'project' if link.kind == 'linear' else 'conv'}.{leaf}"] = tensor.detach().float()
        for leaf, tensor in link.statistics.items():
            state[f"layer{i}.norm.{leaf}"] = tensor.detach().float() if tensor.dim() else tensor.detach().long()
        if not all(tensor.isfinite().all() for key, tensor in state.items() if key.startswith(f"layer{i}.")):
            raise ProbeError(
                f"{network.place}: layer {link.name} holds NaN or infinite weights; use an earlier checkpoint"
            )
    return state


def assemble(
    place: str, kind: type[_Model], blocks: Sequence[Block], state: dict[str, Tensor], batch_statistics: bool = False
) -> _Model:
    """A network around given weights, in eval mode, without initialising any (so no random number is drawn)."""
    with torch.device("meta"):
        model = kind(blocks)
    if batch_statistics:
        use_batch_statistics(model)
    try:
        model.load_state_dict({key: tensor.contiguous() for key, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ProbeError(
            f"{place}: the weights do not fit the network ({reason}); fetch or save the checkpoint again"
        ) from None
    return model.eval()
