"""What can be plugged in as a way to forget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from probe.edits.context import Fit

Hooks = Mapping[str, Callable[[Tensor], Tensor]]


class Edit(Protocol):
    """A change of a generator, at any strength: 0 leaves it as it is.

    An edit that can be rebuilt into a generator also has `apply(gan, strength) -> GAN`, a new one; `probe forget --save`
    writes that.
    """

    def hooks(self, strength: float) -> Hooks:
        """Layer's name -> function of its feature maps (N, maps, H, W), as `probe.hooks.edit` takes them."""
        ...


class EditMethod(Protocol):
    """A way to make a generator forget, fitted to labelled images.

    `strengths`, rising, are those that its curve shows and tuning chooses from. The `context` holds the GAN, labelled
    feature maps and latents, the selector and the layers to work on.

    >>> class Dim:
    ...     name, strengths = "dim", (0.25, 0.5, 1.0)
    ...     def fit(self, context):
    ...         return Fade(context.sites[0].name)
    ...     def random(self, context, rng):
    ...         return Fade(context.sites[0].name, float(rng.uniform(0.5, 2)))
    """

    @property
    def name(self) -> str: ...

    @property
    def strengths(self) -> Sequence[float]: ...

    def fit(self, context: Fit) -> Edit:
        """The edit that the labels ask for."""
        ...

    def random(self, context: Fit, rng: np.random.Generator) -> Edit:
        """An edit of the same kind that knows nothing of the labels, to be scaled to the fitted one's collateral."""
        ...
