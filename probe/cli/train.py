"""`probe train`."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from probe.base.errors import ProbeError
from probe.base.parameters import Data
from probe.cli.options import AsJson, Device, Quiet, Seed, print_json, say


def _number(flag: str, words: str, **limits: Any) -> Any:
    return typer.Option(flag, metavar="N", help=words, **limits)


def train(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help=Data,
        ),
    ] = "rooms",
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the run.")] = Path("out/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last state in --out.")] = False,
    size: Annotated[int, _number("--size", "Image side in pixels, 28 to 128.", min=28, max=128)] = 64,
    channels: Annotated[int, _number("--channels", "1 for grey, 3 for colour.")] = 3,
    nz: Annotated[int, _number("--nz", "Size of the latent.")] = 100,
    width: Annotated[int, _number("--width", "Feature maps of the layer next to the image.")] = 64,
    kernel: Annotated[int, _number("--kernel", "Side of the kernels: 4 as the ports, 5 as the paper's code.")] = 4,
    depth: Annotated[
        int, _number("--depth", "D's convolutions a scale; more than 1 are 3x3, for features as in Table 1.")
    ] = 1,
    prior: Annotated[
        str, typer.Option("--prior", metavar="uniform|normal", help="uniform as the paper, or normal as the ports.")
    ] = "uniform",
    batch: Annotated[int, _number("--batch", "Images a step.")] = 128,
    steps: Annotated[int, _number("--steps", "Training steps in all.")] = 10_000,
    lr: Annotated[float, typer.Option("--lr", metavar="NUMBER", help="Adam's learning rate.")] = 2e-4,
    ema: Annotated[
        float, typer.Option("--ema", metavar="NUMBER", help="Decay of the averaged generator; 0 for none.")
    ] = 0.999,
    d_ema: Annotated[
        float, typer.Option("--d-ema", metavar="NUMBER", help="Decay of an averaged discriminator; 0 for none.")
    ] = 0.0,
    flips: Annotated[bool, typer.Option("--flips", help="Mirror half of the real images, at random.")] = False,
    instance_noise: Annotated[
        float,
        typer.Option(
            "--instance-noise", metavar="NUMBER", help="Noise on what D sees, that fades out; 0 in the paper."
        ),
    ] = 0.0,
    r1: Annotated[
        float,
        typer.Option("--r1", metavar="NUMBER", help="Weight of D's gradient penalty on real images; 0 in the paper."),
    ] = 0.0,
    augment: Annotated[
        bool, typer.Option("--augment", help="Move whatever D sees at random, so that it learns no image by heart.")
    ] = False,
    decay: Annotated[
        float,
        typer.Option(
            "--decay", metavar="SHARE", help="From this share of the steps on the rate falls to 0; 1 in the paper."
        ),
    ] = 1.0,
    save_every: Annotated[
        int, _number("--save-every", "Steps from one saved state to the next; two minutes at most.", min=1)
    ] = 500,
    holdout: Annotated[int, _number("--holdout", "Images reserved before training, never seen.")] = 0,
    limit: Annotated[int | None, _number("--limit", "Use only the first images of the source.")] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            "--exclude", metavar="FILE", help="Images to leave out: a list that `probe dedup` wrote for this source."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a DCGAN by the paper's recipe."""
    from probe.base.progress import progress, training_bar
    from probe.checkpoints import save
    from probe.data import exclusion, loading
    from probe.models.device import pick_device
    from probe.plots import losses
    from probe.results.drawing import undrawn
    from probe.training import pace
    from probe.training.loop import Settings, known_by_name, read_log, stored
    from probe.training.loop import train as run_training

    if prior not in ("uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    place = pick_device(device)
    settings = Settings(
        size=size,
        channels=channels,
        nz=nz,
        width=width,
        kernel=kernel,
        depth=depth,
        prior=prior,  # type: ignore[arg-type]
        batch=batch,
        steps=steps,
        lr=lr,
        ema=ema,
        d_ema=d_ema,
        flips=flips,
        noise=instance_noise,
        r1=r1,
        augment=augment,
        decay=decay,
        holdout=holdout,
        seed=seed,
    )
    left_out = exclusion.load(exclude) if exclude else None
    silent = as_json or quiet
    with progress(silent) as tell:
        images = loading.load(
            data, size, channels, limit, progress=lambda done, total: tell("reading images", done, total or done)
        )
    doubts = [left_out.doubt(images.name)] if left_out else []
    if resume and known_by_name(out):
        doubts.append(f"{out}: the run knows its source by name and count only, as an earlier version noted it")
    for line in filter(None, [images.told(), *doubts] if not quiet else []):
        print(line, file=sys.stderr)
    done, before = (stored(out) if resume else None) or (0, {})
    settings, seconds = pace.measured(settings, place, done, before.get("precision"))
    if seconds and not silent:
        left = timedelta(seconds=round(seconds * (steps - done), -1))
        print(f"{steps - done} steps in {settings.precision}: about {left} at {seconds:.2f} s a step", file=sys.stderr)
    with training_bar(silent) as report:
        gan = run_training(
            images.images,
            settings,
            out,
            source=images.name,
            contents=images.sha256,
            exclude=left_out,
            resume=resume,
            device=place,
            report=report,
            save_every=save_every,
        )
    gan.provenance["training"]["data"] = images.about()
    save(gan, out / "checkpoint.safetensors")
    try:
        losses.save(read_log(out / "losses.csv"), gan.provenance["training"]["history"], out / "losses.png")
    except (ProbeError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever matplotlib stumbles over: the checkpoint is saved
        print(undrawn(str(out / "losses.png"), error), file=sys.stderr)
    if as_json:
        print_json(
            {
                "checkpoint": "checkpoint.safetensors",
                "steps": gan.provenance["training"]["steps"],
                "images": len(images.images),
                "skipped": len(images.skipped),
                "resized": images.resized,
                "excluded": len(left_out.indices) if left_out else 0,
            }
        )
        return
    made = f"checkpoint: {out / 'checkpoint.safetensors'}"
    say(quiet, made, "losses, samples and an animation of the training beside it")
