"""A report: everything that checkpoints allow, asked one question after another, each result kept on disk."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe import __version__
from probe.base.errors import DrawingError, ProbeError
from probe.base.files import save_text
from probe.base.plugins import QUESTIONS, function
from probe.concepts import labels
from probe.concepts.exemplars import load as load_exemplars
from probe.data import loading as data
from probe.report.plan import Missing, Settings, Step
from probe.results.drawing import draw
from probe.results.provenance import about, command_line
from probe.results.result import Result
from probe.results.result import load as load_result

if TYPE_CHECKING:
    from probe.models.gan import GAN

Report = Callable[..., None]
PAGE, MARKER = "index.html", "report.json"
_FILES = ("labels", "concepts")
_SOURCES = ("data", "train", "holdout_data")


@dataclass(frozen=True)
class Model:
    """An opened checkpoint, the words of the command that open it, and a name that no other one of the page has."""

    gan: GAN
    words: tuple[str, ...]
    name: str

    @property
    def folder(self) -> str:
        """A folder's name for its results."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.name)[:60]}-{str(self.gan.provenance.get('sha256'))[:8]}"


def open_models(
    paths: Sequence[str], discs: Sequence[Path], more: Sequence[str], load: Callable[[str, Path | None], GAN]
) -> list[Model]:
    """Open checkpoints, each with its discriminator's file where there are such; `load` opens one.

    `more` are words of the command that hold for all, such as `--prior normal`. A name is the checkpoint's file name, with its folder where two are called the same. Raises ProbeError for a
    checkpoint given twice and for discriminators that do not pair up.
    """
    if discs and len(discs) != len(paths):
        raise ProbeError(
            f"{len(discs)} --disc for {len(paths)} --ckpt; pass one for each checkpoint, in the same order"
        )
    twice = next((p for p in paths if paths.count(p) > 1), None)
    if twice:
        raise ProbeError(f"--ckpt {twice}: given twice")
    gans = [load(path, discs[k] if discs else None) for k, path in enumerate(paths)]
    short = [Path(path).name for path in paths]
    names = [n if short.count(n) == 1 else "/".join(Path(p).parts[-2:]) for n, p in zip(short, paths, strict=True)]
    names = [n if names.count(n) == 1 else f"{k + 1}: {n}" for k, n in enumerate(names)]
    words = [("--ckpt", path, *(("--disc", str(discs[k])) if discs else ()), *more) for k, path in enumerate(paths)]
    return [Model(*parts) for parts in zip(gans, words, names, strict=True)]


@dataclass(frozen=True)
class Answer:
    """What came of a step: the result's folder, or why there is none; `again` is the command that repeats it."""

    step: Step
    folder: Path
    again: str
    why: str = ""
    taken_over: bool = False
    undrawn: str = ""  # why it has no figure

    @property
    def question(self) -> str:
        """The command's name."""
        return self.step.question

    @property
    def key(self) -> str:
        """What it is called on the page and on disk."""
        return self.step.key


def fingerprint(model: Model, step: Step) -> str:
    """What a result depends on: the checkpoint's contents, the call, what it reads, probe's version; '' for no checkpoint's file."""
    gan = model.gan
    if not gan.provenance.get("sha256"):
        return ""
    files = {
        name: hashlib.sha256(Path(step.options[name]).read_bytes()).hexdigest()
        for name in _FILES
        if name in step.options
    }
    known = {
        **about(gan, 0),
        "step": [step.call, step.arguments, dict(step.options)],
        "files": files,
        "sources": {name: _stamp(step.options[name]) for name in _SOURCES if name in step.options},
        "probe": __version__,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _stamp(source: str) -> str:
    return "" if source.startswith("samples:") else data.stamp(source)


def run(
    models: Sequence[Model], plans: Sequence[Sequence[Step | Missing]], out: Path, report: Report
) -> list[list[Answer | Missing]]:
    """Ask the planned questions; results go to `out`/results/<model>/<question>.

    A result that is there with the same fingerprint is taken over, so an interrupted run goes on where it was. A question
    that a checkpoint refuses becomes an answer with the reason. Reports the whole under the name `report`, and what is
    being done under `this question`.
    """

    def one_bar(name: str, done: int, total: int, note: str = "") -> None:
        report("this question", done, total, name)

    timing = _Timing([step for steps in plans for step in steps if isinstance(step, Step)], report)
    answers: list[list[Answer | Missing]] = []
    for model, steps in zip(models, plans, strict=True):
        answers.append([])
        for step in steps:
            if isinstance(step, Missing):
                answers[-1].append(step)
                continue
            timing.begin(step)
            answer = _ask(model, step, out / "results" / model.folder / step.key, one_bar)
            timing.end(step, answer.taken_over)
            answers[-1].append(answer)
    return answers


class _Timing:
    """Time left over the whole: each step counts its expected seconds, scaled by how this machine has done so far."""

    def __init__(self, steps: Sequence[Step], report: Report) -> None:
        self.total, self.done, self.report = sum(step.seconds for step in steps), 0.0, report
        self.left = list(steps)
        self.expected = self.spent = 0.0  # of the steps that were run
        self.began = time.monotonic()

    def begin(self, step: Step) -> None:
        self.began = time.monotonic()
        scale = (self.spent + 10) / (self.expected + 10)  # ten seconds' worth of trust in the table
        minutes = sum(s.seconds for s in self.left) * scale / 60
        note = (
            f"{step.question}; about {minutes:.0f} min left"
            if minutes >= 1
            else f"{step.question}; under a minute left"
        )
        self.report("report", int(self.done), int(self.total), note)

    def end(self, step: Step, taken_over: bool) -> None:
        self.left.remove(step)
        self.done += step.seconds
        if not taken_over:
            self.expected += step.seconds
            self.spent += time.monotonic() - self.began
        if not self.left:
            self.report("report", int(self.total), int(self.total), "done")


def _ask(model: Model, step: Step, folder: Path, report: Report) -> Answer:
    words = step.words()
    again = command_line([words[0], *model.words, *words[1:]])
    mark = fingerprint(model, step)
    if mark and _mark(folder) == mark:
        return Answer(step, folder, again, taken_over=True, undrawn=_redrawn(folder))
    call = function(QUESTIONS[step.question].call)
    progress = {"report": report} if "report" in inspect.signature(call).parameters else {}
    try:
        result: Result = call(model.gan, *step.arguments, **step.options, **progress)
    except ProbeError as error:
        return Answer(step, folder, again, " ".join(str(error).split()))
    result.provenance |= {"command": again, "fingerprint": mark}
    try:
        result.save(folder)
    except DrawingError as error:
        return Answer(step, folder, again, undrawn=" ".join(str(error).split()))
    return Answer(step, folder, again)


def _redrawn(folder: Path) -> str:
    """Draw the figure of a result that has none yet; returns why it has none still, or nothing."""
    try:
        if not (folder / "figure.png").is_file():
            draw(load_result(folder), folder)
    except DrawingError as error:
        return " ".join(str(error).split())
    return ""


def _mark(folder: Path) -> str:
    """The fingerprint of a whole result in a folder, '' where there is none."""
    try:
        return str(load_result(folder).provenance.get("fingerprint", ""))
    except ProbeError:
        return ""


def check(s: Settings, models: Sequence[Model]) -> None:
    """Read the files that are named, and find the images, before any work; raises ProbeError for what no model can use."""
    for source in (s.data, s.train, s.holdout_data):
        if source is not None:
            _stamp(source)
    if s.labels:
        labels.categories(s.labels)
    if s.concepts:
        for model in models:
            load_exemplars(s.concepts, model.gan)


def check_output(out: Path) -> None:
    """Refuse, before any work, a folder that holds something else than a report."""
    if (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file()):
        raise ProbeError(f"{out}: exists and is not a report of probe; choose another folder")


def start(out: Path, command: str) -> None:
    """Claim the output folder, so that an interrupted report is known as one."""
    if not (out / MARKER).is_file():
        mark_output(out, {"schema": 1, "command": command, "finished": False})


def mark_output(out: Path, document: dict[str, Any]) -> None:
    """Write OUT/report.json, which says that the folder is a report's."""
    save_text(out / MARKER, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
