"""Keras files (.h5, .hdf5, .keras) as described networks, by h5py and without TensorFlow.

    read(path)               the networks in a file
    same(...), transposed(...)   TensorFlow's padding, in torch's terms

A file with a configuration says everything; one of weights alone holds the layers' names and shapes, and strides and
activations are the usual ones for them (said as assumed). Maps come last in Keras: kernels (k, k, in, out), those of
Conv2DTranspose (k, k, out, in), of Dense (in, out); Reshape and Flatten order numbers by row, column and map.

HDF5 is read by a process of its own (hdf5_worker), bounded in time and memory: by hard links alone, no link out of the file,
no external or virtual data set, none larger than its file.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.described import Condition, Described, Op, agreement, network, square
from probe.checkpoints.weightfiles import names_in

_CONFIG = "config"
_PATIENCE = 60  # seconds until reading is given up; hdf5_worker bounds its own time on a processor
_ADVICE = "fetch or save it again"
_USE = "open it with `model` pkg.module:factory"
_PASSED = (
    *("InputLayer", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Identity"),
    "ActivityRegularization",
)
_MODELS = ("Sequential", "Functional", "Model")
_ACTS = {"relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "selu": "selu", "elu": "elu", "gelu": "gelu"}
_ACTS |= {"swish": "silu", "silu": "silu"}
LEAVES = {"kernel": "kernel", "bias": "bias", "gamma": "gamma", "beta": "beta", "moving_mean": "mean"}
LEAVES |= {
    "moving_variance": "var",
    "moving_var": "var",
    "alpha": "alpha",
    "embeddings": "table",
    "depthwise_kernel": "other",
}


def read(path: Path) -> list[Described]:
    """The networks in a Keras file; raises ProbeError, one line, where there is none or the file is damaged."""
    from probe.checkpoints.containers import require

    require("h5py", path)
    try:
        config, weights = _contents(path)
    except ProbeError:
        raise
    except Exception as error:  # an archive that is damaged can be anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ProbeError(f"{path}: truncated or damaged Keras file ({reason}); {_ADVICE}") from None
    try:
        found = _from_config(path.name, config, weights) if config is not None else [_from_names(path.name, weights)]
    except ProbeError:
        raise
    except RecursionError:
        raise ProbeError(f"{path}: models nested too deep; {_ADVICE}") from None
    except Exception as error:  # a configuration that is damaged can be anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise ProbeError(f"{path}: its configuration is damaged ({reason}); {_ADVICE}") from None
    return found


# HDF5 ----------------------------------------------------------------------------------------------------------------


@dataclass
class _Weights:
    """The arrays of a file by their paths, in the file's order, and the names of its layers where it lists them."""

    arrays: dict[tuple[str, ...], Tensor] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    numbered: bool = False  # a .keras archive, whose weights have numbers for names

    def of(self, scope: tuple[str, ...], name: str, kind: str, at: int) -> dict[str, Tensor]:
        """The arrays of a layer: by its name, or in an archive as the `at`-th of its class in its model."""
        if self.numbered:
            return self._numbered(scope, kind, at)
        found: dict[str, Tensor] = {}
        for path, array in self.arrays.items():
            leaf = path[-1].partition(":")[0]
            if name in path[:-1] and path[-2] == name and (not scope or scope[0] in path or path[0] == name):
                found[LEAVES.get(leaf, leaf)] = array
        return found

    def _numbered(self, scope: tuple[str, ...], kind: str, at: int) -> dict[str, Tensor]:
        prefix = _snake(kind)
        places: dict[tuple[str, ...], dict[str, Tensor]] = {}
        for path, array in self.arrays.items():
            inner = tuple(part for part in path if part not in ("layers", "_layer_checkpoint_dependencies"))
            named = len(inner) >= 3 and inner[-2] == "vars" and re.fullmatch(rf"{prefix}(_\d+)?", inner[-3])
            if named and inner[:-3] == scope:
                places.setdefault(inner[:-2], {})[inner[-1]] = array
        order = sorted(places, key=lambda place: _number(place[-1]))
        return places[order[at]] if at < len(order) else {}


def _snake(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _number(name: str) -> int:
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdigit() and len(digits) < 9 else 0


def _contents(path: Path) -> tuple[dict[str, Any] | None, _Weights]:
    """The configuration of a file, where it has one, and its weights."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    if not archive:
        text, weights = _hdf5(path)
        return _parsed(path, text), weights
    names_in(path)  # refuses bombs
    with zipfile.ZipFile(path) as held:
        config = _parsed(path, held.read("config.json"))
        _, weights = _hdf5(path, held.read("model.weights.h5"))
    weights.numbered = True
    return config, weights


def _parsed(path: Path, text: Any) -> dict[str, Any] | None:
    if text is None:
        return None
    config = json.loads(text)
    if not isinstance(config, dict):
        raise ProbeError(f"{path}: its configuration is a {type(config).__name__}; {_ADVICE}")
    return config


def _hdf5(path: Path, data: bytes | None = None) -> tuple[str | None, _Weights]:
    """The configuration and the arrays in an HDF5 file, or in its bytes, read by a process of its own."""
    size = path.stat().st_size if data is None else len(data)
    command = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_worker.py"))]
    command += [str(path.absolute()) if data is None else "-", str(size)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, env=environment, check=False, **given)
        out = done.stdout
        length = int.from_bytes(out[:8], "little")
        about = json.loads(out[8 : 8 + length])
    except (subprocess.TimeoutExpired, ValueError):
        raise ProbeError(f"{path}: damaged Keras file, on which the HDF5 library fails; {_ADVICE}") from None
    if "refused" in about:
        raise ProbeError(f"{path}: {about['refused']}")
    if "damaged" in about:
        raise ProbeError(f"{path}: truncated or damaged Keras file ({about['damaged']}); {_ADVICE}")
    weights, at = _Weights(layers=about["layers"]), 8 + length
    for place, shape, dtype in about["arrays"]:
        count = math.prod(shape)
        array = np.frombuffer(out, dtype, count, at).reshape(shape).copy()
        weights.arrays[tuple(place)] = torch.from_numpy(array)
        at += count * array.dtype.itemsize
    return about["config"], weights


# Padding -------------------------------------------------------------------------------------------------------------


def same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows of zeros that TensorFlow's "same" puts before and after maps of a side for a convolution."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def transposed(side: int, kernel: int, stride: int, padding: str, output_padding: int | None = None) -> tuple[int, int]:
    """Rows that Conv2DTranspose cuts before and after its full output of (side - 1)·stride + kernel rows (after < 0: adds)."""
    full = (side - 1) * stride + kernel
    if padding == "valid":
        after = min(0, kernel - stride) if output_padding is None else -output_padding
        return 0, after
    out = side * stride if output_padding is None else full - 2 * (kernel // 2) + output_padding
    before = max(full - out, 0) // 2
    return before, full - out - before


def _order(side: int, maps: int) -> Tensor:
    """The place in a vector by row, column and map of each number by map, row and column."""
    return torch.arange(side * side * maps).view(side, side, maps).permute(2, 0, 1).flatten()


# Configurations ------------------------------------------------------------------------------------------------------


@dataclass
class _Flow:
    """What runs through a model: its shape without the batch (rows, columns, maps), and what was done to it."""

    shape: tuple[int, ...]
    ops: list[Op] = field(default_factory=list)
    condition: Condition | None = None
    table: Tensor | None = None  # of a label that was looked up
    source: str = ""


def _from_config(name: str, config: dict[str, Any], weights: _Weights) -> list[Described]:
    found: list[Described] = []
    failures: list[ProbeError] = []

    def collect(place: str, model: dict[str, Any], scope: tuple[str, ...], depth: int) -> None:
        try:
            found.append(_model(place, model, weights, scope))
            return
        except ProbeError as error:
            failures.append(error)
        counts: dict[str, int] = {}
        for layer in _layers(model):
            if layer.get("class_name") in _MODELS and depth < 4:
                inner = str(layer[_CONFIG]["name"])
                step = _scope(weights, layer, counts)
                collect(f"{place}/{inner}", layer, (*scope, *step), depth + 1)

    collect(name, config, (), 0)
    if not found:
        raise failures[-1] if len(failures) > 1 else failures[0]
    return found


def _scope(weights: _Weights, layer: dict[str, Any], counts: dict[str, int]) -> tuple[str, ...]:
    """The part of a path that a nested model adds."""
    kind = _snake(str(layer["class_name"]))
    at = counts.get(kind, 0)
    counts[kind] = at + 1
    if not weights.numbered:
        return (str(layer[_CONFIG]["name"]),)
    held = {part for path in weights.arrays for part in path if re.fullmatch(rf"{kind}(_\d+)?", part)}
    order = sorted(held, key=_number)
    return (order[at],) if at < len(order) else (kind,)


def _layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    held = model[_CONFIG]
    layers = held if isinstance(held, list) else held["layers"]
    if not isinstance(layers, list) or len(layers) > 1000:
        raise ProbeError(f"a model of {len(layers)} layers; {_ADVICE}")
    return layers


def _model(place: str, model: dict[str, Any], weights: _Weights, scope: tuple[str, ...]) -> Described:
    """One model as a network, or ProbeError."""
    reader = _Reader(place, weights)
    flow = reader.model(model, scope, None)
    facts = {"assumed": reader.assumed, "leftover": reader.leftover, "condition": flow.condition}
    described = network(place, flow.ops, "Keras", **facts)
    if described.role == "discriminator":
        if flow.condition is not None:
            raise ProbeError(f"{place}: a conditional discriminator; only unconditional ones can be read")
        described.size = reader.size
    return described


class _Reader:
    """A model's layers, read in the order in which they run."""

    def __init__(self, place: str, weights: _Weights) -> None:
        self.place, self.weights = place, weights
        self.assumed: list[str] = []
        self.leftover: list[str] = []
        self.counts: dict[tuple[tuple[str, ...], str], int] = {}
        self.size = 0
        self.steps = 0

    def refuse(self, layer: dict[str, Any], reason: str) -> ProbeError:
        name = layer.get(_CONFIG, {}).get("name", "") if isinstance(layer.get(_CONFIG), dict) else ""
        return ProbeError(f"{self.place}: {name}, a {layer.get('class_name')}, {reason}; {_USE}")

    def model(self, model: dict[str, Any], scope: tuple[str, ...], flow: _Flow | None) -> _Flow:
        """What comes out of a model, given what goes in (None where it is the outermost)."""
        if model.get("class_name") not in _MODELS:
            raise self.refuse(model, "is a class of its owner's own")
        layers = _layers(model)
        ranks = self._ranks(layers, scope)
        scopes: dict[str, int] = {}
        steps = {
            id(layer): _scope(self.weights, layer, scopes) for layer in layers if layer.get("class_name") in _MODELS
        }
        if any(layer.get("inbound_nodes") for layer in layers):
            return self._graph(model, layers, ranks, steps, scope, flow)
        for layer in layers:
            if flow is None:
                flow = self._input(layer)
            flow = self._step(layer, flow, scope, ranks, steps)
        if flow is None:
            raise ProbeError(f"{self.place}: a model without layers; {_ADVICE}")
        return flow

    def _ranks(self, layers: list[dict[str, Any]], scope: tuple[str, ...]) -> dict[int, int]:
        """Which of its class in its model each layer is."""
        seen: dict[str, int] = {}
        ranks = {}
        for layer in layers:
            kind = str(layer.get("class_name"))
            ranks[id(layer)] = seen.get(kind, 0)
            seen[kind] = seen.get(kind, 0) + 1
        return ranks

    def _step(
        self, layer: dict[str, Any], flow: _Flow, scope: tuple[str, ...], ranks: dict[int, int], steps: dict[int, Any]
    ) -> _Flow:
        self.steps += 1
        if self.steps > 2000:
            raise ProbeError(f"{self.place}: a model of more than 2,000 layers; {_ADVICE}")
        if layer.get("class_name") in _MODELS:
            return self.model(layer, (*scope, *steps[id(layer)]), flow)
        return self._layer(layer, flow, scope, ranks[id(layer)])

    def _input(self, layer: dict[str, Any]) -> _Flow:
        config = layer[_CONFIG]
        if layer.get("class_name") in _MODELS:
            return self._input(_layers(layer)[0])
        shape = config.get("batch_input_shape", config.get("batch_shape", config.get("input_shape")))
        if shape is None and config.get("input_dim"):
            shape = [None, config["input_dim"]]
        if isinstance(shape, list) and shape and isinstance(shape[0], list):
            shape = shape[0]
        if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and 0 < n < 2**20 for n in shape[1:]):
            raise self.refuse(layer, f"does not say which inputs it takes ({shape})")
        if len(shape) == 4:
            self.size = int(shape[1])
        return _Flow(tuple(shape[1:]), source=str(config.get("name", "")))

    def _graph(
        self,
        model: dict[str, Any],
        layers: list[dict[str, Any]],
        ranks: dict[int, int],
        steps: dict[int, Any],
        scope: tuple[str, ...],
        given: _Flow | None,
    ) -> _Flow:
        """The flow to the output of a functional model, followed from its inputs."""
        by_name = {str(layer.get("name", layer[_CONFIG]["name"])): layer for layer in layers}
        done: dict[str, _Flow] = {}

        def flow_of(name: str, depth: int = 0) -> _Flow:
            if depth > 300 or name not in by_name:
                raise ProbeError(f"{self.place}: layer {name!r} of its graph is missing or follows itself; {_ADVICE}")
            if name not in done:
                layer = by_name[name]
                before = _inbound(layer)
                if not before:
                    done[name] = given if given is not None else self._input(layer)
                elif len(before) == 1:
                    flow = flow_of(before[0], depth + 1)
                    copied = replace(flow, ops=list(flow.ops))
                    done[name] = self._step(layer, copied, scope, ranks, steps)
                else:
                    done[name] = self._join(layer, [flow_of(part, depth + 1) for part in before])
            return done[name]

        outputs = [str(part[0]) for part in _nodes(model[_CONFIG]["output_layers"])]
        flows = [flow_of(name) for name in outputs]
        single = [flow for flow in flows if flow.shape == (1,)] or flows
        self.leftover += [
            f"{name}, another output" for name, flow in zip(outputs, flows, strict=True) if flow is not single[0]
        ]
        return single[0]

    def _join(self, layer: dict[str, Any], flows: list[_Flow]) -> _Flow:
        """A latent that a label is multiplied with, or stands before or behind."""
        kind = layer.get("class_name")
        labels = [flow for flow in flows if flow.table is not None]
        if (
            not labels
            and len(flows) == 2
            and kind == "Concatenate"
            and all(not flow.ops and len(flow.shape) == 1 for flow in flows)
        ):
            marked = [flow for flow in flows if re.search(r"label|class|cond|one_?hot", flow.source, re.IGNORECASE)]
            label = marked[0] if len(marked) == 1 else min(flows, key=lambda flow: flow.shape[0])
            label.table = torch.eye(label.shape[0])
            self.assumed.append(f"input {label.source} is a one-hot label")
            labels = [label]
        if len(flows) != 2 or len(labels) != 1 or kind not in ("Multiply", "Concatenate"):
            raise self.refuse(layer, "joins what runs through two branches")
        label = labels[0]
        latent = flows[1 - flows.index(label)]
        if (
            kind == "Concatenate"
            and len(latent.shape) == 3
            and latent.shape[:2] == label.shape[:2]
            and label.table is not None
        ):
            side, more = label.shape[0], label.shape[2]
            maps = label.table.view(-1, side, side, more).permute(0, 3, 1, 2).flatten(1)  # (classes, maps·side·side)
            how = "maps before" if flows[0] is label else "maps behind"
            condition = Condition(how, maps, label.source, len(latent.ops))
            return _Flow((side, side, latent.shape[2] + more), list(latent.ops), condition)
        if latent.ops or len(latent.shape) != 1 or label.table is None:
            raise self.refuse(layer, "joins a label to feature maps")
        width = label.table.shape[1]
        if kind == "Multiply":
            if width != latent.shape[0]:
                raise self.refuse(layer, f"multiplies {latent.shape[0]} numbers with {width}")
            return _Flow(latent.shape, [], Condition("multiply", label.table, label.source))
        how = "before" if flows[0] is label else "behind"
        return _Flow((latent.shape[0] + width,), [], Condition(how, label.table, label.source))

    def _layer(self, layer: dict[str, Any], flow: _Flow, scope: tuple[str, ...], rank: int) -> _Flow:
        """One layer's operations behind a flow."""
        kind, config = str(layer.get("class_name")), layer[_CONFIG]
        name = str(config.get("name", kind))
        if kind in _PASSED:
            return flow
        held = self.weights.of(scope, name, kind, rank)
        if flow.table is not None:
            return self._on_label(layer, kind, config, held, flow)
        if kind == "Embedding":
            table = held.get("table", held.get("0"))
            if table is None or table.dim() != 2:
                raise self.refuse(layer, "has no weights in the file")
            return replace(flow, table=table.float(), shape=(table.shape[1],), source=name)
        reader = getattr(self, f"_{_snake(kind)}", None)
        if reader is None:
            raise self.refuse(layer, "is no layer of a DCGAN")
        if config.get("data_format") == "channels_first":
            raise self.refuse(layer, "has maps first, which Keras files seldom have and this reader does not take")
        ops, shape = reader(layer, config, held, flow.shape)
        if kind not in ("LeakyReLU", "ReLU", "ELU", "PReLU", "Activation"):
            ops += self._act_of(layer, config.get("activation"))
        for op in ops:
            op.name, op.source = name, "configuration"
        return replace(flow, ops=flow.ops + ops, shape=shape)

    def _on_label(
        self, layer: dict[str, Any], kind: str, config: dict[str, Any], held: dict[str, Tensor], flow: _Flow
    ) -> _Flow:
        """A layer that a label's row runs through: it is done to the rows of all labels."""
        table, shape = flow.table, flow.shape
        if table is None or kind not in ("Flatten", "Reshape", "Activation", "Dense", "LeakyReLU", "ReLU"):
            raise self.refuse(layer, "works on a label")
        if kind == "Dense":
            kernel, bias = self._weights(layer, held, 2)
            if kernel.shape[0] != table.shape[1]:
                raise self.refuse(layer, f"takes {kernel.shape[0]} numbers where a label gives {table.shape[1]}")
            table = table @ kernel + bias.get("bias", torch.zeros(kernel.shape[1]))
            shape = (kernel.shape[1],)
        elif kind == "Reshape":
            shape = self._reshape(layer, config, held, (math.prod(shape),))[1]
        elif kind == "Flatten":
            shape = (math.prod(shape),)
        acts = (
            self._re_lu(layer, config, held, ())[0] if kind == "ReLU" else self._act_of(layer, config.get("activation"))
        )
        acts = self._leaky_re_lu(layer, config, held, ())[0] if kind == "LeakyReLU" else acts
        for op in acts:
            if op.settings["which"] not in ("relu", "leaky", "tanh"):
                raise self.refuse(layer, "works on a label")
            slope = op.settings.get("slope", 0.0)
            table = table.tanh() if op.settings["which"] == "tanh" else torch.where(table < 0, slope * table, table)
        return replace(flow, table=table, shape=shape)

    def _act_of(self, layer: dict[str, Any], given: Any) -> list[Op]:
        if given is None or given == "linear":
            return []
        config: dict[str, Any] = {}
        if isinstance(given, dict):
            config = given[_CONFIG] if isinstance(given.get(_CONFIG), dict) else {}
            given = given.get(_CONFIG) if isinstance(given.get(_CONFIG), str) else given.get("class_name")
        if given in ("LeakyReLU", "leaky_relu"):
            usual = 0.3 if given == "LeakyReLU" else 0.2
            slope = config.get("alpha", config.get("negative_slope", usual))
            return [Op("act", "", settings={"which": "leaky", "slope": float(slope)})]
        which = _ACTS.get(str(given).lower())
        if which is None:
            raise self.refuse(layer, f"has the activation {given!r}")
        return [Op("act", "", settings={"which": which})]

    # One method a class, named as the class in snake_case: operations and the new shape.

    def _weights(self, layer: dict[str, Any], held: dict[str, Tensor], dims: int) -> tuple[Tensor, dict[str, Tensor]]:
        kernel, bias = held.get("kernel", held.get("0")), held.get("bias", held.get("1"))
        if kernel is None or kernel.dim() != dims:
            found = "no kernel" if kernel is None else f"a kernel of shape {tuple(kernel.shape)}"
            raise self.refuse(layer, f"has {found} in the file")
        return kernel, {} if bias is None or not layer[_CONFIG].get("use_bias", True) else {"bias": bias}

    def _dense(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> tuple[list[Op], tuple[int, ...]]:
        kernel, bias = self._weights(layer, held, 2)
        if len(shape) == 3 and shape[:2] == (1, 1):
            shape = shape[2:]
        if len(shape) != 1 or shape[0] != kernel.shape[0]:
            raise self.refuse(layer, f"takes {kernel.shape[0]} numbers where the layer before gives {shape}")
        return [Op("linear", "", {"weight": kernel.T, **bias})], (kernel.shape[1],)

    def _square(self, layer: Any, value: Any, what: str) -> int:
        values = list(value) if isinstance(value, list | tuple) else [value, value]
        if len(values) != 2 or values[0] != values[1] or type(values[0]) is not int or not 0 <= values[0] < 2**16:
            raise self.refuse(layer, f"has {what} {value}")
        return values[0]

    def _maps(self, layer: Any, shape: tuple[int, ...]) -> tuple[int, int]:
        if len(shape) != 3 or shape[0] != shape[1]:
            raise self.refuse(layer, f"takes maps where the layer before gives {shape}")
        return shape[0], shape[2]

    def _conv2d(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> tuple[list[Op], tuple[int, ...]]:
        side, maps = self._maps(layer, shape)
        kernel, bias = self._weights(layer, held, 4)
        size, stride = (
            self._square(layer, list(kernel.shape[:2]), "kernels"),
            self._square(layer, config["strides"], "strides"),
        )
        if self._square(layer, config.get("dilation_rate", 1), "dilation") != 1 or config.get("groups", 1) != 1:
            raise self.refuse(layer, "is dilated or grouped")
        if kernel.shape[2] != maps or stride < 1:
            raise self.refuse(layer, f"takes {kernel.shape[2]} maps where the layer before gives {maps}")
        before, after = same(side, size, stride) if config["padding"] == "same" else (0, 0)
        out = (side + before + after - size) // stride + 1
        weight = kernel.permute(3, 2, 0, 1)
        settings = {"stride": stride, "before": before, "after": after}
        return [Op("conv", "", {"weight": weight, **bias}, settings)], (out, out, kernel.shape[3])

    def _conv2d_transpose(
        self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]
    ) -> tuple[list[Op], tuple[int, ...]]:
        side, maps = self._maps(layer, shape)
        kernel, bias = self._weights(layer, held, 4)
        size, stride = (
            self._square(layer, list(kernel.shape[:2]), "kernels"),
            self._square(layer, config["strides"], "strides"),
        )
        if self._square(layer, config.get("dilation_rate", 1), "dilation") != 1:
            raise self.refuse(layer, "is dilated")
        if kernel.shape[3] != maps or stride < 1:
            raise self.refuse(layer, f"takes {kernel.shape[3]} maps where the layer before gives {maps}")
        extra = config.get("output_padding")
        extra = None if extra is None else self._square(layer, extra, "output padding")
        before, after = transposed(side, size, stride, config["padding"], extra)
        out = (side - 1) * stride + size - before - after
        weight = kernel.permute(3, 2, 0, 1)  # (in, out, k, k)
        settings = {"stride": stride, "before": before, "after": after}
        return [Op("deconv", "", {"weight": weight, **bias}, settings)], (out, out, kernel.shape[2])

    def _batch_normalization(
        self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]
    ) -> tuple[list[Op], tuple[int, ...]]:
        axis = config.get("axis", -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(shape)):
            raise self.refuse(layer, f"normalises along axis {axis}, not over maps")
        if self.weights.numbered:
            learned = ["gamma"] * bool(config.get("scale", True)) + ["beta"] * bool(config.get("center", True))
            held = {name: held[str(i)] for i, name in enumerate([*learned, "mean", "var"]) if str(i) in held}
        if not {"mean", "var"} <= held.keys():
            raise self.refuse(layer, "has no statistics in the file")
        names = {"gamma": "weight", "beta": "bias", "mean": "mean", "var": "var"}
        tensors = {new: held[old] for old, new in names.items() if old in held}
        return [Op("norm", "", tensors, {"which": "batch", "eps": float(config.get("epsilon", 1e-3))})], shape

    def _leaky_re_lu(self, layer: Any, config: Any, held: Any, shape: Any) -> Any:
        slope = config.get("alpha", config.get("negative_slope", 0.3))
        slope = slope.get("value", 0.3) if isinstance(slope, dict) else slope
        return [Op("act", "", settings={"which": "leaky", "slope": float(slope)})], shape

    def _re_lu(self, layer: Any, config: Any, held: Any, shape: Any) -> Any:
        if config.get("max_value") is not None or config.get("threshold"):
            raise self.refuse(layer, "is a ReLU with a ceiling or a threshold")
        slope = float(config.get("negative_slope") or 0)
        return [Op("act", "", settings={"which": "leaky", "slope": slope} if slope else {"which": "relu"})], shape

    def _elu(self, layer: Any, config: Any, held: Any, shape: Any) -> Any:
        if float(config.get("alpha", 1)) != 1:
            raise self.refuse(layer, f"has alpha {config['alpha']}")
        return [Op("act", "", settings={"which": "elu"})], shape

    def _p_re_lu(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        alpha = held.get("alpha", held.get("0"))
        if alpha is None:
            raise self.refuse(layer, "has no slopes in the file")
        rows = alpha.reshape(-1, alpha.shape[-1])
        if len(shape) == 1 and len(alpha.unique()) > 1:
            raise self.refuse(layer, "has a slope for every number")
        if not torch.equal(rows, rows[:1].expand_as(rows)):
            raise self.refuse(layer, "has a slope for every place")
        slopes = rows[0] if len(shape) == 3 and len(rows[0].unique()) > 1 else rows[0, :1]
        return [Op("act", "", {"weight": slopes}, {"which": "prelu"})], shape

    def _activation(self, layer: Any, config: Any, held: Any, shape: Any) -> Any:
        return self._act_of(layer, config.get("activation")), shape

    def _reshape(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        target, numbers = [int(n) for n in config["target_shape"]], math.prod(shape)
        if target.count(-1) == 1:
            target[target.index(-1)] = numbers // max(1, math.prod(n for n in target if n != -1))
        if math.prod(target) != numbers or min(target) < 1:
            raise self.refuse(layer, f"makes {target} of {shape}")
        if tuple(target) == shape:
            return [], shape
        if len(target) == 1:
            return self._flatten(layer, config, held, shape)
        if len(target) != 3 or target[0] != target[1]:
            raise self.refuse(layer, f"makes {target}, which are no square maps")
        if len(shape) != 1:
            raise self.refuse(layer, f"makes {target} of maps {shape}")
        side, maps = target[0], target[2]
        return [Op("fold", "", {"order": _order(side, maps)}, {"maps": maps, "side": side})], tuple(target)

    def _flatten(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        if len(shape) == 1:
            return [], shape
        side, maps = self._maps(layer, shape)
        return [Op("flatten", "", {"order": _order(side, maps)})], (side * side * maps,)

    def _up_sampling2d(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        side, maps = self._maps(layer, shape)
        factor, mode = self._square(layer, config.get("size", 2), "size"), config.get("interpolation", "nearest")
        if mode not in ("nearest", "bilinear"):
            raise self.refuse(layer, f"interpolates by {mode}")
        return [Op("upsample", "", settings={"factor": factor, "mode": mode})], (side * factor, side * factor, maps)

    def _zero_padding2d(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...], sign: int = 1) -> Any:
        side, maps = self._maps(layer, shape)
        sides = config.get("padding" if sign > 0 else "cropping")
        sides = [[sides] * 2] * 2 if isinstance(sides, int) else sides
        rows, columns = ([part, part] if isinstance(part, int) else list(part) for part in sides)
        if rows != columns or min(rows) < 0:
            raise self.refuse(layer, f"pads by {sides}")
        before, after = sign * rows[0], sign * rows[1]
        settings = {"before": before, "after": after}
        return [Op("pad", "", settings=settings)], (side + before + after, side + before + after, maps)

    def _cropping2d(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        return self._zero_padding2d(layer, config, held, shape, -1)

    def _max_pooling2d(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        side, maps = self._maps(layer, shape)
        size = self._square(layer, config.get("pool_size", 2), "pool size")
        stride = self._square(layer, config.get("strides") or size, "strides")
        if size != stride or size < 1 or (config.get("padding") == "same" and side % size):
            raise self.refuse(layer, f"pools {size} x {size} with stride {stride}")
        return [Op("pool", "", settings={"side": size})], (side // size, side // size, maps)

    def _global_average_pooling2d(self, layer: Any, config: Any, held: Any, shape: tuple[int, ...]) -> Any:
        _, maps = self._maps(layer, shape)
        return [Op("average", "")], (maps,)


def _nodes(value: Any) -> list[Any]:
    """Output layers as a list of [name, node, tensor], which older files wrap once more and newer ones do not."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [value]
    return list(value)


def _inbound(layer: dict[str, Any]) -> list[str]:
    """The names of the layers before one, in order."""
    names: list[str] = []

    def visit(node: Any, depth: int) -> None:
        if depth > 12 or len(names) > 16:
            return
        if isinstance(node, dict):
            history = node.get("keras_history")
            if isinstance(history, list) and history:
                names.append(str(history[0]))
                return
            for value in (node.get(key) for key in ("args", "config", "kwargs")):
                visit(value, depth + 1)
        elif isinstance(node, list):
            if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
                names.append(node[0])
                return
            for value in node:
                visit(value, depth + 1)

    nodes = layer.get("inbound_nodes") or []
    visit(nodes[0] if isinstance(nodes, list) and nodes else nodes, 0)
    return names


# Weights alone -------------------------------------------------------------------------------------------------------

_KINDS = {
    "dense": "linear",
    "conv2d_transpose": "deconv",
    "conv2d": "conv",
    "batch_normalization": "norm",
    "embedding": "table",
}
_SHOWN = {"leaky_re_lu": "leaky", "re_lu": "relu", "elu": "elu", "up_sampling2d": "upsample"}
_USUAL_SIDES = (28, 32, 64, 48, 96, 128, 256)


@dataclass
class WeightLayer:
    """A layer of which weights alone are known: its name, its kind (or "") and its arrays by `LEAVES`."""

    name: str
    kind: str  # of _KINDS or _SHOWN, or ""
    held: dict[str, Tensor] = field(default_factory=dict)
    eps: float = 1e-3  # of a norm

    @property
    def kernel(self) -> Tensor:
        """Its kernel, in Keras' layout."""
        return self.held["kernel"]


def _kind(name: str) -> str:
    base = re.sub(r"_\d+$", "", name)
    return _KINDS.get(base, _SHOWN.get(base, ""))


def _from_names(name: str, weights: _Weights) -> Described:
    """The network of a file of weights alone: kinds of layers by their names, the rest by their shapes or as is usual."""
    layers: list[WeightLayer] = []
    groups: dict[str, dict[str, WeightLayer]] = {top: {} for top in weights.layers}
    for path, array in weights.arrays.items():
        if len(path) >= 2:
            leaf = path[-1].partition(":")[0]
            below = groups.setdefault(path[0], {})
            below.setdefault(path[-2], WeightLayer(path[-2], _kind(path[-2]))).held[LEAVES.get(leaf, leaf)] = array
    for top, below in groups.items():
        layers += list(below.values()) or [WeightLayer(top, _kind(top))]
    held = [layer for layer in layers if layer.held]
    unknown = next((layer for layer in held if layer.kind not in _KINDS.values()), None)
    if not held or unknown is not None:
        found = f"{unknown.name}, which names no layer of a DCGAN" if unknown else "no weights in it"
        raise ProbeError(
            f"{name}: Keras weights without a configuration: {found}; save the model with its configuration"
        )
    for layer in held:
        dims = {"linear": 2, "conv": 4, "deconv": 4}.get(layer.kind)
        if dims and ("kernel" not in layer.held or layer.kernel.dim() != dims):
            raise ProbeError(f"{name}: layer {layer.name} has no kernel of {dims} dimensions; {_ADVICE}")
    return network_of(name, layers)


def network_of(name: str, layers: list[WeightLayer]) -> Described:
    """The usual reading, unless another fits the BatchNorm statistics in the file clearly better."""
    first = _usual(name, layers, "relu", 0.2, "norm-act")
    if first.role != "generator" or not any(op.kind == "norm" for op in first.ops):
        return first
    candidates = [first]
    slopes = (
        [("relu", 0.0), ("leaky", 0.2), ("leaky", 0.3)] if not _shows_acts(layers) else [("leaky", 0.2), ("leaky", 0.3)]
    )
    orders = ["norm-act"] if _shows_acts(layers) else ["norm-act", "act-norm"]
    for which, slope in slopes:
        candidates += [_usual(name, layers, which, slope, order) for order in orders]
    candidates = candidates if _shows_acts(layers) else candidates[1:]  # the first of them is the usual one again
    scores = [agreement(candidate, n=60) for candidate in candidates]
    best = min(range(len(scores)), key=scores.__getitem__)
    if scores[best] < 0.7 * scores[0]:
        candidates[best].assumed.append(
            f"by its BatchNorm statistics, to which this reading is {scores[best]:.2f} away and the usual one {scores[0]:.2f}"
        )
        return candidates[best]
    return first


def _shows_acts(layers: list[WeightLayer]) -> bool:
    return any(layer.kind in ("leaky", "relu", "elu") for layer in layers)


def _usual(name: str, layers: list[WeightLayer], which: str, slope: float, order: str) -> Described:
    """Layers in their order, with activations of a kind where their names show none, and strides for a usual image size."""
    blocks: list[tuple[WeightLayer, list[WeightLayer]]] = []
    for layer in layers:
        if layer.kind in ("linear", "conv", "deconv"):
            blocks.append((layer, []))
        elif layer.kind in ("norm", "leaky", "relu", "elu"):
            if not blocks:
                raise ProbeError(f"{name}: {layer.name} stands before the first layer; {_USE}")
            blocks[-1][1].append(layer)
    if not blocks:
        raise ProbeError(f"{name}: Keras weights of no dense layer or convolution; {_ADVICE}")
    draws, shown = blocks[0][0].kind != "conv", _shows_acts(layers)
    if not draws:
        which, slope = "leaky", slope or 0.2
    dense = [layer for layer, _ in blocks if layer.kind == "linear"]
    convolutions = [layer for layer, _ in blocks if layer.kind != "linear"]
    grid = maps = 0
    if draws and convolutions and dense:
        maps = _maps_in(convolutions[0])
        grid = square(dense[-1].kernel.shape[1], maps)
        if not grid:
            raise ProbeError(f"{name}: {dense[-1].name} does not fold into the {maps} maps of the next layer; {_USE}")
    strides, side = _strides(convolutions, dense, grid)
    assumed = [f"{layer.name} {'follows an enlargement by' if draws and layer.kind == 'conv' else 'has stride'} {stride}"
               for layer, stride in zip(convolutions, strides, strict=True) if stride > 1]  # fmt: skip
    ops: list[Op] = []
    for i, (layer, parts) in enumerate(blocks):
        if layer.kind == "linear":
            if not draws and side > 1:
                ops.append(Op("flatten", layer.name, {"order": _order(side, maps)}, source="shapes"))
                side = 1
            ops.append(Op("linear", layer.name, {"weight": layer.kernel.T} | _bias(layer), source="shapes"))
        else:
            stride, size = strides[convolutions.index(layer)], layer.kernel.shape[0]
            if draws and layer.kind == "conv" and stride > 1:
                ops.append(Op("upsample", layer.name, settings={"factor": stride, "mode": "nearest"}, source="assumed"))
                side, stride = side * stride, 1
            before, after = same(side, size, stride) if layer.kind == "conv" else transposed(side, size, stride, "same")
            form = {"stride": stride, "before": before, "after": after}
            tensors = {"weight": layer.kernel.permute(3, 2, 0, 1)} | _bias(layer)
            ops.append(Op(layer.kind, layer.name, tensors, form, "assumed"))
            side = side * stride if layer.kind == "deconv" else -(-side // stride)
            maps = layer.kernel.shape[2 if layer.kind == "deconv" else 3]
        tail = [_tail(part, slope) for part in parts]
        if not shown and i < len(blocks) - 1:
            settings: dict[str, Any] = {"which": which} | ({"slope": slope} if which == "leaky" else {})
            act = Op("act", f"{layer.name}.act", settings=settings, source="assumed")
            tail = [act, *tail] if order == "act-norm" else [*tail, act]
        if draws and grid and layer is dense[-1]:
            fold = Op("fold", layer.name, {"order": _order(grid, maps)}, {"maps": maps, "side": grid}, "shapes")
            norms = [op for op in tail if op.kind == "norm" and op.tensors["mean"].numel() == grid * grid * maps]
            at = tail.index(norms[0]) + 1 if norms else 0
            tail[at:at] = [fold]
            side = grid
        ops += tail
    if draws:
        assumed.append("the image is the tanh of the last layer")
        ops.append(Op("act", "tanh", settings={"which": "tanh"}, source="assumed"))
    if not shown:
        words = f"{which} {slope:g}" if which == "leaky" else which
        assumed.append(
            f"{words} follows every layer but the last{', and BatchNorm that' if order == 'act-norm' else ''}"
        )
    made = network(name, ops, "Keras weights", assumed=assumed)
    tables = [layer for layer in layers if layer.kind == "table"]
    if tables and made.role == "generator":
        table = tables[0].held.get("table", torch.zeros(0, 0))
        if table.dim() != 2 or not 0 < table.shape[1] <= made.nz:
            raise ProbeError(
                f"{name}: {tables[0].name} of shape {tuple(table.shape)} joins no latent of {made.nz}; {_USE}"
            )
        how = "multiply" if table.shape[1] == made.nz else "behind"
        made.condition = Condition(how, table, tables[0].name)
    return made


def _maps_in(layer: WeightLayer) -> int:
    return layer.kernel.shape[3 if layer.kind == "deconv" else 2]


def _bias(layer: WeightLayer) -> dict[str, Tensor]:
    return {"bias": layer.held["bias"]} if "bias" in layer.held else {}


def _tail(layer: WeightLayer, slope: float) -> Op:
    """A norm or an activation that the names of a file show."""
    if layer.kind != "norm":
        settings = {"which": layer.kind} | ({"slope": slope or 0.2} if layer.kind == "leaky" else {})
        return Op("act", layer.name, settings=settings, source="name")
    names = {"gamma": "weight", "beta": "bias", "mean": "mean", "var": "var"}
    held = {new: layer.held[old] for old, new in names.items() if old in layer.held}
    if not {"mean", "var"} <= held.keys():
        raise ProbeError(f"{layer.name}: has no statistics in the file; {_ADVICE}")
    return Op("norm", layer.name, held, {"which": "batch", "eps": layer.eps}, "name")


def _strides(convolutions: list[WeightLayer], dense: list[WeightLayer], grid: int) -> tuple[list[int], int]:
    """A stride (or, before a convolution of a generator, an enlargement) for each convolution, and the first side.

    A generator doubles at every one but, where that leads to an unusual size, not at the first ones (transposed) or the
    last ones (convolutions). A discriminator halves down to what its dense layer takes.
    """
    n = len(convolutions)
    if not convolutions:
        return [], 0
    if grid or convolutions[0].kind == "deconv":
        kept = 0 if convolutions[-1].kind == "deconv" else 1
        for once in dict.fromkeys((kept, 0, *range(1, n))):
            side = (grid or 1) * 2 ** (n - once)
            if side in _USUAL_SIDES:
                ones = [1] * once
                return ([*ones, *[2] * (n - once)] if not kept else [*[2] * (n - once), *ones]), grid
        return ([2] * (n - kept) + [1] * kept), grid
    last = convolutions[-1].kernel.shape[3]
    final = square(dense[0].kernel.shape[0], last) if dense else 1
    for side in _USUAL_SIDES:
        for once in range(n):
            strides = [*[2] * (n - once), *[1] * once]
            left = side
            for stride in strides:
                left = -(-left // stride)
            if left == final:
                return strides, side
    return [2] * n, _USUAL_SIDES[0]
