"""What single feature maps know of a concept: overlap with its masks, ranking of its places, effect on a segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from probe.concepts.protocols import Segmenter, scores
from probe.models.gan import GAN
from probe.models.hooks import edit

QUANTILES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_CHUNK = 16


@dataclass(frozen=True)
class Overlap:
    """Pixels where a unit is active, where the mask is, and where both are: `active`, `both` (N, C), `area` (N,).

    `thresholds` (C,) are activations; every count is of pixels of one image.
    """

    active: Tensor
    both: Tensor
    area: Tensor
    thresholds: Tensor

    def ious(self, rows: Tensor | None = None) -> Tensor:
        """Intersection over union (C,), pooled over the images of `rows` (indices, repeats allowed; default all)."""
        pick = slice(None) if rows is None else rows
        active, both, area = self.active[pick].sum(0), self.both[pick].sum(0), self.area[pick].sum()
        return both / (active + area - both).clamp(min=1)


def information_quality(active: Tensor, both: Tensor, area: Tensor, total: int) -> Tensor:
    """I(a; m) / H(a, m) of two binary variables from their counts (…,): mutual information over joint entropy."""
    cells = torch.stack([both, active - both, area - both, total - active - area + both]).double() / total
    joint = -torch.special.xlogy(cells, cells).sum(0)
    parts = [torch.stack([p, 1 - p]) for p in (active.double() / total, area.double() / total)]
    apart = [-torch.special.xlogy(p, p).sum(0) for p in parts]
    quality: Tensor = (apart[0] + apart[1] - joint) / joint.clamp(min=1e-12)
    return quality.nan_to_num()


def top_levels(maps: Tensor) -> Tensor:
    """Each unit's top quantiles of activation (Q, C), for maps (N, C, H, H); of very many places an even share."""
    flat = maps.transpose(0, 1).flatten(1)
    flat = flat[:, :: max(1, flat.shape[1] // 400_000)]
    wanted = torch.tensor([1 - q for q in QUANTILES], dtype=flat.dtype, device=flat.device)
    return torch.cat([torch.quantile(rows, wanted, dim=1) for rows in flat.split(_CHUNK)], 1)


def overlap(maps: Tensor, masks: Tensor) -> Overlap:
    """Overlap of units with masks: maps (N, C, H, H), enlarged bilinearly to the masks (N, S, S) boolean.

    A unit's threshold is one of its top quantiles (0.5 % to 20 % of its activations), the one of the largest information
    quality ratio with the masks (Bau et al. 2019, GAN Dissection, section 3.1).
    """
    side, total = masks.shape[-1], masks.numel()
    area = masks.flatten(1).sum(1).float()
    parts = []
    for units in torch.arange(maps.shape[1]).split(_CHUNK):
        chunk = maps[:, units]
        levels = top_levels(chunk)  # (Q, units)
        large = F.interpolate(chunk, size=(side, side), mode="bilinear")
        rows = []
        for level in levels:
            on = large > level[:, None, None]
            rows.append(torch.stack([on.sum((2, 3)), (on & masks[:, None]).sum((2, 3))]).float())
        counts = torch.stack(rows)  # (Q, 2, N, units)
        pooled = counts.sum(2)
        quality = information_quality(pooled[:, 0], pooled[:, 1], area.sum(), total)  # (Q, units)
        # A concept's complement is as informative as the concept: only units more active inside than outside count.
        quality[pooled[:, 1] * total <= pooled[:, 0] * area.sum()] = -1
        best = quality.argmax(0)
        each = torch.arange(len(units))
        parts.append((counts[best, 0, :, each].T, counts[best, 1, :, each].T, levels[best, each]))
    active, both, thresholds = zip(*parts, strict=True)
    return Overlap(torch.cat(active, 1), torch.cat(both, 1), area, torch.cat(thresholds))


def unit_ious(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union (C,) of units with masks, and the thresholds (C,) that they are active above."""
    found = overlap(maps, masks)
    return found.ious(), found.thresholds


def unit_aucs(maps: Tensor, inside: Tensor) -> Tensor:
    """Area under the ROC curve (C,) of each unit: places in the concept against all others; 0.5 knows nothing.

    Maps (N, C, H, H), `inside` (N, H, H) boolean. By the ranks' sum (Mann and Whitney), ties at their mean rank.
    """
    values = maps.transpose(0, 1).flatten(1)  # (C, M)
    truth = inside.flatten()
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return torch.full((len(values),), float("nan"))
    out = torch.empty(len(values))
    for k, row in enumerate(values):
        _, inverse, counts = torch.unique(row, return_inverse=True, return_counts=True)
        last = counts.cumsum(0).double()
        ranks = last - (counts - 1) / 2  # of each distinct value
        out[k] = (ranks[inverse][truth].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return out


def effects(gan: GAN, names: Sequence[str], z: Tensor, segmenter: Segmenter, value: int) -> dict[str, Tensor]:
    """How much of a concept each unit makes a segmenter see: layer -> (N, C), in shares of the image's pixels.

    First order in the unit's removal: Σ over places of x·∂A/∂x, A the mean over pixels of the segmenter's probability of
    label `value`; positive where the unit supports the concept. Latents z (N, nz).
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in z.split(32):
        seen: dict[str, Tensor] = {}

        def watch(name: str, seen: dict[str, Tensor] = seen) -> Callable[[Tensor], Tensor]:
            def follow(x: Tensor) -> Tensor:
                seen[name] = x if x.requires_grad else x.detach().requires_grad_()
                return seen[name]

            return follow

        with torch.enable_grad(), edit(gan.generator, {name: watch(name) for name in names}):
            images = gan.generator(part.to(gan.device))
            area = scores(segmenter, images.cpu()).softmax(1)[:, value].mean((1, 2)).sum()
            gradients = torch.autograd.grad(area, [seen[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            kept[name].append((seen[name] * gradient).detach().sum((2, 3)).cpu())
    return {name: torch.cat(rows) for name, rows in kept.items()}
