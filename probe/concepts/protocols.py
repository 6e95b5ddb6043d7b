"""What can be plugged in where a question asks what an image shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from probe.base.errors import ProbeError


class Segmenter(Protocol):
    """Says what each pixel of an image shows.

    `objects` names the values of its label maps, the first of them the background. A segmenter may also have
    `scores(images)`, logits (N, objects, S, S) that are differentiable: what goes by gradient (causal ranking, the
    refinement of a patch, effects of units) needs it.

    >>> class Bright:
    ...     objects = ("background", "light")
    ...     def labels(self, images):
    ...         return (images.mean(1) > 0.5).byte()
    """

    @property
    def objects(self) -> Sequence[str]: ...

    def labels(self, images: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] -> label maps (N, S, S) uint8 on the CPU, values indexing `objects`."""
        ...


def differentiable(segmenter: Any) -> bool:
    """Whether a segmenter gives scores, which gradients can go through."""
    return callable(getattr(segmenter, "scores", None))


def checked_segmenter(value: Any) -> Any:
    """The value, where it has what a Segmenter needs; raises ProbeError for anything else."""
    if not callable(getattr(value, "labels", None)) or not hasattr(value, "objects"):
        raise ProbeError(
            f"`segmenter`: is a {type(value).__name__}; expected an object with `.objects` (names) and `.labels(images)`"
        )
    return value
