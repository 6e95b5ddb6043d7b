"""`probe report`: everything that a checkpoint allows, as one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import AsJson, Device, LabelSeed, Opening, Quiet, Seed, opens, print_json, say

if TYPE_CHECKING:
    from probe.models.gan import GAN


@opens("ckpt", "disc")
def report(
    opening: Opening,
    ckpt: Annotated[
        list[str] | None,
        typer.Option(
            "--ckpt",
            metavar="FILE",
            help="Checkpoint: a file, a folder, or `rooms` (the default); several stand side by side.",
        ),
    ] = None,
    disc: Annotated[
        list[Path] | None,
        typer.Option("--disc", metavar="FILE", help="The discriminator's file; as many as --ckpt, in the same order."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="COCO JSON of boxes on samples, for dissection and forgetting; not needed on rooms.",
        ),
    ] = None,
    label_seed: LabelSeed = None,
    concepts: Annotated[
        Path | None,
        typer.Option(
            "--concepts", metavar="FILE", help="Exemplar file, for --expression and --turn; not needed on rooms."
        ),
    ] = None,
    expression: Annotated[
        list[str] | None,
        typer.Option("--expression", metavar="EXPRESSION", help="With --concepts: 'A - B + C', or several."),
    ] = None,
    turn: Annotated[
        tuple[str, str] | None,
        typer.Option("--turn", metavar="FROM TO", help="With --concepts: two concepts to turn between."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help="Images, as for `probe train`: for the discriminator's units and, where the checkpoint was trained with "
            "--holdout, the test for copies.",
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            "--train",
            metavar="SOURCE",
            help="Training images for the test for copies, where the checkpoint does not know them.",
        ),
    ] = None,
    holdout_data: Annotated[
        str | None,
        typer.Option("--holdout-data", metavar="SOURCE", help="Images of the same kind that were not trained on."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small samples: about a minute instead of several.")] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder of the page; results found there are taken over where nothing changed.",
        ),
    ] = Path("out/report"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask everything that checkpoints allow: one HTML page."""
    import sys

    from probe.base.progress import progress
    from probe.report import page as report_page
    from probe.report import run as reporting
    from probe.report.plan import Settings, plan
    from probe.results.provenance import command_line

    reporting.check_output(out)
    settings = Settings(
        labels=labels,
        label_seed=label_seed,
        concepts=concepts,
        expressions=tuple(expression or ()),
        turn=turn,
        data=data,
        train=train,
        holdout_data=holdout_data,
        quick=quick,
        seed=seed,
    )
    ways = {"--model": opening.model, "--disc-model": opening.disc_model, "--prior": opening.prior}
    ways |= {"--batchnorm": opening.batchnorm, "--class": opening.label}
    more = [word for flag, value in ways.items() if value is not None for word in (flag, value)]

    def opened(path: str, other: Path | None) -> GAN:
        named = None if path == "rooms" and opening.model else path
        return replace(opening, ckpt=named, disc=other).load(device, quiet)

    models = reporting.open_models(ckpt or ["rooms"], disc or [], more, opened)
    reporting.check(settings, models)
    plans = [plan(m.gan, settings) for m in models]
    command = command_line(sys.argv[1:])
    reporting.start(out, command)
    with progress(as_json or quiet) as tell:
        answers = reporting.run(models, plans, out, tell)
    document = report_page.write(models, answers, settings, out, command)
    if as_json:
        print_json(document["answers"])
        return
    several = len(models) > 1
    for answer in document["answers"]:
        say(quiet, (f"{answer['model']}, " if several else "") + _line(answer))
    say(quiet, f"page: {out / reporting.PAGE}")


def _line(answer: dict[str, Any]) -> str:
    if "not_run" in answer:
        return f"{answer['question']}: not run: {answer['not_run']}"
    numbers = "".join(f"; {name} {value}" for name, value in answer["numbers"].items())
    return f"{answer['question']}: {answer['verdict']}{numbers}"
