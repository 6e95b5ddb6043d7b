"""Are the discriminator's features worth anything to a linear classifier?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from probe.base.parameters import Limit, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.data.loading import Images
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def classify(
    gan: GAN,
    data: Annotated[
        str,
        Param(
            "Training images with labels: a folder a class, parquet:, idx:, npz:, mat:, hf:, rooms:N.", metavar="SOURCE"
        ),
    ],
    test: Annotated[str, Param("Test images with labels, likewise.", metavar="SOURCE")],
    *,
    label_count: Annotated[
        int,
        Param("Fit to so many labels, as many of each class; 0 for all.", least=0, metavar="N", was=("labels",)),
    ] = 0,
    draws: Annotated[
        int, Param("With a count of labels: how often they are drawn for the test.", least=1, metavar="N")
    ] = 1,
    protocol: Annotated[
        Literal["svhn-1000"] | None, Param("svhn-1000: all as in the authors' script for Table 2.")
    ] = None,
    costs: Annotated[str | Sequence[float] | None, Param("Values of C to choose from.", metavar="NUMBERS")] = None,
    validation: Annotated[int | None, Param("Training images to choose C on.", least=1, metavar="N")] = None,
    means: Annotated[bool, Param("The mean of each pooled cell, too, beside its largest value.")] = False,
    flips: Annotated[bool, Param("Mirror images in training and test.")] = False,
    shifts: Annotated[
        int,
        Param(
            "Copies moved by up to so many pixels to fit to, which doubles the memory; 0 for none.",
            least=0,
            most=8,
            metavar="N",
        ),
    ] = 0,
    baselines: Annotated[
        str | Sequence[str],
        Param("Comma-separated: pixels, random_weights, kmeans, supervised; or none.", metavar="NAMES"),
    ] = ("pixels", "random_weights", "kmeans", "supervised"),
    centroids: Annotated[int, Param("Centroids of the K-means baseline.", least=1, metavar="N")] = 1600,
    supervised_steps: Annotated[int, Param("Steps of the supervised baseline.", least=1, metavar="N")] = 600,
    limit: Limit = None,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Classify images by D's features and a linear SVM, beside baselines (the paper's Tables 1 and 2).

    `data` and `test` are sources with labels. With `label_count`, so many are drawn from `data`, as many of each class,
    `draws` times; `protocol="svhn-1000"` fixes all of that as the authors' script has it. C is chosen among `costs` on
    `validation` images of `data`. Metrics: `accuracy` (0 to 1) with its interval, `C`, `features`, `baselines`,
    `layers`. Saved beside it: the table as CSV and LaTeX.

    Raises:
        ProbeError: no discriminator, labels missing, one class only, images of another shape.

    Example:
        >>> import probe
        >>> gan = probe.load("netG.pth", disc="netD.pth")  # doctest: +SKIP
        >>> probe.classify(gan, "parquet:train.parquet", "parquet:test.parquet")  # doctest: +SKIP
    """
    from dataclasses import replace

    import numpy as np
    import torch

    from probe.base.errors import ProbeError
    from probe.base.parameters import names, reals
    from probe.base.progress import silent
    from probe.checkpoints import on_data
    from probe.data import loading
    from probe.models.gan import from_bytes
    from probe.questions.classify.run import SVHN_1000, Settings
    from probe.questions.classify.run import classify as run
    from probe.results.provenance import finished

    values = () if costs is None else reals(costs, "costs")
    if protocol and (label_count or draws > 1 or values or validation or means or flips or shifts):
        raise ProbeError(
            "`protocol` svhn-1000 fixes `label_count`, `draws`, `costs`, `validation`, `means`, `flips` and `shifts`; leave "
            "those out"
        )
    asked = Settings(label_count=label_count, draws=draws, means=means, flips=flips, shifts=shifts)
    settings = SVHN_1000 if protocol else asked
    if values:
        settings = replace(settings, costs=tuple(sorted(values)))
    if validation:
        settings = replace(settings, validation=validation)
    settings = replace(
        settings,
        baselines=names(baselines, "baselines"),
        centroids=centroids,
        supervised_steps=supervised_steps,
        seed=seed,
    )
    gan.require_discriminator()
    tell = report or silent

    def read(source: str) -> Images:
        return loading.load(
            source, gan.size, gan.channels, limit, lambda done, total: tell(f"reading {source}", done, total or done)
        )

    fitted = read(data)
    doubts = on_data(
        gan, from_bytes(torch.from_numpy(np.array(fitted.images[:: max(1, len(fitted.images) // 256)]))), fitted.name
    )
    result = run(gan, fitted, read(test), settings, tell)
    result.remarks += doubts + result.metrics["notes"]
    return finished(result, gan, seed)
