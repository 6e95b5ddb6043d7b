"""On a real GPU: every question, piece, checkpoint, training step and resume there says what it says on the CPU.

`make test-gpu` runs these. They skip where there is no CUDA device; `tests/models/test_devices.py` asks the same of a
pretended one. Numbers of a GPU differ from those of a CPU by rounding, which the choices of a question can amplify:
tolerances are for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import probe
from probe.models.gan import best_precision
from probe.training.loop import train
from tests.asking import HEAVY, PIECES, QUESTIONS, STEPS, alike, boxed, pictures, small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Products of 32 bits on both devices: no TF32 in the GPU's convolutions, no bfloat16 in fitting segmenters."""
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures"))


CHOOSING = {"forget", "insert", "memorization", "classify"}
"""Questions whose numbers rest on a choice or a descent, which rounding may turn."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in HEAVY else []) for n in QUESTIONS])
def test_questions(name: str, folder: Path) -> None:
    here = QUESTIONS[name](probe.load("rooms"), folder)
    there = QUESTIONS[name](probe.load("rooms", device="cuda"), folder)
    if name != "dedup":
        assert (here.provenance["device"], there.provenance["device"]) == ("cpu", "cuda")
    if name not in CHOOSING:
        alike(there, here, rtol=2e-2, atol=2e-3, apart=1.0)
        return
    assert there.metrics.keys() == here.metrics.keys()
    assert {k: a.shape for k, a in there.arrays.items()} == {k: a.shape for k, a in here.arrays.items()}
    if name == "forget":
        for method, found in here.metrics["methods"].items():
            assert abs(there.metrics["methods"][method]["removal"] - found["removal"]) < 0.15
        assert np.abs(there.arrays["before"].astype(float) - here.arrays["before"]).mean() < 1
    if name == "insert":
        assert abs(there.metrics["success"] - here.metrics["success"]) < 0.15
        assert np.abs(there.arrays["before"].astype(float) - here.arrays["before"]).mean() < 1
    if name == "memorization":
        assert np.abs(there.arrays["recovered"].astype(float) - here.arrays["recovered"]).mean() < 4
        assert there.metrics["statistic"] == pytest.approx(here.metrics["statistic"], abs=0.05)
    if name == "classify":
        assert there.metrics["accuracy"] == pytest.approx(here.metrics["accuracy"], abs=0.1)
        assert there.metrics["baselines"].keys() == here.metrics["baselines"].keys()


@pytest.mark.slow
def test_segmenters_fitted_to_boxes_of_a_file(folder: Path) -> None:
    path = boxed(probe.load("rooms"), folder)
    found = probe.dissect(probe.load("rooms", device="cuda"), "4x4", labels=path, causal=True, shuffles=2)
    assert np.isfinite(found.arrays["effect"]).all()
    assert found.provenance["device"] == "cuda"


APART = {
    ("fitted_segmenters", "fitted"): 0.1, ("unlearnt", "images"): 0.03, ("adjusted_patch", "step"): 0.02,
    ("adjusted_patch", "bias"): 0.02, ("adjusted_patch", "after"): 20, ("page_of_labels", "heat"): 2,
    ("foreign_networks", "guided"): 2,
}  # fmt: skip
"""What may differ by more: what Adam moved, which takes a gradient of nearly 0 for a full one; pixels; bytes."""


@pytest.mark.parametrize("name", PIECES)
def test_pieces(name: str) -> None:
    here, there = PIECES[name]("cpu"), PIECES[name]("cuda")
    assert there.keys() == here.keys()
    for key, value in here.items():
        np.testing.assert_allclose(there[key], value, rtol=2e-2, atol=APART.get((name, key), 5e-3), err_msg=key)


def test_seeds_give_the_same_weights_there() -> None:
    here, there = PIECES["initial_weights"]("cpu"), PIECES["initial_weights"]("cuda")
    assert [key for key, value in here.items() if not torch.equal(there[key], value)] == []


def test_checkpoints_round_trip(tmp_path: Path) -> None:
    gan = probe.load("rooms", device="cuda")
    probe.save(gan, tmp_path / "own.safetensors")
    probe.save(small("cuda"), tmp_path / "plain.pth")
    for path, first in ((tmp_path / "own.safetensors", gan), (tmp_path / "plain.pth", small("cuda"))):
        for device in ("cpu", "cuda"):
            again = probe.load(path, device=device)
            assert again.device.type == device
            state = again.generator.state_dict()
            ours = first.generator.state_dict()
            assert [k for k, v in ours.items() if not torch.equal(state[k].cpu(), v.cpu())] == []
    np.testing.assert_allclose(probe.load(tmp_path / "own.safetensors").sample(4), gan.sample(4), atol=1e-3)


def _trained(out: Path, device: str, *, steps: int = 6, precision: str = "float32", resume: bool = False) -> probe.GAN:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    settings = replace(STEPS, steps=steps, precision=precision)
    return train(images, settings, out, device=device, resume=resume, save_every=2)


def _losses(out: Path) -> np.ndarray:
    return np.loadtxt(out / "losses.csv", delimiter=",", skiprows=1)


def test_training_says_what_the_cpu_says(tmp_path: Path) -> None:
    gan = _trained(tmp_path / "cuda", "cuda")
    _trained(tmp_path / "cpu", "cpu")
    assert gan.device.type == "cuda"
    np.testing.assert_allclose(_losses(tmp_path / "cuda"), _losses(tmp_path / "cpu"), rtol=2e-2, atol=1e-2)
    probe.save(gan, tmp_path / "cuda" / "checkpoint.safetensors")
    assert probe.load(tmp_path / "cuda" / "checkpoint.safetensors").sample(2).isfinite().all()


@pytest.mark.parametrize("second", ["cuda", "cpu"])
def test_a_run_goes_on(tmp_path: Path, second: str) -> None:
    """On the device it began on, or on another."""
    _trained(tmp_path / "whole", "cuda")
    _trained(tmp_path / "parts", "cuda", steps=4)
    gan = _trained(tmp_path / "parts", second, resume=True)
    assert gan.device.type == second
    np.testing.assert_allclose(_losses(tmp_path / "parts"), _losses(tmp_path / "whole"), rtol=2e-2, atol=1e-2)
    whole, parts = (load_file(tmp_path / part / "state.safetensors") for part in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        if name.startswith(("generator", "ema")):
            np.testing.assert_allclose(parts[name].float(), value.float(), rtol=5e-2, atol=1e-2, err_msg=name)


def test_training_in_bfloat16(tmp_path: Path) -> None:
    gan = _trained(tmp_path / "half", "cuda", precision="bfloat16")
    assert gan.sample(2).isfinite().all()
    assert {p.dtype for p in gan.generator.parameters()} == {torch.float32}


def test_the_best_precision_is_that_of_the_device() -> None:
    wanted = "bfloat16" if torch.cuda.get_device_capability("cuda")[0] >= 8 else "float32"
    assert best_precision("cuda") == best_precision(torch.device("cuda", 0)) == wanted
