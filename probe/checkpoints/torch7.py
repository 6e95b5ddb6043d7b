"""Torch7 files (.t7, the format of the authors' own port to Lua) as described networks.

    read(path)    the networks in a file

The format is torch7's binary serialisation: a type (int32), then a number (double), a string (its length, its bytes), a
boolean (int32), a table (its index, its size, keys and values) or an object (its index, "V 1", its class, its content);
what was met before is its index alone. Tensors hold shape, strides, an offset from 1 on and a storage.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.described import Described, Op, network

_ADVICE = "expected a binary .t7 file of torch.save(filename, netG); fetch or save it again"
_USE = "open it with `model` pkg.module:factory"
_TYPES = {"Float": "f4", "Double": "f8", "Cuda": "f4", "CudaDouble": "f8", "Long": "i8", "Int": "i4", "Short": "i2"}
_TYPES |= {"Char": "i1", "Byte": "u1", "CudaLong": "i8", "CudaHalf": "f2", "Half": "f2"}
_ACTS = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "ELU": "elu"}
_PASSED = ("Identity", "Dropout", "SpatialDropout", "Copy", "Contiguous", "View", "Reshape")
_MAX_ITEMS = 200_000


class _DamagedError(Exception):
    """Why a file cannot be read."""


@dataclass(eq=False)
class _Item:
    """An object: its class and what it holds."""

    kind: str
    held: Any = field(default_factory=dict)


class _Reader:
    """The values in a file, one after another."""

    def __init__(self, data: bytes) -> None:
        self.file, self.left = io.BytesIO(data), len(data)
        self.seen: dict[int, Any] = {}
        self.items = self.depth = 0

    def take(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + form)
        data = self.file.read(size)
        if len(data) < size:
            raise _DamagedError("it ends too early")
        return struct.unpack("<" + form, data)

    def text(self) -> str:
        (length,) = self.take("i")
        if not 0 <= length <= self.left:
            raise _DamagedError(f"a string of {length:,} bytes")
        return self.file.read(length).decode("utf-8", "replace")

    def value(self) -> Any:
        self.items += 1
        self.depth += 1
        if self.items > _MAX_ITEMS or self.depth > 200:
            raise _DamagedError("more values than a network has, or nested too deep")
        try:
            return self._value()
        finally:
            self.depth -= 1

    def _value(self) -> Any:
        (kind,) = self.take("i")
        if kind == 0:
            return None
        if kind == 1:
            return self.take("d")[0]
        if kind == 2:
            return self.text()
        if kind == 5:
            return bool(self.take("i")[0])
        if kind in (6, 7, 8):
            raise _DamagedError("a function, which is code")
        if kind not in (3, 4):
            raise _DamagedError(f"a value of type {kind}")
        (index,) = self.take("i")
        if index in self.seen:
            return self.seen[index]
        if kind == 3:
            table: dict[Any, Any] = {}
            self.seen[index] = table
            return self.table(table)
        version = self.text()
        return self.object(index, self.text() if version.startswith("V ") else version)

    def table(self, table: dict[Any, Any]) -> dict[Any, Any]:
        (size,) = self.take("i")
        if not 0 <= size <= _MAX_ITEMS:
            raise _DamagedError(f"a table of {size:,} entries")
        for _ in range(size):
            key, value = self.value(), self.value()
            table[key if isinstance(key, str | float | bool) else id(key)] = value
        return table

    def object(self, index: int, kind: str) -> Any:
        name = kind.removeprefix("torch.")
        if name.endswith("Storage") and name.removesuffix("Storage") in _TYPES:
            dtype = np.dtype("<" + _TYPES[name.removesuffix("Storage")])
            (count,) = self.take("q")
            if not 0 <= count <= self.left // dtype.itemsize:
                raise _DamagedError(f"a storage of {count:,} numbers")
            data = self.file.read(count * dtype.itemsize)
            if len(data) < count * dtype.itemsize:
                raise _DamagedError("it ends too early")
            self.seen[index] = np.frombuffer(data, dtype)
            return self.seen[index]
        if name.endswith("Tensor") and name.removesuffix("Tensor") in _TYPES:
            self.seen[index] = None
            self.seen[index] = self.tensor()
            return self.seen[index]
        item = _Item(kind)
        self.seen[index] = item
        item.held = self.value()
        return item

    def tensor(self) -> Tensor | None:
        (dims,) = self.take("i")
        if not 0 <= dims <= 8:
            raise _DamagedError(f"a tensor of {dims} dimensions")
        shape, strides = self.take(f"{dims}q"), self.take(f"{dims}q")
        (offset,) = self.take("q")
        storage = self.value()
        if not isinstance(storage, np.ndarray) or not dims:
            return None
        count = math.prod(shape)
        if min(*shape, *strides, offset - 1) < 0 or count > len(storage):
            raise _DamagedError(f"a tensor of shape {shape} has too little data behind it")
        span = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if count and span > len(storage):
            raise _DamagedError(f"a tensor of shape {shape} has too little data behind it")
        whole = storage.astype(np.float32 if storage.dtype.kind == "f" else np.int64)
        return torch.from_numpy(whole).as_strided(shape, strides, offset - 1).clone()


def read(path: Path) -> list[Described]:
    """The networks in a file; raises ProbeError, one line, where it is damaged or holds none."""
    try:
        tree = _Reader(path.read_bytes()).value()
        found: list[Described] = []
        failures: list[ProbeError] = []
        _collect(path.name, tree, found, failures, set())
    except _DamagedError as error:
        raise ProbeError(f"{path}: damaged or no Torch7 file ({error}); {_ADVICE}") from None
    except ProbeError:
        raise
    except Exception as error:  # a damaged file can hold anything anywhere
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise ProbeError(f"{path}: damaged Torch7 file ({reason}); {_ADVICE}") from None
    if not found:
        kind = tree.kind if isinstance(tree, _Item) else type(tree).__name__
        raise failures[0] if failures else ProbeError(f"{path}: no network in it (found {kind}); {_ADVICE}")
    return found


def _collect(place: str, node: Any, found: list[Described], failures: list[ProbeError], seen: set[int]) -> None:
    """The networks that a value is, or that its parts are."""
    if id(node) in seen or len(seen) > 1000:
        return
    seen.add(id(node))
    if isinstance(node, _Item) and _class(node) == "Sequential":
        ops: list[Op] = []
        try:
            _walk(place, node, "", ops, set())
            found.append(network(place, ops, "Torch7"))
            return
        except ProbeError as error:
            failures.append(error)
    held = node.held if isinstance(node, _Item) else node
    if isinstance(held, dict):
        for key, value in held.items():
            if isinstance(value, _Item | dict):
                _collect(f"{place}/{key}", value, found, failures, seen)


def _class(item: _Item) -> str:
    return item.kind.rpartition(".")[2]


def _walk(place: str, item: _Item, name: str, ops: list[Op], above: set[int]) -> None:
    """The operations of a module and of those in it."""
    kind, held = _class(item), item.held
    if not isinstance(held, dict) or id(item) in above or len(ops) > 500:
        raise ProbeError(f"{place}: {name or 'the module'}, a {item.kind}, is damaged; {_ADVICE}")
    if kind == "Sequential":
        listed = held.get("modules")
        parts = listed if isinstance(listed, dict) else {}
        for i in range(len(parts)):
            part = parts.get(float(i + 1))
            if not isinstance(part, _Item):
                raise ProbeError(f"{place}: {name or 'the module'} lacks its part {i + 1}; {_ADVICE}")
            _walk(place, part, f"{name}.{i + 1}" if name else str(i + 1), ops, above | {id(item)})
        return
    ops += _operations(place, name, kind, held)


def _operations(place: str, name: str, kind: str, held: dict[Any, Any]) -> list[Op]:
    def number(key: str, usual: float = 0) -> int:
        value = held.get(key, usual)
        if not isinstance(value, int | float) or value != int(value) or abs(value) > 2**20:
            raise ProbeError(f"{place}: {name}, a {kind}, has {key} {value!r}; {_ADVICE}")
        return int(value)

    def square(*keys: str, usual: float = 0) -> int:
        values = {number(key, usual) for key in keys}
        if len(values) > 1:
            raise ProbeError(f"{place}: {name}, a {kind}, is not square ({', '.join(keys)} differ); {_USE}")
        return values.pop()

    tensors = {key: held[key] for key in ("weight", "bias") if isinstance(held.get(key), Tensor)}
    source = "Torch7 module"
    if kind in _ACTS:
        return [Op("act", name, settings={"which": _ACTS[kind]}, source=source)]
    if kind == "LeakyReLU":
        return [Op("act", name, settings={"which": "leaky", "slope": float(held.get("negval", 0.01))}, source=source)]
    if kind == "PReLU":
        return [Op("act", name, tensors, {"which": "prelu"}, source)]
    if kind in _PASSED:
        return []
    if kind == "Linear":
        return [Op("linear", name, tensors, {}, source)]
    if kind in ("SpatialConvolution", "SpatialConvolutionMM", "SpatialFullConvolution"):
        kernel, stride, padding = square("kW", "kH", usual=1), square("dW", "dH", usual=1), square("padW", "padH")
        transposed = kind == "SpatialFullConvolution"
        weight = tensors.get("weight")
        if weight is not None and weight.dim() == 2 and kernel > 0 and weight.shape[1] % kernel**2 == 0:
            tensors["weight"] = weight.view(len(weight), -1, kernel, kernel)
        after = padding - (square("adjW", "adjH") if transposed else 0)
        settings = {"stride": stride, "before": padding, "after": after}
        return [Op("deconv" if transposed else "conv", name, tensors, settings, source)]
    if kind in ("SpatialBatchNormalization", "BatchNormalization"):
        eps = float(held.get("eps", 1e-5))
        statistics = {
            new: held[old]
            for old, new in (("running_mean", "mean"), ("running_var", "var"))
            if isinstance(held.get(old), Tensor)
        }
        if "var" not in statistics and isinstance(held.get("running_std"), Tensor):  # old files: 1 / sqrt(var + eps)
            statistics["var"] = held["running_std"].double().pow(-2).sub(eps).float()
        return [Op("norm", name, tensors | statistics, {"which": "batch", "eps": eps}, source)]
    if kind == "SpatialUpSamplingNearest":
        return [Op("upsample", name, settings={"factor": number("scale_factor", 2), "mode": "nearest"}, source=source)]
    raise ProbeError(f"{place}: {name}, a {kind}, is no layer of a DCGAN; {_USE}")
