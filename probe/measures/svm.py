"""Linear support vector machines, one class against the rest, on features kept in half precision.

For each class, with y = 1 for its rows and -1 for the others, over w and b:

    P = (|w|² + b²)/2 + C Σ max(0, 1 - y(w·x + b))²

which is scikit-learn's LinearSVC(loss="squared_hinge", intercept_scaling=1). All classes are solved at once by L-BFGS
with an exact line search: along a direction P is piecewise quadratic, and once the scores of the direction are known a
step costs no further pass over the features. Its first guess of the curvature knows the principal components of some
rows, along which P bends most. With α = 2C max(0, 1 - y(w·x + b)) as dual variables the gap between P and the dual
objective bounds P - min P from above (Hsieh et al. 2008); it is what the iteration stops by.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from probe.base import parallel
from probe.base.errors import ProbeError

Result = TypeVar("Result")
_BLOCK = 1 << 19  # numbers held as float32 at a time: what fits in a cache
_MEMORY = 40  # pairs of steps and gradients that L-BFGS remembers
_SAMPLE = 1024  # rows whose principal components are taken, where there are eight times as many
_COMPONENTS = 128  # how many of them
_SOLVES_BY_PRODUCTS = 4096  # up to so many rows, their products with each other replace the features


@dataclass(frozen=True)
class Rows:
    """Features (N, D), read as float32 (x - mean) · scale, with a last feature that is 1, for b."""

    values: Tensor
    mean: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def first(self, n: int) -> Rows:
        """The first n rows; no copy."""
        return Rows(self.values[:n], self.mean, self.scale)

    def columns(self, part: slice) -> Rows:
        """Some of the features; no copy."""
        return Rows(self.values[:, part], self.mean[part], self.scale[part])

    def _blocks(self, part: slice = slice(None)) -> Iterator[tuple[slice, Tensor]]:
        start, end, _ = part.indices(len(self))
        step = max(16, _BLOCK // max(1, self.values.shape[1]))
        held = torch.empty(min(step, end - start), self.values.shape[1])
        for begin in range(start, end, step):
            rows = slice(begin, min(begin + step, end))
            yield rows, held[: rows.stop - rows.start].copy_(self.values[rows])

    def scores(self, weights: Tensor) -> Tensor:
        """Rows times weights (D + 1, K): (N, K) float32."""
        scaled = (weights[:-1] * self.scale[:, None]).T.contiguous()  # few long rows make the fastest products
        out = torch.empty(len(scaled), len(self))

        def fill(stripe: slice) -> None:
            for part, block in self._blocks(stripe):
                torch.mm(scaled, block.T, out=out[:, part])

        self._by_stripes(fill)
        return (out + (weights[-1] - scaled @ self.mean)[:, None]).T.contiguous()

    def transposed(self, residuals: Tensor) -> Tensor:
        """Transposed rows times residuals (N, K): (D + 1, K) float32."""
        turned = residuals.T.contiguous()

        def summed(stripe: slice) -> Tensor:
            total = torch.zeros(len(turned), self.values.shape[1])
            for part, block in self._blocks(stripe):
                total.addmm_(turned[:, part], block)
            return total

        total, sums = torch.stack(self._by_stripes(summed)).sum(0).T, residuals.sum(0)
        return torch.cat([(total - self.mean[:, None] * sums) * self.scale[:, None], sums[None]])  # (D + 1, K)

    def _by_stripes(self, function: Callable[[slice], Result]) -> list[Result]:
        """What a function makes of each stripe of rows, a thread each: products as narrow as these keep to one."""
        n = max(1, min(torch.get_num_threads(), self.values.numel() // _BLOCK))
        ends = [len(self) * i // n for i in range(n + 1)]
        stripes = [slice(a, b) for a, b in itertools.pairwise(ends)]
        return list(parallel.each(function, stripes) if n > 1 else map(function, stripes))

    def products(self) -> Tensor:
        """Products of all rows with each other, the last feature included: (N, N) float64."""
        z = torch.cat([block.clone() for _, block in self._blocks()])
        z = (z - self.mean) * self.scale
        return (z @ z.T).double() + 1


def standardise(values: Tensor, enabled: bool = True) -> Rows:
    """Rows with mean 0 and variance 1/D in each feature, so that a row's length is about 1; or as they are.

    Features that do not vary become 0.
    """
    d = values.shape[1]
    rows = Rows(values, torch.zeros(d), torch.ones(d))
    if not enabled:
        return rows
    first, second = torch.zeros(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    shift = values[0].float()  # squares of small numbers lose less
    for _, block in rows._blocks():
        block -= shift
        first += block.sum(0)
        second += block.square_().sum(0)
    mean = first / len(values)
    variance = (second / len(values) - mean**2).clamp(min=0)
    scale = torch.where(variance > 1e-12, (variance * d).rsqrt(), 0.0)
    return Rows(values, mean.float() + shift, scale.float())


@dataclass(frozen=True)
class Fit:
    """Weights (D + 1, K) of K classes, the last row b; each one's objective and duality gap (K,); iterations made."""

    weights: Tensor
    objective: Tensor
    gap: Tensor
    iterations: int

    def predict(self, rows: Rows) -> Tensor:
        """The class of the highest score of each row, (N,)."""
        return rows.scores(self.weights).argmax(1)


def fit(
    rows: Rows,
    labels: Tensor,
    classes: int,
    cost: float,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    limit: int = 1000,
    report: Callable[[int, float], None] | None = None,
) -> Fit:
    """Solve for every class, to a duality gap of `tolerance` times the objective, or for `limit` iterations.

    `labels` (N,) are integers in 0 … classes - 1; `start` (D + 1, K) are weights to go on from, such as those of a
    smaller cost. `report(iteration, largest relative gap)` is called after each. Raises ProbeError for a cost that is
    not positive and where a class has no row.
    """
    if not cost > 0:
        raise ProbeError(f"cost {cost}: expected a number above 0")
    present = labels.unique()
    if len(present) < classes or classes < 2:
        raise ProbeError(f"labels of {len(present)} of {classes} classes; expected rows of every one, and at least 2")
    signs = torch.where(labels[:, None] == torch.arange(classes), 1.0, -1.0)  # (N, K)
    if start is None and len(rows) <= min(_SOLVES_BY_PRODUCTS, rows.values.shape[1] // 2):
        start = _by_products(rows, signs, cost, tolerance / 2, limit)
    start = torch.zeros(rows.values.shape[1] + 1, classes) if start is None else start
    leading = _leading(rows) if len(rows) >= 8 * _SAMPLE else None
    return _Solver(rows.scores, rows.transposed, signs, cost, leading).run(start, tolerance, limit, report)


def _by_products(rows: Rows, signs: Tensor, cost: float, tolerance: float, limit: int) -> Tensor | None:
    """Weights from the same problem in fewer numbers: where Z Zᵀ = L Lᵀ, rows of L have the geometry of those of Z.

    None where rows are so nearly dependent that there is no L; the solver then starts from nothing.
    """
    products = rows.products()
    small = 1e-6 * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    root, failed = torch.linalg.cholesky_ex(products + small)
    if failed:
        return None
    thin = root.float()
    solver = _Solver(lambda w: thin @ w, lambda r: thin.T @ r, signs, cost)
    found = solver.run(torch.zeros(len(thin), signs.shape[1]), tolerance, limit, None)
    shares = torch.linalg.solve_triangular(root.T, found.weights.double(), upper=True).float()
    return rows.transposed(shares)


def _leading(rows: Rows) -> tuple[Tensor, Tensor]:
    """Principal components (D + 1, k) of sampled rows; the sums of squares (k,) of all along them, ascending."""
    few = torch.arange(_SAMPLE) * len(rows) // _SAMPLE
    z = (rows.values[few].float() - rows.mean) * rows.scale
    z = torch.cat([z, torch.ones(_SAMPLE, 1)], 1)
    squares, shares = torch.linalg.eigh(z @ z.T)
    squares, shares = squares[-_COMPONENTS:], shares[:, -_COMPONENTS:]
    there = squares > 1e-4 * squares[-1]
    return z.T @ (shares[:, there] / squares[there].sqrt()), squares[there] * len(rows) / _SAMPLE


class _Solver:
    """L-BFGS for all classes at once, each with its own steps; a pass forward and one backward an iteration."""

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor], Tensor],
        signs: Tensor,
        cost: float,
        leading: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.forward, self.backward, self.signs, self.cost, self.leading = forward, backward, signs, cost, leading

    def run(self, weights: Tensor, tolerance: float, limit: int, report: Callable[[int, float], None] | None) -> Fit:
        scores = self.forward(weights) if weights.any() else torch.zeros_like(self.signs)
        pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        gradient, objective, gap = self._gradient(weights, scores)
        done = 0
        while (gap > tolerance * objective).any() and done < limit:
            direction = -_apply_inverse(gradient, pairs, self._flattened(scores))
            ahead = self.forward(direction)
            step = self._line_search(weights, direction, scores, ahead)  # (K,)
            moved = step * direction
            weights, scores = weights + moved, scores + step * ahead
            before = gradient
            gradient, objective, gap = self._gradient(weights, scores)
            change = gradient - before
            curvature = (moved * change).sum(0)
            usable = torch.where(curvature > 0, 1 / curvature.clamp(min=1e-30), 0.0)
            pairs = [*pairs, (moved, change, usable)][-_MEMORY:]
            done += 1
            if report:
                report(done, float((gap / objective).max()))
        return Fit(weights, objective, gap, done)

    def _flattened(self, scores: Tensor) -> Callable[[Tensor], Tensor]:
        """The inverse Hessian (D + 1, K) -> (D + 1, K), up to a factor, as far as the leading components tell."""
        if self.leading is None:
            return lambda q: q
        components, squares = self.leading
        bent = 2 * self.cost * (self.signs * scores < 1).float().mean(0)  # by the rows within the margin, of each class
        less = 1 - (1 + bent * squares[0]) / (1 + bent * squares[:, None])  # (k, K); what is beyond bends as the last
        return lambda q: q - components @ (less * (components.T @ q))

    def _gradient(self, weights: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient (D + 1, K), the objective and the duality gap (K,)."""
        slack = (1 - self.signs * scores).clamp(min=0)  # (N, K)
        dual = 2 * self.cost * self.backward(self.signs * slack)  # Σ α y x, (D + 1, K)
        loss = self.cost * slack.double().square().sum(0)
        primal = weights.double().square().sum(0) / 2 + loss
        # D(α) = Σ α - |Σ α y x|²/2 - Σ α²/(4C); the last term equals the loss
        best = 2 * self.cost * slack.double().sum(0) - dual.double().square().sum(0) / 2 - loss
        return weights - dual, primal, primal - best

    def _line_search(self, weights: Tensor, direction: Tensor, scores: Tensor, ahead: Tensor) -> Tensor:
        """The step (K,) that minimises the objective along each class's direction: a safeguarded Newton iteration."""
        square, product = direction.square().sum(0), (weights * direction).sum(0)
        margins, slopes = 1 - self.signs * scores, self.signs * ahead  # (N, K)
        low, high = torch.zeros_like(square), torch.full_like(square, torch.inf)
        step, first = torch.ones_like(square), None
        for _ in range(30):
            slack = (margins - step * slopes).clamp(min=0)
            slope = product + step * square - 2 * self.cost * (slack * slopes).sum(0)
            bend = square + 2 * self.cost * ((slack > 0) * slopes.square()).sum(0)
            first = slope.abs() if first is None else first
            if bool((slope.abs() <= 1e-4 * first.clamp(min=1e-30)).all()):
                break
            low, high = torch.where(slope < 0, step, low), torch.where(slope < 0, high, step)
            step = step - slope / bend.clamp(min=1e-30)
            inside = (step > low) & (step < high)
            middle = torch.where(high.isinf(), 2 * low.clamp(min=1e-3), (low + high) / 2)
            step = torch.where(inside, step, middle)
        return step


def _apply_inverse(
    gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], first: Callable[[Tensor], Tensor]
) -> Tensor:
    """The inverse Hessian of the remembered steps times the gradient, by class (Nocedal's two loops), from a guess."""
    q, shares = gradient.clone(), []
    for moved, change, usable in reversed(pairs):
        share = usable * (moved * q).sum(0)
        q -= share * change
        shares.append(share)
    q = first(q)
    if pairs:
        moved, change, _ = pairs[-1]
        q *= (moved * change).sum(0) / (change * first(change)).sum(0).clamp(min=1e-30)
    for (moved, change, usable), share in zip(pairs, reversed(shares), strict=True):
        q += (share - usable * (change * q).sum(0)) * moved
    return q
