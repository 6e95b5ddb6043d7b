"""Probe's own checkpoint format: what was saved is what is loaded, and damage is told in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.models.dcgan import Erase, Generator, generator_blocks
from tests.originals import NZ, main_d, main_g, randomised, refused, same, tiny


@pytest.mark.parametrize("batch", [False, True])
def test_own_format_round_trip(tmp_path: Path, batch: bool) -> None:
    gan = tiny(batch)
    state = torch.get_rng_state()
    checkpoints.save(gan, tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert back.generator.blocks == gan.generator.blocks
    assert back.discriminator.blocks == gan.discriminator.blocks
    assert torch.equal(back.sample(4), gan.sample(4))
    assert torch.equal(back.discriminator(gan.sample(4)), gan.discriminator(gan.sample(4)))
    assert (back.prior, back.batchnorm) == ("uniform", gan.batchnorm)
    assert back.provenance["training"] == {"steps": 7}
    assert (back.provenance["format"], back.provenance["prior_source"]) == ("probe", "stored")
    given = checkpoints.load(tmp_path / "a.safetensors", prior="normal")
    assert (given.prior, given.provenance["prior_source"]) == ("normal", "given")


def test_own_format_of_an_edited_generator_alone(tmp_path: Path) -> None:
    blocks = generator_blocks(16, 3, NZ, 4)
    blocks[1] = type(blocks[1])(**{**blocks[1].__dict__, "erase": 2})
    gan = tiny()
    gan.generator, gan.discriminator = randomised(Generator(blocks)), None
    erase = gan.generator.layer2.erase
    assert isinstance(erase, Erase)
    erase.weight.fill_(0.5), erase.step.fill_(0.3), erase.bias.fill_(-0.1)
    checkpoints.save(gan, tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    assert back.discriminator is None
    assert torch.equal(back.sample(4), gan.sample(4))


def test_half_precision_is_smaller_and_loads_as_float32(tmp_path: Path) -> None:
    gan = tiny()
    gan.generator = randomised(Generator(generator_blocks(32, 3, NZ, 32)))
    gan.discriminator, gan.size = None, 32
    checkpoints.save(gan, tmp_path / "a.safetensors")
    checkpoints.save(gan, tmp_path / "b.safetensors", torch.float16)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.55 * (tmp_path / "a.safetensors").stat().st_size
    back = checkpoints.load(tmp_path / "b.safetensors")
    assert {p.dtype for p in back.generator.parameters()} == {torch.float32}
    torch.testing.assert_close(back.sample(4), gan.sample(4), atol=5e-3, rtol=0)


def test_a_foreign_checkpoint_can_be_saved(tmp_path: Path) -> None:
    g, d = main_g(), main_d()
    torch.save({"G": g.state_dict(), "D": d.state_dict()}, tmp_path / "a.pt")
    checkpoints.save(checkpoints.load(tmp_path / "a.pt"), tmp_path / "a.safetensors")
    back = checkpoints.load(tmp_path / "a.safetensors")
    same(back, g, d)
    assert back.provenance["converted_from"]["format"] == "pytorch/examples"


def test_save_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.save(tiny(), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ProbeError, match="No space left on device"):
        checkpoints.save(tiny(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_not_saved(tmp_path: Path) -> None:
    gan = tiny()
    gan.generator.layer1.conv.weight.data[0] = torch.nan
    with pytest.raises(ProbeError, match=r"generator.layer1.conv.weight holds NaN or infinite weights"):
        checkpoints.save(gan, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def edited(**changes: Any) -> Callable[[Path], None]:
    """Write probe's own format with its description changed; `width=` and others reach the first block."""

    def write(path: Path) -> None:
        from safetensors import safe_open

        checkpoints.save(tiny(), path)
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["probe"])
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        about["generator"][0].update(changes.pop("block", {}))
        tensors.update(changes.pop("tensors", {}))
        save_file(tensors, path, {"probe": json.dumps(about | changes) if "text" not in changes else changes["text"]})

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (edited(schema=3), r"written by a newer probe \(schema 3\)"),
        (edited(text="{"), r"description is damaged \(JSONDecodeError"),
        (edited(text="[]"), r"description is damaged \(TypeError"),
        (edited(provenance=[]), r"description is damaged \(AttributeError"),
        (edited(provenance={"training": "x"}), r"description is damaged \(TypeError: training is no object"),
        (edited(provenance={"training": {"split": [3]}}), r"description is damaged \(TypeError: training is no object"),
        (edited(provenance={"edits": 5}), r"description is damaged \(TypeError: edits is no list of lines"),
        (edited(size=10**9), r"describes 1000000000 px images"),
        (edited(size=32), r"its generator makes \(2, 3, 16, 16\) where \(2, 3, 32, 32\) is described"),
        (edited(prior="cauchy"), r"the prior 'cauchy'"),
        (edited(nz=6), r"the blocks of its generator do not follow one another"),
        (edited(block={"colour": 1}), r"description is damaged \(TypeError: .*colour"),
        (edited(block={"inputs": 10**7}), r"the blocks of its generator do not follow one another"),
        (edited(block={"output_padding": 10**9}), r"its generator has maps of \d+ px, larger than its images"),
        (edited(block={"stride": 0}), r"description is damaged \("),
        (edited(block={"padding": 9}), r"description is damaged \("),
        (edited(block={"crop": [-(10**9), 10**9]}), r"description is damaged \("),
        (
            edited(block={"upsample": 10**6, "stride": 10**6}),
            r"its generator has maps of \d+ px, larger than its images",
        ),
        (edited(block={"resize": 10**6}), r"its generator has maps of 1000000 px, larger than its images"),
        (edited(block={"bias": True}), r"weights do not fit the network \(.*layer1.conv.bias"),
        (
            edited(tensors={"generator.layer1.norm.bias": torch.full((8,), torch.inf)}),
            r"generator holds NaN or infinite",
        ),
    ],
)
def test_own_format_damaged(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", message)


def test_own_file_in_a_training_folder(tmp_path: Path) -> None:
    gan = tiny()
    checkpoints.save(gan, tmp_path / "model.safetensors")
    save_file(
        {"g.layer1.conv.weight": torch.zeros(2, 2)}, tmp_path / "state.safetensors", {"step": "4", "settings": "{}"}
    )
    refused(tmp_path / "state.safetensors", r"the state of a training run; pass the checkpoint")
    assert checkpoints.load(str(tmp_path)).provenance["checkpoint"] == "model.safetensors"
