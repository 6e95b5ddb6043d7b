"""Whole modules: pickled, scripted, traced or of Torch7, against the modules themselves; nothing of a file is imported."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.checkpoints import inert
from tests.originals import NZ, main_d, main_g, randomised, same, sequential_d, sequential_g

REAL = Path(__file__).resolve().parents[3] / "shared" / "checkpoints" / "wild"


class Rich(nn.Module):
    """Settings that no state dict holds: slopes, eps, output padding, order, interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(NZ, 12 * 49))
        self.blocks = nn.Sequential(
            nn.BatchNorm2d(12, 0.8),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(12, 10, 3, 1, 1),
            nn.LeakyReLU(0.3, inplace=True),
            nn.BatchNorm2d(10, 0.01),
            nn.Dropout2d(0.25),
            nn.ConvTranspose2d(10, 8, 3, 2, 1, output_padding=1),
            nn.PReLU(8),
            nn.ZeroPad2d((1, 1, 1, 1)),
            nn.Conv2d(8, 3, 3),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.blocks(self.l1(z).view(-1, 12, 7, 7))


class Shared(nn.Module):
    """A class whose code calls one activation between all layers, as the TensorFlow-minded write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(NZ, 16, 4, 1, 0)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.ConvTranspose2d(8, 3, 4, 2, 1)
        self.act = nn.LeakyReLU(0.1)
        self.tanh = nn.Tanh()

    def forward(self, z: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(z[:, :, None, None])))
        return self.tanh(self.conv3(self.act(self.bn2(self.conv2(x)))))


class Functional(Shared):
    """Likewise by torch.nn.functional."""

    def __init__(self) -> None:
        super().__init__()
        del self.act, self.tanh

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(z[:, :, None, None])))
        return torch.tanh(self.conv3(F.relu(self.bn2(self.conv2(x)))))


class TwoHeads(nn.Module):
    """An ACGAN's discriminator: a head for real or fake and one for classes, over the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            spectral_norm(nn.Conv2d(3, 8, 4, 2, 1)),
            nn.LeakyReLU(0.1),
            nn.Conv2d(8, 8, 4, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.real = nn.Sequential(nn.Linear(8 * 49, 1), nn.Sigmoid())
        self.classes = nn.Sequential(nn.Linear(8 * 49, 10), nn.Softmax(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.real(self.main(x).flatten(1))


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(3, 4)
        self.main = nn.Sequential(
            nn.ConvTranspose2d(NZ + 4, 8, 4, 1, 0), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 4, 0), nn.Tanh()
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.main(torch.cat([z, self.emb(label)], 1)[:, :, None, None])


def legacy(module: object, path: Path) -> None:
    torch.save(module, path, _use_new_zipfile_serialization=False)


def plain(module: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(module))


WRITERS: list[Callable[[object, Path], None]] = [torch.save, legacy, plain]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("kind", [Rich, Shared, Functional])
def test_a_whole_generator(tmp_path: Path, kind: type[nn.Module], write: Callable[[object, Path], None]) -> None:
    g = randomised(kind())
    write(g, tmp_path / "netG.pkl")
    gan = checkpoints.load(tmp_path / "netG.pkl", prior="normal")
    same(gan, g, flat=True)
    assert gan.provenance["format"] == "PyTorch module"


@pytest.mark.parametrize("write", WRITERS)
def test_both_networks_in_a_dict_and_a_discriminator_of_two_heads(
    tmp_path: Path, write: Callable[[object, Path], None]
) -> None:
    g, d = randomised(Rich()), TwoHeads()
    d(torch.rand(2, 3, 28, 28))
    randomised(d.main[3:])
    d.eval()
    write({"epoch": 3, "netG": g, "netD": d}, tmp_path / "both.pt")
    gan = checkpoints.load(tmp_path / "both.pt", prior="normal")
    same(gan, g, d, flat=True)


def test_sequentials_in_two_files(tmp_path: Path) -> None:
    g, d = randomised(sequential_g(kernel=5)), randomised(sequential_d(dropout=True), 1)
    torch.save(g, tmp_path / "netG.pth")
    torch.save(d, tmp_path / "netD.pth")
    gan = checkpoints.load(tmp_path / "netG.pth", disc=tmp_path / "netD.pth")
    same(gan, g, d)
    same(checkpoints.load(tmp_path), g, d)
    rows = gan.provenance["consistency"]["generator"]["layers"]
    assert [row["layer"] for row in rows] == ["0", "3", "6", "9"]
    assert rows[1]["kernel"] == 5
    assert {row[key] for row in rows for key in ("activation_from", "geometry_from")} == {"module tree"}
    with pytest.raises(ProbeError, match=r"class 1 of a generator without classes; leave `label` out"):
        checkpoints.load(tmp_path / "netG.pth", label=1)


def test_no_class_of_the_file_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's own class may be anywhere: its name is never looked up."""
    place = types.ModuleType("somebodys_models")
    own = type("Generator", (nn.Sequential,), {"__module__": "somebodys_models", "forward": nn.Sequential.forward})
    place.Generator = own
    monkeypatch.setitem(sys.modules, "somebodys_models", place)
    g = randomised(own(sequential_g()))
    torch.save(g, tmp_path / "a.pth")
    monkeypatch.delitem(sys.modules, "somebodys_models")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an import")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.__import__", refuse)
        tree = inert.read_torch(tmp_path / "a.pth")
    assert str(tree.name) == "somebodys_models.Generator"
    same(checkpoints.load(tmp_path / "a.pth"), g)


def test_assumptions_are_said(tmp_path: Path) -> None:
    torch.save(randomised(Functional()), tmp_path / "a.pth")
    gan = checkpoints.load(tmp_path / "a.pth", prior="normal")
    assert gan.provenance["assumed"] == [
        "Functional runs conv1, bn1, conv2, bn2, conv3 in the order in which they were registered",
        "act (which relu) follows every layer but the last",
        "the image is the tanh of the last layer",
    ]


def test_a_conditional_generator_draws_the_class_asked_for(tmp_path: Path) -> None:
    g = randomised(Conditional())
    torch.save(g, tmp_path / "a.pth")
    with pytest.raises(
        ProbeError, match=r"a conditional generator of 3 classes \(emb\); choose one with `label` 0 to 2"
    ):
        checkpoints.load(tmp_path / "a.pth")
    with pytest.raises(ProbeError, match=r"class 3: expected 0 to 2"):
        checkpoints.load(tmp_path / "a.pth", label=3)
    for label in range(3):
        gan = checkpoints.load(tmp_path / "a.pth", label=label)
        z = gan.latents(4)
        with torch.no_grad():
            torch.testing.assert_close(gan.images(z), g(z, torch.full((4,), label)), atol=1e-6, rtol=1e-5)
    assert gan.provenance["class"] == {"label": 2, "classes": 3, "how": "after", "from": "assumed"}


def test_pooling(tmp_path: Path) -> None:
    g = randomised(Rich())
    d = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.LeakyReLU(0.1)
    )
    d.extend([nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 25, 1), nn.Sigmoid()])
    torch.save(g, tmp_path / "netG.pth")
    torch.save(randomised(d, 1), tmp_path / "netD.pth")
    same(checkpoints.load(tmp_path / "netG.pth", disc=tmp_path / "netD.pth", prior="normal"), g, d, flat=True)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "groups": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 4, groups=2), nn.ConvTranspose2d(4, 3, 4)), r"0, a ConvTranspose2d, .*groups"),
    "attention": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 4), nn.MultiheadAttention(4, 1)), r"1, a MultiheadAttention, is no layer"),
    "pooling": (lambda: nn.Sequential(nn.Conv2d(3, 4, 4), nn.MaxPool2d(3, 2), nn.Conv2d(4, 1, 4)), r"1, a MaxPool2d, .*kernel 3, stride 2"),
    "corners": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 4), nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(4, 3, 3)),
        r"1, a UpsamplingBilinear2d, .*align_corners True",
    ),
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 784)), r"a fully connected network of 2 linear layers"),
    "between images": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, 1, 1)),
        r"takes an image \(or noise of its shape\) and gives one of 3 channels",
    ),
    "classes": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 10)), r"2 gives 10 numbers for an image"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_is_named(name: str) -> None:
    from probe.checkpoints import modules

    make, message = REFUSED[name]
    file = io.BytesIO()
    torch.save(make(), file)
    tree = inert._settled(inert._zipped(file, len(file.getvalue())))
    with pytest.raises(ProbeError, match=message) as error:
        modules.networks(tree, "a.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["module-pickle-generator.pkl", "module-pickle-discriminator.pkl"])
def test_files_of_others_against_their_own_parts(file: str) -> None:
    """The parts of a public file, run by torch itself, give what our reading gives."""
    if not (REAL / file).is_file():
        pytest.skip("the public checkpoints are not here")
    tree = inert.read_torch(REAL / file)
    parts = {name: part for name, part in inert.walk(tree) if not inert.children(part)}
    gan = checkpoints.load(REAL / "module-pickle-generator.pkl", disc=REAL / "module-pickle-discriminator.pkl")
    x = gan.latents(4)[:, :, None, None]
    if "discriminator" in file:
        x = gan.sample(4)
        gan.discriminator.eval()
        wanted = gan.discriminator(x).detach()
        x = (x + 1) / 2  # the images that the owner's networks draw and judge are in [0, 1]
        parts = {name: part for name, part in parts.items() if not name.startswith("C.") and name != "D.1"}
    else:
        wanted = (gan.images(x.flatten(1)) + 1) / 2
    for part in parts.values():
        own, state = inert.own_tensors(part), part.state
        kind = part.name.name
        if kind in ("Conv2d", "ConvTranspose2d"):
            run = F.conv2d if kind == "Conv2d" else F.conv_transpose2d
            x = run(x, own["weight"], own["bias"], state["stride"], state["padding"])
        elif kind == "BatchNorm2d":
            x = F.batch_norm(x, own["running_mean"], own["running_var"], own["weight"], own["bias"], eps=state["eps"])
        elif kind == "Linear":
            x = F.linear(x.flatten(1), own["weight"], own["bias"])
        else:
            x = {"ReLU": F.relu, "Tanh": torch.tanh, "LeakyReLU": lambda x: F.leaky_relu(x, 0.2)}[kind](x)
    torch.testing.assert_close(wanted, x.reshape(wanted.shape), atol=1e-4, rtol=1e-4)


# TorchScript ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("kind", [Rich, Shared, Functional])
def test_torchscript(tmp_path: Path, kind: type[nn.Module], trace: bool) -> None:
    g = randomised(kind())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (torch.jit.trace(g, torch.zeros(1, NZ)) if trace else torch.jit.script(g)).save(tmp_path / "a.pt")
    gan = checkpoints.load(tmp_path / "a.pt", prior="normal")
    same(gan, g, flat=True)
    assert gan.provenance["format"] == "TorchScript"


def test_torchscript_of_branches_is_refused(tmp_path: Path) -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.ConvTranspose2d(NZ, 4, 4), nn.ConvTranspose2d(4, 4, 1)

        def forward(self, z: Tensor) -> Tensor:
            x = self.a(z)
            return x + self.b(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Skips(), torch.zeros(1, NZ, 1, 1)).save(tmp_path / "a.pt")
    with pytest.raises(ProbeError, match=r"a TorchScript archive that joins two branches by add"):
        checkpoints.load(tmp_path / "a.pt")


# Lightning -----------------------------------------------------------------------------------------------------------


def test_lightning(tmp_path: Path) -> None:
    """A .ckpt as Lightning writes it: state_dict beside hyper-parameters, loops and callbacks of its own classes."""
    g, d = main_g(), main_d()
    state = {f"generator.{k}": v for k, v in g.state_dict().items()} | {
        f"discriminator.{k}": v for k, v in d.state_dict().items()
    }
    loops = {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}}
    checkpoint = {
        "epoch": 3,
        "global_step": 30,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": state,
        "loops": loops,
    }
    checkpoint |= {"optimizer_states": [{"state": {}, "param_groups": []}], "hyper_parameters": {"latent_dim": NZ}}
    torch.save(checkpoint, tmp_path / "epoch=3.ckpt")
    same(checkpoints.load(tmp_path / "epoch=3.ckpt"), g, d)


# Torch7 --------------------------------------------------------------------------------------------------------------


class Lua:
    """A writer of torch7's binary format, from its documentation."""

    def __init__(self) -> None:
        self.out, self.count = bytearray(), 0

    def put(self, form: str, *values: Any) -> None:
        self.out += struct.pack("<" + form, *values)

    def text(self, text: str) -> None:
        self.put("i", len(text))
        self.out += text.encode()

    def index(self) -> None:
        self.count += 1
        self.put("i", self.count)

    def write(self, value: Any) -> None:
        if value is None:
            self.put("i", 0)
        elif isinstance(value, bool):
            self.put("ii", 5, value)
        elif isinstance(value, int | float):
            self.put("id", 1, value)
        elif isinstance(value, str):
            self.put("i", 2)
            self.text(value)
        elif isinstance(value, Tensor):
            self.put("i", 4)
            self.index()
            self.text("V 1")
            self.text("torch.FloatTensor")
            value = value.detach().contiguous()
            self.put("i", value.dim())
            self.put(f"{value.dim()}q", *value.shape)
            self.put(f"{value.dim()}q", *value.stride())
            self.put("q", 1)
            self.put("i", 4)
            self.index()
            self.text("V 1")
            self.text("torch.FloatStorage")
            self.put("q", value.numel())
            self.out += value.numpy().astype("<f4").tobytes()
        elif isinstance(value, tuple):
            self.put("i", 4)
            self.index()
            self.text("V 1")
            self.text(value[0])
            self.write(value[1])
        else:
            self.put("i", 3)
            self.index()
            self.put("i", len(value))
            for key, item in value.items():
                self.write(key)
                self.write(item)


def lua(module: nn.Module) -> tuple[str, dict[Any, Any]]:
    """A torch module as nn of Lua describes it."""
    kind = type(module).__name__
    if isinstance(module, nn.Sequential):
        return "nn.Sequential", {"modules": {i: lua(part) for i, part in enumerate(module, 1)}, "train": False}
    held: dict[Any, Any] = dict(module.named_parameters())
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        held |= {
            "kW": module.kernel_size[0],
            "kH": module.kernel_size[0],
            "dW": module.stride[0],
            "dH": module.stride[0],
        }
        held |= {"padW": module.padding[0], "padH": module.padding[0]}
        if kind == "ConvTranspose2d":
            held |= {"adjW": module.output_padding[0], "adjH": module.output_padding[0]}
        return "nn.SpatialConvolution" if kind == "Conv2d" else "nn.SpatialFullConvolution", held
    if isinstance(module, nn.BatchNorm2d):
        held |= {
            "running_mean": module.running_mean,
            "running_var": module.running_var,
            "eps": module.eps,
            "affine": True,
        }
        return "nn.SpatialBatchNormalization", held
    return f"nn.{kind}", {"negval": getattr(module, "negative_slope", 0)} | held


def test_torch7(tmp_path: Path) -> None:
    g, d = randomised(sequential_g(bias=True)), randomised(sequential_d(bias=True), 1)
    g[1].eps = 0.01
    for name, module in (("netG.t7", g), ("netD.t7", d)):
        writer = Lua()
        writer.write(lua(module))
        (tmp_path / name).write_bytes(writer.out)
    gan = checkpoints.load(tmp_path / "netG.t7", disc=tmp_path / "netD.t7", prior="normal")
    same(gan, g, d)
    assert gan.provenance["format"] == "Torch7"
    same(checkpoints.load(tmp_path, prior="normal"), g, d)


def test_torch7_holds_code_or_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.t7"
    for data, message in (
        (struct.pack("<i", 6), r"a function, which is code"),
        (struct.pack("<iii", 3, 1, 2**31 - 1), r"a table of 2,147,483,647 entries"),
        (struct.pack("<ii", 2, 2**30), r"a string of 1,073,741,824 bytes"),
        (b"\x03\0\0\0", r"it ends too early"),
        (np.zeros(3, "<i4").tobytes(), r"no network in it \(found NoneType\)"),
    ):
        path.write_bytes(data)
        with pytest.raises(ProbeError, match=message):
            checkpoints.load(path)
