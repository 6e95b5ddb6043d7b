"""What changed between results: each verdict on its own, what is no change, and the commands and the plugin around it."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe import cli
from probe.base.errors import ProbeError
from probe.base.plugins import drawer
from probe.checkpoints import save
from probe.models.gan import GAN
from probe.questions.ablate.run import Settings, effect
from probe.questions.sample.run import sample
from probe.results.compare import Comparison, Tolerance, compare_trees, pixels
from probe.results.result import Result

pytest_plugins = ["pytester"]


def made(folder: Path, **changes: object) -> Path:
    """A result of ten images and a rate with its interval, drawn."""
    images = np.random.default_rng(0).integers(0, 255, (10, 3, 16, 16), dtype=np.uint8)
    metrics = {
        "rate": 0.5,
        "rate_ci": [0.4, 0.6],
        "by": {"1": 0.2},
        "by_ci": {"1": [0.1, 0.3]},
        "n": 10,
        "seconds": 1.0,
        "odd": None,
    }
    result = Result(
        "sample", metrics, {"layer": "8x8"}, ["a reading"], {"seed": 0}, {"images": images, "curve": np.ones((4, 2))}
    )
    for name, value in changes.items():
        getattr(result, name).update(value) if isinstance(value, dict) else setattr(result, name, value)
    result.save(folder)
    return folder


def lines(a: Path, b: Path, out: Path) -> dict[str, list[str]]:
    return next(iter(compare_trees(a, b, Tolerance(), out).results.values()))


def test_the_same(tmp_path: Path) -> None:
    found = compare_trees(
        made(tmp_path / "a"), made(tmp_path / "b", metrics={"seconds": 9.0}), Tolerance(), tmp_path / "out"
    )
    assert found.same
    assert found.told() == "1 result compared: same"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "verdict", "line"), [
    ({"settings": {"layer": "4x4"}}, "settings", "layer: 8x8 -> 4x4"),
    ({"settings": {"more": 1}}, "settings", "more: new"),
    ({"assumptions": ["another"]}, "settings", "assumptions[0]: a reading -> another"),
    ({"provenance": {"seed": 1}}, "settings", "model.seed: 0 -> 1"),
    ({"metrics": {"rate": 0.7}}, "metrics", "rate: 0.5 -> 0.7, interval [0.4, 0.6]"),
    ({"metrics": {"by": {"1": 0.4}}}, "metrics", "by.1: 0.2 -> 0.4, interval [0.1, 0.3]"),
    ({"metrics": {"n": 11}}, "metrics", "n: 10 -> 11"),
    ({"metrics": {"odd": 1.0}}, "metrics", "odd: None -> 1.0"),
    ({"arrays": {"curve": np.ones((4, 3))}}, "arrays", "curve: float64 (4, 2) -> float64 (4, 3)"),
    ({"arrays": {"curve": np.full((4, 2), 1.01)}}, "arrays", "curve: 100.00% of 8 values moved, by 0.01 at most"),
    ({"arrays": {"extra": np.ones(1)}}, "arrays", "extra: new"),
])  # fmt: skip
def test_each_verdict_alone(tmp_path: Path, changes: dict[str, object], verdict: str, line: str) -> None:
    found = lines(made(tmp_path / "a"), made(tmp_path / "b", **changes), tmp_path)
    assert {k: v for k, v in found.items() if v} == {verdict: [line]}


def test_within_an_interval_is_noted_and_no_regression(tmp_path: Path) -> None:
    found = compare_trees(made(tmp_path / "a"), made(tmp_path / "b", metrics={"rate": 0.55}), Tolerance(), tmp_path)
    assert found.same
    assert found.results["."]["notes"] == ["rate: 0.5 -> 0.55, interval [0.4, 0.6], within it"]


def test_rounding_of_another_machine_is_no_change(tmp_path: Path) -> None:
    a = made(tmp_path / "a")
    images = np.random.default_rng(0).integers(0, 255, (10, 3, 16, 16), dtype=np.uint8)
    images = np.where(images < 250, images + 2, images).astype(np.uint8)
    b = made(tmp_path / "b", arrays={"images": images, "curve": np.full((4, 2), 1 + 1e-4)})
    assert compare_trees(a, b, Tolerance(), tmp_path).same
    assert not compare_trees(a, b, Tolerance(rtol=1e-6), tmp_path).same


def test_a_drawing_alone(tmp_path: Path) -> None:
    """A word of small print among 300,000 right pixels; shown in red beside the two."""
    a, b = made(tmp_path / "a"), made(tmp_path / "b")
    picture = np.array(Image.open(b / "figure.png").convert("RGB"))
    picture[10:20, 10:40] = 255 - picture[10:20, 10:40]
    Image.fromarray(picture).save(b / "figure.png")
    found = lines(a, b, tmp_path / "out")
    assert [k for k, v in found.items() if v] == ["drawing"]
    shown = np.asarray(Image.open(tmp_path / "out" / "b.png"))
    assert shown.shape == (picture.shape[0], 3 * picture.shape[1], 3)
    red = (shown[:, 2 * picture.shape[1] :] != 255).any(2)
    assert red[10:20, 10:40].mean() > 0.9
    assert red.sum() <= 300


def test_trees(tmp_path: Path) -> None:
    for tree, names in (("old", ("x", "deep/y")), ("new", ("x", "z"))):
        for name in names:
            made(tmp_path / tree / name)
    found = compare_trees(tmp_path / "old", tmp_path / "new", Tolerance(), tmp_path)
    assert (found.missing, found.extra, list(found.results)) == (["deep/y"], ["z"], ["x"])
    assert not found.same
    assert "deep/y: missing in the new results" in found.told()
    assert Comparison(extra=["z"]).same


@pytest.mark.parametrize("case", ["nothing", "newer", "no arrays", "one of each"])
def test_what_cannot_be_compared(tmp_path: Path, case: str) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b")
    if case == "nothing":
        (b / "result.json").unlink()
        message = "no result here or below"
    elif case == "newer":
        (b / "result.json").write_text(json.dumps(json.loads((b / "result.json").read_text()) | {"schema": 3}))
        message = "written by a newer probe"
    elif case == "no arrays":
        (b / "arrays.safetensors").unlink()
        message = "not a result directory"
    else:
        b, message = tmp_path, "one of a kind|two of a kind"
    with pytest.raises(ProbeError, match=message):
        compare_trees(a, b, Tolerance(), tmp_path / "out")


# ---- what a regression in the code looks like


def drawn(gan: GAN, folder: Path, layer: str = "8x8", seed: int = 0) -> Path:
    """Samples and an ablation of the tiny model, from fixed latents."""
    sample([gan], 8, seed).save(folder / "sample")
    settings = Settings(layer=layer, units=(0, 1), scale=0.0, indices=(0, 1, 2), latents=16, draws=5, seed=seed)
    effect(gan, settings, None, None).save(folder / "ablate")
    return folder


def broken(a: Path, b: Path) -> dict[str, list[str]]:
    """What is wrong, as verdicts by result."""
    found = compare_trees(a, b, Tolerance(), a.parent / "out")
    return {
        name: [v for v, said in verdicts.items() if said and v != "notes"]
        for name, verdicts in found.results.items()
        if any(verdicts.values())
    }


def test_a_changed_layer_default_is_caught(tiny_gan: GAN, tmp_path: Path) -> None:
    found = broken(drawn(tiny_gan, tmp_path / "a"), drawn(tiny_gan, tmp_path / "b", layer="16x16"))
    assert list(found) == ["ablate"]
    assert {"settings", "metrics", "arrays"} <= set(found["ablate"])


def test_a_swapped_colour_channel_is_caught(tiny_gan: GAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = drawn(tiny_gan, tmp_path / "a")
    with monkeypatch.context() as patch:  # in what the model's output becomes
        batches = GAN.batches
        patch.setattr(GAN, "batches", lambda self, *args: (x.flip(1) for x in batches(self, *args)))
        assert broken(a, drawn(tiny_gan, tmp_path / "b")).items() >= {"sample": ["arrays"]}.items()
    module = drawer("sample").__globals__  # and in how it is drawn
    monkeypatch.setitem(module, "tile", lambda images, columns, tile=module["tile"]: tile(images[:, ::-1], columns))
    assert broken(a, drawn(tiny_gan, tmp_path / "c")) == {"sample": ["drawing"]}


def test_a_broken_seed_is_caught(tiny_gan: GAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = drawn(tiny_gan, tmp_path / "a")
    latents = GAN.latents
    monkeypatch.setattr(GAN, "latents", lambda self, n, seed, *rest: latents(self, n, seed + 1, *rest))
    found = broken(a, drawn(tiny_gan, tmp_path / "b"))
    assert "arrays" in found["sample"]
    assert "arrays" in found["ablate"]


def test_a_mislabelled_axis_is_caught_and_only_there(
    tiny_gan: GAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes
    from matplotlib.testing.compare import calculate_rms

    a = drawn(tiny_gan, tmp_path / "a")
    label = Axes.set_xlabel
    monkeypatch.setattr(
        Axes, "set_xlabel", lambda self, text, *args, **how: label(self, text.replace("0–1", "0–7"), *args, **how)
    )
    b = drawn(tiny_gan, tmp_path / "b")
    assert broken(a, b) == {"ablate": ["drawing"]}
    pictures = [np.asarray(Image.open(folder / "ablate" / "figure.png").convert("RGB")) for folder in (a, b)]
    assert calculate_rms(*pictures) < 2  # pytest-mpl's tolerance: over the whole page a digit is lost


def test_another_thread_count_is_no_change(tiny_gan: GAN, tmp_path: Path) -> None:
    a, before = drawn(tiny_gan, tmp_path / "a"), torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        assert broken(a, drawn(tiny_gan, tmp_path / "b")) == {}
    finally:
        torch.set_num_threads(before)


# ---- the commands


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return call


def test_compare_exits_1_on_a_regression(run, tmp_path: Path) -> None:
    made(tmp_path / "a"), made(tmp_path / "b", metrics={"rate": 0.504})
    assert run("compare", "a", "a")[:2] == (0, "1 result compared: same\n")
    code, out, _ = run("compare", "a", "b", "--json")
    assert (code, json.loads(out)["same"]) == (0, True)
    assert run("compare", "b", made(tmp_path / "c", metrics={"rate": 0.9}))[0] == 1
    code, out, err = run("compare", "a", "nowhere")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_rerun_repeats_and_compares(run, tiny_gan: GAN, tmp_path: Path) -> None:
    save(tiny_gan, tmp_path / "there" / "tiny.safetensors")
    assert run("sample", "--ckpt", "there/tiny.safetensors", "-n", 5, "--seed", 3, "--out", "o")[0] == 0
    code, out, err = run("rerun", "o")
    assert (code, out) == (2, "")
    assert "tiny.safetensors: no such file" in err.splitlines()[-1]
    assert "pass the files again" in err.splitlines()[-1]
    code, out, err = run("rerun", "o", "--ckpt", "there/tiny.safetensors", "--out", "again")
    assert (code, out) == (0, "1 result compared: same\n")
    assert Path("again/figure.png").exists()
    code, out, _ = run("rerun", "o", "--ckpt", "there/tiny.safetensors", "--seed", 4)
    assert code == 1
    assert "settings: seed: 3 -> 4" in out
    assert run("rerun", "o", "--out", "o")[0] == 2


# ---- the plugin

SUITE = """
import numpy as np
from probe.results.result import Result

def test_samples(probe_figure):
    images = np.full((2, 3, 8, 8), {level}, dtype=np.uint8)
    probe_figure(Result("sample", {{"images": 2}}, {{"n": 2}}, arrays={{"images": images}}))
"""


def test_plugin(pytester: pytest.Pytester) -> None:
    def suite(level: int, *options: str) -> pytest.RunResult:
        pytester.makepyfile(SUITE.format(level=level))
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    suite(90).assert_outcomes(passed=1)  # drawn, compared with nothing
    suite(90, "--probe-figures=kept").assert_outcomes(failed=1)
    suite(90, "--probe-figures=kept", "--probe-figures-update").assert_outcomes(passed=1)
    assert (pytester.path / "kept" / "test_samples" / "result.json").exists()
    suite(91, "--probe-figures=kept").assert_outcomes(passed=1)
    changed = suite(120, "--probe-figures=kept")
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(
        ["*arrays: images: 100.00% of 384 values moved, by 30 at most*", "*drawing*grey levels*"]
    )
    suite(90, "--probe-figures-update").assert_outcomes(errors=1)


def test_plugin_costs_others_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy():
            assert not {"torch", "matplotlib", "numpy", "probe.results.result"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_results_are_left_as_they_were(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", settings={"layer": "4x4"})
    kept = tmp_path / "kept"
    shutil.copytree(a, kept)
    compare_trees(a, b, replace(Tolerance(), rms=0), tmp_path / "out")
    assert all((a / p.name).read_bytes() == p.read_bytes() for p in kept.iterdir())


@pytest.mark.parametrize("off", [-1.0, math.nan, math.inf])
def test_tolerances_that_tell_nothing(off: float) -> None:
    for name in ("rtol", "atol"):
        with pytest.raises(ProbeError, match=f"{name} {off}.*: expected finite numbers of at least 0"):
            Tolerance(**{name: off})


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_too_large_to_be_a_drawing(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "figure.png")
    with pytest.raises(ProbeError, match=r"figure\.png: not a picture \(Image size .*\); draw it again"):
        pixels(tmp_path / "figure.png")
