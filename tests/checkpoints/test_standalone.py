"""Generators written for others: the .py file runs without probe, the ONNX file in onnx's own evaluator; both draw the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from probe.base.errors import ProbeError
from probe.checkpoints.standalone import export
from probe.models.dcgan import Block, Generator, generator_blocks
from probe.models.gan import GAN, use_batch_statistics
from tests.originals import randomised


def paper() -> list[Block]:
    return generator_blocks(16, 3, 5, 8)


def rich() -> list[Block]:
    """Every kind of layer that a block can be."""
    return [
        Block("linear", 5, 6, norm="unit", activation="leaky", slope=0.3),
        Block("linear", 6, 12, bias=True, norm="map", grid=4, activation="gelu", eps=1e-3),
        Block("deconv", 12, 10, 5, 2, 1, crop=(0, 1), bias=True, norm="map", order="act-norm", activation="selu"),
        Block(
            "conv",
            10,
            8,
            4,
            1,
            1,
            pad=(0, 1),
            upsample=2,
            interpolation="bilinear",
            norm="instance",
            activation="prelu",
            slopes=8,
        ),
        Block("conv", 8, 7, 3, 1, 1, norm="pixel", eps=1e-8, affine=False, activation="silu"),
        Block("conv", 7, 6, 3, 1, 1, norm="none", activation="elu", upsample=2, erase=2),
        Block("conv", 6, 1, 3, 1, 1, bias=True, norm="none", activation="sigmoid", unit_range=True, resize=28),
    ]


def edited() -> list[Block]:
    blocks = generator_blocks(16, 3, 5, 8)
    blocks[1] = Block("deconv", blocks[1].inputs, blocks[1].outputs, 4, 2, 1, patch=2)
    return blocks


def gan_of(blocks: list[Block]) -> GAN:
    generator = randomised(Generator(blocks))
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, tensor in [*generator.named_buffers(), *generator.named_parameters()]:
            if "erase" in name or "patch" in name or "act" in name:
                tensor.normal_(0, 0.4, generator=draw)
        if generator.patched:
            generator.patch.limit.fill_(2.5)
    images = generator(torch.zeros(1, 5))
    return GAN(generator, None, 5, images.shape[-1], images.shape[1], "uniform")


RUN = """
import sys, torch
sys.modules["probe"] = None  # an import of it would fail
sys.path.insert(0, sys.argv[1])
from drawn import load
torch.save(load()(torch.load(sys.argv[2])), sys.argv[3])
"""


@pytest.mark.parametrize("blocks", [paper, rich, edited])
def test_the_module_runs_without_probe(tmp_path: Path, blocks: object) -> None:
    gan = gan_of(blocks())
    assert export(gan, tmp_path / "drawn.py") == [tmp_path / "drawn.py", tmp_path / "drawn.pth"]
    text = (tmp_path / "drawn.py").read_text()
    assert "import probe" not in text
    assert "from probe" not in text
    assert "surgery" not in text
    z = gan.latents(6, 1)
    torch.save(z, tmp_path / "z")
    command = [sys.executable, "-c", RUN, str(tmp_path), str(tmp_path / "z"), str(tmp_path / "images")]
    subprocess.run(command, check=True, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    torch.testing.assert_close(torch.load(tmp_path / "images"), gan.images(z), atol=1e-6, rtol=0)


@pytest.mark.parametrize("blocks", [paper, rich, edited])
def test_the_graph_draws_the_same(tmp_path: Path, blocks: object) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    gan = gan_of(blocks())
    export(gan, tmp_path / "g.onnx", to="onnx")
    z = gan.latents(3, 1)
    (drawn,) = ReferenceEvaluator(onnx.load(tmp_path / "g.onnx")).run(None, {"z": z.numpy()})
    np.testing.assert_allclose(drawn, gan.images(z).numpy(), atol=2e-5)


def test_batch_statistics_run_in_torch_and_are_refused_for_onnx(tmp_path: Path) -> None:
    gan = gan_of(paper())
    use_batch_statistics(gan.generator)
    export(gan, tmp_path / "drawn.py")
    assert "track_running_stats=False" in (tmp_path / "drawn.py").read_text()
    with pytest.raises(ProbeError, match=r"statistics of the batch at hand, which ONNX cannot; recalibrate"):
        export(gan, tmp_path / "g.onnx", to="onnx")
    assert not (tmp_path / "g.onnx").exists()


def test_refused_with_one_line(tmp_path: Path) -> None:
    gan = gan_of(paper())
    for path, to, message in (
        ("a.txt", "torch", r"expected a name that ends in .py"),
        ("my-model.py", "torch", r"'my-model' cannot be imported"),
        ("a.py", "jax", r"export to 'jax': expected torch or onnx"),
    ):
        with pytest.raises(ProbeError, match=message) as error:
            export(gan, tmp_path / path, to=to)
        assert "\n" not in str(error.value)
    with torch.no_grad():
        gan.generator.layer1.conv.weight[0] = torch.nan
    with pytest.raises(ProbeError, match=r"layer1.conv.weight holds NaN or infinite weights; nothing was written"):
        export(gan, tmp_path / "a.py")
    assert not list(tmp_path.iterdir())
