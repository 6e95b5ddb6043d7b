"""What does each unit of a layer draw?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import File, LabelSeed, Layer, OwnSegmenter, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def dissect(
    gan: GAN,
    layer: Layer = None,
    *,
    labels: Annotated[
        File | None, Param("COCO JSON of boxes, one category a concept; not needed on rooms.", metavar="FILE")
    ] = None,
    label_seed: LabelSeed = None,
    causal: Annotated[bool, Param("With labels: fit segmenters to the boxes (minutes a concept) for effects.")] = False,
    samples: Annotated[
        int, Param("Samples that the segmenter labels.", least=16, most=4096, metavar="N", short="n")
    ] = 256,
    segmenter: OwnSegmenter = None,
    top: Annotated[int, Param("Units listed for each concept.", least=1, metavar="N")] = 8,
    shuffles: Annotated[int, Param("Shufflings of the images, for the control.", least=50, metavar="N")] = 100,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Score every unit of a layer against every concept: intersection over union, AUC, causal effect.

    Concepts are the objects that the built-in selector (on rooms) or `segmenter` sees on `samples` samples, or the
    categories of a COCO file `labels`; `causal` fits segmenters to its boxes for effects (minutes a concept). `layer` is
    the second from the pixels where it is not given. Overlap after Bau et al. 2017 and 2019; the control is the best
    unit under masks moved to other images, `shuffles` times. Metrics: `concepts` with `units`, `random`, `p_value`,
    `detectors`. Saved beside it: all units as CSV and LaTeX.

    Raises:
        ProbeError: an unknown layer; no `labels` for a generator that is not one of rooms; labels of another checkpoint.

    Example:
        >>> import probe
        >>> result = probe.dissect(probe.load("rooms"), "8x8", samples=16, shuffles=50)
        >>> "window" in result.metrics["concepts"]
        True
    """
    from probe.base.progress import silent
    from probe.models.hooks import resolve, usual
    from probe.questions.dissect.run import Settings, material
    from probe.questions.dissect.run import dissect as run
    from probe.results.provenance import finished

    site = usual(gan) if layer is None else resolve(gan, layer)
    settings = Settings(layer=str(layer) if layer is not None else site.name, top=top, shuffles=shuffles, seed=seed)
    known = material(gan, labels, label_seed, causal, segmenter, samples, seed, report or silent)
    result = run(gan, known, settings, report)
    return finished(result, gan, seed)
