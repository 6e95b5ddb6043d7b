"""What no shape tells, told by statistics: modules of other people's kinds, trained-like, against what probe reads of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.models.gan import GAN, Prior, latents
from tests.originals import Named

NZ, N = 12, 64
Draw = Callable[[int, int], tuple[Tensor, ...]]


def warmed(module: nn.Module, draw: Draw, seed: int = 0) -> nn.Module:
    """Random weights, and the statistics that BatchNorm gathers in training mode over many batches."""
    g = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fan = m.weight[0].numel() if not isinstance(m, nn.ConvTranspose2d) else m.weight.shape[0] * 4
            nn.init.normal_(m.weight, 0, (1.5 / fan) ** 0.5, generator=g)
            if m.bias is not None:
                nn.init.normal_(m.bias, 0, 0.2, generator=g)
        elif isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.6, 1.4, generator=g)
            nn.init.normal_(m.bias, 0, 0.3, generator=g)
            m.momentum = None
    module.train()
    with torch.no_grad():
        for i in range(8):
            module(*draw(256, i))
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            m.num_batches_tracked.fill_(1000)
    return module.eval()


def normal(n: int, seed: int) -> tuple[Tensor, ...]:
    return (latents(n, NZ, seed + 50, "normal"),)


def uniform(n: int, seed: int) -> tuple[Tensor, ...]:
    return (latents(n, NZ, seed + 50, "uniform"),)


class Net(nn.Module):
    """Transposed convolutions as attributes; everything else in the forward pass, where no file tells of it."""

    def __init__(self, act: Callable[[Tensor], Tensor], order: str = "norm-act", first: Any = None) -> None:
        super().__init__()
        self.act, self.order = act, order
        self.first = first or nn.ConvTranspose2d(NZ, 24, 4, bias=False)
        self.up1, self.up2 = (
            nn.ConvTranspose2d(24, 16, 4, 2, 1, bias=False),
            nn.ConvTranspose2d(16, 12, 4, 2, 1, bias=False),
        )
        self.out = nn.ConvTranspose2d(12, 3, 4, 2, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(24), nn.BatchNorm2d(16), nn.BatchNorm2d(12)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z.view(len(z), -1, 1, 1))
        for norm, layer in ((self.bn1, self.up1), (self.bn2, self.up2), (self.bn3, self.out)):
            x = layer(self.act(norm(x)) if self.order == "norm-act" else norm(self.act(x)))
        return x.tanh()


def opened(module: nn.Module, folder: Path, **options: Any) -> GAN:
    torch.save(module.state_dict(), folder / "a.pth")
    return checkpoints.load(folder / "a.pth", **options)


def draws_the_same(gan: GAN, module: Callable[..., Tensor], *more: Tensor, tolerance: float = 2e-5) -> None:
    z = latents(4, gan.nz, 3, gan.prior)
    with torch.no_grad():
        expected = module(z, *(m.expand(4) for m in more))
    assert expected.std() > 0.05
    torch.testing.assert_close(gan.images(z), expected, atol=tolerance, rtol=0)


def verdict(gan: GAN) -> dict[str, Any]:
    return gan.provenance["consistency"]["generator"]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky 0.2": lambda x: F.leaky_relu(x, 0.2),
    "leaky 0.1": lambda x: F.leaky_relu(x, 0.1),
    "leaky 0.3": lambda x: F.leaky_relu(x, 0.3),
    "elu": F.elu,
    "selu": F.selu,
    "silu": F.silu,
    "tanh": torch.tanh,
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activation(tmp_path: Path, name: str) -> None:
    module = warmed(Net(ACTIVATIONS[name]), normal)
    gan = opened(module, tmp_path)
    found = verdict(gan)
    assert found["verdict"] == "identified"
    assert [layer["activation"] for layer in found["layers"]] == [name] * 3 + ["tanh"]
    assert found["score"] < 0.6 * found["before"]
    draws_the_same(gan, module)
    assert f"first: {name}, not relu" in checkpoints.warnings(gan)[0]


def test_relu_is_consistent_and_nothing_is_said(tmp_path: Path) -> None:
    module = warmed(Net(F.relu), normal)
    gan = opened(module, tmp_path)
    assert verdict(gan)["verdict"] == "consistent"
    assert verdict(gan)["layers"][0]["activation_from"] == "statistics"
    assert checkpoints.warnings(gan) == []
    draws_the_same(gan, module)


@pytest.mark.parametrize("name", ["leaky 0.2", "elu"])
def test_the_order_of_norm_and_activation(tmp_path: Path, name: str) -> None:
    module = warmed(Net(ACTIVATIONS[name], "act-norm"), normal)
    gan = opened(module, tmp_path)
    assert {layer["order"] for layer in verdict(gan)["layers"][:3]} == {"act-norm"}
    draws_the_same(gan, module)


@pytest.mark.parametrize("name", ["uniform", "unit"])
def test_the_prior(tmp_path: Path, name: str) -> None:
    def draw(n: int, seed: int) -> tuple[Tensor, ...]:
        z = uniform(n, seed)[0]
        return ((z + 1) / 2 if name == "unit" else z,)

    module = warmed(Net(F.relu), draw)
    gan = opened(module, tmp_path)
    assert (gan.prior, gan.provenance["prior_source"]) == ("uniform", "statistics")
    draws_the_same(gan, (lambda z: module((z + 1) / 2)) if name == "unit" else module)
    forced = checkpoints.load(tmp_path / "a.pth", prior="normal")
    assert verdict(forced)["verdict"] == "inconsistent"
    with pytest.raises(ProbeError, match=r"a.pth: generator: its BatchNorm statistics contradict .* refused"):
        checkpoints.load(tmp_path / "a.pth", prior="normal", strict=True)


class PyTorchGAN(nn.Module):
    """eriklindernoren/PyTorch-GAN's dcgan.py, narrow."""

    def __init__(self, size: int = 32, nz: int = NZ) -> None:
        super().__init__()
        self.side = size // 4
        self.l1 = nn.Sequential(nn.Linear(nz, 16 * self.side**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(16), nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 16, 3, stride=1, padding=1), nn.BatchNorm2d(16, 0.8), nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 8, 3, stride=1, padding=1), nn.BatchNorm2d(8, 0.8), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 3, 3, stride=1, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        return self.conv_blocks(self.l1(z).view(len(z), 16, self.side, self.side))


@pytest.mark.parametrize("size", [28, 32, 64])
def test_upsampling_and_convolutions(tmp_path: Path, size: int) -> None:
    module = warmed(PyTorchGAN(size), normal)
    gan = opened(module, tmp_path)
    assert (gan.size, verdict(gan)["verdict"], gan.provenance["format"]) == (size, "consistent", "PyTorch-GAN")
    draws_the_same(gan, module)


def test_upsampling_after_a_transposed_convolution(tmp_path: Path) -> None:
    blocks = [
        [nn.Upsample(scale_factor=2), nn.Conv2d(24, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
        for _ in range(3)
    ]
    first = [nn.Unflatten(1, (NZ, 1, 1)), nn.ConvTranspose2d(NZ, 24, 4, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
    layers = [*first, *(m for block in blocks for m in block), nn.Conv2d(24, 3, 3, 1, 1), nn.Tanh()]
    module = warmed(Named("main", nn.Sequential(*layers)), normal)
    gan = opened(module, tmp_path)
    assert gan.size == 32
    draws_the_same(gan, module)


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (NZ, 1, 1)), *layers)


def up(a: int, b: int, k: int, s: int, p: int, o: int = 0) -> list[nn.Module]:
    return [nn.ConvTranspose2d(a, b, k, s, p, o, bias=False), nn.BatchNorm2d(b), nn.ReLU()]


LAYOUTS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mixed kernels": (
        lambda: sequential(
            *up(NZ, 24, 4, 1, 0), *up(24, 16, 3, 2, 1), *up(16, 12, 4, 2, 1), *up(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 1, 3, 1, 1), nn.Tanh()
        ),
        28,
    ),
    "a convolution between": (
        lambda: sequential(
            *up(NZ, 24, 4, 1, 0), nn.Conv2d(24, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            *up(16, 12, 4, 2, 1), *up(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh(),
        ),
        32,
    ),
    "a last 1x1 layer": (
        lambda: sequential(
            *up(NZ, 24, 4, 1, 0), *up(24, 16, 4, 2, 1), *up(16, 12, 4, 2, 1), *up(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 1), nn.Tanh()
        ),
        32,
    ),
    "a last 3x3 layer": (
        lambda: sequential(
            *up(NZ, 24, 4, 1, 0), *up(24, 16, 4, 2, 1), *up(16, 12, 4, 2, 1), *up(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 3, 1, 1), nn.Tanh()
        ),
        32,
    ),
    "interpolated": (
        lambda: sequential(
            *up(NZ, 24, 4, 1, 0), *up(24, 16, 3, 2, 1), *up(16, 12, 3, 2, 1), nn.ConvTranspose2d(12, 1, 3, 2, 1), nn.Tanh(),
            nn.Upsample(28, mode="bilinear"),
        ),
        28,
    ),
    "nothing behind the projection": (
        lambda: nn.Sequential(nn.Linear(NZ, 24 * 16), nn.Unflatten(1, (24, 4, 4)), *up(24, 16, 4, 2, 1), *up(16, 8, 4, 2, 1),
                              nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        32,
    ),
    "two linear layers": (
        lambda: nn.Sequential(nn.Linear(NZ, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 24 * 16), nn.BatchNorm1d(24 * 16), nn.ReLU(),
                              nn.Unflatten(1, (24, 4, 4)), *up(24, 16, 4, 2, 1), *up(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        32,
    ),
    "learned slopes": (
        lambda: sequential(nn.ConvTranspose2d(NZ, 24, 4), nn.BatchNorm2d(24), nn.PReLU(24, 0.3), nn.ConvTranspose2d(24, 16, 4, 2, 1),
                           nn.BatchNorm2d(16), nn.PReLU(1, 0.1), *up(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        32,
    ),
    "instance norm": (
        lambda: sequential(*up(NZ, 24, 4, 1, 0), nn.ConvTranspose2d(24, 16, 4, 2, 1), nn.InstanceNorm2d(16, affine=True), nn.ReLU(),
                           *up(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        32,
    ),
    "dropout": (
        lambda: sequential(*up(NZ, 24, 4, 1, 0), nn.Dropout(0.0), *up(24, 16, 4, 2, 1), nn.Dropout(0.0), *up(16, 8, 4, 2, 1),
                           nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        32,
    ),
    "weight norm": (lambda: sequential(*weight_normed(nn.utils.weight_norm)), 32),
    "weight norm as a parametrization": (lambda: sequential(*weight_normed(nn.utils.parametrizations.weight_norm)), 32),
    "stride 3 to 96 px": (
        lambda: sequential(*up(NZ, 24, 4, 1, 0), *up(24, 16, 4, 2, 1), *up(16, 8, 4, 2, 1), *up(8, 6, 4, 2, 1),
                           nn.ConvTranspose2d(6, 3, 5, 3, 1, bias=False), nn.Tanh()),
        96,
    ),
}  # fmt: skip


def weight_normed(norm: Any) -> list[nn.Module]:
    """Layers whose weights are stored as a length and a direction; the lengths are trained, too."""
    layers = [
        norm(nn.ConvTranspose2d(*shape))
        for shape in ((NZ, 24, 4), (24, 16, 4, 2, 1), (16, 8, 4, 2, 1), (8, 3, 4, 2, 1))
    ]
    for layer in layers:
        for name, length in layer.named_parameters():
            if name in ("weight_g", "parametrizations.weight.original0"):
                nn.init.uniform_(length, 0.5, 2.0, generator=torch.Generator().manual_seed(len(length)))
    return [m for layer, width in zip(layers[:3], (24, 16, 8), strict=True) for m in (layer, nn.BatchNorm2d(width), nn.ReLU())] + [
        layers[3], nn.Tanh()]  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    make, size = LAYOUTS[name]
    module = warmed(make(), normal)
    gan = opened(module, tmp_path)
    assert gan.size == size
    assert verdict(gan)["verdict"] in ("consistent", "identified")
    draws_the_same(gan, module)


# Classes -----------------------------------------------------------------------------------------------------------------


class Conditional(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        inputs = {"after": NZ + 6, "before": NZ + 6, "times": NZ, "one-hot": NZ + 10}[how]
        if how != "one-hot":
            self.label_emb = nn.Embedding(10, NZ if how == "times" else 6)
        self.net = nn.Sequential(*up(inputs, 24, 4, 1, 0), *up(24, 16, 4, 2, 1), *up(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())  # fmt: skip

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        if self.how == "one-hot":
            x = torch.cat([z, F.one_hot(label, 10).float()], 1)
        else:
            e = self.label_emb(label)
            x = z * e if self.how == "times" else torch.cat([z, e] if self.how == "after" else [e, z], 1)
        return self.net(x[:, :, None, None])


@pytest.mark.parametrize("how", ["after", "before", "times", "one-hot"])
def test_classes(tmp_path: Path, how: str) -> None:
    torch.manual_seed(0)
    module = warmed(Conditional(how), lambda n, seed: (*normal(n, seed), torch.arange(n) % 10))
    with pytest.raises(ProbeError, match=r"a.pth: a conditional generator of 10 classes .*`label` 0 to 9"):
        opened(module, tmp_path)
    gan = opened(module, tmp_path, label=7)
    assert gan.nz == NZ
    assert gan.provenance["class"]["label"] == 7
    draws_the_same(gan, module, torch.tensor(7))
    with pytest.raises(ProbeError, match=r"class 10: expected 0 to 9"):
        opened(module, tmp_path, label=10)
    other = gan.at_class(2)
    assert other.provenance["class"]["label"] == 2
    draws_the_same(other, module, torch.tensor(2))
    draws_the_same(gan, module, torch.tensor(7))
    with pytest.raises(ProbeError, match=r"class 10: expected 0 to 9"):
        gan.at_class(10)
    checkpoints.save(gan, tmp_path / "b.safetensors")
    torch.testing.assert_close(checkpoints.load(tmp_path / "b.safetensors").sample(2), gan.sample(2))


class TwoBranches(nn.Module):
    """Latent and one-hot class enter by layers of their own, whose maps stand side by side."""

    def __init__(self, norm: bool, latent_first: bool) -> None:
        super().__init__()
        inputs = (NZ, 10) if latent_first else (10, NZ)
        self.one, self.two = (nn.Sequential(*(up(n, width, 4, 1, 0) if norm else [nn.ConvTranspose2d(n, width, 4), nn.ReLU()]))
                              for n, width in zip(inputs, (24, 12), strict=True))  # fmt: skip
        self.net = nn.Sequential(
            *up(36, 16, 4, 2, 1), *up(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()
        )
        self.latent_first = latent_first

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        entering = [z, F.one_hot(label, 10).float()][:: 1 if self.latent_first else -1]
        maps = [branch(x[:, :, None, None]) for branch, x in zip((self.one, self.two), entering, strict=True)]
        return self.net(torch.cat(maps, 1))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("latent_first", [False, True])
def test_latent_and_class_in_layers_of_their_own(tmp_path: Path, norm: bool, latent_first: bool) -> None:
    torch.manual_seed(0)
    module = warmed(TwoBranches(norm, latent_first), lambda n, seed: (*normal(n, seed), torch.arange(n) % 10))
    with pytest.raises(ProbeError, match=r"a conditional generator of 10 classes .*`label` 0 to 9"):
        opened(module, tmp_path)
    gan = opened(module, tmp_path, label=7)
    assert gan.nz == NZ
    draws_the_same(gan, module, torch.tensor(7))
    draws_the_same(gan.at_class(2), module, torch.tensor(2))


def test_a_class_of_an_unconditional_generator(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="class 3 of a generator without classes; leave `label` out"):
        opened(warmed(Net(F.relu), normal), tmp_path, label=3)
    with pytest.raises(ProbeError, match="class 3 of a generator without classes; leave `label` out"):
        opened(warmed(Net(F.relu), normal), tmp_path).at_class(3)


# Statistics that cannot tell, or tell otherwise ----------------------------------------------------------------------------


def test_drifted_statistics(tmp_path: Path) -> None:
    module = warmed(Net(ACTIVATIONS["leaky 0.2"]), normal)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    state["bn1.running_mean"] += 3 * state["bn1.running_var"].sqrt()
    state["bn1.running_var"] *= 12
    torch.save(state, tmp_path / "a.pth")
    gan = checkpoints.load(tmp_path / "a.pth")
    assert (verdict(gan)["verdict"], verdict(gan)["drifted"]) == ("inconsistent", True)
    assert "have drifted" in checkpoints.warnings(gan)[0]
    assert "`batchnorm` recalibrated" in checkpoints.warnings(gan)[0]
    right = checkpoints.load(tmp_path / "a.pth", batchnorm="recalibrated")
    assert right.batchnorm["generator"] == "recalibrated"
    assert verdict(right)["verdict"] == "inconsistent"  # no estimate of ours makes a file consistent
    draws_the_same(right, module, tolerance=0.15)


def test_statistics_of_few_updates(tmp_path: Path) -> None:
    """The usual momentum of 0.1, 12 batches: a quarter of the statistics is still what BatchNorm begins with."""
    module = warmed(Net(ACTIVATIONS["leaky 0.2"]), normal)
    for norm in (module.bn1, module.bn2, module.bn3):
        norm.reset_running_stats()
        norm.momentum = 0.1
    module.train()
    for i in range(12):
        module(*normal(256, i))
    gan = opened(module.eval(), tmp_path)
    assert (verdict(gan)["verdict"], verdict(gan)["layers"][0]["activation"]) == ("unchecked", "leaky 0.2")
    assert "fewer than 50 updates" in checkpoints.warnings(gan)[0]
    assert "leaky 0.2, not relu" in checkpoints.warnings(gan)[0]
    draws_the_same(gan, module)


def test_a_discriminator_of_few_updates_that_fits_badly_is_read_as_usual(tmp_path: Path) -> None:
    """Its statistics are of noise, not of images: whatever comes nearest says nothing."""
    d = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
                      nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 4))  # fmt: skip
    torch.manual_seed(0)
    for _ in range(20):
        d(torch.rand(32, 3, 32, 32) * 2 - 1)
    torch.save(d.eval().state_dict(), tmp_path / "d.pth")
    torch.save(warmed(Net(F.relu), normal).state_dict(), tmp_path / "g.pth")
    gan = checkpoints.load(tmp_path / "g.pth", disc=tmp_path / "d.pth")
    told = gan.provenance["consistency"]["discriminator"]
    assert told["verdict"] == "unchecked"
    assert "fewer than 50 updates" in told["reason"]
    assert {layer["activation"] for layer in told["layers"][:3]} == {"leaky 0.2"}
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(gan.discriminator(x).flatten(), d(x).flatten())


def test_statistics_of_nothing_that_was_tried(tmp_path: Path) -> None:
    module = warmed(Net(F.relu), normal)
    for norm in (module.bn1, module.bn2, module.bn3):
        norm.running_var.mul_(torch.linspace(0.05, 30, norm.num_features))
        norm.running_mean.add_(torch.linspace(-3, 3, norm.num_features))
    gan = opened(module, tmp_path)
    assert verdict(gan)["verdict"] == "inconsistent"
    assert "contradict every reading tried" in checkpoints.warnings(gan)[0]
    draws_the_same(gan, module)  # the usual reading stays


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    g = nn.Sequential(
        nn.ConvTranspose2d(NZ, 16, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, 2, 1),
    )
    gan = opened(g, tmp_path)
    assert verdict(gan)["reason"] == "it has no BatchNorm"
    assert "cannot be checked, since it has no BatchNorm" in checkpoints.warnings(gan)[0]
    gan = opened(Net(F.relu), tmp_path)
    assert verdict(gan)["reason"] == "its running statistics were never updated"


def test_evidence_names_every_layer_and_its_source(tmp_path: Path) -> None:
    gan = opened(warmed(Net(ACTIVATIONS["leaky 0.2"]), normal), tmp_path)
    lines = checkpoints.evidence(gan)
    assert lines[0].startswith("generator: identified, distance 0.0")
    assert "latents N(0, 1): statistics" in lines[1]
    assert "first: ConvTranspose2d 12 -> 24; 4x4, stride 1, padding 0 (statistics)" in lines[2]
    assert "leaky 0.2 (statistics)" in lines[2]
    assert "tanh (assumed)" in lines[5]


# Discriminators ----------------------------------------------------------------------------------------------------------


class Critic(nn.Module):
    """eriklindernoren/PyTorch-GAN's discriminator, or the usual one with another slope."""

    def __init__(self, slope: float = 0.2, behind: bool = False) -> None:
        super().__init__()
        block = lambda a, b, norm: [  # noqa: E731
            nn.Conv2d(a, b, 4, 2, 1), *([nn.BatchNorm2d(b, 0.8)] if norm and not behind else []), nn.LeakyReLU(slope), nn.Dropout2d(0.0),
            *([nn.BatchNorm2d(b, 0.8)] if norm and behind else []),
        ]  # fmt: skip
        self.model = nn.Sequential(*block(3, 8, False), *block(8, 16, True), *block(16, 24, True))
        self.adv_layer = nn.Sequential(nn.Linear(24 * 16, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.adv_layer[0](self.model(x).flatten(1))


@pytest.mark.parametrize(("slope", "behind"), [(0.2, True), (0.2, False), (0.01, True), (0.3, False)])
def test_the_discriminator(tmp_path: Path, slope: float, behind: bool) -> None:
    g = warmed(Net(F.relu), normal)
    images = lambda n, seed: (g(normal(n, seed)[0]).detach(),)  # noqa: E731
    d = warmed(Critic(slope, behind), images, 1)
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pth")
    gan = checkpoints.load(tmp_path / "a.pth")
    x = gan.sample(8)
    with torch.no_grad():
        expected, got = d(x).flatten(), gan.require_discriminator()(x)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert gan.provenance["consistency"]["discriminator"]["verdict"] in ("consistent", "identified")


def test_a_sigmoid_that_the_discriminator_tells_of(tmp_path: Path) -> None:
    class Unit(Net):
        def forward(self, z: Tensor) -> Tensor:
            return (super().forward(z).clamp(-0.999999, 0.999999).atanh()).sigmoid()

    g = warmed(Unit(F.relu), normal)
    d = warmed(Critic(), lambda n, seed: (g(normal(n, seed)[0]).detach(),), 1)
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pth")
    gan = checkpoints.load(tmp_path / "a.pth")
    draws_the_same(gan, lambda z: 2 * g(z) - 1)
    x = gan.sample(8)
    with torch.no_grad():
        torch.testing.assert_close(gan.require_discriminator()(x), d((x + 1) / 2).flatten(), atol=1e-4, rtol=1e-4)


def test_a_discriminator_alone(tmp_path: Path) -> None:
    images = lambda n, seed: (2 * torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1,)  # noqa: E731
    d = warmed(Critic(), images, 1)
    torch.save(d.state_dict(), tmp_path / "netD.pth")
    gan = checkpoints.load(None, disc=tmp_path / "netD.pth")
    assert (gan.size, gan.channels, gan.batchnorm) == (32, 3, {"discriminator": "running"})
    x = images(8, 5)[0]
    with torch.no_grad():
        torch.testing.assert_close(gan.require_discriminator()(x), d(x).flatten(), atol=1e-4, rtol=1e-4)
    found = checkpoints.describe(gan)
    assert (found["generator"], found["consistency"]["discriminator"]["verdict"]) == (None, "unchecked")
    with pytest.raises(ProbeError, match="opened alone; this needs its generator, too: pass its file as `path`"):
        gan.sample(2)
    with pytest.raises(ProbeError, match=r"netD.pth: holds a discriminator only; pass it as `disc`, alone or beside"):
        checkpoints.load(tmp_path / "netD.pth")


def test_a_discriminator_against_images(tmp_path: Path) -> None:
    """Those it was trained on fit its statistics; others are told of."""
    images = lambda n, seed: (2 * torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1,)  # noqa: E731
    torch.save(warmed(Critic(), images, 1).state_dict(), tmp_path / "netD.pth")
    gan = checkpoints.load(None, disc=tmp_path / "netD.pth")
    assert checkpoints.on_data(gan, images(128, 9)[0], "its own") == []
    assert gan.provenance["consistency"]["discriminator"]["on_data"]["score"] < 0.1
    (line,) = checkpoints.on_data(gan, images(128, 9)[0] * 0.05 + 0.9, "others")
    assert line.startswith("others: its images are")


# Ranges and norms that no weight tells of -------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
def test_images_in_the_unit_range(tmp_path: Path, beside: bool) -> None:
    """A generator that was trained on pixels in [0, 1], many of them black, though it ends in a tanh."""
    module = warmed(Net(F.relu), normal)
    with torch.no_grad():  # a last layer whose outputs are hardly below zero
        module.out.weight.abs_()
        module.bn3.bias.fill_(-0.9)
        module.out.bias.zero_()
    d = warmed(Critic(), lambda n, seed: (module(normal(n, seed)[0]).detach(),), 1)
    torch.save({"G": module.state_dict(), **({"D": d.state_dict()} if beside else {})}, tmp_path / "a.pth")
    gan = checkpoints.load(tmp_path / "a.pth")
    draws_the_same(gan, lambda z: 2 * module(z) - 1)
    assert "its images lie in [0, 1]" in gan.provenance["assumed"][0]
    if beside:
        x = gan.sample(8)
        with torch.no_grad():
            torch.testing.assert_close(gan.require_discriminator()(x), d((x + 1) / 2).flatten(), atol=1e-4, rtol=1e-4)
        assert gan.provenance["consistency"]["discriminator"]["verdict"] == "consistent"


class PerPixel(nn.Module):
    """A generator of large weights that normalises each place, behind one PReLU for all; black and white without."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.PReLU()
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(NZ, 24, 4), nn.ConvTranspose2d(24, 16, 4, 2, 1), nn.ConvTranspose2d(16, 12, 4, 2, 1)]
        )
        self.out = nn.ConvTranspose2d(12, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = z.view(len(z), -1, 1, 1)
        for layer in self.up:
            x = self.act(layer(x))
            x = x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        return self.out(x).tanh()


def test_pixel_norm_that_has_no_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = PerPixel()
    with torch.no_grad():
        for layer in module.up:
            layer.weight.normal_(0, 0.6)
        module.out.weight.normal_(0, 0.1)
    gan = opened(module, tmp_path)
    assert verdict(gan)["verdict"] == "unchecked"
    assert "PixelNorm behind each activation" in checkpoints.warnings(gan)[0]
    draws_the_same(gan, module)


def test_black_pictures_without_norms_get_none(tmp_path: Path) -> None:
    """Digits are black nearly everywhere; nothing of that asks for a norm."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose2d(NZ, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())  # fmt: skip
    with torch.no_grad():
        module[4].bias.fill_(-3.2)
    gan = opened(module, tmp_path)
    assert "changed" not in verdict(gan)
    z = gan.latents(4, 3)
    with torch.no_grad():
        torch.testing.assert_close(gan.images(z), module(z[:, :, None, None]), atol=1e-5, rtol=0)


# Readings that fit alike -------------------------------------------------------------------------------------------------


def lagging(act: Callable[[Tensor], Tensor], off: float) -> nn.Module:
    """A generator whose statistics lag behind its weights: each map's variance is larger by a part, at random."""
    module = warmed(Net(act), normal)
    g = torch.Generator().manual_seed(4)
    for norm in (module.bn1, module.bn2, module.bn3):
        norm.running_var.mul_(1 + off * torch.rand(norm.num_features, generator=g))
    return module


def test_a_rare_activation_that_fits_a_little_better_is_named_and_not_taken(tmp_path: Path) -> None:
    """LeakyReLU of slope 0.1 gives larger variances than ReLU, as the statistics of a shrinking network have them."""
    gan = opened(lagging(F.relu, 0.12), tmp_path)
    found = verdict(gan)
    assert found["verdict"] == "consistent"
    assert [layer["activation"] for layer in found["layers"]] == ["relu"] * 3 + ["tanh"]
    assert found["close"]["activations"] != ["relu"]
    assert checkpoints.warnings(gan) == []
    assert "fits nearly as well" in checkpoints.evidence(gan)[0]


def test_an_activation_that_fits_much_better_is_taken_in_spite_of_lag(tmp_path: Path) -> None:
    gan = opened(lagging(F.elu, 0.12), tmp_path)
    assert verdict(gan)["verdict"] == "identified"
    assert [layer["activation"] for layer in verdict(gan)["layers"]] == ["elu"] * 3 + ["tanh"]


# What is not opened ------------------------------------------------------------------------------------------------------


def refusal(state: Any, folder: Path) -> str:
    torch.save(state, folder / "a.pth")
    with pytest.raises(ProbeError) as error:
        checkpoints.load(folder / "a.pth")
    return str(error.value)


def test_networks_that_are_something_else(tmp_path: Path) -> None:
    mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 784))
    assert "a fully connected network (3 linear layers)" in refusal(mlp.state_dict(), tmp_path)
    sr = nn.Sequential(
        nn.Conv2d(1, 8, 9, 1, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 1, 9, 1, 4)
    )
    assert "a network from images to images" in refusal(sr.state_dict(), tmp_path)
    coder = nn.ModuleDict({"encoder": nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Linear(9, 5)), "decoder": Net(F.relu)})
    assert "an autoencoder" in refusal(coder.state_dict(), tmp_path)
    (tmp_path / "a.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(ProbeError, match="a Git LFS pointer in place of the weights; fetch them with `git lfs pull`"):
        checkpoints.load(tmp_path / "a.pth")


def test_no_half_of_a_network(tmp_path: Path) -> None:
    state = {
        f"net.{k}": v
        for k, v in nn.Sequential(*up(NZ, 24, 4, 1, 0), *up(24, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1))
        .state_dict()
        .items()
    }
    state["style.weight"] = torch.ones(5, 7)
    assert "net alone would be half a network: style.weight (5, 7) is left over" in refusal(state, tmp_path)


def test_a_folder_with_other_files(tmp_path: Path) -> None:
    torch.save(warmed(Net(F.relu), normal).state_dict(), tmp_path / "generator.pth")
    (tmp_path / "generator.pkl").write_bytes(b"\x80\x04]\x94.")
    torch.save({"losses": [1.0]}, tmp_path / "history.pt")
    (tmp_path / "README.md").write_text("weights")
    gan = checkpoints.load(tmp_path)
    assert checkpoints.warnings(gan) == ["2 files passed over, since no network is in them: generator.pkl, history.pt"]


def test_the_prior_argument_wins(tmp_path: Path) -> None:
    prior: Prior = "uniform"
    gan = opened(warmed(Net(F.relu), uniform), tmp_path, prior=prior)
    assert (verdict(gan)["verdict"], gan.provenance["prior_source"]) == ("consistent", "given")
