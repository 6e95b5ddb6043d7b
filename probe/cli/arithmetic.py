"""`probe arithmetic` and `probe turn`: what adding latents does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.common import (
    AsJson,
    Ckpt,
    Device,
    Disc,
    Formats,
    Model,
    PriorOption,
    Seed,
    app,
    conclude,
    figure_formats,
    load_gan,
)
from probe.errors import ProbeError

if TYPE_CHECKING:
    from probe.exemplars import Exemplars, Labelled
    from probe.gan import GAN
    from probe.runs import Report

Concepts = Annotated[
    Path | None, typer.Option("--concepts", help="Exemplar file: JSON of concept names and sample numbers.")
]
ByReader = Annotated[bool, typer.Option("--by-reader", help="On rooms: the chooser picks exemplars, the judge scores.")]
Samples = Annotated[
    int, typer.Option("--samples", help="With --by-reader: samples among which the chooser picks.", min=64, max=100_000)
]
Draws = Annotated[int, typer.Option("--draws", help="With --by-reader: draws of exemplars.", min=2, max=100_000)]


@app.command()
def arithmetic(
    expressions: Annotated[list[str], typer.Argument(metavar="EXPRESSION...", help="'A - B + C', or 'A - B + C = name'; several make several rows.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    concepts: Concepts = None, by_reader: ByReader = False,
    exemplars: Annotated[str, typer.Option("--exemplars", help="Exemplars averaged a concept; 1,2,3,5,10 makes a curve.")] = "3",
    draws: Draws = 200, samples: Samples = 2048,
    noise: Annotated[float, typer.Option("--noise", help="Uniform noise around the result, on each number.", min=0)] = 0.25,
    out: Annotated[Path, typer.Option("--out")] = Path("out/arithmetic"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add and subtract concepts in latent space (Fig. 7); on rooms also how often that succeeds, beside controls."""
    from probe import runs
    from probe.arithmetic import Settings
    from probe.arithmetic import arithmetic as run
    from probe.expressions import parse

    wanted = figure_formats(formats)
    runs.check_output(out)
    settings = Settings(_counts(exemplars, by_reader), draws, noise, seed)
    known = _known_on_rooms(expressions) if by_reader else None
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        found, labelled = _material(gan, concepts, by_reader, known or [], samples, seed, tell)
        parsed = [parse(text, found.latents) for text in expressions]
        result = run(gan, parsed, found, settings, labelled, tell)
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    lines = [_line(name, m, settings.shown) for name, m in result.metrics["expressions"].items()]
    conclude(result, figure, as_json, "\n".join(lines))


def _counts(text: str, by_reader: bool) -> tuple[int, ...]:
    """The counts of --exemplars, rising; raises ProbeError for what is no list of counts."""
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise ProbeError(f"--exemplars {text}: expected counts of at least 1, such as 3 or 1,2,3,5,10")
    if len(counts) > 1 and not by_reader:
        raise ProbeError(
            f"--exemplars {text}: a curve of success needs a judge, so --by-reader on rooms; with --concepts give one count"
        )
    return counts


def _known_on_rooms(expressions: list[str]) -> list[str]:
    """The concepts of expressions over rooms, each word checked; errors point at the place."""
    from probe.attributes import Vocabulary
    from probe.expressions import parse

    parsed = [parse(text, Vocabulary()) for text in expressions]
    return list(dict.fromkeys(term.name for expression in parsed for term in expression.terms))


def _material(
    gan: GAN, path: Path | None, by_reader: bool, names: list[str], samples: int, seed: int, tell: Report
) -> tuple[Exemplars, Labelled | None]:
    """Exemplars from the one place that was asked for."""
    from probe.exemplars import label, load

    if (path is None) != by_reader:
        what = "not both" if by_reader else "and neither is given"
        raise ProbeError(f"exemplars come from --concepts FILE or, on rooms, from --by-reader, {what}")
    if path is not None:
        return load(path, gan), None
    labelled = label(gan, samples, seed, tell)
    return labelled.exemplars(names), labelled


def _line(name: str, m: dict[str, Any], n: int) -> str:
    if not m["success"]:
        return f"{name}: not judged"
    low, high = m["success_ci"][n]
    controls = ", ".join(f"{key.replace('_', ' ')} {c['success'][n]:.2f}" for key, c in m["controls"].items())
    return f"{name} = {m['expected']}: success {m['success'][n]:.2f} [{low:.2f}, {high:.2f}] with {n} exemplars; {controls}"


@app.command()
def turn(
    before: Annotated[str, typer.Argument(metavar="FROM", help="The concept to start from.")],
    after: Annotated[str, typer.Argument(metavar="TO", help="The concept to end at.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    concepts: Concepts = None, by_reader: ByReader = False,
    method: Annotated[str, typer.Option("--method", help="means (the paper), svm, logistic, conditional, pca, sefa; several with commas, or all.")] = "means",
    exemplars: Annotated[str, typer.Option("--exemplars", help="Exemplars averaged a side; 1,2,4,8 also counts successes at each.")] = "4",
    steps: Annotated[int, typer.Option("--steps", min=3, max=99)] = 11,
    reach: Annotated[float, typer.Option("--reach", help="How far to go each way; 0.5 is the exemplars' own range.", min=0.01)] = 1.0,
    scored: Annotated[int, typer.Option("--scored", help="With --by-reader: new samples scored at every step.", min=2)] = 200,
    draws: Draws = 200, samples: Samples = 2048,
    out: Annotated[Path, typer.Option("--out")] = Path("out/turn"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Move new samples along the direction from one concept to another (Fig. 8); on rooms also score every step."""
    from probe import runs
    from probe.latent_directions import METHODS
    from probe.turning import Settings
    from probe.turning import turn as run

    wanted = figure_formats(formats)
    runs.check_output(out)
    possible = [name for name in METHODS if by_reader or name != "conditional"]  # which needs attributes of its own
    methods = tuple(dict.fromkeys(possible if method == "all" else map(str.strip, method.split(","))))
    settings = Settings(methods, _counts(exemplars, by_reader), steps, reach, scored=scored, draws=draws, seed=seed)
    if by_reader:
        _known_on_rooms([before, after])
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        found, labelled = _material(gan, concepts, by_reader, [before, after], samples, seed, tell)
        result = run(gan, before, after, found, settings, labelled, tell)
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    lines = [_turned(name, m, result.metrics) for name, m in result.metrics["methods"].items()]
    conclude(result, figure, as_json, "\n".join(lines))


def _turned(name: str, m: dict[str, Any], top: dict[str, Any]) -> str:
    if "r2" not in m:
        return f"{top['from']} to {top['to']} by {name}: not judged"
    text = f"{top['from']} to {top['to']} by {name}: R² {m['r2']:.2f}, monotone {m['monotone_share']:.2f}, target {m['target_change']:+.2f} sd, others {m['other_change']:.2f} sd"
    if name == next(iter(top["methods"])):
        n = top["shown"]
        low, high = top["success_ci"][n]
        text += f"; success of class means {top['success'][n]:.2f} [{low:.2f}, {high:.2f}]"
    return text
