"""`probe train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from probe.base.errors import ProbeError
from probe.cli.common import (
    AsJson,
    Device,
    Seed,
    app,
    print_json,
)


@app.command()
def train(
    data: Annotated[str, typer.Option("--data", help="rooms[:N], a folder, parquet:, idx:, npz:, mat:, lmdb: or hf:")] = "rooms",
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("out/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last state in --out.")] = False,
    size: Annotated[int, typer.Option(help="Image side in pixels, 28 to 128.", min=28, max=128)] = 64,
    channels: Annotated[int, typer.Option(help="1 for grey, 3 for colour.")] = 3,
    nz: Annotated[int, typer.Option(help="Size of the latent.")] = 100,
    width: Annotated[int, typer.Option(help="Feature maps of the layer next to the image.")] = 64,
    kernel: Annotated[int, typer.Option(help="Side of the kernels: 4 as the ports, 5 as the paper's code.")] = 4,
    depth: Annotated[int, typer.Option(help="D's convolutions a scale; more than 1 are 3x3, for features as in Table 1.")] = 1,
    prior: Annotated[str, typer.Option(help="uniform as the paper, or normal as the ports.")] = "uniform",
    batch: Annotated[int, typer.Option(help="Images a step.")] = 128,
    steps: Annotated[int, typer.Option(help="Steps in all.")] = 10_000,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 2e-4,
    ema: Annotated[float, typer.Option(help="Decay of the averaged generator; 0 for none.")] = 0.999,
    d_ema: Annotated[float, typer.Option("--d-ema", help="Decay of an averaged discriminator; 0 for none.")] = 0.0,
    flips: Annotated[bool, typer.Option("--flips", help="Mirror half of the real images, at random.")] = False,
    noise: Annotated[float, typer.Option(help="Instance noise on what D sees; 0 in the paper.")] = 0.0,
    holdout: Annotated[int, typer.Option(help="Images reserved before training, never seen.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Use only the first images of the source.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="Images to leave out: a list that `probe dedup` wrote for this source.")] = None,
    seed: Seed = 0, device: Device = "auto", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train a DCGAN by the paper's recipe. The checkpoint is OUT/checkpoint.safetensors."""
    from probe.checkpoints import save
    from probe.data import exclusion
    from probe.data import loading as sources
    from probe.models.gan import best_precision
    from probe.results import runs
    from probe.training.loop import Settings
    from probe.training.loop import train as run_training

    if prior not in ("uniform", "normal"):
        raise ProbeError(f"prior {prior}: expected uniform or normal")
    place = runs.pick_device(device)
    settings = Settings(
        size=size, channels=channels, nz=nz, width=width, kernel=kernel, depth=depth, prior=prior, batch=batch, steps=steps,  # type: ignore[arg-type]
        lr=lr, ema=ema, d_ema=d_ema, flips=flips, noise=noise, holdout=holdout, seed=seed, precision=best_precision(place),
    )  # fmt: skip
    left_out = exclusion.load(exclude) if exclude else None
    with runs.progress(as_json) as tell:
        images = sources.load(
            data, size, channels, limit, progress=lambda done, total: tell("reading images", done, total or done)
        )
    if images.skipped:
        names = ", ".join(images.skipped[:5]) + (" …" if len(images.skipped) > 5 else "")
        print(f"skipped {len(images.skipped)} unreadable files: {names}", file=sys.stderr)
    with runs.training_bar(as_json) as report:
        gan = run_training(
            images.images,
            settings,
            out,
            source=images.name,
            exclude=left_out,
            resume=resume,
            device=place,
            report=report,
        )
    save(gan, out / "checkpoint.safetensors")
    if as_json:
        print_json(
            {
                "checkpoint": "checkpoint.safetensors",
                "steps": gan.provenance["training"]["steps"],
                "images": len(images.images),
                "skipped": len(images.skipped),
                "excluded": len(left_out.indices) if left_out else 0,
            }
        )
    else:
        print(
            f"checkpoint: {out / 'checkpoint.safetensors'}\nlosses, samples and an animation of the training beside it"
        )
