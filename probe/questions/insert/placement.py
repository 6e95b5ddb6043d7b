"""Editing at a place: a concept at a layer, the cells of a box, and what an edit there did to images without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.concepts.labels import Boxes
from probe.concepts.probing import gather
from probe.concepts.protocols import Segmenter
from probe.measures import statistics as measures
from probe.measures.statistics import Array
from probe.models.gan import GAN
from probe.models.hooks import Site
from probe.models.replay import Replay

FREE = 0.05  # an image lacks the concept in a box below this share of it
HALF = 0.5  # the share of the box that the concept covers where insertion succeeded
_MATCHED = 16  # latents on which random edits are scaled
Box = tuple[float, float, float, float]
Edits = Mapping[str, Callable[[Tensor], Tensor]]
AtStrength = Callable[[float], Edits]


def cells(box: Box, grid: int, size: int) -> Tensor:
    """Cells of a grid x grid layer whose centre lies in a box in pixels, (grid, grid) boolean: a rectangle."""
    return Boxes("", (0,), {0: np.array([box])}).cells(0, grid, size)


@dataclass(frozen=True, kw_only=True)
class Present:
    """A concept at a layer, for the cells of a box (h x w): μ₁ and μ₀, (C, 1, 1) or (C, h, w) each.

    `order` (C,) lists the units by falling contrast; `floor` is the least activation seen, 0 after a ReLU.
    """

    inside: Tensor
    mean1: Tensor
    mean0: Tensor
    order: Tensor
    floor: float

    def edit(self, strength: float, units: int | None) -> Callable[[Tensor], Tensor]:
        """Feature maps (N, C, H, H) with the cells of the box changed: all units moved, or the first few set."""
        rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in self.inside.nonzero(as_tuple=True))
        step = strength * (self.mean1 - self.mean0)
        value, chosen = (self.mean0 + step).clamp(min=self.floor), self.order[:units]

        def change(x: Tensor) -> Tensor:
            x = x.clone()
            part = x[:, :, rows, columns]
            if units is None:
                x[:, :, rows, columns] = torch.maximum(part + step.to(x), part.clamp(max=self.floor))
            else:
                part[:, chosen.to(x.device)] = value[chosen].to(x)
            return x

        return change


@dataclass(frozen=True)
class Donors:
    """Labelled images that the concept is taken from: feature maps of layers by name, (N, C, H, H), and boxes.

    A row for each of `boxes.images`, whose side is `size` pixels; `seed` draws the negatives.
    """

    maps: Mapping[str, Tensor]
    boxes: Boxes
    size: int
    seed: int = 0

    def shuffled(self, rng: np.random.Generator) -> Donors:
        """The same images, the boxes moved to others of them."""
        order = rng.permutation(self.boxes.images)
        moved = {int(order[self.boxes.images.index(i)]): b for i, b in self.boxes.boxes.items()}
        return replace(self, boxes=replace(self.boxes, boxes=moved), seed=int(rng.integers(2**31)))

    def at(self, name: str, box: Box, by_place: bool) -> Present:
        """A concept at a layer, for a box: the means over all boxed cells, or place by place within the boxes.

        Negatives are the same places of images without the concept; where every image has it, others of the same image.
        """
        maps, lacking = self.maps[name], [i not in self.boxes.boxes for i in self.boxes.images]
        inside = cells(box, maps.shape[-1], self.size)
        kind = "same-place" if any(lacking) else "same-image"
        positive, negative = gather(maps, self.boxes, self.size, kind, self.seed).split()
        mean1, mean0 = positive.mean(0), negative.mean(0)
        contrast = (mean1 - mean0) / ((positive.var(0) + negative.var(0)) / 2).sqrt().clamp(min=1e-6)
        mean1, mean0 = mean1[:, None, None], mean0[:, None, None]
        if by_place:
            mean1 = self._place_by_place(maps, box, inside)
            if any(lacking):  # sampling is linear: the mean map stands for all of them
                mean = maps[torch.tensor(lacking)].mean(0, keepdim=True)
                mean0 = self._place_by_place(mean.expand(len(maps), -1, -1, -1), box, inside)
        return Present(
            inside=inside,
            mean1=mean1,
            mean0=mean0,
            order=contrast.argsort(descending=True),
            floor=min(0.0, float(maps.min())),
        )

    def _place_by_place(self, maps: Tensor, box: Box, inside: Tensor) -> Tensor:
        """Mean over the labelled boxes of the maps at the places that the cells have in `box`, (C, h, w).

        A cell centre at (u, v) of the box, both in 0 … 1, reads every labelled box at its own (u, v), bilinearly. Boxes
        smaller than a quarter of the median one are left out.
        """
        x0, y0, x1, y1 = box
        every = [(r, b) for r, i in enumerate(self.boxes.images) for b in self.boxes.boxes.get(i, ())]
        every = [(r, b) for r, b in every if (b[2] - b[0]) * (b[3] - b[1]) >= self.boxes.typical_area / 4]
        corners = torch.tensor(np.array([b for _, b in every]), dtype=torch.float32)  # (K, 4)
        centres = (torch.arange(len(inside)) + 0.5) * self.size / len(inside)
        u, v = (centres[inside.any(0)] - x0) / (x1 - x0), (centres[inside.any(1)] - y0) / (y1 - y0)
        x = corners[:, :1] + u * (corners[:, 2:3] - corners[:, :1])  # (K, w)
        y = corners[:, 1:2] + v * (corners[:, 3:] - corners[:, 1:2])  # (K, h)
        grid = torch.stack([x[:, None].expand(-1, len(v), -1), y[:, :, None].expand(-1, -1, len(u))], -1)
        rows = torch.tensor([r for r, _ in every])
        at = 2 * grid / self.size - 1
        return F.grid_sample(maps[rows], at.to(maps.device), padding_mode="border", align_corners=False).mean(0)


@dataclass(frozen=True)
class Candidate:
    """A variant (`pattern`, `shift`, `units`) at one or several layers; `units` sets this share of a layer's units."""

    variant: str
    sites: tuple[Site, ...]
    units: float | None = None

    def count(self, site: Site) -> int | None:
        """How many of a layer's units are set; None where all are moved."""
        return None if self.units is None else max(1, round(self.units * site.maps))

    def fitted(self, donors: Donors, box: Box) -> AtStrength:
        """Strength -> edits at a box."""
        known = {s.name: donors.at(s.name, box, self.variant == "pattern") for s in self.sites}
        return lambda strength: {s.name: known[s.name].edit(strength, self.count(s)) for s in self.sites}


class Spot:
    """Fixed latents whose images lack the concept in a box, by a segmenter's word; scores edits there on the same latents."""

    def __init__(self, gan: GAN, z: Tensor, segmenter: Segmenter, concept: str, box: Box, names: list[str]) -> None:
        self.segmenter, self.value, self.box = segmenter, segmenter.objects.index(concept), box
        self.inside = cells(box, gan.size, gan.size)
        self.near = measures.dilate(self.inside[None])[0]
        self.replay = Replay(gan, z, names)
        self.images = self.replay.unedited
        self.labels = segmenter.labels(self.images)

    def change(self, edits: Edits, n: int) -> float:
        """Mean change inside the box, on the first n latents: no segmenter is asked."""
        after = self.replay.images(edits, torch.arange(n))
        return float(measures.change(self.images[:n], after, self.inside.expand(len(after), -1, -1))[1].mean())

    def covered(self, images: Tensor) -> Array:
        """Share of the box that the segmenter sees covered in images (N, C, S, S), (N,)."""
        seen = self.segmenter.labels(images)[:, self.inside] == self.value
        return np.asarray(seen.float().mean(1).numpy())

    def score(self, edits: Edits) -> dict[str, Array]:
        """Of each image: share of the box covered, IoU of box and new concept, mean change outside (dilated) and inside, (N,)."""
        after = self.replay.images(edits)
        seen = self.segmenter.labels(after) == self.value
        new = seen & (self.labels != self.value)
        union = (new | self.inside).flatten(1).sum(1)
        inside, near = (m.expand(len(after), -1, -1) for m in (self.inside, self.near))
        return {
            "covered": seen[:, self.inside].float().mean(1).numpy(),
            "iou": ((new & self.inside).flatten(1).sum(1) / union).numpy(),
            "collateral": measures.change(self.images, after, near)[0],
            "inside": measures.change(self.images, after, inside)[1],
        }


def summary(scores: Mapping[str, Array]) -> dict[str, Any]:
    """The published names, with intervals over images; nan where no image has a value."""
    values = {"success": (scores["covered"] >= HALF).astype(float), **scores}
    out: dict[str, Any] = {}
    for name, each in values.items():
        known = each[np.isfinite(each)]
        out[name] = float(known.mean()) if len(known) else float("nan")
        out[f"{name}_ci"] = measures.mean_ci(known) if len(known) else [float("nan")] * 2
    return out


def _scaled(edits: AtStrength, strength: float, target: float, spot: Spot) -> float:
    """The strength at which an edit changes the box as much as `target`, within 5 %; at most five proportional steps."""
    for _ in range(5):
        found = spot.change(edits(strength), _MATCHED)
        if abs(found - target) <= 0.05 * target:
            break
        strength *= float(np.clip(target / max(found, 1e-9), 1 / 8, 8))
    return strength


def moved_boxes(
    candidate: Candidate,
    strength: float,
    donors: Donors,
    spot: Spot,
    draws: int,
    seed: int,
    report: Callable[[int, int], None],
) -> tuple[dict[str, Any], float, Array]:
    """The same edit fitted to boxes moved to other images, `draws` times, scaled to the method's change inside the box.

    Returns the published numbers, the p-value of the method's success on the same latents, and (success, collateral,
    inside) of every draw, (draws, 3).
    """
    rng = np.random.default_rng(seed)
    own = candidate.fitted(donors, spot.box)(strength)
    method, target = summary(spot.score(own)), spot.change(own, _MATCHED)
    points = np.zeros((draws, 3))
    for k in range(draws):
        edits = candidate.fitted(donors.shuffled(rng), spot.box)
        found = summary(spot.score(edits(_scaled(edits, strength, target, spot))))
        points[k] = found["success"], found["collateral"], found["inside"]
        report(k + 1, draws)
    success, collateral, inside = points.T
    numbers = {
        "success_mean": success.mean(), "success_p95": np.percentile(success, 95), "collateral": collateral.mean(),
        "inside": inside.mean(), "draws": draws, "latents": len(spot.images),
        "method_success": method["success"], "method_inside": method["inside"],
    }  # fmt: skip
    return numbers, measures.p_value(method["success"], success), points
