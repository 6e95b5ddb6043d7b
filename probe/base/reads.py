"""What was read on the way to a result: noted where it is read, kept in the result and told once, by whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from probe.base.errors import ProbeError


class Source(Protocol):
    """A source of images that was read."""

    def about(self) -> dict[str, Any]:
        """What a result keeps of it."""

    def told(self) -> str:
        """A line for people, or nothing."""


_NOTED: ContextVar[list[Source] | None] = ContextVar("noted", default=None)


def note(source: Source) -> None:
    """Note a source for the question that is being asked, if one is."""
    noted = _NOTED.get()
    if noted is not None:
        noted.append(source)


@contextmanager
def noting() -> Iterator[list[Source]]:
    """The list of sources that are read within."""
    noted: list[Source] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def explained(error: ProbeError, noted: list[Source]) -> ProbeError:
    """An error that followed, with what was left out of the sources that were read."""
    lines = dict.fromkeys(source.told() for source in noted if source.about()["left_out"])
    return type(error)(" ".join([str(error), *(f"({line})" for line in lines)])) if lines else error


def keep(result: Any, noted: list[Source]) -> None:
    """Put what was read into a result's provenance, and in words among its assumptions and its remarks."""
    if noted and isinstance(getattr(result, "provenance", None), dict):
        every = [source.about() for source in noted]
        result.provenance["sources"] = [about for i, about in enumerate(every) if about not in every[:i]]
        lines = list(dict.fromkeys(line for source in noted if (line := source.told())))
        result.assumptions += lines
        result.remarks[:0] = lines
