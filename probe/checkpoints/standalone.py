"""A generator for code that knows nothing of probe: a short file of plain PyTorch beside its weights, or an ONNX file.

    export(gan, path, to="torch")   path.py with the module, path.pth with its state dict
    export(gan, path, to="onnx")    one file with graph and weights

Both hold whatever probe can put into a generator, a patch (activation patching) and a one-sided erasure too, and draw what
the generator draws. Latents are (N, nz), images (N, channels, size, size) in [-1, 1].
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from probe.base import files
from probe.base.errors import ProbeError
from probe.models.dcgan import Block, Erase, FromUnit, Generator, Margin, Patch, PixelNorm, Resize
from probe.models.gan import GAN, takes_batch_statistics

Target = Literal["torch", "onnx"]


def export(gan: GAN, path: str | Path, to: Target = "torch") -> list[Path]:
    """Write a generator as plain PyTorch (`path` with .py, and .pth beside it) or as ONNX; the files written.

    Raises ProbeError where the generator is no module of probe's own, where its weights are not finite, and for ONNX where
    its BatchNorm takes the statistics of the batch at hand.
    """
    path = Path(path)
    generator = gan.generator
    if to not in ("torch", "onnx"):
        raise ProbeError(f"export to {to!r}: expected torch or onnx")
    if not isinstance(generator, Generator):
        raise ProbeError(f"{path}: the generator is a {type(generator).__name__}, and only DCGANs can be exported")
    bad = next((key for key, tensor in generator.state_dict().items() if not tensor.isfinite().all()), None)
    if bad:
        raise ProbeError(f"{path}: {bad} holds NaN or infinite weights; nothing was written")
    return _to_torch(gan, generator, path) if to == "torch" else _to_onnx(gan, generator, path)


# PyTorch -------------------------------------------------------------------------------------------------------------

_HEAD = '''"""{what}

Exported by probe; it needs torch alone. Latents are drawn from {prior}.

    from {stem} import load
    images = load()(z)    # z (N, {nz}) -> images (N, {channels}, {size}, {size}) in [-1, 1]
"""

from pathlib import Path

import torch
from torch import Tensor, nn

'''

_TAIL = '''

def load(path: str | Path = Path(__file__).with_suffix(".pth")) -> Generator:
    """The generator with its weights, in eval mode."""
    generator = Generator()
    generator.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return generator.eval()
'''


def _to_torch(gan: GAN, generator: Generator, path: Path) -> list[Path]:
    if path.suffix not in (".py", ".pth", ""):
        raise ProbeError(f"{path}: a generator for PyTorch is a .py file; expected a name that ends in .py")
    if not path.stem.isidentifier():
        raise ProbeError(f"{path}: {path.stem!r} cannot be imported; expected a name of letters, digits and _")
    lines: list[str] = []
    state: dict[str, Tensor] = {}
    used = set[type[nn.Module]]()
    for i, layer in enumerate(generator.layers(), 1):
        parts = list(layer.named_children())
        lines += [
            f"        self.layer{i} = nn.Sequential(",
            *(f"            {_code(part)}," for _, part in parts),
            "        )",
        ]
        used |= {type(part) for _, part in parts} & {PixelNorm, FromUnit, Erase}
        for place, (_, part) in enumerate(parts):
            state |= {f"layer{i}.{place}.{key}": tensor for key, tensor in part.state_dict().items()}
    at = generator.patched
    if at:
        used.add(Patch)
        lines.append(
            f"        self.patch = Patch({generator.nz}, {generator.blocks[at - 1].outputs}, {generator.blocks[at - 1].patch})"
        )
        state |= {f"patch.{key}": tensor for key, tensor in generator.patch.state_dict().items()}
    what = f"A DCGAN generator of {gan.size} px images" + (
        ", with a patch in it that its latent switches on." if at else "."
    )
    prior = "U(-1, 1)" if gan.prior == "uniform" else "N(0, 1)"
    text = _HEAD.format(what=what, prior=prior, stem=path.stem, nz=gan.nz, channels=gan.channels, size=gan.size)
    for kind in sorted(used, key=lambda kind: kind.__name__):
        text += f"\n{_source(kind)}\n"
    text += '\nclass Generator(nn.Module):\n    """Latents (N, nz) -> images in [-1, 1]."""\n\n'
    text += "    def __init__(self) -> None:\n        super().__init__()\n" + "\n".join(lines)
    text += "\n\n" + _forward(generator) + _TAIL
    buffer = io.BytesIO()
    torch.save({key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}, buffer)
    weights = path.with_suffix(".pth")
    with files.writing(weights) as temporary:
        temporary.write_bytes(buffer.getvalue())
    files.save_text(path.with_suffix(".py"), text)
    return [path.with_suffix(".py"), weights]


def _source(kind: type[nn.Module]) -> str:
    """The source of one of probe's own modules, without the names of probe's other parts."""
    return inspect.getsource(kind).replace("`surgery.patch` puts it into a generator; ", "").replace(
        "An edit that `surgery.erase` puts behind a layer; ", ""
    )  # fmt: skip


def _forward(generator: Generator) -> str:
    enter = "" if generator.blocks[0].kind == "linear" else "[:, :, None, None]"
    at, n = generator.patched, len(generator.blocks)
    lines = ["    def forward(self, z: Tensor) -> Tensor:"]
    if not at:
        lines.append(f"        x = z.flatten(1){enter}")
        lines += [f"        x = self.layer{i}(x)" for i in range(1, n + 1)]
    else:
        lines += [
            "        z = z.flatten(1)",
            f"        x = z{enter}",
            f"        other = self.patch.counterfactual(z){enter}",
        ]
        for i in range(1, at + 1):
            lines.append(f"        x, other = self.layer{i}(x), self.layer{i}(other)")
        lines.append("        x = self.patch(x, other)")
        lines += [f"        x = self.layer{i}(x)" for i in range(at + 1, n + 1)]
    return "\n".join([*lines, "        return x", ""])


def _code(part: nn.Module) -> str:
    """The expression that makes a part of a layer."""
    if isinstance(part, nn.ConvTranspose2d):
        settings = f"{part.kernel_size[0]}, {part.stride[0]}, {int(part.padding[0])}, {part.output_padding[0]}"
        return f"nn.ConvTranspose2d({part.in_channels}, {part.out_channels}, {settings}, bias={part.bias is not None})"
    if isinstance(part, nn.Conv2d):
        settings = f"{part.kernel_size[0]}, {part.stride[0]}, {int(part.padding[0])}"
        return f"nn.Conv2d({part.in_channels}, {part.out_channels}, {settings}, bias={part.bias is not None})"
    if isinstance(part, nn.Linear):
        return f"nn.Linear({part.in_features}, {part.out_features}, bias={part.bias is not None})"
    if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
        options = f"eps={part.eps:g}, affine={part.affine}"
        if not isinstance(part, nn.InstanceNorm2d) and part.running_mean is None:
            options += ", track_running_stats=False"
        return f"nn.{type(part).__name__}({part.num_features}, {options})"
    if isinstance(part, nn.Unflatten):
        return f"nn.Unflatten(1, {tuple(part.unflattened_size)})"
    if isinstance(part, Resize):
        place = f"size={part.side}" if part.side else f"scale_factor={part.factor}"
        return f"nn.Upsample({place}, mode={part.mode!r})"
    if isinstance(part, Margin):
        return f"nn.ZeroPad2d({tuple(part.sides)})"
    if isinstance(part, nn.LeakyReLU):
        return f"nn.LeakyReLU({part.negative_slope!r})"
    if isinstance(part, nn.PReLU):
        return f"nn.PReLU({part.num_parameters})"
    if isinstance(part, Erase):
        return f"Erase({part.weight.shape[1]}, {len(part.weight)})"
    if isinstance(part, PixelNorm):
        return f"PixelNorm({part.eps!r})"
    if isinstance(part, FromUnit):
        return "FromUnit()"
    return f"nn.{type(part).__name__}()"


# ONNX ----------------------------------------------------------------------------------------------------------------


class _Graph:
    """Nodes and constants in the making."""

    def __init__(self, onnx: Any) -> None:
        self.onnx, self.nodes, self.constants = onnx, list[Any](), dict[str, Any]()

    def known(self, name: str, value: Tensor | np.ndarray[Any, Any] | Sequence[float] | Sequence[int]) -> str:
        """A constant; its name."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.constants.setdefault(name, self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; its name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name


def _to_onnx(gan: GAN, generator: Generator, path: Path) -> list[Path]:
    from probe.checkpoints.containers import require

    require("onnx", path)
    import onnx

    if takes_batch_statistics(generator):
        raise ProbeError(
            f"{path}: BatchNorm takes the statistics of the batch at hand, which ONNX cannot; recalibrate it first"
        )
    graph, at = _Graph(onnx), generator.patched
    x = other = _entered(graph, generator, "z")
    if at:
        other = _entered(graph, generator, _counterfactual(graph, generator.patch, "z"))
    side = 1
    for i, (layer, block) in enumerate(zip(generator.layers(), generator.blocks, strict=True), 1):
        x, before = _drawn(graph, layer, block, f"layer{i}", x, side), other
        if at and i <= at:
            other = _drawn(graph, layer, block, f"layer{i}", before, side)
        if i == at:
            x = _patched(graph, generator.patch, x, other)
        side = block.side(side)
    graph.nodes[-1].output[0] = "images"
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "generator",
        [helper.make_tensor_value_info("z", kind, ["N", gan.nz])],
        [helper.make_tensor_value_info("images", kind, ["N", gan.channels, gan.size, gan.size])],
        list(graph.constants.values()),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="probe", ir_version=8)
    prior = "U(-1, 1)" if gan.prior == "uniform" else "N(0, 1)"
    helper.set_model_props(model, {"latents": prior, "images": "in [-1, 1]"})
    onnx.checker.check_model(model)
    with files.writing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return [path]


def _entered(graph: _Graph, generator: Generator, z: str) -> str:
    if generator.blocks[0].kind == "linear":
        return z
    return graph.node("Unsqueeze", z, graph.known("places", [2, 3]))


def _drawn(graph: _Graph, layer: nn.Module, block: Block, name: str, x: str, side: int) -> str:
    """One layer's nodes."""
    inner = dict(layer.named_children())
    for key, part in inner.items():
        if key in ("pad", "crop"):
            continue  # in the convolution's own node
        x = _part(graph, part, f"{name}.{key}", x, block, side)
    return x


def _part(graph: _Graph, part: nn.Module, name: str, x: str, block: Block, side: int) -> str:
    held = {key: graph.known(f"{name}.{key}", tensor) for key, tensor in part.state_dict().items() if tensor.dim()}
    inputs = [held[key] for key in ("weight", "bias") if key in held]
    if isinstance(part, nn.ConvTranspose2d | nn.Conv2d):
        margins = block.crop if isinstance(part, nn.ConvTranspose2d) else block.pad
        pads = [block.padding + margin for margin in margins]
        settings = {
            "strides": [block.stride] * 2,
            "pads": [pads[0]] * 2 + [pads[1]] * 2,
            "kernel_shape": [block.kernel] * 2,
        }
        if isinstance(part, nn.Conv2d):
            return graph.node("Conv", x, *inputs, **settings)
        return graph.node("ConvTranspose", x, *inputs, output_padding=[block.output_padding] * 2, **settings)
    if isinstance(part, nn.Linear):
        return graph.node("Gemm", x, *inputs, transB=1)
    if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
        width = part.num_features
        gain = held.get("weight") or graph.known(f"{name}.weight", np.ones(width))
        bias = held.get("bias") or graph.known(f"{name}.bias", np.zeros(width))
        return graph.node(
            "BatchNormalization", x, gain, bias, held["running_mean"], held["running_var"], epsilon=part.eps
        )
    if isinstance(part, nn.InstanceNorm2d):
        gain = held.get("weight") or graph.known(f"{name}.weight", np.ones(part.num_features))
        bias = held.get("bias") or graph.known(f"{name}.bias", np.zeros(part.num_features))
        return graph.node("InstanceNormalization", x, gain, bias, epsilon=part.eps)
    if isinstance(part, PixelNorm):
        mean = graph.node("ReduceMean", graph.node("Mul", x, x), axes=[1], keepdims=1)
        return graph.node("Div", x, graph.node("Sqrt", graph.node("Add", mean, graph.known(f"{name}.eps", [part.eps]))))
    if isinstance(part, nn.Unflatten):
        return graph.node("Reshape", x, graph.known(f"{name}.shape", [0, *part.unflattened_size]))
    if isinstance(part, Resize):
        factor = part.side / block.convolved(side) if part.side else float(part.factor or 1)
        how = {"mode": "linear" if part.mode == "bilinear" else "nearest"}
        how["coordinate_transformation_mode"] = "half_pixel" if part.mode == "bilinear" else "asymmetric"
        if part.mode == "nearest":
            how["nearest_mode"] = "floor"
        return graph.node(
            "Resize", x, "", graph.known(f"{name}.scales", np.array([1, 1, factor, factor], np.float32)), **how
        )
    if isinstance(part, FromUnit):
        doubled = graph.node("Mul", x, graph.known("two", np.array(2.0)))
        return graph.node("Sub", doubled, graph.known("one", np.array(1.0)))
    if isinstance(part, Erase):
        return _erased(graph, part, name, x)
    return _activation(graph, part, x, inputs)


def _activation(graph: _Graph, part: nn.Module, x: str, inputs: list[str]) -> str:
    if isinstance(part, nn.LeakyReLU):
        return graph.node("LeakyRelu", x, alpha=part.negative_slope)
    if isinstance(part, nn.PReLU):
        slopes = graph.known(f"{inputs[0]}.map", part.weight[:, None, None] if part.num_parameters > 1 else part.weight)
        graph.constants.pop(inputs[0], None)
        return graph.node("PRelu", x, slopes)
    if isinstance(part, nn.SiLU):
        return graph.node("Mul", x, graph.node("Sigmoid", x))
    if isinstance(part, nn.GELU):  # x · (1 + erf(x / √2)) / 2
        scaled = graph.node("Mul", x, graph.known("root", np.array(0.5**0.5)))
        risen = graph.node("Add", graph.node("Erf", scaled), graph.known("one", np.array(1.0)))
        return graph.node("Mul", graph.node("Mul", x, risen), graph.known("half", np.array(0.5)))
    names = {nn.ReLU: "Relu", nn.ELU: "Elu", nn.SELU: "Selu", nn.Tanh: "Tanh", nn.Sigmoid: "Sigmoid"}
    return graph.node(names[type(part)], x)


def _erased(graph: _Graph, part: Erase, name: str, x: str) -> str:
    """X -> max(min(x, 0), x - Σ_k max(0, w_k·x + b_k) v_k) at every place."""
    weight = graph.known(f"{name}.kernel", part.weight[:, :, None, None])
    step = graph.known(f"{name}.steps", part.step.T[:, :, None, None])
    excess = graph.node("Relu", graph.node("Conv", x, weight, f"{name}.bias"))
    for unused in ("weight", "step"):
        graph.constants.pop(f"{name}.{unused}", None)
    less = graph.node("Sub", x, graph.node("Conv", excess, step))
    return graph.node("Max", less, graph.node("Min", x, graph.known("zero", np.array(0.0))))


def _counterfactual(graph: _Graph, patch: Patch, z: str) -> str:
    excess = graph.node(
        "Relu",
        graph.node(
            "Gemm", z, graph.known("patch.weight", patch.weight), graph.known("patch.bias", patch.bias), transB=1
        ),
    )
    moved = graph.node("Sub", z, graph.node("MatMul", excess, graph.known("patch.step", patch.step)))
    return graph.node("Clip", moved, graph.known("patch.least", -patch.limit), graph.known("patch.limit", patch.limit))


def _patched(graph: _Graph, patch: Patch, x: str, other: str) -> str:
    gate = graph.known("patch.gate", patch.gate[None, :, None, None])
    wide = graph.node("Conv", x, gate, graph.known("patch.threshold", patch.threshold[None]))
    gate = graph.node("Clip", wide, graph.known("zero", np.array(0.0)), graph.known("one", np.array(1.0)))
    return graph.node("Add", x, graph.node("Mul", gate, graph.node("Sub", other, x)))
