"""A training run that was stopped or killed goes on where it was, to the bit, or says why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from probe.base.errors import ProbeError
from probe.training import loop as training
from probe.training.loop import Settings, train
from tests.training_runs import COLOUR, TINY, about, pictures, rows, same_networks, same_to_the_bit

KILLED = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
import torch
from probe.training.loop import Settings, train

torch.set_num_threads(1)
images, out, settings, step = sys.argv[1:]

def report(progress):
    if progress.step == int(step):
        os.kill(os.getpid(), signal.SIGKILL)

options = {"save_every": 2, "report": report, "report_every": 1}
train(np.load(images), Settings(**json.loads(settings)), Path(out), source="noise", **options)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_run_resumes_to_the_bit(tmp_path):
    images = pictures(20)
    np.save(tmp_path / "images.npy", images)
    straight = train(images, TINY, tmp_path / "straight", source="noise")
    arguments = [str(tmp_path / "images.npy"), str(tmp_path / "killed"), json.dumps(asdict(TINY)), "3"]
    done = subprocess.run([sys.executable, "-W", "error", "-c", KILLED, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    assert about(tmp_path / "killed")["step"] == "2"
    resumed = train(images, TINY, tmp_path / "killed", source="noise", resume=True)
    same_to_the_bit(tmp_path / "straight", tmp_path / "killed")
    same_networks(straight, resumed)
    final = "samples/step-0000006.png"
    assert (tmp_path / "straight" / final).read_bytes() == (tmp_path / "killed" / final).read_bytes()


def interrupted(images: np.ndarray, s: Settings, out: Path, at: int, **options) -> None:
    def report(progress: training.Progress) -> None:
        if progress.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(images, s, out, report=report, report_every=1, **options)


@pytest.mark.parametrize(
    ("settings", "save_every", "at"),
    [(TINY, 1, 1), (COLOUR, 2, 5), (replace(TINY, holdout=9, kernel=5), 1, 3), (TINY, 4, 3)],
)
def test_a_stopped_run_resumes_to_the_bit(tmp_path, settings, save_every, at):
    images = pictures(20, settings)
    straight = train(images, settings, tmp_path / "straight")
    interrupted(images, settings, tmp_path / "stopped", at, save_every=save_every)
    assert (tmp_path / "stopped" / "state.safetensors").exists() == (save_every <= at)
    resumed = train(images, settings, tmp_path / "stopped", resume=True, save_every=save_every)
    same_to_the_bit(tmp_path / "straight", tmp_path / "stopped")
    same_networks(straight, resumed)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_the_state_first(tmp_path, number, raised):
    images = pictures(20)
    straight = train(images, TINY, tmp_path / "straight")

    def report(progress: training.Progress) -> None:
        if progress.step == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(raised):
        train(images, TINY, tmp_path / "stopped", report=report, report_every=1)
    assert signal.getsignal(number) is before
    assert about(tmp_path / "stopped")["step"] == "4"  # the step under way was finished
    same_networks(straight, train(images, TINY, tmp_path / "stopped", resume=True))
    same_to_the_bit(tmp_path / "straight", tmp_path / "stopped")


def test_a_state_at_least_so_often(tmp_path):
    interrupted(pictures(20), TINY, tmp_path, 5, save_seconds=0.0)
    assert about(tmp_path)["step"] == "5"


def test_fewer_steps_than_a_run_has_are_refused(tmp_path):
    train(pictures(20), TINY, tmp_path)
    with pytest.raises(ProbeError, match="has 6 steps already; pass `steps` of at least that many"):
        train(pictures(20), replace(TINY, steps=5), tmp_path, resume=True)


def test_a_resumed_run_keeps_the_spacing_of_its_pictures(tmp_path):
    s = replace(TINY, steps=60)
    train(pictures(20), s, tmp_path / "straight")
    interrupted(pictures(20), s, tmp_path / "stopped", 31, save_every=5)
    train(pictures(20), s, tmp_path / "stopped", resume=True)
    names = [{p.name for p in (tmp_path / run / "samples").iterdir()} for run in ("straight", "stopped")]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "training.gif", "result.json"])
def test_a_folder_with_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step-0000001.png").write_text("mine")
    with pytest.raises(
        ProbeError, match=rf"holds {name} but no run to go on with \(state.safetensors\); choose another"
    ):
        train(pictures(20), TINY, tmp_path)
    assert {p.read_text() for p in tmp_path.rglob("*.*")} == {"mine"}


def test_a_run_stopped_twice_and_lengthened(tmp_path):
    images = pictures(20)
    straight = train(images, replace(TINY, steps=9), tmp_path / "straight")
    interrupted(images, TINY, tmp_path / "stopped", 2, save_every=1)
    interrupted(images, TINY, tmp_path / "stopped", 4, save_every=1, resume=True)
    train(images, TINY, tmp_path / "stopped", resume=True)
    resumed = train(images, replace(TINY, steps=9), tmp_path / "stopped", resume=True)
    same_to_the_bit(tmp_path / "straight", tmp_path / "stopped")
    same_networks(straight, resumed)


def test_losses_beyond_the_last_state_are_dropped(tmp_path):
    """A run may die between writing the losses and writing the state."""
    images = pictures(20)
    train(images, TINY, tmp_path / "straight")
    interrupted(images, TINY, tmp_path / "stopped", 3, save_every=2)
    with (tmp_path / "stopped" / "losses.csv").open("a") as file:
        file.write("3,9.00000,9.00000\n4,9.00000,9.00000\n")
    train(images, TINY, tmp_path / "stopped", resume=True, save_every=1)
    same_to_the_bit(tmp_path / "straight", tmp_path / "stopped")


def test_a_damaged_list_of_losses_loses_its_damaged_lines_only(tmp_path):
    images = pictures(20)
    train(images, TINY, tmp_path / "straight")
    interrupted(images, TINY, tmp_path / "stopped", 3, save_every=2)
    with (tmp_path / "stopped" / "losses.csv").open("ab") as file:
        file.write(b"x\xff,1\n\n,\n1")
    train(images, TINY, tmp_path / "stopped", resume=True, save_every=1)
    kept = [row for row in rows(tmp_path / "stopped") if len(row) == 5]
    assert kept == rows(tmp_path / "straight")


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    images = pictures(20)
    first = train(images, TINY, tmp_path)
    before = (tmp_path / "losses.csv").read_bytes()
    same_networks(first, train(images, TINY, tmp_path, resume=True))
    assert (tmp_path / "losses.csv").read_bytes() == before


def test_a_new_run_clears_what_an_old_one_left(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step-0000099.png").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "losses.csv").write_text("step,loss_d,loss_g\n1,2,3\n")
    train(pictures(20), TINY, tmp_path)
    assert max(p.name for p in (tmp_path / "samples").iterdir()) == "step-0000006.png"
    assert [r[0] for r in rows(tmp_path)] == ["step", "1", "2", "3", "4", "5", "6"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 2}, r"width 4 \(asked: 2\)"),
        ({"seed": 1}, r"seed 0 \(asked: 1\)"),
        ({"prior": "normal"}, r"prior uniform \(asked: normal\)"),
        ({"lr": 1e-3, "batch": 4, "beta1": 0.9, "steps": 99}, r"batch 8 \(asked: 4\), beta1 0\.5 \(asked: 0\.9\)"),
    ],
)
def test_resuming_with_other_settings(tmp_path, changes, named):
    train(pictures(20), replace(TINY, steps=1), tmp_path)
    message = rf"^state\.safetensors: trained with {named}; resume with the same settings or choose another folder$"
    with pytest.raises(ProbeError, match=message):
        train(pictures(20), replace(TINY, **changes), tmp_path, resume=True)


def lacks_a_tensor(path: Path, tensors: dict[str, torch.Tensor], notes: dict[str, str]) -> None:
    del tensors["opt_g.layer1.conv.weight.exp_avg"]
    save_file(tensors, path, notes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, *_: path.write_bytes(path.read_bytes()[:-10]),
        lambda path, *_: path.write_bytes(path.read_bytes()[:100]),
        lambda path, *_: path.write_bytes(b""),
        lambda path, *_: path.write_bytes(b"junk" * 50),
        lacks_a_tensor,
        lambda path, tensors, _: save_file(tensors, path),
        lambda path, tensors, notes: save_file(tensors, path, notes | {"settings": "{"}),
        pytest.param(
            lambda path, tensors, notes: save_file(tensors, path, {"settings": notes["settings"]}),
            id="no-step",
        ),
        pytest.param(
            lambda path, tensors, notes: save_file(tensors, path, notes | {"step": "six"}),
            id="step",
        ),
        pytest.param(
            lambda path, tensors, notes: save_file({k: torch.zeros(2, 2) for k in tensors}, path, notes),
            id="shapes",
        ),
    ],
)
def test_a_damaged_state(tmp_path, damage):
    train(pictures(20), replace(TINY, steps=1), tmp_path)
    path = tmp_path / "state.safetensors"
    damage(path, load_file(path), about(tmp_path))
    left = path.read_bytes()
    message = r"^state\.safetensors: not a complete training state \(.+\); start again without `resume`$"
    with pytest.raises(ProbeError, match=message):
        train(pictures(20), TINY, tmp_path, resume=True)
    assert path.read_bytes() == left


def test_a_state_of_an_earlier_version_can_be_resumed(tmp_path):
    train(pictures(16), TINY, tmp_path)
    tensors, notes = load_file(tmp_path / "state.safetensors"), about(tmp_path)
    old = {k: v for k, v in json.loads(notes["settings"]).items() if k not in ("depth", "d_ema", "flips")}
    save_file(tensors, tmp_path / "state.safetensors", notes | {"settings": json.dumps(old)})
    train(pictures(16), replace(TINY, steps=7), tmp_path, resume=True)
    with pytest.raises(ProbeError, match=r"trained with flips False \(asked: True\)"):
        train(pictures(16), replace(TINY, steps=8, flips=True), tmp_path, resume=True)


def test_a_run_is_not_overwritten_by_forgetting_to_resume(tmp_path):
    train(pictures(20), TINY, tmp_path)
    before = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(ProbeError, match=r"holds a run already; go on with it by `resume`"):
        train(pictures(20), TINY, tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_a_run_does_not_go_on_with_other_images(tmp_path):
    train(pictures(20), TINY, tmp_path, source="a")
    for images, source in ((pictures(21), "a"), (pictures(20), "b")):
        with pytest.raises(ProbeError, match=rf"trained on 20 images of a, not on {len(images)} of {source}"):
            train(images, TINY, tmp_path, source=source, resume=True)


def test_a_damaged_picture_of_an_earlier_step_costs_nothing_but_itself(tmp_path):
    train(pictures(20), TINY, tmp_path)
    first = min((tmp_path / "samples").glob("step-*.png"))
    first.write_bytes(first.read_bytes()[:60])
    train(pictures(20), replace(TINY, steps=7), tmp_path, resume=True)
    assert (tmp_path / "training.gif").exists()


def test_images_that_are_no_bytes_are_refused(tmp_path):
    with pytest.raises(ProbeError, match=r"images of float32; expected uint8 in 0 … 255"):
        train(pictures(20).astype(np.float32) / 255, TINY, tmp_path)
    train(pictures(20), replace(TINY, steps=1), str(tmp_path / "text"))
    assert (tmp_path / "text" / "state.safetensors").exists()


def test_a_run_knows_its_images_by_their_contents(tmp_path):
    train(pictures(20), TINY, tmp_path / "known", source="a", contents="12ab")
    with pytest.raises(
        ProbeError, match=r"trained on 20 images of a with other contents than these 20 of a; resume with"
    ):
        train(pictures(20), TINY, tmp_path / "known", source="a", contents="34cd", resume=True)
    moved = train(pictures(20), replace(TINY, steps=7), tmp_path / "known", source="b", contents="12ab", resume=True)
    assert (moved.provenance["training"]["source"], moved.provenance["training"]["contents"]) == ("b", "12ab")
    assert not training.known_by_name(tmp_path / "known")
    train(pictures(20), TINY, tmp_path / "old", source="a")  # as an earlier version noted it
    assert training.known_by_name(tmp_path / "old")
    train(pictures(20), replace(TINY, steps=7), tmp_path / "old", source="a", contents="12ab", resume=True)
    assert not training.known_by_name(tmp_path / "old")
    train(pictures(20), TINY, tmp_path / "rooms", source="rooms:20")
    assert not training.known_by_name(tmp_path / "rooms")


def test_the_schedule_may_change_and_is_remembered(tmp_path):
    train(pictures(20), TINY, tmp_path)
    changed = replace(TINY, steps=8, noise=0.2, lr=1e-4)
    gan = train(pictures(20), changed, tmp_path, resume=True)
    first, second = gan.provenance["training"]["history"]
    assert (first["from"], first["noise"], first["lr"]) == (0, 0.0, TINY.lr)
    assert (second["from"], second["noise"], second["lr"]) == (6, 0.2, 1e-4)


def test_what_a_folder_tells_of_its_run(tmp_path):
    assert training.stored(tmp_path) is None
    train(pictures(20), TINY, tmp_path)
    assert training.stored(tmp_path) == (6, asdict(TINY))
    log = training.read_log(tmp_path / "losses.csv")
    np.testing.assert_allclose(log["step"], np.arange(1, 7))
    np.testing.assert_allclose(log["loss_g"], [float(row[2]) for row in rows(tmp_path)[1:]])
    (tmp_path / "state.safetensors").write_bytes(b"no state")
    assert training.stored(tmp_path) is None


def test_a_log_of_an_earlier_version_is_read(tmp_path):
    """Rows of a run that told no accuracy, and of the same run gone on with today."""
    (tmp_path / "losses.csv").write_text("step,loss_d,loss_g,accuracy_real,accuracy_fake\n1,0.5,2\n2,0.4,1.5,0.9,0.8\n")
    log = training.read_log(tmp_path / "losses.csv")
    np.testing.assert_array_equal(log["accuracy_fake"], [np.nan, 0.8])
    np.testing.assert_array_equal(log["loss_g"], [2, 1.5])
