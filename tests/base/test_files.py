"""Writing: whole or not at all, and one line where it cannot be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open

from probe.base import files
from probe.base.errors import ProbeError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- one file


def test_writing_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "b" / "x.json"
    with files.writing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
    assert path.read_text() == "new"
    assert names(path.parent) == ["x.json"]


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    files.save_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    (tmp_path / "ahead").symlink_to("later")
    files.save_text(tmp_path / "ahead", "new")
    assert (tmp_path / "later").read_text() == "new"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(ProbeError, match="is no file; expected one"):
            files.save_text(tmp_path / name, "new")
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["folder", "link", "pipe"]


def test_a_written_file_can_be_read_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        with files.writing(tmp_path / "x") as temporary:
            temporary.write_text("new")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


@pytest.mark.parametrize("error", [KeyError("inside"), KeyboardInterrupt("stop")])
def test_writing_leaves_the_old_in_place_on_an_exception(tmp_path, error):
    path = tmp_path / "x.json"
    path.write_text("old")

    def fail() -> None:
        with files.writing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error), match=str(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.json"]


def test_a_full_disk(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    message = r"x\.json: could not be written \(No space left on device\); free some space or choose another place$"
    with pytest.raises(ProbeError, match=message), files.writing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.json"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ProbeError, match=r"x: cannot write there \((File exists|Not a directory)\); choose another"),
        files.writing(tmp_path / "file" / "x"),
    ):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["file"]


# ---- a folder


def test_replacing_takes_the_place_of_the_old(tmp_path):
    folder = tmp_path / "a" / "out"
    for content in ("first", "second"):
        with files.replacing(folder) as temporary:
            assert names(temporary) == []
            (temporary / content).write_text(content)
            assert not (folder / content).exists()
        assert names(folder) == [content]
        assert names(tmp_path / "a") == ["out"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [KeyError("inside"), ProbeError("a user's mistake"), KeyboardInterrupt("stop")])
def test_replacing_leaves_the_old_in_place_on_an_exception(tmp_path, error):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")

    def fail() -> None:
        with files.replacing(tmp_path / "out") as temporary:
            (temporary / "new").write_text("half")
            raise error

    with pytest.raises(type(error), match=str(error)):
        fail()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


def test_what_went_wrong_inside_is_told_by_the_name_asked_for(tmp_path):
    def full(folder: Path) -> None:
        with files.writing(folder / "x.json"):
            raise OSError(errno.ENOSPC, "No space left on device")

    message = rf"^{tmp_path}/out/x\.json: could not be written \(No space left on device\)"
    with pytest.raises(ProbeError, match=message), files.replacing(tmp_path / "out") as temporary:
        full(temporary)


def test_replacing_puts_the_old_back_when_the_last_rename_fails(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    rename, asked = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        asked.append(target)
        if len(asked) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with (
        pytest.raises(ProbeError, match=r"out: could not be written \(Input/output error\); free some space or"),
        files.replacing(tmp_path / "out") as temporary,
    ):
        (temporary / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ProbeError, match=r"out: cannot write there \((File exists|Not a directory)\); choose another"),
        files.replacing(tmp_path / "file" / "out"),
    ):
        pytest.fail("the block ran")


# ---- tensors


def test_save_tensors(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    files.save_tensors(tmp_path / "x.safetensors", tensors, {"about": "two"})
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"about": "two"}
        assert {k: file.get_tensor(k).tolist() for k in file.keys()} == {"a": [[0, 1, 2], [3, 4, 5]], "b": 3}  # noqa: SIM118
    assert names(tmp_path) == ["x.safetensors"]


@pytest.mark.parametrize("of", ["torch", "numpy"])
def test_tensors_on_a_full_disk(tmp_path, monkeypatch, of):
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(f"safetensors.{of}.save_file", full)
    (tmp_path / "x.safetensors").write_text("old")
    with pytest.raises(ProbeError, match=r"x\.safetensors: could not be written \(.*No space left on device.*\); free"):
        files.save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {}, of)
    assert (tmp_path / "x.safetensors").read_text() == "old"
    assert names(tmp_path) == ["x.safetensors"]
