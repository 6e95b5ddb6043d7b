"""Is what the discriminator learnt worth anything? Its features under a linear classifier, beside baselines.

Section 5 of the paper. Everything is chosen on images split off the training set; the test set is read once by each
representation, at the cost chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import seeds
from probe.data.loading import Images
from probe.measures import statistics as measures
from probe.measures import svm
from probe.measures.statistics import Array
from probe.models.gan import GAN
from probe.questions.classify import baselines, tasks
from probe.questions.classify.protocol import BASELINES, SVHN_1000, Settings, assumed
from probe.questions.classify.representation import (
    Representation,
    Views,
    adapt,
    batches,
    of_discriminator,
    pixels,
    rows,
    untrained_discriminator,
)
from probe.questions.classify.tables import write_csv, write_latex
from probe.questions.classify.tasks import Task
from probe.results.result import Result

__all__ = ["BASELINES", "SVHN_1000", "Found", "Settings", "baseline", "classify"]
Report = Callable[[str, int, int], None]
_CURVE = (10, 4, 2, 1)  # the error is also measured at these fractions of the labels asked for
_CURVE_DRAWS = 10
_CHOOSING = 1e-2  # duality gap, as a share of the objective, to which costs are compared; the final fit goes to 1e-3


@dataclass(frozen=True, kw_only=True)
class Found:
    """One representation: test accuracy and its interval, C (None of a network), dimensions, validation accuracy by C, classes predicted (M,).

    `curve` holds errors (draws,) by number of labels; `parts` the validation accuracy of each layer alone.
    """

    accuracy: float
    interval: list[float]
    cost: float | None
    features: int
    validation: dict[float, float]
    predicted: Tensor
    curve: dict[int, Array]
    parts: dict[str, tuple[int, float]]

    def metrics(self) -> dict[str, Any]:
        """As they stand in a result."""
        return {
            "accuracy": self.accuracy,
            "accuracy_ci": self.interval,
            "error": 1 - self.accuracy,
            "features": self.features,
            "C": self.cost,
        }


def classify(
    gan: GAN,
    train: Images,
    test: Images,
    settings: Settings,
    report: Report | None = None,
    known: Mapping[str, dict[str, Any]] | None = None,
) -> Result:
    """Fit linear classifiers to the discriminator's features of training images, and test them, beside baselines.

    The discriminator's BatchNorm statistics are estimated anew from training images, in place. Arrays: `confusion` (K, K)
    counts of test images by true and predicted class (of all draws), and `curve_<n>` (draws,) errors of n
    labels. `known` holds numbers of baselines that were measured before. Raises ProbeError for images and labels that do
    not fit (see `tasks.make`) and without a discriminator.
    """
    s, tell = settings, report or (lambda *_: None)
    task = tasks.make(train, test, s.validation, s.seed)
    if s.label_count:
        tasks.stratified(task.labels[: task.fitted], s.label_count, len(task.classes), np.random.default_rng(0))
    chosen = task.images[: s.statistics or None]
    adapt(gan, chosen)
    found = _evaluate(of_discriminator(gan, means=s.means), task, s, tell, with_parts=True)
    others = dict(known or {})
    for name in s.baselines:
        other = baseline(name, gan, task, s, tell) if name not in others else None
        if other:
            others[name] = other.metrics()
    metrics = {
        **found.metrics(), "train_images": len(task.images), "test_images": len(task.test_images), "draws": s.draws if s.label_count else 1,
        "labels": s.label_count or len(task.images), "classes": list(task.classes), "test_images_in_training": task.duplicates,
        "validation": {f"{c:g}": a for c, a in found.validation.items()},
        "layers": {name: {"features": n, "validation_accuracy": a, "validation_accuracy_ci": measures.share_ci(round(a * s.validation), s.validation)}
                   for name, (n, a) in found.parts.items()},
        "curve": {str(n): _spread(e) for n, e in found.curve.items()},
        "baselines": others, "notes": list(task.notes),
    }  # fmt: skip
    arrays = {"confusion": _confusion(task, found.predicted)}
    arrays |= {f"curve_{n}": errors for n, errors in found.curve.items()}
    result = Result("classify", metrics, asdict(s), [*assumed(s), *task.notes], dict(gan.provenance), arrays)
    result.files |= {"table.csv": partial(write_csv, result), "table.tex": partial(write_latex, result)}
    return result


def _spread(errors: Array) -> dict[str, Any]:
    many = len(errors) > 1
    interval, deviation = (measures.mean_ci(errors), float(errors.std(ddof=1))) if many else (None, None)
    return {"error": float(errors.mean()), "error_ci": interval, "error_sd": deviation, "draws": len(errors)}


def _confusion(task: Task, predicted: Tensor) -> Array:
    """Counts (K, K) of true and predicted classes; `predicted` is (M,) or (draws, M)."""
    k = len(task.classes)
    pairs = task.test_labels * k + predicted.reshape(-1, len(task.test_labels))
    return np.asarray(torch.bincount(pairs.flatten(), minlength=k * k).reshape(k, k).numpy())


def baseline(name: str, gan: GAN, task: Task, s: Settings, tell: Report) -> Found | None:
    """One of BASELINES under the same protocol, for a discriminator like `gan`'s; None for a supervised network that cannot be made."""
    if name == "supervised":
        return _supervised(gan, task, s, tell)
    if name == "pixels":
        return _evaluate(pixels(gan.size, gan.channels), task, s, tell)
    if name == "kmeans":
        tell("K-means", 0, 1)
        phi = baselines.kmeans(task.images, s.centroids, s.seed)
        # these features must be standardised; costs meant for features as they are then apply to variances of 1, not 1/D
        times = 1 if s.standardised else 4 * s.centroids
        return _evaluate(phi, task, replace(s, standardised=True, costs=tuple(c * times for c in s.costs)), tell)
    other = untrained_discriminator(gan, seeds.RANDOM_WEIGHTS.of(s.seed))
    adapt(other, task.images[: s.statistics or None])
    return _evaluate(of_discriminator(other, "random weights", s.means), task, s, tell)


def _evaluate(phi: Representation, task: Task, s: Settings, tell: Report, with_parts: bool = False) -> Found:
    values = rows(phi, task.images, s.views, lambda i, n: tell(f"{phi.name}: features", i, n))
    return (_draws if s.label_count else _all)(phi, values, task, s, tell, with_parts)


def _share(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(1) == labels).float().mean())


def _merged(scores: Tensor, views: Views) -> Tensor:
    """Scores (N, K) of images: the mean over their views but for the moved ones."""
    merged: Tensor = scores.unflatten(0, (-1, views.count))[:, : views.unmoved.count].mean(1)
    return merged


def _all(phi: Representation, values: Tensor, task: Task, s: Settings, tell: Report, with_parts: bool) -> Found:
    """Choose C on the validation images, fit again to all of the training set, read the test set."""
    k, times = len(task.classes), s.views.count
    every, cut = svm.standardise(values, s.standardised), task.fitted * times
    labels, held = task.labels.repeat_interleave(times), task.labels[task.fitted :]
    after = svm.Rows(values[cut:], every.mean, every.scale)
    fits: dict[float, svm.Fit] = {}
    validation: dict[float, float] = {}
    start = None
    for i, cost in enumerate(s.costs):
        tell(f"{phi.name}: choosing C", i, len(s.costs))
        fits[cost] = svm.fit(every.first(cut), labels[:cut], k, cost, start=start, tolerance=_CHOOSING)
        start = fits[cost].weights
        validation[cost] = _share(_merged(after.scores(start), s.views), held)
    cost = max(validation, key=lambda c: (validation[c], -c))
    tell(f"{phi.name}: choosing C", len(s.costs), len(s.costs))
    parts = {}
    for name, columns in phi.parts.items() if with_parts else ():
        fit = svm.fit(every.first(cut).columns(columns), labels[:cut], k, cost, tolerance=_CHOOSING)
        width = columns.stop - columns.start
        parts[name] = (width, _share(_merged(after.columns(columns).scores(fit.weights), s.views), held))
    final = svm.fit(
        every, labels, k, cost, start=fits[cost].weights, report=lambda i, gap: tell(f"{phi.name}: fitting", i, i + 1)
    )
    shown = batches(phi, task.test_images, s.views.unmoved, lambda i, n: tell(f"{phi.name}: test", i, n))
    scores = torch.cat([svm.Rows(b, every.mean, every.scale).scores(final.weights) for b in shown])
    predicted = _merged(scores, s.views.unmoved).argmax(1)
    right = int((predicted == task.test_labels).sum())
    n = len(task.test_labels)
    return Found(
        accuracy=right / n,
        interval=measures.share_ci(right, n),
        cost=cost,
        features=values.shape[1],
        validation=validation,
        predicted=predicted,
        curve={},
        parts=parts,
    )


def _draws(phi: Representation, values: Tensor, task: Task, s: Settings, tell: Report, with_parts: bool) -> Found:
    """The authors' protocol for few labels: C by the mean over some draws, then the test over others."""
    k = len(task.classes)
    every, pool = svm.standardise(values, s.standardised), task.labels[: task.fitted]
    held, truth = svm.Rows(values[task.fitted :], every.mean, every.scale), task.labels[task.fitted :]
    rng = np.random.default_rng(seeds.FEW_LABELS.of(s.seed))

    def fitted(n: int, costs: tuple[float, ...], columns: slice = slice(None)) -> list[Tensor]:
        """Weights for each cost of one draw."""
        drawn = tasks.stratified(pool, n, k, rng)
        few = svm.Rows(values[drawn], every.mean, every.scale).columns(columns)
        return [svm.fit(few, pool[drawn], k, c).weights for c in costs]

    reached = np.zeros((s.choosing, len(s.costs)))
    for i in range(s.choosing):
        reached[i] = [_share(held.scores(w), truth) for w in fitted(s.label_count, s.costs)]
        tell(f"{phi.name}: choosing C", i + 1, s.choosing)
    validation = dict(zip(s.costs, reached.mean(0).tolist(), strict=True))
    cost = max(validation, key=lambda c: (validation[c], -c))
    parts = {}
    for name, columns in phi.parts.items() if with_parts else ():
        shares = [
            _share(held.columns(columns).scores(fitted(s.label_count, (cost,), columns)[0]), truth)
            for _ in range(s.choosing)
        ]
        parts[name] = (columns.stop - columns.start, float(np.mean(shares)))
    test = svm.Rows(
        rows(phi, task.test_images, report=lambda i, n: tell(f"{phi.name}: test features", i, n)),
        every.mean,
        every.scale,
    )
    fewer = [n for n in {s.label_count // part // k * k for part in _CURVE[:-1]} if n] if with_parts else []
    curve: dict[int, Array] = {}
    for n in sorted({*fewer, s.label_count}):
        times = s.draws if n == s.label_count else min(s.draws, _CURVE_DRAWS)
        guesses = []
        for i in range(times):
            guesses.append(test.scores(fitted(n, (cost,))[0]).argmax(1))
            tell(f"{phi.name}: {n} labels", i + 1, times)
        predicted = torch.stack(guesses)  # (draws, M)
        curve[n] = (predicted != task.test_labels).float().mean(1).numpy()
    right = 1 - curve[s.label_count]
    if s.draws > 1:
        interval = measures.mean_ci(right)
    else:
        interval = measures.share_ci(round(float(right[0]) * len(task.test_labels)), len(task.test_labels))
    return Found(
        accuracy=float(right.mean()),
        interval=interval,
        cost=cost,
        features=values.shape[1],
        validation=validation,
        predicted=predicted,
        curve=curve,
        parts=parts,
    )


def _supervised(gan: GAN, task: Task, s: Settings, tell: Report) -> Found | None:
    """The discriminator's architecture taught the labels: all of the training set, or one draw of few labels."""
    blocks = getattr(gan.discriminator, "blocks", None)
    if not blocks:
        return None
    k = len(task.classes)
    chosen = torch.arange(len(task.labels))
    if s.label_count:
        chosen = tasks.stratified(
            task.labels[: task.fitted], s.label_count, k, np.random.default_rng(seeds.FEW_LABELS.of(s.seed))
        )
    net = baselines.supervised(
        blocks,
        task.images[chosen.numpy()],
        task.labels[chosen],
        k,
        s.supervised_steps,
        s.seed,
        s.flips,
        gan.device,
        lambda i, n: tell("supervised network", i, n),
    )
    phi = Representation("supervised", lambda images: net(images.to(gan.device)))
    scores = torch.cat(list(batches(phi, task.test_images, s.views.unmoved)))
    predicted = _merged(scores, s.views.unmoved).argmax(1)
    right, n = int((predicted == task.test_labels).sum()), len(task.test_labels)
    return Found(
        accuracy=right / n,
        interval=measures.share_ci(right, n),
        cost=None,
        features=scores.shape[1],
        validation={},
        predicted=predicted,
        curve={},
        parts={},
    )
