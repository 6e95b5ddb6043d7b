"""Plugging in from outside of the tree, from Python and from the command line: CONTRIBUTING's table, tried."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import probe
from probe.base import plugins
from probe.checkpoints import save
from probe.concepts.labels import from_masks
from probe.concepts.sources import Concept
from probe.models.gan import GAN

HERE = Path(__file__).parent
SMALL = {"draws": 2, "samples": 40}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The outsider's module, its question in the table for this test alone."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(plugins, "QUESTIONS", plugins.QUESTIONS)
    before = dict(plugins.QUESTIONS)
    module = importlib.import_module("toy_plugin")
    plugins.QUESTIONS.setdefault("brightness", module.TOY)
    yield module
    plugins.QUESTIONS.clear()
    plugins.QUESTIONS.update(before)


def command(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command in a folder where the outsider's module lies."""
    environment = {**os.environ, "PROBE_PLUGINS": "toy_plugin", "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", "probe", *map(str, words)]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path, tiny_gan: GAN) -> Path:
    """A folder with the outsider's module and a checkpoint."""
    (tmp_path / "toy_plugin.py").write_text((HERE / "toy_plugin.py").read_text())
    save(tiny_gan, tmp_path / "tiny.safetensors")
    return tmp_path


def test_a_question_from_python(toy: ModuleType, tiny_gan: GAN, tmp_path: Path) -> None:
    result = probe.brightness(tiny_gan, samples=4)
    expected = float((tiny_gan.sample(4, 0) * 0.5 + 0.5).mean())
    assert result.metrics["brightness"] == pytest.approx(expected)
    assert result.summary().text == f"samples are {expected:.2f} bright"
    figure = result.save(tmp_path / "o")
    assert figure.stat().st_size > 1000
    assert probe.load_result(tmp_path / "o").figure().axes
    assert "brightness" in dir(probe)
    with pytest.raises(probe.ProbeError, match="`samples` 0: expected 1 to 100"):
        probe.brightness(tiny_gan, 0)


def test_a_question_from_the_command_line(place: Path) -> None:
    done = command(place, "--help")
    assert "brightness" in done.stdout, done.stderr
    done = command(place, "brightness", "--ckpt", "tiny.safetensors", "-n", 4, "--out", "o")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("samples are 0.")
    document = json.loads((place / "o/result.json").read_text())
    assert document["provenance"]["command"] == "probe brightness --ckpt tiny.safetensors -n 4 --out o"
    done = command(place, "brightness", "-n", 0)
    assert (done.returncode, done.stderr) == (2, "probe: --samples 0: expected 1 to 100\n")
    assert "probe brightness -n 4" in command(place, "brightness", "--help").stdout


def test_a_name_is_given_once(toy: ModuleType) -> None:
    from dataclasses import replace

    with pytest.raises(probe.ProbeError, match="there is one of that name"):
        probe.register_question(replace(toy.TOY, name="walk"))
    with pytest.raises(probe.ProbeError, match="group nowhere: expected look"):
        probe.register_question(replace(toy.TOY, name="other", group="nowhere"))


def lights(toy: ModuleType, gan: GAN) -> Concept:
    """The concept that the outsider's segmenter sees, whole."""
    segmenter = toy.Bright()
    boxes = from_masks(segmenter.labels(gan.sample(40, 0)) == 1, "light", 0)
    return Concept(boxes, segmenter, segmenter, float("nan"), ["a segmenter of one's own"])


def test_a_way_to_forget_a_segmenter_and_a_concept_from_python(
    toy: ModuleType, tiny_gan: GAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial

    from probe.questions.forget import run

    few = {"tuning": 16, "heldout": 32, "random_latents": 16}
    monkeypatch.setattr(run, "Settings", partial(run.Settings, **few))
    result = probe.forget(tiny_gan, lights(toy, tiny_gan), method=[toy.Dim(), "paper"], draws=2)
    assert list(result.metrics["methods"]) == ["dim", "paper"]
    found = result.metrics["methods"]["dim"]
    assert found["strength"] in toy.Dim.strengths
    assert found["random"]["draws"] == 2
    assert "a segmenter of one's own" in result.assumptions
    curve = result.arrays["dim_curve"]
    assert curve[:, 0].tolist() == list(toy.Dim.strengths)
    assert curve[-1, 2] > curve[0, 2] > 0  # a stronger fade changes more


def test_a_segmenter_without_gradients_is_not_asked_for_any(toy: ModuleType, tiny_gan: GAN) -> None:
    with pytest.raises(probe.ProbeError, match=r"a Bright has no `\.scores\(images\)`"):
        probe.forget(tiny_gan, lights(toy, tiny_gan), method="causal", draws=2)


@pytest.mark.parametrize("wrong", ["nothing", 3, object()])
def test_what_is_no_segmenter_is_refused(wrong: object, tiny_gan: GAN) -> None:
    with pytest.raises(probe.ProbeError, match=r"^`segmenter`"):
        probe.forget(tiny_gan, "light", segmenter=wrong, draws=2)


def test_a_way_to_forget_and_a_segmenter_from_the_command_line(place: Path) -> None:
    words = ("--ckpt", "tiny.safetensors", "--segmenter", "toy_plugin:Bright", "--samples", 40, "--draws", 2)
    done = command(place, "forget", "--concept", "cloud", *words)
    assert (done.returncode, done.stderr) == (2, "probe: concept cloud: the segmenter knows light\n")
    done = command(place, "dissect", "--layer", "8x8", *words[:-2], "--out", "d")
    assert done.returncode == 0, done.stderr
    assert list(json.loads((place / "d/result.json").read_text())["metrics"]["concepts"]) == ["light"]
    done = command(place, "forget", "--concept", "light", *words, "--method", "magic")
    assert done.returncode == 2
    assert (
        "--method magic: expected paper, logistic, iou, causal, patch, lda, leace, or pkg.module:factory" in done.stderr
    )
    done = command(place, "forget", "--concept", "light", *words, "--method", "toy_plugin:Dim", "--out", "f")
    assert done.returncode == 0, done.stderr
    assert list(json.loads((place / "f/result.json").read_text())["metrics"]["methods"]) == ["dim"]


def test_a_distance_from_python_and_the_command_line(toy: ModuleType, tiny_gan: GAN, place: Path) -> None:
    by_function = probe.walk(tiny_gan, 2, frames=1, feature=toy.coarse)
    assert by_function.metrics["feature"] == "coarse"
    done = command(
        place,
        "walk",
        "--ckpt",
        "tiny.safetensors",
        "--points",
        2,
        "--frames",
        1,
        "--feature",
        "toy_plugin:Coarse",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["feature"] == "toy_plugin:Coarse"
    assert found["max_over_median"] == pytest.approx(by_function.metrics["max_over_median"], rel=1e-4)


def test_units_as_numbers_and_paths_as_paths(tiny_gan: GAN, tmp_path: Path) -> None:
    text = probe.ablate(tiny_gan, "8x8", "0-2", draws=2)
    numbers = probe.ablate(tiny_gan, "8x8", [0, 1, 2], draws=2, save=tmp_path / "new.pth")
    assert np.array_equal(text.arrays["after"], numbers.arrays["after"])
    assert (tmp_path / "new.pth").exists()
    assert numbers.gan is not tiny_gan


def test_plugins_that_cannot_be_imported_are_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PROBE_PLUGINS": "no_such_module", "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", "probe", "--help"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("probe: PROBE_PLUGINS no_such_module: ModuleNotFoundError")
