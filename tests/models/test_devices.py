"""Nothing mixes devices: every question and its pieces, on a pretended `cuda` and `mps`, give the CPU's numbers.

`tests/device_guard.py` says what is refused there; `tests/gpu` asks the same on a real GPU, where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import probe
from probe.concepts import exemplars, segmenters, sources
from probe.concepts.labels import save
from probe.models import dcgan
from probe.questions.classify import baselines
from probe.training.loop import train
from tests.asking import HEAVY, PIECES, QUESTIONS, STEPS, alike, pictures
from tests.device_guard import pretended

SLOWER = ("arithmetic", "classify", "evaluate", "memorization", "turn", "walk")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures"))


@cache
def _on_the_cpu(name: str) -> Mapping[str, Any]:
    return PIECES[name]("cpu")


def _same(one: Any, other: Any) -> bool:
    return bool(np.allclose(one, other, 1e-4, 1e-5, equal_nan=True))


@pytest.mark.filterwarnings("ignore:at..frobenius_norm is deprecated")  # which torch's own norm() takes on mps
@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", PIECES)
def test_pieces_stay_on_their_device(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # a private name of torch's, which may go; where it says yes, segmenters are fitted in bfloat16, on the CPU alone
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    expected = _on_the_cpu(name)
    with pretended(kind):
        found = PIECES[name](kind)
    assert found.keys() == expected.keys()
    assert [key for key, value in found.items() if not _same(value, expected[key])] == []


# those that take ten seconds and more are slow; what they are made of is among the pieces
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in (*HEAVY, *SLOWER) else []) for n in QUESTIONS],
)
def test_questions_stay_on_their_device(name: str, folder: Path) -> None:
    expected = QUESTIONS[name](probe.load("rooms"), folder)
    with pretended("cuda"):
        found = QUESTIONS[name](probe.load("rooms", device="cuda"), folder)
    alike(found, expected, 1e-5, 1e-6)
    if name != "dedup":
        assert found.provenance["device"] == "cuda"


def test_training_and_checkpoints_stay_on_their_device(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    _trained(images, tmp_path / "cpu", "cpu", 4)
    with pretended("cuda"):
        _trained(images, tmp_path / "cuda", "cuda", 2)
        there = _trained(images, tmp_path / "cuda", "cuda", 4, resume=True)
        probe.save(there, tmp_path / "own.safetensors")
        probe.save(there, tmp_path / "plain.pth")
        again = probe.load(tmp_path / "own.safetensors", device="cuda")
        assert again.device.type == there.device.type == "cuda"
        drawn = again.sample(2)
    first, second = (load_file(tmp_path / device / "state.safetensors") for device in ("cpu", "cuda"))
    assert [name for name, value in first.items() if not _same(value, second[name])] == []
    here = _trained(images, tmp_path / "cpu", "cpu", 4, resume=True)
    torch.testing.assert_close(drawn, here.sample(2))
    torch.testing.assert_close(probe.load(tmp_path / "plain.pth").sample(2).shape, drawn.shape)


def _trained(images: np.ndarray, out: Path, device: str, steps: int, resume: bool = False) -> probe.GAN:
    return train(images, replace(STEPS, steps=steps), out, device=device, resume=resume, save_every=2)


def test_segmenters_go_where_the_generator_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would work on the CPU as well, and slow a GPU down."""
    monkeypatch.setattr(segmenters, "rooms_iou", lambda *_: 0.9)
    fit = segmenters.fit_to_boxes
    monkeypatch.setattr(segmenters, "fit_to_boxes", lambda *args, **about: fit(*args, **about, steps=1))
    with pretended("cuda"):
        gan = probe.load("rooms", device="cuda")
        known = sources.from_rooms(gan, "window", 40, 0)
        chosen = exemplars.label(gan, 8, 0)
        save(known.boxes, tmp_path / "labels.json", 64)
        fitted = sources.from_labels(gan, tmp_path / "labels.json", "window", None, 0)
    for segmenter in (known.selector, known.judge, chosen.selector, chosen.judge, fitted.selector, fitted.judge):
        assert segmenter.device.type == "cuda"


def test_the_supervised_baseline_goes_where_the_discriminator_is() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (16, 3, 32, 32), dtype=np.uint8), torch.arange(16) % 2
    blocks = dcgan.discriminator_blocks(size=32, width=4)
    here = baselines.supervised(blocks, images, labels, 2, 2, 0)
    with pretended("cuda"):
        there = baselines.supervised(blocks, images, labels, 2, 2, 0, device="cuda")
        assert {p.device.type for p in there.parameters()} == {"cuda"}
        state = {key: value.cpu() for key, value in there.state_dict().items()}
    assert [key for key, value in here.state_dict().items() if not torch.equal(state[key], value)] == []


REFUSED = {
    "two devices in a sum": lambda x: x + torch.ones(3),
    "two devices in a list": lambda x: torch.cat([x, torch.ones(3)]),
    "a mask of the CPU's": lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, 0.0),
    "an index from the device": lambda x: torch.arange(3)[x.long()],
    "a CPU generator": lambda x: x.normal_(generator=torch.Generator()),
    "a factory with a CPU generator": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "a draw without a generator": lambda x: torch.randn(3, device=x.device),
    "an array": lambda x: x.numpy(),
    "an array by another name": lambda x: np.asarray(x),
    "a module elsewhere": lambda x: nn.Linear(3, 1)(x),
    "a CPU generator, of weights": lambda x: nn.Linear(3, 1).to(x.device).weight.normal_(generator=torch.Generator()),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_guard_refuses(what: str) -> None:
    """What PyTorch refuses on a GPU; without this the tests above could not fail."""
    with pretended(), torch.no_grad():
        x = torch.zeros(3).to("cuda")
        with pytest.raises((RuntimeError, TypeError, AssertionError)):
            REFUSED[what](x)


ALLOWED = {
    "single numbers": lambda x: x + torch.tensor(1.0),
    "indices of the CPU's": lambda x: x[torch.tensor([1, 2])] + x[:2],
    "copies": lambda x: x.copy_(torch.ones(3)).cpu() + torch.zeros(3).copy_(x),
    "moves": lambda x: x.cpu() + torch.ones(3) - torch.ones(3, device="cuda").cpu(),
    "what is like it": lambda x: x + torch.ones_like(x) * torch.ones(3).to(x),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_the_guard_allows(what: str) -> None:
    with pretended():
        found = ALLOWED[what](torch.zeros(3).to("cuda"))
    assert isinstance(found, Tensor)


def test_gradients_cross_devices_and_numbers_stay() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pretended():
        far = x.to("cuda")
        (far * far).cpu().sum().backward()
    assert far.device.type == "cuda"
    torch.testing.assert_close(x.grad, torch.tensor([2.0, 4.0]))


def test_double_precision_is_refused_on_mps_alone() -> None:
    for kind in ("cuda", "mps"):
        with pretended(kind):
            x = torch.zeros(2).to(kind)
            if kind == "cuda":
                assert x.double().dtype == torch.float64
            else:
                with pytest.raises(TypeError, match="float64"):
                    x.double()
