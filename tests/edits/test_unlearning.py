"""Unlearning by fine-tuning: a planted direction of the latent is no longer drawn, the rest is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.edits.unlearning import Settings, feature_direction, linearity, snapshots, target, unlearn
from probe.models.gan import GAN

FAST = Settings(steps=200, batch=32, lr=1e-2)


@pytest.fixture
def planted(tiny_gan: GAN) -> GAN:
    """The tiny GAN with images that depend on z_0 more than on any other coordinate."""
    with torch.no_grad():
        tiny_gan.generator.get_submodule("layer1")[0].weight[0] *= 8
    return tiny_gan


def halves(gan: GAN, n: int = 400, seed: int = 3) -> tuple[Tensor, Tensor]:
    z = gan.latents(n, seed)
    return z[z[:, 0] > 0.3], z[z[:, 0] < -0.3]


def away(gan: GAN, z: Tensor, other: GAN, there: Tensor) -> Tensor:
    """Mean |difference| of the images of one GAN at z and of another at other latents, (N,)."""
    return (gan.images(z) - other.images(there)).abs().flatten(1).mean(1)


def test_direction_is_the_difference_of_the_means() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(20, 4)).astype(np.float32)
    found = feature_direction(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(found, a.mean(0) - b.mean(0), atol=1e-6)


def test_target_against_a_loop(planted: GAN) -> None:
    with_, without = halves(planted)
    z = planted.latents(50, 8)
    found, moved = target(z, with_, without, 0.25)
    e = (with_.double().mean(0) - without.double().mean(0)).numpy()
    e /= np.linalg.norm(e)
    t = np.quantile(without.double().numpy() @ e, 0.25)
    for i, row in enumerate(z.double().numpy()):
        assert moved[i] == (row @ e > t)
        expected = row - (row @ e - t) * e if row @ e > t else row
        np.testing.assert_allclose(found[i], expected, atol=1e-5)
        assert found[i].double().numpy() @ e <= t + 1e-5


def test_the_planted_feature_is_unlearned_and_the_rest_stays(planted: GAN) -> None:
    with_, without = halves(planted)
    z = planted.latents(200, 21)  # none of those tuned on
    there, moved = target(z, with_, without)
    new = unlearn(planted, with_, without, FAST)
    gap, left = away(planted, z, planted, there)[moved], away(new, z, planted, there)[moved]
    assert left.mean() < 0.5 * gap.mean()  # nearer to what the original draws with the feature taken back
    assert away(new, z, planted, z)[~moved].mean() < 0.4 * gap.mean()
    on, off = z.clone(), z.clone()
    on[:, 0], off[:, 0] = 1.5, 0.5
    assert away(new, on, new, off).mean() < 0.5 * away(planted, on, planted, off).mean()  # z_0 above t says nothing now
    assert new.images(z).std(0).mean() > 0.5 * planted.images(z).std(0).mean()  # samples still differ


def test_the_input_is_unchanged(planted: GAN) -> None:
    z = planted.latents(4, 1)
    images, provenance = planted.images(z), dict(planted.provenance)
    weights = {k: v.clone() for k, v in planted.generator.state_dict().items()}
    new = unlearn(planted, *halves(planted), Settings(steps=3, batch=4))
    assert torch.equal(planted.images(z), images)
    assert all(torch.equal(v, weights[k]) for k, v in planted.generator.state_dict().items())
    assert all(p.grad is None for gan in (planted, new) for p in gan.generator.parameters())
    assert planted.provenance == provenance
    assert new.provenance["edits"] == ["unlearn by 3 steps of 4 latents, lr 0.0002, weight 1, quantile 0.5"]
    assert not new.generator.training
    running = [k for k in weights if "running" in k]
    tuned = new.generator.state_dict()
    assert running
    assert all(torch.equal(tuned[k], weights[k]) for k in running)  # BatchNorm in eval mode
    assert not torch.equal(tuned["layer2.norm.weight"], weights["layer2.norm.weight"])


def test_deterministic_and_snapshots_are_shorter_runs(planted: GAN) -> None:
    sets, z = halves(planted), planted.latents(4, 1)
    five, two = snapshots(planted, *sets, (5, 2), Settings(batch=4))
    alone = unlearn(planted, *sets, Settings(steps=2, batch=4))
    assert torch.equal(two.images(z), alone.images(z))
    assert two.provenance["edits"] == alone.provenance["edits"]
    assert not torch.equal(five.images(z), two.images(z))
    other = unlearn(planted, *sets, Settings(steps=2, batch=4, seed=1))
    assert not torch.equal(other.images(z), alone.images(z))


def test_linearity_tells_a_direction_from_none(planted: GAN) -> None:
    auc, (low, high) = linearity(*halves(planted))
    assert auc > 0.99
    assert low <= auc <= high
    z = planted.latents(600, 4)
    apart = z[:, 0].abs() > z[:, 0].abs().median()  # a concept that is no direction
    auc, (low, high) = linearity(z[apart], z[~apart])
    assert low < 0.55
    assert auc < 0.6


def test_report_and_bfloat16(planted: GAN) -> None:
    heard: list[tuple[str, int, int]] = []
    settings = Settings(steps=2, batch=4, precision="bfloat16")
    new = unlearn(planted, *halves(planted), settings, lambda *about: heard.append(about))
    assert heard == [("unlearning", 1, 2), ("unlearning", 2, 2)]
    assert new.images(planted.latents(2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("with_", "without", "message"),
    [
        (
            (7, 8),
            (9, 8),
            r"^unlearn: 7 latents with the concept, 9 without; at least 8 of each are needed$",
        ),
        ((9, 8), (0, 8), r"^unlearn: 9 latents with the concept, 0 without; at least 8 of each are needed$"),
        ((9, 8), (9, 5), r"^unlearn: latents of shape 9x8 and 9x5; expected rows of one size$"),
        ((9, 5), (9, 5), r"^unlearn: latents of 5 numbers; the generator takes 8$"),
        ((9, 8), (9, 8), r"the latents with the concept have the mean of those without"),
    ],
)
def test_latents_that_do_not_fit(tiny_gan: GAN, with_: tuple[int, ...], without: tuple[int, ...], message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        unlearn(tiny_gan, torch.ones(with_), torch.ones(without), Settings(steps=1))


def test_divergence_is_one_line(planted: GAN) -> None:
    sets = halves(planted)
    sets[0][0, 0] = float("inf")
    with pytest.raises(ProbeError, match=r"^unlearn: the loss is nan at step 1; lower lr 0.0002$"):
        unlearn(planted, *sets, Settings(steps=1, batch=4))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0}, {"weight": -1}, {"quantile": 2}, {"precision": "int8"}])
def test_bad_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ProbeError, match=r"^unlearn: .*expected"):
        Settings(**wrong)  # type: ignore[arg-type]


def test_bad_snapshots(planted: GAN) -> None:
    with pytest.raises(ProbeError, match=r"snapshots at \(none\): expected steps from 1 on"):
        snapshots(planted, *halves(planted), ())
