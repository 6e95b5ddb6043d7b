"""TorchScript archives as described networks: the code in them is parsed and followed, never run.

    read(path)    the network in an archive

The code says which layers run in which order and with which settings; the weights lie beside it. Only straight lines of
known operations are followed.
"""

from __future__ import annotations

import ast
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints import modules
from probe.checkpoints.described import Described, Op, network
from probe.checkpoints.inert import Name, Object, read_torch
from probe.checkpoints.weightfiles import names_in

_ADVICE = "fetch or save it again"
_USE = "open it with `model` pkg.module:factory"
_SHAPING = (
    *("view", "reshape", "flatten", "unsqueeze", "squeeze", "contiguous", "dropout", "dropout_", "_unsafe_view", "to"),
    *("feature_dropout", "detach", "unflatten", "alpha_dropout"),
)
_ACTS = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "selu": "selu",
    "elu": "elu",
    "gelu": "gelu",
    "silu": "silu",
}
_MAX_CODE = 2**20


@dataclass(frozen=True)
class _Flow:
    """What runs through the network, after so many operations."""

    step: int


class _Refused(Exception):  # noqa: N818
    """What in the code is none of a chain of layers."""


def read(path: Path) -> list[Described]:
    """The network in an archive; raises ProbeError, one line, where it is damaged or no chain of known layers."""
    names_in(path)  # refuses bombs
    module = read_torch(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.partition("/code/")[2]: entry for entry in archive.infolist()}
            wanted = {name: entry for name, entry in entries.items() if name.endswith(".py") and len(name) < 300}
            if sum(entry.file_size for entry in wanted.values()) > _MAX_CODE:
                raise _Refused("holds more code than a DCGAN")
            classes = _classes({name: archive.read(entry).decode("utf-8", "replace") for name, entry in wanted.items()})
        if not isinstance(module, Object):
            raise _Refused(f"holds a {type(module).__name__}, no module")
        follower = _Follower(classes)
        result = follower.module("", module, [_Flow(0)], 0)
        if result != _Flow(len(follower.ops)):
            raise _Refused("returns something else than its last layer gives")
    except _Refused as refusal:
        raise ProbeError(f"{path}: a TorchScript archive that {refusal}; {_USE}") from None
    except ProbeError:
        raise
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ProbeError(f"{path}: truncated or damaged TorchScript archive ({reason}); {_ADVICE}") from None
    except Exception as error:  # code that is damaged can be anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise ProbeError(f"{path}: damaged TorchScript archive ({reason}); {_ADVICE}") from None
    return [network(path.name, follower.ops, "TorchScript")]


def _classes(sources: dict[str, str]) -> dict[str, ast.ClassDef]:
    """The classes in the code of an archive, by their full names."""
    found = {}
    for name, text in sources.items():
        place = name.removesuffix(".py").replace("/", ".")
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                found[f"{place}.{node.name}"] = node
    return found


def _finals(code: ast.ClassDef) -> dict[str, Any]:
    """The constants of a class."""
    finals = {}
    for node in code.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            finals[node.target.id] = ast.literal_eval(node.value)
    return finals


class _Follower:
    """The operations that the code of modules does, in order."""

    def __init__(self, classes: dict[str, ast.ClassDef]) -> None:
        self.classes = classes
        self.ops: list[Op] = []
        self.steps = 0

    def module(self, name: str, module: Object, arguments: list[Any], depth: int, method: str = "forward") -> Any:
        """What a method of a module returns; one traced in many places has forward, forward1 and so on."""
        self.steps += 1
        if depth > 16 or self.steps > 2000:
            raise _Refused("nests modules too deep for a DCGAN")
        code, kind = self.classes.get(str(module.name)), module.name.name
        if code is None:
            raise _Refused(f"lacks the code of {module.name}")
        finals = _finals(code)
        known = kind in (*modules.READERS, *modules.SIMPLE, *modules.PASSED)
        if module.name.module.startswith("__torch__.torch.nn.modules") and (finals or kind in modules.SIMPLE) and known:
            if arguments[0] != _Flow(len(self.ops)):
                raise _Refused(f"gives {name} what an earlier layer made: two branches")
            state = {**finals, "_modules": {}, "_buffers": {}}
            state["_parameters"] = {key: value for key, value in module.state.items() if isinstance(value, Tensor)}
            self.ops += modules.operations("TorchScript archive", name, Object(Name("torch.nn", kind), state=state))
            return _Flow(len(self.ops))
        forward = next((node for node in code.body if isinstance(node, ast.FunctionDef) and node.name == method), None)
        if forward is None:
            raise _Refused(f"has no forward in {kind}")
        names = [argument.arg for argument in forward.args.args]
        scope = dict(zip(names, [module, *arguments], strict=False))
        for statement in forward.body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                return self.value(name, statement.value, scope, depth)
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                scope[statement.targets[0].id] = self.value(name, statement.value, scope, depth)
            elif not isinstance(statement, ast.Pass):
                raise _Refused(f"branches or loops in {kind}")
        raise _Refused(f"returns nothing from {kind}")

    def value(self, name: str, node: ast.expr, scope: dict[str, Any], depth: int) -> Any:
        """What an expression stands for: the flow, a module, a tensor, a number, or None where it does not matter."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return scope.get(node.id)
        if isinstance(node, ast.List | ast.Tuple):
            return [self.value(name, part, scope, depth) for part in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self.value(name, node.operand, scope, depth)
            return -number if isinstance(number, int | float) else None
        if isinstance(node, ast.Attribute):
            owner = self.value(name, node.value, scope, depth)
            if isinstance(owner, Object):
                return owner.state.get(node.attr)
            return _dotted(node) if owner is None or isinstance(owner, str) else None
        if isinstance(node, ast.Call):
            return self.call(name, node, scope, depth)
        return None

    def call(self, name: str, node: ast.Call, scope: dict[str, Any], depth: int) -> Any:
        """What a call stands for; those that touch the flow become operations."""
        arguments = [self.value(name, part, scope, depth) for part in node.args]
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(arguments) == 2:
            return arguments[0].state.get(arguments[1]) if isinstance(arguments[0], Object) else None
        if isinstance(node.func, ast.Attribute) and re.fullmatch(r"forward\d*", node.func.attr):
            module = self.value(name, node.func.value, scope, depth)
            if not isinstance(module, Object):
                raise _Refused("calls what is no module")
            return self.module(
                _path(name, node.func.value, scope, module), module, arguments, depth + 1, node.func.attr
            )
        function = self.value(name, node.func, scope, depth)
        if not any(isinstance(part, _Flow) for part in arguments):
            return None
        kind = str(function).rpartition(".")[2] if isinstance(function, str) else ""
        if kind == "size":
            return None
        if arguments[0] != _Flow(len(self.ops)) or any(isinstance(part, _Flow) for part in arguments[1:]):
            raise _Refused(f"joins two branches by {kind or 'code of its own'}")
        whole = kind == "slice" and all(part in (None, 0) or part >= 2**31 for part in arguments[2:4])
        if kind not in _SHAPING and not whole:
            self.ops.append(_operation(kind, name, arguments[1:]))
        return _Flow(len(self.ops))


def _dotted(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(parts)])


def _path(name: str, node: ast.expr, scope: dict[str, Any], module: Object) -> str:
    """The dotted name of a submodule, found among what its owner holds."""
    for owner in (value for value in scope.values() if isinstance(value, Object)):
        for key, value in owner.state.items():
            if value is module:
                return f"{name}.{key}" if name else str(key)
    return name


def _operation(kind: str, name: str, rest: list[Any]) -> Op:
    """The operation that a call of torch is, its arguments after the first in torch's order."""
    kind = kind.removesuffix("_")
    if kind in _ACTS:
        return Op("act", name, settings={"which": _ACTS[kind]}, source="code")
    if kind == "leaky_relu":
        slope = rest[0] if rest and isinstance(rest[0], int | float) else 0.01
        return Op("act", name, settings={"which": "leaky", "slope": float(slope)}, source="code")
    if kind == "prelu":
        return Op("act", name, _held(weight=rest[0]), {"which": "prelu"}, "code")
    if kind == "linear":
        return Op("linear", name, _held(weight=rest[0], bias=rest[1] if len(rest) > 1 else None), {}, "code")
    if kind in ("conv2d", "conv_transpose2d", "_convolution"):
        weight, bias, stride, padding, *more = rest
        if kind == "conv_transpose2d":
            usual: list[Any] = [[0, 0], 1, [1, 1]]
            output, group, dilation = [*more, *usual[len(more) :]]
            transposed = True
        elif kind == "conv2d":
            usual = [[1, 1], 1]
            dilation, group = [*more, *usual[len(more) :]][:2]
            transposed, output = False, [0, 0]
        else:
            dilation, transposed, output, group = more[:4]
        if group != 1 or set(dilation) != {1} or any(len(set(pair)) > 1 for pair in (stride, padding, output)):
            raise _Refused(f"has a {kind} that is grouped, dilated or not square")
        settings = {"stride": int(stride[0]), "before": int(padding[0]), "after": int(padding[0]) - int(output[0])}
        return Op("deconv" if transposed else "conv", name, _held(weight=weight, bias=bias), settings, "code")
    if kind == "batch_norm":
        weight, bias, mean, var, _, _, eps = rest[:7]
        return Op(
            "norm",
            name,
            _held(weight=weight, bias=bias, mean=mean, var=var),
            {"which": "batch", "eps": float(eps)},
            "code",
        )
    if kind == "instance_norm":
        weight, bias, _, _, _, _, eps = rest[:7]
        return Op("norm", name, _held(weight=weight, bias=bias), {"which": "instance", "eps": float(eps)}, "code")
    if kind in ("pad", "constant_pad_nd"):
        sides, how, value = rest[0], rest[1] if kind == "pad" else "constant", rest[-1] if len(rest) > 1 else None
        if how != "constant" or (value if isinstance(value, int | float) else 0) != 0 or sides[:2] != sides[2:]:
            raise _Refused("pads with other than zeros, or rows and columns differently")
        return Op("pad", name, settings={"before": int(sides[0]), "after": int(sides[1])}, source="code")
    if kind in ("upsample_nearest2d", "upsample_bilinear2d"):
        factors = next(
            (part for part in reversed(rest) if isinstance(part, list) and part and isinstance(part[0], float)), []
        )
        if len(set(factors)) != 1 or factors[0] != int(factors[0]) or True in rest[1:2]:
            raise _Refused(f"has an {kind} by no whole factor, or one that aligns corners")
        mode = "bilinear" if "bilinear" in kind else "nearest"
        return Op("upsample", name, settings={"factor": int(factors[0]), "mode": mode}, source="code")
    raise _Refused(f"calls {kind or 'code of its own'}, which is no layer of a DCGAN")


def _held(**tensors: Any) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if isinstance(value, Tensor)}
