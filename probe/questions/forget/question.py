"""Where does the generator draw a concept, and can it be made to forget it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from probe.base.parameters import Labelled, Labels, LabelSeed, Layer, OwnSegmenter, Param, Save, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def forget(
    gan: GAN,
    concept: Annotated[
        Any, Param("What to forget: a category in the labels file; on rooms any object.", metavar="NAME")
    ] = "window",
    *,
    labels: Labels = None,
    label_seed: LabelSeed = None,
    samples: Labelled = 150,
    segmenter: OwnSegmenter = None,
    layer: Layer = None,
    negatives: Annotated[
        Literal["auto", "same-image", "same-place"],
        Param("Where logistic weights find places without the concept: same-image is the paper's."),
    ] = "auto",
    method: Annotated[
        Any,
        Param(
            "paper, logistic, iou, causal, patch; lda, leace; or pkg.module:factory. Default: the first five.",
            metavar="NAME",
            repeat=True,
        ),
    ] = (),
    draws: Annotated[int, Param("Random edits a control.", least=1, metavar="N")] = 200,
    save: Save = None,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Make the generator forget a concept (the paper's Fig. 6), by the paper's rule, by ranked maps and by patching.

    The concept is a name, boxed by the built-in selector on rooms or by `segmenter` on `samples` samples, or by hand in
    the COCO file `labels`; or a `Concept`. `segmenter` is one that both selects and judges, or a pair (selector, judge).
    `method` names what is compared, or gives an `EditMethod`, or several. Removal is 1 - ΣA'/ΣA, A the concept's area by
    the judge on held-out latents; collateral is the mean |x - x'| outside of it, pixels in [0, 1]. `draws` random edits,
    of equal collateral where maps at zero allow it, are the control of each method. Metrics: `methods` with `removal`,
    `removal_ci`, `collateral`, `random`, `p_value`. `result.gan` is the GAN operated by `patch` (else by the last method
    that can be rebuilt); the one given stays as it was.

    Raises:
        ProbeError: an unknown concept, method or layer, a concept too rare, labels of another checkpoint.

    Example:
        >>> import probe
        >>> result = probe.forget(probe.load("rooms"), "window", draws=20)  # doctest: +SKIP
        >>> probe.save(result.gan, "no-windows.safetensors")  # doctest: +SKIP
    """
    from dataclasses import replace

    from probe.checkpoints import save as save_checkpoint
    from probe.checkpoints.export import check_save
    from probe.concepts import sources
    from probe.concepts.protocols import differentiable
    from probe.edits.methods import METHODS, chosen
    from probe.models.hooks import resolve
    from probe.questions.forget.run import Settings
    from probe.questions.forget.run import forget as run
    from probe.results.provenance import finished

    layer = None if layer is None else str(layer)
    settings = Settings(
        layer=layer, negatives=negatives, methods=chosen(method) if method else METHODS, draws=draws, seed=seed
    )
    if layer is not None:
        resolve(gan, layer)
    path = check_save(gan, save)
    known = sources.concept(gan, concept, labels, label_seed, segmenter, samples, seed, report)
    if not method and not differentiable(known.selector):  # no gradient of what it sees
        settings = replace(settings, methods=tuple(name for name in METHODS if name != "causal"))
    result, operated = run(
        gan, known.boxes, known.selector, known.judge, settings, judge_iou=known.judge_iou, report=report
    )
    result.gan = operated
    if path and operated:
        save_checkpoint(operated, path)
    return finished(result, gan, seed, known.assumptions)
