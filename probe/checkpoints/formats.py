"""Checkpoint formats, and the networks in a checkpoint.

    FORMATS                   one row a format: how its keys are recognised and what its weights do not say
    find_networks(tree)       the generators and discriminators somewhere in a checkpoint's nested dicts
    theano_state(arrays)      the numbered arrays of the paper's own code as a state dict

Every format is read by the same walk (chains.py); a row only adds what the walk cannot see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.chains import Conventions, MismatchError, Network, Role, read_network, words
from probe.checkpoints.geometry import generator_routes, unreachable


@dataclass(frozen=True)
class Format:
    """One row: a name, a regular expression that one of the format's keys matches, and its conventions."""

    name: str
    key: str
    conventions: Conventions = field(default_factory=Conventions)
    prior: Literal["uniform", "normal"] | None = None  # where the format settles it


FORMATS = (
    Format("newmu/dcgan_code", r"^theano\.", Conventions(eps=1e-8, statistics=False, settled=True), prior="uniform"),
    Format("pytorch_GAN_zoo", r"(^|\.)(formatLayer|decisionLayer)\.weight"),
    Format(
        "StudioGAN",
        r"(^|\.)blocks\.\d+\.\d+\.(de)?conv0\.weight",
        Conventions(eps=1e-4, bare="none", hidden="relu", pooled=True),
    ),
    Format(
        "PyTorch-GAN",
        r"(^|\.)(conv_blocks|adv_layer)\.\d+\.weight",
        Conventions(eps=0.8, bare="none", activation="leaky"),
    ),
    Format("lightning-bolts", r"^(generator\.gen|discriminator\.disc)\.\d+\.0\.weight"),
    Format("pytorch/examples", r"(^|\.)main\.\d+\.weight"),
    Format("Sequential", r""),
)
_ADVICE = "expected a DCGAN generator or discriminator; open any other network with `model` pkg.module:factory"
_AVERAGES = {"ema", "avg", "averaged", "shadow"}
_ROLE_WORDS = {
    "generator": {"g", "gen", "generator"},
    "discriminator": {"d", "dis", "disc", "discrim", "discriminator", "critic"},
}


@dataclass
class Found:
    """A network and the row of FORMATS that its keys matched."""

    network: Network
    format: Format

    @property
    def words(self) -> set[str]:
        """The words of the place where it was found."""
        return words(self.network.place)

    @property
    def averaged(self) -> tuple[bool, bool]:
        """Whether a name says that these are moving averages of the weights: that inside the file, and the file's own."""
        file, _, inside = self.network.place.partition("/")
        return bool(words(inside) & _AVERAGES), bool(words(file) & _AVERAGES)


def named_role(name: str) -> Role | None:
    """The role a name announces, if it announces one."""
    roles: tuple[Role, Role] = ("generator", "discriminator")
    found = [role for role in roles if words(name) & _ROLE_WORDS[role]]
    return found[0] if len(found) == 1 else None


def find_networks(tree: Any, place: str) -> list[Found]:
    """All generators and discriminators in nested dicts; raises ProbeError where there is none.

    What else a checkpoint holds (optimizers, other networks) is passed over, but not a network that is named a
    generator or discriminator and cannot be read.
    """
    found: list[Found] = []
    failures: list[tuple[str, MismatchError]] = []
    for path, state in state_dicts(tree, place):
        modules = {key: value for key, value in state.items() if "." in key and not _optimizer(key.partition(".")[0])}
        try:
            found += _split(path, modules) if modules else []
        except MismatchError as mismatch:
            failures.append((path, mismatch))
    for path, reason in sorted(failures, key=lambda failure: -failure[1].depth):
        if not found or named_role(path.removeprefix(place)):
            raise ProbeError(f"{path}: {reason}; {_ADVICE}")
    if not found:
        raise ProbeError(f"{place}: no weights in it (found {_summary(tree)}); {_ADVICE}")
    config = tree.get("config") if isinstance(tree, Mapping) else None
    settings = config if isinstance(config, Mapping) else getattr(config, "fields", {})
    if settings.get("lossCriterion") == "WGANGP":  # the GAN zoo then leaves out the generator's tanh
        for item in found:
            item.network.output = "none"
    return found


def _summary(tree: Any) -> str:
    if not isinstance(tree, Mapping):
        return f"a {type(tree).__name__}"
    return ", ".join(str(key) for key in list(tree)[:5]) or "an empty dict"


def state_dicts(node: Any, place: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The state dicts in nested dicts and lists, optimizers left out."""
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping) or depth > 4 or "param_groups" in node:
        return
    named = {plain(key): value for key, value in node.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if any(key.endswith(("weight", "weight_orig", "weight_g")) for key in named):
        yield place, named
    for key, value in node.items():
        if not _optimizer(str(key)):
            yield from state_dicts(value, f"{place}/{key}", depth + 1)


def _optimizer(name: str) -> bool:
    return bool(words(name) & {"opt", "optim", "optimizer", "optimizers"})


def plain(key: str) -> str:
    """A key without the wrappers of DataParallel and torch.compile, and with one spelling of spectral and weight norm."""
    key = re.sub(r"parametrizations\.weight\.original$", "weight_orig", key)
    key = re.sub(r"parametrizations\.weight\.0\._([uv])$", r"weight_\1", key)
    key = re.sub(r"parametrizations\.weight\.original([01])$", lambda found: "weight_" + "gv"[int(found[1])], key)
    return ".".join(part for part in key.split(".") if part not in ("module", "_orig_mod"))


_CODERS = ({"encoder", "enc"}, {"decoder", "dec"})


def _split(place: str, state: dict[str, Tensor], depth: int = 0) -> list[Found]:
    """The network a state dict is, or those its first name components stand for."""
    try:
        row = next(row for row in FORMATS if any(re.search(row.key, key) for key in state))
        return [Found(_whole(place, state, row.conventions), row)]
    except MismatchError as mismatch:
        whole = mismatch
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        parts.setdefault(".".join(key.split(".")[: depth + 1]), {})[key] = tensor
    leaves = [words(name.rpartition(".")[2]) for name in parts]
    if all(any(leaf & coder for leaf in leaves) for coder in _CODERS):
        raise MismatchError("an autoencoder (an encoder beside a decoder), whose latents follow no known prior", _SURE)
    found: list[Found] = []
    failures: list[tuple[str, MismatchError]] = []
    read: list[str] = []
    for name, part in parts.items():
        try:
            if depth < 3:
                found += _split(f"{place}/{name}" if len(parts) > 1 else place, part, depth + 1)
                read.append(name)
        except MismatchError as mismatch:
            failures.append((name, mismatch))
    for name, reason in failures:
        if found and named_role(name):
            raise ProbeError(f"{place}/{name}: {reason}; {_ADVICE}")
    if not found:
        raise max([whole, *(reason for _, reason in failures)], key=lambda reason: reason.depth)
    _refuse_halves(parts, read, whole)
    left = [f"{key} {tuple(tensor.shape)}" for name in parts if name not in read for key, tensor in parts[name].items()]
    for item in found:
        item.network.leftover += left
    return found


_SURE = 10**6  # the depth of a reason that is better than any other


def _refuse_halves(parts: Mapping[str, Mapping[str, Tensor]], read: Sequence[str], whole: MismatchError) -> None:
    """Refuse a part of a network that was read by itself, with layers beside it that its forward pass would use."""
    for name in read:
        leaf = name.rpartition(".")[2]
        if named_role(leaf) or words(leaf) & _AVERAGES:
            continue
        for other, part in parts.items():
            heavy = [key for key, tensor in part.items() if tensor.dim() > 1]
            if other not in read and 0 < len(heavy) <= 6 and not named_role(other.rpartition(".")[2]):
                reason = f"{name} alone would be half a network: {heavy[0]} {tuple(part[heavy[0]].shape)} is left over"
                raise MismatchError(f"{reason} ({whole})", _SURE)


def _whole(place: str, state: dict[str, Tensor], conventions: Conventions) -> Network:
    """The network that a whole state dict is; raises MismatchError, also where no strides lead to an image."""
    network = read_network(place, state, conventions)
    if network.role == "generator" and generator_routes(network).best() is None:
        raise MismatchError(unreachable(network), len(network.links))
    return network


def theano_state(arrays: Sequence[Tensor]) -> dict[str, Tensor]:
    """The paper's own arrays, in order: kernels, each followed by BatchNorm's gain and bias where it has them.

    Theano convolves, torch correlates: kernels are turned by 180 degrees. A Theano dot product's matrix is
    (inputs, outputs): it is transposed.
    """
    state: dict[str, Tensor] = {}
    leaves: Iterator[str] = iter(())
    layer = 0
    for array in arrays:
        if array.dim() == 1:
            leaf = next(leaves, None)
            if leaf is None:
                raise ProbeError(f"a vector of {array.numel()} follows no kernel; some of the arrays are missing")
            state[f"theano.{layer}.norm.{leaf}"] = array
        else:
            layer, leaves = layer + 1, iter(("weight", "bias"))
            state[f"theano.{layer}.weight"] = array.flip(2, 3) if array.dim() == 4 else array.T
    return state
