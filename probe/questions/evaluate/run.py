"""How good are a generator's samples? Distances to real images in named features, between a floor and a ceiling.

All three are compared with the same reference, and all sets have the same number of images, since a Fréchet distance
grows as images get fewer. The floor is what two sets of real images are apart; the ceiling what noise through the same
architecture is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.measures.distances import BLOCKS, NEIGHBOURS, compare
from probe.measures.statistics import Array
from probe.models.dcgan import initialise
from probe.models.gan import GAN, recalibrate, to_bytes
from probe.questions.evaluate.backbones import Backbone
from probe.results.result import Result

Report = Callable[[str, int, int], None]
LEAST, MOST, SHOWN = 10 * BLOCKS, 10_000, 12


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run: images in each set, 200 to 10,000."""

    images: int = 2500
    seed: int = 0

    def __post_init__(self) -> None:
        if not LEAST <= self.images <= MOST:
            raise ProbeError(f"`samples` {self.images}: expected {LEAST} to {MOST} images in each set")


def _checked(gan: GAN, reals: dict[str, Array], n: int) -> None:
    expected = (gan.channels, gan.size, gan.size)
    for name, images in reals.items():
        if images.shape[1:] != expected:
            raise ProbeError(f"{name} images of {images.shape[1:]}; expected {expected}, as the generator draws them")
        if len(images) < n:
            few = f"pass `samples` of at most {len(images)}"
            many = f"fewer than {LEAST} say nothing: pass a source with more images"
            raise ProbeError(
                f"{len(images)} {name} images; expected at least {n}: {few if len(images) >= LEAST else many}"
            )


def untrained_generator(gan: GAN, seed: int) -> GAN:
    """The same architecture with the weights that training starts from, BatchNorm statistics estimated from the prior."""
    generator = copy.deepcopy(gan.generator)
    initialise(generator, seed)
    recalibrate(generator, gan.nz, gan.prior, 512, seed)
    return GAN(generator, None, gan.nz, gan.size, gan.channels, gan.prior)


def _drawn(gan: GAN, n: int, seed: int, tell: Callable[[int, int], None]) -> Array:
    parts: list[Array] = []
    for batch in gan.batches(gan.latents(n, seed)):
        parts.append(to_bytes(batch).cpu().numpy())
        tell(sum(map(len, parts)), n)
    return np.concatenate(parts)


def evaluate(
    gan: GAN,
    reference: Array,
    others: Array,
    backbone: Backbone,
    settings: Settings | None = None,
    report: Report | None = None,
    source: str = "images as given",
) -> Result:
    """Compare samples, other real images and an untrained generator with reference images (N, C, S, S) uint8.

    The first `settings.images` of `reference` and of `others` are taken: disjoint, in random order; `source` says in words where they come from. Arrays: `samples`,
    `reals`, `untrained` (12, C, S, S) uint8. Raises ProbeError for images of another shape, or too few.
    """
    s, tell = settings or Settings(), report or (lambda *_: None)
    n = s.images
    _checked(gan, {"reference": reference, "other real": others}, n)
    sets = {
        "samples": _drawn(gan, n, s.seed, lambda i, m: tell("drawing samples", i, m)),
        "floor": others[:n],
        "ceiling": _drawn(
            untrained_generator(gan, s.seed), n, s.seed, lambda i, m: tell("drawing from an untrained generator", i, m)
        ),
    }
    rows = {
        name: backbone.rows(images, gan.device, lambda i, m, name=name: tell(f"features, {name}", i, m))  # type: ignore[misc]
        for name, images in {"reference": reference[:n], **sets}.items()
    }
    found: dict[str, Any] = {}
    for i, name in enumerate(sets):
        found[name] = compare(rows["reference"], rows[name])
        tell("distances", i + 1, len(sets))
    measure = "FID" if backbone.fid else f"Fréchet distance in features of {backbone.name} (not FID)"
    metrics = {
        **found["samples"], "backbone": backbone.name, "measure": measure, "features": rows["reference"].shape[1],
        "n": n, "reference": source, "floor": found["floor"], "ceiling": found["ceiling"],
    }  # fmt: skip
    arrays = {"samples": sets["samples"][:SHOWN], "reals": reference[:SHOWN], "untrained": sets["ceiling"][:SHOWN]}
    assumed = [
        f"every set has {n} images; a Fréchet distance is biased upwards, more so for fewer images, so compare at equal n only",
        f"KID's kernel is (x·y/D + 1)³; precision and recall take the distance to the {NEIGHBOURS}rd nearest neighbour",
        f"95 % intervals by the jackknife over {BLOCKS} blocks of images: a bootstrap's repeated images bias all four numbers",
        "floor: other real images; ceiling: the same architecture before training, BatchNorm statistics from the prior",
    ]
    return Result(
        "evaluate", metrics, asdict(s), assumed, dict(gan.provenance), {k: np.array(v) for k, v in arrays.items()}
    )
