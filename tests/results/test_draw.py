"""Figures at the widths and in the styles of papers and talks, their captions, and where they come from."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from probe.base.errors import ProbeError
from probe.base.plugins import drawer
from probe.plots.common import OKABE_ITO, tile
from probe.plots.style import WIDTHS, Look, extent, finish, inches
from probe.results.captions import captions, escape
from probe.results.drawing import draw
from probe.results.provenance import read, repeated, told
from probe.results.result import Result, load

COMMITTED = Path(__file__).parents[2] / "figures"
KINDS = {  # one of each command
    "faces_glasses", "ablate_rooms", "dissect_rooms", "insert_rooms", "fig5_guided_backprop", "glasses_study", "fig7_arithmetic",
    "fig8_turn_camera", "fig8_methods_window", "faces_repeats", "fig4_walk", "memorization_dcgan_50", "memorization_validation", "fig3_samples",
    "table1_cifar10_small", "dedup_cifar10", "evaluate_rooms",
}  # fmt: skip


def samples() -> Result:
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 16, 16), dtype=np.uint8)
    settings = {"n": 4, "layer": None, "steps": [0.5, 1.0], "of": {"rate_%": 1e-5, "on": True}}
    about = {
        "checkpoint": "net_G.pth",
        "seed": 3,
        "command": "probe sample --ckpt net_G.pth -n 4",
        "versions": {"probe": "1"},
    }
    return Result("sample", {"images": 4}, settings, ["where x_1 ≥ 5 % & y"], about, {"images": images})


@pytest.fixture(scope="module")
def committed() -> dict[str, Result]:
    return {name: load(COMMITTED / name) for name in KINDS}


def texts(figure: Figure) -> list[tuple[Text, object]]:
    """What is written on a page, with its place in pixels."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    hidden = set()
    for axes in figure.axes:  # ticks out of view have labels too, which are not drawn
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            hidden |= {t.label1 for t in ticks if not (axes.axison and low - 1e-9 <= t.get_loc() <= high + 1e-9)}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    boxes = [(t, t.get_window_extent(canvas.get_renderer())) for t in found]
    return [(t, b) for t, b in boxes if b.width > 1]


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(Look("paper", 3.25), id="column"),
        pytest.param(Look("paper", 5.5), id="page", marks=pytest.mark.slow),
        pytest.param(Look("talk"), id="talk", marks=pytest.mark.slow),
    ],
)
def test_text_is_legible_whole_and_apart(committed: dict[str, Result], look: Look) -> None:
    """Each command's figure at a column's width: letters of 5 points, none beyond the page or over one another."""
    for name, result in committed.items():
        with look.context(result.command):
            figure = drawer(result.command)(result)
            finish(figure, look, result.command)
            figure.set_dpi(100)
            found, part = texts(figure), extent(figure, look)
        for text, box in found:
            assert text.get_fontsize() >= 5, (name, text)
            assert 100 * part.x0 - 1 < box.x0 < box.x1 < 100 * part.x1 + 1, (name, text)
        for (a, x), (b, y) in combinations(found, 2):
            wide, tall = min(x.x1, y.x1) - max(x.x0, y.x0), min(x.y1, y.y1) - max(x.y0, y.y0)
            assert wide < 2 or tall < 2.5, (name, a, b)


@pytest.mark.parametrize("look", [Look("paper", 3.0), Look("notebook", 3.0), Look("talk", 3.3)])
@pytest.mark.parametrize("name", ["fig7_arithmetic", "glasses_study_gates", "memorization_dcgan_200", "fig4_walk"])
def test_the_narrowest_page_holds_all_that_is_drawn(tmp_path: Path, name: str, look: Look) -> None:
    result = load(COMMITTED / name)
    with look.context(result.command):
        figure = drawer(result.command)(result)
        finish(figure, look, result.command)
        page, drawn = extent(figure, look), figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
        assert page.width == pytest.approx(look.width)
        assert page.x0 - 0.01 < drawn.x0 < drawn.x1 < page.x1 + 0.01
    draw(result, tmp_path, ["png"], look)
    with Image.open(tmp_path / "figure.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert (pixels[-30:] < 200).any()  # no blank foot
    assert (pixels[:30] < 200).any()


def test_a_blinded_study_is_of_the_concept_that_its_observers_were_asked_for() -> None:
    old = load(COMMITTED / "glasses_study_gates")
    metrics = {**old.metrics, "agreement": {"hat": 0.9, "damaged": 0.8}}
    with Look().context("study"):
        words = " ".join(text.get_text() for text, _ in texts(drawer("study")(replace(old, metrics=metrics))))
    assert "hat seen\nin positives" in words
    assert "100 fresh positives, with hat, and 100 others" in words
    assert "still sees hat after patching" in words
    assert "Pairs agree on hat in 0.90" in words
    assert not {"glasses", "wearers", "face"} & set(words.lower().replace(",", " ").split())


@pytest.mark.parametrize(("text", "expected"), [
    ("3.25in", 3.25), ("8cm", 8 / 2.54), ("89 mm", 89 / 25.4), ("234pt", 234 / 72.27), ("neurips", 5.5), ("icml-column", 3.25),
])  # fmt: skip
def test_widths(text: str, expected: float) -> None:
    assert inches(text) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "message"), [
    ("3", "expected a length such as 3.25in"), ("..in", "expected a length"), ("nips", "neurips"), ("1in", "is 1.00 in"),
])  # fmt: skip
def test_impossible_widths(text: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        inches(text)


def test_other_impossible_looks() -> None:
    with pytest.raises(ProbeError, match="style poster: expected notebook, paper, talk"):
        Look("poster")
    with pytest.raises(ProbeError, match="font Nope: not installed"):
        Look(font="Nope")
    assert all(3 <= width <= 7.2 for width in WIDTHS.values())


@pytest.mark.parametrize(
    ("look", "width"), [(Look("paper", 3.25), 3.25), (Look("talk"), 10.0), (Look("paper", 9.0), 9.0)]
)
@pytest.mark.parametrize("few", [False, True])
def test_the_page_is_as_wide_as_asked(
    tmp_path: Path, committed: dict[str, Result], look: Look, width: float, few: bool
) -> None:
    draw(samples() if few else committed["fig8_turn_camera"], tmp_path, ["pdf", "png"], look)
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", (tmp_path / "figure.pdf").read_bytes())
    assert float(box[1]) == pytest.approx(72 * width, abs=0.5)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width == pytest.approx(220 * width, abs=1)


def test_text_is_text_and_images_keep_their_pixels(tmp_path: Path) -> None:
    result = samples()
    draw(result, tmp_path, ["svg", "pdf"], Look("paper", font="DejaVu Serif"))
    svg = (tmp_path / "figure.svg").read_text()
    inside = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,\s*([^\"]+)", svg)[1])))
    picture = tile(result.arrays["images"], 2)  # 34 pixels wide; not enlarged, not smoothed, perhaps upside down
    assert any(np.array_equal(inside.convert("RGB"), p) for p in (picture, picture[::-1]))
    draw(load(COMMITTED / "fig4_walk"), tmp_path, ["svg", "pdf"], Look("paper", font="DejaVu Serif"))
    assert "steps a row</text>" in (tmp_path / "figure.svg").read_text()
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    assert b"DejaVuSerif" in pdf


def test_colours_are_okabe_and_itos() -> None:
    """The palette of every drawing; greys and the maps of one hue aside."""
    used = set(
        re.findall(
            r"#[0-9A-Fa-f]{6}", "".join(p.read_text() for p in Path(draw.__globals__["__file__"]).parent.glob("*.py"))
        )
    )
    assert used - {c.upper() for c in OKABE_ITO} <= {"#7F7F7F"}


def test_notes_go_to_the_caption_of_a_paper(tmp_path: Path, committed: dict[str, Result]) -> None:
    result = committed["ablate_rooms"]
    for style in ("paper", "notebook"):
        (tmp_path / style).mkdir()
        draw(result, tmp_path / style, ["svg"], Look(style, 3.25))
        assert "8 of 96 maps switched off" in (tmp_path / style / "caption.txt").read_text()
    assert "maps switched off" not in (tmp_path / "paper" / "figure.svg").read_text()
    assert "maps switched off" in (tmp_path / "notebook" / "figure.svg").read_text()


def test_a_caption_holds_every_constant() -> None:
    made = captions(samples(), "What is seen.")
    assert made["caption.txt"] == (
        "What is seen. Model: checkpoint = net_G.pth, seed = 3. Settings: n = 4, layer = none, steps = [0.5, 1], of.rate_% = 1e-05, "
        "of.on = yes. where x_1 ≥ 5 % & y. Command: probe sample --ckpt net_G.pth -n 4. Versions: probe = 1.\n"
    )
    assert r"where x\_1 $\geq$ 5 \% \& y." in made["caption.tex"]
    assert made["caption.tex"].startswith(r"\caption{What is seen.")
    assert made["caption.tex"].endswith("}\n")


def test_latex() -> None:
    assert escape('a\\b {c}~^ #1 $2 <3> |x| "q"') == (
        r"a\textbackslash{}b \{c\}\textasciitilde{}\textasciicircum{} \#1 \$2 $<$3$>$ $|$x$|$ ''q''"
    )
    assert (
        escape("z − s·Σ, x² and w₁, ±5 °, é, 中")
        == r"z $-$ s$\cdot$$\Sigma$, x$^2$ and w$_1$, $\pm$5 $^\circ$, é, \texttt{U+4E2D}"
    )
    settings = "".join(p.read_text() for p in COMMITTED.glob("*/result.json"))
    assert "U+" not in escape(
        "".join(sorted(set(json.loads(json.dumps(settings)))))
    )  # what probe itself writes is all known


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_where_a_figure_comes_from(tmp_path: Path, kind: str) -> None:
    result = samples()
    result.provenance["checkpoint"] = r"odd (name)\\n.pth"
    (path,) = draw(result, tmp_path, [kind], Look("paper"), "probe draw sample")
    assert read(path) == {**result.provenance, "drawn": "probe draw sample"}
    assert told(path).endswith("repeated by: probe sample --ckpt net_G.pth -n 4\ndrawn by: probe draw sample")


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.svg", "none.png", "plain.png"])
def test_a_figure_from_elsewhere(tmp_path: Path, name: str) -> None:
    for kind in ("png", "pdf", "svg"):
        (tmp_path / f"a.{kind}").write_bytes(b"not a figure")
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    with pytest.raises(ProbeError, match=r"expected a (PNG, PDF or SVG|figure) that probe drew"):
        read(tmp_path / name)


def test_drawing_again_imports_no_torch(tmp_path: Path) -> None:
    samples().write(tmp_path)
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['probe', 'draw', {str(tmp_path)!r}]; from probe.cli import main; main()"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} >= {"figure.pdf", "caption.tex", "caption.txt"}


def test_arrays_or_metrics_that_a_figure_needs(tmp_path: Path) -> None:
    result = samples()
    del result.arrays["images"]
    with pytest.raises(ProbeError, match="the result lacks 'images'"):
        draw(result, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_result_changed_by_other_hands(tmp_path: Path) -> None:
    result = samples()
    result.arrays["images"] = result.arrays["images"][0]
    with pytest.raises(ProbeError, match=r"the result is not as probe sample writes it .*; run the command again"):
        draw(result, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def full(path: Path, data: bytes) -> None:
        assert len(data) > 1000
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ProbeError, match=rf"figure\.{kind}: could not be written \(No space left on device\); free"):
        draw(samples(), tmp_path, [kind])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_too_large_to_be_a_figure(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "large.png")
    with pytest.raises(ProbeError, match=r"large\.png: holds no provenance"):
        read(tmp_path / "large.png")


def test_a_command_to_repeat(tmp_path: Path) -> None:
    command = "probe sample --ckpt g.pth --seed 3 -n 4 --out old --json --save '/etc/x'"
    assert repeated(command, ["--ckpt", "my/g.pth", "-n=5"], Path("new")) == (
        ["probe", "sample", "--seed", "3", "--ckpt", "my/g.pth", "-n=5", "--out", "new"]
    )
    negative = "probe ablate --scale -1.5 --layer -2 --units 3"
    assert repeated(negative, ["--scale", "-.5"], Path("new")) == (
        ["probe", "ablate", "--layer", "-2", "--units", "3", "--scale", "-.5", "--out", "new"]
    )
    assert repeated("python -m analyses.fig3_samples", [], Path("new"))[-3:] == [
        "analyses.fig3_samples",
        "--out",
        "new",
    ]
    for bad in (
        None,
        "",
        "rm -rf /",
        "python -m http.server",
        "python -m analyses.x;ls",
        "probe 'unclosed",
        "python -c 1",
        "probe rerun old",
    ):
        with pytest.raises(ProbeError, match="nothing else is run"):
            repeated(bad, [], Path("new"))
