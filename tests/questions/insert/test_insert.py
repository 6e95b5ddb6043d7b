"""Insertion on a toy generator whose concept is known by construction, and the command's refusals."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe import cli
from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes, from_masks
from probe.models.gan import GAN
from probe.questions.insert import run as insertion
from probe.questions.insert.placement import Candidate, Donors, Spot, cells, summary
from probe.questions.insert.positions import exemplars, paste, positions, steps
from probe.questions.insert.run import Settings, insert, places
from probe.results.drawing import draw

SIZE, MAPS = 32, 64
WHERE = (12.0, 12.0, 20.0, 20.0)  # where the toy never has a window


class Toy(nn.Module):
    """Map 0 holds a red "window" in one of four corners where z_0 > 0; the others hold restless green and blue paper."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.ReLU(), nn.ReLU()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("paper", torch.randn(MAPS, MAPS, 1, 1, generator=generator).expand(-1, -1, 8, 8))
        mix = torch.randn(3, MAPS, generator=generator) * 0.2
        mix[0] = 0
        mix[0, 0] = 0.4
        self.mix = nn.Parameter(mix)

    def forward(self, z: Tensor) -> Tensor:
        maps = torch.einsum("nk,kchw->nchw", z[:, 4:], self.paper).abs()
        maps[:, 0] = 0
        corner = (z[:, 1] > 0).long() * 2 + (z[:, 2] > 0).long()
        for i in torch.nonzero(z[:, 0] > 0)[:, 0].tolist():
            y, x = 1 + 4 * (corner[i] // 2), 1 + 4 * (corner[i] % 2)
            maps[i, 0, y : y + 2, x : x + 2] = 4.0
        h = self.second(self.first(maps).repeat_interleave(2, 2).repeat_interleave(2, 3))  # (N, 64, 16, 16)
        image = torch.einsum("nchw,dc->ndhw", h, self.mix)
        return torch.tanh(image - 0.8).repeat_interleave(2, 2).repeat_interleave(2, 3)  # (N, 3, 32, 32)


class Segmenter:
    """Sees a window where the red channel is bright."""

    objects = ("background", "window")

    def labels(self, images: Tensor) -> Tensor:
        return (images[:, 0] > 0.2).to(torch.uint8)


@pytest.fixture(scope="module")
def toy() -> GAN:
    return GAN(Toy().eval(), None, nz=4 + MAPS, size=SIZE, channels=3)


@pytest.fixture(scope="module")
def boxes(toy: GAN) -> Boxes:
    return from_masks(Segmenter().labels(toy.sample(80, 3)) == 1, "window", seed=3)


FAST = Settings(
    tuning=24, heldout=48, random_latents=24, draws=39, positions=12, strengths=(0.5, 1.0, 2.0), units=(1 / 64,)
)


@pytest.fixture(scope="module")
def found(toy: GAN, boxes: Boxes):
    return insert(toy, boxes, Segmenter(), Segmenter(), WHERE, FAST, judge_iou=1.0)


def donors(toy: GAN, boxes: Boxes) -> Donors:
    maps = torch.einsum("nk,kchw->nchw", toy.latents(80, 3)[:, 4:], toy.generator.paper).abs()
    return Donors({"first": maps}, boxes, SIZE)


def test_the_planted_concept_is_inserted_where_it_never_is(found) -> None:
    m = found.metrics
    assert m["success"] == 1.0
    assert m["covered"] > 0.95
    assert m["iou"] > 0.95
    assert m["collateral"] < 0.001
    assert m["inside"] > 0.1
    assert m["lacking"] == 1.0
    assert m["latents"] == 48
    assert set(m["methods"]) == {"pattern", "shift", "units"}
    assert {**m["methods"][m["variant"]]}.items() <= m.items()


def test_random_edits_of_as_much_change_do_not_insert_it(found) -> None:
    m = found.metrics
    assert m["p_value"] <= 0.05
    assert m["random"]["success_mean"] < 0.1
    assert m["random"]["inside"] == pytest.approx(m["random"]["method_inside"], rel=0.1)
    assert found.arrays["random"].shape == (39, 3)


def test_the_map_knows_where_the_concept_is_anyway(found) -> None:
    arrays = found.arrays
    assert (arrays["map"] == 1).all()
    assert (arrays["map_pasted"] == 1).all()
    corners = arrays["map_natural"][[1, 1, 3, 3], [1, 3, 1, 3]]
    assert (corners > 0.05).all()
    assert arrays["map_natural"][2].max() < 0.01
    assert arrays["map_x"].tolist() == [0, 6, 12, 18, 24]
    assert found.metrics["by_object"]["background"]["places"] == arrays["map_latents"].sum()


def test_the_input_is_unchanged_and_runs_repeat(toy: GAN, boxes: Boxes, found) -> None:
    before, names = toy.sample(4), {k: v.clone() for k, v in toy.generator.state_dict().items()}
    small = Settings(tuning=16, heldout=16, random_latents=16, draws=2, positions=8, strengths=(1.0,), units=(0.1,))
    one, two = (insert(toy, boxes, Segmenter(), Segmenter(), WHERE, small) for _ in range(2))
    assert torch.equal(toy.sample(4), before)
    assert all(torch.equal(v, names[k]) for k, v in toy.generator.state_dict().items())
    assert one.document() == two.document()
    assert all(np.array_equal(v, two.arrays[k], equal_nan=True) for k, v in one.arrays.items())


def test_the_figure_can_be_drawn(found, tmp_path: Path) -> None:
    (path,) = draw(found, tmp_path)
    assert path.stat().st_size > 10_000


# ---- the edit, against loops


@pytest.mark.parametrize("variant", ["shift", "units"])
def test_edits_against_a_loop(toy: GAN, boxes: Boxes, variant: str) -> None:
    known = donors(toy, boxes)
    present = known.at("first", WHERE, by_place=False)
    x = torch.rand(3, MAPS, 8, 8, generator=torch.Generator().manual_seed(1)) * 2
    units = None if variant == "shift" else 3
    out = present.edit(2.0, units)(x)
    step = 2 * (present.mean1 - present.mean0)[:, 0, 0]
    for c in range(MAPS):
        for i in range(8):
            for j in range(8):
                expected = x[:, c, i, j]
                if 3 <= i < 5 and 3 <= j < 5:  # 12 to 20 px, cells of 4 px
                    if units is None:
                        expected = (expected + step[c]).clamp(min=0)
                    elif c in present.order[:3]:
                        expected = (present.mean0[c, 0, 0] + step[c]).clamp(min=0).expand(3)
                torch.testing.assert_close(out[:, c, i, j], expected)


def test_pattern_reads_every_box_at_its_own_places() -> None:
    """On maps that hold their own coordinates the mean at (u, v) is the mean of the boxes' (u, v)."""
    ramp = (torch.arange(8) + 0.5) * 4  # pixels
    maps = torch.stack([ramp.expand(8, 8), ramp[:, None].expand(8, 8)])[None].repeat(3, 1, 1, 1)
    boxes = Boxes("a", (0, 1, 2), {0: np.array([[4.0, 6, 14, 18]]), 1: np.array([[10.0, 8, 22, 24], [4, 4, 6, 5]])})
    box = (8.0, 12.0, 20.0, 20.0)
    found = Donors({"l": maps}, boxes, 32).at("l", box, by_place=True)
    u, v = (np.array([10, 14, 18]) - 8) / 12, (np.array([14, 18]) - 12) / 8
    x = ((4 + 10 * u) + (10 + 12 * u)) / 2  # the third box is too small to count
    y = ((6 + 12 * v) + (8 + 16 * v)) / 2
    np.testing.assert_allclose(found.mean1[0], np.broadcast_to(x, (2, 3)), atol=1e-4)
    np.testing.assert_allclose(found.mean1[1], np.broadcast_to(y[:, None], (2, 3)), atol=1e-4)
    np.testing.assert_allclose(found.mean0, found.mean1, atol=1e-4)  # the image without it holds the same ramp


def test_without_images_that_lack_it_negatives_come_from_the_same_images(toy: GAN, boxes: Boxes) -> None:
    full = Boxes("window", tuple(boxes.boxes), boxes.boxes, boxes.seed)
    rows = torch.tensor(list(boxes.boxes))
    maps = {"first": donors(toy, boxes).maps["first"][rows]}
    present = Donors(maps, full, SIZE).at("first", WHERE, by_place=True)
    assert present.mean1.shape == (MAPS, 2, 2)
    assert present.mean0.shape == (MAPS, 1, 1)


def test_scores_against_a_loop(toy: GAN, boxes: Boxes) -> None:
    z = toy.latents(6, 9)
    spot = Spot(toy, z, Segmenter(), "window", WHERE, ["first"])
    edits = {"first": lambda x: x + 0.7}
    found = spot.score(edits)
    before, after = spot.images, spot.replay.images(edits)
    for i in range(6):
        change = ((before[i] - after[i]).abs().mean(0) / 2).numpy()
        seen, was = (after[i, 0] > 0.2).numpy(), (before[i, 0] > 0.2).numpy()
        box = np.zeros((32, 32), bool)
        box[12:20, 12:20] = True
        near = np.zeros((32, 32), bool)
        near[10:22, 10:22] = True  # 4 px at 64 px
        assert found["covered"][i] == pytest.approx(seen[box].mean())
        assert found["iou"][i] == pytest.approx((seen & ~was & box).sum() / ((seen & ~was) | box).sum())
        assert found["collateral"][i] == pytest.approx(change[~near].mean(), abs=1e-6)
        assert found["inside"][i] == pytest.approx(change[box].mean(), abs=1e-6)
    assert spot.change(edits, 4) == pytest.approx(found["inside"][:4].mean(), abs=1e-6)


def test_summary_leaves_out_what_has_no_value() -> None:
    found = summary({"covered": np.array([0.5, 0.4]), "collateral": np.array([np.nan, np.nan])})
    assert found["success"] == 0.5
    assert np.isnan(found["collateral"])


def test_shuffled_boxes_keep_their_places(toy: GAN, boxes: Boxes) -> None:
    moved = donors(toy, boxes).shuffled(np.random.default_rng(0)).boxes
    assert len(moved) == len(boxes)
    assert sorted(str(b) for b in moved.boxes.values()) == sorted(str(b) for b in boxes.boxes.values())
    assert set(moved.boxes) != set(boxes.boxes)


# ---- positions


def test_pasting() -> None:
    images = torch.zeros(3, 1, 8, 8)
    crops = [torch.ones(1, 2, 3), torch.full((1, 5, 5), 0.5)]
    out = paste(images, crops, cells((2, 4, 6, 8), 8, 8))
    assert [v.item() for v in out[:, 0, 4:, 2:6].mean((1, 2))] == pytest.approx([1, 0.5, 1])
    assert out.sum().item() == pytest.approx(16 + 8 + 16)
    assert not images.any()


def test_exemplars_are_the_pixels_of_the_larger_boxes() -> None:
    images = torch.arange(2 * 64).float().reshape(2, 1, 8, 8)
    boxes = Boxes("a", (4, 7), {7: np.array([[1.0, 2, 5, 6], [0, 0, 4, 4], [0, 0, 1, 1]])})
    found = exemplars(images, boxes)
    assert len(found) == 2
    assert torch.equal(found[0], images[1, :, 2:6, 1:5])


def test_steps_hold_the_box_itself() -> None:
    assert steps(12, 20, 64).tolist() == [0, 12, 22, 33, 44]
    assert steps(44, 20, 64).tolist() == [0, 11, 22, 33, 44]


def test_positions_with_too_few_latents_are_left_out(toy: GAN, boxes: Boxes) -> None:
    crops = exemplars(toy.sample(80, 3), boxes)
    out, table = positions(
        toy, toy.latents(6, 1), Segmenter(), "window", WHERE, ["first"], lambda _: {}, crops, 6, lambda *_: None
    )
    assert np.isnan(out["map"]).all()
    assert table == {}
    assert (out["map_latents"] <= 6).all()


def test_a_candidate_changes_its_own_layers_only(toy: GAN, boxes: Boxes) -> None:
    first, second = places(toy, None, WHERE)
    assert (first.grid, second.grid) == (16, 8) or (first.grid, second.grid) == (8, 16)
    site = next(s for s in (first, second) if s.name == "first")
    edits = Candidate("units", (site,), 0.1).fitted(donors(toy, boxes), WHERE)(1.0)
    assert set(edits) == {"first"}


# ---- refusals


@pytest.mark.parametrize(
    ("box", "layer", "message"),
    [
        ((20, 4, 40, 12), None, r"^where 20,4,40,12: expected x0,y0,x1,y1 in pixels with 0 <= x0 < x1 <= 32"),
        ((12, 4, 8, 12), None, r"^where 12,4,8,12: expected"),
        ((float("nan"), 4, 8, 12), None, r"^where nan,4,8,12: expected"),
        ((4, 4, 5, 12), None, r"^where 4,4,5,12: smaller than a cell of .*second \(2 px\)"),
        ((4, 4, 7, 7), "8x8", r"^where 4,4,7,7: smaller than a cell of first \(4 px\); enlarge it, or take a `layer`"),
        ((4, 4, 12, 12), "3", r"^layer 3: the generator has no such layer"),
    ],
)
def test_bad_boxes(toy: GAN, boxes: Boxes, box: tuple[float, ...], layer: str | None, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        insert(toy, boxes, Segmenter(), Segmenter(), box, Settings(layer=layer))  # type: ignore[arg-type]


def test_a_small_box_is_tried_where_it_fits(toy: GAN) -> None:
    assert [s.name for s in places(toy, None, (4, 4, 7, 7))] == ["second"]


def test_unknown_concept(toy: GAN, boxes: Boxes) -> None:
    other = Boxes("door", boxes.images, boxes.boxes, boxes.seed)
    with pytest.raises(ProbeError, match=r"^concept door: the segmenters know window$"):
        insert(toy, other, Segmenter(), Segmenter(), WHERE, FAST)


def test_a_concept_that_is_always_there(toy: GAN, boxes: Boxes) -> None:
    class Everywhere(Segmenter):
        def labels(self, images: Tensor) -> Tensor:
            return torch.ones(len(images), SIZE, SIZE, dtype=torch.uint8)

    with pytest.raises(
        ProbeError, match=r"^insert: window: 0 of 96 samples lack it in that box; at least 16 are needed"
    ):
        insert(toy, boxes, Everywhere(), Segmenter(), WHERE, FAST)


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"tuning": 3}, {"bound": 0}, {"bound": float("nan")}, {"strengths": ()}]
)
def test_bad_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ProbeError, match=r"^insert: .*expected"):
        Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--concept", "window", "--where", "12,14,32"], "where 12,14,32: expected four numbers x0,y0,x1,y1"),
        (["--concept", "window", "--where", "a,b,c,d"], "where a,b,c,d: expected four numbers"),
        (["--concept", "window", "--where", "50,14,70,34"], "where 50,14,70,34: expected x0,y0,x1,y1 in pixels"),
        (["--concept", "window", "--where", "12,14,14,16"], "smaller than a cell of layer2 (8 px) and layer3 (4 px)"),
        (["--concept", "cat", "--where", "12,14,32,34"], "concept cat: the built-in segmenters know window, picture"),
        (["--concept", "background", "--where", "12,14,32,34"], "concept background: the built-in segmenters know"),
        (["--concept", "window", "--where", "12,14,32,34", "--bound", "0"], "bound 0: expected a change above 0"),
        (["--concept", "window", "--where", "12,14,32,34", "--labels", "no.json"], "no such labels file"),
    ],
)
def test_the_command_refuses_in_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["probe", "insert", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_windows_in_rooms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"tuning": 32, "heldout": 64, "random_latents": 32, "positions": 16, "strengths": (2.0, 4.0)}
    monkeypatch.setattr(insertion, "Settings", partial(Settings, **few))
    words = ["insert", "--concept", "window", "--where", "12,14,32,34", "--draws", "19", "--json", "--out", "o"]
    monkeypatch.setattr(sys, "argv", ["probe", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    m = json.loads(capsys.readouterr().out)
    assert not stop.value.code
    assert m["success"] >= 0.9
    assert m["collateral"] <= 0.01
    assert m["p_value"] == pytest.approx(1 / 20)
    assert {p.name for p in Path("o").iterdir()} == {"result.json", "arrays.safetensors", "figure.png"}
