"""What do these units do, everywhere or in a region?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from probe.base.parameters import Layer, Param, Save, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def ablate(
    gan: GAN,
    layer: Layer = None,
    units: Annotated[
        str | Sequence[int] | None, Param("Feature maps, such as 3,7,12 or 0-11; needed.", metavar="LIST")
    ] = None,
    *,
    scale: Annotated[float, Param("Factor for the maps; 0 switches them off.", metavar="NUMBER")] = 0.0,
    where: Annotated[
        str | Sequence[float] | None,
        Param("Only there: x0,y0,x1,y1 in pixels, or a mask image, white inside.", metavar="BOX|FILE"),
    ] = None,
    indices: Annotated[
        str | Sequence[int],
        Param("Samples of the seed to edit and show, such as 3,5,8-10.", metavar="LIST", was=("samples",)),
    ] = "0-11",
    draws: Annotated[int, Param("Random sets of other maps, for the control.", least=1, metavar="N")] = 50,
    save: Save = None,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """Switch feature maps of the generator off, or scale them, everywhere or in a region, beside random other maps.

    `layer` is the second from the pixels where it is not given. Metrics: `change` (mean |x - x'|, pixels in [0, 1]),
    `inside`, `outside`, `random`, `p_value`, and on rooms the area of every object after over before. `result.gan` is the
    edited GAN, None for an edit of a region; the one given stays as it was.

    Raises:
        ProbeError: an unknown layer or unit, a region outside of the image, or one that is to be saved.

    Example:
        >>> import probe
        >>> result = probe.ablate(probe.load("rooms"), "16x16", "0-7", draws=5)
        >>> result.metrics["change"] > 0
        True
    """
    from probe.base.errors import ProbeError
    from probe.base.parameters import numbers, written
    from probe.checkpoints import save as save_checkpoint
    from probe.checkpoints.export import check_save
    from probe.concepts.sources import is_rooms, segmenters_of
    from probe.edits import surgery
    from probe.models.hooks import resolve, usual
    from probe.questions.ablate.region import region
    from probe.questions.ablate.run import Settings, effect
    from probe.results.provenance import finished

    if where is not None and save is not None:
        raise ProbeError(
            f"`save` {save}: a convolution's weights are the same at every place, so an edit of a region (`where`) does "
            "not go into them; save without `where`"
        )
    if units is None:
        raise ProbeError("no `units`; expected feature maps such as 3,7,12 or 0-11")
    maps, shown = numbers(units, "units"), numbers(indices, "indices")
    layer = usual(gan).name if layer is None else str(layer)
    resolve(gan, layer)
    settings = Settings(layer=layer, units=maps, scale=scale, indices=shown, draws=draws, seed=seed)
    place = None if where is None else region(written(where), gan.size)
    path = check_save(gan, save, ordinary=True)
    result = effect(gan, settings, place, segmenters_of(gan)["judge"] if is_rooms(gan) else None, report)
    edited = None
    if where is None and hasattr(gan.generator, "blocks"):
        edited = surgery.scale(gan, layer, maps, scale) if scale else surgery.ablate(gan, layer, maps)
    result.gan = edited
    if where is not None:
        result.settings["where"] = written(where).rsplit("/")[-1]
    if path and edited:
        save_checkpoint(edited, path)
        if path.suffix in (".pth", ".pt"):
            result.remarks.append(f"{path}: does not hold the prior: open it with `prior` {gan.prior}")
    return finished(result, gan, seed)
