"""Public checkpoints of other people, where they are here: each is read right, or named for what is not known of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe import checkpoints
from probe.base.errors import ProbeError

WILD = Path(__file__).resolve().parents[3] / "shared" / "checkpoints" / "wild"
pytestmark = pytest.mark.skipif(not WILD.is_dir(), reason="the public checkpoints are not here")

READ = {
    "mnist-leaky/generator.pth": ("identified", 28, "normal", ["leaky 0.2"] * 3),
    "phantom-relu-generator.pth": ("consistent", 28, "normal", ["none", "relu"]),
    "linear-noact-uniform-generator.pt": ("identified", 32, "uniform", ["none", "relu", "relu"]),
    "uniform-prior-generator.pt": ("identified", 32, "uniform", ["relu"] * 3),
    "conv-between-deconvs-generator.pt": ("identified", 32, "uniform", ["none", *["leaky 0.2"] * 3]),
    "fashion-k7k4-generator.pth": ("consistent", 28, "normal", ["relu"] * 2),
    "sprites-16px-generator.pth": ("consistent", 16, "normal", ["relu"] * 2),
    "k2-32px-generator.pth": ("consistent", 32, "normal", ["relu"] * 3),
}


@pytest.mark.parametrize("name", READ)
def test_read_right(name: str) -> None:
    verdict, size, prior, activations = READ[name]
    gan = checkpoints.load(WILD / name)
    found = gan.provenance["consistency"]["generator"]
    assert (found["verdict"], gan.size, gan.prior) == (verdict, size, prior)
    assert [layer["activation"] for layer in found["layers"][:-1]] == activations
    assert found["score"] < 0.06


@pytest.mark.parametrize(
    "name",
    [
        "conditional-embedding-generator.pth",
        "pytorchgan-conditional-generator.pth",
        "two-linear-conditional-generator.pth",
    ],
)
def test_conditional(name: str) -> None:
    with pytest.raises(ProbeError, match="a conditional generator of 10 classes"):
        checkpoints.load(WILD / name)
    assert checkpoints.load(WILD / name, label=3).provenance["class"]["label"] == 3
