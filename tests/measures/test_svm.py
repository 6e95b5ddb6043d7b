"""The linear SVM: against scikit-learn's LinearSVC, its gap as a bound, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import Tensor

from probe.base.errors import ProbeError
from probe.measures import svm


def problem(n: int, d: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes that overlap, features of unlike means and spreads, in half precision."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=g) * 0.15
    x = torch.randn(n, d, generator=g) + centres[labels]
    return (x * torch.rand(d, generator=g) + 3 * torch.rand(d, generator=g)).half(), labels


def reference(rows: svm.Rows, labels: Tensor, cost: float) -> tuple[LinearSVC, np.ndarray, np.ndarray]:
    """LinearSVC on the same numbers in float64, and its objective by class."""
    z = ((rows.values.double() - rows.mean) * rows.scale).numpy()
    model = LinearSVC(C=cost, tol=1e-8, max_iter=100_000).fit(z, labels.numpy())
    values = []
    for k, (w, b) in enumerate(zip(model.coef_, model.intercept_, strict=True)):
        sign = np.where(labels.numpy() == (k if len(model.classes_) > 2 else 1), 1, -1)
        values.append((w @ w + b * b) / 2 + cost * (np.maximum(0, 1 - sign * (z @ w + b)) ** 2).sum())
    return model, np.array(values), z


@pytest.mark.parametrize("shape", [(400, 60, 4), (150, 300, 3)])  # more rows than features, and fewer
@pytest.mark.parametrize("cost", [0.03, 1.0, 20.0])
@pytest.mark.parametrize("standardised", [True, False])
def test_the_objective_equals_linear_svc(shape, cost, standardised):
    values, labels = problem(*shape)
    rows = svm.standardise(values, standardised)
    cost = cost if standardised else cost / 100
    found = svm.fit(rows, labels, shape[2], cost, tolerance=1e-5)
    model, expected, z = reference(rows, labels, cost)
    np.testing.assert_allclose(found.objective.numpy(), expected, rtol=5e-5)
    np.testing.assert_allclose(found.weights[:-1].T.numpy(), model.coef_, atol=0.02 * np.abs(model.coef_).max())
    assert (found.predict(rows).numpy() == model.predict(z)).mean() > 0.99


@pytest.mark.parametrize("limit", [0, 1, 3, 8])
def test_the_gap_bounds_the_distance_to_the_optimum(limit):
    values, labels = problem(300, 40, 3)
    rows = svm.standardise(values)
    best = svm.fit(rows, labels, 3, 2.0, tolerance=1e-6).objective
    early = svm.fit(rows, labels, 3, 2.0, tolerance=1e-6, limit=limit)
    assert early.iterations == limit
    assert (early.objective - early.gap <= best * (1 + 1e-6)).all()
    assert (early.objective >= best * (1 - 1e-6)).all()


def test_standardised_rows_have_mean_0_and_length_about_1():
    values, _ = problem(500, 30, 2)
    values[:, 7] = 2.5  # never varies
    rows = svm.standardise(values)
    z = (values.float() - rows.mean) * rows.scale
    expected = (
        (values.double() - values.double().mean(0)) / values.double().std(0, correction=0).clamp(min=1e-9) / 30**0.5
    )
    expected[:, 7] = 0
    torch.testing.assert_close(z.double(), expected, atol=1e-5, rtol=1e-4)


def test_products_are_those_of_the_standardised_rows():
    values, _ = problem(100, 3000, 2)  # several blocks
    rows = svm.standardise(values)
    z = torch.cat([(values.double() - rows.mean) * rows.scale, torch.ones(100, 1)], 1)
    g = torch.Generator().manual_seed(1)
    w, r = torch.randn(3001, 4, generator=g), torch.randn(100, 4, generator=g)
    torch.testing.assert_close(rows.scores(w).double(), z @ w.double(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(rows.transposed(r).double(), z.T @ r.double(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(rows.products(), z @ z.T, atol=1e-4, rtol=1e-4)


def test_stripes_of_rows_on_a_thread_each_give_the_same(monkeypatch):
    g = torch.Generator().manual_seed(0)
    values, weights, residuals = (torch.randn(*shape, generator=g) for shape in ((101, 40), (41, 3), (101, 3)))
    rows = svm.standardise(values)
    one = rows.scores(weights), rows.transposed(residuals)
    monkeypatch.setattr(svm, "_BLOCK", 700)  # five stripes of two blocks
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    for a, b in zip(one, (rows.scores(weights), rows.transposed(residuals)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_some_columns_are_a_problem_of_their_own():
    values, labels = problem(300, 50, 3)
    part = slice(10, 30)
    whole, alone = svm.standardise(values, False).columns(part), svm.standardise(values[:, part].contiguous(), False)
    a, b = (svm.fit(rows, labels, 3, 0.1, tolerance=1e-5).objective for rows in (whole, alone))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("repeated", [0, 1])
def test_few_rows_that_depend_on_each_other(repeated):
    """Smooth rows, whose products are nearly singular, and the same rows twice."""
    g = torch.Generator().manual_seed(0)
    values = (torch.randn(80, 200, generator=g).cumsum(1).cumsum(1) / 50).half()
    labels = torch.arange(80) % 2
    values = torch.cat([values, values[:10]]) if repeated else values
    labels = torch.cat([labels, labels[:10]]) if repeated else labels
    rows = svm.standardise(values)
    found = svm.fit(rows, labels, 2, 1.0, tolerance=1e-4)
    _, expected, _ = reference(rows, labels, 1.0)
    np.testing.assert_allclose(found.objective[1:].numpy(), expected, rtol=2e-4)  # LinearSVC fits one of two classes


@pytest.mark.parametrize("standardised", [True, False])
def test_leading_components_change_the_way_and_not_the_end(monkeypatch, standardised):
    """Features that go with each other, as those of images do: the same optimum, in fewer iterations."""
    monkeypatch.setattr(svm, "_MEMORY", 5)
    g = torch.Generator().manual_seed(0)
    values, labels = problem(600, 80, 3)
    values = (values.float() @ (torch.randn(80, 80, generator=g) / torch.arange(1, 81) ** 1.5)).half()
    rows, cost = svm.standardise(values, standardised), 5.0 if standardised else 0.1
    plain = svm.fit(rows, labels, 3, cost, tolerance=1e-4)
    monkeypatch.setattr(svm, "_SAMPLE", 70)
    found = svm.fit(rows, labels, 3, cost, tolerance=1e-4)
    assert found.iterations < 0.6 * plain.iterations
    _, expected, _ = reference(rows, labels, cost)
    np.testing.assert_allclose(found.objective.numpy(), expected, rtol=2e-4)


def test_going_on_from_weights_takes_fewer_iterations():
    values, labels = problem(400, 50, 4)
    rows = svm.standardise(values)
    near = svm.fit(rows, labels, 4, 1.0, tolerance=1e-4)
    assert svm.fit(rows, labels, 4, 1.1, start=near.weights, tolerance=1e-3).iterations < near.iterations


@pytest.mark.parametrize(
    ("labels", "classes", "cost", "message"),
    [
        ([0, 1, 0, 1], 2, 0.0, r"^cost 0\.0: expected a number above 0"),
        ([0, 1, 0, 1], 3, 1.0, "^labels of 2 of 3 classes; expected rows of every one"),
        ([0, 0, 0, 0], 1, 1.0, "^labels of 1 of 1 classes; expected rows of every one, and at least 2"),
    ],
)
def test_what_cannot_be_fitted(labels, classes, cost, message):
    rows = svm.standardise(torch.randn(4, 3).half())
    with pytest.raises(ProbeError, match=message):
        svm.fit(rows, torch.tensor(labels), classes, cost)
