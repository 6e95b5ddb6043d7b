"""The command as a user meets it: what it prints, where it writes, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe import cli
from probe.checkpoints import BUILTIN, load, save
from probe.models.gan import GAN
from probe.training import pace

Run = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run the command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def checkpoint(tiny_gan: GAN, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save(tiny_gan, path)
    return path


def test_help_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; sys.argv = ['probe', '--help']\n"
        "from probe.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'matplotlib', 'numpy', 'sklearn'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "forget-windows" in done.stdout


def test_version(run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("probe 0.")


def test_inspect_json(run, checkpoint: Path, tiny_gan: GAN) -> None:
    code, out, err = run("inspect", "--ckpt", checkpoint, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["generator"]["nz"] == tiny_gan.nz
    assert found["generator"]["image_size"] == tiny_gan.size
    assert {"format", "generator", "discriminator", "prior", "batchnorm"} <= set(found)


def test_inspect_names_layers(run, checkpoint: Path) -> None:
    code, out, _ = run("inspect", "--ckpt", checkpoint)
    assert code == 0
    assert "layer1 (" in out


def test_sample_each_writes_numbered_images_with_their_latents(run, checkpoint: Path, tiny_gan: GAN) -> None:
    code, out, _ = run(
        "sample", "--ckpt", checkpoint, "-n", 5, "--seed", 3, "--each", "--format", "png,pdf,svg", "--out", "o"
    )
    assert code == 0
    assert "figure: o/figure.png" in out
    names = sorted(p.name for p in Path("o/images").iterdir())
    assert names == [f"{i:06d}.png" for i in range(5)]
    expected = load(checkpoint).sample(5, 3)[2]
    pixels = np.asarray(Image.open("o/images/000002.png")).astype(float).transpose(2, 0, 1)
    assert np.abs(pixels - ((expected.numpy() + 1) * 127.5)).max() <= 1.0
    from safetensors.numpy import load_file

    assert load_file("o/arrays.safetensors")["latents"] == pytest.approx(tiny_gan.latents(5, 3).numpy())
    assert {p.suffix for p in Path("o").glob("figure.*")} == {".png", ".pdf", ".svg"}
    about = json.loads(Image.open("o/figure.png").text["probe"])
    assert about["checkpoint"] == "tiny.safetensors"
    assert "--seed 3" in about["command"]


def test_a_row_for_each_class(run) -> None:
    torch.manual_seed(0)
    up = torch.nn.ConvTranspose2d
    g = torch.nn.Sequential(
        up(16, 8, 4),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        up(8, 6, 4, 2, 1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        up(6, 1, 4, 2, 1),
    )
    state = {f"main.{key}": value for key, value in g.state_dict().items()} | {"label_emb.weight": torch.randn(3, 6)}
    torch.save(state, "netG.pth")
    code, out, _ = run("sample", "--ckpt", "netG.pth", "--class", "all", "-n", 4, "--out", "out/all", "--json")
    assert (code, json.loads(out)) == (0, {"images": 12, "rows": 3, "classes": [0, 1, 2]})


def test_json_prints_metrics_and_nothing_else(run, checkpoint: Path) -> None:
    code, out, err = run("sample", "--ckpt", checkpoint, "-n", 2, "--json")
    assert (code, json.loads(out), err) == (0, {"images": 2}, "")


def test_the_command_recorded_has_base_names_and_whole_expressions(tmp_path: Path) -> None:
    from probe.results.provenance import command_line

    words = [
        "arithmetic",
        "window/day - day + nowindow/night",
        "--by-segmenter",
        "--ckpt",
        "a/b.pth",
        "--data=idx:/c/d",
    ]
    recorded = "probe arithmetic 'window/day - day + nowindow/night' --by-segmenter --ckpt b.pth --data=idx:d"
    assert command_line(words) == recorded
    assert command_line(["turn", "window/day", "night", "--out", "x/y"]) == "probe turn window/day night --out y"
    assert command_line(["draw", str(tmp_path)]) == f"probe draw {tmp_path.name}"


def test_output_is_replaced_as_a_whole(run, checkpoint: Path) -> None:
    run("sample", "--ckpt", checkpoint, "-n", 5, "--each", "--out", "o")
    run("sample", "--ckpt", checkpoint, "-n", 2, "--out", "o")
    assert not Path("o/images").exists()
    assert [p.name for p in Path().iterdir() if p.name.startswith(".o")] == []


def test_a_folder_that_is_not_a_result_is_left_alone(run, checkpoint: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    code, _, err = run("sample", "--ckpt", checkpoint, "--out", "mine")
    assert code == 2
    assert "not a result of probe" in err
    assert Path("mine/thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["boxes.json", "images/cat.png", "samples/step-0000001.png", "checkpoint.safetensors"])
def test_what_is_no_part_of_a_result_is_not_lost_with_it(run, checkpoint: Path, name: str) -> None:
    again = ("sample", "--ckpt", checkpoint, "-n", 2, "--each", "--out", "o")
    run(*again)
    path = Path("o") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    code, _, err = run(*again)
    assert (code, err.count("\n")) == (2, 1)
    assert f"o: holds {name}, which is no part of a result and would be lost" in err
    assert path.read_text() == "mine"
    path.unlink()
    assert run(*again)[0] == 0


def test_an_output_behind_a_link_or_that_is_no_folder(run, checkpoint: Path) -> None:
    Path("disk").mkdir()
    Path("o").symlink_to("disk/there")
    for _ in range(2):
        assert run("sample", "--ckpt", checkpoint, "-n", 2, "--out", "o")[0] == 0
    assert Path("o").is_symlink()
    assert Path("disk/there/figure.png").is_file()
    assert [p.name for p in Path("disk").iterdir()] == ["there"]
    os.mkfifo("pipe")
    code, _, err = run("sample", "--ckpt", checkpoint, "-n", 2, "--out", "pipe")
    assert (code, err) == (2, "probe: pipe: exists and is not a result of probe; choose another folder\n")


def test_train_resume_and_open(run, monkeypatch) -> None:
    common = ("train", "--data", "rooms:40", "--size", 28, "--width", 4, "--nz", 6, "--batch", 8, "--seed", 1)
    code, out, err = run(*common, "--steps", 3, "--out", "t", "--holdout", 8)
    assert code == 0
    assert "checkpoint: t/checkpoint.safetensors" in out
    assert "a step" not in err  # too short for a measurement
    assert {"losses.csv", "losses.png", "training.gif", "state.safetensors"} <= {p.name for p in Path("t").iterdir()}
    monkeypatch.setattr(pace, "LEAST", 2)
    code, _, err = run(*common, "--steps", 5, "--out", "t", "--holdout", 8, "--resume")
    assert re.search(r"^2 steps in (float32|bfloat16): about 0:00:\d0 at \d\.\d\d s a step$", err, re.MULTILINE)
    assert code == 0
    gan = load(Path("t/checkpoint.safetensors"))
    assert (gan.size, gan.nz, gan.prior) == (28, 6, "uniform")
    assert gan.provenance["training"]["steps"] == 5
    assert gan.provenance["training"]["split"]["holdout"] == 8
    code, _, err = run(*common, "--steps", 5, "--out", "t", "--ema", 0.5, "--holdout", 4, "--resume")
    assert code == 2
    assert "holdout 8 (asked: 4)" in err


def labels(path: Path, **changes: object) -> Path:
    document: dict[str, object] = {
        "images": [{"id": i, "file_name": f"{i:06d}.png", "width": 32, "height": 32} for i in range(4)],
        "categories": [{"id": 1, "name": "hat"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 4, 8, 8]}],
    }
    path.write_text(json.dumps(document | changes))
    return path


BAD = {
    "missing": (["inspect", "--ckpt", "nowhere.pth"], "nowhere.pth: no such file"),
    "empty": (["inspect", "--ckpt", "empty.pth"], "empty.pth"),
    "text": (["inspect", "--ckpt", "text.pth"], "text.pth"),
    "truncated": (["inspect", "--ckpt", "half.safetensors"], "half.safetensors"),
    "code": (["inspect", "--ckpt", "code.pth"], "code.pth"),
    "other network": (["inspect", "--ckpt", "mlp.pth"], "mlp.pth"),
    "nan": (["inspect", "--ckpt", "nan.safetensors"], "nan.safetensors"),
    "no discriminator there": (["inspect", "--ckpt", "tiny.safetensors", "--disc", "nowhere.pth"], "nowhere.pth"),
    "model": (["inspect", "--model", "no_such_package:factory"], "no_such_package"),
    "prior": (["inspect", "--ckpt", "tiny.safetensors", "--prior", "cauchy"], "expected uniform or normal"),
    "class": (["inspect", "--ckpt", "tiny.safetensors", "--class", "-1"], "--class -1: expected a class, from 0 on"),
    "no classes": (["sample", "--ckpt", "tiny.safetensors", "--class", "all"], "leave --class out"),
    "all classes": (["walk", "--ckpt", "tiny.safetensors", "--class", "all"], "--class all: a row for each class"),
    "discriminator alone": (
        ["walk", "--disc", "tiny.safetensors"],
        "this needs its generator, too: pass its file as --ckpt",
    ),
    "device": (["sample", "--ckpt", "tiny.safetensors", "--device", "abacus"], "expected auto, cpu, cuda or mps"),
    "format": (["sample", "--ckpt", "tiny.safetensors", "--format", "bmp"], "expected png, pdf or svg"),
    "option": (["sample", "--ckpt", "tiny.safetensors", "-n", "0"], "--samples 0: expected 1 to 100,000"),
    "command": (["smaple"], "No such command"),
    "no labels": (["forget-windows", "--ckpt", "tiny.safetensors"], "probe sample --each"),
    "labels missing": (
        ["forget", "--concept", "hat", "--labels", "none.json", "--ckpt", "tiny.safetensors"],
        "no such labels file",
    ),
    "no boxes": (
        ["forget", "--concept", "hat", "--labels", "nobox.json", "--ckpt", "tiny.safetensors"],
        "no boxes of hat",
    ),
    "box outside": (
        ["forget", "--concept", "hat", "--labels", "outside.json", "--ckpt", "tiny.safetensors"],
        "outside its image",
    ),
    "unknown image": (
        ["forget", "--concept", "hat", "--labels", "unknown.json", "--ckpt", "tiny.safetensors"],
        "image 99",
    ),
    "unknown concept": (
        ["forget", "--concept", "tie", "--labels", "good.json", "--ckpt", "tiny.safetensors"],
        "the file has hat",
    ),
    "few boxes": (["forget", "--concept", "hat", "--labels", "good.json", "--ckpt", "tiny.safetensors"], "at least 16"),
    "empty folder": (["train", "--data", "empty", "--steps", "1"], "empty"),
    "no folder": (["train", "--data", "folder:nowhere"], "nowhere"),
    "size": (["train", "--size", "31", "--steps", "1", "--data", "rooms:8"], "image size 31"),
    "channels": (["train", "--channels", "2"], "channels 2"),
    "holdout": (["train", "--data", "rooms:8", "--holdout", "9", "--steps", "1", "--size", "32"], "holdout 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(run, checkpoint: Path, case: str) -> None:
    Path("empty.pth").touch()
    Path("empty").mkdir()
    Path("text.pth").write_text("weights, honest")
    Path("half.safetensors").write_bytes(checkpoint.read_bytes()[:2000])
    torch.save({"state_dict": {"fc.weight": torch.ones(3, 4), "fc.bias": torch.ones(3)}}, "mlp.pth")
    torch.save(torch.nn.ReLU(), "code.pth")
    broken = load(checkpoint)
    next(broken.generator.parameters()).data[0] = float("nan")
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint)
    name = next(iter(tensors))
    tensors[name] = tensors[name] * float("nan")
    with safe_open(checkpoint, "pt") as file:
        save_file(tensors, "nan.safetensors", file.metadata())
    labels(Path("good.json"))
    labels(Path("nobox.json"), annotations=[])
    outside = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [30, 4, 8, 8]}
    labels(Path("outside.json"), annotations=[outside])
    labels(Path("unknown.json"), annotations=[outside | {"image_id": 99}])

    words, expected = BAD[case]
    code, out, err = run(*words)
    assert code == 2
    assert expected in err
    assert err.startswith("probe: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not list(Path().glob("out/*/result.json"))


def test_layer_that_does_not_exist_names_those_that_do(run, checkpoint: Path, tiny_gan: GAN) -> None:
    from probe.models.hooks import resolve

    with pytest.raises(ValueError, match=r"layer 9: .* it has layer1 = 1 = -3 = 4x4, layer2"):
        resolve(tiny_gan, "9")


def test_full_disk_leaves_the_old_result(run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("sample", "--ckpt", checkpoint, "-n", 3, "--out", "o")
    before = Path("o/result.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    code, _, err = run("sample", "--ckpt", checkpoint, "-n", 4, "--out", "o")
    assert code == 2
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert Path("o/result.json").read_bytes() == before
    assert [p.name for p in Path().iterdir() if p.name.startswith(".o")] == []


def test_ctrl_c(run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probe.questions.sample.run.sample", interrupt)
    code, _, err = run("sample", "--ckpt", checkpoint)
    assert code == 130
    assert "Traceback" not in err


def test_builtin_names_are_files_of_the_package() -> None:
    weights = Path(cli.__file__).parents[1] / "weights"
    assert all((weights / name).is_file() for name in BUILTIN.values())
