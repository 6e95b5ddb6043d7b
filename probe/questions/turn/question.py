"""Does one direction turn every sample?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import File, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def turn(
    gan: GAN,
    before: Annotated[str, Param("The concept to start from.", argument=True, metavar="FROM")],
    after: Annotated[str, Param("The concept to end at.", argument=True, metavar="TO")],
    *,
    concepts: Annotated[
        File | None, Param("Exemplar file: JSON of concept names and sample numbers.", metavar="FILE")
    ] = None,
    by_segmenter: Annotated[
        bool,
        Param("On rooms: the selector picks exemplars, the judge scores; so also without a file.", was=("by_reader",)),
    ] = False,
    method: Annotated[
        str | Sequence[str],
        Param("means (the paper), svm, logistic, conditional, pca, sefa; or all.", metavar="NAME", repeat=True),
    ] = ("means",),
    exemplars: Annotated[
        str | int | Sequence[int],
        Param("Exemplars averaged a side; 1,2,4,8 also counts successes at each.", metavar="COUNTS"),
    ] = 4,
    frames: Annotated[
        int, Param("Images from one end to the other.", least=3, most=99, metavar="N", was=("steps",))
    ] = 11,
    reach: Annotated[
        float, Param("How far to go each way; 0.5 is the exemplars' own range.", least=0.01, metavar="NUMBER")
    ] = 1.0,
    scored: Annotated[
        int, Param("On rooms: new samples scored at every frame.", least=2, most=100_000, metavar="N")
    ] = 200,
    draws: Annotated[int, Param("On rooms: draws of exemplars.", least=2, most=100_000, metavar="N")] = 200,
    samples: Annotated[
        int, Param("On rooms: samples among which the selector picks.", least=64, most=100_000, metavar="N", short="n")
    ] = 2048,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Move new samples along the direction from one concept to another (the paper's Fig. 8).

    Exemplars come as in `arithmetic`. `method` names ways to a direction: `means` (the paper), `svm`, `logistic`,
    `conditional`, `pca`, `sefa`, or all that the exemplars allow. Frames go from -`reach` to `reach`; ±0.5 is the
    exemplars' own range. On rooms the judge scores `scored` new samples at every frame. Metrics: `r2`, `monotone_share`,
    `success` with its interval, `controls`.

    Raises:
        ProbeError: an unknown concept or method, the same concept twice, too few exemplars.

    Example:
        >>> import probe
        >>> result = probe.turn(probe.load("rooms"), "day", "night", frames=3, scored=4, draws=4, samples=128)
        >>> list(result.metrics["methods"])
        ['means']
    """
    from probe.base.parameters import counts
    from probe.base.parameters import names as split
    from probe.concepts.exemplars import known_on_rooms, picked
    from probe.concepts.latent_directions import METHODS
    from probe.questions.turn.run import Settings
    from probe.questions.turn.run import turn as run
    from probe.results.provenance import finished

    numbers, methods = counts(exemplars, "exemplars"), split(method, "method")
    if methods == ("all",):  # without attributes of its own, a concept cannot be told apart from the others
        methods = tuple(name for name in METHODS if concepts is None or name != "conditional")
    settings = Settings(
        methods=methods, exemplars=numbers, frames=frames, reach=reach, scored=scored, draws=draws, seed=seed
    )
    names = [before, after] if concepts is not None else known_on_rooms(gan, before, after)
    found, labelled = picked(gan, concepts, by_segmenter, names, numbers, samples, seed, report)
    return finished(run(gan, before, after, found, settings, labelled, report), gan, seed)
