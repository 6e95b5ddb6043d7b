"""The training loop: the paper's recipe, resumable to the bit, deterministic from one seed.

No random state is ever stored: the batch and the latents of step k are functions of (seed, k), so a run killed at
any moment and resumed from its last state repeats the same steps and, on the same CPU, ends with the same bits.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from probe.base import files, seeds
from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.data.exclusion import Exclusion
from probe.measures.statistics import Array
from probe.models.gan import GAN, latents, lay_out, recalibrate, to_bytes
from probe.training.adversaries import SCHEDULE, Run
from probe.training.adversaries import Settings as Settings

STATE = "state.safetensors"
_COLLAPSE = 0.01  # a discriminator whose mean loss stays below this gives the generator nothing to learn from
_COLLAPSE_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the loop tells of itself after a step: losses are means since the last report, `left` is in seconds."""

    step: int
    steps: int
    loss_d: float
    loss_g: float
    left: float
    warning: str = ""


def split(n: int, holdout: int, seed: int) -> tuple[Array, Array]:
    """Indices of the training and of the held-out images among n, both sorted; a function of (n, holdout, seed)."""
    if holdout >= n:
        raise ProbeError(f"holdout {holdout}: the source has {n} images; leave some to train on")
    order = np.random.default_rng([seed, n]).permutation(n)
    return np.sort(order[holdout:]), np.sort(order[:holdout])


def known_split(gan: GAN) -> tuple[int, int, int]:
    """How many images a checkpoint was split from, how many of them were held out, and the seed; else ProbeError."""
    run = gan.provenance.get("training") or {}
    about = run.get("split") or {}
    if not about.get("holdout"):
        raise ProbeError(
            f"{gan.provenance.get('checkpoint', 'checkpoint')}: held no images out (probe train --holdout does); "
            "pass `train` and `holdout_data`, or `train` alone for scores without a verdict"
        )
    of, holdout, seed = about.get("of"), about["holdout"], (run.get("settings") or {}).get("seed")
    if isinstance(of, int) and isinstance(holdout, int) and isinstance(seed, int) and 0 < holdout < of and seed >= 0:
        return of, holdout, seed
    raise ProbeError(
        f"{gan.provenance.get('checkpoint', 'checkpoint')}: says that {holdout} of {of} images were held out with "
        f"seed {seed}, which cannot be; its description is damaged: fetch or save it again"
    )


def same_source(gan: GAN, name: str, contents: str) -> bool | None:
    """Whether a checkpoint was trained on a source: by its contents where both sides have their digest.

    Else by its name, which tells for rooms; None where a name is the same that tells nothing of the contents.
    """
    run = gan.provenance.get("training") or {}
    if run.get("contents") and contents:
        return bool(run["contents"] == contents)
    return (True if name.startswith("rooms") else None) if run.get("source") == name else False


def own_split(
    gan: GAN, images: Array, name: str, exclude: Exclusion | None = None, contents: str = ""
) -> tuple[Array, Array]:
    """Training and held-out images (uint8) of a checkpoint that knows its split, among those of its source.

    `contents` is the digest of the source that the images are of. Raises ProbeError where it knows no split, and where
    images or the list of those left out are not what it was trained on.
    """
    total, holdout, seed = known_split(gan)
    run = gan.provenance["training"]
    noted = run["split"].get("excluded")
    if (noted or {}).get("sha256") != (exclude.sha256 if exclude else None):
        where, given = gan.provenance.get("checkpoint", "checkpoint"), exclude.file if exclude else "no list"
        if noted is None:
            raise ProbeError(f"{where}: trained with no image left out; {given} given: take `exclude` away")
        found = f"trained without the {noted['images']} images of {noted['file']}"
        raise ProbeError(f"{where}: {found}; {given} given: pass the same list as `exclude`")
    if run.get("contents") and contents and not same_source(gan, name, contents) and len(images) >= total:
        raise ProbeError(
            f"{name}: other images than the {run.get('source')} that {gan.provenance.get('checkpoint', 'the checkpoint')} was "
            "trained on, by the digest of their contents; pass those, unchanged"
        )
    kept = exclude.kept(len(images), name, contents) if exclude else np.arange(len(images))
    if len(kept) != total:
        source = run.get("source", "its source")
        raise ProbeError(
            f"{name}: {len(images)} images; expected the {total} of {source} that the checkpoint was split from"
        )
    train, held = split(total, holdout, seed)
    return images[kept[train]], images[kept[held]]


class _Batches:
    """The batch of step k: epochs are permutations of the training images, a function of (seed, epoch)."""

    def __init__(self, images: Array, chosen: Array, settings: Settings) -> None:
        self.images, self.chosen, self.batch, self.seed = images, chosen, settings.batch, settings.seed
        self.flips = settings.flips
        self.orders: dict[int, Array] = {}

    def order(self, epoch: int) -> Array:
        if epoch not in self.orders:
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1}
            self.orders[epoch] = np.random.default_rng(seeds.TRAIN_ORDER.of(self.seed, epoch)).permutation(self.chosen)
        return self.orders[epoch]

    def __getitem__(self, step: int) -> Tensor:
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, n = places // len(self.chosen), len(self.chosen)
        picked = np.concatenate([self.order(e)[places[epochs == e] % n] for e in np.unique(epochs)])
        real = self.images[picked]
        if self.flips:
            turned = np.random.default_rng(seeds.TRAIN_FLIPS.of(self.seed, step)).random(self.batch) < 0.5
            real[turned] = real[turned, ..., ::-1]
        return torch.from_numpy(real)


def _log(path: Path, rows: list[list[float]]) -> None:
    """Append loss rows to the CSV, after dropping rows a killed run wrote beyond its last state."""
    kept: list[list[str]] = []
    if path.exists():
        with path.open(newline="", errors="replace") as file:
            kept = [row for row in csv.reader(file) if row and row[0].isdecimal() and int(row[0]) < rows[0][0]]
    with files.writing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss_d", "loss_g", "accuracy_real", "accuracy_fake"])
        writer.writerows([*kept, *[[int(step), *(f"{value:.5f}" for value in values)] for step, *values in rows]])


def read_log(path: Path) -> dict[str, Array]:
    """A run's losses.csv by column, (steps,) each; a run of an earlier version told no accuracy: nan."""
    with path.open(newline="", errors="replace") as file:
        header, *lines = csv.reader(file)
    table = np.full((len(lines), len(header)), np.nan)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = [float(value) for value in line[: len(header)]]
    return dict(zip(header, table.T, strict=True))


def _draw(run: Run, folder: Path, z: Tensor) -> None:
    """Samples of the averaged generator, and beside them of the one in training, which normalises by their batch."""
    state = {key: value.clone() for key, value in run.g.state_dict().items()}  # a batch moves running statistics
    for name, model in (("step", run.ema), ("raw", run.g)):
        with torch.no_grad():
            x = to_bytes(model(z.to(run.device))).cpu()
        side = math.isqrt(len(x))
        grid = x.unflatten(0, (side, side)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (side·S, side·S, C)
        with files.writing(folder / f"{name}-{run.step:07d}.png") as temporary:
            Image.fromarray(grid.squeeze(-1).numpy()).save(temporary, "PNG")
    run.g.load_state_dict(state)


def _animate(folder: Path, path: Path) -> None:
    """All drawn steps that can be read as one animated GIF."""
    frames = []
    for drawn in sorted(folder.glob("step-*.png")):
        with contextlib.suppress(OSError, SyntaxError, ValueError):  # cut short by whatever ended an earlier run
            frames.append(Image.open(io.BytesIO(drawn.read_bytes())).convert("RGB"))
    if frames:
        with files.writing(path) as temporary:
            frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=120, loop=0)


def _finish(run: Run, provenance: dict[str, Any]) -> GAN:
    s = run.settings
    generator: nn.Module = run.ema if s.ema else run.g
    discriminator: nn.Module = run.d_ema if s.d_ema else run.d
    recalibrate(generator, s.nz, s.prior)
    discriminator.eval()
    batchnorm = {"generator": "recalibrated", "discriminator": "running"}
    gan = GAN(generator, discriminator, s.nz, s.size, s.channels, s.prior, batchnorm, {"training": provenance})
    for net in (generator, discriminator):
        lay_out(net, torch.contiguous_format)
    return gan


def known_by_name(out: Path) -> bool:
    """Whether the run in a folder, of an earlier version, knows its source by name and count only."""
    try:
        with safe_open(out / STATE, "pt") as file:
            about = file.metadata() or {}
        return "contents" not in about and not about.get("source", "rooms").startswith("rooms")
    except (OSError, SafetensorError):
        return False  # `train` says what is wrong with it


def stored(out: Path) -> tuple[int, dict[str, Any]] | None:
    """The steps that the run in a folder has taken, and its settings; None where no run is there, or none to be read."""
    try:
        with safe_open(out / STATE, "pt") as file:
            about = file.metadata() or {}
        return int(about["step"]), json.loads(about["settings"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None  # `train` says what is wrong with it


def _begin(
    run: Run, out: Path, source: str, images: int, contents: str, exclude: Exclusion | None
) -> list[dict[str, Any]]:
    """Restore the state in a folder, or clear it for a new run; returns the schedule so far, from which step on."""
    history: list[dict[str, Any]] = []
    if (out / STATE).exists():
        stored = run.restore(out / STATE)
        before = stored.get("contents")
        known, alike = bool(before and contents), (stored.get("source"), stored.get("images")) == (source, str(images))
        if known and alike and before != contents:
            found = (
                f"{stored.get('images')} images of {stored.get('source')} with other contents than these {images} of"
            )
            raise ProbeError(f"{out}: trained on {found} {source}; resume with the same `data`, unchanged")
        if not alike and not (known and before == contents):
            found = f"{stored.get('images')} images of {stored.get('source')}"
            raise ProbeError(f"{out}: trained on {found}, not on {images} of {source}; resume with the same `data`")
        if stored.get("exclude", "") != (exclude.sha256 if exclude else ""):
            raise ProbeError(f"{out}: trained with another `exclude` list, or none; resume with the same")
        history = json.loads(stored["history"])
        if run.step > run.settings.steps:
            raise ProbeError(
                f"{out}: has {run.step} steps already; pass `steps` of at least that many, or another folder"
            )
    else:
        whole = [name for name in ("checkpoint.safetensors", "training.gif", "result.json") if (out / name).exists()]
        if whole:
            raise ProbeError(f"{out}: holds {whole[0]} but no run to go on with ({STATE}); choose another folder")
        for stale in (
            *out.glob("samples/step-*.png"),
            *out.glob("samples/raw-*.png"),
            *out.glob("losses.csv"),
            *out.glob("training.gif"),
        ):
            stale.unlink()
    (out / "samples").mkdir(parents=True, exist_ok=True)
    now = {k: getattr(run.settings, k) for k in SCHEDULE if k != "steps"}
    if not history or {**history[-1], **now} != history[-1]:
        history.append({"from": run.step, **now})
    return history


def passed(passes: int, images: int, batch: int) -> int:
    """The step at which so many passes over so many images are complete."""
    return -(-passes * images // batch)


@contextmanager
def _ending() -> Iterator[list[BaseException]]:
    """Ctrl-C and SIGTERM while a step is under way: noted in the list, to be raised when the state is saved."""
    ended: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():  # only there may signals be caught
        yield ended
        return
    kinds: dict[int, BaseException] = {
        signal.SIGINT: KeyboardInterrupt(),
        signal.SIGTERM: SystemExit(128 + signal.SIGTERM),
    }
    before = {number: signal.signal(number, lambda number, _: ended.append(kinds[number])) for number in kinds}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require(sound: bool, run: Run, found: str, out: Path) -> None:
    if not sound:
        raise ProbeError(f"step {run.step}: {found}; lower lr, or resume from the last state in {out.name}")


class _Teller:
    """Progress from the losses of each step: means since it was last told, the time left, and whether D has won."""

    def __init__(self, run: Run) -> None:
        self.run, self.first, self.began = run, run.step, time.monotonic()
        self.since: list[tuple[float, float]] = []
        self.recent: deque[float] = deque(maxlen=_COLLAPSE_STEPS)

    def told(self, loss_d: float, loss_g: float, every: int) -> Progress | None:
        """Take a step's losses; progress at every so many steps and at the last, else None."""
        step, steps = self.run.step, self.run.settings.steps
        self.recent.append(loss_d)
        self.since.append((loss_d, loss_g))
        if step % every and step != steps:
            return None
        left = (time.monotonic() - self.began) / (step - self.first) * (steps - step)
        mean_d, mean_g = np.array(self.since).mean(0).tolist()
        collapsed = len(self.recent) == _COLLAPSE_STEPS and np.mean(self.recent) < _COLLAPSE
        self.since = []
        warning = "the discriminator has won: the generator gets no gradient" if collapsed else ""
        return Progress(step=step, steps=steps, loss_d=mean_d, loss_g=mean_g, left=left, warning=warning)


def train(
    images: Array,
    settings: Settings,
    out: File,
    *,
    source: str = "",
    contents: str = "",
    exclude: Exclusion | None = None,
    resume: bool = False,
    device: str = "cpu",
    save_every: int = 500,
    save_seconds: float = 120.0,
    report: Callable[[Progress], None] | None = None,
    report_every: int = 20,
) -> GAN:
    """Train a DCGAN on uint8 images (N, C, S, S) and return it, with the averaged generator.

    Writes to `out`: `state.safetensors` (all that a resumed run needs; every `save_every` steps, or `save_seconds`, and
    where Ctrl-C or SIGTERM ends the run), `losses.csv`, `samples/step-*.png` of the averaged generator and
    `samples/raw-*.png` of the one in training (the same 64 latents each time, after one and five passes over the images,
    too) and `training.gif`. `contents` is the digest of the source, by which it is known again. What `exclude` lists is left out before images are held out. Raises
    ProbeError where images and settings or list disagree, where a state cannot be resumed, and on a loss that is not
    finite (the last good state stays on disk).
    """
    s, out = settings, path_of(out, "out")
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ProbeError(f"images of {images.dtype}; expected uint8 in 0 … 255, (N, {s.channels}, {s.size}, {s.size})")
    if images.shape[1:] != (s.channels, s.size, s.size):
        raise ProbeError(f"images of shape {images.shape[1:]}: expected ({s.channels}, {s.size}, {s.size})")
    if (out / STATE).exists() and not resume:
        raise ProbeError(f"{out}: holds a run already; go on with it by `resume`, or choose another folder")
    kept = exclude.kept(len(images), source, contents) if exclude else np.arange(len(images))
    batches = _Batches(images, kept[split(len(kept), s.holdout, s.seed)[0]], s)
    run = Run(s, torch.device(device))
    history = _begin(run, out, source, len(images), contents, exclude)
    about = {
        "settings": json.dumps(asdict(s)),
        "source": source,
        "images": str(len(images)),
        "history": json.dumps(history),
        **({"contents": contents} if contents else {}),
        **({"exclude": exclude.sha256} if exclude else {}),
    }
    fixed = latents(64, s.nz, seeds.TRAIN_PICTURES.of(s.seed), s.prior)
    drawn = {int(k) for k in np.geomspace(1, s.steps, 40)} | {passed(k, len(batches.chosen), s.batch) for k in (1, 5)}
    losses: list[list[float]] = []
    teller, saved = _Teller(run), time.monotonic()
    with _ending() as ended:
        while run.step < s.steps:
            z = latents(s.batch, s.nz, seeds.TRAIN_LATENTS.of(s.seed, run.step), s.prior)
            loss_d, loss_g, *accuracy = run.advance(batches[run.step], z).tolist()
            _require(math.isfinite(loss_d + loss_g), run, "the loss is not a number", out)
            losses.append([run.step, loss_d, loss_g, *accuracy])
            if run.step in drawn or run.step == s.steps:
                _draw(run, out / "samples", fixed)
            late = time.monotonic() - saved > save_seconds
            if run.step % save_every == 0 or run.step == s.steps or late or ended:
                finite = all(bool(p.isfinite().all()) for net in (run.g, run.d) for p in net.parameters())
                _require(finite, run, "weights are not finite", out)
                _log(out / "losses.csv", losses)
                run.save(out / STATE, about)
                losses, saved = [], time.monotonic()
            if ended:
                raise ended[0]
            progress = teller.told(loss_d, loss_g, report_every)
            if report and progress:
                report(progress)
    _animate(out / "samples", out / "training.gif")
    split_note = {"holdout": s.holdout, "of": len(kept), "rule": "training.split(of, holdout, seed)"}
    if exclude:
        split_note["excluded"] = exclude.note()
    known: dict[str, Any] = {"source": source} | ({"contents": contents} if contents else {})
    return _finish(run, {"settings": asdict(s), **known, "steps": run.step, "history": history, "split": split_note})
