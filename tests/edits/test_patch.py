"""Activation patching: the edit against its formula, the operated generator against hooks, the fit against truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.edits.directions import OPENING, Counterfactual
from probe.edits.refinement import patch_edits
from probe.edits.surgery import erase, fit_erase, fit_patch, patch, scale
from probe.models.dcgan import Generator, Patch, generator_blocks
from probe.models.gan import GAN, support
from probe.models.hooks import LATENT, capture, edit, sites
from probe.models.replay import Replay

Z = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))


def random_patch(nz: int = 8, maps: int = 8, directions: int = 3, seed: int = 0) -> Counterfactual:
    g = torch.Generator().manual_seed(seed)
    weight, step = torch.randn(2, directions, nz, generator=g)
    gate = torch.randn(maps, generator=g) * 0.2
    return Counterfactual(
        weight=weight,
        bias=torch.randn(directions, generator=g),
        step=step,
        gate=gate,
        threshold=torch.tensor(0.3),
        limit=1.5,
    )


def by_hand(gan: GAN, layer: int, found: Counterfactual, strength: float, z: Tensor) -> np.ndarray:
    """The image of a patched generator, from two plain forward passes and loops over the formula."""
    w, b, v = (t.double().numpy() for t in (found.weight, found.bias, found.step))
    moved = z.double().numpy().copy()
    for n in range(len(z)):
        for k in range(len(b)):
            moved[n] -= strength * max(0.0, float(w[k] @ z[n].double().numpy() + b[k])) * v[k]
    moved = np.clip(moved, -found.limit, found.limit)
    name = f"layer{layer}"
    with capture(gan.generator, [name]) as seen:
        gan.images(z)
        own = seen[name]
        gan.images(torch.from_numpy(moved).float())
        other = seen[name]
    joined = own.clone()
    for n, y, x in np.ndindex(len(z), *own.shape[2:]):
        m = min(1.0, max(0.0, float(found.gate @ own[n, :, y, x]) + float(found.threshold)))
        joined[n, :, y, x] = own[n, :, y, x] + m * (other[n, :, y, x] - own[n, :, y, x])
    with edit(gan.generator, {name: lambda _: joined}):
        return gan.images(z).numpy()


@pytest.mark.parametrize(("layer", "maps", "strength"), [(1, 16, 1.0), (2, 8, 2.0), (3, 4, 0.5)])
def test_a_patched_gan_against_loops_over_the_formula(tiny_gan, layer, maps, strength):
    found = random_patch(maps=maps)
    new = patch(tiny_gan, f"layer{layer}", found, strength)
    expected = by_hand(tiny_gan, layer, found, strength, Z)
    np.testing.assert_allclose(new.images(Z).numpy(), expected, atol=2e-5)
    assert np.abs(expected - tiny_gan.images(Z).numpy()).max() > 0.05


def test_the_running_edit_equals_the_operation(tiny_gan):
    found = random_patch()
    edits = patch_edits(found.patch(1.5), "layer2")
    images = patch(tiny_gan, "layer2", found, 1.5).images(Z)
    assert torch.allclose(Replay(tiny_gan, Z, ["layer2", "layer3"]).images(edits), images, atol=1e-5)
    with edit(tiny_gan.generator, edits):
        assert torch.allclose(tiny_gan.images(Z), images, atol=1e-5)
    assert torch.allclose(tiny_gan.images(Z), Replay(tiny_gan, Z, ["layer2"]).images({}), atol=1e-5)  # no hook is left


def test_only_latents_that_move_are_drawn_again(tiny_gan):
    """The others' images are the unedited ones to the last bit."""
    found = random_patch(directions=1)
    edits = patch_edits(found.patch(1.5), "layer2")
    z = Z.clamp(-found.limit, found.limit)
    replay = Replay(tiny_gan, z, ["layer2"])
    stays = (z @ found.weight.T + found.bias)[:, 0] <= 0
    assert 0 < stays.sum() < len(z)
    drawn: list[int] = []
    replay.begun.layers[-1].register_forward_hook(lambda _, inputs, __: drawn.append(len(inputs[0])))
    images = replay.images(edits)
    assert torch.equal(images[stays], replay.unedited[stays])
    assert torch.allclose(images, patch(tiny_gan, "layer2", found, 1.5).images(z), atol=1e-5)
    assert drawn == [len(z), int((~stays).sum())]  # the unedited ones once
    rows = torch.tensor([5, 1, 0])
    assert torch.allclose(replay.images(edits, rows), images[rows], atol=1e-5)


def test_the_latent_edit_is_undone_after_an_error(tiny_gan):
    before = tiny_gan.images(Z)
    with edit(tiny_gan.generator, {LATENT: lambda z: -z}):
        both = tiny_gan.images(Z)
    torch.testing.assert_close(both, torch.cat([before, tiny_gan.images(-Z)]))
    with pytest.raises(RuntimeError), edit(tiny_gan.generator, {LATENT: lambda z: z[:, :3]}):
        tiny_gan.images(Z)
    assert torch.equal(tiny_gan.images(Z), before)
    assert not tiny_gan.generator._forward_pre_hooks


def test_the_input_is_unchanged_and_the_edit_is_noted(tiny_gan):
    before, state = tiny_gan.images(Z), {k: v.clone() for k, v in tiny_gan.generator.state_dict().items()}
    new = patch(tiny_gan, "8x8", random_patch(), 2)
    assert torch.equal(tiny_gan.images(Z), before)
    assert state.keys() == tiny_gan.generator.state_dict().keys()
    assert tiny_gan.generator.patched is None
    assert new.generator.patched == 2
    assert new.provenance["edits"] == ["patch at layer2, strength 2"]


def test_layers_of_a_patched_gan_are_seen_as_they_are_drawn(tiny_gan):
    """The layers before the patch run twice; what is captured, replayed and scaled is the latent's own run."""
    new = patch(tiny_gan, "layer2", random_patch())
    assert [s.name for s in sites(new)] == [s.name for s in sites(tiny_gan)]
    with capture(tiny_gan.generator, ["layer1"]) as own, capture(new.generator, ["layer1"]) as seen:
        tiny_gan.images(Z), new.images(Z)
    assert torch.equal(own["layer1"], seen["layer1"])
    assert torch.equal(Replay(new, Z, ["layer3"]).images({}), new.images(Z))
    scaled = Replay(new, Z, ["layer3"]).images({"layer3": lambda x: x * 2})
    assert torch.allclose(scale(new, "layer3", range(4), 2).images(Z), scaled, atol=1e-5)


def test_it_is_saved_and_opened_again(tiny_gan, tmp_path):
    new = patch(
        erase(tiny_gan, {"layer3": fit_erase(torch.rand(9, 4) + 1, torch.rand(9, 4))}, 1), "layer2", random_patch()
    )
    checkpoints.save(new, tmp_path / "x.safetensors")
    again = checkpoints.load(tmp_path / "x.safetensors")
    assert torch.equal(again.images(Z), new.images(Z))
    assert again.provenance["edits"] == new.provenance["edits"]
    with pytest.raises(ProbeError, match=r"layer2 carries a patch from another latent"):
        checkpoints.save(patch(tiny_gan, "layer2", random_patch()), tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("layer", "found", "strength", "message"),
    [
        ("layer2", random_patch(nz=9), 1.0, "made for latents of 9 and 8 maps; layer2 has 8 and 8"),
        ("layer3", random_patch(), 1.0, "made for latents of 8 and 8 maps; layer3 has 8 and 4"),
        ("layer2", random_patch(), float("nan"), "strength nan: expected a finite number"),
        ("layer9", random_patch(), 1.0, "no such layer"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_gan, layer, found, strength, message):
    with pytest.raises(ProbeError, match=message):
        patch(tiny_gan, layer, found, strength)


def test_one_patch_a_generator(tiny_gan):
    with pytest.raises(ProbeError, match="patch: layer2 already carries one; one a generator"):
        patch(patch(tiny_gan, "layer2", random_patch()), "layer1", random_patch(maps=16))


def test_an_unpatched_generator_has_no_trace_of_one():
    plain = Generator(generator_blocks(size=32, width=4, nz=8))
    assert not [key for key in plain.state_dict() if "patch" in key]


def planted() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Latents and feature vectors with and without a concept that lies along their first coordinate."""
    g = torch.Generator().manual_seed(0)
    with_, without = torch.randn(400, 8, generator=g), torch.randn(400, 8, generator=g)
    here, there = torch.rand(400, 5, generator=g), torch.rand(2000, 5, generator=g)
    return (with_ + torch.eye(8)[0] * 4, without), (here + torch.eye(5)[0] * 2, there)


def test_the_fit_moves_latents_onto_the_mean_without_the_concept():
    latents, places = planted()
    found = fit_patch(latents, places, 0.25, 99.0)
    after = found.patch().counterfactual(latents[0])
    assert after[:, 0].mean() == pytest.approx(float(latents[1][:, 0].mean()), abs=0.1)
    assert (after[:, 1:] - latents[0][:, 1:]).abs().mean() < 0.15  # other directions hardly
    untouched = found.patch().counterfactual(latents[1])
    assert (untouched == latents[1]).all(1).float().mean() > 0.7  # one-sided
    assert torch.equal(found.patch(0.0).counterfactual(latents[0]), latents[0])


def test_the_gate_opens_between_the_means():
    latents, places = planted()
    found = fit_patch(latents, places, 0.25, 1.0)
    gate = found.patch()
    ends = torch.stack([places[1].mean(0), places[0].mean(0)])
    at = torch.tensor([0.0, 0.25, 0.25 + OPENING / 2, 0.25 + OPENING, 1.0])[:, None]
    opened = gate.opened(torch.lerp(ends[:1], ends[1:], at)[:, :, None, None]).flatten()
    torch.testing.assert_close(opened, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-4, rtol=0)


def test_counterfactuals_stay_within_the_prior():
    found = replace(random_patch(), limit=support("uniform"))
    assert found.patch(50.0).counterfactual(torch.rand(99, 8) * 2 - 1).abs().max() == 1
    assert support("normal") > 4


def test_a_closed_gate_changes_nothing(tiny_gan):
    shut = replace(random_patch(), gate=torch.zeros(8), threshold=torch.tensor(0.0))
    assert torch.equal(patch(tiny_gan, "layer2", shut).images(Z), tiny_gan.images(Z))
    module = shut.patch()
    assert isinstance(module, Patch)
