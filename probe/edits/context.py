"""All that ways to forget are fitted with."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from probe.concepts.probing import LabelledMaps
from probe.concepts.protocols import Segmenter
from probe.edits.refinement import Settings
from probe.models.gan import GAN
from probe.models.hooks import Site


@dataclass(frozen=True, kw_only=True)
class Fit:
    """All that methods are fitted with: the generator, labelled images and their latents, the selector, the layers."""

    gan: GAN
    labelled: LabelledMaps
    z: Tensor
    selector: Segmenter
    sites: tuple[Site, ...]
    negatives: dict[str, str]
    boundaries: tuple[float, ...]
    strengths: tuple[float, ...]
    seed: int
    readable: bool = True
    refinement: Settings = field(default_factory=Settings)

    @property
    def together(self) -> list[tuple[Site, ...]]:
        """Each layer alone, and all of them."""
        return [(site,) for site in self.sites] + ([self.sites] if len(self.sites) > 1 else [])
