"""Every command that README and the documentation's pages show is run, small; every command there is stands in the README."""

from __future__ import annotations

import io
import itertools
import re
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
from PIL import Image
from pyarrow import parquet
from torch import nn

import probe
from probe import cli
from probe.checkpoints import load, save
from probe.concepts import labels
from probe.concepts import segmenters as segmenters
from probe.concepts.sources import from_rooms
from probe.data.rooms import scenes as rooms
from probe.questions.forget import run as forgetting
from probe.report import plan as planning
from tests.instead import instead

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").glob("*.md")) if p.name != "gallery.md")]
# appended to a command, the last of an option given twice counts: the same command with fewer samples
SMALL = {
    "inspect": "",
    "export": "",
    "spectrum": "-n 16",
    "sample": "-n 4",
    "walk": "--points 2 --frames 1",
    "forget": "--draws 1",
    "forget-windows": "--draws 1 --samples 60",
    "guided-backprop": "--limit 24 --crops 1",
    "arithmetic": "--draws 4",
    "turn": "--draws 4",
    "train": "--steps 2 --batch 8 --width 8 --holdout 20",
    "memorization": "--samples 40 --permutations 199 --targets 1",
    "report": "--quick",
    "draw": "",
    "rerun": "",
    "compare": "",
    "evaluate": "-n 200 --data rooms:400@77",
    "dedup": "--steps 10 --planted 4",
    "classify": "--baselines pixels --validation 8 --limit 48 --costs 0.1 --draws 1 --label-count 16",
}
BEFORE = {  # what has to be there before a command runs
    "memorization": f"train --data path/to/images --out out/mine {SMALL['train']}",
    "draw": "walk --points 2 --frames 1 --format pdf --out out/forget", "compare": "sample -n 4 --out baseline",
    "rerun": "forget --ckpt path/to/netG.pth --concept window --labels boxes.json --draws 1 --out out/forget",
    "train --exclude": f"dedup --data parquet:path/to/cifar10-train.parquet {SMALL['dedup']}",
}  # fmt: skip
ELSEWHERE = {  # commands that are not run here, and why
    "probe label": "serves until it is stopped: tests/test_label_page.py",
    "pt_inception": "weights that have to be brought: tests/test_evaluation.py",
    "svhn-1000": "11,000 images at least: tests/test_classification.py",
}
BY_READER = {"arithmetic": "--samples 400", "turn": "--samples 256 --scored 4"}


def _blocks(language: str) -> list[str]:
    return [b for page in PAGES for b in re.findall(rf"(?ms)^```{language}\n(.*?)^```", page.read_text())]


def _lines() -> list[str]:
    """The command lines of all blocks, each once, comments cut off."""
    lines = [shlex.join(shlex.split(line, comments=True)) for block in _blocks("sh") for line in block.splitlines()]
    return [line for line in dict.fromkeys(lines) if line]


LINES = [line for line in _lines() if line.startswith("probe ")]
RUN = [line for line in LINES if not any(part in line for part in ELSEWHERE)]


def _write_discriminator(path: Path) -> None:
    """A discriminator in the layout of pytorch/examples, with random weights."""
    torch.manual_seed(0)
    widths, layers = (3, 8, 16, 32, 64), []
    for k, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), *([nn.BatchNorm2d(b)] if k else []), nn.LeakyReLU(0.2)]
    main = nn.Sequential(*layers, nn.Conv2d(64, 1, 4, 1, 0, bias=False), nn.Sigmoid())
    torch.save({f"main.{name}": value for name, value in main.state_dict().items()}, path)


def _write_table(path: Path, images: np.ndarray) -> None:
    """Images as PNG with labels 0 and 1 in turn, as the Hugging Face hub stores them."""
    rows = []
    for pixels in images:
        file = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    parquet.write_table(pa.table({"img": rows, "label": [k % 2 for k in range(len(rows))]}), path)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README speaks of: the built-in generator as netG.pth, labels, exemplars, images."""
    folder = tmp_path_factory.mktemp("files")
    gan = load("rooms")
    for name in ("netG.pth", "epoch5.pth", "epoch25.pth"):
        save(gan, folder / name)
    _write_discriminator(folder / "netD.pth")
    labels.save(from_rooms(gan, "window", 60, 0).boxes, folder / "boxes.json", gan.size)
    (folder / "exemplars.json").write_text(
        '{"seed": 0, "concepts": {"smiling woman": [1, 2, 3], "neutral woman": [4, 5, 6], "neutral man": [7, 8, 9]}}'
    )
    images = folder / "path/to/images"
    images.mkdir(parents=True)
    for k, pixels in enumerate(rooms.render(48, seed=3).images):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(images / f"{k}.png")
    shutil.copy(folder / "netG.pth", folder / "path/to/netG.pth")
    for k, name in enumerate(("train", "test", "path/to/cifar10-train")):
        _write_table(folder / f"{name}.parquet", rooms.render(48, seed=4 + k).images)
    return folder


@pytest.fixture
def workplace(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these files to work in."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    known = segmenters.load_rooms()
    # forgetting is tested elsewhere: here with segmenters at hand, two methods, few latents, one boundary, nothing adjusted
    monkeypatch.setattr(segmenters, "fit_to_boxes", lambda *_, **__: (known["selector"], known["judge"], 0.5))
    monkeypatch.setattr(segmenters, "rooms_iou", lambda *_: 0.5)
    few = {"methods": ("paper", "patch"), "tuning": 16, "heldout": 32, "random_latents": 16, "boundaries": (0.5,)}
    monkeypatch.setattr(forgetting, "Settings", partial(forgetting.Settings, **few))
    plan = planning.plan  # the whole report: tests/test_report.py
    monkeypatch.setattr(planning, "plan", lambda gan, settings: plan(gan, settings)[:2])
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["probe", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("line", LINES)
def test_the_command_can_be_read(line: str) -> None:
    """The quick part: its options are there and take what they are given."""
    name, *words = shlex.split(line)[1:]
    group = typer.main.get_command(cli.app)
    with group.make_context("probe", [name, *words]) as context:
        _, command, rest = group.resolve_command(context, [name, *words])
        with command.make_context(name, rest):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_the_command_runs(
    line: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line)[1:]
    before = BEFORE.get("train --exclude" if "--exclude" in words else words[0])
    assert before is None or _run(monkeypatch, before.split()) == 0
    if words[0] == "compare":
        shutil.copytree("baseline", "new")
    assert words[0] in SMALL, f"say in SMALL with which options `probe {words[0]}` is small"
    small = SMALL[words[0]].split() + (BY_READER.get(words[0], "").split() if "--by-segmenter" in words else [])
    if "--concepts" in words:
        small = []
    assert _run(monkeypatch, [*words, *small]) == 0, capsys.readouterr().err
    assert words[0] in ("inspect", "compare") or any(Path("out").rglob("*.*"))


@pytest.mark.slow
@pytest.mark.parametrize("block", _blocks("python"))
def test_the_python_runs(block: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = probe.walk
    instead(monkeypatch, "forget", partial(probe.forget, draws=1, samples=60))
    instead(monkeypatch, "walk", lambda gan, points=2, **_: walk(gan, 2, frames=1))
    exec(compile(block, "README.md", "exec"), {})


def test_other_commands_are_targets_that_there_are() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for line in _lines():
        words = shlex.split(line)
        assert words[0] in ("probe", "make", "pip"), line
        assert words[0] != "make" or words[1] in targets, line
        assert words[0] != "pip" or re.fullmatch(r"install dcgan-probe(\[(parquet|ui)\])?", " ".join(words[1:])), line


def test_no_command_hides() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`probe ([a-z-]+)`", text)) | {
        shlex.split(s)[1] for s in _lines() if s.startswith("probe ")
    }
    there = set(typer.main.get_command(cli.app).list_commands(None))
    assert there <= named, f"not in README: {there - named}"
    assert named <= there, f"no such command: {named - there}"
