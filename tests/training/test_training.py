"""Training: against a plain loop, on which images, what is refused, what is written."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from probe import checkpoints
from probe.base import seeds
from probe.base.errors import ProbeError
from probe.models.dcgan import Discriminator, Generator, discriminator_blocks, generator_blocks, initialise
from probe.models.gan import from_bytes
from probe.training import adversaries
from probe.training import loop as training
from probe.training.loop import Settings, split, train
from tests.training_runs import COLOUR, TINY, about, pictures, rows, same_networks, same_to_the_bit

# ---- the recipe


def reference(images: np.ndarray, s: Settings, latents: list[torch.Tensor]) -> tuple[dict[str, nn.Module], list]:
    """The loop of pytorch/examples on whole-set batches, and a generator averaged by hand."""
    g, d = (
        Generator(generator_blocks(s.size, s.channels, s.nz, s.width)),
        Discriminator(discriminator_blocks(s.size, s.channels, s.width)),
    )
    initialise(g, s.seed)
    initialise(d, s.seed + 1)
    average = {k: v.clone() for k, v in g.state_dict().items()}
    opt_g, opt_d = (torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999), foreach=False) for net in (g, d))
    criterion, losses = nn.BCEWithLogitsLoss(), []
    ones, zeros = torch.ones(len(images)), torch.zeros(len(images))
    for k, z in enumerate(latents, 1):
        fake = g(z)
        opt_d.zero_grad()
        loss_real = criterion(d(from_bytes(torch.from_numpy(images))), ones)
        loss_fake = criterion(d(fake.detach()), zeros)
        (loss_real + loss_fake).backward()
        opt_d.step()
        opt_g.zero_grad()
        loss_g = criterion(d(fake), ones)
        loss_g.backward()
        opt_g.step()
        losses.append([loss_real.item() + loss_fake.item(), loss_g.item()])
        decay = min(s.ema, (1 + k) / (10 + k))
        for key, value in g.state_dict().items():
            if value.is_floating_point():
                average[key] = decay * average[key] + (1 - decay) * value
    ema = Generator(g.blocks)
    ema.load_state_dict(average)
    return {"generator": g, "discriminator": d, "ema": ema}, losses


@pytest.fixture
def drawn(monkeypatch) -> list[torch.Tensor]:
    """The latents that training draws, in order."""
    seen, plain = [], training.latents

    def spy(*arguments):
        seen.append(plain(*arguments))
        return seen[-1]

    monkeypatch.setattr(training, "latents", spy)
    return seen


@pytest.mark.parametrize("ema", [0.999, 0.05])
def test_against_a_plain_loop(tmp_path, drawn, ema):
    s = replace(TINY, steps=4, ema=ema)
    images = pictures(s.batch)  # a batch is the whole set: its order is of no account
    train(images, s, tmp_path)
    batches = [z for z in drawn if z.shape == (s.batch, s.nz)]
    assert len(batches) == 4
    assert len({z.numpy().tobytes() for z in batches}) == 4
    networks, losses = reference(images, s, batches)
    found = load_file(tmp_path / "state.safetensors")
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            error = (found[f"{name}.{key}"] - value).abs().float()
            assert (error < 2e-5).float().mean() > 0.99, f"{name}.{key}"  # steps are of 2e-4
    np.testing.assert_allclose(np.array(rows(tmp_path)[1:], dtype=float)[:, 1:3], losses, atol=1e-4)


def test_the_gradient_penalty(tmp_path, drawn):
    """The first step of D, with γ/2·|∇D|² on every second real image added by hand, sixteen times as it is rare."""
    s = replace(TINY, steps=1, r1=0.3)
    images = pictures(s.batch)
    train(images, s, tmp_path)
    (z,) = (z for z in drawn if z.shape == (s.batch, s.nz))
    g, d = (
        Generator(generator_blocks(s.size, s.channels, s.nz, s.width)),
        Discriminator(discriminator_blocks(s.size, s.channels, s.width)),
    )
    initialise(g, s.seed)
    initialise(d, s.seed + 1)
    order = np.random.default_rng(seeds.TRAIN_ORDER.of(s.seed, 0)).permutation(len(images))
    real = from_bytes(torch.from_numpy(images[order]))
    loss = nn.functional.softplus(-d(real)).mean() + nn.functional.softplus(d(g(z).detach())).mean()
    half = real[::2].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(d(half).sum(), half, create_graph=True)
    (loss + 16 * 0.15 * (slope**2).sum() / len(half)).backward()
    found = load_file(tmp_path / "state.safetensors")
    for name, parameter in d.named_parameters():
        torch.testing.assert_close(found[f"opt_d.{name}.exp_avg"], 0.5 * parameter.grad, rtol=1e-3, atol=1e-5)


def test_the_penalty_comes_every_sixteen_steps(tmp_path, monkeypatch):
    seen = []
    plain = adversaries.Run._penalty
    monkeypatch.setattr(adversaries.Run, "_penalty", lambda run, real: (seen.append(run.step), plain(run, real))[1])
    train(pictures(20), replace(TINY, steps=34, r1=1.0), tmp_path)
    assert seen == [0, 16, 32]


def test_moved_images():
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).reshape(2, 3, 5, 5) + 1
    found = adversaries.moved(images, torch.tensor([[1, -2], [0, 3]]))
    expected = torch.zeros_like(images)
    expected[0, :, 1:, :3] = images[0, :, :4, 2:]
    expected[1, :, :, 3:] = images[1, :, :, :2]
    assert torch.equal(found, expected)


def test_augmentation_moves_real_and_drawn_images_before_d_alone(tmp_path, monkeypatch):
    shifts = []
    plain = adversaries.moved
    monkeypatch.setattr(adversaries, "moved", lambda images, by: (shifts.append(by), plain(images, by))[1])
    train(pictures(20), replace(TINY, augment=True), tmp_path / "a")
    assert len(shifts) == 12
    assert {int(s.abs().max()) for s in shifts} <= {0, 1, 2, 3}  # of 28 px
    assert torch.cat(shifts).abs().max() == 3
    assert not torch.equal(shifts[0], shifts[1])
    again = len(shifts)
    train(pictures(20), replace(TINY, augment=True), tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(shifts[:again], shifts[again:], strict=True))
    same_to_the_bit(tmp_path / "a", tmp_path / "b")


def test_the_rate_falls_to_zero(tmp_path, monkeypatch):
    rates = []
    plain = adversaries.Run._rate
    monkeypatch.setattr(adversaries.Run, "_rate", lambda run: (rates.append(plain(run)), rates[-1])[1])
    train(pictures(20), replace(TINY, steps=10, decay=0.6), tmp_path)
    np.testing.assert_allclose(rates, 2e-4 * np.array([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]))


def test_accuracy_of_the_discriminator(tmp_path):
    """A D that calls everything real is right of all real images and of no other."""

    class Always(Discriminator):
        def forward(self, x):
            return super().forward(x) * 0 + 5

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversaries, "Discriminator", Always)
        train(pictures(20), TINY, tmp_path)
    assert {tuple(row[3:]) for row in rows(tmp_path)[1:]} == {("1.00000", "0.00000")}


def test_what_is_returned(tmp_path):
    progress: list[training.Progress] = []
    gan = train(pictures(20), replace(TINY, holdout=5), tmp_path, source="noise", report=progress.append)
    assert (gan.nz, gan.size, gan.channels, gan.prior) == (5, 28, 1, "uniform")
    assert gan.batchnorm == {"generator": "recalibrated", "discriminator": "running"}
    assert not gan.generator.training
    assert not gan.discriminator.training
    assert gan.sample(3).shape == (3, 1, 28, 28)
    noted = gan.provenance["training"]
    assert noted["settings"] == asdict(replace(TINY, holdout=5))
    assert (noted["source"], noted["steps"]) == ("noise", 6)
    assert noted["split"] == {"holdout": 5, "of": 20, "rule": "training.split(of, holdout, seed)"}
    state = load_file(tmp_path / "state.safetensors")
    for key, value in gan.generator.named_parameters():
        assert torch.equal(value, state[f"ema.{key}"])  # the averaged generator
    checkpoints.save(gan, tmp_path / "gan.safetensors")
    assert torch.equal(checkpoints.load(tmp_path / "gan.safetensors").sample(3), gan.sample(3))
    assert [p.step for p in progress] == [6]


def test_without_averaging_the_generator_itself_is_returned(tmp_path):
    gan = train(pictures(8), replace(TINY, ema=0.0), tmp_path)
    state = load_file(tmp_path / "state.safetensors")
    for key, value in gan.generator.named_parameters():
        assert torch.equal(value, state[f"generator.{key}"])


def test_the_averaged_discriminator_is_returned_and_kept(tmp_path):
    s = replace(TINY, d_ema=0.5, steps=3)
    half = train(pictures(16), replace(s, steps=2), tmp_path)
    before = {k: v.clone() for k, v in half.discriminator.state_dict().items()}
    gan = train(pictures(16), s, tmp_path, resume=True)
    now = {k.removeprefix("discriminator."): v for k, v in load_file(tmp_path / "state.safetensors").items()}
    decay = min(0.5, (1 + 3) / (10 + 3))
    for key, value in gan.discriminator.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, decay * before[key] + (1 - decay) * now[key])


def test_flips_mirror_about_half_of_the_real_images(tmp_path, monkeypatch):
    seen, plain = [], training.Run.advance
    monkeypatch.setattr(training.Run, "advance", lambda run, real, z: (seen.append(real), plain(run, real, z))[1])
    images = pictures(8)
    train(images, replace(TINY, flips=True, steps=8), tmp_path)
    found = torch.cat(seen).numpy()
    known = {image.tobytes() for image in images}
    mirrored = {np.ascontiguousarray(image[..., ::-1]).tobytes() for image in images}
    turned = sum(image.tobytes() in mirrored for image in found)
    assert sum(image.tobytes() in known for image in found) + turned == len(found)
    assert 18 <= turned <= 46  # of 64


def test_training_is_a_function_of_the_seed(tmp_path):
    images = pictures(20)
    torch.manual_seed(1)
    first = train(images, TINY, tmp_path / "a")
    torch.manual_seed(2)
    same_networks(first, train(images, TINY, tmp_path / "b"))
    same_to_the_bit(tmp_path / "a", tmp_path / "b")
    train(images, replace(TINY, seed=1), tmp_path / "c")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


# ---- which images


def test_split_is_disjoint_and_complete():
    for n, holdout, seed in [(10, 0, 0), (10, 3, 0), (1000, 999, 4), (7, 1, 2)]:
        kept, held = split(n, holdout, seed)
        assert sorted([*kept, *held]) == list(range(n))
        assert len(held) == holdout
        assert (np.diff(kept) > 0).all()
        assert (np.diff(held) > 0).all()
        np.testing.assert_array_equal(split(n, holdout, seed)[1], held)
    assert split(1000, 100, 0)[1].tolist() != split(1000, 100, 1)[1].tolist()
    counts = np.bincount(np.concatenate([split(12, 4, seed)[1] for seed in range(600)]), minlength=12)
    assert counts.min() > 140  # 200 of each, give or take
    assert counts.max() < 260


@pytest.mark.parametrize("holdout", [10, 11])
def test_a_holdout_that_leaves_nothing(holdout, tmp_path):
    message = rf"^holdout {holdout}: the source has 10 images; leave some to train on$"
    with pytest.raises(ProbeError, match=message):
        train(pictures(10), replace(TINY, holdout=holdout), tmp_path)


def test_every_epoch_shows_each_training_image_once_and_no_other(tmp_path, monkeypatch):
    s = replace(TINY, batch=4, steps=5, holdout=3, seed=2)
    images = np.broadcast_to(np.arange(13, dtype=np.uint8)[:, None, None, None], (13, 1, 28, 28))
    shown, plain = [], adversaries.from_bytes
    monkeypatch.setattr(adversaries, "from_bytes", lambda x: shown.extend(x[:, 0, 0, 0].tolist()) or plain(x))
    train(images, s, tmp_path)
    kept = split(13, 3, 2)[0].tolist()
    assert sorted(shown[:10]) == sorted(shown[10:]) == kept  # batches run on across epochs
    assert shown[:10] != shown[10:]
    assert shown[:10] != kept


def test_a_set_smaller_than_a_batch(tmp_path):
    train(pictures(3), replace(TINY, steps=2), tmp_path)
    assert len(rows(tmp_path)) == 3


# ---- refused


def test_a_loss_that_is_not_a_number(tmp_path):
    settings = replace(TINY, lr=1e30)
    message = rf"the loss is not a number; lower lr, or resume from the last state in {tmp_path.name}$"
    with pytest.raises(ProbeError, match=f"^step 1: {message}"):
        train(pictures(20), settings, tmp_path, save_every=1)
    assert not (tmp_path / "state.safetensors").exists()
    train(pictures(20), replace(TINY, steps=2), tmp_path)  # a good state, as if of the same settings
    path = tmp_path / "state.safetensors"
    save_file(load_file(path), path, about(tmp_path) | {"settings": json.dumps(asdict(settings))})
    good = path.read_bytes()
    with pytest.raises(ProbeError, match=f"^step 3: {message}"):
        train(pictures(20), settings, tmp_path, save_every=1, resume=True)
    assert path.read_bytes() == good


@pytest.mark.parametrize("shape", [(9, 3, 28, 28), (9, 1, 32, 32), (9, 28, 28, 1), (9, 28, 28)])
def test_images_that_do_not_fit(tmp_path, shape):
    found = str(shape[1:]).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ProbeError, match=rf"^images of shape {found}: expected \(1, 28, 28\)$"):
        train(np.zeros(shape, np.uint8), TINY, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, r"^batch 0: expected 1 to 100000$"),
        ({"steps": -1}, r"^steps -1: expected 1 to 1000000000$"),
        ({"nz": 0}, r"^nz 0: expected 1 to 10000$"),
        ({"width": 0}, r"^width 0: expected 1 to 10000$"),
        ({"size": 0}, r"^size 0: expected 1 to 1024$"),
        ({"channels": 4}, r"^channels 4: expected 1 \(grey\) or 3 \(colour\)$"),
        ({"kernel": 2}, r"^kernel 2: expected 3 to 7; the paper's code has 5, the ports 4$"),
        ({"kernel": 8}, r"^kernel 8: expected 3 to 7; the paper's code has 5, the ports 4$"),
        (
            {"ema": 1.0},
            r"^ema 1\.0, d_ema 0\.0, lr 0\.0002, holdout 0: expected decays of at least 0 and below 1, lr > 0",
        ),
        ({"d_ema": -0.1}, r"^ema 0\.999, d_ema -0\.1, lr"),
        ({"width": 10**20}, r"^width 100000000000000000000: expected 1 to 10000$"),
        ({"depth": 0}, r"^depth 0: expected 1 to 32"),
        ({"lr": 0.0}, r"lr 0\.0, holdout 0: expected"),
        ({"lr": float("nan")}, r"lr nan, holdout 0: expected"),
        ({"holdout": -1}, r"holdout -1: expected"),
        ({"r1": -1.0}, r"^r1 -1\.0, decay 1\.0: expected a penalty of 0 to 1000"),
        ({"decay": 1.5}, r"^r1 0\.0, decay 1\.5: expected"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ProbeError, match=message):
        replace(TINY, **changes)


def test_the_defaults_are_the_papers():
    s = Settings()
    assert (s.batch, s.lr, s.beta1, s.nz, s.prior, s.size) == (128, 2e-4, 0.5, 100, "uniform", 64)


# ---- what is written


@pytest.mark.parametrize("settings", [replace(TINY, lr=0.02), replace(COLOUR, lr=0.02, ema=0.1)])
def test_files(tmp_path, settings, drawn):
    train(pictures(20, settings), settings, tmp_path / "out", source="noise")
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["losses.csv", "samples", "state.safetensors", "training.gif"]
    found = about(out)
    schedule = {"from": 0, "lr": settings.lr, "noise": 0.0, "ema": settings.ema, "precision": "float32", "decay": 1.0}
    assert json.loads(found.pop("history")) == [schedule]
    assert found == {"settings": json.dumps(asdict(settings)), "source": "noise", "images": "20", "step": "6"}
    assert rows(out)[0] == ["step", "loss_d", "loss_g", "accuracy_real", "accuracy_fake"]
    assert [r[0] for r in rows(out)[1:]] == list("123456")
    frames = sorted((out / "samples").iterdir())
    assert frames[-1].name == "step-0000006.png"
    numbers = {p.name.removeprefix("step-") for p in frames if p.name.startswith("step-")}
    assert numbers == {p.name.removeprefix("raw-") for p in frames if p.name.startswith("raw-")}
    assert (
        {"0000003.png", "0000006.png"} <= numbers <= {f"{i:07d}.png" for i in range(1, 7)}
    )  # 20 images: a pass is 2.5 steps
    with Image.open(out / "training.gif") as film:
        assert film.format == "GIF"
        assert film.size == (8 * settings.size, 8 * settings.size)
        assert 1 < film.n_frames <= len(numbers)
    # the last picture is the averaged generator's, of the same 64 latents as all others
    g = Generator(generator_blocks(settings.size, settings.channels, settings.nz, settings.width)).eval()
    state = load_file(out / "state.safetensors")
    g.load_state_dict({k.removeprefix("ema."): v for k, v in state.items() if k.startswith("ema.")})
    (fixed,) = (z for z in drawn if len(z) == 64)
    with torch.no_grad():
        expected = g(fixed).permute(0, 2, 3, 1).squeeze(-1).numpy()
    with Image.open(frames[-1]) as picture:
        grid = np.asarray(picture).astype(np.float32) / 127.5 - 1
    for i in (0, 7, 8, 63):
        row, column = divmod(i, 8)
        tile = grid[row * settings.size :, column * settings.size :][: settings.size, : settings.size]
        np.testing.assert_allclose(tile, expected[i], atol=0.005)


def told(tmp_path: Path, steps: int, every: int) -> tuple[list[training.Progress], np.ndarray]:
    progress: list[training.Progress] = []
    train(pictures(20), replace(TINY, steps=steps), tmp_path, report=progress.append, report_every=every)
    return progress, np.array(rows(tmp_path)[1:], dtype=float)


def test_progress(tmp_path):
    progress, losses = told(tmp_path, 7, 3)
    assert [(p.step, p.steps, p.warning) for p in progress] == [(3, 7, ""), (6, 7, ""), (7, 7, "")]
    for p, rows_ in zip(progress[:2], (losses[:3], losses[3:6]), strict=True):
        assert p.loss_d == pytest.approx(rows_[:, 1].mean(), abs=2e-5)
    assert progress[0].left > 0
    assert progress[-1].left == 0


def test_progress_gives_means_since_the_last_report(tmp_path):
    progress, losses = told(tmp_path, 7, 3)
    for p, rows_ in zip(progress, (losses[:3], losses[3:6], losses[6:]), strict=True):
        assert [p.loss_d, p.loss_g] == pytest.approx(rows_[:, 1:3].mean(0), abs=2e-5)


def test_a_discriminator_that_has_won_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_COLLAPSE_STEPS", 4)
    assert [p.warning for p in told(tmp_path / "a", 6, 1)[0]] == [""] * 6
    monkeypatch.setattr(training, "_COLLAPSE", 100.0)
    warning = "the discriminator has won: the generator gets no gradient"
    assert [p.warning for p in told(tmp_path / "b", 6, 1)[0]] == [""] * 3 + [warning] * 3
