"""`probe report`: what is asked, what is kept, and a page that stands alone."""

from __future__ import annotations

import json
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import load, save
from probe.models.gan import GAN
from probe.plots import style
from probe.report.plan import Missing, Settings, Step, plan
from probe.results.provenance import command_line
from tests.instead import counted, instead

BLIND = ("blind.safetensors",)
ASKED = {"sample", "walk", "guided-backprop", "dissect", "forget", "arithmetic", "turn", "memorization"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_gan: GAN):
    """Run `probe report --quick` where two small checkpoints are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(style._RC, "savefig.dpi", 40)  # of figures that nobody looks at
    save(tiny_gan, tmp_path / "tiny.safetensors")
    tiny_gan.discriminator = None
    save(tiny_gan, tmp_path / "blind.safetensors")

    def call(*words: object, ckpt: tuple[str, ...] = ("tiny.safetensors",)) -> tuple[int, str, str]:
        opened = [word for path in ckpt for word in ("--ckpt", path)]
        monkeypatch.setattr(sys, "argv", ["probe", "report", "--quick", *opened, *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


class _Page(HTMLParser):
    """The tags of a page and what they point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_stands_alone_and_says_what_could_not_be_run(run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "page: out/report/index.html" in out
    page = Path("out/report/index.html").read_text()
    tags = _Page(page).tags
    points = [value for _, attrs in tags for name, value in attrs.items() if name in ("src", "href")]
    assert points
    assert all(str(value).startswith(("data:image/png;base64,", "#")) for value in points)
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    assert {str(v)[1:] for v in points if str(v).startswith("#")} <= ids
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    assert "@import" not in page
    assert "url(" not in page
    assert sum(tag == "img" for tag, _ in tags) == 3  # samples, a walk, guided backpropagation
    assert all(attrs["alt"] for tag, attrs in tags if tag == "img")
    answers = json.loads(Path("out/report/report.json").read_text())["answers"]
    reasons = {a["question"]: a["not_run"] for a in answers if "not_run" in a}
    assert set(reasons) == {
        "What single units draw",
        "Forgetting",
        "Vector arithmetic",
        "Turning",
        "Copies of training images",
    }
    assert "--labels" in reasons["Forgetting"]
    assert all(reason in unescape(page) for reason in reasons.values())
    assert "probe walk --ckpt tiny.safetensors --points 4" in page


def test_results_are_taken_over_until_something_changes(run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(ckpt=BLIND)[0] == 0
    calls: list[str] = []

    for name in ("sample", "walk"):
        counted(monkeypatch, name, calls)
    assert run(ckpt=BLIND)[0] == 0
    assert calls == []
    figure = next(Path("out/report/results").glob("blind*/walk/figure.png"))
    figure.unlink()
    assert run(ckpt=BLIND)[0] == 0
    assert calls == []
    assert figure.is_file()  # drawn again, not computed again
    assert run("--seed", 1, ckpt=BLIND)[0] == 0
    assert calls == ["sample", "walk"]


def test_a_figure_that_cannot_be_drawn_ends_no_report(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from probe.results import drawing

    plain = drawing.drawer

    def broken(command: str):
        def draw(_: object) -> None:
            raise RuntimeError("latex could not be found")

        return draw if command == "walk" else plain(command)

    monkeypatch.setattr(drawing, "drawer", broken)
    assert run(ckpt=BLIND)[0] == 0
    page = Path("out/report/index.html").read_text()
    assert sum(tag == "img" for tag, _ in _Page(page).tags) == 1
    assert "No figure:" in page
    assert "latex could not be found" in page
    answers = json.loads(Path("out/report/report.json").read_text())["answers"]
    assert sum("numbers" in answer for answer in answers) == 2
    monkeypatch.setattr(drawing, "drawer", plain)
    calls: list[str] = []
    counted(monkeypatch, "walk", calls)
    assert run(ckpt=BLIND)[0] == 0
    assert calls == []
    assert sum(tag == "img" for tag, _ in _Page(Path("out/report/index.html").read_text()).tags) == 2


def test_other_images_in_the_same_folder_are_asked_about_anew(run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(40):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(f"photos/{k}.png")
    assert run("--data", "photos")[0] == 0
    calls: list[str] = []
    counted(monkeypatch, "guided-backprop", calls)
    assert run("--data", "photos")[0] == 0
    assert calls == []
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save("photos/40.png")
    assert run("--data", "photos")[0] == 0
    assert calls == ["guided-backprop"]


def test_another_checkpoint_of_the_same_name_is_not_taken_for_the_first(run, tiny_gan: GAN) -> None:
    assert run()[0] == 0
    before = Path("out/report/index.html").read_text()
    with torch.no_grad():
        next(iter(tiny_gan.generator.parameters())).mul_(0.5)
    save(tiny_gan, Path("tiny.safetensors"))
    assert run()[0] == 0
    assert len(list(Path("out/report/results").iterdir())) == 2
    assert Path("out/report/index.html").read_text() != before


def test_interrupted_it_goes_on_where_it_was(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        instead(patch, "guided-backprop", stop)
        assert run()[0] == 130
    assert not Path("out/report/index.html").exists()
    assert {p.name for p in next(Path("out/report/results").iterdir()).iterdir()} == {"sample", "walk"}
    instead(monkeypatch, "walk", stop)  # would interrupt again, were it called
    assert run()[0] == 0
    assert Path("out/report/index.html").exists()


def test_checkpoints_side_by_side(run) -> None:
    code, out, _ = run(ckpt=("tiny.safetensors", "blind.safetensors"))
    assert code == 0
    assert "tiny.safetensors, A walk in latent space: " in out
    assert (
        "blind.safetensors, What the discriminator's units see: not run: the checkpoint holds a generator only" in out
    )
    tags = _Page(Path("out/report/index.html").read_text()).tags
    assert sum(tag == "img" for tag, _ in tags) == 5
    named = [attrs["data-model"] for tag, attrs in tags if tag == "td" and "data-model" in attrs]
    assert named == ["tiny.safetensors", "blind.safetensors"] * 8


def test_names_are_text_not_markup(run, tiny_gan: GAN) -> None:
    name = '<img src=x onerror="alert(1)">&.safetensors'
    save(tiny_gan, Path(name))
    assert run(ckpt=(name,))[0] == 0
    tags = _Page(Path("out/report/index.html").read_text()).tags
    assert not [attrs for _, attrs in tags if "onerror" in attrs]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--disc", "d.pth"), "no such"),
        (("--ckpt", "tiny.safetensors"), "given twice"),
        (("--labels", "none.json"), "no such labels file"),
        (("--concepts", "none.json"), "needs --expression or --turn"),
        (("--concepts", "none.json", "--turn", "a", "b"), "no such exemplar file"),
        (("--turn", "a", "b"), "pass it as --concepts"),
        (("--holdout-data", "rooms:8"), "--holdout-data without --train"),
        (("--out", "."), "is not a report of probe"),
        (("--data", "parquet:none"), "parquet:none: no such file or folder"),
        (("--train", "rooms:9", "--holdout-data", "nowhere"), "nowhere: no such file or folder"),
        (("--device", "tpu"), "expected auto, cpu, cuda or mps"),
        (("--ckpt", "blind.safetensors", "--disc", "tiny.safetensors"), "1 --disc for 2 --ckpt"),
    ],
)
def test_bad_input_is_one_line(run, words: tuple[str, ...], expected: str) -> None:
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert not Path("out").exists()


def test_a_question_that_a_checkpoint_refuses_is_an_answer(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ProbeError("the walk is <long>\nand wet")

    instead(monkeypatch, "walk", refuse)
    code, out, _ = run(ckpt=BLIND)
    assert code == 0
    assert "A walk in latent space: not run: the walk is <long> and wet" in out
    assert "the walk is &lt;long&gt; and wet" in Path("out/report/index.html").read_text()


def _parsed(step: Step) -> dict[str, Any]:
    """What the command that repeats a step is read as."""
    name, *words = step.words()
    group = typer.main.get_command(cli.app)
    command = group.get_command(None, name)
    with command.make_context(name, words) as context:
        return dict(context.params)


@pytest.mark.parametrize("quick", [True, False])
def test_the_command_beside_a_result_asks_the_same(quick: bool, tmp_path: Path) -> None:
    steps = plan(load("rooms"), Settings(quick=quick, seed=3))
    assert {s.question for s in steps} == ASKED
    for step in (s for s in steps if isinstance(s, Step)):
        params = _parsed(step)
        assert step.options["seed"] == 3
        assert {name: params[name] for name in step.options} == dict(step.options)
        given = [str(a) for a in step.arguments if step.call != "forget"]
        values = [str(v) for value in params.values() for v in (value if isinstance(value, list) else [value])]
        assert all(a in values for a in given), step


def test_files_decide_what_can_be_asked(tiny_gan: GAN, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    images = [{"id": k, "file_name": f"{k:06d}.png", "width": 32, "height": 32} for k in range(4)]
    categories = [{"id": 1, "name": "hat"}, {"id": 2, "name": "coat"}]
    drawn = [{"id": k, "image_id": 0, "category_id": k, "bbox": [1, 1, 9, 9]} for k in (1, 2)]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": drawn}))
    settings = Settings(
        labels=path, label_seed=4, concepts=path, turn=("a", "b"), train="rooms:9", holdout_data="rooms:8@1"
    )
    found = plan(tiny_gan, settings)
    asked = [s for s in found if isinstance(s, Step)]
    assert [s.key for s in asked if s.question == "forget"] == ["forget-0", "forget-1"]
    assert [s.arguments for s in asked if s.question == "forget"] == [("hat",), ("coat",)]
    assert [s.question for s in found if isinstance(s, Missing)] == ["arithmetic"]
    copies = next(s for s in asked if s.question == "memorization")
    assert copies.options["train"] == "rooms:9"
    few = plan(tiny_gan, Settings(labels=path, quick=True))
    assert [s.why for s in few if isinstance(s, Missing) and s.question == "forget"] == ["left out by --quick: coat"]
    for step in asked:
        params = _parsed(step)
        assert {n: str(params[n]) for n in step.options} == {n: str(v) for n, v in step.options.items()}


def test_concepts_are_not_cut_like_paths() -> None:
    words = [
        "arithmetic",
        "window/day - nowindow/day + nowindow/night",
        "--ckpt",
        "some/where/netG.pth",
        "--data",
        "folder:a/b",
    ]
    assert command_line(words) == (
        "probe arithmetic 'window/day - nowindow/day + nowindow/night' --ckpt netG.pth --data folder:b"
    )
