"""How far are samples from real images?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from probe.base.parameters import Data, Exclude, Param, Seed, question

if TYPE_CHECKING:
    from probe.base.progress import Report
    from probe.models.gan import GAN
    from probe.results.result import Result


@question
def evaluate(
    gan: GAN,
    data: Annotated[
        str | None,
        Param(
            f"Real images: {Data}; the checkpoint's own source gives its held-out images. Default: 5,000 fresh renders.",
            metavar="SOURCE",
        ),
    ] = None,
    *,
    exclude: Exclude = None,
    features: Annotated[
        str | Callable[..., Any] | None,
        Param(
            "judge or judge@2 (the built-in ones of rooms and of rooms@2; the default for these), random (weights of seed 0; the "
            "default else), the "
            "weights FILE of FID's Inception (a state dict; a TorchScript is refused, since it runs code), or "
            "pkg.module:factory (your own code, which is run).",
            metavar="NAME",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        Param(
            "Images in each set; default: 2,500, or what there are.",
            least=200,
            most=10_000,
            metavar="N",
            short="n",
            was=("n",),
        ),
    ] = None,
    seed: Seed = 0,
    report: Report | None = None,
) -> Result:
    """How far samples are from real images, between a floor (other real ones) and a ceiling (the same network untrained).

    `data` are real images, else 5,000 fresh renders of the edition of rooms that the model was trained on; where the checkpoint was trained on them, its held-out ones are the reference. `features` is
    `judge`, `judge@2`, `random`, the weights file of FID's Inception, `pkg.module:factory`, or a function of images (N, C, S, S) in
    [-1, 1] that gives rows (N, D); all sets have `samples` images. Metrics: `fid` (Fréchet distance; FID in Inception's
    features alone), `kid`, `precision` and `recall` (0 to 1), each with its interval, `backbone`. Formulas: Heusel et
    al. 2017, Binkowski et al. 2018, Kynkaanniemi et al. 2019.

    Raises:
        ProbeError: too few images, a feature file that does not fit, a list of excluded images that is not the checkpoint's.

    Example:
        >>> import probe
        >>> probe.evaluate(probe.load("rooms"), "rooms:400@77", samples=200).metrics["backbone"]
        'the built-in rooms judge'
    """
    from probe.base.progress import silent
    from probe.concepts.sources import fresh_rooms
    from probe.questions.evaluate.backbones import JUDGES, backbone
    from probe.questions.evaluate.images import reals
    from probe.questions.evaluate.run import Settings
    from probe.questions.evaluate.run import evaluate as run
    from probe.results.provenance import finished

    tell = report or silent
    source = fresh_rooms(gan, 5000, 77) if data is None else data
    usual = JUDGES.get(source.partition(":")[0], "random")
    network = backbone(usual if features is None else features, gan.channels, gan.device)
    reference, others, note = reals(gan, source, exclude, seed, tell)
    n = min(2500, max(200, min(len(reference), len(others)))) if samples is None else samples
    return finished(run(gan, reference, others, network, Settings(images=n, seed=seed), tell, note), gan, seed)
