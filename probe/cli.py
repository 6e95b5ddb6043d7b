"""The command: one subcommand a question. It parses, calls and prints; no maths, no drawing.

Nothing heavy is imported before a command runs, so `probe --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe import __version__
from probe.errors import ProbeError

if TYPE_CHECKING:
    from probe.gan import GAN
    from probe.result import Result

_UsageError: type[Any] = typer.BadParameter.__mro__[
    2
]  # click's ClickException, wherever this version of typer keeps it

app = typer.Typer(
    name="probe", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    help="Look inside a trained DCGAN and operate on it: one command a question, each ending in a figure and a result.",
)  # fmt: skip

Ckpt = Annotated[str, typer.Option("--ckpt", help="Checkpoint: a file, a directory, or the built-in `rooms`.")]
Disc = Annotated[Path | None, typer.Option("--disc", help="The discriminator's file, where it is a separate one.")]
Model = Annotated[str | None, typer.Option("--model", help="pkg.module:factory for any other generator module.")]
PriorOption = Annotated[
    str | None, typer.Option("--prior", help="uniform or normal, where the checkpoint does not say.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Formats = Annotated[str, typer.Option("--format", help="Figure formats, comma-separated: png, pdf, svg.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON, nothing else.")]
Layer = Annotated[str | None, typer.Option("--layer", help="A layer by name (layer2), rank (2, -2) or grid (8x8).")]


def _load(ckpt: str, disc: Path | None, model: str | None, prior: str | None, device: str) -> GAN:
    from probe.checkpoints import load
    from probe.runs import pick_device

    if prior not in (None, "uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    path = None if model and ckpt == "rooms" else ckpt
    return load(path, disc=disc, model=model, prior=prior, device=pick_device(device))  # type: ignore[arg-type]


def _formats(text: str) -> list[str]:
    formats = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [f for f in formats if f not in ("png", "pdf", "svg")]
    if wrong or not formats:
        raise ProbeError(f"format {wrong[0] if wrong else '(none)'}: expected png, pdf or svg, comma-separated")
    return formats


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"probe {__version__}")
        raise typer.Exit


@app.command()
def inspect(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None, as_json: AsJson = False
) -> None:
    """What is in a checkpoint: format, architecture, prior, BatchNorm policy."""
    from probe.checkpoints import describe
    from probe.layers import sites

    gan = _load(ckpt, disc, model, prior, "cpu")
    found = describe(gan)
    if as_json:
        _print_json(found)
        return
    for key, value in found.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{key:14} {text if text is not None else 'none'}")
    known = sites(gan)
    print("layers        ", "; ".join(f"{s} rank {s.rank} or {s.rank - len(known) - 1}" for s in known))


@app.command()
def sample(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, max=100_000, help="Number of samples.")] = 64,
    each: Annotated[bool, typer.Option("--each", help="Also write numbered images, to be labelled in any tool.")] = False,
    out: Annotated[Path, typer.Option("--out")] = Path("out/sample"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Draw samples as a grid; with --each also as numbered images with their latents."""
    from probe import runs
    from probe.sampling import sample as draw_samples
    from probe.sampling import write_each

    wanted = _formats(formats)
    runs.check_output(out)
    gan = _load(ckpt, disc, model, prior, device)
    result = draw_samples(gan, n, seed)
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted, (lambda folder: write_each(result, folder)) if each else None)
    _conclude(
        result,
        figure,
        as_json,
        f"{n} samples of {gan.size}x{gan.size}" + (f"; numbered images in {out / 'images'}" if each else ""),
    )


@app.command()
def train(
    data: Annotated[str, typer.Option("--data", help="rooms[:N], a folder, parquet:, idx:, npz:, lmdb: or hf:")] = "rooms",
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("out/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last state in --out.")] = False,
    size: Annotated[int, typer.Option(help="Image side in pixels, 28 to 128.", min=28, max=128)] = 64,
    channels: Annotated[int, typer.Option(help="1 for grey, 3 for colour.")] = 3,
    nz: Annotated[int, typer.Option(help="Size of the latent.")] = 100,
    width: Annotated[int, typer.Option(help="Feature maps of the layer next to the image.")] = 64,
    kernel: Annotated[int, typer.Option(help="Side of the kernels: 4 as the ports, 5 as the paper's code.")] = 4,
    prior: Annotated[str, typer.Option(help="uniform as the paper, or normal as the ports.")] = "uniform",
    batch: Annotated[int, typer.Option(help="Images a step.")] = 128,
    steps: Annotated[int, typer.Option(help="Steps in all.")] = 10_000,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 2e-4,
    ema: Annotated[float, typer.Option(help="Decay of the averaged generator; 0 for none.")] = 0.999,
    noise: Annotated[float, typer.Option(help="Instance noise on what D sees; 0 in the paper.")] = 0.0,
    holdout: Annotated[int, typer.Option(help="Images reserved before training, never seen.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Use only the first images of the source.")] = None,
    seed: Seed = 0, device: Device = "auto", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train a DCGAN by the paper's recipe; the checkpoint is OUT/checkpoint.safetensors."""
    from probe import data as sources
    from probe import runs
    from probe.checkpoints import save
    from probe.gan import best_precision
    from probe.training import Settings
    from probe.training import train as run_training

    if prior not in ("uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    place = runs.pick_device(device)
    settings = Settings(
        size=size, channels=channels, nz=nz, width=width, kernel=kernel, prior=prior, batch=batch, steps=steps,  # type: ignore[arg-type]
        lr=lr, ema=ema, noise=noise, holdout=holdout, seed=seed, precision=best_precision(place),
    )  # fmt: skip
    with runs.progress(as_json) as tell:
        images = sources.load(
            data, size, channels, limit, progress=lambda done, total: tell("reading images", done, total or done)
        )
    if images.skipped:
        names = ", ".join(images.skipped[:5]) + (" …" if len(images.skipped) > 5 else "")
        print(f"skipped {len(images.skipped)} unreadable files: {names}", file=sys.stderr)
    with runs.training_bar(as_json) as report:
        gan = run_training(images.images, settings, out, source=images.name, resume=resume, device=place, report=report)
    save(gan, out / "checkpoint.safetensors")
    if as_json:
        _print_json(
            {
                "checkpoint": "checkpoint.safetensors",
                "steps": steps,
                "images": len(images.images),
                "skipped": len(images.skipped),
            }
        )
    else:
        print(
            f"checkpoint: {out / 'checkpoint.safetensors'}\nlosses, samples and an animation of the training beside it"
        )


@app.command("forget-windows")
def forget_windows(
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO JSON of window boxes; not needed on rooms.")] = None,
    label_seed: Annotated[int | None, typer.Option("--label-seed", help="Seed of the labelled samples, where the file does not say.")] = None,
    samples: Annotated[int, typer.Option(help="Samples to label with the built-in reader.", min=16)] = 150,
    layer: Layer = None,
    negatives: Annotated[str, typer.Option(help="auto, same-image (the paper) or same-place, for erase.")] = "auto",
    draws: Annotated[int, typer.Option(help="Random edits a control.", min=1)] = 200,
    save: Annotated[Path | None, typer.Option("--save", help="Write the operated generator as a checkpoint.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/forget-windows"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the generator forget windows (Fig. 6), and measure what else it lost."""
    gan = _load(ckpt, disc, model, prior, device)
    _forget(gan, "window", labels, label_seed, samples, layer, negatives, draws, save, out, seed, formats, as_json)


@app.command()
def forget(
    concept: Annotated[str, typer.Option("--concept", help="Name of a category in the labels file.")],
    labels: Annotated[Path, typer.Option("--labels", help="COCO JSON of boxes on samples of this generator.")],
    ckpt: Ckpt = "rooms", disc: Disc = None, model: Model = None, prior: PriorOption = None,
    label_seed: Annotated[int | None, typer.Option("--label-seed", help="Seed of the labelled samples, where the file does not say.")] = None,
    layer: Layer = None,
    negatives: Annotated[str, typer.Option(help="auto, same-image (the paper) or same-place, for erase.")] = "auto",
    draws: Annotated[int, typer.Option(help="Random edits a control.", min=1)] = 200,
    save: Annotated[Path | None, typer.Option("--save", help="Write the operated generator as a checkpoint.")] = None,
    out: Annotated[Path, typer.Option("--out")] = Path("out/forget"),
    seed: Seed = 0, device: Device = "auto", formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the generator forget a concept that somebody boxed by hand."""
    gan = _load(ckpt, disc, model, prior, device)
    _forget(gan, concept, labels, label_seed, 0, layer, negatives, draws, save, out, seed, formats, as_json)


def _forget(
    gan: GAN, concept: str, labels: Path | None, label_seed: int | None, samples: int, layer: str | None, negatives: str,
    draws: int, save: Path | None, out: Path, seed: int, formats: str, as_json: bool,
) -> None:  # fmt: skip
    from probe import runs
    from probe.checkpoints import save as save_checkpoint
    from probe.concepts import from_labels, from_rooms
    from probe.forgetting import Settings
    from probe.forgetting import forget as run
    from probe.layers import resolve

    wanted = _formats(formats)
    runs.check_output(out)
    settings = Settings(layer=layer, negatives=negatives, draws=draws, seed=seed)
    if save is not None:
        runs.check_rebuildable(gan, save)
    if layer is not None:
        resolve(gan, layer)
    with runs.progress(as_json) as tell:
        if labels is None:
            readers = from_rooms(gan, concept, samples, seed)
        else:
            readers = from_labels(gan, labels, concept, label_seed, seed, tell)
        result, operated = run(
            gan, readers.boxes, readers.chooser, readers.judge, settings, judge_iou=readers.judge_iou, report=tell
        )
    result.assumptions += readers.assumptions
    result.provenance = runs.provenance(gan, seed)
    figure = runs.publish(result, out, wanted)
    if save is not None and operated is not None:
        save_checkpoint(operated, save)
    lines = [f"{name}: {_summary(m)}" for name, m in result.metrics["methods"].items()]
    _conclude(result, figure, as_json, "\n".join(lines) + (f"\ncheckpoint without {concept}: {save}" if save else ""))


def _summary(m: dict[str, Any]) -> str:
    (low, high), random = m["removal_ci"], m["random"]
    verdict = "beats" if m["p_value"] < 0.05 else "does NOT beat"
    return (
        f"removal {m['removal']:.2f} [{low:.2f}, {high:.2f}], collateral {m['collateral']:.3f}; {verdict} random edits "
        f"of equal collateral ({random['removal_mean']:.2f}, p = {m['p_value']:.2g})"
    )


def _conclude(result: Result, figure: Path, as_json: bool, text: str) -> None:
    if as_json:
        _print_json(result.document()["metrics"])
    else:
        print(f"{text}\nfigure: {figure}")


def main() -> None:
    """Run the command: exit 0, 2 for a user's mistake or bad input, 130 on Ctrl-C; never a traceback for those."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except ProbeError as error:
        code = _fail(str(error))
    except _UsageError as error:
        code = _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except RuntimeError as error:
        if "memory" not in str(error) and "alloc" not in str(error):
            raise
        code = _fail("out of memory; use fewer samples, a smaller --batch or --width, or --device cpu")
    except MemoryError:
        code = _fail("out of memory; use fewer samples or a smaller model")
    sys.exit(code or 0)


def _fail(message: str) -> int:
    print("probe: " + " ".join(message.split()), file=sys.stderr)
    return 2
