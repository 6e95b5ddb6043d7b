"""Drawing: from results on disk, without torch, with the provenance inside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.base.errors import ProbeError
from probe.plots.common import tile
from probe.results.drawing import draw
from probe.results.result import Result


def forgetting_result() -> Result:
    rng = np.random.default_rng(0)
    method = {
        "layers": ["layer2"],
        "strength": 1.0,
        "maps_dropped": 3,
        "removal": 0.9,
        "removal_ci": [0.85, 0.94],
        "collateral": 0.02,
        "collateral_ci": [0.018, 0.022],
        "inside": 0.2,
        "concept_free_change": 0.01,
        "p_value": 0.005,
        "random": {"removal_mean": 0.1, "removal_p95": 0.2, "collateral": 0.02, "draws": 9},
    }
    arrays = {name: rng.integers(0, 255, (12, 3, 64, 64), dtype=np.uint8) for name in ("before", "paper", "patch")}
    for name in ("paper", "patch"):
        arrays[f"{name}_curve"] = np.array(
            [[0.5, 0.5, 0.01, 0.4, 0.6, 0.008, 0.012], [1, 0.9, 0.02, 0.8, 0.95, 0.018, 0.022]]
        )
        arrays[f"{name}_matched"] = arrays[name]
        arrays[f"{name}_random"] = rng.random((9, 2)) * 0.03
    metrics = {
        "concept": "window",
        "judge_iou": 0.95,
        "matched_collateral": 0.025,
        "methods": {"paper": method, "patch": method | {"maps_dropped": 0}},
    }
    return Result("forget", metrics, provenance={"checkpoint": "x.pth", "seed": 7}, arrays=arrays)


def test_tile_places_images_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), dtype=np.uint8)
    picture = tile(images, columns=3, gap=2)
    assert picture.shape == (4 + 2 + 4, 3 * 4 + 2 * 2, 3)
    assert (picture[:4, 6:10] == 1).all()
    assert (picture[6:, 6:10] == 4).all()
    assert (picture[6:, 12:] == 255).all()


def test_colour_channels_are_not_swapped() -> None:
    red = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    red[:, 0] = 200
    assert (tile(red, 1)[0, 0] == [200, 0, 0]).all()
    half = np.concatenate([red, np.full((1, 1, *red.shape[2:]), 51, np.uint8)], 1)  # a fifth opaque, over white
    assert (tile(half, 1)[0, 0] == [244, 204, 204]).all()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_provenance_is_inside(tmp_path: Path, kind: str) -> None:
    (path,) = draw(forgetting_result(), tmp_path, [kind])
    if kind == "png":
        assert json.loads(Image.open(path).text["probe"])["seed"] == 7
    else:
        assert b"x.pth" in path.read_bytes()


def test_figure_shows_the_images_unscaled_in_value(tmp_path: Path) -> None:
    """A mid-grey before-row stays mid-grey: nothing is stretched to the batch's own minimum and maximum."""
    result = forgetting_result()
    result.arrays["before"][:] = 128
    draw(result, tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
    row = pixels[pixels.shape[0] // 40, pixels.shape[1] // 2 :]
    assert (np.abs(row.astype(int) - 128).max(1) <= 1).mean() > 0.7


def test_drawing_needs_no_torch(tmp_path: Path) -> None:
    forgetting_result().write(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from probe.results.result import load; from probe.results.drawing import draw\n"
        f"p = Path({str(tmp_path)!r}); draw(load(p), p, ['png'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_same_result_same_picture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw(forgetting_result(), tmp_path / name, ["png", "pdf", "svg"])
    for kind in ("png", "pdf", "svg"):
        assert (tmp_path / "a" / f"figure.{kind}").read_bytes() == (tmp_path / "b" / f"figure.{kind}").read_bytes()


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="format bmp: expected png, pdf, svg"):
        draw(forgetting_result(), tmp_path, ["bmp"])
