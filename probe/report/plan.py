"""Which questions can be asked of a checkpoint, with what samples, and which cannot, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.errors import ProbeError
from probe.base.parameters import words
from probe.base.plugins import QUESTIONS, function
from probe.concepts import labels
from probe.concepts.sources import fresh_rooms, is_rooms
from probe.models.hooks import sites

if TYPE_CHECKING:
    from probe.models.gan import GAN

_ROOMS_SUM, _ROOMS_TURN = "window/day - nowindow/day + nowindow/day", ("left", "right")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the questions may use. Files and sources are named as on the command line; `quick` takes smaller samples."""

    labels: Path | None = None
    label_seed: int | None = None
    concepts: Path | None = None
    expressions: tuple[str, ...] = ()
    turn: tuple[str, str] | None = None
    data: str | None = None
    train: str | None = None
    holdout_data: str | None = None
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.expressions or self.turn) and not self.concepts:
            raise ProbeError("`expression` and `turn` need the exemplars' file; pass it as `concepts`")
        if self.concepts and not (self.expressions or self.turn):
            raise ProbeError(
                f"`concepts` {self.concepts.name}: needs `expression` or `turn`, which say what to do with its concepts"
            )
        if self.holdout_data and not self.train:
            raise ProbeError("`holdout_data` without `train`; pass the training images as `train`")


@dataclass(frozen=True)
class Step:
    """A question that can be asked: its name as a Python `call`, its arguments, and about how many seconds it takes."""

    call: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 10.0
    folder: str = ""

    @property
    def question(self) -> str:
        """The command's name; a result says the same of itself."""
        return self.call.replace("_", "-")

    @property
    def key(self) -> str:
        """What it is called on a page and on disk."""
        return self.folder or self.question

    def words(self) -> list[str]:
        """The command line that asks the same, without what opens the checkpoint."""
        call = function(QUESTIONS[self.question].call)
        return words(call, self.question, *self.arguments, **self.options)


@dataclass(frozen=True)
class Missing:
    """A question that cannot be asked of a checkpoint, and why."""

    question: str
    why: str

    @property
    def key(self) -> str:
        """What it is called on a page."""
        return self.question


def plan(gan: GAN, s: Settings) -> list[Step | Missing]:
    """The questions in the order of the page; sample sizes are moderate, small with `quick`."""
    few = s.quick
    steps: list[Step | Missing] = [
        Step("sample", (36 if few else 64,), _seeded(s), 2),
        Step("walk", (4 if few else 9,), _seeded(s), 8 if few else 25),
        _guided(gan, s),
        *_concepts(gan, s),
        *_sums(gan, s),
        _copies(gan, s),
    ]
    return steps


def _seeded(s: Settings, **options: Any) -> dict[str, Any]:
    """Options that are given, and the seed where it is not the usual one."""
    given = {name: value for name, value in options.items() if value is not None}
    return given | ({"seed": s.seed} if s.seed else {})


def _guided(gan: GAN, s: Settings) -> Step | Missing:
    if gan.discriminator is None:
        return Missing(
            "guided-backprop", "the checkpoint holds a generator only; pass its discriminator's file as --disc"
        )
    n = 256 if s.quick else 1024
    data, limit = (s.data, n) if s.data else (fresh_rooms(gan, n, 1) if is_rooms(gan) else f"samples:{n}", None)
    return Step("guided_backprop", (), _seeded(s, data=data, limit=limit), 12 if s.quick else 30)


def _concepts(gan: GAN, s: Settings) -> list[Step | Missing]:
    """Dissection of a layer in the middle, and forgetting of each concept."""
    known = sites(gan)
    few = s.quick
    if not s.labels and not is_rooms(gan):
        why = "no segmenter knows this generator's images; label numbered samples (probe sample --each), pass the file as --labels"
        return [Missing("dissect", why), Missing("forget", why)]
    if len(known) < 2:
        why = f"the generator has {len(known)} layers with feature maps; at least 2 are needed"
        return [Missing("dissect", why), Missing("forget", why)]
    layer, draws = known[-2].name, 20 if few else 50
    if not s.labels:
        sized = {"samples": 64 if few else 128, "shuffles": 50 if few else 100}
        forget = _seeded(s, samples=80 if few else None, draws=draws)
        return [Step("dissect", (layer,), _seeded(s, **sized), 15), Step("forget", ("window",), forget, 60)]
    file = {"labels": s.labels, "label_seed": s.label_seed}
    names = labels.categories(s.labels)
    left = [Missing("forget", f"left out by --quick: {', '.join(names[1:])}")] if few and names[1:] else []
    return [
        Step("dissect", (layer,), _seeded(s, **file, shuffles=50 if few else 100), 15),
        *(
            Step("forget", (name,), _seeded(s, **file, draws=draws), 120, f"forget-{k}")
            for k, name in enumerate(names[:1] if few else names)
        ),
        *left,
    ]


def _sums(gan: GAN, s: Settings) -> list[Step | Missing]:
    """Arithmetic and turning: with the exemplars of a file, or on rooms with those that the segmenter picks."""
    few = s.quick
    if s.concepts:
        file = _seeded(s, concepts=s.concepts)
        why = "not asked for; pass"
        return [
            Step("arithmetic", s.expressions, file, 3)
            if s.expressions
            else Missing("arithmetic", f"{why} --expression"),
            Step("turn", s.turn, file, 3) if s.turn else Missing("turn", f"{why} --turn"),
        ]
    if not is_rooms(gan):
        why = "no exemplars; list samples that show each concept in a JSON file, pass it as --concepts with --expression or --turn"
        return [Missing("arithmetic", why), Missing("turn", why)]
    sized = {"samples": 512 if few else 1024, "draws": 40 if few else 100}
    return [
        Step("arithmetic", (_ROOMS_SUM,), _seeded(s, **sized), 12 if few else 25),
        Step("turn", _ROOMS_TURN, _seeded(s, scored=30 if few else 100, **sized), 15 if few else 35),
    ]


def _copies(gan: GAN, s: Settings) -> Step | Missing:
    few = s.quick
    sized = {"samples": 400 if few else 1000, "permutations": 199 if few else 999, "targets": 24 if few else 60}
    run = gan.provenance.get("training") or {}
    if s.train:
        return Step("memorization", (), _seeded(s, train=s.train, holdout_data=s.holdout_data, **sized), 60)
    if (run.get("split") or {}).get("holdout") and (s.data or str(run.get("source", "")).startswith("rooms")):
        return Step("memorization", (), _seeded(s, data=s.data, **sized), 60)
    why = "images that were held out of the training are not known: train with --holdout and pass --data, or pass --train and --holdout-data"
    if is_rooms(gan):  # fresh renders are as good as held-out ones; the whole training set takes its time
        why += f", here --train {run['source']} --holdout-data {fresh_rooms(gan, 2000, 12345)}"
    return Missing("memorization", why)
