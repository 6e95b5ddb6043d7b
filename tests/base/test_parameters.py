"""What is declared of a parameter, held against what a call is given, from Python and as people write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import probe
from probe.base.errors import ProbeError
from probe.base.parameters import Param, as_flags, counts, declared, names, numbers, question, reals, words
from probe.models.gan import GAN


@question
def asked(
    gan: Unknown,  # noqa: F821  (a name that is there for type checkers alone)
    points: Annotated[int, Param("How many.", least=2, most=9, short="p")] = 3,
    *rest: Annotated[str, Param("Words.", argument=True)],
    share: Annotated[float, Param("How much.", least=0)] = 0.5,
    way: Annotated[Literal["near", "far"], Param("Which way.")] = "near",
    pair: Annotated[tuple[int, int] | None, Param("Two.")] = None,
    list_of: Annotated[str | Sequence[int], Param("Several.", was=("older",))] = "0-2",
    loud: Annotated[bool, Param("Louder.")] = False,
) -> dict[str, Any]:
    """Say what came.

    Raises:
        ProbeError: never.
    """
    return {"points": points, "share": share, "way": way, "pair": pair, "list_of": list_of, "rest": rest}


def test_what_is_declared() -> None:
    found = declared(asked)
    assert list(found) == ["points", "rest", "share", "way", "pair", "list_of", "loud"]
    assert found["points"].help == "How many (2 to 9)."
    assert found["way"].among == ("near", "far")
    assert found["list_of"].flag == "--list-of"
    assert "points: How many (2 to 9)." in asked.__doc__
    assert asked.__doc__.index("Args:") < asked.__doc__.index("Raises:")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points": 1}, "`points` 1: expected 2 to 9"),
        ({"points": "3"}, "`points` '3': is a str; expected a whole number"),
        ({"points": True}, "`points` True: is a bool; expected a whole number"),
        ({"points": 2.5}, "`points` 2.5: is a float; expected a whole number"),
        ({"share": -1}, "`share` -1: expected at least 0"),
        ({"share": float("nan")}, "`share` nan: expected at least 0"),
        ({"way": "up"}, "`way` up: expected near or far"),
        ({"pair": 3}, "`pair` 3: expected 2 numbers"),
        ({"pair": (1, 2, 3)}, r"`pair` \(1, 2, 3\): expected 2 numbers"),
        ({"loud": 1}, "`loud` 1: is an int; expected True or False"),
    ],
)
def test_values_that_cannot_be(tiny_gan: GAN, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ProbeError, match=f"^{message}$"):
        asked(tiny_gan, **given)


def test_values_that_can(tiny_gan: GAN) -> None:
    found = asked(tiny_gan, np.int64(4), "a", "b", share=1, pair=[1, 2])
    assert found == {"points": 4, "share": 1, "way": "near", "pair": [1, 2], "list_of": "0-2", "rest": ("a", "b")}
    assert type(found["points"]) is int
    with pytest.raises(ProbeError, match="`rest` 3: is an int; expected a text"):
        asked(tiny_gan, 4, 3)
    with pytest.raises(ProbeError, match=r"^`gan` 'netG\.pth': is a str; expected a GAN"):
        asked("netG.pth")


def test_an_older_name_is_taken_and_the_new_one_said(tiny_gan: GAN) -> None:
    with pytest.warns(DeprecationWarning, match="asked: older is called list_of now"):
        assert asked(tiny_gan, older="5")["list_of"] == "5"


def test_the_words_of_a_command_that_asks_the_same() -> None:
    assert words(asked, "asked", 4, "a b", share=0.25, loud=True) == [
        *("asked", "a b", "--points", "4", "--share", "0.25", "--loud"),
    ]
    assert words(asked, "asked", 3, share=0.5) == ["asked"]


def test_messages_become_flags() -> None:
    assert as_flags("`train` without `what`", {"train": "--train"}) == "--train without `what`"


def test_what_people_write() -> None:
    assert counts("3,1,3", "n") == (1, 3)
    assert counts(4, "n") == (4,)
    assert reals((1, 2.5), "c") == (1.0, 2.5)
    assert names("a, b,a", "m") == ("a", "b")
    assert names("none", "m") == ()
    assert numbers([2, 0], "u") == (2, 0)
    for call, wrong in ((counts, "0"), (reals, "a"), (numbers, "b")):
        with pytest.raises(ProbeError, match=r"^`x` "):
            call(wrong, "x")


def test_objects_say_what_they_are_in_three_lines(tiny_gan: GAN) -> None:
    result = probe.sample(tiny_gan, 2)
    for thing in (tiny_gan, result):
        assert len(repr(thing).splitlines()) == 3
    assert dir(probe) == sorted(dir(probe))
    assert all(getattr(probe, name) is not None for name in dir(probe))


@pytest.mark.parametrize("wrong", [lambda g: probe.load(3), lambda g: probe.load(["a"]), lambda g: probe.save("x", "y"), lambda g: probe.save(g, 3), lambda g: probe.describe("x"), lambda g: probe.load_result(3), lambda g: probe.walk(g, null=[3]), lambda g: probe.walk(g, feature=3), lambda g: probe.forget(g, method=3), lambda g: probe.forget(g, ["window"])])  # fmt: skip
def test_misuse_from_python_names_the_parameter(tiny_gan: GAN, wrong: Any) -> None:
    with pytest.raises(ProbeError, match=r"^`\w+`"):
        wrong(tiny_gan)
