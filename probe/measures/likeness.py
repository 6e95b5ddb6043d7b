"""How alike the pixels of two images are, whatever small shift or zoom lies between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from probe.base import parallel
from probe.measures.hashing import SIDE
from probe.measures.statistics import Array

Views = list[tuple[Tensor, Tensor]]  # by zoom: spectra (N, 32, 17) and variances (N, places, places) of N images
_SHIFT = 3  # pixels either way
_WINDOW = SIDE - 2 * _SHIFT
_ZOOMS = (29 / 32, 26 / 32)  # the share of a side that is left
_BLOCK = 128  # images or pairs at a time, so that they stay in a CPU's cache


def centres(images: Array) -> Views:
    """The centre windows of images (N, 3, 32, 32) uint8: conjugate spectra, variances (N, 1, 1)."""
    return _by_zoom(images, _centre)


def wholes(images: Array) -> Views:
    """Images (N, 3, 32, 32) uint8 as a whole: spectra, and the variance of the window at each place (N, 7, 7)."""
    return _by_zoom(images, _whole)


def aligned(left: Views, right: Views, i: Array, j: Array) -> Array:
    """Likeness (P,) of pairs: the centre of image i (P,) in `left` against the whole of image j (P,) in `right`.

    It is the correlation of their fine structure in the best of 245 alignments. Fine structure is the signed square
    root of grey images less their own 5x5 mean. The centre 26x26 of one is held against all 49 places in the other: as
    they are, and with either one's centre enlarged from 29 or 26 of 32 pixels. Coarse light, in which most skies agree,
    does not count. 1 for equal pixels, but near 0 where there is hardly any structure.
    """
    zooms = [(0, k) for k in range(len(right))] + [(k, 0) for k in range(1, len(left))]
    found, places = np.empty(len(i), np.float32), _places()

    def compare(start: int) -> None:
        part = slice(start, start + _BLOCK)
        a, b = torch.from_numpy(i[part]), torch.from_numpy(j[part])
        xs, ys = [(s[a], v[a]) for s, v in left], [(s[b], v[b]) for s, v in right]
        found[part] = torch.stack([_best_place(xs[k], ys[m], places) for k, m in zooms]).amax(0).numpy()

    list(parallel.each(compare, range(0, len(i), _BLOCK)))
    return found


def _best_place(centre: tuple[Tensor, Tensor], whole: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    """The largest correlation (P,) of a centre window with a window of the whole, over all places."""
    products = torch.view_as_real(centre[0] * whole[0]).flatten(1) @ places
    sizes = ((centre[1] + 1) * (whole[1] + 1)).flatten(1).sqrt()  # 1: the size of a grey level
    correlation: Tensor = products / _WINDOW**2 / sizes
    return correlation.amax(1)


@cache
def _places() -> Tensor:
    """The matrix (32 · 17 · 2, 49) from a correlation's spectrum to its values at the 7x7 places; none wraps around.

    An inverse Fourier transform of a few of its values: faster as a product than the fast one of all 1,024.
    """
    unit = torch.eye(SIDE * (SIDE // 2 + 1) * 2).unflatten(1, (SIDE, SIDE // 2 + 1, 2))
    values: Tensor = torch.fft.irfft2(torch.view_as_complex(unit))
    return values[:, : 2 * _SHIFT + 1, : 2 * _SHIFT + 1].flatten(1)


def _by_zoom(images: Array, made: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Views:
    """What is made of the fine structure of images, as they are and with their centres enlarged in two steps."""
    shares = (1.0, *_ZOOMS)
    zooms, blur = [_resample(share) for share in shares], _blur()

    def block(start: int) -> Views:
        x, views = torch.from_numpy(images[start : start + _BLOCK]).float().mean(1), []
        for share, zoom in zip(shares, zooms, strict=True):
            smooth = blur @ zoom
            detail = (x if share == 1 else zoom @ x @ zoom.T) - smooth @ x @ smooth.T
            views.append(made(detail.sign() * detail.abs().sqrt()))  # else one horizon outweighs all that differs
        return views

    blocks = list(parallel.each(block, range(0, len(images), _BLOCK)))
    return [(torch.cat([s for s, _ in part]), torch.cat([v for _, v in part])) for part in zip(*blocks, strict=True)]


def _resample(share: float) -> Tensor:
    """The matrix (32, 32) that enlarges the centre of a row of pixels to its full length, linearly."""
    at = (np.arange(SIDE) + 0.5 - SIDE / 2) * share + SIDE / 2 - 0.5
    return torch.from_numpy(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(SIDE)))).float()


def _blur() -> Tensor:
    """The matrix (32, 32) that replaces pixels of a row by the mean of five, the border repeated."""
    near = np.clip(np.arange(SIDE)[:, None] + np.arange(-2, 3), 0, SIDE - 1)
    return torch.from_numpy((near[:, :, None] == np.arange(SIDE)).mean(1)).float()


def _centre(x: Tensor) -> tuple[Tensor, Tensor]:
    centre = x[:, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    centre = centre - centre.mean((1, 2), keepdim=True)
    return torch.fft.rfft2(centre, s=(SIDE, SIDE)).conj(), centre.square().mean((1, 2), keepdim=True)


def _whole(y: Tensor) -> tuple[Tensor, Tensor]:
    window = torch.ones(2 * _SHIFT + 1, SIDE).tril(_WINDOW - 1).triu() / _WINDOW  # means over the windows of a row
    return torch.fft.rfft2(y), window @ y.square() @ window.T - (window @ y @ window.T).square()
