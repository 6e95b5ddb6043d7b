"""Spectra against closed forms: a checkerboard, white noise, a wave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import probe
from probe.models.gan import GAN
from probe.questions.spectrum.run import corner, power, radial

RNG = np.random.default_rng(0)


def test_white_noise_has_no_corner_and_a_checkerboard_has_one() -> None:
    noise = RNG.integers(0, 256, (200, 3, 32, 32)).astype(np.uint8)
    at, around = corner(power(noise))
    assert at.sum() / around.sum() == pytest.approx(1, abs=0.2)
    board = np.indices((32, 32)).sum(0) % 2 * 40
    at, around = corner(power((noise // 2 + board).astype(np.uint8)))
    # a board of ±20 levels in power: (20 / 255 · 32²)²; noise of 0 to 127, three channels averaged: 32² · variance
    expected = 1 + (20 * 32**2) ** 2 / (32**2 * (128**2 - 1) / 12 / 3)
    assert at.sum() / around.sum() == pytest.approx(expected, rel=0.1)


def test_a_wave_is_at_its_frequency() -> None:
    wave = 128 + 100 * np.cos(2 * np.pi * 5 * np.arange(32) / 32)
    images = np.broadcast_to(wave, (2, 1, 32, 32)).round().astype(np.uint8)
    rings = radial(power(images))
    assert rings.shape == (2, 23)
    assert (rings.argmax(1) == 4).all()  # the first ring is one cycle an image
    total = power(images).sum((1, 2))
    assert total == pytest.approx(
        32**2 * ((images / 255 - images.mean() / 255) ** 2).sum((1, 2, 3)), rel=1e-6
    )  # Parseval


def test_the_call(tiny_gan: GAN) -> None:
    with pytest.raises(probe.ProbeError, match="pass them as `data`"):
        probe.spectrum(tiny_gan)
    with pytest.raises(probe.ProbeError, match="expected at least the `samples` 32"):
        probe.spectrum(tiny_gan, "rooms:16", samples=32)
    result = probe.spectrum(tiny_gan, "rooms:32", samples=32)
    m = result.metrics
    assert m["excess"] == pytest.approx(m["corner"] / m["real"]["corner"])
    assert m["corner_ci"][0] <= m["corner"] <= m["corner_ci"][1]
    assert result.figure().axes
    assert "samples" in result.summary().text


def test_a_constant_generator_gets_no_verdict(tiny_gan: GAN, tmp_path: Path) -> None:
    with torch.no_grad():
        for weight in tiny_gan.generator.parameters():
            weight.zero_()
    result = probe.spectrum(tiny_gan, "rooms:16", samples=16)
    assert result.metrics["corner"] is None
    assert result.metrics["real"]["corner"] > 0
    assert result.summary().holds is None
    assert result.summary().verdict.startswith("nothing to judge")
    assert result.save(tmp_path / "o").exists()
