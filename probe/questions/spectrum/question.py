"""Do samples have the fine structure of real images, or a grid of their own?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import Data, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def spectrum(
    gan: GAN,
    data: Annotated[
        str | None, Param(f"Real images: {Data}. Default: fresh renders for a model of rooms.", metavar="SOURCE")
    ] = None,
    *,
    samples: Annotated[int, Param("Images of each kind.", least=16, most=10_000, metavar="N", short="n")] = 256,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Power of samples by spatial frequency, beside real images: a checkerboard is a peak at the highest one.

    The power spectrum of the mean over channels, each image's own mean taken off, averaged over images; `corner` is the power
    at the highest frequency of both directions over the mean of the 24 frequencies around it. Transposed convolutions
    leave a grid there (Odena et al. 2016). Metrics: `corner` with its interval, `real.corner`, and `excess`, the first over the
    second.

    Raises:
        ProbeError: no `data` for a generator that is not one of rooms, or fewer than `samples` images in it.

    Example:
        >>> import probe
        >>> probe.spectrum(probe.load("rooms"), samples=16).metrics["images"]
        16
    """
    from probe.base.errors import ProbeError
    from probe.base.progress import silent
    from probe.concepts.sources import fresh_rooms, is_rooms
    from probe.data import loading
    from probe.questions.spectrum.run import spectrum as run
    from probe.results.provenance import finished

    tell = report or silent
    if data is None and not is_rooms(gan):
        name = gan.provenance.get("checkpoint", "this model")
        raise ProbeError(f"{name}: not trained on rooms, so real images are needed; pass them as `data`")
    source = data or fresh_rooms(gan, samples, 77)
    images = loading.load(
        source, gan.size, gan.channels, samples, lambda done, total: tell(f"reading {source}", done, total or done)
    )
    if len(images.images) < samples:
        raise ProbeError(f"{images.name}: {len(images.images)} images; expected at least the `samples` {samples}")
    result = run(gan, images.images, samples, seed)
    return finished(result, gan, seed, [f"real images: the first {samples} of {images.name}"])
