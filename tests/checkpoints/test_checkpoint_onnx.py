"""ONNX graphs against onnx's own reference evaluator: as torch exports them, as tf2onnx does, and with odd detours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.checkpoints.standalone import export
from probe.models.dcgan import Block, Generator, generator_blocks
from probe.models.gan import GAN
from tests.originals import randomised

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

REAL = Path(__file__).resolve().parents[3] / "shared" / "checkpoints" / "wild"
Array = NDArray[Any]


class Graph:
    """A graph in the making: `node` names its output, `known` a constant."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def known(self, array: Array | Sequence[Any]) -> str:
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int, scale: float = 0.4) -> str:
        return self.known(self.rng.normal(0, scale, shape))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def norm(self, x: str, maps: int) -> str:
        statistics = [self.known(self.rng.uniform(0.5, 1.5, maps)) for _ in range(4)]
        return self.node("BatchNormalization", x, *statistics, epsilon=1e-3)

    def save(self, path: Path, inputs: dict[str, tuple[list[Any], int]], output: str) -> Any:
        made = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        return model


def same(path: Path, model: Any, shape: tuple[int, ...], **options: Any) -> GAN:
    gan = checkpoints.load(path, prior="normal", **options)
    z = gan.latents(shape[0])
    (wanted,) = ReferenceEvaluator(model).run(None, {"z": z.numpy().reshape(shape)})
    assert wanted.std() > 0.05
    np.testing.assert_allclose(gan.images(z).numpy(), wanted, atol=2e-5)
    return gan


FLOAT = TensorProto.FLOAT


def test_as_torch_exports_it(tmp_path: Path) -> None:
    """A linear layer, a reshape by a computed shape, BatchNorm, transposed and upsampled convolutions."""
    g = Graph()
    x = g.node("Gemm", "z", g.random(6 * 49, 5), g.random(6 * 49), transB=1)
    batch = g.node("Gather", g.node("Shape", x), g.known(np.array(0)), axis=0)
    shape = g.node("Concat", g.node("Unsqueeze", batch, g.known([0])), g.known([6]), g.known([7]), g.known([7]), axis=0)
    x = g.node("LeakyRelu", g.norm(g.node("Reshape", x, shape), 6), alpha=0.2)
    x = g.node(
        "ConvTranspose", x, g.random(6, 5, 3, 3), g.random(5), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    )
    x = g.norm(g.node("Relu", x), 5)
    x = g.node(
        "Resize",
        x,
        "",
        g.known(np.array([1, 1, 2, 2.0])),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    x = g.node("Tanh", g.node("Conv", x, g.random(3, 5, 3, 3), g.random(3), pads=[1, 1, 1, 1]))
    model = g.save(tmp_path / "g.onnx", {"z": (["N", 5], FLOAT)}, x)
    gan = same(tmp_path / "g.onnx", model, (1, 5))
    assert [block.order for block in gan.generator.blocks] == ["norm-act", "act-norm", "norm-act"]
    assert gan.provenance["format"] == "ONNX"


def test_as_tensorflow_exports_it(tmp_path: Path) -> None:
    """Maps last: transposes around every layer, BatchNorm as a product and a sum, a bias of its own, a crop, pads of one side."""
    g = Graph(1)
    x = g.node("Add", g.node("MatMul", "z", g.random(5, 64 * 6)), g.random(64 * 6))
    x = g.node("Relu", g.node("Add", g.node("Mul", x, g.random(64 * 6)), g.random(64 * 6)))
    x = g.node("Transpose", g.node("Reshape", x, g.known([-1, 8, 8, 6])), perm=[0, 3, 1, 2])
    x = g.node("ConvTranspose", x, g.random(6, 4, 5, 5), strides=[2, 2])
    x = g.node("Slice", x, g.known([1, 1]), g.known([17, 17]), g.known([2, 3]))
    x = g.node("Transpose", x, perm=[0, 2, 3, 1])
    x = g.node("LeakyRelu", g.node("Add", x, g.random(1, 1, 1, 4)), alpha=0.3)
    x = g.node("Transpose", g.node("Mul", x, g.random(4)), perm=[0, 3, 1, 2])
    x = g.node("Pad", x, g.known([0, 0, 0, 0, 0, 0, 1, 1]))
    x = g.node("Sigmoid", g.node("Conv", x, g.random(3, 4, 2, 2), strides=[1, 1]))
    model = g.save(tmp_path / "g.onnx", {"z": (["N", 5], FLOAT)}, x)
    gan = checkpoints.load(tmp_path / "g.onnx", prior="normal")
    z = gan.latents(1)
    (wanted,) = ReferenceEvaluator(model).run(None, {"z": z.numpy()})
    np.testing.assert_allclose(gan.images(z).numpy(), 2 * wanted - 1, atol=2e-5)


def test_zeros_between_rows_are_a_transposed_convolution(tmp_path: Path) -> None:
    """Zeros put between numbers by concatenations and reshapes, then a convolution of stride 1."""
    g = Graph(2)
    x = g.node("Pad", g.node("Reshape", "z", g.known([-1, 5, 1, 1])), g.known([0, 0, 3, 3, 0, 0, 3, 3]))
    x = g.node("Relu", g.norm(g.node("Conv", x, g.random(4, 5, 4, 4), g.random(4)), 4))
    for maps, side in ((4, 4), (4, 8)):
        x = g.node("Concat", g.node("Reshape", x, g.known([-1, 1])), g.known(np.zeros((maps * side**2, 1))), axis=1)
        x = g.node("Reshape", x, g.known([-1, 2 * side]))
        x = g.node("Concat", x, g.known(np.zeros((maps * side, 2 * side))), axis=1)
        x = g.node("Reshape", x, g.known([1, maps, 2 * side, 2 * side]))
        x = g.node("Pad", x, g.known([0, 0, 2, 2, 0, 0, 1, 1]))
        x = g.node("Conv", x, g.random(4 if side == 4 else 1, maps, 4, 4))
        x = g.node("Relu" if side == 4 else "Tanh", x)
    model = g.save(tmp_path / "g.onnx", {"z": ([1, 5], FLOAT)}, x)
    gan = same(tmp_path / "g.onnx", model, (1, 5))
    forms = [(block.kind, block.stride, block.padding, block.output_padding) for block in gan.generator.blocks]
    assert forms == [("deconv", 1, 0, 0), ("deconv", 2, 1, 0), ("deconv", 2, 1, 0)]


def test_a_traced_batch_and_bilinear_enlargement(tmp_path: Path) -> None:
    g = Graph(3)
    x = g.node("Reshape", g.node("Gemm", "z", g.random(4 * 16, 5), transB=1), g.known([8, 4, 4, 4]))
    x = g.node("Resize", g.node("Relu", x), "", g.known(np.array([1, 1, 4, 4.0])), mode="linear")
    x = g.node("Tanh", g.node("Conv", x, g.random(1, 4, 3, 3), pads=[1, 1, 1, 1]))
    model = g.save(tmp_path / "g.onnx", {"z": ([8, 5], FLOAT)}, x)
    same(tmp_path / "g.onnx", model, (8, 5))


def test_a_discriminator(tmp_path: Path) -> None:
    export(GAN(randomised(Generator(generator_blocks(16, 3, 5, 4))), None, 5, 16, 3), tmp_path / "netG.onnx", "onnx")
    g = Graph(4)
    x = g.node("LeakyRelu", g.node("Conv", "x", g.random(4, 3, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]), alpha=0.2)
    x = g.node(
        "LeakyRelu", g.norm(g.node("Conv", x, g.random(6, 4, 5, 5), strides=[2, 2], pads=[1, 1, 2, 2]), 6), alpha=0.1
    )
    x = g.node("Flatten", g.node("Transpose", x, perm=[0, 2, 3, 1]))
    x = g.node("Sigmoid", g.node("MatMul", x, g.random(6 * 16, 1)))
    model = g.save(tmp_path / "netD.onnx", {"x": (["N", 3, 16, 16], FLOAT)}, x)
    gan = checkpoints.load(tmp_path / "netG.onnx", disc=tmp_path / "netD.onnx")
    images = gan.sample(3)
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(gan.discriminator(images).sigmoid().numpy(), wanted[:, 0], atol=1e-5)


@pytest.mark.parametrize("how", ["Mul", "Concat"])
def test_a_label(tmp_path: Path, how: str) -> None:
    g = Graph(5)
    row = g.node("Gather", g.random(3, 5 if how == "Mul" else 4), "label", axis=0)
    x = g.node("Mul", "z", row) if how == "Mul" else g.node("Concat", "z", row, axis=1)
    x = g.node("Gemm", x, g.random(4 * 64, 5 if how == "Mul" else 9), transB=1)
    x = g.node("Reshape", g.node("Relu", x), g.known([-1, 4, 8, 8]))
    x = g.node("Tanh", g.node("ConvTranspose", x, g.random(4, 1, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]))
    model = g.save(tmp_path / "g.onnx", {"z": (["N", 5], FLOAT), "label": (["N"], TensorProto.INT64)}, x)
    with pytest.raises(ProbeError, match=r"a conditional generator of 3 classes \(embedding\)"):
        checkpoints.load(tmp_path / "g.onnx")
    for label in range(3):
        gan = checkpoints.load(tmp_path / "g.onnx", label=label)
        z = gan.latents(2)
        (wanted,) = ReferenceEvaluator(model).run(None, {"z": z.numpy(), "label": np.full(2, label)})
        np.testing.assert_allclose(gan.images(z).numpy(), wanted, atol=2e-5)


def test_what_we_export_we_read(tmp_path: Path) -> None:
    blocks = [
        Block("linear", 5, 6, norm="map", grid=4, bias=True, activation="leaky", slope=0.1),
        Block("deconv", 6, 5, 5, 2, 1, crop=(0, 1), norm="map", order="act-norm", activation="selu"),
        Block("conv", 5, 3, 3, 1, 1, upsample=2, norm="none", activation="sigmoid", unit_range=True),
    ]
    gan = GAN(randomised(Generator(blocks)), None, 5, 16, 3, "uniform")
    export(gan, tmp_path / "g.onnx", "onnx")
    z = gan.latents(4)
    torch.testing.assert_close(
        checkpoints.load(tmp_path / "g.onnx", prior="uniform").images(z), gan.images(z), atol=1e-5, rtol=0
    )


# What is refused -----------------------------------------------------------------------------------------------------


def odd(kind: str) -> tuple[Graph, str]:
    g = Graph(6)
    x = g.node("ConvTranspose", "z", g.random(5, 4, 4, 4))
    if kind == "skip":
        x = g.node("Add", x, g.node("Relu", x))
    elif kind == "groups":
        x = g.node("Conv", x, g.random(4, 2, 3, 3), group=2)
    elif kind == "softmax":
        x = g.node("Softmax", x)
    elif kind == "part":
        x = g.node("Conv", g.node("Slice", x, g.known([0]), g.known([2]), g.known([1])), g.random(4, 2, 3, 3))
    elif kind == "corners":
        x = g.node(
            "Resize",
            x,
            "",
            g.known(np.array([1, 1, 2, 2.0])),
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
    return g, g.node("Tanh", g.node("ConvTranspose", x, g.random(4, 3, 4, 4), strides=[4, 4]))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("skip", r"node n2, Add, joins two branches|takes what an earlier layer gives"),
        ("groups", r"Conv, is grouped"),
        ("softmax", r"Softmax, is no layer of a DCGAN; open it with `model`"),
        ("part", r"Conv, takes 2 maps where the layer before gives 4"),
        ("corners", r"Resize, interpolates by linear \(align_corners\)"),
    ],
)
def test_other_graphs_are_named(tmp_path: Path, kind: str, message: str) -> None:
    g, output = odd(kind)
    g.save(tmp_path / "g.onnx", {"z": (["N", 5, 1, 1], FLOAT)}, output)
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(tmp_path / "g.onnx")
    assert "\n" not in str(error.value)


def test_nothing_outside_the_file_is_read_and_lies_cost_no_memory(tmp_path: Path) -> None:
    g, output = odd("")
    model = g.save(tmp_path / "g.onnx", {"z": (["N", 5, 1, 1], FLOAT)}, output)
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    (tmp_path / "w").write_bytes(raw)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w")
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ProbeError, match=r"c0 lies in another file; refused"):
        checkpoints.load(tmp_path / "g.onnx")
    tensor.data_location = TensorProto.DEFAULT
    tensor.ClearField("external_data")
    tensor.raw_data = raw
    tensor.dims[0] = 2**40
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ProbeError, match=r"c0 declares shape \(1099511627776, 4, 4, 4\), more than the file holds"):
        checkpoints.load(tmp_path / "g.onnx")
    (tmp_path / "g.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ProbeError, match=r"truncated or damaged ONNX file"):
        checkpoints.load(tmp_path / "g.onnx")


def test_a_public_file_against_the_evaluator() -> None:
    path = REAL / "four-convs.onnx"
    if not path.is_file():
        pytest.skip("the public checkpoints are not here")
    gan = checkpoints.load(path)
    assert gan.prior == "normal"
    z = gan.latents(1)
    model = onnx.load(path)
    model.opset_import[0].version = 17  # for opset 9, the evaluator normalises by the batch; nothing else here differs
    (wanted,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: z.numpy().reshape(1, 100, 1, 1)})
    np.testing.assert_allclose(gan.images(z).numpy(), wanted, atol=1e-4)
