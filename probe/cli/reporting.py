"""`probe report`: everything that a checkpoint allows, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from probe.cli.common import AsJson, Device, LabelSeed, Model, PriorOption, Seed, app, load_gan, print_json


@app.command()
def report(
    ckpt: Annotated[list[str] | None, typer.Option("--ckpt", help="Checkpoint: a file, a directory, or `rooms` (the default); several stand side by side.")] = None,
    disc: Annotated[list[Path] | None, typer.Option("--disc", help="The discriminator's file; as many as --ckpt, in the same order.")] = None,
    model: Model = None, prior: PriorOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO JSON of boxes on samples, for dissection and forgetting; not needed on rooms.")] = None,
    label_seed: LabelSeed = None,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="Exemplar file, for --expression and --turn; not needed on rooms.")] = None,
    expression: Annotated[list[str] | None, typer.Option("--expression", help="With --concepts: 'A - B + C', or several.")] = None,
    turn: Annotated[tuple[str, str] | None, typer.Option("--turn", metavar="FROM TO", help="With --concepts: two concepts to turn between.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Images, as for `probe train`: for the discriminator's units and, where the checkpoint was trained with --holdout, the test for copies.")] = None,
    train: Annotated[str | None, typer.Option("--train", help="Training images for the test for copies, where the checkpoint does not know them.")] = None,
    holdout: Annotated[str | None, typer.Option("--holdout-data", help="Images of the same kind that were not trained on.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small samples: about a minute instead of several.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of the page; results found there are taken over where nothing changed.")] = Path("out/report"),
    seed: Seed = 0, device: Device = "auto", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Ask everything that checkpoints allow: one HTML page. Self-contained: verdicts, figures, tables, what could not be run."""
    import sys

    from probe.report import page as report_page
    from probe.report import run as reporting
    from probe.report.plan import Settings, plan
    from probe.results import runs

    reporting.check_output(out)
    settings = Settings(labels, label_seed, concepts, tuple(expression or ()), turn, data, train, holdout, quick, seed)
    more = [*(("--model", model) if model else ()), *(("--prior", prior) if prior else ())]
    models = reporting.open_models(
        ckpt or ["rooms"], disc or [], more, lambda path, d: load_gan(path, d, model, prior, device)
    )
    reporting.check(settings, models)
    plans = [plan(m.gan, settings) for m in models]
    command = runs.command_line(sys.argv[1:])
    reporting.start(out, command)
    with runs.progress(as_json) as tell:
        answers = reporting.run(models, plans, out, tell)
    document = report_page.write(models, answers, settings, out, command)
    if as_json:
        print_json(document["answers"])
        return
    several = len(models) > 1
    for answer in document["answers"]:
        print((f"{answer['model']}, " if several else "") + _line(answer))
    print(f"page: {out / reporting.PAGE}")


def _line(answer: dict[str, Any]) -> str:
    if "not_run" in answer:
        return f"{answer['question']}: not run: {answer['not_run']}"
    numbers = "".join(f"; {name} {value}" for name, value in answer["numbers"].items())
    return f"{answer['question']}: {answer['verdict']}{numbers}"
