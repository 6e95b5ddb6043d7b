"""A repository for the Hub: what its card says, that its files work, and that nothing leaves without being asked."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import probe
from probe import checkpoints
from probe.base.errors import ProbeError
from probe.checkpoints import publishing
from probe.models.gan import GAN


@pytest.fixture
def result(tiny_gan: GAN, tmp_path: Path) -> Path:
    probe.walk(tiny_gan, 3).save(tmp_path / "walk")
    return tmp_path / "walk"


def test_the_files_of_a_repository(tiny_gan: GAN, result: Path, tmp_path: Path) -> None:
    files = publishing.prepare(tiny_gan, "me/tiny", tmp_path / "push", [result])
    names = {path.relative_to(tmp_path / "push").as_posix() for path in files}
    assert {"README.md", "checkpoint.safetensors", "generator.py", "generator.pth"} <= names
    assert {"results/walk-walk/result.json", "results/walk-walk/figure.png"} <= names
    z = tiny_gan.latents(3)
    assert torch.equal(checkpoints.load(tmp_path / "push" / "checkpoint.safetensors").images(z), tiny_gan.images(z))
    spec = importlib.util.spec_from_file_location("generator", tmp_path / "push" / "generator.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        torch.testing.assert_close(module.load()(z), tiny_gan.images(z), atol=1e-5, rtol=0)


def test_the_card(tiny_gan: GAN, result: Path) -> None:
    tiny_gan.provenance |= {"checkpoint": "tiny.pth", "sha256": "ab" * 32, "edits": ["layer2: windows patched away"]}
    tiny_gan.provenance["consistency"] = {"generator": {"verdict": "identified", "score": 0.0414}}
    found = probe.load_result(result)
    text = publishing.card(tiny_gan, "me/tiny", [found])
    assert text.startswith("---\nlibrary_name: dcgan-probe\n")
    assert "# tiny\n" in text
    assert f"checkpoint: tiny.pth, SHA-256 {'ab' * 32}" in text
    assert "- edited: layer2: windows patched away" in text
    assert "- generator as it was read: identified, distance 0.041 from its BatchNorm statistics" in text
    assert f"- `probe walk`: {found.summary().verdict}" in text
    assert "probe sample --ckpt hf:me/tiny/checkpoint.safetensors" in text
    assert "training data: not known" in text
    assert "Nothing was measured here" in publishing.card(tiny_gan, "me/tiny")


@pytest.mark.parametrize("name", ["tiny", "me/tiny/more", "me/../tiny", "me/tiny@v1", "/tiny", "me/ti ny"])
def test_names_that_cannot_be(tiny_gan: GAN, tmp_path: Path, name: str) -> None:
    with pytest.raises(ProbeError, match=r"`repository` .*: expected owner/name"):
        publishing.prepare(tiny_gan, name, tmp_path / "push")
    assert not (tmp_path / "push").exists()


def test_a_folder_that_is_there_is_left_alone(tiny_gan: GAN, tmp_path: Path) -> None:
    (tmp_path / "push").mkdir()
    with pytest.raises(ProbeError, match="push: is there already"):
        publishing.prepare(tiny_gan, "me/tiny", tmp_path / "push")


def test_a_result_that_is_none_leaves_nothing(tiny_gan: GAN, tmp_path: Path) -> None:
    with pytest.raises(ProbeError):
        publishing.prepare(tiny_gan, "me/tiny", tmp_path / "push", [tmp_path / "nowhere"])
    assert not (tmp_path / "push").exists()


def test_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[Any] = []

    class Api:
        def __init__(self, endpoint: str | None) -> None:
            asked.append(endpoint)

        def create_repo(self, repository: str, **options: Any) -> str:
            asked.append((repository, options))
            return f"https://hub/{repository}"

        def upload_folder(self, **options: Any) -> None:
            asked.append(options)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:1")
    assert publishing.upload(tmp_path, "me/tiny", private=True) == "https://hub/me/tiny"
    assert asked[0] == "http://localhost:1"
    assert asked[1] == ("me/tiny", {"private": True, "exist_ok": True})
    assert (asked[2]["repo_id"], asked[2]["folder_path"]) == ("me/tiny", tmp_path)


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ProbeError, match=r"^me/tiny: .*cannot be reached") as error:
        publishing.upload(tmp_path, "me/tiny")
    assert "\n" not in str(error.value)


def test_the_command_uploads_nothing_unasked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from probe import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publishing, "upload", lambda *_: pytest.fail("uploaded"))
    monkeypatch.setattr("sys.argv", ["probe", "push", "me/tiny", "--ckpt", str(tiny)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out = capsys.readouterr().out
    assert (stop.value.code or 0) == 0
    assert "README.md" in out
    assert "nothing was uploaded" in out
