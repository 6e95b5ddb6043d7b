"""TensorFlow checkpoints (.index beside .data-…) as described networks, without TensorFlow.

    read(path)    the networks in the checkpoint that an .index file lists

An .index file is a sorted table (LevelDB's format) from names to where each array lies in the .data files. Names come from
the objects that were saved, generator/layer_with_weights-0/kernel/…; a network's layers are in that order, their kinds
follow from their shapes, and what only code says (strides, activations) is the usual one that fits the statistics, as with
Keras weights alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.described import Described
from probe.checkpoints.keras import LEAVES, WeightLayer, network_of

_MAGIC = 0xDB4775248B80FB57
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
_MAX_ENTRIES = 20_000
_CONVERT = "where the model was built, after restoring it, run generator.save('generator.h5') and pass that file"
_NAME = re.compile(r"(?:(.*)/)?layer(?:_with_weights)?-(\d+)/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE")


class _DamagedError(Exception):
    """Why a checkpoint cannot be read."""


def read(path: Path) -> list[Described]:
    """The networks of a checkpoint; raises ProbeError, one line, where it is damaged or holds none that can be read."""
    try:
        arrays = _arrays(path)
        models: dict[str, dict[int, dict[str, Tensor]]] = {}
        for name, array in arrays.items():
            if match := _NAME.fullmatch(name):
                leaf = LEAVES.get(match[3], match[3])
                models.setdefault(match[1] or "", {}).setdefault(int(match[2]), {})[leaf] = array
        older = {} if models else _by_scope(arrays)
        if not models and not older:
            shown = ", ".join(list(arrays)[:3]) or "nothing"
            raise ProbeError(f"{path}: a TensorFlow checkpoint without Keras layers (found {shown}); {_CONVERT}")
        found: list[Described] = []
        failures: list[ProbeError] = []
        for model, layers in models.items():
            try:
                place = f"{path.name}/{model}" if model else path.name
                found.append(network_of(place, _layers(place, [layers[at] for at in sorted(layers)])))
            except ProbeError as error:
                failures.append(error)
        for model, named in older.items():
            try:
                found.append(network_of(f"{path.name}/{model}", _in_order(f"{path.name}/{model}", named)))
            except ProbeError as error:
                failures.append(error)
    except _DamagedError as error:
        raise ProbeError(f"{path}: damaged TensorFlow checkpoint ({error}); fetch all of its files again") from None
    except OSError as error:
        raise ProbeError(f"{path}: its data cannot be read ({error.strerror}); fetch all of its files again") from None
    except ProbeError:
        raise
    except Exception as error:  # a damaged table can hold anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise ProbeError(f"{path}: damaged TensorFlow checkpoint ({reason}); fetch all of its files again") from None
    if not found:
        raise failures[0]
    return found


_LEAVES_1 = {"Matrix": "kernel", "w": "kernel", "weights": "kernel", "W": "kernel", "biases": "bias", "b": "bias"}


def _by_scope(arrays: dict[str, Tensor]) -> dict[str, dict[str, dict[str, Tensor]]]:
    """The layers of each model in a checkpoint of TensorFlow 1, whose names are model/layer/array; optimizers left out."""
    models: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, array in arrays.items():
        parts = name.split("/")
        if len(parts) < 3 or "Adam" in name or "RMSProp" in name or "ExponentialMovingAverage" in name:
            continue
        leaf = _LEAVES_1.get(parts[-1], LEAVES.get(parts[-1], ""))
        if leaf:
            models.setdefault(parts[0], {}).setdefault("/".join(parts[1:-1]), {})[leaf] = array
    return models


def _in_order(place: str, named: dict[str, dict[str, Tensor]]) -> list[WeightLayer]:
    """Layers in the order of the numbers in their names, each with the norm of its width behind it."""

    def rank(name: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", name.replace("conv2d", ""))] or [0]

    kernels = {name: held for name, held in named.items() if "kernel" in held}
    order = sorted(kernels, key=rank)
    if not any(re.search(r"_h\d", name) for name in order):  # tf.layers counts each class by itself
        flat = [name for name in order if kernels[name]["kernel"].dim() == 2]
        rest = [name for name in order if name not in flat]
        draws = "gen" in place.rpartition("/")[2].lower()
        order = [*flat, *rest] if draws else [*rest, *flat]
    layers = _layers(place, [kernels[name] for name in order])
    norms = sorted((name for name in named if name not in kernels), key=rank)
    if any("mean" not in named[name] for name in norms):
        raise ProbeError(f"{place}: BatchNorm without statistics in the checkpoint; {_CONVERT}")
    found: list[WeightLayer] = []
    for name, layer in zip(order, layers, strict=True):
        found.append(WeightLayer(name, layer.kind, layer.held))
        shape = layer.kernel.shape
        width = shape[2] if layer.kind == "deconv" else shape[-1]
        following = [later.kernel for later in layers[layers.index(layer) + 1 :]][:1]
        maps = following[0].shape[3] if following and following[0].dim() == 4 else 0
        fits = [
            norm for norm in norms if named[norm]["mean"].numel() in (width, maps if layer.kind == "linear" else width)
        ]
        if fits:
            norms.remove(fits[0])
            found.append(WeightLayer(fits[0], "norm", named[fits[0]], 1e-5 if "_bn" in fits[0] else 1e-3))
    if norms:
        raise ProbeError(f"{place}: {norms[0]} normalises no layer's maps; {_CONVERT}")
    return found


def _layers(place: str, held: list[dict[str, Tensor]]) -> list[WeightLayer]:
    """Layers with their kinds, by their shapes: which of its two numbers of maps a convolution takes, its neighbours say."""
    layers: list[WeightLayer] = []
    draws = all(tensors["kernel"].dim() == 2 for tensors in held[:1] if "kernel" in tensors)
    before = 0
    for i, tensors in enumerate(held):
        kernel = tensors.get("kernel")
        if kernel is None:
            kind = "norm" if "mean" in tensors else "table" if "table" in tensors else ""
        elif kernel.dim() == 2:
            kind = "linear"
            before = kernel.shape[1] if not draws or i + 1 == len(held) else 0
        elif kernel.dim() == 4:
            out, inputs = kernel.shape[2], kernel.shape[3]
            kind = "deconv" if draws and (before in (0, inputs)) else "conv"
            if draws and before == 0:
                following = [t["kernel"] for t in held[i + 1 :] if "kernel" in t]
                turned = bool(following) and following[0].dim() == 4 and following[0].shape[2] == inputs != out
                kind = "conv" if turned and following[0].shape[3] != out else "deconv"
            before = out if kind == "deconv" else inputs
        else:
            kind = ""
        if not kind:
            raise ProbeError(f"{place}: layer {i} ({', '.join(tensors)}) is none of a DCGAN; {_CONVERT}")
        layers.append(WeightLayer(f"layer {i}", kind, tensors))
    return layers


# The table -----------------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _DamagedError("a number that does not end")
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 128:
            return value, at


def _entries(data: bytes, place: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The names and values in a block, whose names leave out what they share with the one before."""
    start, size = place
    if start + size + 5 > len(data):
        raise _DamagedError("a block beyond its end")
    if data[start + size] != 0:
        raise _DamagedError("compressed names")
    block = data[start : start + size]
    if size < 4 or (count := int.from_bytes(block[-4:], "little")) * 4 + 4 > size:
        raise _DamagedError("a block without an end")
    end, at, name = size - 4 - 4 * count, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(name) or at + fresh + length > end or shared + fresh > 4096:
            raise _DamagedError("a name beyond its block")
        name = name[:shared] + block[at : at + fresh]
        yield name, block[at + fresh : at + fresh + length]
        at += fresh + length


def _handle(data: bytes, at: int = 0) -> tuple[tuple[int, int], int]:
    start, at = _varint(data, at)
    size, at = _varint(data, at)
    return (start, size), at


def _table(data: bytes) -> dict[str, bytes]:
    if len(data) < 48 or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise _DamagedError("no table of names")
    footer = data[-48:]
    _, at = _handle(footer)
    index, _ = _handle(footer, at)
    found: dict[str, bytes] = {}
    for _, value in _entries(data, index):
        for name, held in _entries(data, _handle(value)[0]):
            found[name.decode("utf-8", "replace")] = held
            if len(found) > _MAX_ENTRIES:
                raise _DamagedError(f"more than {_MAX_ENTRIES:,} names")
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: numbers and bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif kind == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise _DamagedError(f"a field of kind {kind}")


def _arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a checkpoint by name, optimizers left out; each is read where the table says, if it is there."""
    arrays: dict[str, Tensor] = {}
    shards: dict[int, Path] = {}
    total = sum(1 for _ in path.parent.glob(f"{path.stem}.data-*"))
    for at in range(total):
        shards[at] = path.with_name(f"{path.stem}.data-{at:05d}-of-{total:05d}")
    budget = sum(shard.stat().st_size for shard in shards.values() if shard.is_file()) + 2**20
    for name, held in _table(path.read_bytes()).items():
        if not name or ".OPTIMIZER_SLOT" in name or not ("VARIABLE_VALUE" in name or "/.ATTRIBUTES" not in name):
            continue
        numbers: dict[int, int] = {}
        shape: list[int] = []
        for key, value in _fields(held):
            if key == 2 and isinstance(value, bytes):
                sizes = [
                    dict(_fields(dim)).get(1, 0)
                    for field, dim in _fields(value)
                    if field == 2 and isinstance(dim, bytes)
                ]
                shape = [size for size in sizes if isinstance(size, int)]
            elif isinstance(value, int):
                numbers[key] = value
        dtype = _DTYPES.get(numbers.get(1, 0))
        if dtype is None:
            continue  # a text, such as the graph of objects
        size, offset = numbers.get(5, 0), numbers.get(4, 0)
        budget -= size
        if len(shape) > 6 or math.prod(shape) * np.dtype(dtype).itemsize != size or budget < 0:
            raise _DamagedError(f"{name} declares shape {tuple(shape)} and {size:,} bytes")
        shard = shards.get(numbers.get(3, 0))
        if shard is None or not shard.is_file():
            raise _DamagedError(f"its file {path.stem}.data-{numbers.get(3, 0):05d}-of-… is not beside it")
        with shard.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise _DamagedError(f"{name} lies beyond the end of {shard.name}")
        array = np.frombuffer(data, dtype).reshape(shape)
        arrays[name] = torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
    return arrays
