"""How far two sets of images are apart in a network's features: Fréchet and kernel distance, precision, recall.

Intervals are by the jackknife: what becomes of the number when a twentieth of the images of both sets is left out, for
each twentieth. A bootstrap would draw images twice, which takes rank from Σ and makes neighbours of distance 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

BLOCKS, NEIGHBOURS = 20, 3
_ROWS = 1024


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and a factor R with RᵀR = Σ, the covariance over n - 1."""
    mean = x.mean(0)
    return mean, torch.linalg.qr((x - mean) / (len(x) - 1) ** 0.5, mode="r")[1]


def frechet(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of two Gaussians fitted to rows (N, D) and (M, D); biased upwards, the more the fewer rows.

    ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½) (Heusel et al. 2017: FID, in Inception's features).
    """
    (mean_a, root_a), (mean_b, root_b) = _moments(a.double()), _moments(b.double())
    product = root_a @ root_b.T  # its singular values are the roots of the eigenvalues of Σ₁Σ₂
    smaller = product @ product.T if len(product) <= product.shape[1] else product.T @ product
    cross = torch.linalg.eigvalsh(smaller).clamp_min(0).sqrt().sum()
    total = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * cross
    return float(total)


def _blocks(x: Tensor) -> Tensor:
    """Which of the 20 blocks each of the rows is in; they are in random order already."""
    return torch.arange(len(x), device=x.device) * BLOCKS // len(x)


def _kernel_sums(a: Tensor, b: Tensor, same: bool) -> Tensor:
    """Sums (20, 20) of (x·y/D + 1)³ over pairs of blocks, a row with itself left out where `same`."""
    sums = torch.zeros(BLOCKS, len(b), dtype=torch.float64, device=a.device)
    place = _blocks(a)
    for start in range(0, len(a), _ROWS):
        part = a[start : start + _ROWS].double()
        k = (part @ b.double().T / a.shape[1] + 1) ** 3
        if same:
            k[torch.arange(len(part)), torch.arange(start, start + len(part))] = 0
        sums.index_add_(0, place[start : start + _ROWS], k)
    return sums.new_zeros(BLOCKS, BLOCKS).index_add_(1, _blocks(b), sums)


def _kernel_distances(a: Tensor, b: Tensor) -> list[float]:
    """Unbiased MMD² of all rows, and with each block left out of both."""
    sums = [_kernel_sums(x, y, same) for x, y, same in ((a, a, True), (b, b, True), (a, b, False))]
    sizes = [torch.bincount(_blocks(x), minlength=BLOCKS) for x in (a, b)]
    values = []
    for left_out in (None, *range(BLOCKS)):
        kept = torch.tensor([i for i in range(BLOCKS) if i != left_out])
        n, m = (int(size[kept].sum()) for size in sizes)
        aa, bb, ab = (float(s[kept][:, kept].sum()) for s in sums)
        values.append(aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * ab / (n * m))
    return values


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of rows (N, D) and (M, D), at least 20 each; may fall below 0.

    The kernel is (x·y/D + 1)³ (Bińkowski et al. 2018: KID).
    """
    return _kernel_distances(a, b)[0]


def _within(to_centres: Tensor, own: Tensor, k: int) -> float:
    """The share of rows that lie within the distance of some centre to its k-th neighbour among the centres."""
    radius = own.topk(k + 1, dim=1, largest=False).values[:, -1]  # the centre itself is its nearest
    return float((to_centres <= radius).any(1).float().mean())


def precision_recall(real: Tensor, drawn: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares: of drawn rows (M, D) within the manifold of real ones (N, D), and of real ones within the drawn ones'.

    The manifold is the balls around rows that reach to their k-th neighbours (Kynkäänniemi et al. 2019).
    """
    return _precision_recall(torch.cdist(real, real), torch.cdist(drawn, drawn), torch.cdist(drawn, real), k)


def _precision_recall(real: Tensor, drawn: Tensor, between: Tensor, k: int) -> tuple[float, float]:
    return _within(between, real, k), _within(between.T, drawn, k)


def jackknife(values: list[float]) -> list[float]:
    """The 95 % interval of a number from its value on everything, then with each block left out; t with 19 degrees."""
    whole, rest = values[0], np.array(values[1:])
    error = np.sqrt((len(rest) - 1) * np.mean((rest - rest.mean()) ** 2))
    reach = student.ppf(0.975, len(rest) - 1) * error
    return [float(whole - reach), float(whole + reach)]


def compare(real: Tensor, drawn: Tensor) -> dict[str, Any]:
    """`fid`, `kid`, `precision`, `recall` of drawn rows (M, D) against real ones (N, D), each with its `_ci`.

    At least 200 of each, in random order.
    """
    places = _blocks(real), _blocks(drawn)
    matrices = torch.cdist(real, real), torch.cdist(drawn, drawn), torch.cdist(drawn, real)
    fid, shares = [], []
    for left_out in (None, *range(BLOCKS)):
        r, d = (torch.arange(len(p)) if left_out is None else (p != left_out).nonzero()[:, 0] for p in places)
        fid.append(frechet(real[r], drawn[d]))
        rr, dd, dr = matrices[0][r][:, r], matrices[1][d][:, d], matrices[2][d][:, r]
        shares.append(_precision_recall(rr, dd, dr, NEIGHBOURS))
    precision, recall = (list(column) for column in zip(*shares, strict=True))
    found = {"fid": fid, "kid": _kernel_distances(real, drawn), "precision": precision, "recall": recall}
    made: dict[str, Any] = {}
    for name, values in found.items():
        interval = jackknife(values)
        made[name], made[f"{name}_ci"] = (
            values[0],
            [max(interval[0], 0), min(interval[1], 1)] if name in ("precision", "recall") else interval,
        )
    return made
