"""The questions as calls, what results say, and how they show themselves."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import probe
from probe.base.errors import ProbeError
from probe.base.plugins import QUESTIONS, drawer, function
from probe.models.gan import GAN
from probe.results import html as pages
from probe.results import result
from probe.results import summary as summaries

FIGURES_THERE = sorted(p.parent for p in (Path(__file__).parents[2] / "figures").glob("*/result.json"))


def test_public_names_stay_functions() -> None:
    """A submodule named like a function takes its place once it is imported."""
    import probe.questions.arithmetic.run
    import probe.questions.memorization.run

    for question in QUESTIONS.values():
        assert getattr(probe, question.python) is function(question.call)


@pytest.mark.parametrize(
    "name",
    [
        "sample",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("walk", "dissect", "arithmetic", "guided_backprop", "turn", "ablate")
        ),
    ],
)
def test_examples_in_docstrings(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    found = finder.find(getattr(probe, name), name, globs={})
    assert found[0].examples
    runner = doctest.DocTestRunner(verbose=False)
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_every_call_has_an_example_and_says_what_it_raises() -> None:
    for question in QUESTIONS.values():
        doc = function(question.call).__doc__
        assert "Raises:" in doc
        assert ">>> " in doc


@pytest.mark.parametrize("folder", FIGURES_THERE, ids=lambda p: p.name)
def test_every_committed_result_has_words(folder: Path) -> None:
    said = summaries.summarise(result.load(folder))
    assert said.verdict
    assert said.text
    assert all(len(row) == len(said.header) for row in said.rows)
    if said.numbers:  # a number in the table of verdicts is one of the result's
        metrics = str(result.load(folder).metrics)
        first = re.search(r"\d\.\d", next(iter(said.numbers.values())))
        assert first is None or first.group()[:3] in metrics or "%" in next(iter(said.numbers.values()))


def test_words_say_no_where_the_control_says_no() -> None:
    method = {
        "removal": 0.5,
        "removal_ci": [0.4, 0.6],
        "collateral": 0.1,
        "random": {"removal_mean": 0.6, "draws": 200, "collateral": 0.095, "method_collateral": 0.1},
        "p_value": 0.9,
    }
    said = summaries.summarise(result.Result("forget", {"concept": "hat", "methods": {"patch": method}}))
    assert said.holds is False
    assert said.verdict == "patch does NOT beat random edits of equal collateral"
    weak = {**method, "random": {**method["random"], "collateral": 0.07}}  # type: ignore[dict-item]
    said = summaries.summarise(result.Result("forget", {"concept": "hat", "methods": {"patch": weak}}))
    assert said.verdict == "patch does NOT beat random edits of less collateral, 0.070"
    few = {**method, "random": {**method["random"], "draws": 10}}  # type: ignore[dict-item]
    assert (
        "too few draws to tell"
        in summaries.summarise(result.Result("forget", {"concept": "hat", "methods": {"patch": few}})).verdict
    )


@pytest.mark.parametrize("low", [0.2, 0.4])
def test_success_has_to_lie_above_what_should_fail(low: float) -> None:
    control = {"success": {"3": 0.2}, "success_ci": {"3": [0.1, 0.3]}}
    found = {
        "success": {"3": 0.5},
        "success_ci": {"3": [low, 0.6]},
        "expected": "day",
        "controls": {"random_direction": control, "shuffled": control},
    }
    said = summaries.summarise(result.Result("arithmetic", {"shown": 3, "expressions": {"a - b + c": found}}))
    assert said.holds is (low > 0.3)


def test_a_result_shows_its_figure_and_its_numbers(tiny_gan: GAN) -> None:
    html = probe.walk(tiny_gan, 2, frames=1)._repr_html_()
    assert html.count('<img src="data:image/png;base64,') == 1
    assert "largest step / median" in html


def test_a_result_without_a_figure_shows_its_numbers_as_text() -> None:
    made = result.Result("counted <b>", {"images <i>": 3, "rate": 0.25, "curve": [1, 2]})
    assert drawer(made.command) is None
    html = pages.fragment(made)
    assert "<img" not in html
    assert "counted &lt;b&gt;" in html
    assert "images &lt;i&gt;" in html
    assert "0.25" in html


def test_forgetting_gives_the_operated_gan(tiny_gan: GAN, monkeypatch: pytest.MonkeyPatch) -> None:
    from probe.concepts.labels import Boxes
    from probe.concepts.sources import Concept
    from probe.questions.forget import run as forgetting

    boxed = Concept(Boxes("hat", (), {}), None, None, 0.5, ["boxed"])  # type: ignore[arg-type]
    made = result.Result("forget", {}, assumptions=["read"])
    monkeypatch.setattr(forgetting, "forget", lambda *_, **__: (made, tiny_gan))
    found = probe.forget(tiny_gan, boxed, method="patch")
    assert found.gan is tiny_gan
    assert found.assumptions == ["read", "boxed"]
    assert "gan" not in found.document()


def test_mistakes_are_told_before_any_work(tiny_gan: GAN) -> None:
    with pytest.raises(ProbeError, match="no expression"):
        probe.arithmetic(tiny_gan)
    with pytest.raises(ProbeError, match="`samples` 0: expected 1 to 100,000"):
        probe.sample(tiny_gan, 0)
    with pytest.raises(ProbeError, match="not trained on rooms"):
        probe.turn(tiny_gan, "day", "night")
    with pytest.raises(ProbeError, match="dusk"):
        probe.turn(probe.load("rooms"), "dusk", "night")
