"""What stands on a report's page: the questions in words, what each model answers, and what is known of the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe import __version__
from probe.base.files import save_text
from probe.checkpoints import describe
from probe.models.hooks import sites
from probe.report.plan import Missing, Settings
from probe.report.run import PAGE, Answer, Model, mark_output
from probe.results import html as pages
from probe.results.provenance import versions
from probe.results.result import load
from probe.results.summary import Summary, summarise

if TYPE_CHECKING:
    from probe.models.gan import GAN

# title, question and how to read the figure
SECTIONS = {
    "sample": ("Samples", "What does the generator draw?", "The first samples of a seed, not chosen."),
    "walk": (
        "A walk in latent space", "Does the picture change smoothly between random latents?",
        "Rows go from one random latent to the next; the curve below each is the length of its steps over the median. A peak is "
        "where the picture changes fast. Smoothness does not disprove memorisation, nor does a jump prove it.",
    ),
    "guided-backprop": (
        "What the discriminator's units see", "What excites units of the last convolution layer, and does the picture depend on the weights?",
        "Each row is a unit, each crop an image that excites it most, as guided backpropagation sees it; beside it the same "
        "with random weights. Passing the randomisation test says that the picture depends on the weights, not that they have learnt anything.",
    ),
    "dissect": (
        "What single units draw", "Which unit of a layer goes with which concept?",
        "Intersection over union of a unit's strongest activations with a concept's masks. Since the best unit is the best "
        "of many, its control is the best under masks moved to other images.",
    ),
    "forget": (
        "Forgetting", "Where does the generator draw the concept, and can it be made to forget it?",
        "Removal is the share of the concept's area that is gone on held-out samples, by a judge that took no part in fitting; "
        "collateral is the mean change of the rest of the picture, pixels in [0, 1]. An edit means something only where it removes "
        "more than random edits of equal collateral (less, where a set of maps is at zero already).",
    ),
    "arithmetic": (
        "Vector arithmetic", "Does A − B + C give what it promises, and how often?",
        "The result of averaged exemplars among noisy neighbours, and the same arithmetic on pixels. Success is read by a judge over "
        "many draws of exemplars.",
    ),
    "turn": (
        "Turning", "Does one direction turn every sample?",
        "New samples moved along the direction between the means of two concepts' exemplars; the shaded part is the exemplars' own range.",
    ),
    "memorization": (
        "Copies of training images", "Are samples nearer to training images than to held-out ones?",
        "The test compares distances to training and to held-out images of the same kind. It gives no guarantee of privacy.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A question and a model on the page: what the result says, or why there is none."""

    model: str
    title: str
    why: str = ""
    summary: Summary | None = None
    figure: str = ""
    command: str = ""
    assumptions: Sequence[str] = ()
    undrawn: str = ""


@dataclass(frozen=True)
class Section:
    """A question on the page, an entry for each model."""

    name: str
    title: str
    asks: str
    reading: str
    entries: Sequence[Entry]

    @property
    def answered(self) -> bool:
        """Whether any model answers it."""
        return any(entry.summary for entry in self.entries)


def _entry(model: Model, answer: Answer | Missing, title: str) -> Entry:
    if isinstance(answer, Missing) or answer.why:
        return Entry(model.name, title, answer.why)
    result = load(answer.folder)
    drawn = answer.folder / "figure.png"
    figure = pages.picture(drawn) if drawn.is_file() else ""
    summary = summarise(result)
    return Entry(model.name, title, "", summary, figure, answer.again, result.assumptions, answer.undrawn)


def sections(models: Sequence[Model], answers: Sequence[Sequence[Answer | Missing]]) -> list[Section]:
    """The questions in order; forgetting of several concepts makes several."""
    keys = {answer.key: answer for row in answers for answer in row}
    found = []
    for key, first in keys.items():
        name, asks, reading = SECTIONS[first.question]
        if isinstance(first, Answer) and first.question == "forget":
            name = f"{name}: {first.step.arguments[0]}"
        entries = []
        for model, row in zip(models, answers, strict=True):
            mine = next((a for a in row if a.key == key), None)
            mine = mine or next((a for a in row if a.question == first.question), Missing(first.question, "not asked"))
            entries.append(_entry(model, mine, name))
        found.append(Section(key, name, asks, reading, entries))
    return found


def _words(value: Any) -> str:
    """A value of `describe` as text: 12,345 parameters; 48, 96, 192."""
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')} {_words(v)}" for key, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _facts(gan: GAN) -> dict[str, str]:
    found = {key: _words(value) for key, value in describe(gan).items() if value}
    found["layers of the generator"] = "; ".join(map(str, sites(gan)))
    training = gan.provenance.get("training") or {}
    if training.get("source"):
        found["trained on"] = f"{training['source']}, {_words(training.get('steps', 'unknown'))} steps"
    return found


def _provenance(model: Model, s: Settings) -> dict[str, str]:
    about = model.gan.provenance
    return {
        "file": str(about.get("checkpoint", "")), "SHA-256": str(about.get("sha256") or "none"),
        **({"discriminator": f"{about['disc']}, SHA-256 {about['disc_sha256']}"} if about.get("disc_sha256") else {}),
        "prior": f"{model.gan.prior} ({about.get('prior_source', 'given')})",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "device, seed": f"{model.gan.device.type}, {s.seed}", "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }  # fmt: skip


def write(
    models: Sequence[Model], answers: Sequence[Sequence[Answer | Missing]], s: Settings, out: Path, command: str
) -> dict[str, Any]:
    """Write OUT/index.html and OUT/report.json, each whole; returns the document of the latter."""
    asked = sections(models, answers)
    entries = [entry for section in asked for entry in section.entries]
    missing: dict[tuple[str, str], list[str]] = {}  # the models for which a question was not asked for one reason
    for entry in entries:
        if not entry.summary:
            missing.setdefault((entry.title, entry.why), []).append(entry.model)
    shown = [{"name": m.name, "facts": _facts(m.gan), "provenance": _provenance(m, s)} for m in models]
    text = pages.page(
        title=f"probe report: {', '.join(m.name for m in models)}", version=__version__, quick=s.quick, models=shown,
        sections=asked, missing=missing, command=command,
    )  # fmt: skip
    save_text(out / PAGE, text)
    document = {
        "schema": 1, "command": command, "finished": True, "checkpoints": [m.gan.provenance for m in models],
        "answers": [
            {"model": e.model, "question": e.title, "verdict": e.summary.verdict, "holds": e.summary.holds, "numbers": dict(e.summary.numbers)}
            if e.summary else {"model": e.model, "question": e.title, "not_run": e.why}
            for e in entries
        ],
    }  # fmt: skip
    mark_output(out, document)
    return document
