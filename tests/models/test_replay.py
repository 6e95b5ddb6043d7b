"""A replay: images under many edits, without running again what lies before them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from probe.models.gan import use_batch_statistics
from probe.models.replay import Replay
from tests.edited import EDITS, Edits, forward_with, hooks, plain_gan


@pytest.mark.parametrize("edits", EDITS)
def test_replay_against_a_forward_pass(tiny_gan, edits):
    z = tiny_gan.latents(70)  # more than a batch
    plain, expected = tiny_gan.images(z), forward_with(tiny_gan.generator, z, edits)
    assert (expected - plain).abs().max() > 0.1
    replay = Replay(tiny_gan, z, list(edits))
    torch.testing.assert_close(replay.images(edits), expected)
    torch.testing.assert_close(replay.images(edits, torch.arange(66)), expected[:66])
    torch.testing.assert_close(replay.images({}), plain)
    only_last = {list(edits)[-1]: edits[list(edits)[-1]]}
    torch.testing.assert_close(replay.images(only_last), forward_with(tiny_gan.generator, z, only_last))
    assert hooks(tiny_gan.generator) == 0


def test_replay_does_not_run_again_what_lies_before(tiny_gan):
    z = tiny_gan.latents(3)
    replay = Replay(tiny_gan, z, ["layer2"])
    expected = forward_with(tiny_gan.generator, z, EDITS[0])
    assert layers_run(replay, EDITS[0], expected) == [3, 4]
    replay = Replay(tiny_gan, z, ["layer1", "layer2"])
    assert layers_run(replay, EDITS[0], expected) == [3, 4]  # from the layer edited, not from the first that could be


def layers_run(replay: Replay, edits: Edits, expected: Tensor) -> list[int]:
    """The numbers of the layers that run for the images of an edit, which must be those expected."""
    ran: list[int] = []
    for i, layer in enumerate(replay.begun.layers, 1):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    torch.testing.assert_close(replay.images(edits), expected)
    return ran


@pytest.mark.parametrize("names", [["layer2"], ["layer1", "layer3"]])
def test_a_part_of_a_replay_is_the_replay_of_a_part(tiny_gan, names):
    z, rows = tiny_gan.latents(20), torch.tensor([7, 3, 19])
    whole, anew = Replay(tiny_gan, z, names), Replay(tiny_gan, z[rows], names)
    part = whole.take(rows)
    edits = {names[0]: lambda x: x * 0.5}
    assert torch.equal(part.z, z[rows])
    assert (part.gan, part.names, part.begun.layers) == (tiny_gan, set(names), whole.begun.layers)
    torch.testing.assert_close(part.unedited, anew.unedited)
    torch.testing.assert_close(part.images(edits), anew.images(edits))
    assert torch.equal(part.unedited, whole.unedited[rows])
    assert len(whole.unedited) == len(whole.z) == 20  # the whole is as it was
    torch.testing.assert_close(whole.images(edits), Replay(tiny_gan, z, names).images(edits))


def test_with_batch_statistics_images_keep_their_company(tiny_gan):
    """Some of the latents are drawn together with all of them; a part is drawn anew."""
    use_batch_statistics(tiny_gan.generator)
    z, rows = tiny_gan.latents(70), torch.arange(5)
    replay = Replay(tiny_gan, z, ["layer2"])
    torch.testing.assert_close(replay.unedited, tiny_gan.images(z))
    torch.testing.assert_close(replay.images({"layer2": lambda x: x * 1.0}, rows), replay.unedited[:5])
    part = replay.take(rows)
    torch.testing.assert_close(part.unedited, tiny_gan.images(z[rows]))
    assert (part.unedited - replay.unedited[:5]).abs().max() > 0.01


def test_replay_of_a_plain_sequential():
    gan = plain_gan()
    z = gan.latents(70)
    replay = Replay(gan, z, ["3"])
    with torch.no_grad():
        expected = gan.generator[4:](gan.generator[:4](z) * 2)
    torch.testing.assert_close(replay.images({"3": lambda x: x * 2}), expected)
    torch.testing.assert_close(replay.images({"3": lambda x: x * 2}, torch.tensor([4, 0])), expected[[4, 0]])
    assert hooks(gan.generator) == 0


def test_a_replay_is_hooked_where_the_generator_itself_must_run(tiny_gan):
    assert not Replay(tiny_gan, tiny_gan.latents(2), ["layer1"]).hooked
    assert Replay(plain_gan(), plain_gan().latents(2), ["3"]).hooked


def test_an_edit_that_fails_leaves_no_hook(tiny_gan):
    for gan, name in ((tiny_gan, "layer1"), (plain_gan(), "3")):
        replay = Replay(gan, gan.latents(2), [name])

        def bad(x: Tensor) -> Tensor:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            replay.images({name: bad})
        assert hooks(gan.generator) == 0
