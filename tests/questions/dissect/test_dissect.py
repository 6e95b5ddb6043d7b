"""Dissection: scores against units.py and loops written out here, the shuffled control, tables, the command."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import save
from probe.concepts import units
from probe.concepts.labels import Boxes, categories
from probe.models.gan import GAN
from probe.models.hooks import capture
from probe.questions.dissect.run import Material, Settings, cells, dissect, from_boxes
from probe.questions.dissect.tables import escape, write_csv, write_latex
from probe.results.drawing import draw
from probe.results.result import Result

N = 12


def feature_maps(gan: GAN, z: Tensor) -> Tensor:
    with capture(gan.generator, ["layer2"]) as seen:
        gan.images(z)
    return seen["layer2"]


@pytest.fixture
def material(tiny_gan: GAN) -> Material:
    """`known` is where unit 3 is most active, with some pixels flipped; `chance` has nothing to do with any unit."""
    z, g = tiny_gan.latents(N, 5), torch.Generator().manual_seed(0)
    large = F.interpolate(feature_maps(tiny_gan, z)[:, 3:4], size=(32, 32), mode="bilinear")[:, 0]
    known = (large > large.flatten().quantile(0.92)) ^ (torch.rand(N, 32, 32, generator=g) < 0.01)
    return Material(z, {"known": known, "chance": torch.rand(N, 32, 32, generator=g) < 0.1})


@pytest.fixture
def result(tiny_gan: GAN, material: Material) -> Result:
    return dissect(tiny_gan, material, Settings(layer="8x8", top=3, shuffles=60))


def test_scores_equal_those_of_single_units(tiny_gan: GAN, material: Material, result: Result) -> None:
    maps = feature_maps(tiny_gan, material.z)
    for k, masks in enumerate(material.masks.values()):
        iou, threshold = units.unit_ious(maps, masks)
        np.testing.assert_allclose(result.arrays["iou"][:, k], iou, atol=1e-6)
        np.testing.assert_allclose(result.arrays["threshold"][:, k], threshold, atol=1e-6)
        auc = units.unit_aucs(maps, cells(masks, 8))
        np.testing.assert_allclose(result.arrays["auc"][:, k], auc, atol=1e-6)
    assert np.isnan(result.arrays["effect"]).all()


def test_the_control_is_the_best_unit_under_moved_masks(tiny_gan: GAN, material: Material, result: Result) -> None:
    maps, rng = feature_maps(tiny_gan, material.z), np.random.default_rng(0)
    for b in range(3):
        order = torch.from_numpy(rng.permutation(N))
        for k, masks in enumerate(material.masks.values()):
            expected = units.unit_ious(maps, masks[order])[0].max()
            assert result.arrays["random_best"][b, k] == pytest.approx(float(expected), abs=1e-6)


def test_a_unit_that_knows_is_found_and_chance_is_not(result: Result) -> None:
    known, chance = (result.metrics["concepts"][name] for name in ("known", "chance"))
    assert known["units"][0]["unit"] == 3
    assert known["p_value"] == pytest.approx(1 / 61)
    assert known["detectors"] >= 1
    low, high = known["best_iou_ci"]
    assert 0.2 < low < known["best_iou"] < high
    assert chance["p_value"] > 0.05
    assert [len(c["units"]) for c in (known, chance)] == [3, 3]
    assert known["units"][0]["effect"] is known["units"][0]["effect_ci"] is None


def test_cells_of_small_concepts() -> None:
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, :2, :3] = True  # covers one cell of 2x2 px, and half of the next
    masks[1, 5, 5] = True  # a quarter of a cell, the most there is
    expected = torch.zeros(3, 4, 4, dtype=torch.bool)
    expected[0, 0, :2] = expected[1, 2, 2] = True
    assert torch.equal(cells(masks, 4), expected)


def test_shown_images_are_those_that_excite_the_unit_most(tiny_gan: GAN, material: Material, result: Result) -> None:
    maps = feature_maps(tiny_gan, material.z)
    unit, k = result.arrays["shown_units"][0]
    assert (unit, k) == (3, 0)
    order = np.argsort(-maps[:, 3].amax((1, 2)).numpy(), kind="stable")[:5]
    from probe.models.gan import to_bytes

    assert np.array_equal(result.arrays["shown_images"][0], to_bytes(tiny_gan.images(material.z)[order]).numpy())
    large = F.interpolate(maps[order, 3][:, None], size=(32, 32), mode="bilinear")[:, 0]
    active = large > float(result.arrays["threshold"][3, 0])
    assert np.array_equal(result.arrays["shown_active"][0], active.numpy().astype(np.uint8))
    assert np.array_equal(result.arrays["shown_masks"][0], material.masks["known"][order].numpy().astype(np.uint8))


class Counter:
    """A segmenter that sees more of its label the redder a pixel is."""

    objects = ("background", "red")

    def scores(self, images: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(images[:, 0]), images[:, 0]], 1)


def test_effects_are_the_first_order_of_ablation(tiny_gan: GAN, material: Material) -> None:
    segmenter = Counter()
    both = Material(material.z, material.masks, {"known": (segmenter, 1)})  # type: ignore[dict-item]
    result = dissect(tiny_gan, both, Settings(layer="8x8", shuffles=2))
    found = result.arrays["effect"]
    assert np.isnan(found[:, 1]).all()

    def area(factor: float, unit: int) -> float:
        from probe.models.hooks import edit

        gains = torch.ones(8)
        gains[unit] = factor
        with edit(tiny_gan.generator, {"layer2": lambda x: x * gains[:, None, None]}):
            return float(segmenter.scores(tiny_gan.images(material.z).double()).softmax(1)[:, 1].mean())

    for unit in (0, 3, 7):
        slope = (area(1.01, unit) - area(0.99, unit)) / 0.02  # d/df at f = 1 of x -> f·x
        assert found[unit, 0] == pytest.approx(slope, rel=0.02, abs=1e-5)
    row = result.metrics["concepts"]["known"]["units"][0]
    assert row["effect_ci"][0] <= row["effect"] <= row["effect_ci"][1]


def test_boxes_without_a_segmenter_say_so(tiny_gan: GAN) -> None:
    boxes = Boxes("hat", tuple(range(6)), {0: np.array([[2, 2, 20, 12.0]]), 4: np.array([[8, 8, 30, 30.0]])}, 7)
    found = from_boxes(tiny_gan, [boxes])
    assert torch.equal(found.z, tiny_gan.latents(6, 7))
    assert found.masks["hat"].flatten(1).any(1).tolist() == [True, False, False, False, True, False]
    assert "no causal effects" in " ".join(found.assumptions)


def test_tables(result: Result, tmp_path: Path) -> None:
    write_csv(result, tmp_path / "units.csv")
    write_latex(result, tmp_path / "units.tex")
    with (tmp_path / "units.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 2
    assert list(rows[0]) == ["unit", "concept", "iou", "auc", "effect", "threshold"]
    assert (rows[0]["unit"], rows[0]["concept"], rows[0]["effect"]) == ("3", "known", "")
    ious = [float(r["iou"]) for r in rows if r["concept"] == "known"]
    assert ious == sorted(ious, reverse=True)
    tex = (tmp_path / "units.tex").read_text()
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + 2 * 3
    assert all(line.count("&") == 5 for line in body)
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    assert escape("a_b & 5% {x}~\\") == r"a\_b \& 5\% \{x\}\textasciitilde{}\textbackslash{}"


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_figure(result: Result, tmp_path: Path, kind: str) -> None:
    assert draw(result, tmp_path, [kind])[0].stat().st_size > 5000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "9x9"}, "^layer 9x9: the generator has no such layer"),
        ({"top": 0}, "^top 0, shuffles 100: expected at least 1 of each"),
        ({"shuffles": 0}, "^top 8, shuffles 0"),
    ],
)
def test_settings_that_do_not_fit(tiny_gan: GAN, material: Material, settings: dict, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        dissect(tiny_gan, material, Settings(**{"layer": "8x8"} | settings))


def test_no_concept(tiny_gan: GAN) -> None:
    with pytest.raises(ProbeError, match=r"^0 concepts on 4 images; at least 1 on 2 are needed"):
        dissect(tiny_gan, Material(tiny_gan.latents(4), {}), Settings(layer="8x8"))


# ---- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_gan: GAN):
    """Run the command in a folder that holds tiny.safetensors and labels; exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    save(tiny_gan, tmp_path / "tiny.safetensors")
    boxes = [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 4, 12, 8]},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [10, 4, 20, 18]},
        {"id": 3, "image_id": 5, "category_id": 1, "bbox": [1, 1, 9, 8]},
    ]
    document = {
        "info": {"probe": {"seed": 2}},
        "images": [{"id": i, "file_name": f"{i:06d}.png", "width": 32, "height": 32} for i in range(8)],
        "categories": [{"id": 1, "name": "hat"}, {"id": 2, "name": "tie_pin"}, {"id": 3, "name": "never drawn"}],
        "annotations": boxes,
    }
    Path("labels.json").write_text(json.dumps(document))
    Path("empty.json").write_text(json.dumps(document | {"annotations": []}))
    Path("bad.json").write_text(json.dumps(document | {"annotations": [{"id": 1}]}))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_dissect_with_labels(run) -> None:
    code, out, err = run(
        "dissect", "--ckpt", "tiny.safetensors", "--labels", "labels.json", "--layer", "8x8", "--shuffles", 50
    )
    assert (code, err) == (0, "")
    assert "table: out/dissect/units.csv" in out
    names = {p.name for p in Path("out/dissect").iterdir()}
    assert names == {"arrays.safetensors", "result.json", "figure.png", "units.csv", "units.tex"}
    document = json.loads(Path("out/dissect/result.json").read_text())
    assert list(document["metrics"]["concepts"]) == ["hat", "tie_pin"]
    assert document["metrics"]["concepts"]["hat"]["images"] == 2
    assert any("3 boxes" in a or "2 boxes" in a for a in document["assumptions"])
    assert r"tie\_pin" in Path("out/dissect/units.tex").read_text()
    assert categories("labels.json") == ["hat", "tie_pin"]


BAD = {
    "layer": (["--layer", "7", "--labels", "labels.json"], "layer 7: the generator has no such layer"),
    "no labels": (["--layer", "2"], "tiny.safetensors: not trained on rooms, so concepts must be boxed by hand"),
    "causal alone": (["--layer", "2", "--causal"], "--causal fits segmenters to boxes"),
    "no file": (["--layer", "2", "--labels", "none.json"], "none.json: no such labels file"),
    "empty": (["--layer", "2", "--labels", "empty.json"], "empty.json: no boxes in it"),
    "bad": (["--layer", "2", "--labels", "bad.json"], "bad.json: not COCO labels"),
    "other seed": (["--layer", "2", "--labels", "labels.json", "--label-seed", "1"], "labels of samples of seed 2"),
    "few boxes for a segmenter": (
        ["--layer", "2", "--labels", "labels.json", "--causal"],
        "boxes in 2 images; at least 16",
    ),
    "few shuffles": (["--layer", "2", "--labels", "labels.json", "--shuffles", "9"], "--shuffles"),
    "top": (["--layer", "2", "--labels", "labels.json", "--top", "0"], "--top"),
}


@pytest.mark.parametrize("case", BAD)
def test_dissect_refuses_in_one_line(run, case: str) -> None:
    words, message = BAD[case]
    code, out, err = run("dissect", "--ckpt", "tiny.safetensors", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("probe: ")
    assert err.count("\n") == 1
    assert not Path("out").exists()
