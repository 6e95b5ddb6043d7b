"""Keras files against a reference in NumPy that scatters and gathers number by number, as Keras documents its layers."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.checkpoints import containers

h5py = pytest.importorskip("h5py")

REAL = Path(__file__).resolve().parents[3] / "shared" / "checkpoints" / "wild"
Array = NDArray[np.float64]
Layer = tuple[str, dict[str, Any], dict[str, Array]]


# Layers: class, configuration, weights -------------------------------------------------------------------------------


class Draw:
    """Random weights of layers, in Keras' layouts."""

    def __init__(self, seed: int) -> None:
        self.rng, self.count = np.random.default_rng(seed), dict[str, int]()

    def name(self, kind: str) -> str:
        at = self.count.get(kind, 0)
        self.count[kind] = at + 1
        return f"{kind}_{at}" if at else kind

    def dense(self, inputs: int, units: int, **config: Any) -> Layer:
        weights = {"kernel": self.rng.normal(0, 0.4, (inputs, units)), "bias": self.rng.normal(0, 0.3, units)}
        return (
            "Dense",
            {"name": self.name("dense"), "units": units, "activation": "linear", "use_bias": True, **config},
            weights,
        )

    def conv(
        self, a: int, b: int, kernel: int, stride: int, padding: str, transposed: bool = False, **config: Any
    ) -> Layer:
        shape = (kernel, kernel, b, a) if transposed else (kernel, kernel, a, b)
        weights = {"kernel": self.rng.normal(0, 0.3, shape), "bias": self.rng.normal(0, 0.3, b)}
        settings = {"filters": b, "kernel_size": [kernel] * 2, "strides": [stride] * 2, "padding": padding}
        settings |= {"data_format": "channels_last", "dilation_rate": [1, 1], "activation": "linear", "use_bias": True}
        kind = "Conv2DTranspose" if transposed else "Conv2D"
        name = self.name("conv2d_transpose" if transposed else "conv2d")
        return kind, {"name": name, **settings, **config}, weights

    def norm(self, maps: int, axis: int, **config: Any) -> Layer:
        weights = {"gamma": self.rng.uniform(0.5, 1.5, maps), "beta": self.rng.normal(0, 0.3, maps)}
        weights |= {"moving_mean": self.rng.normal(0, 0.3, maps), "moving_variance": self.rng.uniform(0.3, 1.5, maps)}
        settings = {
            "name": self.name("batch_normalization"),
            "axis": [axis],
            "epsilon": 1e-3,
            "scale": True,
            "center": True,
        }
        return "BatchNormalization", settings | config, weights

    def plain(self, kind: str, name: str, **config: Any) -> Layer:
        return kind, {"name": self.name(name), **config}, {}


def reference(layers: list[Layer], x: Array) -> Array:
    """Keras' semantics, number by number: x (N, …) with maps last."""
    for kind, config, weights in layers:
        if kind == "Dense":
            x = x @ weights["kernel"] + weights["bias"]
        elif kind == "Conv2D":
            x = convolve(x, weights["kernel"], weights["bias"], config["strides"][0], config["padding"])
        elif kind == "Conv2DTranspose":
            x = transpose(
                x,
                weights["kernel"],
                weights["bias"],
                config["strides"][0],
                config["padding"],
                config.get("output_padding"),
            )
        elif kind == "BatchNormalization":
            x = (x - weights["moving_mean"]) / np.sqrt(weights["moving_variance"] + config["epsilon"])
            x = x * weights.get("gamma", 1) + weights.get("beta", 0)
        elif kind == "LeakyReLU":
            slope = config.get("alpha", config.get("negative_slope"))
            x = np.where(x > 0, x, slope * x)
        elif kind == "PReLU":
            x = np.where(x > 0, x, weights["alpha"] * x)
        elif kind == "Reshape":
            x = x.reshape(len(x), *config["target_shape"])
        elif kind == "Flatten":
            x = x.reshape(len(x), -1)
        elif kind == "UpSampling2D":
            x = x.repeat(2, 1).repeat(2, 2)
        elif kind == "ZeroPadding2D":
            x = np.pad(x, [(0, 0), *config["padding"], (0, 0)])
        elif kind == "Cropping2D":
            (top, bottom), (left, right) = config["cropping"]
            x = x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]
        elif kind == "MaxPooling2D":
            side = x.shape[1] // 2
            x = x[:, : 2 * side, : 2 * side].reshape(len(x), side, 2, side, 2, -1).max((2, 4))
        elif kind == "GlobalAveragePooling2D":
            x = x.mean((1, 2))
        x = activate(x, config.get("activation", "linear"))
    return x


def activate(x: Array, name: str) -> Array:
    erf = np.vectorize(math.erf)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    rules = {
        "linear": lambda: x,
        "relu": lambda: np.maximum(x, 0),
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "selu": lambda: scale * np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1)),
        "elu": lambda: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        "gelu": lambda: 0.5 * x * (1 + erf(x / math.sqrt(2))),
        "swish": lambda: x / (1 + np.exp(-x)),
    }
    return rules[name]()


def convolve(x: Array, kernel: Array, bias: Array, stride: int, padding: str) -> Array:
    k, side = len(kernel), x.shape[1]
    if padding == "same":
        total = max((math.ceil(side / stride) - 1) * stride + k - side, 0)
        x = np.pad(x, [(0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2), (0, 0)])
    out = (x.shape[1] - k) // stride + 1
    y = np.zeros((len(x), out, out, kernel.shape[3]))
    for i in range(out):
        for j in range(out):
            window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, i, j] = np.einsum("nhwc,hwco->no", window, kernel)
    return y + bias


def transpose(x: Array, kernel: Array, bias: Array, stride: int, padding: str, extra: int | None = None) -> Array:
    """The gradient of the convolution that takes its output to its input: each number is scattered through the kernel."""
    k, side = len(kernel), x.shape[1]
    if padding == "same":
        out = side * stride if extra is None else (side - 1) * stride + k - 2 * (k // 2) + extra
        before = max((side - 1) * stride + k - out, 0) // 2
    else:
        out, before = side * stride + max(k - stride, 0) if extra is None else (side - 1) * stride + k + extra, 0
    y = np.zeros((len(x), out, out, kernel.shape[2]))
    for i in range(side):
        for j in range(side):
            for a in range(k):
                for b in range(k):
                    row, column = i * stride + a - before, j * stride + b - before
                    if 0 <= row < out and 0 <= column < out:
                        y[:, row, column] += x[:, i, j] @ kernel[a, b].T
    return y + bias


# Files ---------------------------------------------------------------------------------------------------------------


def configured(layers: list[Layer], shape: list[int | None], name: str = "sequential") -> dict[str, Any]:
    listed = [{"class_name": kind, "config": dict(config)} for kind, config, _ in layers]
    first = {"class_name": "InputLayer", "config": {"batch_input_shape": shape, "name": f"{name}_input"}}
    return {"class_name": "Sequential", "config": {"name": name, "layers": [first, *listed]}}


def write_weights(root: Any, layers: list[Layer], names: bool = True) -> None:
    if names:
        root.attrs["layer_names"] = np.array([config["name"] for _, config, _ in layers], "S64")
    for _, config, weights in layers:
        group = root.create_group(config["name"])
        group.attrs["weight_names"] = np.array([f"{config['name']}/{leaf}:0" for leaf in weights], "S64")
        for leaf, array in weights.items():
            group.create_dataset(f"{config['name']}/{leaf}:0", data=array.astype("f4"))


def write(path: Path, layers: list[Layer], shape: list[int | None], config: bool = True) -> None:
    with h5py.File(path, "w") as file:
        if config:
            file.attrs["model_config"] = json.dumps(configured(layers, shape))
            write_weights(file.create_group("model_weights"), layers)
        else:
            write_weights(file, layers)


def snake(kind: str) -> str:
    names = {"Dense": "dense", "Conv2D": "conv2d", "Conv2DTranspose": "conv2d_transpose", "PReLU": "p_re_lu"}
    return names.get(kind, "batch_normalization")


def write_archive(path: Path, layers: list[Layer], shape: list[int | None]) -> None:
    """A .keras archive, whose weights are numbered within their layer and their layers within their class."""
    data, seen = io.BytesIO(), dict[str, int]()
    with h5py.File(data, "w") as file:
        for kind, _, weights in layers:
            if weights:
                at = seen.get(kind, 0)
                seen[kind] = at + 1
                group = file.create_group(f"layers/{snake(kind)}{f'_{at}' if at else ''}/vars")
                for i, array in enumerate(weights.values()):
                    group.create_dataset(str(i), data=array.astype("f4"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", json.dumps(configured(layers, shape)))
        archive.writestr("model.weights.h5", data.getvalue())


# Networks ------------------------------------------------------------------------------------------------------------


def tutorial() -> list[Layer]:
    """TensorFlow's own tutorial: a Dense, BatchNorm over all numbers, 5x5 kernels, the first with stride 1."""
    d = Draw(1)
    return [
        d.dense(6, 7 * 7 * 12),
        d.norm(7 * 7 * 12, 1),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.3),
        d.plain("Reshape", "reshape", target_shape=[7, 7, 12]),
        d.conv(12, 10, 5, 1, "same", True),
        d.norm(10, 3),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.3),
        d.conv(10, 8, 5, 2, "same", True),
        d.norm(8, 3),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.3),
        d.conv(8, 1, 5, 2, "same", True, activation="tanh"),
    ]


def orders() -> list[Layer]:
    """Activation before BatchNorm, SELU, kernels of 3 and 4, "valid", a crop, a sigmoid at the end."""
    d = Draw(2)
    return [
        d.dense(6, 5, activation="swish"),
        d.dense(5, 4 * 4 * 9),
        d.plain("Reshape", "reshape", target_shape=[4, 4, 9]),
        d.norm(9, 3),
        d.conv(9, 8, 3, 2, "same", True, activation="selu"),
        d.norm(8, 3, epsilon=0.02),
        d.conv(8, 7, 4, 2, "valid", True, activation="elu"),
        d.plain("Cropping2D", "cropping2d", cropping=[[1, 2], [1, 2]]),
        d.conv(7, 6, 2, 3, "same", True, activation="gelu"),
        d.plain("ZeroPadding2D", "zero_padding2d", padding=[[0, 1], [0, 1]]),
        d.conv(6, 3, 4, 1, "valid", activation="sigmoid"),
    ]


def upsampling() -> list[Layer]:
    """Keras-GAN's layout: UpSampling2D and 3x3 convolutions."""
    d = Draw(3)
    alpha = {"alpha": np.random.default_rng(0).uniform(0, 0.5, (1, 1, 8))}
    return [
        d.dense(6, 4 * 4 * 8, activation="relu"),
        d.plain("Reshape", "reshape", target_shape=[4, 4, 8]),
        d.plain("UpSampling2D", "up_sampling2d", size=[2, 2], interpolation="nearest"),
        d.conv(8, 8, 3, 1, "same"),
        d.norm(8, 3),
        ("PReLU", {"name": "p_re_lu", "shared_axes": [1, 2]}, alpha),
        d.plain("UpSampling2D", "up_sampling2d", size=[2, 2], interpolation="nearest"),
        d.conv(8, 3, 4, 1, "same", activation="tanh"),
    ]


def discriminator(last: str = "sigmoid") -> list[Layer]:
    d = Draw(4)
    return [
        d.conv(1, 6, 5, 2, "same"),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.2),
        d.plain("Dropout", "dropout", rate=0.3),
        d.conv(6, 8, 4, 2, "same", activation="relu"),
        d.norm(8, 3),
        d.conv(8, 8, 3, 2, "same"),
        d.plain("LeakyReLU", "leaky_re_lu", negative_slope=0.3),
        d.plain("Flatten", "flatten"),
        d.dense(8 * 16, 1, activation=last),
    ]


def images(layers: list[Layer], z: torch.Tensor) -> torch.Tensor:
    x = torch.from_numpy(reference(layers, z.double().numpy())).permute(0, 3, 1, 2).float()
    return 2 * x - 1 if layers[-1][1].get("activation") == "sigmoid" else x


@pytest.mark.parametrize("writer", [write, write_archive])
@pytest.mark.parametrize("make", [tutorial, orders, upsampling])
def test_generators(tmp_path: Path, make: Any, writer: Any) -> None:
    layers, path = make(), tmp_path / ("g.h5" if writer is write else "g.keras")
    writer(path, layers, [None, 6])
    gan = checkpoints.load(path, prior="normal")
    z = gan.latents(3)
    expected = images(layers, z)
    assert expected.std() > 0.05
    torch.testing.assert_close(gan.images(z), expected, atol=2e-5, rtol=0)
    assert gan.provenance["format"] == "Keras"


@pytest.mark.parametrize("writer", [write, write_archive])
def test_both_networks(tmp_path: Path, writer: Any) -> None:
    g, d = tutorial(), discriminator()
    suffix = "h5" if writer is write else "keras"
    writer(tmp_path / f"generator.{suffix}", g, [None, 6])
    writer(tmp_path / f"discriminator.{suffix}", d, [None, 28, 28, 1])
    gan = checkpoints.load(tmp_path / f"generator.{suffix}", disc=tmp_path / f"discriminator.{suffix}", prior="normal")
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = reference(d, x.permute(0, 2, 3, 1).double().numpy())[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(gan.discriminator(x).sigmoid(), torch.from_numpy(wanted).float(), atol=1e-5, rtol=0)
    folder = checkpoints.load(tmp_path, prior="normal")
    with torch.no_grad():
        torch.testing.assert_close(folder.discriminator(x), gan.discriminator(x))


def test_a_discriminator_of_images_in_the_unit_range(tmp_path: Path) -> None:
    """A sigmoid at the generator's end: its discriminator was trained on [0, 1], and takes [-1, 1] here all the same."""
    g, d = tutorial(), discriminator()
    g[-1][1]["activation"] = "sigmoid"
    d.insert(3, ("MaxPooling2D", {"name": "pool", "pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}, {}))
    d[-1] = Draw(9).dense(8 * 4, 1, activation="sigmoid")
    write(tmp_path / "g.h5", g, [None, 6])
    write(tmp_path / "d.h5", d, [None, 28, 28, 1])
    gan = checkpoints.load(tmp_path / "g.h5", disc=tmp_path / "d.h5", prior="normal")
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    wanted = reference(d, x.permute(0, 2, 3, 1).double().numpy())[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(
            gan.discriminator(2 * x - 1).sigmoid(), torch.from_numpy(wanted).float(), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_rule(side: int, kernel: int, stride: int, padding: str) -> None:
    """Every small case of both convolutions against the scatter loops, in one layer of torch."""
    from probe.checkpoints.keras import same, transposed

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, side, side, 3))
    t = torch.from_numpy(x).permute(0, 3, 1, 2)
    w = rng.normal(size=(kernel, kernel, 2, 3))
    before, after = transposed(side, kernel, stride, padding)
    full = torch.nn.functional.conv_transpose2d(t, torch.from_numpy(w).permute(3, 2, 0, 1), stride=stride)
    got = torch.nn.functional.pad(full, [-before, -after] * 2)
    np.testing.assert_allclose(got.permute(0, 2, 3, 1), transpose(x, w, np.zeros(2), stride, padding), atol=1e-9)
    w = rng.normal(size=(kernel, kernel, 3, 2))
    margins = same(side, kernel, stride) if padding == "same" else (0, 0)
    padded = torch.nn.functional.pad(t, [*margins] * 2)
    got = torch.nn.functional.conv2d(padded, torch.from_numpy(w).permute(3, 2, 0, 1), stride=stride)
    np.testing.assert_allclose(got.permute(0, 2, 3, 1), convolve(x, w, np.zeros(2), stride, padding), atol=1e-9)


def test_a_combined_model_holds_both(tmp_path: Path) -> None:
    """GAN = Sequential([generator, discriminator]), as it is trained; the weights lie below the inner models' names."""
    g, d = tutorial(), discriminator()
    inner = [configured(g, [None, 6], "generator"), configured(d, [None, 28, 28, 1], "discriminator")]
    config = {"class_name": "Sequential", "config": {"name": "gan", "layers": inner}}
    with h5py.File(tmp_path / "gan.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array(["generator", "discriminator"], "S64")
        for name, layers in (("generator", g), ("discriminator", d)):
            write_weights(root.create_group(name), layers, names=False)
    gan = checkpoints.load(tmp_path / "gan.h5", prior="normal")
    z = gan.latents(2)
    torch.testing.assert_close(gan.images(z), images(g, z), atol=2e-5, rtol=0)
    wanted = reference(d, images(g, z).permute(0, 2, 3, 1).double().numpy())[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(
            gan.discriminator(gan.images(z)).sigmoid(), torch.from_numpy(wanted).float(), atol=2e-5, rtol=0
        )


def test_a_combined_archive_holds_both(tmp_path: Path) -> None:
    """Likewise as .keras, where inner models are numbered by their class and their layers begin anew in each."""
    g, d = tutorial(), discriminator()
    inner = [configured(g, [None, 6], "generator"), configured(d, [None, 28, 28, 1], "discriminator")]
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for place, layers in (("sequential", g), ("sequential_1", d)):
            seen = dict[str, int]()
            for kind, _, weights in layers:
                if weights:
                    at = seen.get(kind, 0)
                    seen[kind] = at + 1
                    group = file.create_group(f"layers/{place}/layers/{snake(kind)}{f'_{at}' if at else ''}/vars")
                    for i, array in enumerate(weights.values()):
                        group.create_dataset(str(i), data=array.astype("f4"))
    with zipfile.ZipFile(tmp_path / "gan.keras", "w") as archive:
        archive.writestr(
            "config.json", json.dumps({"class_name": "Sequential", "config": {"name": "gan", "layers": inner}})
        )
        archive.writestr("model.weights.h5", data.getvalue())
    gan = checkpoints.load(tmp_path / "gan.keras", prior="normal")
    z = gan.latents(2)
    torch.testing.assert_close(gan.images(z), images(g, z), atol=2e-5, rtol=0)
    wanted = reference(d, images(g, z).permute(0, 2, 3, 1).double().numpy())[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(
            gan.discriminator(gan.images(z)).sigmoid(), torch.from_numpy(wanted).float(), atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("how", ["multiply", "before", "behind", "one-hot"])
@pytest.mark.parametrize("keras3", [False, True])
def test_a_functional_conditional_generator(tmp_path: Path, how: str, keras3: bool) -> None:
    """A label's embedding multiplied with the latent, or beside it; or the label itself, one-hot."""
    d, rng = Draw(5), np.random.default_rng(1)
    table = np.eye(3) if how == "one-hot" else rng.normal(size=(3, 6 if how == "multiply" else 4))
    width = 6 if how == "multiply" else 6 + table.shape[1]
    layers = [
        d.dense(width, 7 * 7 * 4, activation="relu"),
        d.plain("Reshape", "reshape", target_shape=[7, 7, 4]),
        d.conv(4, 1, 4, 4, "same", True, activation="tanh"),
    ]

    def node(*names: str) -> Any:
        if keras3:
            parts = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in names]
            return [{"args": parts if len(parts) == 1 else [parts], "kwargs": {}}]
        return [[[name, 0, 0, {}] for name in names]]

    def entry(kind: str, name: str, nodes: Any, **config: Any) -> dict[str, Any]:
        return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}

    shape = "batch_shape" if keras3 else "batch_input_shape"
    label = "label" if how == "one-hot" else "flatten"
    graph = [entry("InputLayer", "z", [], **{shape: [None, 6]})]
    graph.append(entry("InputLayer", "label", [], **{shape: [None, 3 if how == "one-hot" else 1]}))
    if how != "one-hot":
        graph += [entry("Embedding", "embedding", node("label")), entry("Flatten", "flatten", node("embedding"))]
    join = ("z", label) if how in ("multiply", "behind", "one-hot") else (label, "z")
    graph.append(entry("Multiply" if how == "multiply" else "Concatenate", "join", node(*join)))
    before = "join"
    for kind, config, _ in layers:
        graph.append({"class_name": kind, "name": config["name"], "config": config, "inbound_nodes": node(before)})
        before = config["name"]
    outputs = [before, 0, 0] if keras3 else [[before, 0, 0]]
    config = {"class_name": "Functional", "config": {"name": "g", "layers": graph, "output_layers": outputs}}
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        held = [] if how == "one-hot" else [("Embedding", {"name": "embedding"}, {"embeddings": table})]
        write_weights(root, [*held, *layers])
    with pytest.raises(
        ProbeError, match=r"a conditional generator of 3 classes \(.*\); choose one with `label` 0 to 2"
    ):
        checkpoints.load(tmp_path / "g.h5")
    for k in range(3):
        gan = checkpoints.load(tmp_path / "g.h5", label=k)
        z = gan.latents(2)
        row = np.repeat(table[k : k + 1], 2, 0)
        x = z.double().numpy()
        entered = x * row if how == "multiply" else np.concatenate([row, x] if how == "before" else [x, row], 1)
        torch.testing.assert_close(gan.images(z), images(layers, torch.from_numpy(entered)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("first", [False, True])
def test_a_label_that_becomes_a_feature_map(tmp_path: Path, first: bool) -> None:
    """The widespread conditional layout: embedding, Dense, Reshape to one map, beside the maps that the latent gives."""
    d, rng = Draw(7), np.random.default_rng(4)
    table = rng.normal(size=(3, 5))
    label = [d.dense(5, 49), d.plain("Reshape", "reshape", target_shape=[7, 7, 1])]
    head = [d.dense(6, 49 * 4), d.norm(49 * 4, 1), d.plain("LeakyReLU", "leaky_re_lu", alpha=0.2)]
    head.append(d.plain("Reshape", "reshape", target_shape=[7, 7, 4]))
    tail = [
        d.conv(5, 6, 4, 2, "same", True),
        d.norm(6, 3),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.2),
        d.conv(6, 1, 4, 2, "same", True, activation="tanh"),
    ]

    def entry(kind: str, name: str, *before: str, **config: Any) -> dict[str, Any]:
        nodes = [[[part, 0, 0, {}] for part in before]] if before else []
        return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}

    graph = [
        entry("InputLayer", "z", batch_input_shape=[None, 6]),
        entry("InputLayer", "y", batch_input_shape=[None, 1]),
    ]
    graph.append(entry("Embedding", "embedding", "y"))
    ends = {}
    for start, layers in (("embedding", label), ("z", head)):
        ends[start] = start
        for kind, config, _ in layers:
            graph.append(entry(kind, config["name"], ends[start], **{k: v for k, v in config.items() if k != "name"}))
            ends[start] = config["name"]
    order = (ends["embedding"], ends["z"]) if first else (ends["z"], ends["embedding"])
    graph.append(entry("Concatenate", "join", *order, axis=-1))
    before = "join"
    for kind, config, _ in tail:
        graph.append(entry(kind, config["name"], before, **{k: v for k, v in config.items() if k != "name"}))
        before = config["name"]
    config = {"class_name": "Functional", "config": {"name": "g", "layers": graph, "output_layers": [[before, 0, 0]]}}
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        write_weights(root, [("Embedding", {"name": "embedding"}, {"embeddings": table}), *label, *head, *tail])
    for k in range(3):
        gan = checkpoints.load(tmp_path / "g.h5", label=k, prior="normal")
        z = gan.latents(3)
        parts = [reference(head, z.double().numpy()), np.repeat(reference(label, table[k : k + 1]), 3, 0)]
        wanted = reference(tail, np.concatenate(parts[::-1] if first else parts, 3))
        got = gan.images(z).permute(0, 2, 3, 1).double().numpy()
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_weights_alone(tmp_path: Path) -> None:
    """Without a configuration, strides follow from a usual image size, activations from names or as is usual."""
    layers = tutorial()
    write(tmp_path / "g.h5", layers, [None, 6], config=False)
    gan = checkpoints.load(tmp_path / "g.h5", prior="normal")
    for kind, config, _ in layers:
        if kind == "LeakyReLU":
            config["alpha"] = gan.generator.blocks[0].slope
    assert gan.generator.blocks[0].slope in (0.2, 0.3)
    z = gan.latents(2)
    torch.testing.assert_close(gan.images(z), images(layers, z), atol=2e-5, rtol=0)
    assert "conv2d_transpose_1 has stride 2" in gan.provenance["assumed"]


def test_weights_alone_tell_order_and_slope_by_their_statistics(tmp_path: Path) -> None:
    """BatchNorm behind LeakyReLU(0.2), as Keras-GAN's conditional ones have it: its statistics were made by that."""
    d, rng = Draw(6), np.random.default_rng(2)
    layers = [
        d.dense(6, 7 * 7 * 8),
        d.plain("LeakyReLU", "x", alpha=0.2),
        d.norm(8, 3),
        d.conv(8, 8, 3, 1, "same"),
        d.plain("LeakyReLU", "x", alpha=0.2),
        d.norm(8, 3),
        d.conv(8, 1, 3, 1, "same", activation="tanh"),
    ]
    layers.insert(1, ("Reshape", {"name": "r", "target_shape": [7, 7, 8]}, {}))
    layers.insert(4, ("UpSampling2D", {"name": "u"}, {}))
    layers.insert(8, ("UpSampling2D", {"name": "v"}, {}))
    z = rng.normal(size=(200, 6))
    for i, (kind, _, weights) in enumerate(layers):
        if kind == "BatchNormalization":
            x = reference(layers[:i], z)
            weights["moving_mean"], weights["moving_variance"] = x.mean((0, 1, 2)), x.var((0, 1, 2))
    held = [layer for layer in layers if layer[2]]
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file.attrs["layer_names"] = np.array(["model"], "S64")
        group = file.create_group("model")
        group.attrs["weight_names"] = np.array([f"{c['name']}/{leaf}:0" for _, c, w in held for leaf in w], "S64")
        for _, config, weights in held:
            for leaf, array in weights.items():
                group.create_dataset(f"{config['name']}/{leaf}:0", data=array.astype("f4"))
    gan = checkpoints.load(tmp_path / "g.h5")
    assert gan.prior == "normal"
    latents = gan.latents(2)
    torch.testing.assert_close(gan.images(latents), images(layers, latents), atol=2e-5, rtol=0)
    assert any(
        "leaky 0.2 follows every layer but the last, and BatchNorm that" in line for line in gan.provenance["assumed"]
    )


def test_a_uniform_prior_is_told_by_the_statistics(tmp_path: Path) -> None:
    layers = tutorial()
    z = np.random.default_rng(3).uniform(-1, 1, size=(400, 6))
    for i, (kind, _, weights) in enumerate(layers):
        if kind == "BatchNormalization":
            x = reference(layers[:i], z[:100] if i > 2 else z)
            axes = tuple(range(x.ndim - 1))
            weights["moving_mean"], weights["moving_variance"] = x.mean(axes), x.var(axes)
    write(tmp_path / "g.h5", layers, [None, 6])
    gan = checkpoints.load(tmp_path / "g.h5")
    assert gan.prior == "uniform"
    assert gan.provenance["prior_source"] == "statistics"
    found = gan.provenance["consistency"]["generator"]
    assert found["verdict"] == "identified"
    assert found["score"] < 0.2 < 0.6 < found["before"]
    assert found["changed"] == ["latents from U(-1, 1), not N(0, 1)"]
    gan = checkpoints.load(tmp_path / "g.h5", prior="normal")
    assert gan.prior == "normal"
    assert gan.provenance["consistency"]["generator"]["verdict"] == "inconsistent"


# What is refused -----------------------------------------------------------------------------------------------------


def refused(path: Path, message: str) -> None:
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(path)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)


def test_the_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "g.h5", tutorial(), [None, 6])
    monkeypatch.setattr(containers, "find_spec", lambda name: None)
    refused(tmp_path / "g.h5", r"needs the package h5py; install it with pip install 'dcgan-probe\[keras\]'")


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (
            "MaxPooling2D",
            {"pool_size": [3, 3], "strides": [2, 2]},
            r"x, a MaxPooling2D, pools 3 x 3 with stride 2; open it",
        ),
        ("Lambda", {"function": "os.system"}, r"x, a Lambda, is no layer of a DCGAN"),
        ("ReLU", {"max_value": 6.0}, r"a ReLU with a ceiling"),
        ("Activation", {"activation": "softmax"}, r"has the activation 'softmax'"),
        ("Reshape", {"target_shape": [3, 5]}, r"makes \[3, 5\]"),
        ("UpSampling2D", {"size": [2, 2], "interpolation": "bicubic"}, r"interpolates by bicubic"),
    ],
)
def test_other_layers_are_named(tmp_path: Path, kind: str, config: dict[str, Any], message: str) -> None:
    layers = tutorial()
    layers.insert(5, (kind, {"name": "x", **config}, {}))
    write(tmp_path / "g.h5", layers, [None, 6])
    refused(tmp_path / "g.h5", message)


def test_nothing_outside_the_file_is_read(tmp_path: Path) -> None:
    layers = tutorial()
    write(tmp_path / "other.h5", layers, [None, 6])
    for name, place in (("external", True), ("soft", False)):
        path = tmp_path / f"{name}.h5"
        write(path, layers, [None, 6])
        with h5py.File(path, "a") as file:
            del file["model_weights/dense/dense/kernel:0"]
            where = "/model_weights/dense/dense/kernel:0"
            file[where] = h5py.ExternalLink(str(tmp_path / "other.h5"), where) if place else h5py.SoftLink(where)
        refused(path, r"kernel:0 is a link to somewhere else; refused")
    path = tmp_path / "stored.h5"
    write(path, layers, [None, 6])
    (tmp_path / "raw").write_bytes(bytes(6 * 588 * 4))
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense"].create_dataset(
            "kernel:0", (6, 588), "f4", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        )
    refused(path, r"kernel:0 lies in another file; refused")


def test_a_declared_shape_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "g.h5"
    write(path, tutorial(), [None, 6])
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense"].create_dataset(
            "kernel:0", (2**20, 2**20), "f4", chunks=(64, 64), compression="gzip"
        )
    refused(path, r"kernel:0 declares shape \(1048576, 1048576\), more than the file can hold")


def test_a_group_that_holds_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "g.h5"
    layers = tutorial()
    write(path, layers, [None, 6])
    with h5py.File(path, "a") as file:
        file["model_weights/dense/loop"] = file["model_weights"]
    gan = checkpoints.load(path, prior="normal")
    z = gan.latents(2)
    torch.testing.assert_close(gan.images(z), images(layers, z), atol=2e-5, rtol=0)


FILES = {
    "keras-a-generator.h5": (100, 28, 1, None),
    "keras-b-gan.h5": (128, 28, 1, None),
    "keras-c-conditional.h5": (128, 28, 1, 3),
    "keras-d-generator.keras": (50, 28, 1, None),
    "keras-weights-only-generator.h5": (100, 28, 1, None),
    "keras-weights-only-b.hdf5": (100, 28, 1, 3),
}


@pytest.mark.parametrize("file", FILES)
def test_files_of_others(file: str) -> None:
    """Public files open, and their statistics (where they hold any) agree with the reading."""
    from probe.checkpoints.described import agreement

    if not (REAL / file).is_file():
        pytest.skip("the public checkpoints are not here")
    nz, size, channels, label = FILES[file]
    gan = checkpoints.load(REAL / file, label=label)
    assert (gan.nz, gan.size, gan.channels) == (nz, size, channels)
    assert gan.sample(16).std() > 0.2
    (described,), _, _ = containers.read(REAL / file)
    distance = agreement(described, gan.prior)
    assert distance < 0.3 or "keras-d" in file
