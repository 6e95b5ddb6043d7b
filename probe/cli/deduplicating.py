"""`probe dedup`: which images of a source repeat another?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from probe.cli.common import AsJson, Formats, Seed, app, conclude, figure_formats


@app.command()
def dedup(
    data: Annotated[str, typer.Option("--data", help="rooms[:N], a folder, parquet:, idx:, npz:, mat:, lmdb: or hf:")],
    limit: Annotated[int | None, typer.Option(help="Use only the first images of the source.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="List by the paper's rule alone: equal hashes, pixels unseen.")] = False,
    radius: Annotated[int, typer.Option(help="Bits of 128 in which the hashes of duplicates may differ, 0 to 40.")] = 18,
    likeness: Annotated[float, typer.Option(help="Least aligned correlation of the pixels of duplicates.")] = 0.76,
    steps: Annotated[int, typer.Option(help="Steps of the autoencoder's training, 128 images each.")] = 2000,
    noise: Annotated[float, typer.Option(help="Noise on what the autoencoder sees, in deviations of an image.")] = 0.3,
    dropout: Annotated[float, typer.Option(help="Dropout on its code.")] = 0.5,
    planted: Annotated[int, typer.Option(help="Copies planted of each kind, to measure the recall.", max=10_000)] = 200,
    out: Annotated[Path, typer.Option("--out")] = Path("out/dedup"),
    seed: Seed = 0, formats: Formats = "png", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Find near-duplicates in a source (section 4.1). Lists them in OUT/exclude.json, for `probe train --exclude`."""
    from probe.data import exclusion
    from probe.questions import calls as questions
    from probe.questions.summaries import summarise
    from probe.results import runs

    wanted = figure_formats(formats)
    runs.check_output(out)
    with runs.progress(as_json) as tell:
        result = questions.dedup(
            data, limit=limit, plain=plain, radius=radius, likeness=likeness, steps=steps, noise=noise, dropout=dropout,
            planted=planted, seed=seed, report=tell,
        )  # fmt: skip
    result.provenance["command"] = runs.command_line(sys.argv[1:])
    source, images, listed = result.provenance["source"], result.metrics["images"], result.arrays["removed"]
    figure = runs.publish(
        result, out, wanted, lambda folder: exclusion.save(folder / "exclude.json", source, images, listed)
    )
    conclude(result, figure, as_json, f"{summarise(result).text}\nlist: {out / 'exclude.json'}")
