"""Expressions: what is read, and errors that point at the place."""

from __future__ import annotations

import pytest

from probe.base.errors import ProbeError
from probe.concepts.expressions import Expression, Term, parse

KNOWN = ["smiling woman", "woman", "man", "short-haired man", "A/b"]


@pytest.mark.parametrize(
    ("text", "terms", "title"),
    [
        ("woman", [(1, "woman")], ""),
        ("smiling woman - woman + man", [(1, "smiling woman"), (-1, "woman"), (1, "man")], ""),
        ("  - woman  + short-haired man= ", None, None),
        ("- woman + short-haired man = a man", [(-1, "woman"), (1, "short-haired man")], "a man"),
        ("man − woman + A/b - man + man", [(1, "man"), (-1, "woman"), (1, "A/b"), (-1, "man"), (1, "man")], ""),
    ],
)
def test_what_is_read(text: str, terms: list[tuple[int, str]] | None, title: str | None) -> None:
    if terms is None:  # the sign is glued to the name, which is then unknown
        with pytest.raises(ProbeError, match="unknown concept 'short-haired man='"):
            parse(text, KNOWN)
        return
    assert parse(text, KNOWN) == Expression(tuple(Term(*t) for t in terms), title)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("woman - + man", r"no concept beside '-' at character 7: woman >>-<< \+ man"),
        ("woman - man +", r"no concept beside '\+' at character 13: woman - man >>\+<<"),
        ("woman - man =", r"no concept beside '=' at character 13: woman - man >>=<<"),
        ("= man", "no concept beside '=' at character 1: >>=<< man"),
        ("woman = man + man", r"only a name may follow '=', at character 13: woman = man >>\+ man<<"),
        (
            "woman - dog + man",
            r"unknown concept 'dog' at character 9: woman - >>dog<< \+ man; known: smiling woman, woman, man",
        ),
        ("woman-man", r"unknown concept 'woman-man' at character 1: .*; \+ and - stand between spaces"),
        ("- woman", "nothing is added"),
    ],
)
def test_errors_point_at_the_place(text: str, expected: str) -> None:
    with pytest.raises(ProbeError, match=expected):
        parse(text, KNOWN)


def test_text_base_and_repetition() -> None:
    expression = parse("- woman + man - man + man - woman = x", KNOWN)
    assert str(expression) == "- woman + man - man + man - woman"
    assert (expression.base, expression.times("man"), expression.times("woman")) == (3, 3, 2)
    assert parse(str(expression), KNOWN).terms == expression.terms
