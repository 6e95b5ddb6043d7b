"""Does A - B + C give what it promises, how often, and what fails?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import File, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def arithmetic(
    gan: GAN,
    *expressions: Annotated[
        str,
        Param("'A - B + C', or 'A - B + C = name'; several make several rows.", argument=True, metavar="EXPRESSION..."),
    ],
    concepts: Annotated[
        File | None, Param("Exemplar file: JSON of concept names and sample numbers.", metavar="FILE")
    ] = None,
    by_segmenter: Annotated[
        bool,
        Param("On rooms: the selector picks exemplars, the judge scores; so also without a file.", was=("by_reader",)),
    ] = False,
    exemplars: Annotated[
        str | int | Sequence[int], Param("Exemplars averaged a concept; 1,2,3,5,10 makes a curve.", metavar="COUNTS")
    ] = 3,
    draws: Annotated[int, Param("On rooms: draws of exemplars.", least=2, most=100_000, metavar="N")] = 200,
    samples: Annotated[
        int, Param("On rooms: samples among which the selector picks.", least=64, most=100_000, metavar="N", short="n")
    ] = 2048,
    noise: Annotated[
        float, Param("Uniform noise around the result, on each number of the latent.", least=0, metavar="NUMBER")
    ] = 0.25,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
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
    from probe.base.errors import ProbeError
    from probe.base.parameters import counts
    from probe.concepts.exemplars import known_on_rooms, picked
    from probe.concepts.expressions import parse
    from probe.questions.arithmetic.run import Settings
    from probe.questions.arithmetic.run import arithmetic as run
    from probe.results.provenance import finished

    if not expressions:
        raise ProbeError("no expression; expected one or several, such as 'night - day + day'")
    numbers = counts(exemplars, "exemplars")
    settings = Settings(exemplars=numbers, draws=draws, noise=noise, seed=seed)
    names = [] if concepts is not None else known_on_rooms(gan, *expressions)
    found, labelled = picked(gan, concepts, by_segmenter, names, numbers, samples, seed, report)
    parsed = [parse(text, found.latents) for text in expressions]
    return finished(run(gan, parsed, found, settings, labelled, report), gan, seed)
