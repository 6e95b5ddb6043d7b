"""The power spectrum of samples and of real images."""

from __future__ import annotations

from typing import Any

import numpy as np

from probe.measures.statistics import Array, ratio_ci, to_numpy
from probe.models.gan import GAN, to_bytes
from probe.results.result import Result

_AROUND = 2  # frequencies on each side of the corner that it is held against
_ASSUMED = (
    "images as 8-bit values, mean over channels, each image's own mean taken off, no window: borders that do not meet add power "
    "along both axes, to samples and to real images alike",
    "corner: power at the highest frequency of both directions over the mean of the 24 around it; intervals are over images",
)


def power(images: Array) -> Array:
    """Power (N, S, S) of images (N, C, S, S) uint8 by frequency, the zero frequency first, of values in [0, 1]."""
    grey = images.astype(np.float64).mean(1) / 255
    return np.asarray(np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2)


def radial(spectrum: Array) -> Array:
    """Means (N, K) of spectra (N, S, S) over rings of equal frequency, from 1 cycle an image to the corner, S / √2."""
    n = spectrum.shape[-1]
    f = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(f[:, None], f)).astype(int)
    return np.stack([spectrum[:, ring == k].mean(1) for k in range(1, ring.max() + 1)], 1)


def corner(spectrum: Array) -> tuple[Array, Array]:
    """Of spectra (N, S, S) the power at the highest frequency of both directions, and the mean of those around it, (N,)."""
    middle = spectrum.shape[-1] // 2
    part = np.roll(spectrum, (_AROUND - middle, _AROUND - middle), (1, 2))[:, : 2 * _AROUND + 1, : 2 * _AROUND + 1]
    at = part[:, _AROUND, _AROUND]
    return at, (part.sum((1, 2)) - at) / ((2 * _AROUND + 1) ** 2 - 1)


def _found(spectrum: Array) -> dict[str, Any]:
    at, around = corner(spectrum)
    if not around.sum() > 0:  # images of one colour each have no structure to judge
        return {"corner": None, "corner_ci": None}
    return {"corner": float(at.sum() / around.sum()), "corner_ci": ratio_ci(at, around)}


def spectrum(gan: GAN, real: Array, n: int, seed: int) -> Result:
    """Spectra of the first n samples of a seed and of n real images (N, C, S, S) uint8.

    Arrays: `samples` and `real` (n, K) power by frequency, and `shown` (2, C, S, S) uint8, the first of each.
    """
    drawn = to_numpy(to_bytes(gan.sample(n, seed)))
    ours, theirs = power(drawn), power(real[:n])
    found, other = _found(ours), _found(theirs)
    judged = found["corner"] is not None and other["corner"]
    metrics = {"images": n, **found, "real": other, "excess": found["corner"] / other["corner"] if judged else None}
    arrays = {
        "samples": radial(ours),
        "real": radial(theirs),
        "shown": np.stack([drawn[0], np.asarray(real[0])]),
    }
    return Result("spectrum", metrics, {"samples": n, "seed": seed}, list(_ASSUMED), dict(gan.provenance), arrays)
