"""Comparing methods and choosing strengths, on scores and images made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from probe.edits.scoring import Scores, compare
from probe.edits.tuning import Method, tune

N = 40


def curve(removals: list[float], collaterals: list[float], seed: int = 0) -> list[Scores]:
    """Scores of N images whose mean removal and collateral are as given, with some spread."""
    rng = np.random.default_rng(seed)
    before, noise = rng.uniform(50, 150, N), rng.uniform(0.8, 1.2, N)
    noise /= noise.mean()
    has = np.ones(N, dtype=bool)
    return [
        Scores(before=before, after=before * (1 - r), outside=c * noise, inside=c * noise, has=has)
        for r, c in zip(removals, collaterals, strict=True)
    ]


def test_compare_interpolates_between_strengths() -> None:
    one = curve([0.2, 0.6, 1.0], [0.01, 0.02, 0.03])
    other = curve([0.5, 0.75], [0.05, 0.10])
    found = compare(one, other)
    assert max(found["removal"]) == 0.75
    at = found["removal"].index(0.4)
    assert found["difference"][at] == pytest.approx(
        0.015 - 0.04, abs=1e-3
    )  # both from lines between strengths, and (0, 0)
    low, high = found["difference_ci"][at]
    assert low < found["difference"][at] < high < 0
    assert found["below_everywhere"]


def test_compare_says_when_it_is_not_below_somewhere() -> None:
    found = compare(curve([0.5, 1.0], [0.01, 0.2]), curve([0.5, 1.0], [0.05, 0.06]))
    assert found["difference"][0] < 0 < found["difference"][-1]
    assert not found["below_everywhere"]
    same = compare(curve([0.5], [0.02]), curve([0.5], [0.02]))
    assert not same["below_everywhere"]


def test_compare_of_a_curve_that_comes_back() -> None:
    """More maps may remove less: the least collateral at a removal counts, wherever on the curve."""
    back = curve([0.6, 0.2, 1.0], [0.03, 0.05, 0.09])
    found = compare(back, curve([1.0], [0.2]))
    at = found["removal"].index(0.4)
    assert found["difference"][at] == pytest.approx(0.02 - 0.08, abs=1e-3)


class FakeBench:
    """Answers with the scores that a strength's edit carries."""

    has = np.ones(N, dtype=bool)

    def __init__(self, first: int = N) -> None:
        self.first, self.scored = first, []

    def having(self, n: int) -> FakeBench:
        self.few = FakeBench(n)
        return self.few

    def score(self, edits: Scores) -> Scores:
        self.scored.append(edits)
        n = self.first
        return Scores(
            before=edits.before[:n],
            after=edits.after[:n],
            outside=edits.outside[:n],
            inside=edits.inside[:n],
            has=edits.has[:n],
        )


def method(name: str, removals: list[float], collaterals: list[float], **options: float) -> Method:
    strengths = tuple(float(k + 1) for k in range(len(removals)))
    found = dict(zip(strengths, curve(removals, collaterals), strict=True))
    return Method(
        name=name,
        sites=(),
        strengths=strengths,
        edits=found.__getitem__,
        refit=lambda *_: None,
        random=lambda *_: None,
        **options,
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([method("a", [0.5, 0.97, 0.99], [0.01, 0.03, 0.05]), method("b", [0.97], [0.02])], ("b", 1.0)),
        ([method("a", [0.5, 0.97, 0.99], [0.01, 0.02, 0.05]), method("b", [0.97], [0.03])], ("a", 2.0)),
        ([method("a", [0.5, 0.8, 0.7], [0.01] * 3), method("b", [0.6], [0.001])], ("a", 2.0)),
        ([method("a", [0.5, 0.8], [0.01, 0.03]), method("b", [0.7, 0.9], [0.02, 0.2])], ("b", 1.0)),
        ([method("a", [0.97, 0.98, 0.995], [0.01] * 3, aim=0.99)], ("a", 3.0)),
        ([method("a", [0.97, 0.98, 0.995], [0.01] * 3, least=2.0)], ("a", 2.0)),
    ],
    ids=[
        "least collateral",
        "smallest strength",
        "none reaches: largest removal",
        "none reaches: within the bound",
        "own aim",
        "least strength",
    ],
)
def test_tune(options: list[Method], chosen: tuple[str, float]) -> None:
    found, strength = tune(options, FakeBench(), lambda *_: None)  # type: ignore[arg-type]
    assert (found.name, strength) == chosen


def test_what_a_quarter_of_the_images_rules_out_is_not_scored_on_all() -> None:
    scorer = FakeBench()
    strengths = method("a", [0.2, 0.5, 0.96, 0.97], [0.01] * 4)
    assert tune([strengths], scorer, lambda *_: None)[1] == 3.0  # type: ignore[arg-type]
    assert scorer.few.first == 16
    assert scorer.scored == [strengths.edits(3.0)]
    assert scorer.few.scored == [strengths.edits(d) for d in (1.0, 2.0, 3.0)]


def test_a_dose_that_the_first_images_leave_open_is_scored_on_all() -> None:
    """One image of the first ten keeps the concept: their interval reaches up to the aim, that of all does, too."""
    before, has, none = np.full(N, 100.0), np.ones(N, dtype=bool), np.full(N, 0.01)
    after = np.zeros(N)
    after[0] = 60
    scores = Scores(before=before, after=after, outside=none, inside=none, has=has)
    option = Method(
        name="a", sites=(), strengths=(1.0,), edits=lambda _: scores, refit=lambda *_: None, random=lambda *_: None
    )  # type: ignore[arg-type,return-value]
    scorer = FakeBench()
    assert tune([option], scorer, lambda *_: None)[1] == 1.0  # type: ignore[arg-type]
    assert scorer.scored == [scores]


@pytest.mark.parametrize(("spread", "chosen"), [(10.0, 1.0), (0.0, 3.0)])
def test_a_plateau_is_not_climbed(spread: float, chosen: float) -> None:
    """The last strengths gain 1.5 of 100 and cost collateral: worth it only beyond a standard error of the gain."""
    rng = np.random.default_rng(1)
    before, has, left = np.full(N, 100.0), np.ones(N, dtype=bool), rng.uniform(20, 80, N)
    noise = spread * np.resize([1.0, -1.0], N)
    assert left.std() / N**0.5 > 1.5  # how images differ in what is left says nothing of the gain
    scores = {
        float(k): Scores(before=before, after=left + more, outside=np.full(N, c), inside=np.full(N, c), has=has)
        for k, (more, c) in enumerate([(30, 0.002), (1.5 + noise, 0.004), (0.5 - noise, 0.01), (0, 0.02)])
    }
    options = [
        Method(
            name="a",
            sites=(),
            strengths=tuple(scores),
            edits=scores.__getitem__,
            refit=lambda *_: None,
            random=lambda *_: None,
        )
    ]  # type: ignore[arg-type]
    assert tune(options, FakeBench(), lambda *_: None)[1] == chosen  # type: ignore[arg-type]
