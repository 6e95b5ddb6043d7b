"""Does the generator copy its training images?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from probe.base.parameters import Exclude, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def memorization(
    gan: GAN,
    data: Annotated[
        str | None,
        Param("The source given to `probe train --holdout`; the checkpoint knows its split.", metavar="SOURCE"),
    ] = None,
    *,
    train: Annotated[
        str | None, Param("Training images, where the checkpoint does not know them.", metavar="SOURCE")
    ] = None,
    holdout_data: Annotated[
        str | None, Param("Images of the same kind that were not trained on.", metavar="SOURCE")
    ] = None,
    exclude: Exclude = None,
    distance: Annotated[
        str | Callable[..., Any],
        Param("pixels, random-conv, or pkg.module:factory; never the audited D's features.", metavar="NAME"),
    ] = "pixels",
    samples: Annotated[int, Param("Samples tested.", least=40, most=100_000, metavar="N", short="n")] = 2000,
    permutations: Annotated[int, Param("Label permutations.", least=199, most=100_000, metavar="N")] = 999,
    targets: Annotated[
        int,
        Param(
            "Training images recovered in latent space, as copies to plant; few of them understate the power.",
            least=1,
            most=2000,
            metavar="N",
        ),
    ] = 200,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Test for copies of training images against images that were held out.

    `data` is the source given to `probe train --holdout`: the checkpoint knows its split; `exclude` is the list given to
    `probe train --exclude`, where there was one. For any other checkpoint name `train` and `holdout_data`. `distance` is
    a name or a function of images (N, C, S, S) in [-1, 1] that gives rows (N, D). `targets` training images are drawn by
    the generator itself, as copies planted for the power. Metrics: `verdict` (`detected`, `not detected`, `inconclusive`,
    or `scores only` without held-out images), `p_value` (labels shuffled), `p_hits` (near-copies of
    one training image against those of one held-out image, `most_hits`), `p_combined`, `copy_share` (0 to 1) with its
    interval, `floor`, `floor_sources` (the fewest copied images for which `not detected` holds, and at what share),
    `power`, `power_by_sources` (rates by how well copies are drawn, copied images, share in %), `ct` (Meehan et al.
    2020), `authenticity`.

    Raises:
        ProbeError: no images named; images of another shape; held-out images that were trained on.

    Example:
        >>> import probe
        >>> gan = probe.load("out/mine/checkpoint.safetensors")  # doctest: +SKIP
        >>> probe.memorization(gan, "path/to/images")  # doctest: +SKIP
    """
    from probe.base.progress import silent
    from probe.measures.features import feature
    from probe.questions.memorization.images import held_out
    from probe.questions.memorization.run import Settings
    from probe.questions.memorization.run import memorization as run
    from probe.results.provenance import finished

    settings = Settings(samples=samples, permutations=permutations, targets=targets, seed=seed)
    phi = feature(distance, gan.channels, gan.device, "distance")
    split = held_out(gan, data, train, holdout_data, exclude, report or silent)
    result = run(gan, split.train, split.holdout, phi, settings, report, (split.train_names, split.holdout_names))
    result.remarks += split.notes[1:]
    return finished(result, gan, seed, split.notes)
