"""What does the generator draw?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import Param, Seed, question

if TYPE_CHECKING:
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def sample(
    gan: GAN | Sequence[GAN],
    samples: Annotated[
        int, Param("Number of samples.", least=1, most=100_000, metavar="N", short="n", was=("n",))
    ] = 64,
    *,
    each: Annotated[bool, Param("Also write numbered images, to be labelled in any tool.")] = False,
    seed: Seed = 0,
) -> Result:
    """Draw the first samples of a seed, as a grid (the paper's Figs. 2 and 3).

    Of several GANs, say a conditional one at each class, the figure has a row each, all from the same latents.
    Arrays: `images` (samples, C, S, S) uint8 (those of each GAN in turn), `latents` (samples, nz) float32. With `each`, saving the result also
    writes `images/000000.png` and so on.

    Raises:
        ProbeError: fewer than 1 sample; GANs of other latents or images than the first.

    Example:
        >>> import probe
        >>> probe.sample(probe.load("rooms"), 4).arrays["images"].shape
        (4, 3, 64, 64)
    """
    from functools import partial

    from probe.questions.sample.run import sample as run
    from probe.questions.sample.run import write_each
    from probe.results.provenance import finished

    gans = list(gan) if isinstance(gan, Sequence) else [gan]
    result = run(gans, samples, seed)
    if each:
        result.files["images"] = partial(write_each, result)
    return finished(result, gans[0], seed)
