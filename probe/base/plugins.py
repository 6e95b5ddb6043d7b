"""What can be added from outside: questions and edit methods in a table, objects as `pkg.module:name`.

QUESTIONS and METHODS are filled by `probe.questions` and `probe.edits`, and by whoever registers more. A command takes
more from the modules named, with commas between, in the environment variable PROBE_PLUGINS.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probe.base.errors import ProbeError

GROUPS = {
    "look": "Open and look",
    "generator": "Ask the generator",
    "discriminator": "Ask the discriminator",
    "data": "Data and training",
    "results": "Figures and results",
}
VARIABLE = "PROBE_PLUGINS"
Named = str | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question: its `name` is the command's and the result's `command`, the Python call's with underscores.

    `call`, `figure` and `summary` are functions, or `pkg.module:name` of them, imported when first used: (gan, ...) ->
    Result, Result -> matplotlib Figure, Result -> Summary. `group` is a key of GROUPS, `asks` the question in a
    sentence, `examples` two command lines, `page` the page that explains it; `also` are drawings and words of results
    that recipes write: command -> (figure, summary).
    """

    name: str
    call: Named
    figure: Named | None = None
    summary: Named | None = None
    group: str = "generator"
    asks: str = ""
    examples: tuple[str, ...] = ()
    page: str = ""
    also: Mapping[str, tuple[Named, Named | None]] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The name of the Python call."""
        return self.name.replace("-", "_")


QUESTIONS: dict[str, Question] = {}


def register_question(question: Question) -> None:
    """Add a question to the Python API, the command, `Result.figure()` and `.summary()`.

    Raises ProbeError for a name that is taken, and for a group that there is not.
    """
    taken = QUESTIONS.get(question.name)
    if taken is not None and taken != question:
        raise ProbeError(f"question {question.name}: there is one of that name; choose another")
    if question.group not in GROUPS:
        raise ProbeError(f"question {question.name}: group {question.group}: expected {', '.join(GROUPS)}")
    QUESTIONS[question.name] = question


def drawer(command: str) -> Callable[..., Any] | None:
    """The function that draws a result of a command, None where there is none."""
    return _of(command, 0)


def summariser(command: str) -> Callable[..., Any] | None:
    """The function that puts a result of a command in words, None where there is none."""
    return _of(command, 1)


def _of(command: str, which: int) -> Callable[..., Any] | None:
    for question in QUESTIONS.values():
        pairs = {question.name: (question.figure, question.summary), **question.also}
        if command in pairs:
            named = pairs[command][which]
            return None if named is None else function(named)
    return None


def drawn() -> list[str]:
    """The commands whose results have a figure."""
    return [name for q in QUESTIONS.values() for name in ((q.name,) if q.figure else ()) + tuple(q.also)]


def function(named: Named) -> Callable[..., Any]:
    """A function that is given as itself or, in probe's own tables and by plugins, as pkg.module:name."""
    if not isinstance(named, str):
        return named
    place, _, name = named.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(place), name)
    return found


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Put a folder first on the import path for a while."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def made(spec: str, parameter: str) -> Any:
    """What the factory `pkg.module:name`, a function without arguments of a user's own, returns.

    Modules are found from the working folder, too. Raises ProbeError naming the parameter.
    """
    place, _, name = spec.partition(":")
    if not place or not name.isidentifier():
        raise ProbeError(f"`{parameter}` {spec!r}: expected pkg.module:factory")
    try:
        with _importable(str(Path.cwd())):
            return getattr(importlib.import_module(place), name)()
    except Exception as error:  # somebody else's code may raise anything
        reason = (str(error) or "no message").splitlines()[0][:160]
        raise ProbeError(
            f"`{parameter}` {spec}: {type(error).__name__}: {reason}; expected a function without arguments"
        ) from error


def load_plugins() -> None:
    """Import the modules of PROBE_PLUGINS; raises ProbeError for one that cannot be."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        try:
            with _importable(str(Path.cwd())):
                importlib.import_module(name)
        except Exception as error:  # somebody else's code may raise anything
            reason = (str(error) or "no message").splitlines()[0][:160]
            raise ProbeError(f"{VARIABLE} {name}: {type(error).__name__}: {reason}; expected a module") from error
