"""ONNX files as described networks: weights and graph are read, nothing is run.

    read(path)    the network in a file

Exporters write a reshape, a crop or an insertion of zeros in many ways (Reshape, Transpose, Concat with zeros, Pad, Slice …).
Each is a rule of which number goes where, so it is done to an array of indices: whatever nodes made it, what stands between
two layers is then recognised by where the numbers went.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.checkpoints.described import Condition, Described, Op, network

_ADVICE = "fetch or export it again"
_USE = "open it with `model` pkg.module:factory"
_LARGEST = 2**24  # numbers in one value of the graph
_PASSED = ("Identity", "Dropout", "Cast")
_ACTS = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Selu": "selu", "Gelu": "gelu"}
Array = NDArray[Any]


@dataclass
class _Live:
    """A value that depends on the input: for each of its numbers, which of the last layer's it is (from 1 on; 0 is zero)."""

    index: Array  # (1, …)
    version: int
    table: Array | None = None  # of a label that was looked up
    label: bool = False


class _Unknown(Exception):  # noqa: N818
    """Why a node is none of a chain."""


def read(path: Path) -> list[Described]:
    """The network in an ONNX file; raises ProbeError, one line, where it is damaged or no DCGAN."""
    from probe.checkpoints.containers import require

    require("onnx", path)
    import onnx

    size = path.stat().st_size
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        nodes = len(model.graph.node)
        reader = _Reader(onnx, path, model.graph, size)
    except ProbeError:
        raise
    except Exception as error:  # a damaged file can be anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ProbeError(f"{path}: truncated or damaged ONNX file ({reason}); {_ADVICE}") from None
    if not 0 < nodes < 5000:
        raise ProbeError(f"{path}: an ONNX graph of {nodes} nodes, which is no DCGAN's; {_USE}")
    return [reader.network()]


class _Reader:
    """A graph, read node by node."""

    def __init__(self, onnx: Any, path: Path, graph: Any, size: int) -> None:
        self.onnx, self.path, self.graph, self.size = onnx, path, graph, size
        self.values: dict[str, Array | _Live] = {}
        self.ops: list[Op] = []
        self.base: tuple[int, ...] = ()  # the shape of the last layer's output
        self.version = 0
        self.condition: Condition | None = None
        self.leftover: list[str] = []
        self.assumed: list[str] = []
        self.image = self.batch = 0
        budget = 4 * size + 2**20
        for tensor in graph.initializer:
            budget -= 8 * math.prod(tensor.dims)
            if budget < 0 or any(n < 0 for n in tensor.dims):
                raise ProbeError(
                    f"{path}: {tensor.name} declares shape {tuple(tensor.dims)}, more than the file holds; {_ADVICE}"
                )
            self.values[tensor.name] = self._array(tensor)
        self._inputs([value for value in graph.input if value.name not in self.values])

    def _array(self, tensor: Any) -> Array:
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ProbeError(f"{self.path}: {tensor.name} lies in another file; refused; save the model in one file")
        if 8 * math.prod(tensor.dims) > 4 * self.size + 2**20:
            raise ProbeError(f"{self.path}: {tensor.name} declares more than the file holds; {_ADVICE}")
        array: Array = np.array(self.onnx.numpy_helper.to_array(tensor))
        return array

    def _inputs(self, inputs: Sequence[Any]) -> None:
        """The latent or the image, and beside it perhaps a label."""
        shapes: dict[str, tuple[int, ...]] = {}
        labels = []
        for value in inputs:
            kind = value.type.tensor_type
            dims = tuple(int(d.dim_value) for d in kind.shape.dim)
            if kind.elem_type in (self.onnx.TensorProto.INT64, self.onnx.TensorProto.INT32):
                labels.append(value.name)
            else:
                shapes[value.name] = dims
        if len(shapes) != 1 or len(labels) > 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise ProbeError(
                f"{self.path}: a graph of inputs {names}; expected latents or images, and at most a label; {_USE}"
            )
        (name, dims), *_ = shapes.items()
        rest = dims[1:]
        if len(dims) not in (2, 4) or any(not 0 < n < 2**16 for n in rest) or math.prod(rest) > _LARGEST:
            raise ProbeError(
                f"{self.path}: input {name} of shape {dims}; expected (N, nz) or (N, channels, size, size); {_USE}"
            )
        self.batch = dims[0]
        self.base = rest if len(rest) == 1 or rest[1:] != (1, 1) else rest[:1]
        if len(self.base) == 3:
            self.image = rest[1]
        index = np.arange(1, math.prod(rest) + 1, dtype=np.int64).reshape(1, *rest)
        self.values[name] = _Live(index, 0)
        for label in labels:
            self.values[label] = _Live(np.ones((1,), np.int64), 0, label=True)

    def network(self) -> Described:
        """The whole graph as a network."""
        used = {name for node in self.graph.node for name in node.input}
        for node in self.graph.node:
            try:
                self._node(node)
            except _Unknown as refusal:
                name = node.name or (node.output[0] if node.output else "")
                raise ProbeError(f"{self.path}: node {name}, {node.op_type}, {refusal}; {_USE}") from None
            except ProbeError:
                raise
            except Exception as error:  # shapes and attributes of a damaged file can be anything
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
                raise ProbeError(f"{self.path}: node {node.op_type} is damaged ({reason}); {_ADVICE}") from None
        outputs = [output.name for output in self.graph.output]
        lives = [self.values.get(name) for name in outputs if name not in used]
        if not any(isinstance(live, _Live) and live.version == self.version for live in lives):
            raise ProbeError(f"{self.path}: its output is not what its last layer gives; {_USE}")
        self._drop_scaling()
        facts = {"assumed": self.assumed, "leftover": self.leftover}
        made = network(self.path.name, self.ops, "ONNX", **facts)
        made.condition, made.size = self.condition, self.image if made.role == "discriminator" else 0
        return made

    def _drop_scaling(self) -> None:
        """Leave out what brings finished images from [-1, 1] to another range."""
        if len(self.ops) > 1 and self.ops[-1].kind == "norm" and self.ops[-1].settings["which"] == "batch":
            scaling, act = self.ops[-1], self.ops[-2]
            if act.kind == "act" and act.settings["which"] in ("tanh", "sigmoid") and scaling.source == "scaling":
                self.leftover.append(f"{scaling.name}, which scales finished images")
                self.ops.pop()

    # Nodes ---------------------------------------------------------------------------------------------------------

    def _node(self, node: Any) -> None:
        kind = node.op_type
        attributes = {a.name: a for a in node.attribute}
        inputs = [self.values.get(name) if name else None for name in node.input]
        if kind == "Constant":
            self.values[node.output[0]] = self._constant(attributes)
            return
        lives = [value for value in inputs if isinstance(value, _Live)]
        if not lives:
            self.values[node.output[0]] = self._folded(kind, inputs, attributes)
            return
        get = _Attributes(self.onnx, attributes)
        if any(live.label or live.table is not None for live in lives):
            self.values[node.output[0]] = self._labelled(kind, inputs, get)
            return
        live = lives[0]
        if kind == "Shape":
            self.values[node.output[0]] = np.array(live.index.shape, np.int64)
            return
        if any(one.version != self.version for one in lives):
            raise _Unknown("takes what an earlier layer gives: two branches")
        if kind in _PASSED:
            self.values[node.output[0]] = live
        elif kind in _MOVES:
            moved = _MOVES[kind](inputs, get, self.batch)
            if moved.size > _LARGEST:
                raise _Unknown(f"makes a value of {moved.size:,} numbers")
            self.values[node.output[0]] = _Live(moved, self.version)
        elif len(lives) == 1:
            self.values[node.output[0]] = self._layer(node, kind, live, inputs, get)
        else:
            raise _Unknown("joins two branches")

    def _constant(self, attributes: dict[str, Any]) -> Array:
        for name, attribute in attributes.items():
            if name == "value":
                return self._array(attribute.t)
            if name in ("value_int", "value_float", "value_ints", "value_floats"):
                return np.array(self.onnx.helper.get_attribute_value(attribute))
        raise _Unknown("holds no numbers")

    def _folded(self, kind: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> Array:
        """What a node gives whose inputs are all known."""
        get = _Attributes(self.onnx, attributes)
        rule = _KNOWN.get(kind)
        if rule is None or any(not isinstance(value, np.ndarray) for value in inputs if value is not None):
            raise _Unknown("is no part of a chain of layers")
        if kind == "ConstantOfShape" and math.prod(int(n) for n in inputs[0]) > _LARGEST:
            raise _Unknown("makes too large a value")
        result: Array = np.asarray(rule(inputs, get, 0))
        if result.size > _LARGEST:
            raise _Unknown(f"makes a value of {result.size:,} numbers")
        return result

    def _labelled(self, kind: str, inputs: Sequence[Any], get: _Attributes) -> _Live:
        """What is done to a label: looked up in a table, then multiplied with the latent or put beside it."""
        live = next(v for v in inputs if isinstance(v, _Live) and (v.label or v.table is not None))
        if kind == "Gather" and live.label and isinstance(inputs[0], np.ndarray) and inputs[0].ndim == 2:
            return replace(live, table=inputs[0], label=False)
        if kind in (*_PASSED, "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            return live
        latents = [v for v in inputs if isinstance(v, _Live) and v.table is None and not v.label]
        if live.table is None or len(latents) != 1 or self.ops or kind not in ("Mul", "Concat"):
            raise _Unknown("joins a label to feature maps, or in a way of its own")
        how = "multiply" if kind == "Mul" else "before" if inputs[0] is live else "behind"
        self.condition = Condition(how, torch.from_numpy(np.asarray(live.table, np.float32)), "embedding")
        width = self.base[0] + (0 if kind == "Mul" else live.table.shape[1])
        if kind == "Mul" and live.table.shape[1] != width:
            raise _Unknown("multiplies a label with a latent of another length")
        self.base, self.version = (width,), self.version + 1
        shape = (1, width, *latents[0].index.shape[2:])
        return _Live(np.arange(1, width + 1, dtype=np.int64).reshape(shape), self.version)

    # Layers ----------------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, name: str, shape: tuple[int, ...], tensors: dict[str, Array], **settings: Any) -> _Live:
        """Append an operation whose output has a shape."""
        held = {key: torch.from_numpy(np.ascontiguousarray(array)).float() for key, array in tensors.items()}
        self.ops.append(Op(kind, name, held, settings, "graph"))
        if math.prod(shape) > _LARGEST or min(shape) < 1:
            raise _Unknown(f"gives maps of shape {shape}")
        self.base, self.version = shape, self.version + 1
        return _Live(np.arange(1, math.prod(shape) + 1, dtype=np.int64).reshape(1, *shape), self.version)

    def _layer(self, node: Any, kind: str, live: _Live, inputs: Sequence[Any], get: _Attributes) -> _Live:
        name = node.name or node.output[0]
        known = [value for value in inputs if isinstance(value, np.ndarray)]
        if kind == "Conv":
            return self._conv(node.input[1], live, inputs, get)
        if kind == "ConvTranspose":
            return self._deconv(node.input[1], live, inputs, get)
        if kind in ("Gemm", "MatMul"):
            return self._linear(node.input[1], kind, live, inputs, get)
        if kind == "BatchNormalization":
            scale, bias, mean, var = inputs[1:5]
            tensors = {"weight": scale, "bias": bias, "mean": mean, "var": var}
            return self._pointwise("norm", name, live, tensors, which="batch", eps=get.number("epsilon", 1e-5))
        if kind == "InstanceNormalization":
            tensors = {"weight": inputs[1], "bias": inputs[2]}
            return self._pointwise("norm", name, live, tensors, which="instance", eps=get.number("epsilon", 1e-5))
        if kind in _ACTS:
            return self._pointwise("act", name, live, {}, which=_ACTS[kind])
        if kind == "LeakyRelu":
            return self._pointwise("act", name, live, {}, which="leaky", slope=get.number("alpha", 0.01))
        if kind == "Elu" and get.number("alpha", 1.0) == 1:
            return self._pointwise("act", name, live, {}, which="elu")
        if kind == "PRelu" and known:
            return self._pointwise("act", name, live, {"weight": known[0].ravel()}, which="prelu")
        if kind in ("Add", "Mul", "Sub", "Div") and known:
            return self._affine(name, kind, live, inputs, known[0])
        if kind in ("Resize", "Upsample"):
            return self._upsample(name, live, inputs, get)
        if kind == "MaxPool":
            window, strides = get.numbers("kernel_shape"), get.numbers("strides") or [1, 1]
            if len(set(window)) != 1 or window != strides or any(get.numbers("pads")) or get.number("ceil_mode", 0):
                raise _Unknown("pools with a stride other than its side, or with padding")
            live = self._arrange(live, 4)
            maps, side = live.index.shape[1], live.index.shape[2] // window[0]
            return self._emit("pool", name, (maps, side, side), {}, side=window[0])
        if kind == "GlobalAveragePool" or (kind == "ReduceMean" and live.index.ndim == 4):
            axes = get.numbers("axes") or ([int(n) for n in known[0].ravel()] if known else [2, 3])
            if {axis % 4 for axis in axes} != {2, 3}:
                raise _Unknown("averages over other axes than rows and columns")
            self._arrange(live, 4)
            shape = self.base[:1]
            out = self._emit("average", name, shape, {})
            return (
                _Live(out.index.reshape(1, *shape, 1, 1), out.version)
                if kind != "ReduceMean" or get.number("keepdims", 1)
                else out
            )
        raise _Unknown("is no layer of a DCGAN")

    def _conv(self, name: str, live: _Live, inputs: Sequence[Any], get: _Attributes) -> _Live:
        weight, bias = _kernel(inputs), inputs[2] if len(inputs) > 2 else None
        kernel, stride, pads = self._window(weight, get)
        live = self._arrange(live, 4)
        side = live.index.shape[2]
        out = (side + sum(pads) - kernel) // stride + 1
        if weight.shape[1] != live.index.shape[1] or out < 1:
            raise _Unknown(f"takes {weight.shape[1]} maps where the layer before gives {live.index.shape[1]}")
        tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
        settings = {"stride": stride, "before": pads[0], "after": pads[1]}
        return self._emit("conv", name, (weight.shape[0], out, out), tensors, **settings)

    def _deconv(self, name: str, live: _Live, inputs: Sequence[Any], get: _Attributes) -> _Live:
        weight, bias = _kernel(inputs), inputs[2] if len(inputs) > 2 else None
        kernel, stride, pads = self._window(weight, get, transposed=True)
        live = self._arrange(live, 4)
        side = live.index.shape[2]
        shape = get.numbers("output_shape")
        full = (side - 1) * stride + kernel
        if shape:
            total = full - shape[-1]
            before = total // 2 if get.text("auto_pad") != "SAME_LOWER" else total - total // 2
            pads = (before, total - before)
        else:
            pads = (pads[0], pads[1] - (get.numbers("output_padding") or [0])[0])
        out = full - sum(pads)
        if weight.shape[0] != live.index.shape[1]:
            raise _Unknown(f"takes {weight.shape[0]} maps where the layer before gives {live.index.shape[1]}")
        tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
        settings = {"stride": stride, "before": pads[0], "after": pads[1]}
        return self._emit("deconv", name, (weight.shape[1], out, out), tensors, **settings)

    def _window(self, weight: Array, get: _Attributes, transposed: bool = False) -> tuple[int, int, tuple[int, int]]:
        """A square kernel's side, stride, and what is padded before and after."""
        strides, dilations = get.numbers("strides") or [1, 1], get.numbers("dilations") or [1, 1]
        pads = get.numbers("pads") or [0, 0, 0, 0]
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or len(set(strides)) > 1 or set(dilations) != {1}:
            raise _Unknown("has no square kernel, or is dilated")
        if get.number("group", 1) != 1 or len(pads) != 4 or pads[0] != pads[1] or pads[2] != pads[3] or strides[0] < 1:
            raise _Unknown("is grouped, or pads rows and columns differently")
        auto = get.text("auto_pad")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            raise _Unknown(f"has auto_pad {auto}; export it with explicit pads")
        return weight.shape[2], strides[0], (pads[0], pads[2])

    def _linear(self, name: str, kind: str, live: _Live, inputs: Sequence[Any], get: _Attributes) -> _Live:
        weight = inputs[1]
        if not isinstance(weight, np.ndarray) or weight.ndim != 2 or not isinstance(inputs[0], _Live):
            raise _Unknown("multiplies with no matrix of weights")
        bias = inputs[2] if len(inputs) > 2 else None
        if kind == "Gemm":
            if get.number("transA", 0) or get.number("alpha", 1.0) != 1 or get.number("beta", 1.0) != 1:
                raise _Unknown("scales its product")
            weight = weight if get.number("transB", 0) else weight.T
        else:
            weight = weight.T
        live = self._arrange(live, 2)
        if weight.shape[1] != live.index.shape[1]:
            raise _Unknown(f"takes {weight.shape[1]} numbers where the layer before gives {live.index.shape[1]}")
        if bias is not None and np.size(bias) != weight.shape[0]:
            raise _Unknown("has a bias of another length")
        tensors = {"weight": weight} | ({} if bias is None else {"bias": np.ravel(bias)})
        return self._emit("linear", name, (weight.shape[0],), tensors)

    def _pointwise(self, kind: str, name: str, live: _Live, tensors: dict[str, Array], **settings: Any) -> _Live:
        """An operation on every number by itself, with one setting a map: it may stand behind whatever moved the numbers."""
        if any(not isinstance(array, np.ndarray) for array in tensors.values()):
            raise _Unknown("has no known weights")
        if len(self.base) == 1 and live.index.ndim == 4 and (tensors or not _same(live.index)):
            live = self._arrange(live, 4)
        keeps = kind == "act" and settings["which"] != "sigmoid"
        if not keeps and not live.index.all():
            raise _Unknown("follows zeros that were put between numbers")
        if kind == "norm" and not np.array_equal(
            self._maps(live), np.broadcast_to(_along(live.index), live.index.shape)
        ):
            raise _Unknown("normalises along another axis than that of the maps")
        index, base = live.index, self.base
        self._emit(kind, name, base, tensors, **settings)
        return _Live(index, self.version)

    def _maps(self, live: _Live) -> Array:
        """The map of the last layer that each number belongs to."""
        maps: Array = (live.index - 1) // max(1, math.prod(self.base[1:]))
        return maps

    def _affine(self, name: str, kind: str, live: _Live, inputs: Sequence[Any], known: Array) -> _Live:
        """A sum or product with known numbers, one a map: taken into the layer before where that is possible."""
        if len(self.base) == 1 and live.index.ndim == 4:
            live = self._arrange(live, 4)
        shape = np.broadcast_shapes(live.index.shape, known.shape)
        if shape != live.index.shape or not live.index.all() or not self.ops:
            raise _Unknown("is a sum or product of other shapes")
        numbers, maps = np.broadcast_to(known, shape).astype(np.float64), self._maps(live)
        values = np.zeros(self.base[0])
        values[maps.ravel()] = numbers.ravel()
        if not np.array_equal(values[maps], numbers):
            raise _Unknown("adds or multiplies by place")
        first = isinstance(inputs[0], _Live)
        if kind in ("Sub", "Div") and not first:
            raise _Unknown("subtracts from or divides a known number")
        gain = values if kind == "Mul" else 1 / values if kind == "Div" else np.ones_like(values)
        shift = values if kind == "Add" else -values if kind == "Sub" else np.zeros_like(values)
        last, index = self.ops[-1], live.index
        if last.kind in ("linear", "conv", "deconv"):
            rows = torch.from_numpy(gain).float()
            view = (1, -1, 1, 1) if last.kind == "deconv" else (-1, *[1] * (last.tensors["weight"].dim() - 1))
            bias = last.tensors.get("bias", torch.zeros(len(gain)))
            last.tensors = {
                "weight": last.tensors["weight"] * rows.view(view),
                "bias": bias * rows + torch.from_numpy(shift).float(),
            }
            self.version += 1
            return _Live(index, self.version)
        if last.kind == "norm" and last.settings["which"] == "batch":
            ones = torch.ones(len(gain))
            rows = torch.from_numpy(gain).float()
            last.tensors["weight"] = last.tensors.get("weight", ones) * rows
            last.tensors["bias"] = last.tensors.get("bias", 0 * ones) * rows + torch.from_numpy(shift).float()
            self.version += 1
            return _Live(index, self.version)
        tensors = {"weight": gain, "bias": shift, "mean": 0 * gain, "var": np.ones_like(gain)}
        self._emit("norm", name, self.base, tensors, which="batch", eps=0.0)
        self.ops[-1].source = "scaling"
        return _Live(index, self.version)

    def _upsample(self, name: str, live: _Live, inputs: Sequence[Any], get: _Attributes) -> _Live:
        live = self._arrange(live, 4)
        maps, side, _ = self.base
        known = [value for value in inputs[1:] if isinstance(value, np.ndarray) and value.size == 4]
        if not known and get.numbers("scales"):
            known = [np.array(get.floats("scales"))]
        if not known:
            raise _Unknown("does not say by how much")
        numbers = [float(n) for n in known[-1]]
        factor = numbers[2] if known[-1].dtype.kind == "f" else numbers[2] / side
        mode, how = get.text("mode") or "nearest", get.text("coordinate_transformation_mode") or "half_pixel"
        if numbers[2] != numbers[3] or factor != int(factor) or not 1 <= factor <= 64:
            raise _Unknown(f"enlarges by {factor:g}")
        if mode not in ("nearest", "linear") or (mode == "linear" and how not in ("half_pixel", "pytorch_half_pixel")):
            raise _Unknown(f"interpolates by {mode} ({how})")
        if mode == "nearest" and how == "align_corners":
            raise _Unknown("aligns corners")
        out = side * int(factor)
        words = "bilinear" if mode == "linear" else "nearest"
        return self._emit("upsample", name, (maps, out, out), {}, factor=int(factor), mode=words)

    # What moved the numbers ------------------------------------------------------------------------------------------

    def _arrange(self, live: _Live, dims: int) -> _Live:
        """Operations for how numbers moved since the last layer, so that what follows takes them as (1, F) or (1, C, H, W)."""
        index = live.index
        if index.ndim != dims or index.shape[0] != 1:
            raise _Unknown(f"takes {index.ndim} dimensions")
        if dims == 2:
            return self._flattened(index)
        _, maps, height, width = index.shape
        if height != width:
            raise _Unknown(f"takes maps of {height} x {width}")
        if len(self.base) == 1:
            return self._folded_into(index, maps, height)
        if maps != self.base[0]:
            raise _Unknown(f"takes {maps} maps where the layer before gives {self.base[0]}")
        area = self.base[1] * self.base[2]
        offsets = (np.arange(maps) * area)[:, None, None]
        pattern = np.where(index[0] > 0, index[0] - offsets, 0)
        if (pattern != pattern[:1]).any() or pattern.max() > area or pattern.min() < 0:
            raise _Unknown("takes numbers that moved between maps")
        return self._moved(pattern[0], maps)

    def _flattened(self, index: Array) -> _Live:
        order = index[0] - 1
        if math.prod(self.base) != order.size or not np.array_equal(np.sort(order), np.arange(order.size)):
            raise _Unknown("takes only some of the numbers before it")
        plain = np.array_equal(order, np.arange(order.size))
        if len(self.base) == 1:
            if not plain:
                raise _Unknown("takes numbers in another order")
            return _Live(index, self.version)
        tensors = {} if plain else {"order": np.argsort(order)}
        out = self._emit("flatten", "flatten", (order.size,), {})
        self.ops[-1].tensors = {key: torch.from_numpy(value) for key, value in tensors.items()}
        return out

    def _folded_into(self, index: Array, maps: int, side: int) -> _Live:
        order = index.ravel() - 1
        if np.array_equal(np.sort(order), np.arange(self.base[0])):
            settings = {"maps": maps, "side": side}
            out = self._emit("fold", "fold", (maps, side, side), {}, **settings)
            self.ops[-1].tensors = {"order": torch.from_numpy(order.copy())}
            return out
        centre = index[0].max((1, 2)) if maps == self.base[0] else np.zeros(0)
        pattern = (index[0] > 0).astype(np.int64)
        if np.array_equal(centre, np.arange(1, maps + 1)) and (pattern == pattern[:1]).all() and pattern[0].sum() == 1:
            if self.ops:
                self._emit("fold", "fold", (maps, 1, 1), {}, maps=maps, side=1)
            self.base = (maps, 1, 1)
            return self._moved(pattern[0], maps)
        raise _Unknown("folds only some of the numbers before it")

    def _moved(self, pattern: Array, maps: int) -> _Live:
        """Operations for where the places of maps went: `pattern` (H', W') holds their numbers from 1 on, 0 where zeros are."""
        side = self.base[1]
        rows = np.where(pattern.any(1), (pattern.max(1) - 1) // side, -1)
        columns = np.where(pattern.any(0), (pattern.max(0) - 1) % side, -1)
        outer = np.where((rows >= 0)[:, None] & (columns >= 0), rows[:, None] * side + columns + 1, 0)
        if not np.array_equal(outer, pattern) or not np.array_equal(rows, columns):
            raise _Unknown("takes maps whose rows and columns moved differently")
        places = np.flatnonzero(rows >= 0)
        values, length = rows[places], len(rows)
        if not len(places):
            raise _Unknown("takes zeros alone")
        steps, gaps = np.diff(values), np.diff(places)
        if np.array_equal(rows, np.arange(side)):
            return self._fresh((maps, side, side))
        factor = length // side if length % side == 0 else 0
        if factor > 1 and np.array_equal(rows, np.repeat(np.arange(side), factor)):
            return self._emit("upsample", "repeat", (maps, length, length), {}, factor=factor, mode="nearest")
        if (steps != 1).any() or len(set(gaps.tolist())) > 1:
            raise _Unknown("takes maps whose rows moved in a way of their own")
        cut = int(values[0]), side - 1 - int(values[-1])
        stride = int(gaps[0]) if len(gaps) else 1
        before, after = int(places[0]), length - 1 - int(places[-1])
        if any(cut):
            left = side - sum(cut)
            self._emit("pad", "crop", (maps, left, left), {}, before=-cut[0], after=-cut[1])
        if stride > 1:
            return self._emit("spread", "zeros", (maps, length, length), {}, stride=stride, before=before, after=after)
        if before or after:
            return self._emit("pad", "pad", (maps, length, length), {}, before=before, after=after)
        return self._fresh((maps, length, length))

    def _fresh(self, shape: tuple[int, ...]) -> _Live:
        return _Live(np.arange(1, math.prod(shape) + 1, dtype=np.int64).reshape(1, *shape), self.version)


def _kernel(inputs: Sequence[Any]) -> Array:
    if not isinstance(inputs[1], np.ndarray) or inputs[1].ndim != 4:
        raise _Unknown("has no known kernel of four dimensions")
    return inputs[1]


def _same(index: Array) -> bool:
    return bool(np.array_equal(index.ravel(), np.arange(1, index.size + 1)))


def _along(index: Array) -> Array:
    """The number of each place along the axis of maps."""
    return np.arange(index.shape[1]).reshape(1, -1, *[1] * (index.ndim - 2))


class _Attributes:
    """A node's attributes."""

    def __init__(self, onnx: Any, attributes: dict[str, Any]) -> None:
        self.onnx, self.held = onnx, attributes

    def value(self, name: str) -> Any:
        """An attribute as Python has it, or None."""
        attribute = self.held.get(name)
        return None if attribute is None else self.onnx.helper.get_attribute_value(attribute)

    def number(self, name: str, usual: float) -> float:
        """A number, or the usual one where there is none."""
        value = self.value(name)
        return usual if value is None else value

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers, empty where there is none."""
        return [int(n) for n in self.value(name) or []]

    def floats(self, name: str) -> list[float]:
        """A list of numbers, empty where there is none."""
        return [float(n) for n in self.value(name) or []]

    def text(self, name: str) -> str:
        """A text, empty where there is none."""
        value = self.value(name)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


# Where numbers go: the same rules for values that depend on the input (by their indices) and for known ones.


def _array_of(value: Any) -> Array:
    if isinstance(value, _Live):
        return value.index
    if not isinstance(value, np.ndarray):
        raise _Unknown("lacks an input")
    return value


def _axes(inputs: Sequence[Any], get: _Attributes) -> list[int]:
    return get.numbers("axes") or ([int(n) for n in _array_of(inputs[1]).ravel()] if len(inputs) > 1 else [])


def _reshape(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    data = _array_of(inputs[0])
    target = [int(n) for n in _array_of(inputs[1]).ravel()] if len(inputs) > 1 else get.numbers("shape")
    target = [data.shape[i] if n == 0 and i < data.ndim else n for i, n in enumerate(target)]
    if batch > 1 and target and target[0] == batch:
        target[0] = 1  # the batch that the graph was traced with
    return data.reshape(target)


def _concat(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    parts = []
    for value in inputs:
        if isinstance(value, np.ndarray) and any(isinstance(other, _Live) for other in inputs):
            if value.any():
                raise _Unknown("puts known numbers beside others")
            parts.append(np.zeros(value.shape, np.int64))
        else:
            parts.append(_array_of(value))
    return np.concatenate(parts, int(get.number("axis", 0)))


def _pad(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    data = _array_of(inputs[0])
    pads = get.numbers("pads") or [int(n) for n in _array_of(inputs[1]).ravel()]
    value = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.array(get.number("value", 0.0))
    if (get.text("mode") or "constant") != "constant" or np.any(value) or len(pads) != 2 * data.ndim or len(inputs) > 3:
        raise _Unknown("pads with other than zeros")
    if max(pads) > 2**12:
        raise _Unknown(f"pads by {max(pads)}")
    for axis, (before, after) in enumerate(zip(pads[: data.ndim], pads[data.ndim :], strict=True)):
        cut = slice(max(0, -before), data.shape[axis] - max(0, -after))
        data = data[(slice(None),) * axis + (cut,)]
    widths = [(max(0, a), max(0, b)) for a, b in zip(pads[: data.ndim], pads[data.ndim :], strict=True)]
    if math.prod(n + sum(w) for n, w in zip(data.shape, widths, strict=True)) > _LARGEST:
        raise _Unknown("pads to too large a value")
    return np.pad(data, widths)


def _slice(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    data = _array_of(inputs[0])
    if len(inputs) > 2:
        starts, ends = ([int(n) for n in _array_of(value).ravel()] for value in inputs[1:3])
        axes = [int(n) for n in _array_of(inputs[3]).ravel()] if len(inputs) > 3 and inputs[3] is not None else []
        steps = [int(n) for n in _array_of(inputs[4]).ravel()] if len(inputs) > 4 and inputs[4] is not None else []
    else:
        starts, ends, axes, steps = get.numbers("starts"), get.numbers("ends"), get.numbers("axes"), []
    cuts = [slice(None)] * data.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[i] if steps else 1
        cuts[axes[i] if axes else i] = slice(start, None if step < 0 and end < -(2**31) else end, step)
    return data[tuple(cuts)]


def _squeeze(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    axes = _axes(inputs, get)
    return np.squeeze(_array_of(inputs[0]), tuple(axes) if axes else None)


def _unsqueeze(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    return np.expand_dims(_array_of(inputs[0]), tuple(_axes(inputs, get)))


def _flatten(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    data, axis = _array_of(inputs[0]), int(get.number("axis", 1))
    return data.reshape(math.prod(data.shape[:axis]), -1)


def _transpose(inputs: Sequence[Any], get: _Attributes, batch: int) -> Array:
    return _array_of(inputs[0]).transpose(get.numbers("perm") or None)


_Rule = Callable[[Sequence[Any], _Attributes, int], Any]
_MOVES: dict[str, _Rule] = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
}
_KNOWN: dict[str, _Rule] = _MOVES | {
    "Identity": lambda inputs, get, batch: inputs[0],
    "Cast": lambda inputs, get, batch: inputs[0],
    "Shape": lambda inputs, get, batch: np.array(inputs[0].shape, np.int64),
    "Gather": lambda inputs, get, batch: np.take(inputs[0], inputs[1].astype(np.int64), int(get.number("axis", 0))),
    "Add": lambda inputs, get, batch: inputs[0] + inputs[1],
    "Sub": lambda inputs, get, batch: inputs[0] - inputs[1],
    "Mul": lambda inputs, get, batch: inputs[0] * inputs[1],
    "Div": lambda inputs, get, batch: inputs[0] // inputs[1] if inputs[0].dtype.kind in "iu" else inputs[0] / inputs[1],
    "Floor": lambda inputs, get, batch: np.floor(inputs[0]),
    "Sqrt": lambda inputs, get, batch: np.sqrt(inputs[0]),
    "ConstantOfShape": lambda inputs, get, batch: np.zeros([int(n) for n in inputs[0]]),
}
