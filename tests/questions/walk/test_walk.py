"""Walks: interpolation against formulas, planted jumps told from smooth paths, nulls, the movie, the command."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import save
from probe.measures.features import Feature, feature
from probe.models.gan import GAN, latents, to_bytes
from probe.questions.walk.run import (
    Segment,
    Settings,
    interpolate,
    path_length,
    speeds,
    statistics,
    walk,
    way,
    write_movie,
)
from probe.results.drawing import draw

PIXELS = feature("pixels", 1)


class Drawn(nn.Module):
    """A generator made of a function of the latent: images of one value."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()


class Moving(Drawn):
    """The same, on top of a picture that moves evenly with all latents."""

    def forward(self, z: Tensor) -> Tensor:
        basis = torch.linalg.qr(torch.randn(64, z.shape[1], generator=torch.Generator().manual_seed(0)))[0]
        return (0.3 * z @ basis.T).unflatten(1, (1, 8, 8)) + super().forward(z)


def gan_of(function, nz: int = 2, kind: type[Drawn] = Drawn) -> GAN:
    return GAN(kind(function).eval(), None, nz, 8, 1, "normal")


def smooth(z: Tensor) -> Tensor:
    return 0.1 * torch.tanh(z.sum(1))


def jumping(z: Tensor) -> Tensor:
    return 0.1 * torch.tanh(z.sum(1)) + 0.2 * torch.sign(z[:, 0])


def steep(z: Tensor) -> Tensor:
    return 0.02 * z.sum(1) + 0.5 * torch.tanh(60 * z[:, 0])


SHORT = Settings(points=4, frames=3, most_steps=1024, pairs=16, interpolation="lerp", seed=1)


def crossings(points: Tensor) -> int:
    signs = torch.sign(points[:, 0])
    return int((signs[1:] != signs[:-1]).sum())


def test_slerp_keeps_the_norm_and_the_circle() -> None:
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    found = interpolate(a, b, t, "slerp")
    expected = [
        [(3 - 2 * u) * math.cos(u * math.pi / 2), (3 - 2 * u) * math.sin(u * math.pi / 2), 0] for u in t.tolist()
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(interpolate(a, b, t, "lerp"), [[3 * (1 - u), u, 0] for u in t.tolist()], atol=1e-6)


@pytest.mark.parametrize("other", [[-2.0, 0.0], [0.0, 0.0], [4.0, 0.0]])
def test_slerp_where_no_circle_is_defined_is_the_line(other: list[float]) -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor(other)
    np.testing.assert_allclose(interpolate(a, b, torch.tensor([0.5]), "slerp"), [(a + b).numpy() / 2], atol=1e-6)


def test_a_planted_jump_is_found_and_counted_and_a_smooth_walk_passes() -> None:
    for function, jumps in ((smooth, 0), (jumping, crossings(latents(4, 8, 1, "normal")))):
        m = walk(gan_of(function, 8, Moving), PIXELS, SHORT).metrics
        assert m["sharp_transitions"] == jumps
        assert m["resolved"] == (jumps == 0)
    assert jumps >= 1
    assert m["order"] < 0.1
    assert m["max_over_median"] > 10


def test_a_steep_transition_is_resolved_by_refinement_and_still_called_sharp() -> None:
    m = walk(gan_of(steep), PIXELS, SHORT).metrics
    assert m["resolved"]
    assert m["order"] > 0.9
    assert m["sharp_transitions"] == crossings(latents(4, 2, 1, "normal"))
    assert max(s["steps"] for s in m["segments"]) > 2 * SHORT.coarsest


def test_a_generator_that_does_not_move_has_plateaus_and_no_jump(tmp_path: Path) -> None:
    result = walk(gan_of(lambda z: z[:, 0] * 0), PIXELS, SHORT)
    m = result.metrics
    assert (m["max_over_median"], m["plateau_share"], m["sharp_transitions"], m["resolved"]) == (0, 1, 0, True)
    draw(result, tmp_path)


def test_a_step_function_has_plateaus_and_its_figure_is_drawn(tmp_path: Path) -> None:
    result = walk(gan_of(lambda z: torch.sign(z[:, 0])), PIXELS, SHORT)
    m = result.metrics
    assert m["plateau_share"] > 0.95
    assert m["sharp_transitions"] == crossings(latents(4, 2, 1, "normal"))
    assert math.isinf(m["max_over_median"])
    assert result.document()["metrics"]["max_over_median"] is None
    draw(result, tmp_path)


def test_statistics_by_hand() -> None:
    coarse, fine = np.array([1.0, 1.0]), np.array([0.1, 0.1, 0.1, 3.7])
    segments = [Segment(coarse, [(1, 2.0), (2, 1.0)]), Segment(fine, [(2, 3.8), (4, 3.7)])]
    relative = speeds(segments)  # speeds 2, 2 | 0.4, 0.4, 0.4, 14.8; weighted median of 2 2 2 2 .4 .4 .4 14.8 is 2
    np.testing.assert_allclose(np.concatenate(relative), [1, 1, 0.2, 0.2, 0.2, 7.4])
    m = statistics(segments)
    assert m["max_over_median"] == pytest.approx(7.4)
    assert m["order"] == pytest.approx(math.log2(3.8 / 3.7))
    assert (m["resolved"], m["sharp_transitions"], m["plateau_share"]) == (False, 1, 0.0)


def test_path_length_of_a_linear_generator_is_its_squared_slope() -> None:
    linear = gan_of(lambda z: 0.1 * z[:, 0])
    found = path_length(linear, PIXELS, "lerp", 400, 0)
    z = linear.latents(800, 1)
    expected = ((z[1::2, 0] - z[::2, 0]) * 0.1 / 2).square().mul(64)  # |Δ| of 64 pixels in [0, 1] units
    assert found["ppl"] == pytest.approx(float(expected.mean()), rel=0.01)
    assert found["ppl_trimmed"] < found["ppl"]
    assert found["ppl_ci"][0] < found["ppl"] < found["ppl_ci"][1]


def test_nulls_give_a_p_value_from_nineteen_on(tiny_gan: GAN) -> None:
    settings = Settings(points=2, frames=1, most_steps=16, pairs=2, interpolation="lerp")
    nulls = [gan_of(lambda z, k=k: torch.tanh(z.sum(1) * (1 + 0.05 * k))) for k in range(19)]
    assert walk(gan_of(steep), PIXELS, settings, nulls[:18]).metrics["p_value"] is None
    found = walk(gan_of(steep), PIXELS, settings, nulls)
    assert found.metrics["p_value"] == pytest.approx(
        (1 + (found.arrays["null"] >= found.metrics["max_over_median"]).sum()) / 20
    )
    with pytest.raises(ProbeError, match=r"nz 8, 3x32x32; expected nz 2, 1x8x8"):
        walk(gan_of(smooth), PIXELS, settings, [tiny_gan])
    for given in ([tiny_gan], [nulls[0], tiny_gan, tiny_gan]):
        with pytest.raises(ProbeError, match=r"given twice; a null is another training"):
            walk(tiny_gan, PIXELS, settings, given)


def test_images_are_the_generators_own_and_row_ends_meet(tiny_gan: GAN) -> None:
    settings = Settings(points=3, frames=2, most_steps=24, pairs=2, loop=True)
    result = walk(tiny_gan, feature("random-conv", 3), settings)
    images = result.arrays["images"]
    assert images.shape == (3, 4, 3, 32, 32)
    exact = to_bytes(tiny_gan.sample(3)).numpy().astype(int)
    assert np.abs(images[:, 0].astype(int) - exact).max() <= 1
    assert np.abs(images[:, -1].astype(int) - exact[[1, 2, 0]]).max() <= 1
    assert result.metrics["points"] == 3
    assert result.metrics["interpolation"] == "slerp"
    assert result.metrics["random_weights"]["generators"] == 3


def test_between_takes_the_first_latents_of_two_seeds(tiny_gan: GAN) -> None:
    points, _ = way(tiny_gan, Settings(between=(4, 9)))
    assert torch.equal(points, torch.cat([tiny_gan.latents(1, 4), tiny_gan.latents(1, 9)]))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"points": 1}, "points 1: a walk needs at least 2"),
        ({"between": (3, 3)}, "between 3 3: the same latent"),
        ({"interpolation": "cubic"}, "interpolation cubic: expected auto, lerp or slerp"),
        ({"most_steps": 10}, "most_steps 10: expected"),
    ],
)
def test_impossible_settings(wrong: dict, match: str) -> None:
    with pytest.raises(ProbeError, match=match):
        Settings(**wrong)


def test_features(tiny_gan: GAN) -> None:
    x = tiny_gan.sample(3)
    rows = feature("random-conv", 3)(x)
    assert torch.equal(rows, feature("random-conv", 3)(x))
    assert rows.shape[0] == 3
    np.testing.assert_allclose(feature("pixels", 3)(x), (x.flatten(1) + 1) / 2, atol=1e-6)
    with pytest.raises(ProbeError, match="`feature` vgg: expected pixels, random-conv or"):
        feature("vgg", 3)
    with pytest.raises(ProbeError, match="expected finite numbers, 3 rows"):
        Feature("sum", lambda images: images.sum())(x)


def test_movie_frames_are_the_walk(tiny_gan: GAN, tmp_path: Path) -> None:
    settings = Settings(points=3, frames=1)
    write_movie(tiny_gan, settings, tmp_path / "w.gif", frames=5)
    with Image.open(tmp_path / "w.gif") as movie:
        assert movie.size == (192, 192)
        assert movie.n_frames == 11
        first = np.asarray(movie.convert("RGB").resize((32, 32), Image.Resampling.NEAREST)).astype(int)
    exact = to_bytes(tiny_gan.sample(1))[0].numpy().transpose(1, 2, 0).astype(int)
    assert np.abs(first - exact).mean() < 12  # a GIF has 256 colours


def test_command(
    tiny_gan: GAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tiny_gan, tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from torch import nn\ndef pool():\n    return nn.AvgPool2d(4)\n")

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", "walk", "--ckpt", "tiny.safetensors", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    short = ("--points", "2", "--frames", "1", "--most-steps", "16")
    code, out, _ = run(*short, "--movie", "--feature", "mine:pool", "--json", "--out", "o")
    assert code == 0
    names = {
        "points",
        "frames",
        "max_over_median",
        "plateau_share",
        "order",
        "resolved",
        "sharp_transitions",
        "p_value",
    }
    assert names <= set(json.loads(out))
    assert json.loads(out)["feature"] == "mine:pool"
    assert Path("o/walk.gif").exists()
    assert Path("o/figure.png").exists()
    for words, text in (
        (("--points", "1"), "--points 1: expected 2 to 100"),
        (("--feature", "vgg"), "--feature vgg: expected"),
        (("--feature", "mine:nothing"), "feature mine:nothing: AttributeError"),
        (("--between", "2", "2"), "the same latent twice"),
    ):
        code, _, err = run(*words, "--out", "p")
        assert (code, err.count("\n")) == (2, 1)
        assert text in err
        assert not Path("p").exists()
