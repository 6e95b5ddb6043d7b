"""Export: what probe writes opens, strictly, in the generator of pytorch/examples, and draws the same images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import probe
from probe import checkpoints
from probe.base.errors import ProbeError
from probe.edits.surgery import Direction, ablate, erase, fold, scale
from probe.models.dcgan import Block, Generator, generator_blocks
from probe.models.gan import GAN, use_batch_statistics


class ExamplesGenerator(nn.Module):
    """The structure of the Generator of pytorch/examples (dcgan/main.py), written out by hand."""

    def __init__(self, nz: int, ngf: int, nc: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 8),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_the_built_in_model_opens_in_pytorch_examples(tmp_path: Path, suffix: str) -> None:
    gan = probe.load("rooms")
    matrix = torch.eye(96)
    matrix[3, 5] = 0.4
    new = fold(scale(ablate(gan, 2, range(0, 40)), 3, [1], 1.5), 3, matrix)
    path = tmp_path / f"netG{suffix}"
    checkpoints.save(new, path)
    state = torch.load(path, weights_only=True)
    assert all(isinstance(v, Tensor) and v.dtype in (torch.float32, torch.int64) for v in state.values())
    other = ExamplesGenerator(100, 48, 3)
    other.load_state_dict(state, strict=True)
    z = gan.latents(8, 3)
    with torch.no_grad():
        drawn = other.eval()(z[:, :, None, None])
    torch.testing.assert_close(drawn, new.images(z), atol=1e-6, rtol=0)
    assert (drawn - gan.images(z)).abs().max() > 0.1
    again = probe.load(path, prior="uniform")
    torch.testing.assert_close(again.images(z), new.images(z), atol=1e-6, rtol=0)
    assert again.provenance["format"] == "pytorch/examples"


def test_another_eps_goes_into_the_variance(tmp_path: Path, tiny_gan: GAN) -> None:
    blocks = [Block(**{**vars(b), "eps": 1e-3}) for b in tiny_gan.generator.blocks]
    g = Generator(blocks).eval()
    g.load_state_dict(tiny_gan.generator.state_dict())
    gan = GAN(g, None, 8, 32, 3)
    checkpoints.save(gan, tmp_path / "g.pth")
    z = gan.latents(4)
    torch.testing.assert_close(probe.load(tmp_path / "g.pth").images(z), gan.images(z), atol=1e-6, rtol=0)
    with torch.no_grad():
        g.layer2.norm.running_var[0] = 1e-7
    g.blocks = (g.blocks[0], Block(**{**vars(blocks[1]), "eps": 1e-8}), *g.blocks[2:])
    with pytest.raises(ProbeError, match="layer2 has variances that eps 1e-05 in place of its own 1e-08 would swamp"):
        checkpoints.save(gan, tmp_path / "h.pth")


DECONV = Block("deconv", 4, 4)
LAST = Block("deconv", 4, 3, norm="none", activation="tanh")
FIRST = Block("deconv", 8, 4, 4, 1, 0)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([Block("linear", 8, 4, grid=4), DECONV, LAST], "layer1 is a linear layer, not a transposed convolution"),
        ([FIRST, DECONV, DECONV, Block("conv", 4, 3, 3, 1, 1, norm="none", activation="tanh")], "layer4 is a convolution"),
        ([FIRST, Block("deconv", 4, 4, bias=True), LAST], "layer2 has a bias"),
        ([FIRST, Block("deconv", 4, 4, 5, 2, 2, 1), LAST], "layer2 has kernel 5, stride 2 and padding 2, not 4, 2 and 1"),
        ([FIRST, Block("deconv", 4, 4, norm="none"), LAST], "layer2 has no BatchNorm over its maps"),
        ([FIRST, Block("deconv", 4, 4, activation="leaky"), LAST], "layer2 ends in leaky, not ReLU"),
        ([FIRST, DECONV, Block("deconv", 4, 3, activation="tanh")], "layer3 has BatchNorm, which the last layer has not"),
        ([FIRST, DECONV, Block("deconv", 4, 3, norm="none", activation="none")], "layer3 ends in none, not tanh"),
    ],
)  # fmt: skip
def test_what_the_layout_cannot_hold(tmp_path: Path, blocks: list[Block], message: str) -> None:
    gan = GAN(Generator(blocks).eval(), None, 8, 16, 3)
    with pytest.raises(ProbeError, match=f"{message}.*, so it is no generator of pytorch/examples; use .*safetensors"):
        checkpoints.save(gan, tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_what_stands_behind_a_layer_or_in_its_statistics(tmp_path: Path, tiny_gan: GAN) -> None:
    direction = Direction(*torch.ones(3, 8))
    with pytest.raises(ProbeError, match="layer2 carries a one-sided erasure, so"):
        checkpoints.save(erase(tiny_gan, {"layer2": direction}, 1), tmp_path / "x.pth")
    use_batch_statistics(tiny_gan.generator)
    with pytest.raises(ProbeError, match="layer1 normalises by the batch's own statistics"):
        checkpoints.save(tiny_gan, tmp_path / "x.pth")
    with pytest.raises(ProbeError, match="the generator is a ReLU, and only DCGANs can be saved"):
        checkpoints.save(GAN(nn.ReLU(), None, 8, 16, 3), tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_nan_and_half_precision_are_refused(tmp_path: Path) -> None:
    gan = GAN(Generator(generator_blocks(16, 3, 8, 4)).eval(), None, 8, 16, 3)
    with pytest.raises(ProbeError, match=r"is float32; torch.float16 was asked for"):
        checkpoints.save(gan, tmp_path / "x.pth", torch.float16)
    with torch.no_grad():
        gan.generator.layer1.conv.weight[0] = float("nan")
    with pytest.raises(ProbeError, match=r"main.0.weight holds NaN or infinite weights; nothing was written"):
        checkpoints.save(gan, tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, tiny_gan: GAN, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.pth"
    checkpoints.save(tiny_gan, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ProbeError, match="No space left on device"):
        checkpoints.save(ablate(tiny_gan, 1, [0]), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["g.pth"]
