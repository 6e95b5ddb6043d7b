"""Results: what was saved is what is read, without torch; what is no result is refused in one line."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

from probe.base.errors import DrawingError, ProbeError
from probe.results import result
from probe.results.provenance import versions
from probe.results.result import Result


@pytest.fixture
def found() -> Result:
    metrics = {"removal": 0.95, "ci": [0.9, np.float32(0.5)], "n": np.int64(3), "ok": np.bool_(True), "by": {8: 0.1}}
    arrays = {
        "images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1),
        "curve": np.array([[0.5, np.nan], [np.inf, -1]]),
        "on": np.array([True, False]),
    }
    return Result("forget", metrics, {"seed": 0, "layer": None}, ["a reading"], {"checkpoint": "µ.pt"}, arrays)


def test_round_trip(found, tmp_path):
    found.write(tmp_path)
    again = result.load(str(tmp_path))
    assert again.command == "forget"
    assert again.metrics == {"removal": 0.95, "ci": [0.9, 0.5], "n": 3, "ok": True, "by": {"8": 0.1}}
    assert again.settings == {"seed": 0, "layer": None}
    assert (again.assumptions, again.provenance) == (["a reading"], {"checkpoint": "µ.pt"})
    assert set(again.arrays) == set(found.arrays)
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert again.arrays[name].dtype == array.dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arrays.safetensors", "result.json"]
    assert again.document() == found.document()


def test_a_blinded_study_of_schema_1_is_read_by_todays_names(tmp_path):
    rates = {"glasses_on_wearers": 0.2, "glasses_on_wearers_ci": [0.1, 0.3], "glasses_on_others": 0.0}
    old = {"wearers": 100, "others": 90, "conditions": {"erase": {**rates, "glasses_on_others_ci": [0.0, 0.1]}}}
    old |= {"agreement": {"glasses": 0.9, "damaged": 0.8}, "narrow_less_erase": {"glasses_on_wearers": 0.1}}
    Result("study", old, arrays={"first_erase": np.zeros(2)}).write(tmp_path)
    document = json.loads((tmp_path / "result.json").read_text()) | {"schema": 1}
    (tmp_path / "result.json").write_text(json.dumps(document))
    again = result.load(tmp_path)
    seen = {"seen_on_positives": 0.2, "seen_on_positives_ci": [0.1, 0.3], "seen_on_others": 0.0}
    assert again.metrics == {
        "positives": 100,
        "others": 90,
        "conditions": {"patch": {**seen, "seen_on_others_ci": [0.0, 0.1]}},
        "agreement": {"glasses": 0.9, "damaged": 0.8},
        "narrow_less_patch": {"seen_on_positives": 0.1},
    }
    assert list(again.arrays) == ["first_patch"]


def test_a_figure_that_cannot_be_drawn_costs_no_result(tmp_path, monkeypatch):
    from probe.results import drawing

    made = Result("sample", {"images": 1}, arrays={"images": np.zeros((1, 3, 8, 8), np.uint8)})
    made.files = {"table.csv": lambda path: path.write_text("1"), "walk.gif": lambda path: 1 / 0}

    def broken(_):
        raise RuntimeError("latex could not be found\nand more")

    monkeypatch.setattr(drawing, "drawer", lambda _: broken)
    with pytest.raises(
        DrawingError, match=r"could not be drawn \(latex could not be found\);.* saved in .*out, `probe draw`"
    ):
        made.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"arrays.safetensors", "result.json", "table.csv"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert result.load(tmp_path / "out").metrics == {"images": 1}
    assert "nothing to judge" in made._repr_html_()
    monkeypatch.undo()
    made.files = {}
    assert made.save(tmp_path / "out").is_file()


def test_where_nothing_can_be_written_nothing_is(tmp_path):
    def full(path):
        raise OSError(28, "No space left on device")

    made = Result("sample", {"images": 1}, arrays={"images": np.zeros((1, 3, 8, 8), np.uint8)})
    made.files = {"table.csv": full}
    with pytest.raises(ProbeError, match=r"could not be written \(No space left"):
        made.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_result_without_arrays(tmp_path):
    Result("inspect", {}).write(tmp_path)
    assert result.load(tmp_path) == Result("inspect", {})


def test_the_document_is_strict_json(tmp_path):
    values = {"nan": math.nan, "inf": [math.inf, -math.inf], "deep": {"x": (np.float64("nan"), np.float32("inf"))}}
    Result("forget", values, {"bound": math.nan}).write(tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    document = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert document["metrics"] == {"nan": None, "inf": [None, None], "deep": {"x": [None, None]}}
    assert document["settings"] == {"bound": None}
    assert document["schema"] == 2


@pytest.mark.parametrize(
    ("value", "expected"), [(1 / 3, 0.333333), (123456789.0, 123457000.0), (1e-12 / 7, 1.42857e-13), (7, 7)]
)
def test_six_significant_digits(value, expected):
    stored = Result("x", {"v": value}).document()["metrics"]["v"]
    assert stored == expected
    assert type(stored) is type(value)


def test_versions():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert set(found) == {"python", "torch", "probe"}


# ---- refused


def test_newer_schema(found, tmp_path):
    found.write(tmp_path)
    document = json.loads((tmp_path / "result.json").read_text()) | {"schema": 3, "novelty": 1}
    (tmp_path / "result.json").write_text(json.dumps(document))
    message = r": written by a newer probe \(schema 3; this one reads 2\); upgrade dcgan-probe$"
    with pytest.raises(ProbeError, match=message):
        result.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "{}",
        "[]",
        "3",
        "null",
        '"text"',
        '{"schema": "one"}',
        '{"schema": 1}',
        '{"schema": 1, "x": 2}',
        '{"schema": 1, "command": "x", "metrics": {}, "provenance": null}',
        '{"schema": 1, "command": "x", "metrics": 3}',
        '{"schema": 1, "command": ["x"], "metrics": {}}',
        '{"schema": 1, "command": "x", "metrics": {}, "assumptions": 3}',
        '{"schema": 1, "command": "x", "metrics": {"n": ' + "9" * 5000 + "}}",
        "[" * 100_000,
    ],
)
def test_not_a_result(found, tmp_path, content):
    found.write(tmp_path)
    (tmp_path / "result.json").unlink()
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    message = r": not a result directory \(.+\); expected result\.json and arrays\.safetensors$"
    with pytest.raises(ProbeError, match=message):
        result.load(tmp_path)


def test_a_name_that_is_no_text(found, tmp_path):
    found.provenance["checkpoint"] = os.fsdecode(b"net\xff.pth")
    found.write(tmp_path)
    assert result.load(tmp_path).provenance["checkpoint"] == found.provenance["checkpoint"]


def test_a_document_that_is_no_text(found, tmp_path):
    found.write(tmp_path)
    (tmp_path / "result.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProbeError, match=r": not a result directory \(.+\); expected result\.json and arrays"):
        result.load(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"junk" * 9])
def test_arrays_missing_or_damaged(found, tmp_path, content):
    found.write(tmp_path)
    (tmp_path / "arrays.safetensors").unlink()
    if content is not None:
        (tmp_path / "arrays.safetensors").write_bytes(content)
    with pytest.raises(ProbeError, match=r": not a result directory \(.+\); expected result\.json and arrays"):
        result.load(tmp_path)


def test_reading_needs_no_torch(found, tmp_path):
    found.write(tmp_path)
    code = "import sys; sys.modules['torch'] = None; from probe.results import result; print(result.load(sys.argv[1]).command)"
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "forget"
