"""Every checkpoint format against an independent module of the original layout; bad files against their error line."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from probe import checkpoints
from probe.dcgan import Discriminator, Erase, Generator, discriminator_blocks, generator_blocks, initialise
from probe.errors import ProbeError
from probe.gan import GAN, use_batch_statistics

REAL = Path(__file__).resolve().parents[2] / "shared" / "checkpoints"
NZ = 5


def randomised(module: Any, seed: int = 0) -> Any:
    """Random weights of a size that keeps activations apart, and random BatchNorm statistics."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                for parameter in m.parameters():
                    parameter.normal_(0, 0.15, generator=g)
            elif isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                if m.affine:
                    m.weight.uniform_(0.5, 1.5, generator=g)
                    m.bias.normal_(0, 0.3, generator=g)
                m.running_mean.normal_(0, 0.3, generator=g)
                m.running_var.uniform_(0.3, 1.5, generator=g)
    return module.eval()


def sequential_g(*, size: int = 32, channels: int = 3, bias: bool = False, dropout: bool = False, kernel: int = 4):
    """The layout of pytorch/examples: ConvTranspose2d, BatchNorm2d, ReLU."""
    widths = [8 * 2**i for i in reversed(range((size // 4).bit_length() - 1))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip([NZ, *widths], [*widths, channels], strict=True)):
        shape = (4, 1, 0, 0) if i == 0 else (kernel, 2, (kernel - 1) // 2, kernel % 2)
        layers.append(nn.ConvTranspose2d(a, b, *shape, bias=bias))
        if b != channels:
            layers += [nn.BatchNorm2d(b), nn.ReLU(True)] + [nn.Dropout(0.3)] * dropout
    return nn.Sequential(*layers, nn.Tanh())


def sequential_d(*, size: int = 32, channels: int = 3, bias: bool = False, dropout: bool = False):
    """The layout of pytorch/examples: Conv2d, BatchNorm2d (not on the first), LeakyReLU; a sigmoid."""
    widths = [8 * 2**i for i in range((size // 4).bit_length() - 1)]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers.append(nn.Conv2d(a, b, 4, 2, 1, bias=bias))
        layers += [nn.BatchNorm2d(b)] * (i > 0) + [nn.LeakyReLU(0.2, True)] + [nn.Dropout(0.3)] * dropout
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=bias), nn.Sigmoid())


class Named(nn.Module):
    """A module whose only child has a name: `main`, `gen`, `layer_stack`…"""

    def __init__(self, name: str, child: nn.Module) -> None:
        super().__init__()
        self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        return next(self.children())(x)


def main_g(**options: Any) -> nn.Module:
    return randomised(Named("main", sequential_g(**options)))


def main_d(**options: Any) -> nn.Module:
    return randomised(Named("main", sequential_d(**options)), 1)


def same(gan: GAN, g: nn.Module, d: nn.Module | None = None, *, flat: bool = False, logits: bool = False) -> None:
    """Compare images to the original generator's, and logits to the original discriminator's."""
    z = torch.randn(4, NZ, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = g(z if flat else z[:, :, None, None])
    torch.testing.assert_close(gan.images(z), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.05
    assert not gan.generator.training
    assert (gan.nz, gan.size, gan.channels) == (NZ, expected.shape[-1], expected.shape[1])
    if d is not None:
        with torch.no_grad():
            wanted, got = d(expected).flatten(), gan.require_discriminator()(expected)
        assert got.shape == (4,)
        assert got.std() > 1e-3
        torch.testing.assert_close(got if logits else got.sigmoid(), wanted, atol=1e-5, rtol=1e-5)


# Formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_pytorch_examples_in_two_files(tmp_path: Path, size: int, channels: int) -> None:
    g, d = main_g(size=size, channels=channels), main_d(size=size, channels=channels)
    torch.save(g.state_dict(), tmp_path / "netG_epoch_24.pth")
    torch.save(d.state_dict(), tmp_path / "netD_epoch_24.pth")
    gan = checkpoints.load(tmp_path / "netG_epoch_24.pth", disc=tmp_path / "netD_epoch_24.pth")
    same(gan, g, d)
    assert gan.provenance["format"] == "pytorch/examples"
    assert (gan.prior, gan.provenance["prior_source"]) == ("normal", "assumed")
    assert gan.batchnorm == {"generator": "running", "discriminator": "running"}
    assert len(gan.provenance["sha256"]) == 64
    assert gan.provenance["disc"] == "netD_epoch_24.pth"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda g, d: {"netG_state_dict": g, "epoch": 3},
        lambda g, d: {"state_dict": g, "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 2)}}, "param_groups": []}},
        lambda g, d: {"model_state_dict": g, "loss": [0.1, 0.2], "fixed_noise": torch.zeros(4, NZ, 1, 1)},
        lambda g, d: {"generator": g, "discriminator": d, "g_optim": {"weight": torch.ones(3)}},
        lambda g, d: {"G": g, "D": d},
        lambda g, d: [g, d],
        lambda g, d: {"netG": g, "netD": d, "opt": argparse.Namespace(ngf=8, imageSize=32)},
        lambda g, d: {"gen": g, "disc": d, "best": np.float64(3.5)},
        lambda g, d: {"models": {"modelG": g, "critic": d}},
        lambda g, d: {**{f"netG.{k}": v for k, v in g.items()}, **{f"netD.{k}": v for k, v in d.items()}},
        lambda g, d: {f"model.generator.{k}": v for k, v in g.items()},
    ],
)
@pytest.mark.parametrize("parallel", [False, True])
def test_wrapped(tmp_path: Path, wrap: Callable[[Any, Any], Any], parallel: bool) -> None:
    g, d = main_g(), main_d()
    prefix = "module." if parallel else ""
    states = [OrderedDict((prefix + k, v) for k, v in m.state_dict().items()) for m in (g, d)]
    torch.save(wrap(*states), tmp_path / "a.pt")
    gan = checkpoints.load(tmp_path / "a.pt")
    same(gan, g, d if gan.discriminator else None)


def test_moving_averages_come_first(tmp_path: Path) -> None:
    g, ema, d = main_g(), randomised(main_g(), 7), main_d()
    torch.save({"g": g.state_dict(), "d": d.state_dict(), "g_ema": ema.state_dict()}, tmp_path / "a.pt")
    gan = checkpoints.load(tmp_path / "a.pt")
    same(gan, ema, d)
    assert "g_ema" in gan.provenance["weights"]


def test_old_serialization_half_precision_and_safetensors(tmp_path: Path) -> None:
    g, d = main_g(size=64), main_d(size=64)
    torch.save(g.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    same(checkpoints.load(tmp_path / "old.pth"), g)
    tensors = {f"netG.{k}": v.clone() for k, v in g.state_dict().items()}
    tensors |= {f"netD.{k}": v.clone() for k, v in d.state_dict().items()}
    save_file(tensors, tmp_path / "a.safetensors")  # keys come back in alphabetical order: main.10 before main.2
    same(checkpoints.load(tmp_path / "a.safetensors"), g, d)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in g.state_dict().items()}, tmp_path / "half.pt")
    half = checkpoints.load(tmp_path / "half.pt")
    assert {p.dtype for p in half.generator.parameters()} == {torch.float32}
    same(half, main_g(size=64).half().float())


@pytest.mark.parametrize("name", ["layer_stack", "gen", "net", "model"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_sequential_of_any_name(tmp_path: Path, name: str, bias: bool, dropout: bool) -> None:
    g = randomised(Named(name, sequential_g(bias=bias, dropout=dropout)))
    d = randomised(Named(name, sequential_d(bias=bias, dropout=dropout)), 1)
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pt")
    same(checkpoints.load(tmp_path / "a.pt"), g, d)


def nested(flat: nn.Sequential) -> nn.Sequential:
    """The same layers in blocks that start at each convolution, as Lightning Bolts and many tutorials have them."""
    blocks: list[list[nn.Module]] = []
    for layer in flat:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            blocks.append([])
        blocks[-1].append(layer)
    return nn.Sequential(*(nn.Sequential(*block) for block in blocks))


def test_lightning_bolts(tmp_path: Path) -> None:
    g, d = Named("gen", nested(sequential_g(channels=1))), Named("disc", nested(sequential_d(channels=1)))
    randomised(g), randomised(d, 1)
    state = {f"generator.{k}": v for k, v in g.state_dict().items()}
    state |= {f"discriminator.{k}": v for k, v in d.state_dict().items()}
    lightning = {"state_dict": state, "epoch": 1, "pytorch-lightning_version": "1.4", "hyper_parameters": {"lr": 1e-4}}
    torch.save(lightning | {"optimizer_states": [{"state": {}, "param_groups": []}]}, tmp_path / "last.ckpt")
    gan = checkpoints.load(tmp_path / "last.ckpt")
    same(gan, g, d)
    assert gan.provenance["format"] == "lightning-bolts"


class ZooG(nn.Module):
    def __init__(self, dim: int = 4, depth: int = 2, tanh: bool = True) -> None:
        super().__init__()
        self.formatLayer = nn.ConvTranspose2d(NZ, dim * 2**depth, 4, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(batchNorm0=nn.BatchNorm2d(dim * 2**depth), relu0=nn.ReLU())
        for i in range(depth):
            a = dim * 2 ** (depth - i)
            layers[f"convTranspose{i + 1}"] = nn.ConvTranspose2d(a, a // 2, 4, 2, 1, bias=False)
            layers[f"batchNorm{i + 1}"], layers[f"relu{i + 1}"] = nn.BatchNorm2d(a // 2), nn.ReLU()
        layers["outlayer"] = nn.ConvTranspose2d(dim, 3, 4, 2, 1, bias=False)
        self.main, self.tanh = nn.Sequential(layers), tanh

    def forward(self, z: Tensor) -> Tensor:
        x = self.main(self.formatLayer(z))
        return x.tanh() if self.tanh else x


class ZooD(nn.Module):
    def __init__(self, dim: int = 4, depth: int = 2) -> None:
        super().__init__()
        names: OrderedDict[str, nn.Module] = OrderedDict()
        names[f"convTranspose{depth}"], names[f"relu{depth}"] = (
            nn.Conv2d(3, dim, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
        )
        for i in reversed(range(depth)):
            names[f"convTranspose{i}"] = nn.Conv2d(dim, dim * 2, 4, 2, 1, bias=False)
            names[f"batchNorm{i}"], names[f"relu{i}"] = nn.BatchNorm2d(dim * 2), nn.LeakyReLU(0.2)
            dim *= 2
        self.main = nn.Sequential(names)
        self.decisionLayer = nn.Conv2d(dim, 1, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.decisionLayer(self.main(x))


def zoo_config(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    """An object of the GAN zoo's configuration class, which is not importable when the file is opened."""
    module = types.ModuleType("models.utils.config")
    module.BaseConfig = type("BaseConfig", (), {"__module__": "models.utils.config", "__qualname__": "BaseConfig"})
    for name in ("models", "models.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "models.utils.config", module)
    config = module.BaseConfig()
    config.__dict__.update(settings)
    return config


@pytest.mark.parametrize("loss", ["DCGAN", "WGANGP"])
def test_pytorch_gan_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    g, d = randomised(ZooG(), 4), randomised(ZooD(), 1)
    average = randomised(ZooG(tanh=loss == "DCGAN"), 5)
    state = {"netG": g.state_dict(), "netD": d.state_dict(), "avgG": average.state_dict()}
    torch.save({"config": zoo_config(monkeypatch, lossCriterion=loss, dimG=4), **state}, tmp_path / "zoo.pt")
    monkeypatch.undo()
    gan = checkpoints.load(tmp_path / "zoo.pt")
    same(gan, average, d, logits=True)
    assert gan.provenance["format"] == "pytorch_GAN_zoo"
    assert "avgG" in gan.provenance["weights"]


class StudioG(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (32, 16, 8, 6)) -> None:
        super().__init__()
        self.linear0 = nn.Linear(NZ, widths[0] * 16)
        self.blocks = nn.ModuleList()
        for a, b in itertools.pairwise(widths):
            block = nn.Module()
            block.deconv0, block.bn0 = nn.ConvTranspose2d(a, b, 4, 2, 1), nn.BatchNorm2d(b, eps=1e-4)
            self.blocks.append(nn.ModuleList([block]))
        self.conv4 = nn.Conv2d(widths[-1], 3, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.linear0(z).view(len(z), -1, 4, 4)
        for (block,) in self.blocks:
            x = F.relu(block.bn0(block.deconv0(x)))
        return self.conv4(x).tanh()


class StudioD(nn.Module):
    def __init__(self, spectral: bool = False) -> None:
        super().__init__()
        norm = nn.utils.spectral_norm if spectral else lambda layer: layer
        self.blocks = nn.ModuleList()
        for a, b in ((3, 8), (8, 16), (16, 32)):
            block = nn.Module()
            block.conv0, block.conv1 = norm(nn.Conv2d(a, b, 3, 1, 1)), norm(nn.Conv2d(b, b, 4, 2, 1))
            if not spectral:
                block.bn0, block.bn1 = nn.BatchNorm2d(b, eps=1e-4), nn.BatchNorm2d(b, eps=1e-4)
            self.blocks.append(nn.ModuleList([block]))
        self.conv1, self.spectral = norm(nn.Conv2d(32, 48, 3, 1, 1)), spectral
        if not spectral:
            self.bn1 = nn.BatchNorm2d(48, eps=1e-4)
        self.linear1 = norm(nn.Linear(48, 1))

    def forward(self, x: Tensor) -> Tensor:
        for (block,) in self.blocks:
            x = F.relu(block.conv0(x) if self.spectral else block.bn0(block.conv0(x)))
            x = F.relu(block.conv1(x) if self.spectral else block.bn1(block.conv1(x)))
        x = F.relu(self.conv1(x) if self.spectral else self.bn1(self.conv1(x)))
        return self.linear1(x.sum((2, 3)))


@pytest.mark.parametrize("spectral", [False, True])
def test_studiogan_folder(tmp_path: Path, spectral: bool) -> None:
    g, ema, d = randomised(StudioG()), randomised(StudioG(), 8), randomised(StudioD(), 1)
    if spectral:
        torch.manual_seed(0)
        d = StudioD(spectral=True).eval()
    for name, net in (("G", g), ("G_ema", ema), ("D", d)):
        for when in ("best", "current"):
            state = net.state_dict() if when == "best" else randomised(type(net)(), 9).state_dict()
            torch.save(
                {"state_dict": state, "optimizer": None}, tmp_path / f"model={name}-{when}-weights-step=9000.pth"
            )
    gan = checkpoints.load(tmp_path)
    same(gan, ema, d, flat=True, logits=True)
    assert gan.provenance["format"] == "StudioGAN"
    assert gan.provenance["checkpoint"] == tmp_path.name
    assert gan.provenance["files"] == ["model=D-best-weights-step=9000.pth", "model=G_ema-best-weights-step=9000.pth"]


def write_theano(folder: Path, epoch: int, g: list[np.ndarray], d: list[np.ndarray]) -> None:
    for name, arrays in (("gen", g), ("discrim", d)):
        for i, array in enumerate(arrays, 1):
            np.save(folder / f"{epoch}_{name}_params.jl_{i:02d}.npy", array.astype(np.float32))


def theano_arrays(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    r = np.random.default_rng(seed)
    norm = lambda n: [r.uniform(0.5, 1.5, n), r.normal(0, 0.2, n)]  # noqa: E731
    g = [r.normal(0, 0.1, (NZ, 16 * 16)), *norm(16 * 16), r.normal(0, 0.1, (16, 8, 5, 5)), *norm(8)]
    d = [r.normal(0, 0.1, (8, 3, 5, 5)), r.normal(0, 0.1, (16, 8, 5, 5)), *norm(16), r.normal(0, 0.1, (256, 1))]
    return [*g, r.normal(0, 0.1, (8, 3, 5, 5))], d


def test_the_papers_own_arrays(tmp_path: Path) -> None:
    write_theano(tmp_path, 9, *theano_arrays(0))
    write_theano(tmp_path, 100, *(arrays := theano_arrays(1)))
    (tmp_path / "100_gen_params.jl").write_bytes(b"\x80\x02never unpickled")
    gan = checkpoints.load(tmp_path)
    assert (gan.nz, gan.size, gan.prior) == (NZ, 16, "uniform")
    assert gan.provenance["prior_source"] == "format"
    assert gan.provenance["chosen"] == "epoch 100"
    assert gan.batchnorm == {"generator": "recalibrated", "discriminator": "batch"}

    g, d = ([torch.from_numpy(a).float() for a in network] for network in arrays)
    turned = lambda k: torch.rot90(k, 2, (2, 3))  # noqa: E731
    z, use_batch = gan.latents(256), lambda x, s, b: F.batch_norm(x, None, None, s, b, True, 0.1, 1e-8)
    x = use_batch(z @ g[0], g[1], g[2]).relu().view(-1, 16, 4, 4)
    x = use_batch(F.conv_transpose2d(x, turned(g[3]), None, 2, 2, 1), g[4], g[5]).relu()
    x = F.conv_transpose2d(x, turned(g[6]), None, 2, 2, 1).tanh()
    use_batch_statistics(gan.generator)
    with torch.no_grad():
        torch.testing.assert_close(gan.generator(z), x, atol=1e-5, rtol=0)
        y = F.leaky_relu(F.conv2d(x, turned(d[0]), None, 2, 2), 0.2)
        y = F.leaky_relu(use_batch(F.conv2d(y, turned(d[1]), None, 2, 2), d[2], d[3]), 0.2)
        torch.testing.assert_close(gan.require_discriminator()(x), (y.flatten(1) @ d[4])[:, 0], atol=1e-5, rtol=0)


def test_theano_statistics_are_those_of_the_prior(tmp_path: Path) -> None:
    g, d = theano_arrays(0)
    write_theano(tmp_path, 1, g, d)
    gan = checkpoints.load(tmp_path)
    features = gan.latents(2048) @ torch.from_numpy(g[0]).float()
    torch.testing.assert_close(gan.generator.layer1.norm.running_mean, features.mean(0), atol=1e-5, rtol=1e-4)


class Attributes(nn.Module):
    """Layers as attributes, all convolutions before all norms, the norms' numbers off by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5, 2, 2), nn.Conv2d(8, 16, 5, 2, 2)
        self.conv3, self.fc = nn.Conv2d(16, 24, 5, 2, 2), nn.Linear(24 * 16, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm2d(24)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.bn1(self.conv2(x)), 0.2)
        return self.fc(F.leaky_relu(self.bn2(self.conv3(x)), 0.2).flatten(1))


class Projected(nn.Module):
    """A projection with BatchNorm over maps or over units, then kernels of one size."""

    def __init__(self, kernel: int, unit: bool) -> None:
        super().__init__()
        self.fc, self.bn0 = nn.Linear(NZ, 16 * 49), nn.BatchNorm1d(16 * 49) if unit else nn.BatchNorm2d(16)
        shape = (kernel, 2, (kernel - 1) // 2, kernel % 2)
        self.up1, self.bn1, self.up2 = (
            nn.ConvTranspose2d(16, 8, *shape),
            nn.BatchNorm2d(8),
            nn.ConvTranspose2d(8, 1, *shape),
        )

    def forward(self, z: Tensor) -> Tensor:
        x = self.fc(z)
        x = self.bn0(x).view(-1, 16, 7, 7) if isinstance(self.bn0, nn.BatchNorm1d) else self.bn0(x.view(-1, 16, 7, 7))
        return self.up2(F.relu(self.bn1(self.up1(F.relu(x))))).tanh()


@pytest.mark.parametrize("kernel", [3, 4, 5, 6])
@pytest.mark.parametrize("unit", [False, True])
def test_projection_and_kernels(tmp_path: Path, kernel: int, unit: bool) -> None:
    g = randomised(Projected(kernel, unit))
    torch.save(g.state_dict(), tmp_path / "g.pt")
    gan = checkpoints.load(tmp_path / "g.pt")
    same(gan, g, flat=True)
    assert checkpoints.describe(gan)["generator"]["kernel"] == kernel
    assert gan.size == 28


def test_attributes_and_linear_discriminator(tmp_path: Path) -> None:
    g, d = main_g(kernel=5), randomised(Attributes(), 1)
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pt")
    same(checkpoints.load(tmp_path / "a.pt"), g, d, logits=True)


def up(*layers: tuple[int, ...]) -> nn.Sequential:
    """Transposed convolutions (inputs, outputs, kernel, stride, padding) with BatchNorm and ReLU between."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [nn.ConvTranspose2d(*layer), nn.BatchNorm2d(layer[1]), nn.ReLU()]
    return nn.Sequential(*modules[:-2], nn.Tanh())


@pytest.mark.parametrize(
    "layers",
    [
        [(NZ, 16, 3, 2), (16, 12, 4, 1), (12, 8, 3, 2), (8, 1, 4, 2)],
        [(NZ, 16, 4, 1), (16, 12, 3, 2, 1), (12, 8, 4, 2, 1), (8, 1, 4, 2, 1)],
        [(NZ, 16, 4, 1), (16, 12, 4, 2, 1), (12, 8, 4, 2, 1), (8, 6, 4, 2, 1), (6, 1, 1, 1, 2)],
        [(NZ, 16, 7, 1), (16, 8, 4, 2, 1), (8, 1, 4, 2, 1)],
    ],
)
@pytest.mark.parametrize(
    "d",
    [
        nn.Sequential(
            nn.Conv2d(1, 8, 4, 2), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 4, 2), nn.LeakyReLU(0.2), nn.Conv2d(12, 1, 4, 2)
        ),
        nn.Sequential(
            *(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(12, 16, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, 1, 0)),
        ),
        nn.Sequential(
            *(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(12, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, 2, 1)),
        ),
    ],
)
def test_28_pixels(tmp_path: Path, layers: list[tuple[int, ...]], d: nn.Module) -> None:
    g = randomised(Named("gen", up(*layers)))
    d = randomised(Named("disc", d), 1)
    torch.save({"gen": g.state_dict(), "disc": d.state_dict()}, tmp_path / "mnist.pt")
    same(checkpoints.load(tmp_path / "mnist.pt"), g, d, logits=True)


def test_spectral_norm_of_both_kinds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    new, old = nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm
    g = nn.Sequential(nn.ConvTranspose2d(NZ, 8, 4), nn.ReLU(), old(nn.ConvTranspose2d(8, 8, 4, 2, 1)), nn.ReLU())
    g.extend([new(nn.ConvTranspose2d(8, 3, 4, 2, 1)), nn.Tanh()]).eval()
    d = nn.Sequential(
        new(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2), old(nn.Conv2d(8, 8, 4, 2, 1)), nn.LeakyReLU(0.2)
    )
    d.extend([new(nn.Conv2d(8, 1, 4))]).eval()
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "sn.pt")
    same(checkpoints.load(tmp_path / "sn.pt"), g, d, logits=True)


# Folders, built-in names, factories ----------------------------------------------------------------------------------


def test_folder_takes_the_last_epoch(tmp_path: Path) -> None:
    nets = {epoch: (randomised(main_g(), epoch), randomised(main_d(), epoch)) for epoch in (2, 9, 10)}
    for epoch, (g, d) in nets.items():
        torch.save(g.state_dict(), tmp_path / f"netG_epoch_{epoch}.pth")
        torch.save(d.state_dict(), tmp_path / f"netD_epoch_{epoch}.pth")
    (tmp_path / "fake_samples.png").write_bytes(b"\x89PNG")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    gan = checkpoints.load(tmp_path)
    same(gan, *nets[10])
    assert gan.provenance["files"] == ["netD_epoch_10.pth", "netG_epoch_10.pth"]
    assert gan.provenance["chosen"] == "the highest number of each file name"


def test_own_file_in_a_training_folder(tmp_path: Path) -> None:
    gan = tiny()
    checkpoints.save(gan, tmp_path / "model.safetensors")
    save_file(
        {"g.layer1.conv.weight": torch.zeros(2, 2)}, tmp_path / "state.safetensors", {"step": "4", "settings": "{}"}
    )
    refused(tmp_path / "state.safetensors", r"the state of a training run; pass the checkpoint")
    assert checkpoints.load(str(tmp_path)).provenance["checkpoint"] == "model.safetensors"


FACTORIES = """
import torch
from torch import nn
class G(nn.Module):
    def __init__(self, grey=False, flat=False):
        super().__init__()
        self.l, self.flat = nn.Linear(5, 48), flat
    def forward(self, z):
        x = self.l(z).view(-1, 3, 4, 4)
        return x.flatten(1) if self.flat else x
class Class(nn.Module):
    nz = 5
    def __init__(self):
        super().__init__()
        self.up, self.embed = nn.ConvTranspose2d(8, 3, 16), nn.Embedding(4, 3)
    def forward(self, z):
        label = self.embed(torch.zeros(len(z), dtype=torch.long))[:, :, None, None]
        return self.up(torch.cat([z, label], 1)).tanh()
def flat(): return G(flat=True)
def nan():
    g = G(); g.l.weight.data.fill_(float("nan")); return g
def text(): return "generator"
def broken(): raise RuntimeError("no weights here")
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_factories", raising=False)
    return "my_factories"


def test_factory(factories: str, tmp_path: Path) -> None:
    path = list(sys.path)
    gan = checkpoints.load(None, model=f"{factories}:G", prior="uniform")
    assert (gan.nz, gan.size, gan.channels, gan.prior) == (5, 4, 3, "uniform")
    assert sys.path == path
    assert gan.provenance["checkpoint"] == "my_factories:G"
    assert gan.sample(3).shape == (3, 3, 4, 4)
    other = randomised(sys.modules["my_factories"].Class())
    torch.save({"state_dict": {f"module.{k}": v for k, v in other.state_dict().items()}}, "class.pt")
    gan = checkpoints.load("class.pt", model=f"{factories}:Class")
    same(gan, other)
    assert checkpoints.describe(gan)["generator"] == {
        "nz": 5, "widths": [], "image_size": 16, "channels": 3, "kernel": None,
    }  # fmt: skip
    with pytest.raises(ProbeError, match=r"a Flat, and only DCGANs can be saved"):
        checkpoints.save(gan, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("G", r"expected pkg.module:factory"),
        ("no_such_module:G", r"ModuleNotFoundError: No module named 'no_such_module'"),
        ("my_factories:H", r"AttributeError: .*has no attribute 'H'"),
        ("my_factories:text", r"returns a str; expected a torch.nn.Module"),
        ("my_factories:broken", r"RuntimeError: no weights here"),
        ("my_factories:flat", r"makes \(2, 48\) of 2 latents; expected images"),
        ("my_factories:nan", r"NaN or infinite pixels"),
    ],
)
def test_factory_errors(factories: str, spec: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(None, model=spec)
    assert "\n" not in str(error.value)


def test_factory_with_weights_that_do_not_fit(factories: str) -> None:
    torch.save(main_g().state_dict(), "g.pt")
    with pytest.raises(ProbeError, match=r"my_factories:G: the checkpoint's weights do not fit \(.*l.weight"):
        checkpoints.load("g.pt", model=f"{factories}:G")


# Probe's own format --------------------------------------------------------------------------------------------------


def tiny(batch: bool = False) -> GAN:
    g = randomised(Generator(generator_blocks(16, 3, NZ, 4)))
    d = randomised(Discriminator(discriminator_blocks(16, 3, 4)), 1)
    if batch:
        use_batch_statistics(d)
    policy = {"generator": "running", "discriminator": "batch" if batch else "running"}
    return GAN(g, d, NZ, 16, 3, "uniform", policy, {"format": "trained", "training": {"steps": 7}})


@pytest.mark.parametrize("batch", [False, True])
def test_own_format_round_trip(tmp_path: Path, batch: bool) -> None:
    gan = tiny(batch)
    state = torch.get_rng_state()
    checkpoints.save(gan, tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert back.generator.blocks == gan.generator.blocks
    assert back.discriminator.blocks == gan.discriminator.blocks
    assert torch.equal(back.sample(4), gan.sample(4))
    assert torch.equal(back.discriminator(gan.sample(4)), gan.discriminator(gan.sample(4)))
    assert (back.prior, back.batchnorm) == ("uniform", gan.batchnorm)
    assert back.provenance["training"] == {"steps": 7}
    assert (back.provenance["format"], back.provenance["prior_source"]) == ("probe", "stored")
    given = checkpoints.load(tmp_path / "a.safetensors", prior="normal")
    assert (given.prior, given.provenance["prior_source"]) == ("normal", "given")


def test_own_format_of_an_edited_generator_alone(tmp_path: Path) -> None:
    blocks = generator_blocks(16, 3, NZ, 4)
    blocks[1] = type(blocks[1])(**{**blocks[1].__dict__, "erase": 2})
    gan = tiny()
    gan.generator, gan.discriminator = randomised(Generator(blocks)), None
    erase = gan.generator.layer2.erase
    assert isinstance(erase, Erase)
    erase.weight.fill_(0.5), erase.step.fill_(0.3), erase.bias.fill_(-0.1)
    checkpoints.save(gan, tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    assert back.discriminator is None
    assert torch.equal(back.sample(4), gan.sample(4))


def test_half_precision_is_smaller_and_loads_as_float32(tmp_path: Path) -> None:
    gan = tiny()
    gan.generator = randomised(Generator(generator_blocks(32, 3, NZ, 32)))
    gan.discriminator, gan.size = None, 32
    checkpoints.save(gan, tmp_path / "a.safetensors")
    checkpoints.save(gan, tmp_path / "b.safetensors", torch.float16)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.55 * (tmp_path / "a.safetensors").stat().st_size
    back = checkpoints.load(tmp_path / "b.safetensors")
    assert {p.dtype for p in back.generator.parameters()} == {torch.float32}
    torch.testing.assert_close(back.sample(4), gan.sample(4), atol=5e-3, rtol=0)


def test_a_foreign_checkpoint_can_be_saved(tmp_path: Path) -> None:
    g, d = main_g(), main_d()
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pt")
    checkpoints.save(checkpoints.load(tmp_path / "a.pt"), tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    same(back, g, d)
    assert back.provenance["converted_from"]["format"] == "pytorch/examples"


def test_save_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.save(tiny(), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ProbeError, match="No space left on device"):
        checkpoints.save(tiny(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_not_saved(tmp_path: Path) -> None:
    gan = tiny()
    gan.generator.layer1.conv.weight.data[0] = torch.nan
    with pytest.raises(ProbeError, match=r"generator.layer1.conv.weight holds NaN or infinite weights"):
        checkpoints.save(gan, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def edited(**changes: Any) -> Callable[[Path], None]:
    """Write probe's own format with its description changed; `width=` and others reach the first block."""

    def write(path: Path) -> None:
        from safetensors import safe_open

        checkpoints.save(tiny(), path)
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["probe"])
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        about["generator"][0].update(changes.pop("block", {}))
        tensors.update(changes.pop("tensors", {}))
        save_file(tensors, path, {"probe": json.dumps(about | changes) if "text" not in changes else changes["text"]})

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (edited(schema=2), r"written by a newer probe \(schema 2\)"),
        (edited(text="{"), r"description is damaged \(JSONDecodeError"),
        (edited(text="[]"), r"description is damaged \(TypeError"),
        (edited(size=10**9), r"describes 1000000000 px images"),
        (edited(size=32), r"its generator makes \(2, 3, 16, 16\) where \(2, 3, 32, 32\) is described"),
        (edited(prior="cauchy"), r"the prior 'cauchy'"),
        (edited(nz=6), r"the blocks of its generator do not follow one another"),
        (edited(block={"colour": 1}), r"description is damaged \(TypeError: .*colour"),
        (edited(block={"inputs": 10**7}), r"the blocks of its generator do not follow one another"),
        (edited(block={"bias": True}), r"weights do not fit the network \(.*layer1.conv.bias"),
        (
            edited(tensors={"generator.layer1.norm.bias": torch.full((8,), torch.inf)}),
            r"generator holds NaN or infinite",
        ),
    ],
)
def test_own_format_damaged(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", message)


# What is refused -----------------------------------------------------------------------------------------------------


def refused(path: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(path, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert Path(path).name in str(error.value)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def torch_file(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(make(), path)


def changed(module: nn.Module, **entries: Any) -> dict[str, Tensor]:
    return {key: entries.get(key.replace(".", "_"), value) for key, value in module.state_dict().items()}


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(2**24))


def archive(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, b"x")

    return write


def cut(make: Callable[[], Any], keep: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch_file(make)(path)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])

    return write


def cut_safetensors(path: Path) -> None:
    checkpoints.native.save(tiny(), path)
    path.write_bytes(path.read_bytes()[:-100])


def resnet() -> dict[str, Tensor]:
    shapes = {
        "conv1": (8, 3, 7, 7),
        "layer1.0.conv1": (8, 8, 3, 3),
        "layer1.0.downsample.0": (16, 8, 1, 1),
        "fc": (10, 16),
    }
    return {f"{name}.weight": torch.ones(shape) for name, shape in shapes.items()}


def stylegan() -> dict[str, Any]:
    entries = {
        "style.1.weight": (8, 8),
        "style.1.bias": (8,),
        "conv1.conv.weight": (1, 8, 8, 3, 3),
        "noise.weight": (1,),
    }
    return {"g_ema": {name: torch.ones(shape) for name, shape in entries.items()}}


def with_instance_norm() -> nn.Module:
    d = sequential_d()
    d[3] = nn.InstanceNorm2d(16, affine=True)
    return Named("main", d)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), r"the file is empty \(0 bytes\)"),
    "png": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64)), r"not a checkpoint \(starts with b'\\x89PNG"),
    "text": (lambda p: p.write_text("<!DOCTYPE html>"), r"not a checkpoint \(starts with b'<!DOCTYP"),
    "plain pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), r"not a checkpoint"),
    "safetensors header": (lambda p: p.write_bytes(struct.pack("<Q", 2**40) + b"{}"), r"damaged safetensors file"),
    "cut safetensors": (cut_safetensors, r"truncated or damaged safetensors file"),
    "cut zip": (cut(lambda: main_g().state_dict(), 0.6), r"truncated or damaged zip archive"),
    "bomb": (bomb, r"would unpack to 16,777,220: a zip bomb"),
    "torchscript": (
        archive("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py"),
        r"TorchScript archive, which holds code",
    ),
    "other zip": (archive("word/document.xml"), r"a zip archive without torch's data.pkl"),
    "bad zip": (archive("a/data.pkl"), r"truncated or damaged torch file"),
    "runs code": (
        torch_file(lambda: {"netG": main_g().state_dict(), "x": Runs()}),
        r"holds (posix|nt).system, which only",
    ),
    "whole model": (torch_file(sequential_g), r"holds torch.nn.modules.container.Sequential, which only running code"),
    "own class": (
        torch_file(lambda: {"netG": {}, "config": ZooG()}),
        r"holds test_checkpoints.ZooG.* torch.save\(model",
    ),
    "stride 0": (
        torch_file(lambda: {"main.0.weight": torch.zeros(1).expand(2**20, 2**20)}),
        r"shape \(1048576, 1048576\) has too little data",
    ),
    "sparse": (torch_file(lambda: {"a.weight": torch.eye(3).to_sparse()}), r"sparse or quantized"),
    "nan": (
        torch_file(lambda: changed(main_g(), main_3_weight=torch.full((32, 16, 4, 4), torch.nan))),
        r"layer main.3 holds NaN or infinite weights",
    ),
    "infinite": (
        torch_file(lambda: changed(main_g(), main_1_running_var=torch.full((32,), torch.inf))),
        r"layer main.0 holds NaN or infinite weights",
    ),
    "resnet": (
        torch_file(resnet),
        r"layer fc gives 10 numbers for an image, not one; expected a DCGAN .* --model pkg.module:factory",
    ),
    "stylegan": (torch_file(stylegan), r"a.pt/g_ema: conv1.conv \(weight \(1, 8, 8, 3, 3\)\) is neither"),
    "vit": (
        torch_file(lambda: {"cls.pos.weight": torch.ones(2, 2)}),
        r"1 layers, of which a (generator|discriminator)",
    ),
    "no weights": (torch_file(lambda: {"epoch": 3, "losses": [1.0]}), r"no weights in it \(found epoch, losses\)"),
    "list": (torch_file(lambda: [1, 2]), r"no weights in it \(found a list\)"),
    "broken chain": (
        torch_file(lambda: changed(main_g(size=64), main_6_weight=torch.ones(12, 8, 4, 4))),
        r"layer main.6 \(12, 8, 4, 4\) does not take the 32 outputs of the layer before",
    ),
    "missing BatchNorm statistics": (
        torch_file(lambda: {"G": main_g().state_dict(), "D": with_instance_norm().state_dict()}),
        r"a.pt/D: norm main.3 has no running statistics \(InstanceNorm",
    ),
    "8 px": (
        torch_file(lambda: up((NZ, 8, 2, 1), (8, 4, 4, 2, 1), (4, 3, 4, 2, 1)).state_dict()),
        r"kernels 2, 4, 4 lead to an image of 8 px",
    ),
    "mixed kernels": (
        torch_file(lambda: up((NZ, 8, 4, 1), (8, 4, 5, 2, 1), (4, 3, 4, 2, 1)).state_dict()),
        r"kernels 4, 5, 4 do not tell the strides",
    ),
    "two channels": (
        torch_file(lambda: up((NZ, 8, 4, 1), (8, 4, 4, 2, 1), (4, 2, 4, 2, 1)).state_dict()),
        r"gives 2 maps, not an image of 1, 3 or 4 channels",
    ),
    "discriminator": (torch_file(lambda: main_d().state_dict()), r"holds a discriminator only; .* --disc"),
    "two generators": (
        torch_file(lambda: {"G_A": main_g().state_dict(), "G_B": main_g().state_dict()}),
        r"2 generators \(a.pt/G_A, a.pt/G_B\); expected one",
    ),
    "sizes": (
        torch_file(lambda: {"G": main_g(size=64).state_dict(), "D": main_d(size=32).state_dict()}),
        r"a.pt/D: no usual strides take this discriminator from the generator's 64 px",
    ),
    "channels": (
        torch_file(lambda: {"G": main_g().state_dict(), "D": main_d(channels=1).state_dict()}),
        r"a.pt/D: takes images of 1 channels, the generator makes 3",
    ),
    "bias": (
        torch_file(lambda: changed(main_g(bias=True), main_3_bias=torch.ones(3))),
        r"a.pt.*weights do not fit the network \(.*layer2.conv.bias",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_with_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = HOSTILE[name]
    write(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", message)
    assert not (tmp_path / "ran").exists()


def test_refused_arguments(tmp_path: Path) -> None:
    good, other = tmp_path / "g.pt", tmp_path / "g2.pt"
    torch.save(main_g().state_dict(), good)
    torch.save(main_g().state_dict(), other)
    refused(tmp_path / "absent.pt", r"no such file or folder, and not a built-in checkpoint \(rooms\)")
    refused("bedrooms", r"bedrooms: no such file or folder, and not a built-in checkpoint \(rooms\)")
    for options, message in (
        ({"disc": other}, r"g2.pt: holds a generator; --disc takes the discriminator's file"),
        ({"disc": tmp_path / "absent.pt"}, r"absent.pt: no such file; --disc"),
        ({"prior": "cauchy"}, r"prior 'cauchy': expected one of uniform, normal"),
        ({"device": "abacus"}, r"device 'abacus': .*; try cpu"),
    ):
        with pytest.raises(ProbeError, match=message):
            checkpoints.load(good, **options)
    with pytest.raises(ProbeError, match=r"no checkpoint: pass a file, a folder or a built-in name \(rooms\)"):
        checkpoints.load(None)


def test_refused_folders(tmp_path: Path) -> None:
    refused(tmp_path, r"no checkpoint in this folder \(found nothing\)")
    (tmp_path / "sample.png").write_bytes(b"\x89PNG")
    refused(tmp_path, r"no checkpoint in this folder \(found sample.png\)")
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(ProbeError, match=r"weights.pt: the file is empty"):
        checkpoints.load(tmp_path)
    torch.save(main_g().state_dict(), tmp_path / "netG.pth")
    same(checkpoints.load(tmp_path), main_g())
    (tmp_path / "netD.pth").write_bytes(b"")
    with pytest.raises(ProbeError, match=r"netD.pth: the file is empty"):
        checkpoints.load(tmp_path)


def test_refused_theano(tmp_path: Path) -> None:
    g, d = theano_arrays(0)
    write_theano(tmp_path, 3, [], d)
    refused(tmp_path, r"discriminator arrays only")
    write_theano(tmp_path, 3, g, d)
    np.save(tmp_path / "3_gen_params.jl_04.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ProbeError, match=r"3_gen_params.jl_04.npy: not a plain .npy array \(.*allow_pickle=False"):
        checkpoints.load(tmp_path)
    (tmp_path / "3_gen_params.jl_04.npy").unlink()
    refused(tmp_path, r"array 4 of gen_params is missing")


def test_a_missing_built_in_checkpoint_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoints.BUILTIN, "attic", "attic.safetensors")
    with pytest.raises(ProbeError, match=r"attic: the built-in checkpoint is missing from the package"):
        checkpoints.load("attic")


def test_initialise_is_not_needed(tmp_path: Path) -> None:
    """Fresh networks, as another tool's first epoch would leave them, open as well; the note says what is missing."""
    g = Generator(generator_blocks(16, 3, NZ, 4))
    initialise(g, 0)
    state = {
        k.replace("layer", "main.").replace(".conv.", "0.").replace(".norm.", "1."): v
        for k, v in g.state_dict().items()
    }
    torch.save(state, tmp_path / "fresh.pt")
    gan = checkpoints.load(tmp_path / "fresh.pt")
    torch.testing.assert_close(gan.sample(2), g.eval()(gan.latents(2)).detach(), atol=1e-6, rtol=0)
    assert "never updated" in gan.provenance["batchnorm_note"]


def test_describe(tmp_path: Path) -> None:
    torch.save({"G": main_g().state_dict(), "D": main_d().state_dict()}, tmp_path / "a.pt")
    gan = checkpoints.load(tmp_path / "a.pt")
    about = checkpoints.describe(gan)
    assert about == {
        "format": "pytorch/examples",
        "generator": {"nz": NZ, "widths": [32, 16, 8], "image_size": 32, "channels": 3, "kernel": 4},
        "discriminator": {"widths": [8, 16, 32], "image_size": 32, "channels": 3, "kernel": 4},
        "prior": "normal",
        "batchnorm": {"generator": "running", "discriminator": "running"},
        "parameters": {
            "generator": sum(p.numel() for p in main_g().parameters()),
            "discriminator": sum(p.numel() for p in main_d().parameters()),
        },
    }
    assert json.dumps(about)


# Real files ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (REAL / "newmu-svhn").is_dir(), reason="the authors' SVHN arrays are not here")
def test_the_authors_svhn() -> None:
    gan = checkpoints.load(REAL / "newmu-svhn")
    assert checkpoints.describe(gan)["generator"]["widths"] == [256, 128, 64]
    assert checkpoints.describe(gan)["discriminator"]["widths"] == [64, 128, 256]
    images = gan.sample(256)
    with torch.no_grad():
        fooled = gan.require_discriminator()(images).sigmoid()
    assert fooled.mean() < 0.1  # 0.9 where the kernels are not turned
    assert (images[..., 1:] - images[..., :-1]).abs().mean() < 0.1  # natural images are smooth


@pytest.mark.skipif(not (REAL / "faces").is_dir(), reason="the face checkpoint is not here")
def test_the_faces() -> None:
    gan = checkpoints.load(REAL / "faces" / "weights.tar")
    assert (gan.nz, gan.size, gan.channels, gan.prior) == (100, 64, 3, "normal")
    assert gan.discriminator is None
    images = gan.sample(64)
    assert 0.2 < images.std() < 0.8
    assert (images[..., 1:] - images[..., :-1]).abs().mean() < 0.1
