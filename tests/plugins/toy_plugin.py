"""What an outsider writes: a question, a way to forget, a segmenter and a distance, in a module of their own."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.figure import Figure

import probe
from probe import Param, Question, Result, Summary

THRESHOLD = -0.045


@probe.question
def brightness(
    gan: Any,
    samples: Annotated[int, Param("Samples that are averaged.", least=1, most=100, short="n")] = 8,
    *,
    seed: Annotated[int, Param("Seed of the samples.", least=0)] = 0,
) -> Result:
    """How bright are the samples? Metrics: `brightness`, 0 to 1."""
    images = gan.sample(samples, seed) * 0.5 + 0.5
    found = {"brightness": float(images.mean())}
    arrays = {"means": images.mean((1, 2, 3)).numpy()}
    return Result("brightness", found, {"samples": samples, "seed": seed}, arrays=arrays)


def draw(result: Result) -> Figure:
    """The mean of every sample, as a line."""
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().plot(result.arrays["means"])
    return figure


def say(metrics: Any) -> Summary:
    """The brightness in a sentence."""
    return Summary(verdict="measured", text=f"samples are {metrics['brightness']:.2f} bright")


class Fade:
    """Dims the maps of one layer."""

    def __init__(self, layer: str, factor: float = 1.0) -> None:
        self.layer, self.factor = layer, factor

    def hooks(self, strength: float) -> dict[str, Any]:
        return {self.layer: lambda x: x * max(0.0, 1 - self.factor * strength)}


class Dim:
    """A way to forget that forgets everything alike."""

    name, strengths = "dim", (0.25, 0.5, 1.0)

    def fit(self, context: Any) -> Fade:
        return Fade(context.sites[0].name)

    def random(self, context: Any, rng: np.random.Generator) -> Fade:
        return Fade(context.sites[0].name, float(rng.uniform(0.5, 2)))


class Bright:
    """A segmenter that sees a light in the corner of images whose corner is light, and gives no gradient."""

    objects = ("background", "light")

    def labels(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8)
        maps[:, 2:10, 2:10] = (images[:, :, 2:10, 2:10].mean((1, 2, 3)) > THRESHOLD).byte()[:, None, None]
        return maps


def coarse(images: torch.Tensor) -> torch.Tensor:
    """A distance: images as 4 x 4 means."""
    return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


class Coarse(torch.nn.Module):
    """The same as a module, for the command line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return coarse(x)


TOY = Question(
    name="brightness",
    call=brightness,
    figure=draw,
    summary=say,
    group="generator",
    asks="How bright are the samples?",
    examples=("probe brightness -n 4", "probe brightness --seed 1"),
    page="their own page",
)
probe.register_question(TOY)
