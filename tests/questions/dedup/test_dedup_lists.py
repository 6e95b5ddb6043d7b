"""Lists of images to leave out: what they refuse, training without those, the commands that make and take them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import load
from probe.data import exclusion
from probe.data.rooms import scenes as rooms
from probe.training.loop import Settings as TrainingSettings
from probe.training.loop import own_split, split, train

# --- lists of images to leave out


def listed(folder: Path, indices: list[int], source: str = "noise", images: int = 20) -> exclusion.Exclusion:
    exclusion.save(folder / "list.json", source, images, np.array(indices, np.int64))
    return exclusion.load(folder / "list.json")


def test_a_list_knows_its_source(tmp_path: Path) -> None:
    found = listed(tmp_path, [7, 3, 7])
    np.testing.assert_array_equal(found.kept(20, "noise"), [0, 1, 2, 4, 5, 6, *range(8, 20)])
    with pytest.raises(ProbeError, match=r"list.json: made for 20 images of noise, not for 20 of folder:x"):
        found.kept(20, "folder:x")
    with pytest.raises(ProbeError, match=r"leaves out image 7 of noise; folder:x has 5 images"):
        found.kept(5, "folder:x")
    with pytest.raises(ProbeError, match="leaves out all 20 images"):
        listed(tmp_path, list(range(20))).kept(20, "noise")
    for text in (
        "",
        "{",
        "[]",
        '{"source": "x", "images": 3}',
        '{"source": "x", "images": 3, "exclude": [true]}',
        '{"source": "x", "images": 3, "exclude": [-1]}',
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ProbeError, match=r"bad.json: not a list of images to leave out"):
            exclusion.load(tmp_path / "bad.json")
    with pytest.raises(ProbeError, match="cannot be read"):
        exclusion.load(tmp_path / "none.json")


def test_a_list_knows_its_source_by_its_contents(tmp_path: Path) -> None:
    exclusion.save(tmp_path / "list.json", "folder:x", 20, np.array([7, 3]), "12ab", [f"{i}.png" for i in range(20)])
    assert json.loads((tmp_path / "list.json").read_text()) == {
        "source": "folder:x", "images": 20, "exclude": [3, 7], "contents": "12ab", "names": ["3.png", "7.png"],
    }  # fmt: skip
    found = exclusion.load(tmp_path / "list.json")
    assert len(found.kept(20, "folder:moved", "12ab")) == 18
    with pytest.raises(
        ProbeError, match=r"made for 20 images of folder:x with other contents than these 20 of folder:x"
    ):
        found.kept(20, "folder:x", "34cd")
    with pytest.raises(ProbeError, match=r"made for 20 images of folder:x, not for 20 of folder:y"):
        found.kept(20, "folder:y", "34cd")
    assert found.doubt("folder:x") == ""
    old = listed(tmp_path, [7, 3], "folder:x")
    assert len(old.kept(20, "folder:x", "34cd")) == 18
    assert old.doubt("folder:x").startswith("list.json: knows folder:x by name and count only")
    assert old.doubt("rooms:20") == ""


def test_training_never_sees_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None, None], 28 * 28, axis=1).reshape(20, 1, 28, 28)
    seen: set[int] = set()
    from probe.training import adversaries

    plain = adversaries.from_bytes
    monkeypatch.setattr(adversaries, "from_bytes", lambda x: seen.update(x[:, 0, 0, 0].tolist()) or plain(x))
    s = TrainingSettings(size=28, channels=1, nz=4, width=2, batch=4, steps=12, holdout=5)
    out = listed(tmp_path, [2, 3, 11])
    gan = train(images, s, tmp_path / "run", source="noise", exclude=out)
    kept = np.setdiff1d(np.arange(20), [2, 3, 11])
    chosen, held = split(17, 5, 0)
    assert seen == set(kept[chosen].tolist())
    noted = gan.provenance["training"]["split"]
    assert noted["of"] == 17
    assert noted["excluded"] == {"file": "list.json", "sha256": out.sha256, "images": 3}
    known, unseen = own_split(gan, images, "noise", out)
    assert set(known[:, 0, 0, 0].tolist()) == seen
    assert set(unseen[:, 0, 0, 0].tolist()) == set(kept[held].tolist())
    other = listed(tmp_path, [2])
    for given in (None, other):
        with pytest.raises(ProbeError, match=r"trained without the 3 images of list.json"):
            own_split(gan, images, "noise", given)
        with pytest.raises(ProbeError, match="trained with another `exclude` list"):
            train(images, replace(s, steps=14), tmp_path / "run", source="noise", exclude=given, resume=True)
    train(images, replace(s, steps=14), tmp_path / "run", source="noise", exclude=out, resume=True)


# --- the commands


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["probe", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_the_commands_hand_the_list_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "dedup"
    folder.mkdir()
    for i, image in enumerate(rooms.render(40, 5, 32).images):
        for name in (f"{i:03d}a.png", f"{i:03d}b.png")[: 1 + (i < 4)]:
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / name)
    quick = ["--steps", "60", "--planted", "5"]
    assert run(monkeypatch, "dedup", "--data", str(folder), "--out", str(out), *quick, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    document = json.loads((out / "exclude.json").read_text())
    assert metrics["images"] == document["images"] == 44
    assert set(document["exclude"]) >= {1, 3, 5, 7}
    assert document["source"] == "folder:pictures"
    assert set(document["names"]) >= {f"{i:03d}b.png" for i in range(4)}
    shown = json.loads((out / "result.json").read_text())["metrics"]["doubtful"]
    assert {tuple(pair) for pair in shown} >= {(f"{i:03d}a.png", f"{i:03d}b.png") for i in range(4)}
    assert (out / "figure.png").exists()
    assert json.loads((out / "result.json").read_text())["provenance"]["source"] == "folder:pictures"
    words = ["--exclude", str(out / "exclude.json"), "--size", "28", "--width", "4", "--steps", "2", "--batch", "8"]
    made = tmp_path / "run"
    assert run(monkeypatch, "train", "--data", str(folder), "--out", str(made), "--holdout", "6", *words) == 0
    note = load(made / "checkpoint.safetensors").provenance["training"]["split"]
    assert note["excluded"]["images"] == len(document["exclude"])
    assert run(monkeypatch, "train", "--data", "rooms:44", "--out", str(tmp_path / "no"), *words) == 2
    assert "made for 44 images of folder:pictures, not for 44 of rooms:44" in capsys.readouterr().err
    assert run(monkeypatch, "train", "--data", str(folder), "--limit", "3", "--out", str(tmp_path / "no"), *words) == 2
    assert not (tmp_path / "no").exists()
    assert run(monkeypatch, "train", "--data", str(folder), "--out", str(tmp_path / "again"), *words) == 0
    (folder / "000a.png").rename(folder / "z.png")
    capsys.readouterr()
    assert run(monkeypatch, "train", "--data", str(folder), "--out", str(tmp_path / "no"), *words) == 2
    assert "with other contents than these 44 of folder:pictures" in capsys.readouterr().err
    (folder / "z.png").rename(folder / "000a.png")
    checkpoint = ["memorization", "--ckpt", str(made / "checkpoint.safetensors"), "--data", str(folder)]
    assert run(monkeypatch, *checkpoint, "--out", str(tmp_path / "m")) == 2
    assert "pass the same list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere"], "no such file or folder"),
        (["--data", "rooms:1"], "expected at least 2"),
        (["--data", "rooms:20", "--radius", "60"], "--radius 60: expected 0 to 40"),
        (["--data", "rooms:20", "--format", "bmp"], "expected png, pdf or svg"),
        ([], "--data"),
    ],
)
def test_dedup_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(monkeypatch, "dedup", *words, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
