"""Where checkpoints come from: folders, built-in names and factories, and the arguments that are refused."""

from __future__ import annotations

import re
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
class Range(nn.Module):
    def __init__(self, low, high):
        super().__init__()
        torch.manual_seed(0)
        self.g, self.low, self.high = G(), low, high
    def forward(self, z): return torch.sigmoid(4 * self.g(z)) * (self.high - self.low) + self.low
class Noisy(Range):
    nz = 5
    def __init__(self): super().__init__(-1, 1)
    def forward(self, z): return super().forward(z) + 0.1 * torch.randn(len(z), 1, 4, 4)
def unit(): return Range(0, 1)
def bytes_(): return Range(0, 255)
def G2(): return Range(-1, 1)
def wide(): return Range(-3, 3)
def beyond(): return Range(0, 65535)
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


@pytest.mark.parametrize(
    ("spec", "low", "high", "said"),
    [("unit", 0, 1, r"\[0, 1\]"), ("bytes_", 0, 255, "0 … 255"), ("G2", -1, 1, None)],
)
def test_the_range_of_a_factorys_images_is_looked_at(
    factories: str, spec: str, low: float, high: float, said: str
) -> None:
    gan = checkpoints.load(None, model=f"{factories}:{spec}")
    z = gan.latents(7)
    with torch.no_grad():
        drawn = getattr(sys.modules["my_factories"], spec)()(z)
    torch.testing.assert_close(gan.images(z), (drawn - low) / (high - low) * 2 - 1, rtol=0, atol=1e-5)
    notes = gan.provenance.get("assumed", [])
    assert bool(notes) == bool(said)
    assert not said or re.search(f"its images lie in {said} .*they are brought to", notes[0])


def test_images_beyond_the_range_are_said_or_refused(factories: str) -> None:
    gan = checkpoints.load(None, model=f"{factories}:wide")
    assert re.search(r"its images go from -.* to .*; what lies beyond \[-1, 1\]", gan.provenance["assumed"][0])
    with pytest.raises(ProbeError, match=r"beyond: the module's pixels go up to .*; expected \[-1, 1\], \[0, 1\] or 0"):
        checkpoints.load(None, model=f"{factories}:beyond")


def test_a_module_with_noise_of_its_own_is_refused(factories: str) -> None:
    with pytest.raises(ProbeError, match="draws another picture of the same latents each time; expected the same one"):
        checkpoints.load(None, model=f"{factories}:Noisy")
    noisy, before = sys.modules["my_factories"].Noisy(), torch.get_rng_state()
    with pytest.raises(ProbeError, match="Noisy: the module draws another picture"):
        checkpoints.load(noisy)
    assert torch.equal(before, torch.get_rng_state())


def test_live_modules(factories: str) -> None:
    checkpoints.load(None, model=f"{factories}:G")
    module = sys.modules["my_factories"].unit().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    gan = checkpoints.load(module, prior="uniform")
    z = gan.latents(3)
    with torch.no_grad():
        torch.testing.assert_close(gan.images(z), module(z) * 2 - 1)
    assert (gan.nz, gan.size, gan.channels, gan.prior, gan.provenance["checkpoint"]) == (5, 4, 3, "uniform", "Range")
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert gan.provenance["sha256"] == checkpoints.load(module).provenance["sha256"]
    with torch.no_grad():
        module.g.l.weight += 1
    assert gan.provenance["sha256"] != checkpoints.load(module).provenance["sha256"]
    with pytest.raises(ProbeError, match="takes neither"):
        checkpoints.load(sys.modules["my_factories"].D())
    with pytest.raises(ProbeError, match="a module and `model` or `disc_model` both given"):
        checkpoints.load(module, model="x:y")
    alone = checkpoints.load(None, disc=sys.modules["my_factories"].D())
    assert (alone.size, alone.channels, alone.provenance["disc"]) == (28, 3, "D")


def test_state_dicts(tmp_path: Path) -> None:
    g, d = settled_pair(randomised(main_g(), 0), randomised(main_d(), 0))
    gan = checkpoints.load(g.state_dict(), disc=d.state_dict())
    same(gan, g, d)
    assert gan.provenance["checkpoint"] == "state_dict.pt"
    same(checkpoints.load({"netG": g.state_dict(), "netD": d.state_dict(), "epoch": 3}), g, d)
    with pytest.raises(ProbeError, match=r"state_dict\.pt"):
        checkpoints.load({"epoch": 3})
    for wrong in (3, [g], b"\xff"):
        with pytest.raises(ProbeError):
            checkpoints.load(wrong)


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
    refused(tmp_path / "absent.pt", r"no such file or folder, and not a built-in checkpoint \(rooms, rooms@2\)")
    refused("bedrooms", r"bedrooms: no such file or folder, and not a built-in checkpoint \(rooms, rooms@2\)")
    for options, message in (
        ({"disc": other}, r"g2.pt: holds a generator; `disc` takes the discriminator's file"),
        ({"disc": tmp_path / "absent.pt"}, r"absent.pt: no such file; `disc`"),
        ({"prior": "cauchy"}, r"prior 'cauchy': expected one of uniform, normal"),
        ({"device": "abacus"}, r"device 'abacus': .*; try cpu"),
    ):
        with pytest.raises(ProbeError, match=message):
            checkpoints.load(good, **options)
    with pytest.raises(ProbeError, match=r"no checkpoint: pass a file, a folder or a built-in name \(rooms, rooms@2\)"):
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
