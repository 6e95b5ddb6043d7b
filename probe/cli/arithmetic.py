"""`probe arithmetic` and `probe turn`: what adding latents does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probe.base.errors import ProbeError
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

Concepts = Annotated[
    Path | None, typer.Option("--concepts", help="Exemplar file: JSON of concept names and sample numbers.")
]
ByReader = Annotated[
    bool, typer.Option("--by-segmenter", help="On rooms: the selector picks exemplars, the judge scores.")
]
Samples = Annotated[
    int,
    typer.Option("--samples", help="With --by-segmenter: samples among which the selector picks.", min=64, max=100_000),
]
Draws = Annotated[int, typer.Option("--draws", help="With --by-segmenter: draws of exemplars.", min=2, max=100_000)]


@app.command()
def arithmetic(
    expressions: Annotated[list[str], typer.Argument(metavar="EXPRESSION...", help="'A - B + C', or 'A - B + C = name'; several make several rows.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    concepts: Concepts = None, by_segmenter: ByReader = False,
    exemplars: Annotated[str, typer.Option("--exemplars", help="Exemplars averaged a concept; 1,2,3,5,10 makes a curve.")] = "3",
    draws: Draws = 200, samples: Samples = 2048,
    noise: Annotated[float, typer.Option("--noise", help="Uniform noise around the result, on each number.", min=0)] = 0.25,
    out: Annotated[Path, typer.Option("--out")] = Path("out/arithmetic"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add and subtract concepts in latent space (figure 7). On rooms also how often that succeeds, beside controls."""
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    counts = _counts(exemplars, by_segmenter)
    _one_source(concepts, by_segmenter, expressions)
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.arithmetic(
            gan, *expressions, concepts=concepts, exemplars=counts, draws=draws, samples=samples, noise=noise, seed=seed,
            report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    conclude(result, figure, as_json, summarise(result).text)


def _counts(text: str, by_segmenter: bool) -> tuple[int, ...]:
    """The counts of --exemplars, rising; raises ProbeError for what is no list of counts."""
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise ProbeError(f"--exemplars {text}: expected counts of at least 1, such as 3 or 1,2,3,5,10")
    if len(counts) > 1 and not by_segmenter:
        raise ProbeError(
            f"--exemplars {text}: a curve of success needs a judge, so --by-segmenter on rooms; with --concepts give one count"
        )
    return counts


def _one_source(concepts: Path | None, by_segmenter: bool, names: list[str]) -> None:
    """Exemplars come from the one place that is asked for, and on rooms have names that the segmenters know."""
    from probe.questions.material import known_on_rooms

    if by_segmenter:
        known_on_rooms(*names)
    if (concepts is None) != by_segmenter:
        what = "not both" if by_segmenter else "and neither is given"
        raise ProbeError(f"exemplars come from --concepts FILE or, on rooms, from --by-segmenter, {what}")


@app.command()
def turn(
    before: Annotated[str, typer.Argument(metavar="FROM", help="The concept to start from.")],
    after: Annotated[str, typer.Argument(metavar="TO", help="The concept to end at.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    concepts: Concepts = None, by_segmenter: ByReader = False,
    method: Annotated[str, typer.Option("--method", help="means (the paper), svm, logistic, conditional, pca, sefa; several with commas, or all.")] = "means",
    exemplars: Annotated[str, typer.Option("--exemplars", help="Exemplars averaged a side; 1,2,4,8 also counts successes at each.")] = "4",
    steps: Annotated[int, typer.Option("--steps", min=3, max=99)] = 11,
    reach: Annotated[float, typer.Option("--reach", help="How far to go each way; 0.5 is the exemplars' own range.", min=0.01)] = 1.0,
    scored: Annotated[int, typer.Option("--scored", help="With --by-segmenter: new samples scored at every step.", min=2)] = 200,
    draws: Draws = 200, samples: Samples = 2048,
    out: Annotated[Path, typer.Option("--out")] = Path("out/turn"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Move samples from one concept to another (figure 8). They are new ones; on rooms every step is scored."""
    from probe.concepts.latent_directions import METHODS
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    counts = _counts(exemplars, by_segmenter)
    _one_source(concepts, by_segmenter, [before, after])
    possible = [name for name in METHODS if by_segmenter or name != "conditional"]  # which needs attributes of its own
    methods = tuple(dict.fromkeys(possible if method == "all" else map(str.strip, method.split(","))))
    gan = load_gan(ckpt, disc, model, prior, device)
    with runs.progress(as_json) as tell:
        result = questions.turn(
            gan, before, after, concepts=concepts, method=methods, exemplars=counts, steps=steps, reach=reach,
            scored=scored, draws=draws, samples=samples, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    conclude(result, figure, as_json, summarise(result).text)
