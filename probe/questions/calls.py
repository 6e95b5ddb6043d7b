"""The questions as plain calls: a GAN and a few words in, a Result out. The command and the report use the same ones.

    sample, walk, guided_backprop, dissect, ablate, insert, forget, arithmetic, turn, memorization, evaluate,
    classify, dedup

Parameters are named as the command's options and have their defaults. What a question needs besides the GAN (boxes,
segmenters, images, exemplars) comes from the built-in segmenters on generators of rooms, or from the files named. Every call
takes a `seed` of everything random and a `report`, called as `report(task, done, total)` while it works. In a notebook
a result shows its figure and its numbers; `result.save(folder)` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probe.base.errors import ProbeError
from probe.questions import material
from probe.results.result import Result
from probe.results.runs import about

if TYPE_CHECKING:
    from probe.data.loading import Images
    from probe.models.gan import GAN

Report = Callable[[str, int, int], None]
File = str | Path


@dataclass
class Operated(Result):
    """A result with the GAN that came of it in `gan`, None where the generator cannot be rebuilt."""

    gan: GAN | None = None


def _silent(name: str, done: int, total: int) -> None:
    """Report to nobody."""


def _finished(result: Result, gan: GAN, seed: int, notes: Sequence[str] = ()) -> Result:
    """The result with what was assumed on the way, and where it came from."""
    result.assumptions += notes
    result.provenance = about(gan, seed)
    return result


def sample(gan: GAN, n: int = 64, *, seed: int = 0) -> Result:
    """Draw the first n samples of a seed, as a grid (the paper's Figs. 2 and 3).

    Arrays: `images` (n, C, S, S) uint8, `latents` (n, nz) float32.

    Raises:
        ProbeError: n is below 1.

    Example:
        >>> import probe
        >>> probe.sample(probe.load("rooms"), 4).arrays["images"].shape
        (4, 3, 64, 64)
    """
    from probe.questions.sample.run import sample as run

    if n < 1:
        raise ProbeError(f"n {n}: expected at least 1")
    return _finished(run(gan, n, seed), gan, seed)


def walk(
    gan: GAN, points: int = 9, *, frames: int = 8, between: tuple[int, int] | None = None, loop: bool = False,
    interpolation: str = "auto", feature: str = "random-conv", limit: int = 2304, null: Sequence[GAN] = (),
    seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Walk between random latents (the paper's Fig. 4): does the image change smoothly, or jump?

    A step is |φ(x_k+1) - φ(x_k)| in `feature` (`random-conv`, `pixels` or `pkg.module:factory`); steps are doubled, up to
    `limit` between two points, until the largest halves. `null` are generators of the same recipe and other seeds:
    19 or more give a p-value. Path length after Karras et al. 2019. Metrics: `max_over_median`, `plateau_share` (0 to 1),
    `order`, `resolved`, `sharp_transitions`, `p_value`, `ppl`.

    Raises:
        ProbeError: fewer than 2 points, an unknown feature or interpolation, or nulls of another shape.

    Example:
        >>> import probe
        >>> result = probe.walk(probe.load("rooms"), points=2, frames=1)
        >>> result.metrics["sharp_transitions"]
        0
    """
    from probe.measures.features import feature as named
    from probe.questions.walk.run import Settings
    from probe.questions.walk.run import walk as run

    settings = Settings(
        points=points, frames=frames, between=between, loop=loop, interpolation=interpolation, limit=limit, seed=seed
    )
    return _finished(run(gan, named(feature, gan.channels, gan.device), settings, null, report), gan, seed)


def guided_backprop(
    gan: GAN, data: str | None = None, *, limit: int | None = None, layer: str = "-1", units: str = "0-5",
    rule: str = "guided", crops: int = 5, batchnorm: str | None = None, sanity: str = "fast", inputs: bool = False,
    seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Show what excites units of the discriminator (the paper's Fig. 5), beside random weights and sanity checks.

    `data` is a source of images as `probe train` takes it (only the first `limit` of them), or `samples:N`; by default
    2,048 fresh renders for a model of rooms, else as many samples. `units` is `0-5`, `top` or `all`. Rules: Springenberg et al. 2015 (`guided`),
    `leaky`, `deconvnet`, `gradient`; checks: Adebayo et al. 2018. Metrics: `sanity` with `verdict` (`pass` where the
    similarity to random weights stays below `threshold`, with its 95 % interval), `difference_from_gradient`.

    Raises:
        ProbeError: no discriminator; an unknown layer, unit, rule or policy; too few images; a rule that changed nothing.

    Example:
        >>> import probe
        >>> result = probe.guided_backprop(probe.load("rooms"), "samples:64", units="0,1")
        >>> sorted(result.metrics["concepts"])
        ['0', '1']
    """
    from probe.concepts.segmenters import load_rooms
    from probe.concepts.sources import is_rooms
    from probe.models.hooks import resolve
    from probe.questions.guided_backprop.run import Settings, fit_policy, guided, parse_units

    settings = Settings(
        layer=layer, units=units, rule=rule, crops=crops, batchnorm=batchnorm, sanity=sanity, inputs=inputs, seed=seed
    )  # type: ignore[arg-type]
    parse_units(units, resolve(gan, layer, "discriminator"))  # refused before any image is read
    fit_policy(gan, settings.batchnorm)
    source, notes = material.look_at(gan, data, limit, seed, report or _silent)
    known = is_rooms(gan) and source.name.startswith(("rooms", "samples"))
    result = guided(gan, source, settings, load_rooms()["judge"] if known else None, report)
    return _finished(result, gan, seed, notes)


def dissect(
    gan: GAN, layer: str, *, labels: File | None = None, label_seed: int | None = None, causal: bool = False,
    samples: int = 256, top: int = 8, shuffles: int = 100, seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Score every unit of a layer against every concept: intersection over union, AUC, causal effect.

    `layer` is a name (`layer2`), a rank (`2`, `-2`) or a grid (`8x8`). Concepts are the objects that the built-in
    segmenter sees on `samples` samples, or the categories of a COCO file `labels`; `causal` fits segmenters to its boxes for
    effects (minutes a concept). Overlap after Bau et al. 2017 and 2019; the control is the best unit under masks
    moved to other images, `shuffles` times. Metrics: `concepts` with `units`, `random`, `p_value`, `detectors`.

    Raises:
        ProbeError: an unknown layer; no `labels` for a generator that is not one of rooms; labels of another checkpoint.

    Example:
        >>> import probe
        >>> result = probe.dissect(probe.load("rooms"), "8x8", samples=16, shuffles=50)
        >>> "window" in result.metrics["concepts"]
        True
    """
    from probe.models.hooks import resolve
    from probe.questions.dissect.run import Settings
    from probe.questions.dissect.run import dissect as run

    settings = Settings(layer=layer, top=top, shuffles=shuffles, seed=seed)
    resolve(gan, layer)
    known = material.dissectable(gan, labels, label_seed, causal, samples, seed, report or _silent)
    return _finished(run(gan, known, settings, report), gan, seed)


def ablate(
    gan: GAN, layer: str, units: str, *, scale: float = 0.0, where: str | None = None, samples: str = "0-11",
    draws: int = 50, seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Switch feature maps of the generator off, or scale them, everywhere or in a region, beside random other maps.

    `units` are maps such as `3,7,12` or `0-11`; `where` is `x0,y0,x1,y1` in pixels or a mask image, white inside; `samples`
    are those of the seed that are edited. Metrics: `change` (mean |x - x'|, pixels in [0, 1]), `inside`, `outside`,
    `random`, `p_value`, and on rooms the area of every object after over before. The GAN stays as it was.

    Raises:
        ProbeError: an unknown layer or unit, or a region outside of the image.

    Example:
        >>> import probe
        >>> result = probe.ablate(probe.load("rooms"), "16x16", "0-7", draws=5)
        >>> result.metrics["change"] > 0
        True
    """
    from probe.concepts.segmenters import load_rooms
    from probe.concepts.sources import is_rooms
    from probe.questions.ablate.region import numbers, region
    from probe.questions.ablate.run import Settings, effect

    settings = Settings(
        layer=layer,
        units=numbers(units, "--units"),
        scale=scale,
        samples=numbers(samples, "--samples"),
        draws=draws,
        seed=seed,
    )
    place = None if where is None else region(where, gan.size)
    result = effect(gan, settings, place, load_rooms()["judge"] if is_rooms(gan) else None, report)
    if where is not None:
        result.settings["where"] = Path(where).name
    return _finished(result, gan, seed)


def insert(
    gan: GAN, concept: str, where: tuple[float, float, float, float], *, labels: File | None = None,
    label_seed: int | None = None, samples: int = 150, layer: str | None = None, bound: float = 0.03, draws: int = 100,
    seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Make the generator draw a concept in a box (x0, y0, x1, y1) in pixels, and measure how often it does.

    The concept is read by the built-in segmenters on rooms (boxed on `samples` samples), or fitted to the boxes of a COCO
    file. `bound` is the largest mean change outside of the box, pixels in [0, 1]. Metrics: `success` (0 to 1) with its
    interval, `collateral`, `random` (edits of as much change), `p_value`. The GAN stays as it was.

    Raises:
        ProbeError: a box outside of the image, an unknown concept or layer, or a concept that is too rare.

    Example:
        >>> import probe
        >>> result = probe.insert(probe.load("rooms"), "window", (12, 14, 32, 34))  # doctest: +SKIP
    """
    from probe.questions.insert.run import Settings, places
    from probe.questions.insert.run import insert as run

    settings = Settings(layer=layer, bound=bound, draws=draws, seed=seed)
    places(gan, layer, where)  # a bad box or layer is refused before any work
    known = material.concept(gan, concept, labels, label_seed, samples, seed, report)
    result = run(
        gan, known.boxes, known.selector, known.judge, where, settings, judge_iou=known.judge_iou, report=report
    )
    return _finished(result, gan, seed, known.assumptions)


def forget(
    gan: GAN, concept: str = "window", *, labels: File | None = None, label_seed: int | None = None,
    samples: int = 150, layer: str | None = None, negatives: str = "auto", draws: int = 200, seed: int = 0,
    report: Report | None = None,
) -> Operated:  # fmt: skip
    """Make the generator forget a concept (the paper's Fig. 6), by the paper's rule, by ranked maps and by erasure.

    The concept is read by the built-in segmenters on rooms (boxed on `samples` samples), or fitted to the boxes of a COCO
    file. Removal is 1 - ΣA'/ΣA, A the concept's area by the judge on held-out latents; collateral is the mean |x - x'| outside
    of it, pixels in [0, 1]. `draws` random edits, of equal collateral where maps at zero allow it, are the control of each method. Metrics:
    `methods` with `removal`, `removal_ci`, `collateral`, `random`, `p_value`. `result.gan` is the GAN operated by
    `patch`; the one given stays as it was.

    Raises:
        ProbeError: an unknown concept or layer, a concept too rare, labels of another checkpoint.

    Example:
        >>> import probe
        >>> result = probe.forget(probe.load("rooms"), "window", draws=20)  # doctest: +SKIP
        >>> probe.save(result.gan, "no-windows.safetensors")  # doctest: +SKIP
    """
    from probe.models.hooks import resolve
    from probe.questions.forget.run import Settings
    from probe.questions.forget.run import forget as run

    settings = Settings(layer=layer, negatives=negatives, draws=draws, seed=seed)
    if layer is not None:
        resolve(gan, layer)
    known = material.concept(gan, concept, labels, label_seed, samples, seed, report)
    result, operated = run(
        gan, known.boxes, known.selector, known.judge, settings, judge_iou=known.judge_iou, report=report
    )
    _finished(result, gan, seed, known.assumptions)
    return Operated(**vars(result), gan=operated)


def arithmetic(
    gan: GAN, *expressions: str, concepts: File | None = None, exemplars: Sequence[int] = (3,), draws: int = 200,
    samples: int = 2048, noise: float = 0.25, seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Add and subtract concepts in latent space (the paper's Fig. 7): `A - B + C`, or `A - B + C = name`.

    Exemplars are named in the JSON file `concepts`; without one, on rooms, the built-in selector picks them among
    `samples` samples and the judge scores `draws` draws of them. `exemplars` are the numbers averaged a concept. Metrics:
    `success` by number of exemplars (0 to 1) with its interval, and the same of five `controls`.

    Raises:
        ProbeError: an expression that cannot be read, an unknown concept, too few exemplars, labels of another checkpoint.

    Example:
        >>> import probe
        >>> result = probe.arithmetic(probe.load("rooms"), "night - day + day", draws=20, samples=256)
        >>> result.metrics["expected"]
        'night'
    """
    from probe.concepts.expressions import parse
    from probe.questions.arithmetic.run import Settings
    from probe.questions.arithmetic.run import arithmetic as run

    if not expressions:
        raise ProbeError("no expression; expected one or several, such as 'night - day + day'")
    settings = Settings(exemplars=tuple(exemplars), draws=draws, noise=noise, seed=seed)
    known = material.known_on_rooms(*expressions) if concepts is None else []
    found, labelled = material.exemplars(gan, concepts, known, samples, seed, report)
    parsed = [parse(text, found.latents) for text in expressions]
    return _finished(run(gan, parsed, found, settings, labelled, report), gan, seed)


def turn(
    gan: GAN, before: str, after: str, *, concepts: File | None = None, method: Sequence[str] = ("means",),
    exemplars: Sequence[int] = (4,), steps: int = 11, reach: float = 1.0, scored: int = 200, draws: int = 200,
    samples: int = 2048, seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Move new samples along the direction from one concept to another (the paper's Fig. 8).

    Exemplars come as in `arithmetic`. `method` names ways to a direction: `means` (the paper), `svm`, `logistic`,
    `conditional`, `pca`, `sefa`. Steps go from -`reach` to `reach`; ±0.5 is the exemplars' own range. On rooms the judge
    scores `scored` new samples at every step. Metrics: `r2`, `monotone_share`, `success` with its interval, `controls`.

    Raises:
        ProbeError: an unknown concept or method, the same concept twice, too few exemplars.

    Example:
        >>> import probe
        >>> result = probe.turn(probe.load("rooms"), "day", "night", steps=3, scored=4, draws=4, samples=128)
        >>> list(result.metrics["methods"])
        ['means']
    """
    from probe.questions.turn.run import Settings
    from probe.questions.turn.run import turn as run

    settings = Settings(
        methods=tuple(method),
        exemplars=tuple(exemplars),
        steps=steps,
        reach=reach,
        scored=scored,
        draws=draws,
        seed=seed,
    )
    if concepts is None:
        material.known_on_rooms(before, after)
    found, labelled = material.exemplars(gan, concepts, [before, after], samples, seed, report)
    return _finished(run(gan, before, after, found, settings, labelled, report), gan, seed)


def memorization(
    gan: GAN, data: str | None = None, *, train: str | None = None, holdout_data: str | None = None,
    exclude: File | None = None, distance: str = "pixels", samples: int = 2000, permutations: int = 999, targets: int = 200, seed: int = 0,
    report: Report | None = None,
) -> Result:  # fmt: skip
    """Test for copies of training images against images that were held out.

    `data` is the source given to `probe train --holdout`: the checkpoint knows its split; `exclude` is the list given to
    `probe train --exclude`, where there was one. For any other checkpoint name `train` and `holdout_data`. `targets` training images are drawn by the generator itself, as copies planted for the
    power. Metrics: `verdict` (`detected`, `not detected`, `inconclusive`, or `scores only` without held-out images),
    `p_value`, `copy_share` (0 to 1) with its interval, `floor`, `ct` (Meehan et al. 2020), `authenticity`.

    Raises:
        ProbeError: no images named; images of another shape; held-out images that were trained on.

    Example:
        >>> import probe
        >>> gan = probe.load("out/mine/checkpoint.safetensors")  # doctest: +SKIP
        >>> probe.memorization(gan, "path/to/images")  # doctest: +SKIP
    """
    from probe.measures.features import feature
    from probe.questions.memorization.run import Settings
    from probe.questions.memorization.run import memorization as run

    settings = Settings(samples=samples, permutations=permutations, targets=targets, seed=seed)
    phi = feature(distance, gan.channels)
    known, held, notes = material.held_out(gan, data, train, holdout_data, exclude, report or _silent)
    return _finished(run(gan, known, held, phi, settings, report), gan, seed, notes)


def evaluate(
    gan: GAN, data: str = "rooms:5000@77", *, exclude: File | None = None, features: str | None = None,
    n: int | None = None, seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """How far samples are from real images, between a floor (other real ones) and a ceiling (the same network untrained).

    `data` are real images; where the checkpoint was trained on them, its held-out ones are the reference. `features` is
    `segmenter`, `random`, the weights file of FID's Inception or `pkg.module:factory`; all sets have `n` images. Metrics:
    `fid` (Fréchet distance; FID in Inception's features alone), `kid`, `precision` and `recall` (0 to 1), each with its
    interval, `backbone`. Formulas: Heusel et al. 2017, Binkowski et al. 2018, Kynkaanniemi et al. 2019.

    Raises:
        ProbeError: too few images, a feature file that does not fit, a list of excluded images that is not the checkpoint's.

    Example:
        >>> import probe
        >>> probe.evaluate(probe.load("rooms"), "rooms:400@77", n=200).metrics["backbone"]
        'the built-in rooms judge'
    """
    from probe.questions.evaluate.backbones import backbone
    from probe.questions.evaluate.run import Settings
    from probe.questions.evaluate.run import evaluate as run

    tell = report or _silent
    Settings(images=2500 if n is None else n, seed=seed)  # what cannot be is said before images are read
    usual = "segmenter" if data.startswith("rooms") else "random"
    network = backbone(usual if features is None else features, gan.channels, gan.device)
    reference, others, note = material.reals(gan, data, exclude, seed, tell)
    settings = Settings(images=min(2500, max(200, min(len(reference), len(others)))) if n is None else n, seed=seed)
    return _finished(run(gan, reference, others, network, settings, tell, note), gan, seed)


def classify(
    gan: GAN, data: str, test: str, *, labels: int = 0, draws: int = 1, protocol: str | None = None,
    costs: Sequence[float] | None = None, validation: int | None = None, means: bool = False, flips: bool = False,
    shifts: int = 0, baselines: Sequence[str] = ("pixels", "random_weights", "kmeans", "supervised"), centroids: int = 1600,
    supervised_steps: int = 600, limit: int | None = None, seed: int = 0, report: Report | None = None,
) -> Result:  # fmt: skip
    """Classify images by D's features and a linear SVM, beside baselines (the paper's Tables 1 and 2).

    `data` and `test` are sources with labels. With `labels`, so many are drawn from `data`, as many of each class, `draws`
    times; `protocol="svhn-1000"` fixes all of that as the authors' script has it. C is chosen among `costs` on `validation`
    images of `data`. Metrics: `accuracy` (0 to 1) with its interval, `C`, `features`, `baselines`, `layers`.

    Raises:
        ProbeError: no discriminator, labels missing, one class only, images of another shape.

    Example:
        >>> import probe
        >>> gan = probe.load("netG.pth", disc="netD.pth")  # doctest: +SKIP
        >>> probe.classify(gan, "parquet:train.parquet", "parquet:test.parquet")  # doctest: +SKIP
    """
    from dataclasses import replace

    from probe.data import loading as sources
    from probe.questions.classify.run import SVHN_1000, Settings
    from probe.questions.classify.run import classify as run

    if protocol not in (None, "svhn-1000"):
        raise ProbeError(f"protocol {protocol}: expected svhn-1000, or none")
    if protocol and (labels or draws > 1 or costs or validation or means or flips or shifts):
        raise ProbeError(
            "--protocol svhn-1000 fixes labels, draws, costs, validation, means, flips and shifts; leave those out"
        )
    asked = Settings(labels=labels, draws=draws, means=means, flips=flips, shifts=shifts)
    settings = SVHN_1000 if protocol else asked
    if costs:
        settings = replace(settings, costs=tuple(sorted(costs)))
    if validation:
        settings = replace(settings, validation=validation)
    settings = replace(
        settings, baselines=tuple(baselines), centroids=centroids, supervised_steps=supervised_steps, seed=seed
    )
    gan.require_discriminator()
    tell = report or _silent

    def read(source: str) -> Images:
        return sources.load(
            source, gan.size, gan.channels, limit, lambda done, total: tell(f"reading {source}", done, total or done)
        )

    return _finished(run(gan, read(data), read(test), settings, tell), gan, seed)


def dedup(
    data: str, *, limit: int | None = None, plain: bool = False, radius: int = 18, likeness: float = 0.76,
    steps: int = 2000, noise: float = 0.3, dropout: float = 0.5, planted: int = 200, seed: int = 0,
    report: Report | None = None,
) -> Result:  # fmt: skip
    """Which images of a source repeat an earlier one (the paper's section 4.1), and how many planted copies are found.

    Hashes are 128 bits of a denoising autoencoder; duplicates differ in at most `radius` of them and have a `likeness` of
    the pixels; `plain` is the paper's rule, equal hashes. Arrays: `removed`, `kept` (R,) indices. Metrics: `images`,
    `removed`, `groups`, `recall` by kind of copy (0 to 1) with intervals.

    Raises:
        ProbeError: fewer than two images, settings out of range.

    Example:
        >>> import probe
        >>> probe.dedup("rooms:64", steps=5, planted=4).metrics["images"]
        64
    """
    from probe.data import loading as sources
    from probe.measures.hashing import SIDE
    from probe.questions.dedup.run import Settings
    from probe.questions.dedup.run import dedup as run
    from probe.results.result import versions

    tell = report or _silent
    settings = Settings(
        radius=radius,
        likeness=likeness,
        plain=plain,
        steps=steps,
        noise=noise,
        dropout=dropout,
        planted=planted,
        seed=seed,
    )
    images = sources.load(data, SIDE, 3, limit, lambda done, total: tell("reading images", done, total or done))
    result = run(images.images, images.name, settings, data.partition(":")[0] == "rooms", tell)
    result.provenance = {
        "source": images.name, "skipped": len(images.skipped), "versions": versions(), "seed": seed, "device": "cpu",
        "precision": "float32",
    }  # fmt: skip
    return result


__all__ = [
    "Operated", "ablate", "arithmetic", "classify", "dedup", "dissect", "evaluate", "forget", "guided_backprop", "insert", "memorization", "sample",
    "turn", "walk",
]  # fmt: skip
