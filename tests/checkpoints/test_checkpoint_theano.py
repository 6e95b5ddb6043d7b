"""The paper's own arrays against its networks written out here, and arrays that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.models.gan import use_batch_statistics
from tests.originals import NZ, refused


def write_theano(folder: Path, epoch: int, g: list[np.ndarray], d: list[np.ndarray]) -> None:
    for name, arrays in (("gen", g), ("discrim", d)):
        for i, array in enumerate(arrays, 1):
            np.save(folder / f"{epoch}_{name}_params.jl_{i:02d}.npy", array.astype(np.float32))


def theano_arrays(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    r = np.random.default_rng(seed)
    norm = lambda n: [r.uniform(0.5, 1.5, n), r.normal(0, 0.2, n)]  # noqa: E731
    g = [r.normal(0, 0.1, (NZ, 16 * 16)), *norm(16 * 16), r.normal(0, 0.1, (16, 8, 5, 5)), *norm(8)]
    d = [r.normal(0, 0.1, (8, 3, 5, 5)), r.normal(0, 0.1, (16, 8, 5, 5)), *norm(16), r.normal(0, 0.1, (256, 1))]
    return [*g, r.normal(0, 0.1, (8, 3, 5, 5))], d


def test_the_papers_own_arrays(tmp_path: Path) -> None:
    write_theano(tmp_path, 9, *theano_arrays(0))
    write_theano(tmp_path, 100, *(arrays := theano_arrays(1)))
    (tmp_path / "100_gen_params.jl").write_bytes(b"\x80\x02never unpickled")
    gan = checkpoints.load(tmp_path)
    assert (gan.nz, gan.size, gan.prior) == (NZ, 16, "uniform")
    assert gan.provenance["prior_source"] == "format"
    assert gan.provenance["chosen"] == "epoch 100"
    assert gan.batchnorm == {"generator": "recalibrated", "discriminator": "batch"}

    g, d = ([torch.from_numpy(a).float() for a in network] for network in arrays)
    turned = lambda k: torch.rot90(k, 2, (2, 3))  # noqa: E731
    z, use_batch = gan.latents(256), lambda x, s, b: F.batch_norm(x, None, None, s, b, True, 0.1, 1e-8)
    x = use_batch(z @ g[0], g[1], g[2]).relu().view(-1, 16, 4, 4)
    x = use_batch(F.conv_transpose2d(x, turned(g[3]), None, 2, 2, 1), g[4], g[5]).relu()
    x = F.conv_transpose2d(x, turned(g[6]), None, 2, 2, 1).tanh()
    use_batch_statistics(gan.generator)
    with torch.no_grad():
        torch.testing.assert_close(gan.generator(z), x, atol=1e-5, rtol=0)
        y = F.leaky_relu(F.conv2d(x, turned(d[0]), None, 2, 2), 0.2)
        y = F.leaky_relu(use_batch(F.conv2d(y, turned(d[1]), None, 2, 2), d[2], d[3]), 0.2)
        torch.testing.assert_close(gan.require_discriminator()(x), (y.flatten(1) @ d[4])[:, 0], atol=1e-5, rtol=0)


def test_theano_statistics_are_those_of_the_prior(tmp_path: Path) -> None:
    g, d = theano_arrays(0)
    write_theano(tmp_path, 1, g, d)
    gan = checkpoints.load(tmp_path)
    features = gan.latents(2048) @ torch.from_numpy(g[0]).float()
    torch.testing.assert_close(gan.generator.layer1.norm.running_mean, features.mean(0), atol=1e-5, rtol=1e-4)


def test_refused_theano(tmp_path: Path) -> None:
    g, d = theano_arrays(0)
    write_theano(tmp_path, 3, [], d)
    refused(tmp_path, r"discriminator arrays only")
    write_theano(tmp_path, 3, g, d)
    np.save(tmp_path / "3_gen_params.jl_04.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ProbeError, match=r"3_gen_params.jl_04.npy: not a plain .npy array \(.*allow_pickle=False"):
        checkpoints.load(tmp_path)
    (tmp_path / "3_gen_params.jl_04.npy").unlink()
    refused(tmp_path, r"array 4 of gen_params is missing")
