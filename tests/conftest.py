"""What several tests need: a tiny GAN whose layers all matter, caches that are thrown away, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from probe.checkpoints import save
from probe.models.dcgan import Discriminator, Generator, discriminator_blocks, generator_blocks
from probe.models.gan import GAN
from tests.browsing import CHROMIUM, FLAGS, Server, Start

pytest.register_assert_rewrite("tests.originals")
torch.set_num_threads(1)  # on models this small, threads cost more than they save


@pytest.fixture(scope="session", autouse=True)
def _throwaway_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PROBE_CACHE", str(folder))
    return folder


def give_structure(model: nn.Module, seed: int) -> None:
    """Weights that keep activations apart at every layer, and BatchNorm statistics unlike the initial ones."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                m.weight.normal_(0, 0.2, generator=g)
                ramp = torch.linspace(0.5, 1.5, m.weight.shape[0])  # some inputs matter more than others
                m.weight.mul_(ramp.view(-1, *[1] * (m.weight.ndim - 1)))
            elif isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5, generator=g)
                m.bias.normal_(0.2, 0.4, generator=g)
                m.running_mean.normal_(0, 0.3, generator=g)
                m.running_var.uniform_(0.3, 1.5, generator=g)


@pytest.fixture
def tiny_gan() -> GAN:
    """A GAN of 32 px: layer1 16 maps of 4x4, layer2 8 of 8x8, layer3 4 of 16x16; 8 normal latents; in eval mode."""
    generator = Generator(generator_blocks(size=32, width=4, nz=8))
    discriminator = Discriminator(discriminator_blocks(size=32, width=4))
    give_structure(generator, 0)
    give_structure(discriminator, 1)
    policy = {"generator": "running", "discriminator": "running"}
    provenance = {"checkpoint": "tiny", "sha256": "0" * 64, "format": "test", "prior_source": "given"}
    return GAN(generator.eval(), discriminator.eval(), 8, 32, 3, "normal", policy, provenance)


@pytest.fixture
def tiny(tiny_gan: GAN, tmp_path: Path) -> Path:
    """The tiny GAN as a file."""
    save(tiny_gan, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield found
        found.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Server] = []

    def begin(*words: object) -> Server:
        running.append(Server(tmp_path, *words))
        return running[-1]

    yield begin
    for server in running:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch with two threads, which work side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
