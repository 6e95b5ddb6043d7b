"""Classification: the choice of C, the draws, what is counted, the tables, the figure, and the command's refusals."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from sklearn.svm import LinearSVC

from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import save
from probe.data import loading as data
from probe.data.loading import Images
from probe.models.gan import GAN
from probe.questions.classify import tasks
from probe.questions.classify.representation import of_discriminator, rows
from probe.questions.classify.run import SVHN_1000, Settings, classify
from probe.questions.classify.tables import write_csv, write_latex
from probe.results.drawing import draw
from probe.results.result import Result

QUICK = Settings(
    costs=(0.1, 1.0),
    validation=60,
    statistics=100,
    baselines=("pixels", "random_weights"),
    centroids=4,
    supervised_steps=2,
)


def pictures(n: int, seed: int, classes: int = 3) -> Images:
    """Noise with a bright square whose place is the class."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 160, (n, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(n) % classes
    for image, k in zip(images, labels, strict=True):
        image[:, 4 : 4 + 8, 2 + 9 * k : 10 + 9 * k] += 25
    return Images(images, labels.astype(np.int64) + 4, f"npz:set{seed}.npz")


@pytest.fixture
def result(tiny_gan: GAN) -> Result:
    return classify(
        tiny_gan, pictures(240, 0), pictures(90, 1), replace(QUICK, baselines=("pixels", "kmeans", "supervised"))
    )


def test_metrics(result: Result) -> None:
    m = result.metrics
    assert {
        "accuracy",
        "accuracy_ci",
        "error",
        "features",
        "train_images",
        "test_images",
        "draws",
        "C",
        "baselines",
    } <= set(m)
    assert (m["features"], m["train_images"], m["test_images"], m["draws"], m["labels"]) == (448, 240, 90, 1, 240)
    assert m["accuracy_ci"][0] < m["accuracy"] < m["accuracy_ci"][1] < 1
    assert m["accuracy"] > 0.5  # chance is a third
    assert m["error"] == pytest.approx(1 - m["accuracy"])
    assert m["classes"] == [4, 5, 6]
    assert list(m["baselines"]) == ["pixels", "kmeans", "supervised"]
    assert (m["baselines"]["pixels"]["features"], m["baselines"]["kmeans"]["features"]) == (3072, 16)
    assert list(m["layers"]) == ["layer1", "layer2", "layer3"]
    assert m["C"] == max(QUICK.costs, key=lambda c: (m["validation"][f"{c:g}"], -c))
    confusion = result.arrays["confusion"]
    assert confusion.sum(1).tolist() == [30, 30, 30]
    assert np.trace(confusion) == round(m["accuracy"] * 90)


def test_the_number_is_linear_svcs_on_the_same_features(tiny_gan: GAN) -> None:
    train, test = pictures(240, 0), pictures(90, 1)
    found = classify(tiny_gan, train, test, replace(QUICK, costs=(1.0,), baselines=()))
    phi = of_discriminator(tiny_gan)  # with the statistics that classify has estimated
    x, y = (rows(phi, s.images).double().numpy() for s in (train, test))
    mean, spread = x.mean(0), x.std(0) * x.shape[1] ** 0.5
    model = LinearSVC(C=1.0, tol=1e-6, max_iter=50_000).fit((x - mean) / spread, train.labels)
    assert found.metrics["accuracy"] == pytest.approx(model.score((y - mean) / spread, test.labels), abs=0.012)


def test_draws(tiny_gan: GAN) -> None:
    s = replace(QUICK, label_count=60, draws=4, choosing=2, standardised=False, costs=(1e-3, 1e-2))
    found = classify(tiny_gan, pictures(240, 0), pictures(90, 1), s)
    m = found.metrics
    assert (m["labels"], m["draws"]) == (60, 4)
    assert list(m["curve"]) == ["6", "15", "30", "60"]
    errors = found.arrays["curve_60"]
    assert errors.shape == (4,)
    assert len(set(errors.tolist())) > 1
    assert m["error"] == pytest.approx(errors.mean())
    assert m["curve"]["6"]["error"] > m["curve"]["60"]["error"]
    assert found.arrays["confusion"].sum() == 4 * 90
    assert set(m["baselines"]) == {"pixels", "random_weights"}


def test_the_authors_protocol() -> None:
    assert SVHN_1000.costs == (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
    assert (SVHN_1000.label_count, SVHN_1000.draws, SVHN_1000.choosing, SVHN_1000.validation) == (1000, 100, 10, 10_000)
    assert not SVHN_1000.standardised


def test_numbers_known_before_are_not_measured_again(tiny_gan: GAN) -> None:
    row = {"accuracy": 0.5, "accuracy_ci": [0.4, 0.6], "error": 0.5, "features": 3, "C": 1.0}
    s = replace(QUICK, costs=(0.1,), baselines=("pixels", "random_weights"))
    found = classify(tiny_gan, pictures(240, 0), pictures(90, 1), s, known={"pixels": row})
    assert found.metrics["baselines"]["pixels"] == row
    assert found.metrics["baselines"]["random_weights"]["features"] == 448


def test_mirror_images_stand_beside_the_images(tiny_gan: GAN) -> None:
    train = pictures(240, 0, classes=2)
    turned = replace(train, images=np.ascontiguousarray(train.images[..., ::-1]))
    s = replace(QUICK, flips=True, baselines=(), statistics=0)
    a, b = (classify(tiny_gan, train, t, s).metrics["accuracy"] for t in (pictures(90, 1, 2), turned))
    assert a > 0.6
    assert b > 0.9  # mirrored training images are as good as the images


def test_moved_copies_stand_beside_the_images(tiny_gan: GAN) -> None:
    train, test = pictures(240, 0, classes=2), pictures(90, 1, 2)
    moved = replace(test, images=np.roll(test.images, 2, axis=-1))
    mirrored = replace(moved, images=np.ascontiguousarray(moved.images[..., ::-1]))
    s = replace(QUICK, flips=True, shifts=2, baselines=(), statistics=0)
    found, again = (classify(tiny_gan, train, images, s) for images in (moved, mirrored))
    assert found.metrics["accuracy"] > 0.6
    assert np.array_equal(found.arrays["confusion"], again.arrays["confusion"])  # no moved copy has a say in the test
    assert any(
        "moved by up to 2 px; test scores are means over an image and its mirror" in a for a in found.assumptions
    )
    with pytest.raises(ProbeError, match="shifts with a number of labels"):
        Settings(label_count=10, shifts=2)
    with pytest.raises(ProbeError, match="shifts 9: expected 0 to 8 pixels"):
        Settings(shifts=9)


def test_a_stratified_draw() -> None:
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 10)
    drawn = tasks.stratified(labels, 30, 3, np.random.default_rng(0))
    assert torch.bincount(labels[drawn]).tolist() == [10, 10, 10]
    assert len(drawn.unique()) == 30
    for n, message in (
        (31, "expected a multiple of the 3 classes"),
        (33, "11 a class asked for; the smallest class has 10"),
    ):
        with pytest.raises(ProbeError, match=message):
            tasks.stratified(labels, n, 3, np.random.default_rng(0))


def test_test_images_among_the_training_images_are_counted(tiny_gan: GAN) -> None:
    train, test = pictures(240, 0), pictures(90, 1)
    test.images[:7] = train.images[100:107]
    found = classify(tiny_gan, train, test, replace(QUICK, baselines=()))
    assert found.metrics["test_images_in_training"] == 7
    assert any(note.startswith("7 of 90 test images are also training images") for note in found.assumptions)


def test_images_without_a_label_are_left_out_and_counted() -> None:
    train = pictures(240, 0)
    train.labels[:5] = -1
    task = tasks.make(train, pictures(90, 1), 60, 0)
    assert (len(task.images), task.fitted) == (235, 175)
    assert any(note.startswith("5 of 240 training images have no label") for note in task.notes)


def test_named_classes_go_together_by_name(tiny_gan: GAN, tmp_path: Path) -> None:
    train, test = pictures(240, 0), pictures(90, 1)
    train = replace(train, labels=train.labels - 4, classes=("bear", "cat", "dormouse"))
    other = replace(test, labels=(test.labels - 3) % 3, classes=("dormouse", "bear", "cat"))
    s = replace(QUICK, baselines=())
    named, plain = classify(tiny_gan, train, other, s), classify(tiny_gan, pictures(240, 0), test, s)
    assert np.array_equal(named.arrays["confusion"], plain.arrays["confusion"])
    assert named.metrics["classes"] == ["bear", "cat", "dormouse"]
    assert draw(named, tmp_path, ["png"])[0].stat().st_size > 5000
    few = replace(test, labels=np.zeros(90, np.int64), classes=("cat",))
    assert tasks.make(train, few, 60, 0).test_labels.tolist() == [1] * 90
    for changed, message in (
        (replace(other, classes=("dormouse", "bear", "dog")), "set1.npz: has the class dog, which npz:set0.npz lacks"),
        (test, "set0.npz: its classes have names, such as bear, those of npz:set1.npz numbers"),
    ):
        with pytest.raises(ProbeError, match=message):
            tasks.make(train, changed, 60, 0)


def test_validation_images_are_not_fitted_to() -> None:
    task = tasks.make(pictures(240, 0), pictures(90, 1), 60, 0)
    first, last = ({image.tobytes() for image in part} for part in (task.images[:180], task.images[180:]))
    assert not first & last
    assert (len(first), len(last)) == (180, 60)


def test_tables(result: Result, tmp_path: Path) -> None:
    write_csv(result, tmp_path / "table.csv")
    write_latex(result, tmp_path / "table.tex")
    with (tmp_path / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["representation"] for row in table] == ["discriminator", "pixels", "kmeans", "supervised"]
    assert float(table[0]["accuracy"]) == pytest.approx(result.metrics["accuracy"], abs=1e-5)
    assert table[3]["C"] == ""
    tex = (tmp_path / "table.tex").read_text()
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 5
    assert all(line.count("&") == 3 for line in body)


@pytest.mark.parametrize("labels", [0, 30])
def test_figure(tiny_gan: GAN, tmp_path: Path, labels: int) -> None:
    s = replace(QUICK, label_count=labels, draws=2 if labels else 1, choosing=1)
    found = classify(tiny_gan, pictures(240, 0), pictures(90, 1), s)
    assert draw(found, tmp_path, ["png"])[0].stat().st_size > 5000


# ---- sources with labels


def test_svhn_mat_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    y = (np.arange(20) % 10 + 1).astype(np.uint8)[:, None]
    scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": x, "y": y})
    found = data.load(f"mat:{tmp_path / 'train_32x32.mat'}", 32, 3)
    assert found.name == "mat:train_32x32.mat"
    assert np.array_equal(found.images, x.transpose(3, 2, 0, 1))
    assert found.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"Z": np.zeros(3)}, "holds no X; expected X, uint8"),
        ({"X": np.zeros((32, 32, 3, 4))}, r"X is float64 \(32, 32, 3, 4\)"),
        (
            {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((3, 1))},
            r"y is float64 \(3, 1\); expected 4 integers",
        ),
    ],
)
def test_mat_files_that_do_not_fit(tmp_path: Path, held: dict, message: str) -> None:
    scipy.io.savemat(tmp_path / "x.mat", held)
    with pytest.raises(ProbeError, match=message):
        data.load(f"mat:{tmp_path / 'x.mat'}", 32, 3)
    (tmp_path / "text.mat").write_text("no such thing" * 30)
    with pytest.raises(ProbeError, match=r"^mat:text\.mat: .*expected a MATLAB file of version 5"):
        data.load(f"mat:{tmp_path / 'text.mat'}", 32, 3)


# ---- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_gan: GAN):
    monkeypatch.chdir(tmp_path)
    save(tiny_gan, tmp_path / "tiny.safetensors")
    for name, images in {"train": pictures(240, 0), "test": pictures(90, 1)}.items():
        np.savez(f"{name}.npz", X=images.images.transpose(0, 2, 3, 1), Y=images.labels)
    x = pictures(60, 2).images.transpose(0, 2, 3, 1)
    np.savez("bare.npz", X=x)
    np.savez("one.npz", X=x, Y=np.full(60, 4))
    np.savez("others.npz", X=x, Y=np.arange(60) % 2)
    np.savez("grey.npz", X=x[..., 0], Y=np.arange(60) % 3 + 4)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["probe", "classify", "--ckpt", "tiny.safetensors", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


DATA = ["--data", "npz:train.npz", "--test", "npz:test.npz", "--validation", "60"]


def test_command(run) -> None:
    code, out, err = run(*DATA, "--baselines", "pixels", "--costs", "1,0.1", "--means")
    assert (code, err) == (0, "npz:train.npz: 240 images read\nnpz:test.npz: 90 images read\n")
    assert out.startswith("discriminator: ")
    assert "table: out/classify/table.csv" in out
    names = {p.name for p in Path("out/classify").iterdir()}
    assert names == {"arrays.safetensors", "result.json", "figure.png", "table.csv", "table.tex"}
    document = json.loads(Path("out/classify/result.json").read_text())
    assert document["metrics"]["features"] == 448 + 192  # the last layer is 4x4 as it is
    assert document["settings"]["costs"] == [0.1, 1.0]


def test_grey_images_of_both_sets_are_said_to_be_grey(run) -> None:
    code, out, err = run(
        "--data", "npz:grey.npz", "--test", "npz:grey.npz", "--validation", 20, "--baselines", "none", "--json"
    )
    assert code == 0
    assert json.loads(out)["test_images_in_training"] == 60
    assert "60 of 60 test images are also training images" in err
    assert "the images are grey and the discriminator takes colour" in err


BAD = {
    "no labels": (["--data", "npz:bare.npz", "--test", "npz:test.npz"], "bare.npz: the training images have no labels"),
    "no test labels": (
        ["--data", "npz:train.npz", "--test", "npz:bare.npz"],
        "bare.npz: the test images have no labels",
    ),
    "one class": (
        ["--data", "npz:one.npz", "--test", "npz:test.npz"],
        "all 60 images have the label 4; at least 2 classes",
    ),
    "other classes": (
        ["--data", "npz:train.npz", "--test", "npz:others.npz"],
        "has the labels 0, 1, which npz:train.npz lacks",
    ),
    "grey test": (
        ["--data", "npz:train.npz", "--test", "npz:grey.npz"],
        "npz:grey.npz: its images are grey, those of npz:train.npz coloured",
    ),
    "too few": (
        ["--data", "npz:train.npz", "--test", "npz:test.npz"],
        "240 labelled images; more than the 5000 for validation",
    ),
    "no multiple": ([*DATA, "--label-count", "50"], "labels 50: expected a multiple of the 3 classes"),
    "too many": ([*DATA, "--label-count", "300"], "labels 300: 100 a class asked for"),
    "draws alone": ([*DATA, "--draws", "3"], "draws 3 without a number of labels"),
    "protocol": ([*DATA[:4], "--protocol", "mnist"], "protocol mnist: expected svhn-1000"),
    "protocol and labels": (
        [*DATA[:4], "--protocol", "svhn-1000", "--label-count", "10"],
        "--protocol svhn-1000 fixes --label-count",
    ),
    "costs": ([*DATA, "--costs", "1,x"], "--costs 1,x: expected numbers"),
    "no cost": ([*DATA, "--costs", ""], "--costs : expected numbers"),
    "endless cost": ([*DATA, "--costs", "inf"], "expected positive numbers up to 1e6"),
    "negative cost": ([*DATA, "--costs=-1"], "expected positive numbers"),
    "baseline": ([*DATA, "--baselines", "svm"], "baseline svm: expected some of pixels"),
    "no file": (["--data", "npz:none.npz", "--test", "npz:test.npz"], "none.npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_the_command_refuses_in_one_line(run, case: str) -> None:
    words, message = BAD[case]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("probe: ")
    assert err.count("\n") == 1
    assert not Path("out").exists()
