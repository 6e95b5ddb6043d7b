"""Probe's own checkpoint format: one safetensors file with everything needed to open it again.

    save(gan, path)      tensors under `generator.` and `discriminator.`, and a JSON description beside them
    rebuild(...)         the GAN again, its description checked against its tensors

The description holds the lists of blocks, the prior, the BatchNorm policy and the provenance.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

from probe.base import files
from probe.base.errors import ProbeError
from probe.checkpoints import weightfiles
from probe.checkpoints.chains import SIZES
from probe.checkpoints.conversion import assemble
from probe.models.dcgan import Block, Discriminator, Generator
from probe.models.gan import GAN, Prior

SCHEMA = 2
"""2 has layers with more than the paper's: what `Block` holds from `order` on. Files without such layers are of schema 1."""
Shape = tuple[int, ...]
_SUMMARY = ("checkpoint", "sha256", "format", "prior_source")  # provenance written anew at each load
_Model = TypeVar("_Model", Generator, Discriminator)


def save(gan: GAN, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a GAN as one safetensors file, atomically; float16 halves it (kernels only; load gives float32 again).

    Raises ProbeError where a network is not one of probe's own modules, which alone can be described in the file.
    """
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    about: dict[str, Any] = {"schema": 1, "prior": gan.prior, "batchnorm": gan.batchnorm}
    about |= {"nz": gan.nz, "size": gan.size, "channels": gan.channels, "provenance": gan.provenance}
    tensors: dict[str, Tensor] = {}
    for role, network in networks.items():
        if network is None:
            continue
        if not isinstance(network, Generator | Discriminator):
            raise ProbeError(f"{path}: the {role} is a {type(network).__name__}, and only DCGANs can be saved")
        about[role] = [_described(block) for block in network.blocks]
        about["schema"] = SCHEMA if any("order" in block for block in about[role]) else about["schema"]
        for key, tensor in network.state_dict().items():
            half = dtype if dtype and tensor.dim() > 1 else tensor.dtype
            tensors[f"{role}.{key}"] = tensor.detach().cpu().to(half).contiguous().clone()
    bad = next((key for key, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if bad:
        raise ProbeError(f"{path}: {bad} holds NaN or infinite weights; nothing was written")
    files.save_tensors(Path(path), tensors, {"probe": json.dumps(about, sort_keys=True, default=str)})


def _described(block: Block) -> dict[str, Any]:
    """A block's fields; those from `order` on only where one of them is not as usual."""
    everything = asdict(block)
    names = list(everything)
    usual = asdict(Block(block.kind, block.inputs, block.outputs))
    extra = names[names.index("order") :]
    plain = all(everything[name] == usual[name] for name in extra)
    return {name: value for name, value in everything.items() if not (plain and name in extra)}


def rebuild(path: Path, tree: dict[str, Tensor], text: str, prior: Prior | None) -> GAN:
    """Open probe's own format; what the file says about itself is checked against its tensors."""
    try:
        about = json.loads(text)
        if about["schema"] > SCHEMA:
            raise ProbeError(f"{path.name}: written by a newer probe (schema {about['schema']}); upgrade dcgan-probe")
        gan = _assembled(about, tree)
        _check_notes(about["provenance"])
    except ProbeError as error:
        raise error if path.name in str(error) else ProbeError(f"{path.name}: {error}") from None
    except Exception as error:  # a hostile description can make anything of itself
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ProbeError(f"{path.name}: its description is damaged ({reason}); fetch or save it again") from None
    summary = {"checkpoint": path.name, "sha256": weightfiles.sha256([path]), "format": "probe"}
    before = about["provenance"]
    stored = {key: value for key, value in before.items() if key not in _SUMMARY}
    if before.get("format", "probe") != "probe":
        stored["converted_from"] = {key: before[key] for key in _SUMMARY if key in before}
    gan.provenance = {**summary, "prior_source": "given" if prior else "stored", **stored}
    gan.prior = prior or gan.prior
    return gan


def _check_notes(before: dict[str, Any]) -> None:
    """Raise TypeError for notes of where a checkpoint comes from that are not of the kinds that others read."""
    run, edits = before.get("training") or {}, before.get("edits", [])
    if not isinstance(run, dict) or not all(isinstance(run.get(k) or {}, dict) for k in ("split", "settings")):
        raise TypeError("training is no object")
    if not isinstance(edits, list) or not all(isinstance(edit, str) for edit in edits):
        raise TypeError("edits is no list of lines")


def _assembled(about: dict[str, Any], tree: dict[str, Tensor]) -> GAN:
    """The GAN that a description and the tensors beside it make."""
    nz, size, channels, prior = about["nz"], about["size"], about["channels"], about["prior"]
    policy = {str(role): str(kind) for role, kind in about["batchnorm"].items()}
    if size not in SIZES or prior not in get_args(Prior):
        raise ProbeError(f"describes {size} px images and the prior {prior!r}; fetch or save it again")
    images = (2, channels, size, size)
    generator = _network(Generator, "generator", about, tree, (2, nz), images)
    discriminator = None
    if "discriminator" in about:
        discriminator = _network(Discriminator, "discriminator", about, tree, images, (2,))
    return GAN(generator, discriminator, nz, size, channels, prior, policy)


def _network(
    kind: type[_Model], role: str, about: dict[str, Any], tree: dict[str, Tensor], takes: Shape, makes: Shape
) -> _Model:
    """One network, checked to turn a batch of shape `takes` into one of shape `makes`.

    It is run for that, once no layer can have maps larger than the images: a description costs no memory. (Shapes on the
    device `meta` would make torch import its compiler, for a second.)
    """
    blocks = [Block(**block) for block in about[role]]
    pairs = [(a, b) for a, b in pairwise(blocks) if b.kind != "linear"]
    if blocks[0].inputs != takes[1] or any(a.outputs != b.inputs for a, b in pairs):
        raise ProbeError(f"the blocks of its {role} do not follow one another; fetch or save it again")
    side, most = 1 if role == "generator" else about["size"], about["size"]
    most *= 4 if blocks[-1].resize else 1  # maps that are interpolated to the image's side
    for block in blocks:
        widest = max(side * block.upsample + sum(block.pad), block.convolved(side) + sum(block.crop))
        side = block.side(side)
        if side > most or widest > 2 * most:
            side = max(side, widest)
            raise ProbeError(f"its {role} has maps of {side} px, larger than its images; fetch or save it again")
    state = {key.removeprefix(f"{role}."): value for key, value in tree.items() if key.startswith(f"{role}.")}
    if not all(value.isfinite().all() for value in state.values()):
        raise ProbeError(f"its {role} holds NaN or infinite weights; use an earlier checkpoint")
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network = assemble(role, kind, blocks, state, about["batchnorm"].get(role) == "batch")
    with torch.no_grad():
        shape = tuple(network(torch.zeros(takes)).shape)
    if shape != makes:
        raise ProbeError(f"its {role} makes {shape} where {makes} is described; fetch or save it again")
    return network
