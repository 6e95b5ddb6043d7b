"""Vector arithmetic as people write it: `smiling woman - neutral woman + neutral man = smiling man`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from probe.base.errors import ProbeError

_SIGN = re.compile(r"(?<!\S)[+\-−=](?!\S)")  # between spaces, so that names may hold hyphens


class Names(Protocol):
    """Names of concepts: asked for one, or listed for a message; a mapping of exemplars will do."""

    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True)
class Term:
    """A concept with its sign, +1 or -1."""

    sign: int
    name: str


@dataclass(frozen=True)
class Expression:
    """A sum of concepts. `title` is what its author calls the result, "" where he does not say."""

    terms: tuple[Term, ...]
    title: str = ""

    def __str__(self) -> str:
        words = " ".join(f"{'+' if t.sign > 0 else '-'} {t.name}" for t in self.terms)
        return words.removeprefix("+ ")

    @property
    def base(self) -> int:
        """The index of the last term that is added: what the others are an edit of."""
        return max(i for i, t in enumerate(self.terms) if t.sign > 0)

    def times(self, name: str) -> int:
        """How many terms are of a concept."""
        return sum(t.name == name for t in self.terms)


def _point(text: str, start: int, end: int) -> str:
    """The text with a place marked, on one line."""
    return f"character {start + 1}: {text[:start]}>>{text[start:end]}<<{text[end:]}"


def parse(text: str, known: Names) -> Expression:
    """Read `A - B + C`, or `A - B + C = name of the result`; names may hold spaces, signs stand between spaces.

    Raises ProbeError, pointing at the place, for a sign without a concept, a second `=`, an unknown concept, or
    where nothing is added.
    """
    if not text.strip():
        raise ProbeError("expression: is empty; expected concepts with + and - between, such as 'A - B + C'")
    signs = list(_SIGN.finditer(text))
    starts = [0, *(s.end() for s in signs)]
    ends = [*(s.start() for s in signs), len(text)]
    terms, title = [], ""
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        sign, name = signs[k - 1].group() if k else "+", text[start:end].strip()
        if not name:
            if k == 0 and signs[0].group() != "=":
                continue  # a sign before the first concept
            at = signs[max(k - 1, 0)]
            raise ProbeError(f"expression: no concept beside '{at.group()}' at {_point(text, at.start(), at.end())}")
        place = _point(text, start + text[start:end].index(name), start + text[start:end].index(name) + len(name))
        if k and k < len(signs) and sign == "=":
            raise ProbeError(f"expression: only a name may follow '=', at {_point(text, end, len(text))}")
        if sign == "=":
            title = name
        elif name not in known:
            hint = "; + and - stand between spaces" if re.search(r"[+−-]", name) else ""
            raise ProbeError(f"expression: unknown concept '{name}' at {place}; known: {', '.join(known)}{hint}")
        else:
            terms.append(Term(1 if sign == "+" else -1, name))
    if not any(t.sign > 0 for t in terms):
        raise ProbeError(f"expression: nothing is added in '{text}'; at least one concept needs a +")
    return Expression(tuple(terms), title)
