"""Ablation: the numbers against hooks and NumPy, regions, the control, the command and its refusals."""

from __future__ import annotations

import json
import sys
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import probe
from probe import cli
from probe.base.errors import ProbeError
from probe.base.parameters import numbers
from probe.checkpoints import load, save
from probe.concepts import segmenters
from probe.models.gan import GAN, to_bytes
from probe.models.hooks import cover, edit, within
from probe.questions.ablate.figure import numbers as written
from probe.questions.ablate.region import region
from probe.questions.ablate.run import Settings, effect, other_sets, scaling
from probe.results.drawing import draw

# ---- what people write


def test_numbers() -> None:
    assert numbers("3,7,12", "units") == (3, 7, 12)
    assert numbers(" 5 - 7 ,3, 6,3", "units") == (5, 6, 7, 3)


@pytest.mark.parametrize("text", ["", "3,", "a", "-1", "1.5", "3 4", "9-7", "0-999999999", "1;2", "٣x"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(ProbeError, match=r"^`units` "):
        numbers(text, "units")


def test_numbers_as_a_caption_writes_them() -> None:
    assert written([7, 3, 4, 5, 20]) == "3–5, 7, 20"
    assert written(list(range(0, 40, 2)), 3) == "0, 2, 4, …"


def test_a_box_counts_pixels_by_their_share() -> None:
    found = region("1,0.5,3.25,2", 4)
    expected = torch.outer(torch.tensor([0.5, 1, 0, 0]), torch.tensor([0, 1, 1, 0.25]))
    torch.testing.assert_close(found, expected)
    assert found.sum() == pytest.approx(2.25 * 1.5)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:, :4] = 255
    Image.fromarray(pixels).save(tmp_path / "left.png")
    torch.testing.assert_close(region(str(tmp_path / "left.png"), 4), torch.tensor([1.0, 1, 0, 0]).expand(4, 4))
    rgb = np.stack([pixels] * 3, 2)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    torch.testing.assert_close(region(str(tmp_path / "rgb.png"), 8), torch.from_numpy(pixels / 255).float())


def test_cover_is_the_share_of_each_cell() -> None:
    torch.testing.assert_close(cover(region("0,0,24,8", 64), 4)[0], torch.tensor([0.5, 0.25, 0, 0]))
    assert cover(region("1,2,24,9", 28), 7).sum() * 16 == pytest.approx(23 * 7, rel=1e-5)


def test_within_edits_by_the_share(tiny_gan: GAN) -> None:
    x, cells = torch.rand(2, 3, 4, 4), torch.rand(4, 4)
    expected = x * (1 - cells) + 2 * x * cells
    torch.testing.assert_close(within(lambda x: 2 * x, cells)(x), expected)
    with pytest.raises(ProbeError, match=r"region of \(4, 4\) cells on feature maps of \(8, 8\); use cover"):
        within(lambda x: x, cells)(torch.rand(1, 3, 8, 8))


# ---- the numbers


def by_hand(gan: GAN, z: torch.Tensor, units: list[int], factor: float, cells: torch.Tensor | None) -> torch.Tensor:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        for u in units:
            x[:, u] *= factor if cells is None else 1 - cells + factor * cells
        return x

    with edit(gan.generator, {"layer2": change}):
        return gan.images(z)


@pytest.mark.parametrize("where", [None, "4,4,20,18"])
@pytest.mark.parametrize("factor", [0.0, -1.5])
def test_effect_against_hooks_and_numpy(tiny_gan: GAN, where: str | None, factor: float) -> None:
    place = None if where is None else region(where, 32)
    cells = None if place is None else cover(place, 8)
    settings = Settings(layer="8x8", units=(1, 4), scale=factor, indices=(5, 2), latents=10, draws=9, seed=3)
    result = effect(tiny_gan, settings, place)
    z = tiny_gan.latents(10, 3000 + 7_000_003)
    change = (by_hand(tiny_gan, z, [1, 4], factor, cells) - tiny_gan.images(z)).abs().mean(1) / 2
    assert result.metrics["change"] == pytest.approx(change.mean().item(), rel=1e-5)
    low, high = result.metrics["change_ci"]
    assert low < result.metrics["change"] < high
    if place is None:
        assert result.metrics["inside"] is result.metrics["outside_ci"] is None
    else:
        inside = (place > 0.5).expand(10, -1, -1)
        assert result.metrics["inside"] == pytest.approx(change[inside].mean().item(), rel=1e-5)
        assert result.metrics["outside"] == pytest.approx(change[~inside].mean().item(), rel=1e-5)
        assert result.metrics["inside"] > result.metrics["outside"]
    shown = tiny_gan.latents(6, 3)[[5, 2]]
    assert np.array_equal(result.arrays["before"], to_bytes(tiny_gan.images(shown)).numpy())
    after = to_bytes(by_hand(tiny_gan, shown, [1, 4], factor, cells)).numpy().astype(int)
    assert np.abs(result.arrays["after"] - after).max() <= 1
    sets = other_sets((1, 4), 8, 9, 3)
    by_set = [(by_hand(tiny_gan, z, list(s), factor, cells) - tiny_gan.images(z)).abs().mean() / 2 for s in sets]
    np.testing.assert_allclose(result.arrays["random_change"], by_set, rtol=1e-5)
    assert result.metrics["p_value"] is None  # nine sets are too few for one


def test_other_sets_are_distinct_and_of_other_maps() -> None:
    sets = other_sets((1, 4, 4), 12, 40, 0)
    assert len({tuple(s) for s in sets}) == 40
    assert all(len(s) == 2 and not {1, 4} & set(s.tolist()) for s in sets)
    assert len(other_sets((0,), 6, 50, 0)) == 5
    assert len(other_sets((0, 1), 6, 50, 0)) == comb(4, 2)
    assert other_sets((0, 1, 2, 3), 6, 50, 0) == []


def test_every_map_has_no_control(tiny_gan: GAN, tmp_path: Path) -> None:
    result = effect(tiny_gan, Settings(layer="layer3", units=(0, 1, 2, 3), indices=(0,), latents=8, draws=5))
    assert result.metrics["random"] == {"draws": 0, "change_mean": None, "change_p5": None, "change_p95": None}
    assert "no control" in " ".join(result.assumptions)
    assert draw(result, tmp_path)[0].stat().st_size > 5000


def test_a_generator_of_any_kind() -> None:
    g = nn.Sequential(
        nn.Unflatten(1, (6, 1, 1)), nn.ConvTranspose2d(6, 5, 4), nn.ReLU(), nn.ConvTranspose2d(5, 1, 4, 4), nn.Tanh()
    )
    result = effect(
        GAN(g.eval(), None, 6, 16, 1), Settings(layer="4x4", units=(0,), scale=0.5, indices=(0, 1), latents=8, draws=4)
    )
    assert result.metrics["change"] > 0


def test_the_judge_reads_rooms(tmp_path: Path) -> None:
    """Switching a whole layer off leaves no bed; the ratio is of areas summed over images."""
    gan = probe.load("rooms")
    judge = segmenters.load_rooms()["judge"]
    result = effect(gan, Settings(layer="16x16", units=tuple(range(90)), latents=8, draws=2), None, judge)
    z = gan.latents(8, 7_000_003)
    with edit(gan.generator, {"layer3": scaling(np.arange(90), 96, 0.0)}):
        after = gan.images(z)
    k = judge.objects.index("bed")
    areas = [(judge.labels(x) == k).sum().item() for x in (gan.images(z), after)]
    bed = result.metrics["objects"]["bed"]
    assert bed["area_before"] == pytest.approx(areas[0] / (8 * 64 * 64))
    assert bed["ratio"] == pytest.approx(areas[1] / areas[0])
    assert set(result.metrics["objects"]) == set(judge.objects) - {"background"}
    assert draw(result, tmp_path, ["png", "pdf", "svg"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": ()}, "units: none given"),
        ({"units": (0, 8)}, r"^units: layer2 has maps 0 to 7; there is no map 8$"),
        ({"layer": "9x9"}, "^layer 9x9: the generator has no such layer"),
        ({"scale": float("nan")}, "^scale nan: expected a number from"),
        ({"indices": ()}, "indices: none given"),
        ({"latents": 2}, "latents 2"),
    ],
)
def test_settings_that_do_not_fit(tiny_gan: GAN, changes: dict, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        effect(tiny_gan, Settings(**{"layer": "layer2", "units": (0,)} | changes))


# ---- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_gan: GAN):
    """Run the command in a folder that holds tiny.safetensors; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    save(tiny_gan, tmp_path / "tiny.safetensors")

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


ABLATE = ("ablate", "--ckpt", "tiny.safetensors", "--draws", 20)


def test_ablate_writes_a_result_and_a_checkpoint(run, tiny_gan: GAN) -> None:
    code, out, err = run(
        *ABLATE, "--layer", "8x8", "--units", "0-2", "--indices", "0,3", "--save", "new.pth", "--out", "o"
    )
    assert (code, err) == (0, "new.pth: does not hold the prior: open it with --prior normal\n")
    assert "checkpoint: new.pth\n" in out
    document = json.loads(Path("o/result.json").read_text())
    assert document["metrics"]["units"] == [0, 1, 2]
    assert document["metrics"]["random"]["draws"] == 10  # all sets of 3 of the 5 other maps
    assert document["settings"]["indices"] == [0, 3]
    z = tiny_gan.latents(4, 1)
    with edit(tiny_gan.generator, {"layer2": scaling(np.arange(3), 8, 0.0)}):
        expected = tiny_gan.images(z)
    torch.testing.assert_close(load("new.pth").images(z), expected, atol=1e-5, rtol=0)


def test_ablate_in_a_region_as_json(run) -> None:
    code, out, err = run(*ABLATE, "--layer", 2, "--units", "0,1", "--where", "0,0,16,32", "--indices", 1, "--json")
    assert (code, err) == (0, "")
    metrics = json.loads(out)
    assert metrics["inside"] > metrics["outside"]
    assert json.loads(Path("out/ablate/result.json").read_text())["settings"]["where"] == "0,0,16,32"


BAD = {
    "layer": (["--layer", "9", "--units", "0"], "layer 9: the generator has no such layer; it has layer1"),
    "unit": (["--layer", "layer2", "--units", "3,8"], "units: layer2 has maps 0 to 7; there is no map 8"),
    "list": (["--layer", "layer2", "--units", "3;8"], "--units '3;8': expected numbers and ranges"),
    "backwards": (["--layer", "layer2", "--units", "8-3"], "8-3 runs backwards"),
    "samples": (["--layer", "layer2", "--units", "3", "--indices", "all"], "--indices 'all': expected numbers"),
    "scale": (["--layer", "layer2", "--units", "3", "--scale", "nan"], "--scale nan: expected a finite number"),
    "box": (["--layer", "layer2", "--units", "3", "--where", "20,4,40,9"], "no box within images of 32x32"),
    "empty box": (
        ["--layer", "layer2", "--units", "3", "--where", "20,4,20,9"],
        "an empty box; expected x0,y0,x1,y1 with x0 < x1",
    ),
    "no box": (["--layer", "layer2", "--units", "3", "--where", "1.2.3,4,20,9"], "expected a box x0,y0,x1,y1"),
    "no mask": (
        ["--layer", "layer2", "--units", "3", "--where", "none.png"],
        "neither a box x0,y0,x1,y1 in pixels nor a file",
    ),
    "text mask": (
        ["--layer", "layer2", "--units", "3", "--where", "text.png"],
        "text.png: not an image that can be read",
    ),
    "wide mask": (
        ["--layer", "layer2", "--units", "3", "--where", "wide.png"],
        "the mask is 8x4; the images are square, 32x32",
    ),
    "large mask": (
        ["--layer", "layer2", "--units", "3", "--where", "large.png"],
        "large.png: not an image that can be read",
    ),
    "black mask": (["--layer", "layer2", "--units", "3", "--where", "black.png"], "black throughout"),
    "save a region": (
        ["--layer", "layer2", "--units", "3", "--where", "0,0,9,9", "--save", "x.pth"],
        "a convolution's weights are the same at every place",
    ),
    "save a negative": (
        ["--layer", "layer2", "--units", "3", "--scale", "-1", "--save", "x.pth"],
        "factor -1 is negative",
    ),
    "save without a name": (
        ["--layer", "layer2", "--units", "3", "--save", ""],
        "--save .: is no file; expected a file's name",
    ),
    "save to nowhere": (["--layer", "layer2", "--units", "3", "--save", "text.png/x.pth"], "cannot write there"),
    "format": (["--layer", "layer2", "--units", "3", "--format", "bmp"], "expected png, pdf or svg"),
    "no units": (["--layer", "layer2"], "--units"),
}


@pytest.mark.parametrize("case", BAD)
def test_ablate_refuses_in_one_line(run, case: str) -> None:
    Path("text.png").write_text("a mask, honest")
    Image.new("L", (8, 4), 255).save("wide.png")
    Image.new("L", (8, 8)).save("black.png")
    Image.new("1", (10_000, 10_000)).save("large.png")
    words, message = BAD[case]
    code, out, err = run(*ABLATE, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("probe: ")
    assert err.count("\n") == 1
    assert not Path("out").exists()
    assert not Path("x.pth").exists()
