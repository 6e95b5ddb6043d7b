"""What the tests of training share: tiny settings, pictures, and what a run leaves on disk."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from probe.models.gan import GAN
from probe.training.loop import Settings

TINY = Settings(size=28, channels=1, nz=5, width=4, batch=8, steps=6)
COLOUR = replace(TINY, size=32, channels=3, prior="normal", ema=0.0, seed=3)


def pictures(n: int, s: Settings = TINY, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, s.channels, s.size, s.size), dtype=np.uint8)


def rows(out: Path) -> list[list[str]]:
    with (out / "losses.csv").open(newline="") as file:
        return list(csv.reader(file))


def about(out: Path) -> dict[str, str]:
    with safe_open(out / "state.safetensors", "pt") as file:
        return dict(file.metadata())


def same_to_the_bit(a: Path, b: Path) -> None:
    first, second = load_file(a / "state.safetensors"), load_file(b / "state.safetensors")
    assert set(first) == set(second)
    assert {name.split(".")[0] for name in first} == {"generator", "discriminator", "ema", "opt_g", "opt_d"}
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert about(a) == about(b)
    assert (a / "losses.csv").read_bytes() == (b / "losses.csv").read_bytes()


def same_networks(a: GAN, b: GAN) -> None:
    for first, second in ((a.generator, b.generator), (a.discriminator, b.discriminator)):
        ours, theirs = first.state_dict(), second.state_dict()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
