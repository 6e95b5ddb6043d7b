"""Arithmetic against sums written out here, on a generator whose attributes are two numbers of the latent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import save
from probe.concepts import attributes, draws
from probe.concepts.draws import CONTROLS, Bank
from probe.concepts.exemplars import Exemplars, LabelledLatents
from probe.concepts.expressions import Expression, parse
from probe.models.gan import GAN, to_bytes
from probe.questions.arithmetic.run import Settings, arithmetic
from probe.results.drawing import draw
from probe.results.result import Result

PAPER = "window/day - nowindow/day + nowindow/night"


class Flat(nn.Module):
    """Colours are the first three numbers of the latent: red a window, green night, blue the camera's turn."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z[:, :3])[:, :, None, None].expand(-1, -1, 16, 16) + self.anchor


class Colours:
    """Reads those colours; `sign` -1 takes every window for none."""

    def __init__(self, sign: float = 1) -> None:
        self.sign = sign

    def attributes(self, images: Tensor) -> Tensor:
        red, green, blue = images.mean((2, 3)).T
        table = torch.zeros(len(images), 6)
        table[:, 0], table[:, 1], table[:, 3] = (self.sign * 9 * red).sigmoid(), (9 * green).sigmoid(), 14 * blue
        return table


@pytest.fixture
def flat() -> GAN:
    return GAN(
        Flat().eval(), None, 8, 16, 3, "uniform", {"generator": "running"}, {"checkpoint": "flat", "sha256": None}
    )


@pytest.fixture
def labelled(flat: GAN) -> LabelledLatents:
    z = flat.latents(400, 3)
    table = Colours().attributes(flat.images(z)).numpy()
    return LabelledLatents(z, table, Colours(), Colours(), ["a note"])  # type: ignore[arg-type]


def read(text: str) -> Expression:
    return parse(text, attributes.Vocabulary())


def run(flat: GAN, labelled: LabelledLatents, text: str = PAPER, **settings: object) -> Result:
    expression = read(text)
    exemplars = labelled.exemplars([t.name for t in expression.terms])
    return arithmetic(flat, [expression], exemplars, Settings(**settings), labelled)  # type: ignore[arg-type]


def test_the_figure_shows_the_first_exemplars_their_means_and_the_sum(tiny_gan: GAN) -> None:
    pools = {name: tiny_gan.latents(7, seed) for seed, name in enumerate("ABC")}
    expression = parse("A - B + C - B", pools)
    arrays = arithmetic(tiny_gan, [expression], Exemplars(pools), Settings(noise=0.1)).arrays
    a, b, c = (pools[name] for name in "ABC")
    means = [a[:3].mean(0), b[:3].mean(0), c[:3].mean(0), b[3:6].mean(0)]

    def same(found: np.ndarray, images: Tensor) -> None:
        assert np.abs(found.astype(int) - to_bytes(images).numpy().astype(int)).max() <= 1

    same(arrays["0_exemplars"][3], tiny_gan.images(b[3:6]))
    same(arrays["0_means"], tiny_gan.images(torch.stack(means)))
    middle = means[0] - means[1] + means[2] - means[3]
    same(arrays["0_results"][4:5], tiny_gan.images(middle[None]))
    assert len({bytes(image) for image in arrays["0_results"]}) == 9
    pictures = [tiny_gan.images(z).mean(0) for z in (a[:3], b[:3], c[:3], b[3:6])]
    same(arrays["0_pixel_means"], torch.stack(pictures))
    sum_of_pictures = (pictures[0] - pictures[1] + pictures[2] - pictures[3]).clamp(-1, 1)
    assert np.abs(arrays["0_pixel_result"][0].astype(int) - to_bytes(sum_of_pictures).numpy().astype(int)).max() <= 3


def test_draws_take_no_exemplar_twice_and_shuffling_forgets_concepts(flat: GAN, labelled: LabelledLatents) -> None:
    expression = read("window - nowindow + nowindow")
    bank = Bank.of(flat, labelled.exemplars(["window", "nowindow"]), expression)
    drawn = draws.draw(bank, expression, 5, 30, np.random.default_rng(0))
    assert drawn.shape == (30, 3, 5)
    assert all(len(set(rows.ravel())) == 15 for rows in drawn)
    assert np.isin(drawn[:, 0], bank.rows["window"]).all()
    assert np.isin(drawn[:, 1:], bank.rows["nowindow"]).all()
    shuffled = draws.shuffle(bank, expression, 5, 200, np.random.default_rng(0))
    share = np.isin(shuffled, bank.rows["window"]).mean((0, 2))
    assert share == pytest.approx([0.5] * 3, abs=0.06)


def test_controls_have_the_norms_they_say(flat: GAN, labelled: LabelledLatents) -> None:
    expression = read(PAPER)
    bank = Bank.of(flat, labelled.exemplars([t.name for t in expression.terms]), expression)
    drawn = draws.draw(bank, expression, 4, 20, np.random.default_rng(1))
    z = draws.results(bank, expression, drawn, drawn, 0)
    by_hand = [bank.z[d[0]].mean(0) - bank.z[d[1]].mean(0) + bank.z[d[2]].mean(0) for d in drawn]
    torch.testing.assert_close(z["mean"], torch.stack(by_hand))
    torch.testing.assert_close(z["shuffled"], z["mean"])  # the same exemplars were given
    norms = {name: values.norm(dim=1) for name, values in z.items()}
    torch.testing.assert_close(norms["norm_matched_single"], norms["mean"])
    torch.testing.assert_close(norms["norm_restored_mean"], torch.full((20,), (8 / 3) ** 0.5))
    moved = [(z[name] - z["base"]).norm(dim=1) for name in ("mean", "random_direction")]
    torch.testing.assert_close(*moved)
    one = bank.z[drawn[0, 0, 0]] - bank.z[drawn[0, 1, 0]] + bank.z[drawn[0, 2, 0]]
    torch.testing.assert_close(torch.cosine_similarity(one, z["norm_matched_single"][0], 0), torch.tensor(1.0))


def test_prior_norms(flat: GAN, tiny_gan: GAN) -> None:
    for gan in (flat, tiny_gan):
        found = gan.latents(20_000, 1).pow(2).sum(1).mean().sqrt()
        assert draws.prior_norm(gan) == pytest.approx(float(found), rel=0.01)


def test_success_where_concepts_are_linear(flat: GAN, labelled: LabelledLatents) -> None:
    m = run(flat, labelled, exemplars=(1, 10), draws=150).metrics
    assert m["expected"] == "window/night"
    assert m["targets"] == ["window"]
    assert m["success"][10] > 0.95 > m["success"][1]
    low, high = m["success_ci"][1]
    assert low < m["success"][1] < high
    assert set(m["controls"]) == set(CONTROLS)
    assert m["controls"]["shuffled"]["success"][10] < 0.6
    assert m["controls"]["random_direction"]["success"][10] < 0.7
    assert m["averaging"][1]["gain"] == 0.0
    assert m["norm"][10] < m["norm"][1] == pytest.approx(3**0.5, rel=0.1)
    assert m["diagnosis"]["exemplars"] == dict.fromkeys(["window/day", "nowindow/day", "nowindow/night"], 1.0)
    assert m["diagnosis"]["many_exemplars"] > 0.95
    assert m["diagnosis"]["fitted_direction"] > 0.85
    assert m["plausible"] is None  # no discriminator
    again = run(flat, labelled, exemplars=(1, 10), draws=150).metrics
    assert again == m


def test_success_counted_by_hand(flat: GAN, labelled: LabelledLatents) -> None:
    m = run(flat, labelled, exemplars=(2,), draws=60, seed=4).metrics
    expression = read(PAPER)
    bank = Bank.of(flat, labelled.exemplars([t.name for t in expression.terms]), expression)
    drawn = draws.draw(bank, expression, 2, 60, np.random.default_rng([4, 2]))
    hits = 0
    for a, b, c in drawn:
        z = sum(bank.z[i] for i in a) / 2 - sum(bank.z[i] for i in b) / 2 + sum(bank.z[i] for i in c) / 2
        hits += bool(z[0] > 0 and z[1] > 0)
    assert m["success"][2] == pytest.approx(hits / 60)


def test_a_judge_that_disagrees_is_found_out(flat: GAN, labelled: LabelledLatents) -> None:
    wrong = LabelledLatents(labelled.z, labelled.table, labelled.selector, Colours(-1), [])  # type: ignore[arg-type]
    m = run(flat, wrong, exemplars=(5,), draws=40).metrics
    assert m["success"][5] < 0.1
    assert m["diagnosis"]["exemplars"]["window/day"] == 0.0


def test_several_and_longer_expressions_are_drawn(flat: GAN, labelled: LabelledLatents, tmp_path: Path) -> None:
    texts = [PAPER, PAPER, "night - day + day = dark", "window - nowindow + nowindow - day + night"]
    parsed = [read(text) for text in texts]
    names = [t.name for e in parsed for t in e.terms]
    result = arithmetic(flat, parsed, labelled.exemplars(names), Settings(exemplars=(1, 3), draws=10), labelled)
    assert list(result.metrics["expressions"]) == [str(e) for e in parsed[1:]]
    assert [m["title"] for m in result.metrics["expressions"].values()] == ["window/night", "dark", "window/night"]
    assert result.metrics["success"] == result.metrics["expressions"][PAPER]["success"]
    result.write(tmp_path)
    from probe.results.result import load

    (path,) = draw(load(tmp_path), tmp_path)
    assert path.stat().st_size > 10_000


def test_what_is_refused(flat: GAN, labelled: LabelledLatents) -> None:
    exemplars = Exemplars({"hat": flat.latents(2), "coat": torch.zeros(9, 5)})
    with pytest.raises(ProbeError, match="'hat': 2 exemplars, but 3 exemplars are asked for"):
        arithmetic(flat, [parse("hat", ["hat"])], exemplars, Settings())
    with pytest.raises(ProbeError, match="'coat': latents of 5 numbers; this generator takes 8"):
        arithmetic(flat, [parse("coat", ["coat"])], exemplars, Settings())
    with pytest.raises(ProbeError, match="unknown concept 'shoe'; known: hat, coat"):
        arithmetic(flat, [parse("shoe", ["shoe"])], exemplars, Settings())
    for wrong in ({"exemplars": ()}, {"exemplars": (0,)}, {"draws": 1}, {"noise": -1.0}):
        with pytest.raises(ProbeError, match="expected"):
            Settings(**wrong)  # type: ignore[arg-type]
    assert run(flat, labelled, "window - nowindow").metrics["success"] is None


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_gan: GAN):
    monkeypatch.chdir(tmp_path)
    save(tiny_gan, tmp_path / "tiny.safetensors")
    document = {"seed": 1, "concepts": {"hat": [0, 4, 5], "coat": [1, 2, 3], "long coat": [6, 7]}}
    Path("e.json").write_text(json.dumps(document))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_command_with_a_file(command) -> None:
    words = ("arithmetic", "hat - coat + coat", "--ckpt", "tiny.safetensors", "--concepts", "e.json", "--exemplars", 1)
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert out == "hat - coat + coat: not judged\nfigure: out/arithmetic/figure.png\n"
    document = json.loads(Path("out/arithmetic/result.json").read_text())
    assert document["metrics"]["success"] is None
    assert document["assumptions"][0] == "exemplars: e.json, samples of seed 1"


def test_command_on_rooms(command) -> None:
    words = (
        "arithmetic",
        "night - day + day",
        "--by-segmenter",
        "--samples",
        64,
        "--draws",
        8,
        "--exemplars",
        "1,3",
        "--json",
    )
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    metrics = json.loads(out)
    assert set(metrics["success"]) == {"1", "3"}
    assert metrics["diagnosis"]["exemplars"]["night"] > 0.8
    assert 0 <= metrics["plausible"]["pixel"] <= metrics["plausible"]["mean"] <= 1


TINY = ("--ckpt", "tiny.safetensors", "--concepts", "e.json")
BAD = {
    "unknown concept": (
        ("hat - scarf + coat", *TINY),
        "unknown concept 'scarf' at character 7: hat - >>scarf<< + coat; known: hat, coat, long coat",
    ),
    "does not parse": (("hat - + coat", *TINY), "no concept beside '-' at character 5: hat >>-<< + coat"),
    "too few": (("long coat - hat", *TINY), "'long coat': 2 exemplars, but 3 exemplars are asked for"),
    "word of rooms": (("window/dusk - day", "--by-segmenter"), "unknown concept 'window/dusk' at character 1"),
    "segmenter and file": (("hat", *TINY, "--by-segmenter"), "--concepts and --by-segmenter both given"),
    "both": (("day", *TINY, "--by-segmenter"), "--concepts and --by-segmenter both given"),
    "neither": (("day", "--ckpt", "tiny.safetensors"), "pass it as --concepts"),
    "segmenter without rooms": (("day", "--ckpt", "tiny.safetensors", "--by-segmenter"), "not trained on rooms"),
    "counts": (("hat", *TINY, "--exemplars", "3,x"), "--exemplars 3,x: expected counts"),
    "none": (("hat", *TINY, "--exemplars", "0"), "--exemplars 0: expected counts"),
    "curve without judge": (("hat", *TINY, "--exemplars", "1,3"), "a curve of success needs a judge"),
    "rare": (
        ("nowindow/night/left/lamp", "--by-segmenter", "--samples", 64, "--exemplars", 60),
        "exemplars, but 60 exemplars are asked for",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(command, case: str) -> None:
    words, expected = BAD[case]
    code, out, err = command("arithmetic", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert not Path("out").exists()
