"""Does the generator move smoothly through its latent space?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from probe.base.parameters import Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def walk(
    gan: GAN,
    points: Annotated[int, Param("Random latents in the chain.", least=2, most=100, metavar="N")] = 9,
    *,
    frames: Annotated[int, Param("Images between two points.", least=1, most=62, metavar="N")] = 8,
    between: Annotated[
        tuple[int, int] | None, Param("Walk between the first latents of two seeds instead.", metavar="SEED SEED")
    ] = None,
    loop: Annotated[bool, Param("Return to the first point.")] = False,
    interpolation: Annotated[
        Literal["auto", "lerp", "slerp"], Param("auto: lerp for a uniform prior, slerp for a normal one.")
    ] = "auto",
    feature: Annotated[
        str | Callable[..., Any],
        Param("Steps are measured in: random-conv, pixels, or pkg.module:factory.", metavar="NAME"),
    ] = "random-conv",
    most_steps: Annotated[
        int,
        Param("Most steps tried between two points.", least=1, most=100_000, metavar="N", was=("limit",)),
    ] = 2304,
    null: Annotated[
        Sequence[Any],
        Param("A generator of the same recipe, another seed; 19 or more give a p-value.", metavar="FILE", repeat=True),
    ] = (),
    movie: Annotated[bool, Param("Also write the walk as walk.gif.")] = False,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Walk between random latents (the paper's Fig. 4): does the image change smoothly, or jump?

    A step is |φ(x_k+1) - φ(x_k)| in `feature`, a name or a function of images (N, C, S, S) in [-1, 1] that gives rows
    (N, D); steps are doubled, up to `most_steps` between two points, until the largest halves. `null` are generators
    of the same recipe and other seeds, GANs or their files. Path length after Karras et al. 2019. Metrics:
    `max_over_median`, `plateau_share` (0 to 1), `order`, `resolved`, `sharp_transitions`, `p_value`, `ppl`.

    Raises:
        ProbeError: fewer than 2 points, an unknown feature or interpolation, or nulls of another shape.

    Example:
        >>> import probe
        >>> result = probe.walk(probe.load("rooms"), points=2, frames=1)
        >>> result.metrics["sharp_transitions"]
        0
    """
    import os
    from functools import partial

    from probe.base.parameters import require_gan
    from probe.checkpoints import load
    from probe.measures.features import feature as named
    from probe.questions.walk.run import Settings, write_movie
    from probe.questions.walk.run import walk as run
    from probe.results.provenance import finished

    settings = Settings(
        points=points,
        frames=frames,
        between=between,
        loop=loop,
        interpolation=interpolation,
        most_steps=most_steps,
        seed=seed,
    )
    others = [
        load(os.fspath(n), prior=gan.prior, device=str(gan.device)) if isinstance(n, str | os.PathLike) else n
        for n in null
    ]
    for other in others:
        require_gan(other, "null")
    result = run(gan, named(feature, gan.channels, gan.device), settings, others, report)
    if movie:
        result.files["walk.gif"] = partial(write_movie, gan, settings)
    return finished(result, gan, seed)
