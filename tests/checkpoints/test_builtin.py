"""The shipped model and segmenters: that they are good enough for what the README says of them."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import load
from probe.concepts import labels
from probe.concepts import segmenters as segmenters
from probe.concepts.sources import from_rooms
from probe.data.rooms import scenes as rooms
from probe.edits import methods, refinement
from probe.measures.statistics import iou
from probe.models.gan import GAN, from_bytes
from probe.questions.forget import run as forgetting
from probe.questions.forget.run import Settings, forget


@pytest.fixture(scope="module")
def gan() -> GAN:
    return load("rooms")


@pytest.fixture(scope="module")
def known() -> dict[str, segmenters.Segmenter]:
    return segmenters.load_rooms()


def test_weights_fit_in_the_wheel() -> None:
    size = sum(p.stat().st_size for p in (segmenters.WEIGHTS.parent).iterdir())
    assert size <= 16 * 2**20


def test_samples_have_windows_and_beds_and_differ(gan: GAN, known: dict[str, segmenters.Segmenter]) -> None:
    images = gan.sample(200, seed=11)
    labels = known["judge"].labels(images)
    share = (labels == rooms.OBJECTS.index("window")).float().mean((1, 2)) >= rooms.WINDOW_SHARE
    assert share.float().mean() >= 0.5
    beds = (labels == rooms.OBJECTS.index("bed")).float().mean((1, 2)) >= 0.03
    assert beds.float().mean() >= 0.9
    renders = from_bytes(torch.from_numpy(rooms.render(200, seed=12).images))
    spread = [torch.pdist(x.flatten(1)).median() for x in (images, renders)]
    assert spread[0] > 0.6 * spread[1]  # no mode collapse: samples differ among themselves as rooms do


def test_segmenters_on_renders_they_never_saw(known: dict[str, segmenters.Segmenter]) -> None:
    fresh = rooms.render(160, seed=77)
    found = {name: r.labels(from_bytes(torch.from_numpy(fresh.images))) for name, r in known.items()}
    truth = torch.from_numpy(fresh.labels)
    for name, seen in found.items():
        assert iou(seen == 1, truth == 1) >= 0.9, name
    attributes = known["judge"].attributes(from_bytes(torch.from_numpy(fresh.images)))
    for k in (0, 1, 2):
        agree = (attributes[:, k] > 0.5) == torch.from_numpy(fresh.attributes[:, k] > 0.5)
        assert agree.float().mean() >= 0.93, rooms.ATTRIBUTES[k]


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    """Run the command with --json and return what it printed."""
    monkeypatch.setattr(sys, "argv", ["probe", *map(str, words), "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    return dict(json.loads(out))


@pytest.mark.slow
def test_forget_windows_from_the_command_to_a_checkpoint_that_stays_forgetful(
    gan: GAN,
    known: dict[str, segmenters.Segmenter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With two of the methods; all of them: tests/test_forgetting.py, on a smaller generator."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forgetting, "Settings", partial(Settings, methods=("paper", "patch"), heldout=128, tuning=64))
    monkeypatch.setattr(forgetting, "Fit", partial(methods.Fit, refinement=refinement.Settings(steps=80)))
    words = ("forget-windows", "--draws", 25, "--save", "blind.safetensors", "--format", "png,pdf")
    metrics = command(monkeypatch, capsys, *words)
    erase = metrics["methods"]["patch"]  # type: ignore[index]
    assert erase["removal"] >= 0.95
    assert erase["collateral"] <= 0.04
    assert erase["p_value"] < 0.05
    assert {p.name for p in Path("out/forget-windows").iterdir()} == {
        "result.json", "arrays.safetensors", "figure.png", "figure.pdf",
    }  # fmt: skip
    blind = load("blind.safetensors")
    before, after = (known["judge"].labels(g.sample(128, seed=5)) == 1 for g in (gan, blind))
    assert after.sum() <= 0.08 * before.sum()
    with pytest.raises(ProbeError, match="layer2 already carries an edit that forgets a concept"):
        forget(blind, from_rooms(gan, "window", 60, 0).boxes, known["selector"], known["judge"], Settings(draws=1))


@pytest.mark.slow
def test_forget_with_boxes_from_a_file(
    gan: GAN,
    known: dict[str, segmenters.Segmenter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Labels by hand take the same way; the segmenters' fitting, tested elsewhere, is replaced by the built-in ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(segmenters, "fit_to_boxes", lambda *_, **__: (known["selector"], known["judge"], 0.9))
    monkeypatch.setattr(forgetting, "Settings", partial(Settings, methods=("patch",), heldout=64, tuning=64))
    monkeypatch.setattr(forgetting, "Fit", partial(methods.Fit, refinement=refinement.Settings(latents=256, steps=60)))
    labels.save(from_rooms(gan, "window", 80, 4).boxes, Path("boxes.json"), gan.size)
    words = ("forget", "--concept", "window", "--labels", "boxes.json", "--draws", 5, "--layer", "-2")
    metrics = command(monkeypatch, capsys, *words)
    assert metrics["images_labelled"] == 80
    assert metrics["methods"]["patch"]["layers"] == ["layer3"]  # type: ignore[index]
    assert metrics["methods"]["patch"]["removal"] > 0.7  # type: ignore[index]
    document = json.loads(Path("out/forget/result.json").read_text())
    assert "the layer is layer3 (96 maps of 16x16), as asked" in document["assumptions"]
