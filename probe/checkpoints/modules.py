"""Whole modules that were pickled (torch.save(netG), pickle.dump(netG)) as described networks.

    networks(tree, place)    the generators and discriminators among the modules in an inert tree (inert.py)
    plain_tree(tree)         the tree with each module replaced by its state dict, for the readers of state dicts

A module tree has every stride, padding, slope and eps. What it has not is `forward`: the parts of an nn.Sequential run in
their order, those of a class of one's own are taken in the order in which they were registered, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints.chains import CHANNELS, normed_weight
from probe.checkpoints.described import Condition, Described, Op, network
from probe.checkpoints.inert import Object, children, own_tensors, state_of, walk

FORMAT = "PyTorch module"
_TREE = "module tree"
_NORMS = ("BatchNorm1d", "BatchNorm2d", "SyncBatchNorm", "InstanceNorm1d", "InstanceNorm2d")
PASSED = ("Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "Flatten", "DataParallel")
SIMPLE = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SELU": "selu", "GELU": "gelu", "SiLU": "silu"}
SIMPLE |= {"Swish": "silu", "LogSigmoid": "sigmoid"}
_WEIGHTED = ("linear", "conv", "deconv")
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def is_tree(tree: Any) -> bool:
    """Whether a tree holds a whole module somewhere."""
    return next(_modules(tree, ""), None) is not None


def _modules(node: Any, place: str, depth: int = 0) -> Iterator[tuple[str, Object]]:
    """The outermost modules in nested dicts, lists and objects, with their places."""
    if isinstance(node, Object):
        if node.is_module:
            yield place, node
            return
        node = node.state
    if isinstance(node, list | tuple):
        node = dict(enumerate(node[:100]))
    if isinstance(node, dict) and depth <= 4:
        for key, value in list(node.items())[:1000]:
            yield from _modules(value, f"{place}/{key}", depth + 1)


def plain_tree(node: Any, depth: int = 0) -> Any:
    """A tree with the state dicts of its modules in their places."""
    if isinstance(node, Object) and node.is_module:
        return state_of(node)
    if isinstance(node, list | tuple) and depth <= 6:
        return [plain_tree(value, depth + 1) for value in node]
    if isinstance(node, dict) and depth <= 6:
        return {key: plain_tree(value, depth + 1) for key, value in node.items()}
    return node


def networks(tree: Any, place: str) -> list[Described]:
    """The networks among the modules of a tree; raises ProbeError where there is none, for the likeliest module."""
    found: list[Described] = []
    failures: list[ProbeError] = []
    for where, module in _modules(tree, place):
        _collect(where, module, found, failures)
    if not found and failures:
        raise failures[0]
    return found


def _collect(place: str, module: Object, found: list[Described], failures: list[ProbeError], depth: int = 0) -> None:
    """The network that a module is, or those that its parts are."""
    try:
        found.append(read(place, module))
        return
    except ProbeError as error:
        failures.append(error)
    if depth < 3:
        for name, child in children(module).items():
            if children(child) and _weighted(child):
                _collect(f"{place}/{name}", child, found, failures, depth + 1)


def _weighted(module: Object) -> bool:
    return any(tensor.dim() > 1 for _, part in walk(module) for tensor in own_tensors(part).values())


def read(place: str, module: Object) -> Described:
    """A module as a network; raises ProbeError where it is none, naming the part that no chain can hold."""
    assumed: list[str] = []
    leftover: list[str] = []
    tables: dict[str, Tensor] = {}
    ops: list[Op] = []
    for name, part in _leaves(place, module, assumed, leftover):
        if _class(part) == "Embedding":
            tables[name] = own_tensors(part)["weight"] if "weight" in own_tensors(part) else torch.zeros(0, 0)
        else:
            ops += operations(place, name, part)
    if assumed and any(op.kind in _WEIGHTED for op in ops):
        ops = _activated(place, ops, assumed)
    described = network(place, ops, FORMAT, assumed=assumed, leftover=leftover)
    if tables and described.role == "generator":
        described.condition = _condition(described, tables, assumed)
    elif tables:
        raise ProbeError(
            f"{place}: a conditional discriminator ({', '.join(tables)}); only unconditional ones can be read"
        )
    return described


def _condition(described: Described, tables: dict[str, Tensor], assumed: list[str]) -> Condition:
    """How a generator's embedding joins the latent: by its width."""
    name, table = next(iter(tables.items()))
    if table.dim() != 2 or not table.numel() or len(tables) > 1:
        raise ProbeError(f"{described.place}: embeddings {', '.join(tables)} that no chain of layers can hold")
    width = described.nz
    how = "multiply" if table.shape[1] == width else "behind"
    if table.shape[1] > width:
        raise ProbeError(f"{described.place}: {name} gives {table.shape[1]} numbers, the first layer takes {width}")
    joins = "multiplied with the latent" if how == "multiply" else "put behind the latent"
    assumed.append(f"the rows of {name} are {joins}")
    return Condition(how, table, name)


def _class(module: Object) -> str:
    return module.name.name.rpartition(".")[2]


def _torch(module: Object) -> bool:
    return module.name.module.startswith(("torch.nn", "torch.ao.nn", "__torch__.torch.nn"))


def _leaves(place: str, module: Object, assumed: list[str], leftover: list[str]) -> list[tuple[str, Object]]:
    """The parts of a module that compute something, by dotted name, in the order in which they run."""
    out: list[tuple[str, Object]] = []

    def enter(name: str, part: Object, depth: int) -> None:
        below = {key: child for key, child in children(part).items() if key != "parametrizations"}
        if depth > 16 or len(out) > 500:
            raise ProbeError(f"{place}: modules nested too deep for a DCGAN; open it with `model` pkg.module:factory")
        if not below or (_torch(part) and _class(part) not in (*_CONTAINERS, "DataParallel")):
            out.append((name, part))
            return
        if _class(part) not in ("Sequential", "DataParallel"):
            if own_tensors(part):
                names = ", ".join(own_tensors(part))
                raise ProbeError(f"{place}: {name or _class(part)} uses {names} in code of its own; use `model`")
            if len(below) > 1:
                assumed.append(f"{_class(part)} runs {', '.join(below)} in the order in which they were registered")
            below = _heads(place, below, leftover)
        for key, child in below.items():
            enter(f"{name}.{key}" if name else key, child, depth + 1)

    enter("", module, 0)
    return out


def _heads(place: str, below: dict[str, Object], leftover: list[str]) -> dict[str, Object]:
    """Parts without those that stand beside another one: of heads over the same features, the one that gives one number."""
    shapes = {name: _ends(child) for name, child in below.items()}
    kept = dict(below)
    for (one, a), (other, b) in zip(list(shapes.items()), list(shapes.items())[1:], strict=False):
        if a and b and a[0] == b[0] != a[1] and 1 in (a[1], b[1]) and a[1] != b[1]:
            dropped = other if a[1] == 1 else one
            kept.pop(dropped, None)
            leftover.append(f"{dropped}, another head over the same features")
    return kept


def _ends(module: Object) -> tuple[int, int] | None:
    """The inputs of a part's first layer and the outputs of its last, where both are linear."""
    weights = [own_tensors(part).get("weight") for _, part in walk(module) if _class(part) == "Linear"]
    known = [weight for weight in weights if weight is not None and weight.dim() == 2]
    convolves = any("Conv" in _class(part) for _, part in walk(module))
    return (known[0].shape[1], known[-1].shape[0]) if known and not convolves else None


# One module ----------------------------------------------------------------------------------------------------------


def operations(place: str, name: str, module: Object) -> list[Op]:
    """The operations that a module without submodules is."""
    kind, state, tensors = _class(module), module.state, own_tensors(module)
    if not _torch(module):
        return _own(place, name, module)
    for parametrization in children(module).values():
        tensors |= {f"parametrized.{key}": value for key, value in state_of(parametrization).items()}
    if kind in SIMPLE:
        return [Op("act", name, settings={"which": SIMPLE[kind]}, source=_TREE)]
    if reader := READERS.get(kind):
        try:
            return reader(name, state, tensors)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:80]
            raise ProbeError(
                f"{place}: {name}, a {kind}, is not as torch saves one ({reason}); save it again"
            ) from None
    if kind in PASSED:
        return []
    raise ProbeError(f"{place}: {name}, a {kind}, is no layer of a DCGAN; open it with `model` pkg.module:factory")


def _own(place: str, name: str, module: Object) -> list[Op]:
    """A class of somebody's own without submodules: by its name, where it has no weights."""
    kind, tensors = _class(module), own_tensors(module)
    if re.search(r"pixel(wise)?_?norm", kind, re.IGNORECASE) and not tensors:
        eps = next((float(v) for k, v in module.state.items() if "eps" in k and isinstance(v, float)), 1e-8)
        return [Op("norm", name, settings={"which": "pixel", "eps": eps}, source=f"the class's name, {kind}")]
    if re.search(r"view|reshape|flatten|identity|print|squeeze", kind, re.IGNORECASE) and not tensors:
        return []  # what it folds into follows from the layers around it
    raise ProbeError(
        f"{place}: {name or 'the module'}, a {module.name}, is code of its owner's own; open it with `model` pkg.module:factory"
    )


def _one(value: Any, what: str) -> int:
    """The number that a square setting has in both directions."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    if not values or len(set(values)) > 1 or type(values[0]) is not int:
        raise ValueError(f"{what} {value!r}")
    return values[0]


def _weights(tensors: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """A layer's weight and bias, spectral and weight normalisation divided out; `rows` is the dimension of its outputs."""
    weight = tensors.get("weight")
    if weight is None:
        original = tensors.get("weight_orig", tensors.get("parametrized.weight.original"))
        u = tensors.get("weight_u", tensors.get("parametrized.weight.0._u"))
        v = tensors.get("weight_v", tensors.get("parametrized.weight.0._v"))
        if original is not None and u is not None and v is not None:
            matrix = original.float().transpose(0, rows).flatten(1)
            weight = original / (u.float().flatten() @ matrix @ v.float().flatten())
        elif "weight_g" in tensors and "weight_v" in tensors:
            weight = normed_weight(tensors["weight_g"].float(), tensors["weight_v"].float())
        else:
            raise KeyError("weight")
    return {"weight": weight} | ({"bias": tensors["bias"]} if "bias" in tensors else {})


def _convolution(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    transposed = bool(state.get("transposed", False))
    stride = _one(state["stride"], "stride")
    if _one(state.get("dilation", 1), "dilation") != 1 or state.get("groups", 1) != 1:
        raise ValueError("dilation or groups")
    if state.get("padding_mode", "zeros") != "zeros":
        raise ValueError(f"padding mode {state['padding_mode']}")
    weights = _weights(tensors, 1 if transposed else 0)
    kernel, padding = weights["weight"].shape[-1], state["padding"]
    if isinstance(padding, str):
        before = (kernel - 1) // 2 if padding == "same" else 0
        after = kernel - 1 - before if padding == "same" else 0
    else:
        before = after = _one(padding, "padding")
    if transposed:
        after = before - _one(state.get("output_padding", 0), "output padding")
    settings = {"stride": stride, "before": before, "after": after}
    return [Op("deconv" if transposed else "conv", name, weights, settings, _TREE)]


def _norm(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    names = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    held = {new: tensors[old] for old, new in names.items() if old in tensors}
    return [Op("norm", name, held, {"which": "batch", "eps": float(state["eps"])}, _TREE)]


def _instance(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    if "running_mean" in tensors:  # in eval mode it normalises as BatchNorm does
        return _norm(name, state, tensors)
    held = {key: tensor for key, tensor in tensors.items() if key in ("weight", "bias")}
    return [Op("norm", name, held, {"which": "instance", "eps": float(state["eps"])}, _TREE)]


def _upsample(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    mode = state.get("mode", "nearest")
    if mode not in ("nearest", "bilinear") or (mode == "bilinear" and state.get("align_corners")):
        raise ValueError(f"mode {mode}, align_corners {state.get('align_corners')}")
    if state.get("size") is not None:
        return [Op("resize", name, settings={"side": _one(state["size"], "size"), "mode": mode}, source=_TREE)]
    factor = state["scale_factor"]
    factors = list(factor) if isinstance(factor, tuple | list) else [factor]
    if len(set(factors)) > 1 or float(factors[0]) != int(factors[0]):
        raise ValueError(f"scale factor {factor}")
    return [Op("upsample", name, settings={"factor": int(factors[0]), "mode": mode}, source=_TREE)]


def _pad(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    padding = state["padding"]
    sides = [padding] * 4 if isinstance(padding, int) else list(padding)
    if len(sides) != 4 or sides[:2] != sides[2:]:
        raise ValueError(f"padding {padding!r}")
    return [Op("pad", name, settings={"before": int(sides[0]), "after": int(sides[1])}, source=_TREE)]


def _unflatten(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    maps, *sides = state["unflattened_size"]
    return [Op("fold", name, settings={"maps": int(maps), "side": _one(tuple(sides), "sides")}, source=_TREE)]


def _act(which: str, key: str = "") -> Callable[[str, dict[str, Any], dict[str, Tensor]], list[Op]]:
    def read_act(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
        settings: dict[str, Any] = {"which": which}
        if which == "leaky":
            settings["slope"] = float(state[key])
        elif which == "elu" and float(state.get(key, 1)) != 1:
            raise ValueError(f"alpha {state[key]}")
        held = {"weight": tensors["weight"]} if which == "prelu" else {}
        return [Op("act", name, held, settings, _TREE)]

    return read_act


def _average(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    if _one(state["output_size"], "output size") != 1:
        raise ValueError(f"output size {state['output_size']}")
    return [Op("average", name, source=_TREE)]


def _pool(name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> list[Op]:
    side, stride = _one(state["kernel_size"], "kernel"), _one(state["stride"], "stride")
    if stride != side or _one(state.get("padding", 0), "padding") or state.get("ceil_mode"):
        raise ValueError(f"kernel {side}, stride {stride} and padding {state.get('padding')}")
    return [Op("pool", name, settings={"side": side}, source=_TREE)]


READERS: dict[str, Callable[[str, dict[str, Any], dict[str, Tensor]], list[Op]]] = {
    "Linear": lambda name, state, tensors: [Op("linear", name, _weights(tensors, 0), {}, _TREE)],
    "Conv2d": _convolution,
    "ConvTranspose2d": lambda name, state, tensors: _convolution(name, state | {"transposed": True}, tensors),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "SyncBatchNorm"), _norm),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d"), _instance),
    "Upsample": _upsample,
    "UpsamplingNearest2d": lambda name, state, tensors: _upsample(name, state | {"mode": "nearest"}, tensors),
    "UpsamplingBilinear2d": lambda name, state, tensors: _upsample(
        name, state | {"mode": "bilinear", "align_corners": True}, tensors
    ),
    "ZeroPad2d": _pad,
    "Unflatten": _unflatten,
    "LeakyReLU": _act("leaky", "negative_slope"),
    "PReLU": _act("prelu"),
    "ELU": _act("elu", "alpha"),
    "AdaptiveAvgPool2d": _average,
    "MaxPool2d": _pool,
}


# What the layers around say -------------------------------------------------------------------------------------------


def _activated(place: str, ops: list[Op], assumed: list[str]) -> list[Op]:
    """Operations of a class of one's own with the activations that its code calls and its parts do not show.

    Where they stand between the layers, nothing is changed. A single one is taken to be shared by all layers but the last;
    where there is none, the usual one of a DCGAN is.
    """
    layers = [i for i, op in enumerate(ops) if op.kind in _WEIGHTED]
    acts = [op for op in ops if op.kind == "act"]
    ends = [op for op in acts if op.settings["which"] in ("tanh", "sigmoid") and ops.index(op) > layers[-1]]
    hidden = [op for op in acts if op not in ends]
    if len(layers) < 3 or len(hidden) > 1:
        return ops
    first = ops[layers[0]]
    draws = first.kind != "conv" or first.tensors["weight"].shape[1] not in CHANNELS
    usual = {"which": "relu"} if draws else {"which": "leaky", "slope": 0.2}
    shared = hidden[0] if hidden else Op("act", "", settings=usual)
    assumed.append(f"{shared.what} follows every layer but the last")
    norms = [op for op in ops if op.kind == "norm" and op.tensors]
    out: list[Op] = []
    core = [op for op in ops if op not in acts and op not in norms]
    for op in core:
        out.append(op)
        if op.kind not in _WEIGHTED:
            continue
        width = op.tensors["weight"].shape[op.kind == "deconv"]
        own = next((norm for norm in norms if next(iter(norm.tensors.values())).numel() == width), None)
        if own is not None:
            norms.remove(own)
            out.append(own)
        if op is not ops[layers[-1]]:
            out.append(Op("act", f"{op.name}.act", shared.tensors, shared.settings, "assumed"))
    if norms:
        raise ProbeError(
            f"{place}: which layer {norms[0].name} follows only its code says; use `model` pkg.module:factory"
        )
    if draws and not ends:
        assumed.append("the image is the tanh of the last layer")
        ends = [Op("act", "tanh", settings={"which": "tanh"}, source="assumed")]
    return out + ends[:1]
