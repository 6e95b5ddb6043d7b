"""Latents, ranges, BatchNorm policies: against definitions written out here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from probe.base.errors import ProbeError
from probe.models.gan import (
    GAN,
    best_precision,
    from_bytes,
    latents,
    recalibrate,
    to_bytes,
    to_unit,
    use_batch_statistics,
)

# ---- latents


@pytest.mark.parametrize("prior", ["uniform", "normal"])
@pytest.mark.parametrize("nz", [1, 7, 100])
def test_latents_do_not_depend_on_the_number_drawn(prior, nz):
    many = latents(257, nz, 3, prior)
    for n in (1, 2, 15, 16, 17, 256):
        assert torch.equal(latents(n, nz, 3, prior), many[:n])
    assert (many.shape, many.dtype) == ((257, nz), torch.float32)
    assert not torch.equal(latents(257, nz, 4, prior), many)


@pytest.mark.parametrize(
    ("prior", "law"), [("uniform", stats.uniform(-1, 2)), ("normal", stats.norm())], ids=["uniform", "normal"]
)
def test_latents_follow_the_prior(prior, law):
    x = latents(2000, 50, 0, prior)
    assert stats.kstest(x.flatten().double().numpy(), law.cdf).pvalue > 1e-3
    for order in (1, 2, 3, 4):
        power = x.double() ** order
        error = power.std() / power.numel() ** 0.5
        assert abs(power.mean() - law.moment(order)) < 4 * error
    rows = np.corrcoef(x.numpy().T)
    assert np.abs(rows - np.eye(50)).max() < 5 / 2000**0.5
    assert x.abs().max() <= (1 if prior == "uniform" else 6)


def test_latents_leave_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    latents(5, 5, 1, "normal")
    assert torch.equal(torch.rand(3), expected)


def test_a_gan_draws_from_its_prior(tiny_gan):
    assert torch.equal(tiny_gan.latents(5, 2), latents(5, 8, 2, "normal"))
    tiny_gan.prior = "uniform"
    assert torch.equal(tiny_gan.latents(5, 2), latents(5, 8, 2, "uniform"))


# ---- ranges


def test_ranges():
    x = torch.tensor([-1.0, -0.5, 0.0, 1.0, -1.5, 2.0])
    torch.testing.assert_close(to_unit(x), torch.tensor([0.0, 0.25, 0.5, 1.0, 0.0, 1.0]))
    assert to_bytes(x).tolist() == [0, 64, 128, 255, 0, 255]
    assert from_bytes(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


def test_bytes_round_trip():
    every = torch.arange(256, dtype=torch.uint8)
    x = from_bytes(every)
    np.testing.assert_allclose(x.numpy(), np.arange(256) / 255 * 2 - 1, atol=1e-6)
    assert torch.equal(to_bytes(x), every)
    half_way = torch.linspace(-1, 1, 999)
    np.testing.assert_array_equal(to_bytes(half_way).numpy(), np.floor((half_way.numpy() + 1) / 2 * 255 + 0.5))
    assert to_bytes(torch.tensor([0.5]).bfloat16()).tolist() == [191]


# ---- images


def test_images_in_batches_are_the_generators(tiny_gan):
    z = tiny_gan.latents(130)
    assert [len(b) for b in tiny_gan.batches(z)] == [64, 64, 2]
    with torch.no_grad():
        expected = tiny_gan.generator(z)
    torch.testing.assert_close(tiny_gan.images(z), expected)
    torch.testing.assert_close(tiny_gan.sample(130), expected)
    assert expected.shape == (130, 3, 32, 32)
    assert not tiny_gan.images(z[:2]).requires_grad
    assert tiny_gan.to("cpu") is tiny_gan
    assert tiny_gan.device == torch.device("cpu")


@pytest.mark.parametrize(
    "kind", [torch.float64, torch.float16, torch.bfloat16, np.float64, np.float32, np.float16, list]
)
def test_latents_of_any_float_type(tiny_gan, kind):
    z = (tiny_gan.latents(3) * 8).round() / 8  # exact in all of them
    given = z.tolist() if kind is list else z.to(kind) if isinstance(kind, torch.dtype) else z.numpy().astype(kind)
    torch.testing.assert_close(tiny_gan.images(given), tiny_gan.images(z), rtol=0, atol=0)
    torch.testing.assert_close(next(tiny_gan.batches(given, 2)), tiny_gan.images(z[:2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (torch.zeros(3, 2), r"latents are torch\.float32 \(3, 2\)"),
        (np.zeros(8), r"latents are torch\.float64 \(8,\)"),
        (torch.zeros(3, 8, dtype=torch.long), r"latents are torch\.int64 \(3, 8\)"),
        ("z", "latents of type str"),
        (None, "latents of type NoneType"),
    ],
)
def test_what_are_no_latents(tiny_gan, given, found):
    with pytest.raises(ProbeError, match=rf"^{found}; expected a tensor or an array of floats \(N, {tiny_gan.nz}\)"):
        tiny_gan.images(given)


def test_a_missing_discriminator(tiny_gan):
    assert tiny_gan.require_discriminator() is tiny_gan.discriminator
    alone = GAN(tiny_gan.generator, None, 8, 32, 3)
    with pytest.raises(ProbeError, match=r"holds a generator only; a discriminator is needed: pass its file as `disc`"):
        alone.require_discriminator()
    alone.to("cpu")


def test_best_precision():
    assert best_precision("meta") == "float32"
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists():
        pytest.skip("no /proc/cpuinfo on this system to tell what the CPU can do")
    units = {"amx_tile", "avx512_bf16"} & set(cpu.read_text().split())
    assert best_precision("cpu") == ("bfloat16" if units else "float32")


# ---- BatchNorm


def hand_forward(generator: nn.Module, z: torch.Tensor) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """A forward pass with statistics of the batch at hand; images, and each BatchNorm's mean and unbiased variance."""
    x, found = z[:, :, None, None], []
    for layer in generator.children():
        conv = layer.conv
        x = nn.functional.conv_transpose2d(x, conv.weight, stride=conv.stride, padding=conv.padding)
        if hasattr(layer, "norm"):
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            n = x.numel() // x.shape[1]
            found.append((mean, var * n / (n - 1)))
            x = (x - mean[:, None, None]) / (var[:, None, None] + layer.norm.eps).sqrt()
            x = (x * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]).clamp(min=0)
    return x.tanh(), found


@pytest.mark.parametrize("prior", ["uniform", "normal"])
def test_recalibrate_against_statistics_computed_by_hand(tiny_gan, prior):
    g = tiny_gan.generator
    weights = [p.clone() for p in g.parameters()]
    recalibrate(g, 8, prior, n=512, seed=9)
    with torch.no_grad():
        halves = [hand_forward(g, part)[1] for part in latents(512, 8, 9, prior).split(256)]
    norms = [layer.norm for layer in list(g.children())[:-1]]
    for norm, *parts in zip(norms, *halves, strict=True):
        torch.testing.assert_close(norm.running_mean, (parts[0][0] + parts[1][0]) / 2, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, (parts[0][1] + parts[1][1]) / 2, atol=1e-5, rtol=1e-4)
        assert norm.momentum == 0.1
    assert not any(m.training for m in g.modules())
    assert all(torch.equal(a, b) for a, b in zip(weights, g.parameters(), strict=True))


def test_recalibrate_restores_momentum_after_an_exception(tiny_gan):
    with pytest.raises(RuntimeError):
        recalibrate(tiny_gan.generator, 9, "normal")  # a wrong nz
    norms = [m for m in tiny_gan.generator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.momentum for m in norms] == [0.1] * 3
    assert not any(m.training for m in tiny_gan.generator.modules())


def test_batch_statistics_in_eval_mode(tiny_gan):
    g, z = tiny_gan.generator, tiny_gan.latents(20)
    before = tiny_gan.images(z)
    use_batch_statistics(g)
    with torch.no_grad():
        expected, _ = hand_forward(g, z)
    assert not g.training
    torch.testing.assert_close(tiny_gan.images(z), expected, atol=1e-5, rtol=1e-4)
    assert (before - expected).abs().max() > 0.05
    assert not any(key.endswith(("running_mean", "running_var")) for key in g.state_dict())
