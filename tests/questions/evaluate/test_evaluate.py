"""Distances between sets of images against other implementations, Inception against torch-fidelity's, the command."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.spatial.distance import cdist
from torch import Tensor
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_kernel

import probe
from probe import cli
from probe.base.errors import ProbeError
from probe.checkpoints import save
from probe.concepts.segmenters import load_rooms
from probe.data import loading
from probe.data.rooms import scenes as rooms
from probe.measures.distances import compare, frechet, jackknife, kernel_distance, precision_recall
from probe.measures.features import Feature
from probe.models.gan import GAN, from_bytes, to_bytes
from probe.questions.evaluate import backbones, inception
from probe.questions.evaluate import images as compared
from probe.questions.evaluate.backbones import Backbone, backbone
from probe.questions.evaluate.inception import load_inception
from probe.questions.evaluate.run import Settings, evaluate, untrained_generator
from probe.questions.evaluate.summary import summary
from probe.results.drawing import draw
from probe.training.loop import split

CPU = torch.device("cpu")


def normal(seed: int, n: int, d: int = 6, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) @ torch.linspace(0.5, 2, d).diag() * scale + shift


# --- the four numbers


@pytest.mark.parametrize(("n", "m"), [(300, 200), (5, 4)])  # the second: fewer rows than numbers in each
def test_frechet_equals_the_matrix_square_root(n: int, m: int) -> None:
    a, b = normal(0, n), normal(1, m, scale=1.4, shift=0.5)
    means = [x.double().numpy().mean(0) for x in (a, b)]
    covariances = [np.cov(x.double().numpy().T) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1] + 1e-12 * np.eye(6)).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_of_gaussians_is_known() -> None:
    a, b = normal(0, 40_000, 3), normal(1, 40_000, 3, shift=2)
    assert frechet(a, b) == pytest.approx(12, rel=0.02)  # 3 · 2², the covariances being equal


def test_kernel_distance_equals_torchmetrics() -> None:
    a, b = normal(0, 60), normal(1, 60, scale=1.3)
    kernels = [poly_kernel(x.double(), y.double()) for x, y in ((a, a), (a, b), (b, b))]
    assert kernel_distance(a, b) == pytest.approx(float(maximum_mean_discrepancy(*kernels)), rel=1e-9)


def share_within(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    radius = np.sort(cdist(centres, centres), axis=1)[:, k]
    return float(
        np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radius, strict=True)) for p in points])
    )


def test_precision_and_recall_equal_loops() -> None:
    real, drawn = normal(0, 60, 3), normal(1, 50, 3, scale=0.6, shift=0.4)
    expected = share_within(drawn.numpy(), real.numpy(), 3), share_within(real.numpy(), drawn.numpy(), 3)
    assert precision_recall(real, drawn) == pytest.approx(expected)
    assert 0 < expected[1] < expected[0]  # a narrow generator: all within, little covered
    assert precision_recall(real, drawn + 100) == (0, 0)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=(20, 50))
    low, high = jackknife([x.mean(), *((x.sum() - block.sum()) / 950 for block in x)])
    expected = x.mean(1).std(ddof=1) / 20**0.5
    assert (high - low) / 2 == pytest.approx(2.093 * expected, rel=1e-3)
    assert (high + low) / 2 == pytest.approx(x.mean())


def test_intervals_hold_what_they_say() -> None:
    def pair(seed: int) -> tuple[Tensor, Tensor]:
        return normal(2 * seed, 200, 4), normal(2 * seed + 1, 200, 4, scale=1.3)

    truth = np.mean([frechet(*pair(seed)) for seed in range(1000, 1300)])  # what 200 images give on average
    caught = 0
    for seed in range(60):
        low, high = compare(*pair(seed))["fid_ci"]
        caught += low <= truth <= high
    assert caught >= 51  # 95 % of 60 are 57; below 51 has a probability of 0.002


def test_compare_gives_the_numbers_of_the_single_functions() -> None:
    a, b = normal(0, 200), normal(1, 240, scale=0.8)
    found = compare(a, b)
    assert found["fid"] == pytest.approx(frechet(a, b))
    assert found["kid"] == pytest.approx(kernel_distance(a, b))
    assert (found["precision"], found["recall"]) == pytest.approx(precision_recall(a, b))
    assert all(found[f"{k}_ci"][0] <= found[k] <= found[f"{k}_ci"][1] for k in ("fid", "kid", "precision", "recall"))


# --- backbones


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inception with random weights, name by name in alphabetical order from one seed."""
    shapes = json.loads((Path(__file__).parents[2] / "inception_convolutions.json").read_text())
    every = {"fc.bias": [1008], "fc.weight": [1008, 2048]}
    for name, shape in shapes.items():
        every |= {f"{name}.conv.weight": shape} | {
            f"{name}.bn.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")
        }
    generator, state = torch.Generator().manual_seed(0), {}
    for name in sorted(every):
        value = torch.rand(every[name], generator=generator)
        if name.endswith("conv.weight"):
            state[name] = (value - 0.5) * (24 / value[0].numel()) ** 0.5
        else:
            state[name] = value + (0.5 if name.endswith(("running_var", "bn.weight")) else -0.5)
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    save_file(state, path)
    return path


def test_inception_equals_torch_fidelity(weights: Path) -> None:
    """The numbers are of torch-fidelity 0.4.0's network, on the same weights and images."""
    x = torch.randint(0, 256, (2, 3, 48, 48), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    rows = load_inception(weights)(from_bytes(x))
    assert rows.shape == (2, 2048)
    np.testing.assert_allclose(rows[0, :5], [5.9040, 6.8736, 2.2366, 5.3282, 0.4878], atol=2e-4)
    np.testing.assert_allclose(rows.sum(1), [12816.3271, 12889.9082], rtol=1e-5)
    network = backbone(str(weights), 3, CPU)
    assert network.fid
    assert network.name == "Inception-v3, weights.safetensors"


def test_files_that_are_not_inception(tmp_path: Path, weights: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # but people have such files
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with pytest.raises(ProbeError, match=r"script\.pt"):
        load_inception(tmp_path / "script.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickle.pth")
    with pytest.raises(ProbeError, match=r"pickle\.pth"):
        load_inception(tmp_path / "pickle.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(
        ProbeError, match=r"other.pth: no Conv2d_1a_3x3.conv.weight among 1 tensors; expected FID's Inception"
    ):
        load_inception(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ProbeError, match=r"text\.pth"):
        load_inception(tmp_path / "text.pth")
    whole = inception.read(weights)[0]
    save_file({k: v for k, v in whole.items() if not k.startswith("Mixed_6d")}, tmp_path / "part.safetensors")
    with pytest.raises(ProbeError, match=r"part.safetensors: lacks or misshapes 'Mixed_6d"):
        load_inception(tmp_path / "part.safetensors")


def test_named_backbones(tmp_path: Path) -> None:
    images = rooms.render(6, 3, 64).images
    segmenter = backbone("segmenter", 3, CPU)
    assert not segmenter.fid
    judge, inner = load_rooms()["judge"].network, []
    judge.down[-1].register_forward_hook(lambda *a: inner.append(a[2]))
    with torch.no_grad():
        judge(from_bytes(torch.from_numpy(images)))
    quarters = torch.stack([inner[0][:, :, y : y + 4, x : x + 4].mean((2, 3)) for y in (0, 4) for x in (0, 4)], 2)
    torch.testing.assert_close(segmenter.rows(images, CPU), quarters.flatten(1), atol=1e-4, rtol=1e-4)
    grey = images[:, :1]
    assert segmenter.rows(grey[:, :, ::2, ::2], CPU).shape == (6, 256)
    random = backbone("random", 1, CPU)
    assert random.rows(grey, CPU).shape == (6, 32 + 64 + 128)
    assert "seed 0" in random.name
    with pytest.raises(ProbeError, match="no such name and no such file"):
        backbone(str(tmp_path / "missing.pth"), 3, CPU)
    with pytest.raises(ProbeError, match="12288 numbers an image; expected at most 4096"):
        Backbone(Feature("pixels", lambda x: x.flatten(1))).rows(images, CPU)


# --- the evaluation

PIXELS = Backbone(Feature("coarse pixels", lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)))


def bytes_of(gan: GAN, n: int, seed: int) -> np.ndarray:
    return to_bytes(gan.sample(n, seed)).numpy()


def test_a_perfect_generator_is_at_the_floor(tiny_gan: GAN, tmp_path: Path) -> None:
    n = 240
    result = evaluate(tiny_gan, bytes_of(tiny_gan, n, 7), bytes_of(tiny_gan, n, 8), PIXELS, Settings(images=n))
    m = result.metrics
    assert m["fid_ci"][0] < m["floor"]["fid"] < m["fid_ci"][1]
    assert m["kid_ci"][0] < m["floor"]["kid"] < m["kid_ci"][1]
    assert m["fid"] < 0.1 * m["ceiling"]["fid"]
    assert m["ceiling"]["precision"] < 0.2 < 0.8 < m["precision"]
    assert (m["backbone"], m["n"], m["features"]) == ("coarse pixels", n, 27)
    assert "not FID" in m["measure"]
    assert "coarse pixels" in m["measure"]
    np.testing.assert_array_equal(result.arrays["samples"], bytes_of(tiny_gan, n, 0)[:12])
    assert draw(result, tmp_path)[0].stat().st_size > 10_000


def test_an_untrained_generator_leaves_the_trained_one_alone(tiny_gan: GAN) -> None:
    before = {k: v.clone() for k, v in tiny_gan.generator.state_dict().items()}
    fresh = untrained_generator(tiny_gan, 3)
    for k, v in tiny_gan.generator.state_dict().items():
        torch.testing.assert_close(v, before[k])
    kernels = [p for name, p in fresh.generator.named_parameters() if p.ndim == 4]
    assert all(0.015 < p.std() < 0.025 for p in kernels)


def test_what_evaluation_refuses(tiny_gan: GAN) -> None:
    reals = bytes_of(tiny_gan, 200, 1)
    with pytest.raises(ProbeError, match=r"reference images of \(1, 32, 32\); expected \(3, 32, 32\)"):
        evaluate(tiny_gan, reals[:, :1], reals, PIXELS, Settings(images=200))
    with pytest.raises(ProbeError, match="150 other real images; expected at least 200"):
        evaluate(tiny_gan, reals, reals[:150], PIXELS, Settings(images=200))
    for n in (199, 10_001):
        with pytest.raises(ProbeError, match=f"`samples` {n}: expected 200 to 10000"):
            Settings(images=n)


# --- the command


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["probe", "evaluate", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture
def trained(tiny_gan: GAN, tmp_path: Path) -> Path:
    """A checkpoint that held out 210 of 420 rooms of 32 px."""
    note = {"holdout": 210, "of": 420, "rule": "training.split(of, holdout, seed)"}
    tiny_gan.provenance = {"training": {"source": "rooms:420", "settings": {"seed": 4}, "split": note}}
    save(tiny_gan, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_held_out_images_are_the_reference(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = []
    from probe.questions.evaluate import run as evaluation

    plain = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", lambda gan, *a: taken.append(a[:2]) or plain(gan, *a))
    out = tmp_path / "out"
    words = ["--ckpt", str(trained), "--data", "rooms:420", "--out", str(out), "--features", "random", "--json"]
    assert run(monkeypatch, *words) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["n"] == 210
    assert "held-out images of rooms:420" in metrics["reference"]
    images = rooms.load(420, 0, 32).images
    for found, indices in zip(taken[0], split(420, 210, 4)[::-1], strict=True):
        assert {x.tobytes() for x in found} == {x.tobytes() for x in images[indices]}
    assert {"fid", "kid", "precision", "recall", "backbone", "floor", "ceiling", "measure"} <= set(metrics)
    assert json.loads((out / "result.json").read_text())["settings"] == {"images": 210, "seed": 0}
    assert (
        run(monkeypatch, "--ckpt", str(trained), "--data", "rooms:400@3", "--out", str(out), "--features", "random")
        == 0
    )
    text = capsys.readouterr().out
    assert text.startswith("Fréchet distance in features of a random-weights network, seed 0 (not FID); 200 images")
    assert "half of rooms:400@3" in text


def test_the_training_images_are_known_by_their_contents(
    tiny_gan: GAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    made = {}
    for place, seed in (("a/images", 0), ("b/images", 1), ("c/moved", 0)):
        (tmp_path / place).mkdir(parents=True)
        for i, image in enumerate(np.random.default_rng(seed).integers(0, 256, (8, 32, 32, 3), np.uint8)):
            Image.fromarray(image).save(tmp_path / place / f"{i}.png")
        made[place] = str(tmp_path / place)
    known = loading.load(made["a/images"], 32).sha256
    tiny_gan.provenance = {"training": {"source": "folder:images", "contents": known}}
    notes = [compared.reals(tiny_gan, source, None, 0, lambda *_: None)[2] for source in made.values()]
    assert ["TRAINED on" in note for note in notes] == [True, False, True]
    assert "other images than the folder:images that the checkpoint was trained on" in notes[1]
    del tiny_gan.provenance["training"]["contents"]  # as an earlier version noted it
    assert "by name and count only" in compared.reals(tiny_gan, made["b/images"], None, 0, lambda *_: None)[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "rooms:300@3"], "150 reference images; expected at least 200"),
        (["--data", "nowhere"], "no such file or folder"),
        (["--data", "rooms:420", "-n", "211"], "210 reference images; expected at least 211"),
        (["--features", "inception"], "no such name and no such file"),
        (["--features", "README.md"], "README.md"),
        (["-n", "0"], "--samples 0: expected 200 to 10,000"),
        (["--features", ""], "features : no such name and no such file"),
        (["-n", "20"], "--samples 20: expected 200 to 10,000"),
        (["--data", "rooms:400@3", "--exclude", "list.json"], "--exclude: is for --data"),
    ],
)
def test_evaluate_says_what_is_wrong(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert run(monkeypatch, "--ckpt", str(trained), *words, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_source_is_read_as_the_generator_draws(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Grey files of another size are no error; that there are three of them is."""
    for i, image in enumerate(rooms.render(3, 5, 32).images):
        Image.fromarray(image[0]).resize((50, 40)).save(tmp_path / f"{i}.png")
    assert run(monkeypatch, "--ckpt", str(trained), "--data", str(tmp_path), "--out", str(tmp_path / "out")) == 2
    assert "1 reference images; expected at least 200" in capsys.readouterr().err


# --- editions of rooms


def test_each_edition_has_its_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, plain = [], backbones.load_rooms
    monkeypatch.setattr(backbones, "load_rooms", lambda edition, device: (asked.append(edition), plain(1, device))[1])
    assert [backbone(name, 3, CPU).name for name in ("judge", "judge@2")] == [
        "the built-in rooms judge",
        "the built-in judge of rooms@2",
    ]
    assert asked == [1, 2]


@pytest.mark.parametrize(
    ("trained", "data", "source", "features"),
    [
        ("rooms:24000", None, "rooms:5000@77", "judge"),
        ("rooms@2:30000", None, "rooms@2:5000@77", "judge@2"),
        ("rooms@2:30000", "rooms:400@5", "rooms:400@5", "judge"),
        ("folder:faces", "folder:rooms@2", "folder:rooms@2", "random"),
        ("folder:faces", None, "rooms:5000@77", "judge"),
    ],
)
def test_a_model_is_compared_with_rooms_of_its_edition(
    tiny_gan: GAN, monkeypatch: pytest.MonkeyPatch, trained: str, data: str | None, source: str, features: str
) -> None:
    class EnoughError(Exception):
        pass

    seen = []

    def reals(_: GAN, source: str, *__: object) -> None:
        seen.append(source)
        raise EnoughError

    monkeypatch.setattr(backbones, "backbone", lambda name, *_: seen.append(name))
    monkeypatch.setattr(compared, "reals", reals)
    tiny_gan.provenance["training"] = {"source": trained}
    with pytest.raises(EnoughError):
        probe.evaluate(tiny_gan, data)
    assert seen == [features, source]


def test_no_precision_or_recall_is_said_in_random_features() -> None:
    numbers = {
        k: v for key in ("fid", "kid", "precision", "recall") for k, v in ((key, 0.5), (f"{key}_ci", [0.4, 0.6]))
    }
    m = {**numbers, "floor": numbers, "ceiling": numbers, "measure": "x", "n": 200, "reference": "y"}
    assert "precision" not in summary({**m, "backbone": "a random-weights network, seed 0"}).text
    assert "recall" in summary({**m, "backbone": "the built-in rooms judge"}).text
