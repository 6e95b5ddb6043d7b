"""Where checkpoints come from: folders, built-in names and factories, and the arguments that are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import probe
from probe import checkpoints
from probe.base.errors import ProbeError
from tests.originals import main_d, main_g, randomised, refused, same, settled_pair

# Folders, built-in names, factories ----------------------------------------------------------------------------------


def test_folder_takes_the_last_epoch(tmp_path: Path) -> None:
    nets = {epoch: settled_pair(randomised(main_g(), epoch), randomised(main_d(), epoch)) for epoch in (2, 9, 10)}
    for epoch, (g, d) in nets.items():
        torch.save(g.state_dict(), tmp_path / f"netG_epoch_{epoch}.pth")
        torch.save(d.state_dict(), tmp_path / f"netD_epoch_{epoch}.pth")
    (tmp_path / "fake_samples.png").write_bytes(b"\x89PNG")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    gan = checkpoints.load(tmp_path)
    same(gan, *nets[10])
    assert gan.provenance["files"] == ["netD_epoch_10.pth", "netG_epoch_10.pth"]
    assert gan.provenance["chosen"] == "the highest number of each file name"


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
class D(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.out = nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Linear(4 * 14 * 14, 1)
    def forward(self, x): return self.out(self.act(self.conv(x)).flatten(1))
def many(): return nn.Conv2d(3, 4, 4, 2, 1)
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


def test_a_discriminator_of_a_factory(factories: str) -> None:
    gan = checkpoints.load(None, disc_model=f"{factories}:D")
    assert (gan.size, gan.channels) == (28, 3)
    other = randomised(sys.modules["my_factories"].D())
    torch.save(other.state_dict(), "netD.pth")
    gan = checkpoints.load(None, disc="netD.pth", disc_model=f"{factories}:D")
    x = torch.rand(3, 3, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(gan.require_discriminator()(x), other(x).flatten())
    assert gan.provenance["checkpoint"] == "netD.pth"
    result = probe.guided_backprop(gan, "rooms:40", units="0", crops=2)
    assert result.metrics["activations_replaced"] == 1
    with pytest.raises(ProbeError, match=r"`disc_model` my_factories:many: does not take images of 64 px"):
        checkpoints.load(None, disc_model=f"{factories}:many")


# What is refused -----------------------------------------------------------------------------------------------------


def test_refused_arguments(tmp_path: Path) -> None:
    good, other = tmp_path / "g.pt", tmp_path / "g2.pt"
    torch.save(main_g().state_dict(), good)
    torch.save(main_g().state_dict(), other)
    refused(tmp_path / "absent.pt", r"no such file or folder, and not a built-in checkpoint \(rooms\)")
    refused("bedrooms", r"bedrooms: no such file or folder, and not a built-in checkpoint \(rooms\)")
    for options, message in (
        ({"disc": other}, r"g2.pt: holds a generator; `disc` takes the discriminator's file"),
        ({"disc": tmp_path / "absent.pt"}, r"absent.pt: no such file; `disc`"),
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


def test_a_missing_built_in_checkpoint_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoints.BUILTIN, "attic", "attic.safetensors")
    with pytest.raises(ProbeError, match=r"attic: the built-in checkpoint is missing from the package"):
        checkpoints.load("attic")
