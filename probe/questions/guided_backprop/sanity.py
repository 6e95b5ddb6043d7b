"""Does a picture depend on what the network learnt? The randomisation tests of Adebayo et al. 2018, on the same images.

A map that looks the same after every weight was drawn anew shows the image, not the network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from skimage.feature import hog
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from probe.base import seeds
from probe.measures.statistics import Array
from probe.models.dcgan import initialise
from probe.models.gan import estimate_statistics

SIMILARITIES = ("spearman", "spearman_signed", "ssim", "hog")  # the first two are rank correlations
THRESHOLD = 0.5
_RESAMPLES = 2000


def groups(model: nn.Module) -> list[nn.ModuleList]:
    """Each convolution or linear layer with the BatchNorm behind it, in the order in which the modules are listed."""
    found: list[list[nn.Module]] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            found.append([module])
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and found:
            found[-1].append(module)
    return [nn.ModuleList(group) for group in found]


def depth(model: nn.Module, gate: nn.Module) -> int:
    """How many convolution and linear layers are listed before a module."""
    count = 0
    for module in model.modules():
        if module is gate:
            break
        count += isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    return count


def stages(depth: int, full: bool) -> dict[str, list[int] | None]:
    """What is randomised, by name: all layers, the last of `depth` alone; in full, also from the top down and each."""
    found: dict[str, list[int] | None] = {"all layers random": None}
    if full:
        found |= {f"layers {k + 1}–{depth} random": list(range(k, depth)) for k in range(1, depth - 1)}
    alone = range(depth) if full else range(max(1, depth - 1), depth)
    return found | {f"only layer {k + 1} random": [k] for k in reversed(alone)}


def randomised(model: nn.Module, layers: Sequence[int] | None, seed: int, images: Iterator[Tensor]) -> nn.Module:
    """A copy of a network whose layers (by rank from 0, counted as in `groups`; None: all) are random.

    Kernels from N(0, 0.02), BatchNorm's gain from N(1, 0.02) and its statistics anew from images; layer k of a seed is
    the same whatever else is random.
    """
    twin = copy.deepcopy(model)
    for k, group in enumerate(groups(twin)):
        if layers is None or k in layers:
            initialise(group, seeds.RANDOM_LAYERS.of(seed, k))
    estimate_statistics(twin, images)
    return twin


def edges(fields: Tensor) -> Tensor:
    """Sobel's edges of images (N, C, R, R), each channel by itself."""
    return torch.from_numpy(np.stack([[sobel(c) for c in x] for x in fields.double().numpy()]))


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def _flat(x: Array) -> Array:
    """A map (C, R, R) as one channel in [-1, 1]: its mean over channels, divided by the largest absolute value."""
    grey = x.mean(0)
    return np.asarray(grey / max(float(np.abs(grey).max()), 1e-12))


def _hog(x: Array) -> Array:
    cell = max(2, min(8, x.shape[0] // 3))
    return np.asarray(hog(x, pixels_per_cell=(cell, cell), cells_per_block=(1, 1)))


def similarity(a: Array, b: Array, valid: Array) -> tuple[float, ...]:
    """`SIMILARITIES` of two maps (C, R, R); ranks over the pixels (R, R) that are valid and all channels.

    SSIM and the correlation of HOG features are of the maps' mean over channels, each scaled to [-1, 1] by its largest
    absolute value. Nan where a map is constant.
    """
    x, y = a[:, valid].ravel(), b[:, valid].ravel()
    absolute = _correlation(rankdata(np.abs(x)), rankdata(np.abs(y)))
    signed = _correlation(rankdata(x), rankdata(y))
    flat = _flat(a), _flat(b)
    window = min(7, flat[0].shape[0] - 1 + flat[0].shape[0] % 2)
    if window < 3:
        return absolute, signed, float("nan"), float("nan")
    alike = float(structural_similarity(*flat, win_size=window, data_range=2.0))
    gradients = _correlation(_hog(flat[0]), _hog(flat[1])) if flat[0].shape[0] >= 6 else float("nan")
    return absolute, signed, alike, gradients


def compare(first: Tensor, second: Tensor, valid: Tensor) -> Array:
    """`SIMILARITIES` (N, 4) of maps (N, C, R, R) pair by pair, with the pixels (N, R, R) that are valid."""
    a, b, v = first.double().numpy(), second.double().numpy(), valid.numpy()
    return np.array([similarity(x, y, w) for x, y, w in zip(a, b, v, strict=True)])


def interval(values: Array, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the mean of values (seeds, images), both drawn again; nan left out."""
    rng, known = np.random.default_rng(seed), np.isfinite(values)
    if not known.any():
        return [float("nan"), float("nan")]
    seeds, images = (rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES) for n in values.shape)  # how often each is drawn
    total = np.einsum("bs,sn,bn->b", seeds, np.where(known, values, 0), images, optimize=True)
    count = np.einsum("bs,sn,bn->b", seeds, known.astype(float), images, optimize=True)
    low, high = np.percentile(total[count > 0] / count[count > 0], [2.5, 97.5])
    return [float(low), float(high)]


def verdict(rows: dict[str, Array], mode: str, seed: int = 0) -> dict[str, Any]:
    """The sanity checks' metrics from similarities by row, (seeds, images, 4) each; in the first row all is random.

    `pass` where the upper end of the interval of its absolute Spearman similarity lies below 0.5.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, values in rows.items():
        table[name] = {}
        for k, key in enumerate(SIMILARITIES):
            known = values[..., k][np.isfinite(values[..., k])]
            table[name] |= {
                key: float(known.mean()) if known.size else None,
                f"{key}_ci": interval(values[..., k], seed),
            }
    full = next(iter(table.values()))
    passed = full["spearman_ci"][1] < THRESHOLD
    seeds, images = next(iter(rows.values())).shape[:2]
    return {
        "verdict": "pass" if passed else "fail",
        "threshold": THRESHOLD,
        "mode": mode,
        "seeds": seeds,
        "crops": images,
        **full,
        "rows": table,
    }
