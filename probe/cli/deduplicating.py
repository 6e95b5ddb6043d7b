"""`probe dedup`: which images of a source repeat another?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from probe.cli.common import AsJson, Formats, Seed, app, conclude, figure_formats


@app.command()
def dedup(
    data: Annotated[str, typer.Option("--data", help="rooms[:N], a folder, parquet:, idx:, npz:, lmdb: or hf:")],
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
    """Find near-duplicates (section 4.1) and list them in OUT/exclude.json, for `probe train --exclude`."""
    import sys

    from probe import data as sources
    from probe import exclusion, runs
    from probe.deduplication import Settings
    from probe.deduplication import dedup as run
    from probe.hashing import SIDE
    from probe.result import versions

    wanted = figure_formats(formats)
    runs.check_output(out)
    settings = Settings(radius, likeness, plain, steps, noise, dropout, planted, seed)
    with runs.progress(as_json) as tell:
        images = sources.load(
            data, SIDE, 3, limit, progress=lambda done, total: tell("reading images", done, total or done)
        )
        result = run(images.images, images.name, settings, data.partition(":")[0] == "rooms", tell)
    result.provenance = {
        "source": images.name, "skipped": len(images.skipped), "versions": versions(), "seed": seed, "device": "cpu",
        "precision": "float32", "command": runs.command_line(sys.argv[1:]),
    }  # fmt: skip
    listed = result.arrays["removed"]
    figure = runs.publish(
        result,
        out,
        wanted,
        lambda folder: exclusion.save(folder / "exclude.json", images.name, len(images.images), listed),
    )
    conclude(result, figure, as_json, _summary(result.metrics, out / "exclude.json"))


def _summary(m: dict[str, Any], listed: Path) -> str:
    lines = [f"{m['removed']} of {m['images']} images repeat one of {m['groups']} others: {listed}"]
    if m["false_positive_rate"] is not None:
        lines.append("no two rooms are alike, so every one of these removals is wrong")
    lines.append("planted copies found, and by equal hashes alone:")
    for kind, value in m["recall"].items():
        low, high = m["recall_ci"][kind]
        lines.append(f"  {kind:9} {value:.2f} [{low:.2f}, {high:.2f}]   {m['plain']['recall'][kind]:.2f}")
    return "\n".join(lines)
