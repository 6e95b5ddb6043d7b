"""Networks in whose features two sets of images are compared: some numbers an image, and a name that says what they are.

backbone(...)   `judge`, `judge@2`, `random`, FID's Inception from a weights file, or any module as pkg.module:factory

Only in Inception's features is a Fréchet distance an FID; in all others the name is to be told with the number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.concepts.networks import UNet
from probe.concepts.segmenters import load_rooms
from probe.measures.features import Feature, RandomConv, feature
from probe.measures.statistics import Array
from probe.models.gan import from_bytes
from probe.questions.evaluate.inception import load_inception

JUDGES = {"rooms": "judge", "rooms@2": "judge@2"}
"""Prefixes of the procedural rooms, and the network that was trained on each."""
_BATCH, _MOST = 100, 4096


@dataclass(frozen=True)
class Backbone:
    """A feature of images; `fid` says whether it is Inception, whose Fréchet distance is called FID."""

    phi: Feature
    fid: bool = False

    @property
    def name(self) -> str:
        """What the features are, in words."""
        return self.phi.name

    def rows(self, images: Array, device: torch.device, report: Callable[[int, int], None] | None = None) -> Tensor:
        """Features (N, D) on the CPU of images (N, C, S, S) uint8; raises ProbeError where D is above 4,096."""
        found = []
        for start in range(0, len(images), _BATCH):
            part = torch.from_numpy(np.array(images[start : start + _BATCH]))
            found.append(self.phi(from_bytes(part.to(device))).cpu())
            if found[0].shape[1] > _MOST:
                given = f"{found[0].shape[1]} numbers an image"
                raise ProbeError(f"features {self.name}: {given}; expected at most {_MOST}: average them over places")
            if report:
                report(min(start + _BATCH, len(images)), len(images))
        return torch.cat(found)


def _segmenter(edition: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The innermost maps of the judge of an edition of rooms, averaged over quarters of the image: 256 numbers."""
    judge = load_rooms(edition, device)["judge"]
    network = judge.network
    assert isinstance(network, UNet)

    def features(images: Tensor) -> Tensor:
        x = images.mean(1, keepdim=True).expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        if x.shape[-1] != judge.size:
            x = F.interpolate(x, (judge.size, judge.size), mode="bilinear", antialias=True)
        for i, layer in enumerate(network.down):
            x = layer(F.max_pool2d(x, 2) if i else x)
        return F.adaptive_avg_pool2d(x, 2).flatten(1)

    return features


def backbone(given: str | Callable[[Tensor], Tensor], channels: int, device: torch.device) -> Backbone:
    """The network of a name, a weights file or a factory, for images of 1 or 3 channels; ProbeError where it is none."""
    if not isinstance(given, str):
        return Backbone(feature(given, channels, device, "features"))
    text = given
    if text in ("judge", "segmenter", "reader"):
        return Backbone(Feature("the built-in rooms judge", _segmenter(1, device)))
    if text == "judge@2":
        return Backbone(Feature("the built-in judge of rooms@2", _segmenter(2, device)))
    if text == "random":
        return Backbone(Feature("a random-weights network, seed 0", RandomConv(channels, grid=1).to(device).eval()))
    path = Path(text).expanduser()
    if path.is_file():
        return Backbone(Feature(f"Inception-v3, {path.name}", load_inception(path)), fid=True)
    if ":" in text:
        return Backbone(feature(text, channels, device, "features"))
    wanted = "judge, judge@2, random, a weights file of FID's Inception, or pkg.module:factory"
    raise ProbeError(f"features {text}: no such name and no such file; expected {wanted}")
