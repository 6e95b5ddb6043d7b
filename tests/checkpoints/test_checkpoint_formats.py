"""Every checkpoint format against an independent module of the original layout; real files, where they are here."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import types
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
from probe.models.dcgan import Generator, generator_blocks, initialise
from tests.originals import NZ, Named, ZooG, main_d, main_g, randomised, same, sequential_d, sequential_g, settled_pair

REAL = Path(__file__).resolve().parents[3] / "shared" / "checkpoints"


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
    assert (gan.prior, gan.provenance["prior_source"]) == ("normal", "statistics")
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
    g = main_g()
    ema, d = settled_pair(randomised(main_g(), 7), main_d())
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
    settled_pair(randomised(g), randomised(d, 1))
    state = {f"generator.{k}": v for k, v in g.state_dict().items()}
    state |= {f"discriminator.{k}": v for k, v in d.state_dict().items()}
    lightning = {"state_dict": state, "epoch": 1, "pytorch-lightning_version": "1.4", "hyper_parameters": {"lr": 1e-4}}
    torch.save(lightning | {"optimizer_states": [{"state": {}, "param_groups": []}]}, tmp_path / "last.ckpt")
    gan = checkpoints.load(tmp_path / "last.ckpt")
    same(gan, g, d)
    assert gan.provenance["format"] == "lightning-bolts"


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
    g = randomised(ZooG(), 4)
    average, d = settled_pair(randomised(ZooG(tanh=loss == "DCGAN"), 5), randomised(ZooD(), 1))
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
    g = randomised(StudioG())
    ema, d = settled_pair(randomised(StudioG(), 8), randomised(StudioD(), 1), flat=True)
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
    consistency = about.pop("consistency")
    assert [layer["layer"] for layer in consistency["generator"]["layers"]] == [f"main.{i}" for i in (0, 3, 6, 9)]
    assert consistency["generator"]["layers"][0]["kernel"] == 4
    assert consistency["generator"]["layers"][-1]["activation_from"] == "assumed"
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
        "prior_source": "statistics",
    }
    assert json.dumps(consistency)


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
