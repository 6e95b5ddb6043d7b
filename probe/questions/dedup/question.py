"""Which images of a source repeat another?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import Data, Limit, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.results.result import Result


@question
def dedup(
    data: Annotated[str, Param(f"{Data}.", metavar="SOURCE")],
    *,
    limit: Limit = None,
    plain: Annotated[bool, Param("List by the paper's rule alone: equal hashes, pixels unseen.")] = False,
    radius: Annotated[
        int, Param("Bits of 128 in which the hashes of duplicates may differ.", least=0, most=40, metavar="N")
    ] = 18,
    likeness: Annotated[
        float, Param("Least aligned correlation of the pixels of duplicates.", metavar="NUMBER")
    ] = 0.76,
    steps: Annotated[int, Param("Training steps of the autoencoder, 128 images each.", metavar="N")] = 2000,
    corruption: Annotated[
        float,
        Param("Noise on what the autoencoder sees, in deviations of an image.", metavar="NUMBER", was=("noise",)),
    ] = 0.3,
    dropout: Annotated[float, Param("Dropout on its code.", metavar="NUMBER")] = 0.5,
    planted: Annotated[
        int, Param("Copies planted of each kind, to measure the recall.", most=10_000, metavar="N")
    ] = 200,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Which images of a source repeat an earlier one (the paper's section 4.1), and how many planted copies are found.

    Hashes are 128 bits of a denoising autoencoder; duplicates differ in at most `radius` of them and have a `likeness` of
    the pixels; `plain` is the paper's rule, equal hashes. Arrays: `removed`, `kept` (R,) indices. Metrics: `images`,
    `removed`, `groups`, `recall` by kind of copy (0 to 1) with intervals. Saved beside it: the list that
    `probe train --exclude` takes.

    Raises:
        ProbeError: fewer than two images, settings out of range.

    Example:
        >>> import probe
        >>> probe.dedup("rooms:64", steps=5, planted=4).metrics["images"]
        64
    """
    import numpy as np

    from probe.base.progress import silent
    from probe.data import exclusion, loading
    from probe.measures.hashing import SIDE
    from probe.questions.dedup.run import Settings
    from probe.questions.dedup.run import dedup as run
    from probe.results.provenance import versions

    tell = report or silent
    settings = Settings(
        radius=radius,
        likeness=likeness,
        plain=plain,
        steps=steps,
        corruption=corruption,
        dropout=dropout,
        planted=planted,
        seed=seed,
    )
    images = loading.load(data, SIDE, 3, limit, lambda done, total: tell("reading images", done, total or done))
    result = run(images.images, images.name, settings, data.startswith("rooms"), tell)
    result.provenance = {
        "source": images.name,
        "versions": versions(),
        "seed": seed,
        "device": "cpu",
        "precision": "float32",
    }
    listed = result.arrays["removed"]
    names = images.names or None
    if images.names:
        doubtful = np.argsort(result.arrays["likeness"], kind="stable")[:10]
        pairs = [[int(result.arrays[side][k]) for side in ("kept", "removed")] for k in doubtful]
        result.metrics["doubtful"] = [[images.named(i) for i in pair] for pair in pairs]
    source, count = images.name, result.metrics["images"]
    result.files["exclude.json"] = lambda path: exclusion.save(path, source, count, listed, images.sha256, names)
    return result
