"""What do the discriminator's filters see?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from probe.base.parameters import Layer, Limit, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def guided_backprop(
    gan: GAN,
    data: Annotated[
        str | None,
        Param(
            "Images to look at: as for `probe train`, or samples[:N]. Default: rooms:2048@1 for a model of rooms, "
            "else samples:2048.",
            metavar="SOURCE",
        ),
    ] = None,
    *,
    limit: Limit = None,
    layer: Layer = None,
    units: Annotated[
        str | Sequence[int],
        Param("Such as 0-5; top: the six that stand out most; all: also an atlas as PDF.", metavar="LIST"),
    ] = "0-5",
    rule: Annotated[
        Literal["guided", "leaky", "deconvnet", "gradient"], Param("How signals go back through activations.")
    ] = "guided",
    crops: Annotated[int, Param("Images for each unit.", least=1, most=16, metavar="N")] = 5,
    batchnorm: Annotated[
        Literal["running", "data", "batch"] | None,
        Param("The discriminator's statistics: running (stored), data (estimated from it) or batch."),
    ] = None,
    sanity: Annotated[Literal["fast", "full"], Param("full: every layer randomised, 5 seeds.")] = "fast",
    inputs: Annotated[bool, Param("Show the crops of the images beside their gradients.")] = False,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Show what excites units of the discriminator (the paper's Fig. 5), beside random weights and sanity checks.

    `data` is a source of images as `probe train` takes it (only the first `limit` of them), or `samples:N`; by default
    2,048 fresh renders for a model of rooms, else as many samples. `layer` is the last one with feature maps where it is
    not given. Rules: Springenberg et al. 2015 (`guided`), `leaky`, `deconvnet`, `gradient`; checks: Adebayo et al. 2018.
    Metrics: `sanity` with `verdict` (`pass` where the similarity to random weights stays below `threshold`, with its
    95 % interval), `difference_from_gradient`.

    Raises:
        ProbeError: no discriminator; an unknown layer, unit, rule or policy; too few images; a rule that changed nothing.

    Example:
        >>> import probe
        >>> result = probe.guided_backprop(probe.load("rooms"), "samples:64", units="0,1")
        >>> sorted(result.metrics["concepts"])
        ['0', '1']
    """
    from functools import partial

    from probe.base.parameters import written
    from probe.base.progress import silent
    from probe.checkpoints import on_data
    from probe.concepts.sources import is_rooms, segmenters_of
    from probe.models.hooks import resolve
    from probe.questions.guided_backprop.figure import atlas
    from probe.questions.guided_backprop.images import look_at
    from probe.questions.guided_backprop.run import Settings, fit_policy, guided, parse_units
    from probe.results.provenance import finished

    place, units = "-1" if layer is None else str(layer), written(units)
    settings = Settings(
        layer=place,
        units=units,
        rule=rule,
        crops=crops,
        batchnorm=batchnorm,
        sanity=sanity,
        inputs=inputs,
        seed=seed,
    )
    parse_units(units, resolve(gan, place, "discriminator"))  # refused before any image is read
    fit_policy(gan, settings.batchnorm)
    source, notes = look_at(gan, data, limit, seed, report or silent)
    doubts = [] if source.name.startswith("samples") else on_data(gan, source.some(256), source.name)
    known = is_rooms(gan) and source.name.startswith(("rooms", "samples"))
    result = guided(gan, source, settings, segmenters_of(gan)["judge"] if known else None, report)
    if units == "all":
        result.files["atlas.pdf"] = partial(atlas, result)
    result.remarks += doubts
    return finished(result, gan, seed, notes)
