"""A network that a file describes, as an ordered list of fully known operations, and its conversion to blocks.

    Op                         one operation: kind, name, tensors, settings, and where they are known from
    Described                  the operations of one network, from latents to an image or from an image to a number
    network(...)               operations recognised as a generator or a discriminator, or ProbeError
    generator(described)       probe's own Generator
    discriminator(described)   probe's own Discriminator

A state dict holds weights and leaves strides, slopes and order to be found out (chains, formats). Whole modules, Keras
files, ONNX graphs, TorchScript archives and Torch7 files say all of it: their readers write it down as operations, in
torch's terms (maps before rows and columns, kernels as torch lays them out), and this file makes blocks of them.
Operations that no chain of blocks can hold are refused by name.

| kind | tensors | settings |
|---|---|---|
| linear | weight (out, in), bias | |
| conv | weight (out, in, k, k), bias | stride; before, after: rows of zeros around its input |
| deconv | weight (in, out, k, k), bias | stride; before, after: rows cut from its output (after < 0: rows added) |
| norm | weight, bias, mean, var | which: batch, instance or pixel; eps |
| act | weight (prelu) | which: as in Block; slope (leaky) |
| fold | order (maps·side·side), optional: the place in the file's vector of each number in torch's order | maps, side |
| flatten | order, likewise | |
| upsample | | factor, mode |
| spread | | stride, before, after: zeros put between rows, and around them |
| pad | | before, after: rows of zeros around maps (cut from them where negative) |
| resize | | side |
| average | | |
| pool | | side: of the squares of which the largest number is kept |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.chains import CHANNELS, SIZES, Role
from probe.checkpoints.conversion import assemble
from probe.checkpoints.identify import Distance, balanced, measured, score
from probe.models.dcgan import Activation, Block, Discriminator, Generator
from probe.models.gan import Prior

_ADVICE = "expected a chain of layers as in a DCGAN; open any other network with `model` pkg.module:factory"
_KEEPS_ZERO = ("none", "relu", "leaky", "prelu", "elu", "selu", "gelu", "silu", "tanh")
MAX_MAPS = 2**16  # features of one layer
MAX_SIDE = 2 * SIZES.stop


@dataclass(eq=False)
class Op:
    """One operation, by one of the kinds of the table above; `source` says where its settings are known from."""

    kind: str
    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def what(self) -> str:
        """The operation in a few words."""
        shown = ", ".join(
            f"{key} {value}" for key, value in self.settings.items() if isinstance(value, str | int | float)
        )
        return f"{self.kind} ({shown})" if shown else self.kind


@dataclass
class Condition:
    """What a conditional generator does with a label before its first layer.

    `table` (classes, width) holds a row for each label; it is multiplied with the latent (`multiply`) or stands before or
    behind it in one vector (`before`, `behind`). With `maps before` and `maps behind` it holds feature maps (maps·side·side
    numbers) that stand beside those that the first linear layer is folded into, after so many operations (`at`).
    """

    how: str
    table: Tensor
    name: str = "embedding"
    at: int = 0


@dataclass(eq=False)
class Described:
    """A network as its file describes it. `assumed` lists, in plain sentences, what the file does not say.

    `layers` has a row for each block: what it is, and where that is known from.
    """

    place: str
    role: Role
    ops: list[Op]
    format: str
    size: int = 0  # of a discriminator's images where the file says it
    assumed: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)  # filled in when blocks are made
    condition: Condition | None = None

    @property
    def nz(self) -> int:
        """The latent numbers of a generator, without those of a label."""
        width = _inputs(next(op for op in self.ops if op.kind in _WEIGHTED))
        if self.condition is not None and self.condition.how in ("before", "behind"):
            width -= self.condition.table.shape[1]
        return width

    @property
    def classes(self) -> int:
        """The labels of a conditional generator, 0 for any other."""
        return len(self.condition.table) if self.condition else 0


_WEIGHTED = ("linear", "conv", "deconv")


def _inputs(op: Op) -> int:
    return op.tensors["weight"].shape[op.kind != "deconv"]


def _outputs(op: Op) -> int:
    return op.tensors["weight"].shape[op.kind == "deconv"]


def network(place: str, ops: list[Op], format: str, **facts: Any) -> Described:
    """Operations as a generator (latents to an image) or a discriminator (an image to a number); ProbeError for others."""
    ops = [op for op in ops if op.kind != "act" or op.settings["which"] != "none"]
    layers = [op for op in ops if op.kind in _WEIGHTED]
    if not layers:
        raise ProbeError(f"{place}: no layer with weights in it; {_ADVICE}")
    _check(place, ops)
    first, last = layers[0], layers[-1]
    if len(layers) < 2:
        raise ProbeError(f"{place}: a single layer ({first.name}) is no network; {_ADVICE}")
    if all(op.kind == "linear" for op in layers):
        raise ProbeError(f"{place}: a fully connected network of {len(layers)} linear layers, no DCGAN; {_ADVICE}")
    if first.kind == "conv" and _inputs(first) in CHANNELS:
        numbers = _outputs(last)
        if (numbers in CHANNELS and last.kind == "deconv") or (numbers in (3, 4) and last.kind == "conv"):
            reason = f"takes an image (or noise of its shape) and gives one of {numbers} channels"
            raise ProbeError(f"{place}: {reason}, no DCGAN; {_ADVICE}")
        if numbers != 1:
            raise ProbeError(f"{place}: layer {last.name} gives {numbers} numbers for an image, not one; {_ADVICE}")
        return Described(place, "discriminator", ops, format, **facts)
    if last.kind == "linear" or _outputs(last) not in CHANNELS:
        found = f"layer {last.name} gives {_outputs(last)} {'numbers' if last.kind == 'linear' else 'maps'}"
        raise ProbeError(f"{place}: {found}, not an image of 1, 3 or 4 channels; {_ADVICE}")
    return Described(place, "generator", ops, format, **facts)


def _check(place: str, ops: list[Op]) -> None:
    """Refuse tensors and settings that are not what the table says, whoever wrote them."""
    for op in ops:
        for key, value in op.settings.items():
            if isinstance(value, float) and not abs(value) < 1e6:
                raise ProbeError(f"{place}: layer {op.name} has {key} {value:g}; fetch or save it again")
        bad = next((key for key, tensor in op.tensors.items() if key != "order" and not _sound(tensor)), None)
        if bad:
            raise ProbeError(
                f"{place}: layer {op.name} holds NaN or infinite weights ({bad}); use an earlier checkpoint"
            )
        if op.kind not in _WEIGHTED:
            continue
        weight, bias = op.tensors.get("weight"), op.tensors.get("bias")
        if weight is None or weight.dim() != (2 if op.kind == "linear" else 4) or not weight.numel():
            found = "no weight" if weight is None else f"a weight of shape {tuple(weight.shape)}"
            raise ProbeError(f"{place}: layer {op.name} has {found}, which is no {op.kind}; fetch or save it again")
        if op.kind != "linear" and weight.shape[2] != weight.shape[3]:
            raise ProbeError(f"{place}: layer {op.name} has kernels of {tuple(weight.shape[2:])}; expected squares")
        if bias is not None and tuple(bias.shape) != (_outputs(op),):
            raise ProbeError(
                f"{place}: layer {op.name} has a bias of shape {tuple(bias.shape)} for {_outputs(op)} outputs; "
                "fetch or save it again"
            )
        if max(_inputs(op), weight.shape[-1] if op.kind != "linear" else 1) > MAX_MAPS:
            raise ProbeError(f"{place}: layer {op.name} of shape {tuple(weight.shape)} is too large; {_ADVICE}")


def _sound(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def at_class(described: Described, label: int) -> Described:
    """A conditional generator at one label, as an ordinary one: the label's part goes into the first layer, exactly.

    A transposed convolution over one place becomes the linear layer that it is. Raises ProbeError for a label that is none.
    """
    condition = described.condition
    if condition is None:
        raise ProbeError(f"{described.place}: class {label} of a generator without classes; leave `label` out")
    if not 0 <= label < len(condition.table):
        raise ProbeError(f"{described.place}: class {label}: expected 0 to {len(condition.table) - 1}")
    row = condition.table[label].float()
    if condition.how.startswith("maps"):
        ops = _with_maps(described, row, condition)
        return Described(described.place, "generator", ops, described.format, 0, described.assumed)
    at = next(i for i, op in enumerate(described.ops) if op.kind in _WEIGHTED)
    first, rest = described.ops[at], described.ops[at + 1 :]
    if first.kind == "deconv":
        weight = first.tensors["weight"].float()
        maps, side = weight.shape[1], weight.shape[2]
        if any(first.settings[key] for key in ("before", "after")):
            raise ProbeError(f"{described.place}: layer {first.name} cuts what a label gives; {_ADVICE}")
        tensors = {"weight": weight.reshape(weight.shape[0], -1).T}  # (maps·side·side, in)
        if "bias" in first.tensors:
            tensors["bias"] = first.tensors["bias"].float().repeat_interleave(side * side)
        first = Op("linear", first.name, tensors, source=first.source)
        rest = [Op("fold", first.name, settings={"maps": maps, "side": side}), *rest]
    elif first.kind != "linear":
        raise ProbeError(f"{described.place}: layer {first.name} joins a label to feature maps; {_ADVICE}")
    weight = first.tensors["weight"].float()
    if condition.how == "multiply":
        tensors = first.tensors | {"weight": weight * row}
    else:
        width = len(row)
        labels = weight[:, :width] if condition.how == "before" else weight[:, -width:]
        kept = weight[:, width:] if condition.how == "before" else weight[:, :-width]
        bias = first.tensors.get("bias", torch.zeros(len(weight))).float()
        tensors = {"weight": kept, "bias": bias + labels @ row}
    first = Op("linear", first.name, tensors, first.settings, first.source)
    return Described(described.place, "generator", [first, *rest], described.format, 0, described.assumed)


def _with_maps(described: Described, row: Tensor, condition: Condition) -> list[Op]:
    """The operations of a generator whose first linear layer also gives a label's feature maps, whatever the latent.

    Their numbers are its biases, brought back through the activations behind it; norms leave them as they are.
    """
    head, rest = described.ops[: condition.at], described.ops[condition.at :]
    linear, fold = head[0], next((op for op in head if op.kind == "fold"), None)
    if linear.kind != "linear" or fold is None or any(op.kind not in ("norm", "act", "fold") for op in head[1:]):
        raise ProbeError(
            f"{described.place}: {condition.name} joins maps that are not those of a linear layer; {_ADVICE}"
        )
    maps, side = fold.settings["maps"], fold.settings["side"]
    width, order = maps * side * side, fold.tensors.get("order", torch.arange(maps * side * side))
    more, first = len(row) // (side * side), condition.how == "maps before"
    values = row
    for op in reversed(head):
        if op.kind == "act":
            values = _before(described, op, values)

    def join(own: Tensor, other: Tensor) -> Tensor:
        return torch.cat([other, own] if first else [own, other])

    weight = linear.tensors["weight"].float()[order]
    bias = linear.tensors.get("bias", torch.zeros(width)).float()[order]
    tensors = {"weight": join(weight, weight.new_zeros(len(row), weight.shape[1])), "bias": join(bias, values)}
    ops = [Op("linear", linear.name, tensors, source=linear.source)]
    for op in head[1:]:
        if op.kind == "fold":
            ops.append(Op("fold", op.name, settings={"maps": maps + more, "side": side}, source=op.source))
        elif op.kind == "norm" and op.tensors:
            plain = {"weight": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0 - op.settings["eps"]}
            unit = next(iter(op.tensors.values())).numel() == width
            held = {
                key: join(tensor[order] if unit else tensor, torch.full((len(row) if unit else more,), plain[key]))
                for key, tensor in op.tensors.items()
            }
            ops.append(Op("norm", op.name, held, op.settings, op.source))
        else:
            ops.append(op)
    return [*ops, *rest]


def _before(described: Described, act: Op, values: Tensor) -> Tensor:
    """What an activation turns into some values."""
    which = act.settings["which"]
    if which == "leaky" and act.settings["slope"] > 0:
        return torch.where(values < 0, values / act.settings["slope"], values)
    if which == "tanh" and bool((values.abs() < 1).all()):
        return values.atanh()
    if which == "relu" and bool((values >= 0).all()):
        return values
    raise ProbeError(f"{described.place}: a label's maps beside those of a {which} layer; {_ADVICE}")


# Blocks --------------------------------------------------------------------------------------------------------------


class _Chain:
    """Blocks in the making: what has been read of the current one, and what waits for the next."""

    def __init__(self, place: str, side: int, unit: bool = False) -> None:
        self.place, self.side = place, side  # of the feature maps at hand, 1 for latents
        self.unit = unit  # whether it takes images in [0, 1]
        self.blocks: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []  # what each block is, and from where that is known
        self.state: list[dict[str, Tensor]] = []
        self.sides: list[int] = []  # before each block
        self.order: Tensor | None = None  # of the numbers that the next linear layer takes
        self.averaged = 0  # side of maps that were averaged
        self.clear()

    def clear(self) -> None:
        self.upsample, self.mode, self.before, self.after, self.spread = 1, "nearest", 0, 0, 1

    def refuse(self, op: Op, reason: str) -> ProbeError:
        return ProbeError(f"{self.place}: {op.name}, a {op.what}, {reason}; {_ADVICE}")

    @property
    def waiting(self) -> bool:
        return self.upsample > 1 or self.before != 0 or self.after != 0 or self.spread > 1

    @property
    def maps(self) -> int:
        return int(self.blocks[-1]["outputs"])

    def add(self, op: Op) -> None:
        """Take in an operation."""
        getattr(self, f"_{op.kind}")(op)
        if not 1 <= self.side <= MAX_SIDE:
            raise self.refuse(op, f"leads to maps of {self.side} px")

    def _open(self, op: Op, **fields: Any) -> None:
        if op.kind != "linear":
            self._fold_into(op, _inputs(op))
        if self.blocks and self.maps != _inputs(op) and op.kind != "linear":
            raise self.refuse(op, f"takes {_inputs(op)} maps where the layer before gives {self.maps}")
        keys = {"weight", "bias"} & op.tensors.keys()
        prefix = "project" if op.kind == "linear" else "conv"
        self.state.append({f"{prefix}.{key}": op.tensors[key].detach().float() for key in keys})
        block = {"kind": op.kind, "inputs": _inputs(op), "outputs": _outputs(op), "bias": "bias" in keys}
        self.blocks.append(block | {"norm": "none", "activation": "none"} | fields)
        self.rows.append({"layer": op.name, "geometry_from": op.source or "file"})
        self.sides.append(self.side)

    def _linear(self, op: Op) -> None:
        if self.waiting:
            raise self.refuse(op, "follows maps that were enlarged or padded")
        weight, width = op.tensors["weight"], _inputs(op)
        if self.averaged and self.blocks and width == self.maps:
            area = self.averaged**2
            weight = weight[:, :, None].expand(-1, -1, area).reshape(len(weight), -1) / area
        elif self.blocks and width != self.maps * self.side**2:
            given = f"{self.maps} maps of {self.side} px" if self.side > 1 else f"{self.maps} numbers"
            raise self.refuse(op, f"takes {width} numbers where the layer before gives {given}")
        elif self.order is not None:
            weight = weight[:, self.order]
        self._open(Op("linear", op.name, op.tensors | {"weight": weight}, source=op.source))
        self.order, self.averaged, self.side = None, 0, 1

    def _conv(self, op: Op) -> None:
        kernel, stride = op.tensors["weight"].shape[-1], op.settings["stride"]
        if self.spread > 1 or (not self.blocks and self.side == 1 and self.before == self.after == kernel - 1):
            self._spread_conv(op)
            return
        before, after = op.settings["before"] + self.before, op.settings["after"] + self.after
        if min(before, after) < 0:
            raise self.refuse(op, "follows maps that were cut")
        padding = min(before, after)
        fields = {"kernel": kernel, "stride": stride, "padding": padding, "pad": (before - padding, after - padding)}
        if self.unit and not self.blocks:
            fields["unit_input"] = True
        self._open(op, **fields, upsample=self.upsample, interpolation=self.mode)
        self.clear()
        self._close(op)

    def _spread_conv(self, op: Op) -> None:
        """A convolution over maps with zeros between their rows is a transposed one with its kernel turned."""
        if op.settings["stride"] != 1 or self.upsample > 1:
            raise self.refuse(op, "has a stride over maps with zeros between their rows")
        kernel = op.tensors["weight"].shape[-1]
        cut = [
            kernel - 1 - waiting - op.settings[key] for key, waiting in (("before", self.before), ("after", self.after))
        ]
        weight = op.tensors["weight"].flip(2, 3).transpose(0, 1)
        settings = {"stride": self.spread, "before": cut[0], "after": cut[1]}
        self.clear()
        self._deconv(Op("deconv", op.name, op.tensors | {"weight": weight}, settings, op.source))

    def _deconv(self, op: Op) -> None:
        if self.before or self.after or self.spread > 1:
            raise self.refuse(op, "follows maps that were padded or cut")
        kernel, stride = op.tensors["weight"].shape[-1], op.settings["stride"]
        fields = {"kernel": kernel, "stride": stride} | _cut(op.settings["before"], op.settings["after"], stride)
        if fields.get("output_padding", 0) >= max(stride, 1) or fields["padding"] < 0:
            raise self.refuse(op, "adds more rows than its stride")
        self._open(op, **fields, upsample=self.upsample, interpolation=self.mode)
        self.clear()
        self._close(op)

    def _close(self, op: Op) -> None:
        if self.blocks[-1]["stride"] < 1:
            raise self.refuse(op, "has no stride")
        self.side = Block(**self.blocks[-1]).convolved(self.side)

    def _pointwise(self, op: Op) -> dict[str, Any]:
        """The block that an operation on every number by itself belongs to."""
        if not self.blocks:
            raise self.refuse(op, "stands before the first layer")
        if self.before or self.after or self.spread > 1:
            raise self.refuse(op, "follows maps that were padded or cut")
        if self.averaged or self.order is not None:
            raise self.refuse(op, "stands between maps and a linear layer that takes their numbers")
        return self.blocks[-1]

    def _norm(self, op: Op) -> None:
        block, which = self._pointwise(op), op.settings["which"]
        if self.upsample > 1 and which != "batch" and self.mode == "bilinear":
            raise self.refuse(op, "follows maps that were interpolated")
        if block["norm"] != "none" or "pool" in block:
            self._identity(op)
            block = self.blocks[-1]
        if op.tensors:
            self._fold_into(op, max(tensor.numel() for tensor in op.tensors.values()))
        grid = block.get("grid", 1)
        linear = block["kind"] == "linear" and not block.get("folded")
        width = block["outputs"] * (1 if block.get("folded") else grid**2)
        kind = which if which != "batch" else "unit" if linear else "map"
        self.rows[-1]["norm_from"] = op.source or "file"
        block |= {"norm": kind, "eps": float(op.settings["eps"])}
        block["order"] = "act-norm" if block["activation"] != "none" else "norm-act"
        found = {key: tensor for key, tensor in op.tensors.items() if tensor.numel() != width}
        if found:
            raise self.refuse(op, f"normalises {next(iter(found.values())).numel()} maps where there are {width}")
        if which == "instance" and linear:
            raise self.refuse(op, "normalises single numbers")
        block["affine"] = which == "batch" or "weight" in op.tensors or (which == "instance" and "bias" in op.tensors)
        entries = self.state[-1]
        if block["affine"]:
            entries["norm.weight"] = op.tensors.get("weight", torch.ones(width))
            entries["norm.bias"] = op.tensors.get("bias", torch.zeros(width))
        if which == "batch" and "mean" in op.tensors and "var" in op.tensors:
            entries["norm.running_mean"], entries["norm.running_var"] = op.tensors["mean"], op.tensors["var"]
            entries["norm.num_batches_tracked"] = torch.tensor(0)

    def _act(self, op: Op) -> None:
        block, which = self._pointwise(op), op.settings["which"]
        if which not in get_args(Activation):
            raise self.refuse(op, "is not among the activations that are known")
        if self.upsample > 1 and self.mode == "bilinear":
            raise self.refuse(op, "follows maps that were interpolated")
        rises = "pool" not in block or which in ("relu", "leaky", "elu", "selu", "tanh", "sigmoid")
        if block["activation"] != "none" or block.get("order") == "act-norm" or not rises:
            self._identity(op)
            block = self.blocks[-1]
        block["activation"] = which
        self.rows[-1]["activation_from"] = op.source or "file"
        if which == "leaky":
            block["slope"] = float(op.settings["slope"])
        if which == "prelu":
            slopes = op.tensors["weight"].flatten()
            if len(slopes) > 1 and len(slopes) != block["outputs"]:
                raise self.refuse(op, f"has {len(slopes)} slopes for {block['outputs']} maps")
            block["slopes"], self.state[-1]["act.weight"] = len(slopes), slopes

    def _identity(self, op: Op) -> None:
        """A layer that changes nothing, to carry what the one before has no room for."""
        kind = "linear" if self.blocks[-1]["kind"] == "linear" and not self.blocks[-1].get("folded") else "conv"
        maps = self.maps
        if maps > 4096:
            raise self.refuse(op, "is one too many behind a layer")
        upsample, mode = self.upsample, self.mode
        self.clear()
        if kind == "linear":
            self._open(Op("linear", op.name, {"weight": torch.eye(maps)}))
        else:
            settings = {"kernel": 1, "stride": 1, "padding": 0}
            self._open(Op("conv", op.name, {"weight": torch.eye(maps)[:, :, None, None]}), **settings)
            # norms and activations need their own layer, not the enlarging that waits
        self.upsample, self.mode = upsample, mode

    def _fold_into(self, op: Op, maps: int) -> None:
        """Fold a linear layer's numbers into the maps that the operation behind it takes."""
        block = self.blocks[-1] if self.blocks else {}
        if block.get("kind") != "linear" or block.get("folded") or (block["outputs"] == maps and op.kind == "norm"):
            return
        if side := square(block["outputs"], maps):
            self._fold(Op("fold", op.name, settings={"maps": maps, "side": side}))

    def _fold(self, op: Op) -> None:
        maps, side = op.settings["maps"], op.settings["side"]
        if not 0 < maps * side * side <= 2**24 or self.waiting:
            raise self.refuse(op, "does not follow a linear layer")
        if not self.blocks:
            if side == 1:
                return
            if maps * side * side > 4096:
                raise self.refuse(op, "folds latents of more than 4,096 numbers")
            self._open(Op("linear", op.name, {"weight": torch.eye(maps * side * side)}))
        block, width = self.blocks[-1], maps * side * side
        if self.side > 1 or block["outputs"] * self.side**2 != width:
            if block["outputs"] == maps and self.side == side:
                return
            raise self.refuse(op, f"folds {width} numbers where there are {block['outputs'] * self.side**2}")
        if block["kind"] != "linear":
            return
        if "order" in op.tensors:
            index = op.tensors["order"]
            entries = self.state[-1]
            for key, tensor in entries.items():
                if tensor.dim() and len(tensor) == width:
                    entries[key] = tensor[index]
        if side == 1:
            self._as_maps()
            return
        block |= {"grid": side, "outputs": maps, "folded": True}
        self.side = side

    def _as_maps(self) -> None:
        """Make the linear layers so far convolutions of single places, which give maps of 1 px."""
        for i, block in enumerate(self.blocks):
            weight = self.state[i].pop("project.weight")
            kept = {key.replace("project", "conv"): tensor for key, tensor in self.state[i].items()}
            self.state[i] = {"conv.weight": weight.T[:, :, None, None], **kept}
            norm = "map" if block["norm"] == "unit" else block["norm"]
            block |= {"kind": "deconv", "kernel": 1, "stride": 1, "padding": 0, "norm": norm}

    def said(self, blocks: list[Block]) -> list[dict[str, Any]]:
        """A row for each block: what it is, and from where that is known."""
        found = []
        for row, block in zip(self.rows, blocks, strict=True):
            entry: dict[str, Any] = {"layer": row["layer"], "kind": block.kind, "inputs": block.inputs}
            entry |= {"outputs": block.outputs, "activation": block.activation}
            if block.activation == "leaky":
                entry["activation"] = f"leaky {block.slope:g}"
            entry["activation_from"] = row.get("activation_from", row["geometry_from"])
            if block.kind != "linear":
                entry |= {"kernel": block.kernel, "stride": block.stride, "padding": block.padding}
                usual = {"output_padding": 0, "crop": (0, 0), "pad": (0, 0), "upsample": 1, "resize": 0, "pool": 1}
                entry |= {key: getattr(block, key) for key, value in usual.items() if getattr(block, key) != value}
                entry["geometry_from"] = row["geometry_from"]
            if block.norm != "none":
                entry |= {"norm": block.norm, "order": block.order, "eps": block.eps, "norm_from": row["norm_from"]}
            found.append(entry)
        return found

    def _flatten(self, op: Op) -> None:
        if not self.blocks:
            return
        if self.waiting:
            raise self.refuse(op, "follows maps that were enlarged or padded")
        order = op.tensors.get("order")
        if order is not None and self.side > 1:
            if len(order) != self.maps * self.side**2:
                raise self.refuse(op, f"takes {len(order)} numbers of {self.maps} maps of {self.side} px")
            self.order = order

    def _average(self, op: Op) -> None:
        if not self.blocks or self.waiting:
            raise self.refuse(op, "does not follow a layer")
        self.averaged = self.side

    def _pool(self, op: Op) -> None:
        side = op.settings["side"]
        if not self.blocks or self.waiting or self.blocks[-1]["kind"] != "conv" or not 1 <= side <= self.side:
            raise self.refuse(op, "does not follow a convolution")
        self.blocks[-1]["pool"] = self.blocks[-1].get("pool", 1) * side
        self.side //= side

    def _upsample(self, op: Op) -> None:
        if not self.blocks or self.before or self.after or self.spread > 1:
            raise self.refuse(op, "does not follow a layer")
        factor, mode = op.settings["factor"], op.settings["mode"]
        if factor == 1:
            return
        if (self.upsample > 1 and self.mode != mode) or factor < 1 or self.upsample * factor > 64:
            raise self.refuse(op, "follows another interpolation")
        self.upsample, self.mode = self.upsample * factor, mode

    def _spread(self, op: Op) -> None:
        if self.waiting:
            raise self.refuse(op, "follows maps that were enlarged or padded")
        self.spread = op.settings["stride"]
        self.before, self.after = op.settings["before"], op.settings["after"]

    def _pad(self, op: Op) -> None:
        before, after = op.settings["before"], op.settings["after"]
        if min(before, after) >= 0:
            self.before, self.after = self.before + before, self.after + after
            return
        if max(before, after) > 0 or self.waiting or not self.blocks:
            raise self.refuse(op, "cuts maps that are not those of a layer")
        block = self.blocks[-1]
        if block["kind"] == "deconv":
            crop = block.get("crop", (0, 0))
            extra = block.get("output_padding", 0)
            fields = _cut(
                block["padding"] + crop[0] - before, block["padding"] + crop[1] - extra - after, block["stride"]
            )
            block |= {"output_padding": 0, "crop": (0, 0)} | fields
        elif block["kind"] == "conv" and block["stride"] == 1:
            pads = [block["padding"] + pad + cut for pad, cut in zip(block["pad"], (before, after), strict=True)]
            if min(pads) < 0:
                raise self.refuse(op, "cuts more than the layer before pads")
            block |= {"padding": min(pads), "pad": (pads[0] - min(pads), pads[1] - min(pads))}
        else:
            raise self.refuse(op, "cuts maps of a layer with a stride")
        self.side += before + after

    def _resize(self, op: Op) -> None:
        side = op.settings["side"]
        if not self.blocks or self.waiting or self.blocks[-1].get("resize"):
            raise self.refuse(op, "does not follow a layer")
        if side != self.side:
            self.blocks[-1]["resize"] = self.side = side

    def finish(self) -> tuple[list[Block], dict[str, Tensor]]:
        """The blocks, and the state dict of the network that they are."""
        if self.upsample > 1:
            if self.mode == "bilinear":
                self.blocks[-1]["resize"] = self.side = self.side * self.upsample
            else:
                weight = torch.eye(self.maps)[:, :, None, None]
                self._conv(Op("conv", "upsample", {"weight": weight}, {"stride": 1, "before": 0, "after": 0}))
            self.clear()
        if self.waiting:
            raise ProbeError(f"{self.place}: ends in padding of its maps; {_ADVICE}")
        blocks: list[Block] = []
        state: dict[str, Tensor] = {}
        for i, (fields, entries) in enumerate(zip(self.blocks, self.state, strict=True), 1):
            blocks.append(Block(**{key: value for key, value in fields.items() if key != "folded"}))
            state |= {f"layer{i}.{key}": tensor for key, tensor in entries.items()}
        return blocks, {key: tensor.float() if tensor.dim() else tensor for key, tensor in state.items()}


def _cut(before: int, after: int, stride: int) -> dict[str, Any]:
    """A transposed convolution's fields that cut rows before and after its full output."""
    if after < before and before - after < stride:
        return {"padding": before, "output_padding": before - after}
    padding = max(0, min(before, after))
    if min(before, after) < 0:
        return {"padding": -1}
    return {"padding": padding, "crop": (before - padding, after - padding)}


def _assembled(
    described: Described, ops: list[Op], kind: type[Any], side: int, unit: bool = False
) -> tuple[Any, _Chain]:
    chain = _Chain(described.place, side, unit)
    for op in ops:
        chain.add(op)
    try:
        blocks, state = chain.finish()
    except (TypeError, ValueError, OverflowError) as error:
        raise ProbeError(f"{described.place}: layers that cannot be ({error}); fetch or save it again") from None
    described.layers = chain.said(blocks)
    norms = [i for i, block in enumerate(blocks, 1) if block.norm in ("map", "unit")]
    stored = [i for i in norms if f"layer{i}.norm.running_mean" in state]
    if stored and stored != norms:
        raise ProbeError(f"{described.place}: only some of its BatchNorms have running statistics; save it again")
    return assemble(described.place, kind, blocks, state, batch_statistics=bool(norms and not stored)), chain


def generator(described: Described) -> tuple[Generator, int]:
    """A described generator as probe's own module, float32, in eval mode, and the side of its images in pixels."""
    ops = list(described.ops)
    if described.condition is not None:
        found = f"a conditional generator of {described.classes} classes ({described.condition.name})"
        raise ProbeError(f"{described.place}: {found}; choose one with `label` 0 to {described.classes - 1}")
    last = max(i for i, op in enumerate(ops) if op.kind in _WEIGHTED)
    model, chain = _assembled(described, ops, Generator, 1)
    if chain.side not in SIZES:
        raise ProbeError(f"{described.place}: layers that lead to an image of {chain.side} px; {_ADVICE}")
    if any(op.kind == "act" and op.settings["which"] == "sigmoid" for op in ops[last:]):
        model = _with_range(model)
    return model, chain.side


def distances(described: Described, prior: Prior = "normal", n: int = 256, batch: bool = False) -> list[Distance]:
    """The distance of each of a generator's BatchNorms that stores statistics, for n latents (as many of every class).

    With `batch` each normalises by the batch at hand in place of what it stored.
    """
    labels: list[int | None] = [*range(described.classes)] or [None]
    runs = []
    for label in labels:
        model, _ = generator(described if label is None else at_class(described, label))
        runs.append((model, balanced(max(1, n // len(labels)), model.nz, label or 0, prior)))
    return measured(runs, batch)


def agreement(described: Described, prior: Prior = "normal", n: int = 256) -> float:
    """The mean over layers of a generator's distances from the statistics in its file; infinite where it stores none."""
    found = distances(described, prior, n)
    value = score(found) if found else math.inf
    return value if math.isfinite(value) else math.inf


def _with_range(model: Generator) -> Generator:
    """A generator of images in [0, 1] whose images are brought to [-1, 1]."""
    blocks = [*model.blocks[:-1], replace(model.blocks[-1], unit_range=True)]
    return assemble("", Generator, blocks, model.state_dict())


def discriminator(described: Described, size: int | None = None, unit: bool = False) -> tuple[Discriminator, int]:
    """A described discriminator as probe's own module for images of a size in pixels, and that size.

    Without a size, the one that the file names or that its layers fit. Its last sigmoid is left out. `unit` says that it was
    trained on images in [0, 1]; those that it is given lie in [-1, 1] all the same. ProbeError where
    images of that size do not lead to one number.
    """
    ops = list(described.ops)
    while (ops and ops[-1].kind in ("flatten", "average", "fold")) or (
        ops[-1].kind == "act" and ops[-1].settings["which"] == "sigmoid"
    ):
        ops.pop()
    tried = [size] if size else [described.size] if described.size else [64, 32, 28, 128, 96, 48, 16, *SIZES]
    reasons = []
    for side in tried:
        try:
            model, chain = _assembled(described, ops, Discriminator, side, unit)
        except ProbeError as error:
            reasons.append(error)
            continue
        if chain.side == 1 or described.ops[-1].kind == "average":
            return model, side
        found = f"gives {chain.side} x {chain.side} numbers for images of {side} px"
        reasons.append(ProbeError(f"{described.place}: {found}, not one; pass the discriminator trained with it"))
    raise reasons[0]


def square(numbers: int, maps: int) -> int:
    """The side of `maps` maps of `numbers` numbers in all, 0 where they are no squares."""
    side = math.isqrt(numbers // maps) if maps else 0
    return side if side * side * maps == numbers else 0
