"""What can be plugged in where a question asks what an image shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

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


class Differentiable(Segmenter, Protocol):
    """A segmenter that gives scores."""

    def scores(self, images: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] -> logits (N, objects, S, S), differentiable."""
        ...


def differentiable(segmenter: Any) -> TypeGuard[Differentiable]:
    """Whether a segmenter gives scores, which gradients can go through."""
    return callable(getattr(segmenter, "scores", None))


def scores(segmenter: Segmenter, images: Tensor) -> Tensor:
    """Logits (N, objects, S, S) of images; raises ProbeError for a segmenter that gives none."""
    if not differentiable(segmenter):
        raise ProbeError(
            f"`segmenter`: a {type(segmenter).__name__} has no `.scores(images)`, which ranking by causal effect and refining a "
            "patch go through; leave out those methods"
        )
    return segmenter.scores(images)


def checked_segmenter(value: Any) -> Any:
    """The value, where it has what a Segmenter needs; raises ProbeError for anything else."""
    if not callable(getattr(value, "labels", None)) or not hasattr(value, "objects"):
        raise ProbeError(
            f"`segmenter`: is a {type(value).__name__}; expected an object with `.objects` (names) and `.labels(images)`"
        )
    return value
