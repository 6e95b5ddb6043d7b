"""The command of guided backpropagation: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe import cli
from probe.checkpoints import save
from probe.models.gan import GAN, use_batch_statistics
from probe.questions.guided_backprop.lens import from_samples, scan
from probe.results.result import load
from tests.looking import looking


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_gan: GAN):
    """Run the command in a folder with checkpoints and folders of images; exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    save(tiny_gan, tmp_path / "tiny.safetensors")
    save(replace(tiny_gan, discriminator=None), tmp_path / "alone.safetensors")
    use_batch_statistics(tiny_gan.require_discriminator())
    save(replace(tiny_gan, batchnorm={"generator": "running", "discriminator": "batch"}), tmp_path / "bare.safetensors")
    rng = np.random.default_rng(0)
    for folder, size, n in (("large", 48, 24), ("few", 32, 3), ("none", 32, 0)):
        Path(folder).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(f"{folder}/{i}.png")

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", "guided-backprop", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_command(run) -> None:
    code, out, err = run("--ckpt", "tiny.safetensors", "--data", "samples:48", "--units", "top")
    assert (code, err) == (0, "")
    assert "data: 48 of the generator's own samples, seed 0" in load("out/guided-backprop").assumptions
    assert {p.name for p in Path("out/guided-backprop").iterdir()} == {
        "arrays.safetensors",
        "result.json",
        "figure.png",
    }
    m = json.loads(Path("out/guided-backprop/result.json").read_text())["metrics"]
    spread = scan(looking(gan := _tiny()), from_samples(gan, 48, 0), range(16), 5, False, lambda *_: None).spread
    assert m["units"] == spread.argsort(descending=True)[:6].tolist()
    assert set(m["sanity"]) >= {"verdict", "threshold", "spearman", "ssim", "hog"}
    assert f"sanity {m['sanity']['verdict']}" in out


def _tiny() -> GAN:
    from probe.checkpoints import load as open_checkpoint

    return open_checkpoint("tiny.safetensors")


def test_images_of_another_size_are_resized_and_it_is_said(run) -> None:
    code, out, err = run("--ckpt", "tiny.safetensors", "--data", "large", "--units", "1,3")
    note = "folder:large: 24 images read; 24 of another size resized to 32x32"
    assert (code, err) == (0, note + " (shorter side, centre crop)\n")
    assert note not in out
    assert note in " ".join(load("out/guided-backprop").assumptions)


@pytest.mark.parametrize("policy", ["data", "batch"])
def test_a_discriminator_without_statistics(run, policy: str) -> None:
    code, _, err = run("--ckpt", "bare.safetensors", "--data", "samples:40", "--batchnorm", policy, "--crops", 2)
    assert (code, err) == (0, "")
    assert load("out/guided-backprop").metrics["batchnorm"] == policy


BAD = {
    "no discriminator": (["--ckpt", "alone.safetensors"], "the checkpoint holds a generator only"),
    "layer": (["--layer", "7"], "layer 7: the discriminator has no such layer; it has layer1"),
    "unit": (["--units", "3,99"], "unit 99: layer3 has 16 units, 0 to 15"),
    "many units": (["--layer", "2", "--units", "0-40"], "units 0-40: 41 units; a figure shows up to 24"),
    "units": (["--units", "many"], "--units 'many': expected numbers and ranges"),
    "rule": (["--rule", "magic"], "--rule magic: expected guided, leaky, deconvnet or gradient"),
    "sanity": (["--sanity", "slow"], "--sanity slow: expected fast or full"),
    "statistics": (
        ["--ckpt", "bare.safetensors", "--batchnorm", "running"],
        "batchnorm running: the checkpoint stores no",
    ),
    "no such data": (["--data", "nowhere"], "nowhere: no such file or folder"),
    "empty data": (["--data", "none"], "none: 0 images found"),
    "few images": (["--data", "few"], "folder:few: 3 images; at least 5 are needed"),
    "samples": (["--data", "samples:x"], "data samples:x: expected samples or samples:N"),
    "crops": (["--crops", "0"], "--crops"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_in_one_line(run, case: str) -> None:
    words, message = BAD[case]
    given = words if "--ckpt" in words else ["--ckpt", "tiny.safetensors", *words]
    code, out, err = run(*given, *([] if "--data" in words else ["--data", "samples:16"]))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("probe: ")
    assert err.count("\n") == 1
    assert not Path("out").exists()
