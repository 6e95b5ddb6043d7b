"""TensorFlow checkpoints: tables written here from the format's documentation, networks against the reference of Keras'."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from probe import checkpoints
from probe.base.errors import ProbeError
from tests.checkpoints.test_checkpoint_keras import Draw, Layer, discriminator, images, reference, tutorial


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a table: names share their beginnings with the one before; one restart; no compression; a checksum."""
    out, before = b"", b""
    for name, value in entries:
        shared = 0
        while shared < min(len(name), len(before)) and name[shared] == before[shared]:
            shared += 1
        out += varint(shared) + varint(len(name) - shared) + varint(len(value)) + name[shared:] + value
        before = name
    return out + struct.pack("<II", 0, 1) + b"\0" + b"crc!"


def write(path: Path, arrays: dict[str, np.ndarray], lie: int = 0) -> None:
    """path.index and path.data-00000-of-00001."""
    data, entries = b"", [(b"", b"\x08\x01"), (b"_CHECKPOINTABLE_OBJECT_GRAPH", b"\x08\x07\x28\x05")]
    for name, array in arrays.items():
        dims = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(n + lie) for n in array.shape))
        kind = 1 if array.dtype == np.float32 else 9
        held = b"\x08" + varint(kind) + b"\x12" + varint(len(dims)) + dims
        held += b"\x20" + varint(len(data)) + b"\x28" + varint(array.nbytes) + b"\x35crc!"
        entries.append((name.encode(), held))
        data += array.tobytes()
    entries.sort()
    half = len(entries) // 2
    out, handles = b"", []
    for part in (entries[:half], entries[half:]):
        made = block(part)
        handles.append((part[-1][0], varint(len(out)) + varint(len(made) - 5)))
        out += made
    meta = varint(len(out)) + varint(8)
    out += block([])
    index = block(handles)
    footer = meta + varint(len(out)) + varint(len(index) - 5)
    out += index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    Path(f"{path}.index").write_bytes(out)
    Path(f"{path}.data-00000-of-00001").write_bytes(data)


def objects(name: str, layers: list[Layer]) -> dict[str, np.ndarray]:
    held = [weights for _, _, weights in layers if weights]
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    found = {}
    for i, weights in enumerate(held):
        for leaf, array in weights.items():
            found[f"{name}/layer_with_weights-{i}/{leaf}{end}"] = array.astype(np.float32)
            found[f"{name}/layer_with_weights-{i}/{leaf}/.OPTIMIZER_SLOT/generator_optimizer/m{end}"] = (
                0 * array.astype(np.float32)
            )
    return found


def trained(layers: list[Layer]) -> list[Layer]:
    """Layers whose BatchNorms hold the statistics of what enters them."""
    z = np.random.default_rng(3).normal(size=(200, 6))
    for i, (kind, _, weights) in enumerate(layers):
        if kind == "BatchNormalization":
            x = reference(layers[:i], z[:60] if i > 2 else z)
            axes = tuple(range(x.ndim - 1))
            weights["moving_mean"], weights["moving_variance"] = x.mean(axes), x.var(axes)
    return layers


def plain_discriminator() -> list[Layer]:
    """The tutorial's: 5x5 kernels with stride 2, LeakyReLU, no BatchNorm; a logit."""
    d = Draw(4)
    return [
        d.conv(1, 6, 5, 2, "same"),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.2),
        d.conv(6, 8, 5, 2, "same"),
        d.plain("LeakyReLU", "leaky_re_lu", alpha=0.2),
        d.plain("Flatten", "flatten"),
        d.dense(8 * 49, 1),
    ]


@pytest.mark.parametrize("folder", [False, True])
def test_the_tutorials_checkpoint(tmp_path: Path, folder: bool) -> None:
    """training_checkpoints/ as TensorFlow's tutorial leaves it: both networks, their optimizers, a save counter."""
    g, d = trained(tutorial()), plain_discriminator()
    arrays = objects("generator", g) | objects("discriminator", d)
    arrays["save_counter/.ATTRIBUTES/VARIABLE_VALUE"] = np.array(3, np.int64)
    write(tmp_path / "ckpt-9", objects("generator", tutorial()))
    write(tmp_path / "ckpt-10", arrays)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-10"\n')
    gan = checkpoints.load(tmp_path if folder else tmp_path / "ckpt-10.index")
    assert gan.prior == "normal"
    z = gan.latents(2)
    torch.testing.assert_close(gan.images(z), images(g, z), atol=2e-5, rtol=0)
    wanted = reference(d, images(g, z).permute(0, 2, 3, 1).double().numpy())[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(
            gan.discriminator(gan.images(z)), torch.from_numpy(wanted).float(), atol=1e-4, rtol=1e-4
        )
    assert any("leaky 0.3 follows every layer but the last" in line for line in gan.provenance["assumed"])


def test_the_widespread_port_for_tensorflow_1(tmp_path: Path) -> None:
    """Scopes generator/g_h0_lin, g_bn0, g_h1 …: a projection, BatchNorm over maps, 5x5 kernels, ReLU; d_h0_conv … d_h3_lin."""
    draw = Draw(8)
    g = [
        draw.dense(6, 16 * 12),
        draw.plain("Reshape", "r", target_shape=[4, 4, 12]),
        draw.norm(12, 3, epsilon=1e-5),
        draw.plain("X", "a", activation="relu"),
        draw.conv(12, 8, 5, 2, "same", True),
        draw.norm(8, 3, epsilon=1e-5),
        draw.plain("X", "b", activation="relu"),
        draw.conv(8, 6, 5, 2, "same", True),
        draw.norm(6, 3, epsilon=1e-5),
        draw.plain("X", "c", activation="relu"),
        draw.conv(6, 3, 5, 2, "same", True, activation="tanh"),
    ]
    d = [
        draw.conv(3, 5, 5, 2, "same"),
        draw.plain("LeakyReLU", "l", alpha=0.2),
        draw.conv(5, 6, 5, 2, "same"),
        draw.norm(6, 3, epsilon=1e-5),
        draw.plain("LeakyReLU", "m", alpha=0.2),
        draw.plain("Flatten", "f"),
        draw.dense(6 * 64, 1),
    ]
    names = {"Dense": ("Matrix", "bias"), "Conv2DTranspose": ("w", "biases"), "Conv2D": ("w", "biases")}
    arrays = {"beta1_power": np.float32(0.5).reshape(())}
    for model, layers in (("generator", trained(g)), ("discriminator", d)):
        at = -1
        for kind, _, weights in layers:
            letter, end = model[0], {"Dense": "_lin", "Conv2D": "_conv"}.get(kind, "")
            if kind == "BatchNormalization":
                arrays |= {
                    f"{model}/{letter}_bn{at}/{leaf}": array.astype(np.float32) for leaf, array in weights.items()
                }
            elif kind in names:
                at += 1
                for leaf, array in zip(names[kind], weights.values(), strict=True):
                    arrays[f"{model}/{letter}_h{at}{end}/{leaf}"] = array.astype(np.float32)
                    arrays[f"{model}/{letter}_h{at}{end}/{leaf}/Adam"] = 0 * array.astype(np.float32)
    write(tmp_path / "DCGAN.model-500", arrays)
    gan = checkpoints.load(tmp_path)
    z = gan.latents(2)
    torch.testing.assert_close(gan.images(z), images(g, z), atol=2e-5, rtol=0)
    wanted = reference(d, images(g, z).permute(0, 2, 3, 1).double().numpy())[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(
            gan.discriminator(gan.images(z)), torch.from_numpy(wanted).float(), atol=1e-4, rtol=1e-4
        )


def refused(path: Path, message: str) -> None:
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(path)
    assert "\n" not in str(error.value)


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ckpt-1"
    arrays = objects("generator", tutorial())
    write(path, arrays, lie=2**30)
    refused(tmp_path / "ckpt-1.index", r"damaged TensorFlow checkpoint \(generator/.* declares shape")
    write(path, arrays)
    data = Path(f"{path}.data-00000-of-00001")
    refused(data, r"the arrays of a TensorFlow checkpoint; pass ckpt-1.index, which lists them")
    data.write_bytes(data.read_bytes()[:-40])
    refused(tmp_path / "ckpt-1.index", r"lies beyond the end of ckpt-1.data-00000-of-00001")
    data.unlink()
    refused(tmp_path / "ckpt-1.index", r"its file ckpt-1.data-00000-of-… is not beside it")
    (tmp_path / "ckpt-1.index").write_bytes(b"no table" * 10)
    refused(tmp_path / "ckpt-1.index", r"damaged TensorFlow checkpoint \(no table of names\)")
    write(path, {"g/w": np.zeros((2, 2), np.float32)})
    refused(
        tmp_path / "ckpt-1.index", r"without Keras layers \(found g/w\); where the model was built, .* generator.save"
    )


def test_a_saved_model_names_the_command(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    (tmp_path / "variables").mkdir()
    for path in (tmp_path, tmp_path / "saved_model.pb"):
        refused(path, r"a TensorFlow SavedModel; .* python -m tf2onnx.convert --saved-model .* --output generator.onnx")


def test_other_tools(tmp_path: Path) -> None:
    for name, message in (("g.tflite", "a TensorFlow Lite file"), ("g.pdparams", "a PaddlePaddle file")):
        (tmp_path / name).write_bytes(b"\0" * 64)
        refused(tmp_path / name, message + r", which is not read; save the model as ONNX or Keras .h5")


def test_a_discriminator_of_keras_layers_alone_is_said(tmp_path: Path) -> None:
    write(tmp_path / "ckpt-1", objects("discriminator", discriminator()))
    refused(tmp_path / "ckpt-1.index", r"holds a discriminator only; pass it as `disc`")
