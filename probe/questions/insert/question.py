"""Can the generator be made to draw a concept at a place?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from probe.base.parameters import Labelled, Labels, LabelSeed, Layer, OwnSegmenter, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def insert(
    gan: GAN,
    concept: Annotated[Any, Param("What to draw: a category in the labels file; on rooms any object.", metavar="NAME")],
    where: Annotated[str | Sequence[float], Param("The box to draw it in: x0,y0,x1,y1 in pixels.", metavar="BOX")],
    *,
    labels: Labels = None,
    label_seed: LabelSeed = None,
    samples: Labelled = 150,
    segmenter: OwnSegmenter = None,
    layer: Layer = None,
    bound: Annotated[
        float, Param("Largest mean change outside of the box, of images in [0, 1].", metavar="NUMBER")
    ] = 0.03,
    draws: Annotated[int, Param("Random edits of the control.", least=1, metavar="N")] = 100,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Make the generator draw a concept in a box (x0, y0, x1, y1) in pixels, and measure how often it does.

    The concept is a name, boxed by the built-in selector on rooms or by `segmenter` on `samples` samples, or by hand in
    the COCO file `labels`; or a `Concept`. Without `layer`, those that could hold it are tried. `bound` is the largest
    mean change outside of the box, pixels in [0, 1]. Metrics: `success` (0 to 1) with its interval, `collateral`,
    `random` (edits of as much change), `p_value`. The GAN stays as it was.

    Raises:
        ProbeError: a box outside of the image, an unknown concept or layer, or a concept that is too rare.

    Example:
        >>> import probe
        >>> result = probe.insert(probe.load("rooms"), "window", (12, 14, 32, 34))  # doctest: +SKIP
    """
    from probe.base.errors import ProbeError
    from probe.base.parameters import reals
    from probe.concepts import sources
    from probe.questions.insert.run import Settings, places
    from probe.questions.insert.run import insert as run
    from probe.results.provenance import finished

    try:
        x0, y0, x1, y1 = reals(where, "where")
    except (ProbeError, ValueError):
        raise ProbeError(f"`where` {where}: expected four numbers x0,y0,x1,y1 in pixels, such as 12,14,32,34") from None
    layer = None if layer is None else str(layer)
    settings = Settings(layer=layer, bound=bound, draws=draws, seed=seed)
    places(gan, layer, (x0, y0, x1, y1))  # a bad box or layer is refused before any work
    known = sources.concept(gan, concept, labels, label_seed, segmenter, samples, seed, report)
    result = run(
        gan,
        known.boxes,
        known.selector,
        known.judge,
        (x0, y0, x1, y1),
        settings,
        judge_iou=known.judge_iou,
        report=report,
    )
    return finished(result, gan, seed, known.assumptions)
