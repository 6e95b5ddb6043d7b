"""What a result says, in words and in a small table: printed by the command, shown by notebooks and by the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from probe.base.plugins import summariser

if TYPE_CHECKING:
    from probe.results.record import Record

Metrics = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A `verdict` in a few words, key `numbers` by name, a table of `header` and `rows`, and all of it as `text`.

    `holds` is whether the control says yes (True), no (False), or there is nothing to judge (None).
    """

    verdict: str
    text: str
    holds: bool | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)
    header: Sequence[str] = ("measure", "value")
    rows: Sequence[Sequence[str]] = ()

    def __str__(self) -> str:
        return self.text


def summarise(result: Record) -> Summary:
    """A result in words, by its question; of any other result the metrics that are plain values."""
    metrics, known = result.document()["metrics"], summariser(result.command)
    if known is not None:
        found: Summary = known(metrics)
        return found
    plain = [(k, f"{v:.4g}" if isinstance(v, float) else str(v)) for k, v in metrics.items() if _is_plain(v)]
    text = "\n".join(f"{name}: {value}" for name, value in plain)
    return Summary(verdict=result.command, text=text or result.command, rows=plain)


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str)


def interval(value: float | None, ends: Sequence[float] | None, digits: int = 2) -> str:
    """A number with its 95 % interval: `0.98 [0.96, 0.99]`; an en dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text if ends is None else f"{text} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def verdict(p_value: float, draws: int) -> str:
    """What a random control says: whether a method beats random edits, or that there were too few to tell."""
    if 1 / (draws + 1) >= 0.05:
        return f"too few draws to tell ({draws}; 20 or more) from"
    return "beats" if p_value < 0.05 else "does NOT beat"


def p_text(value: float | None) -> str:
    """A p-value to two digits; an en dash where there is none."""
    return "–" if value is None else f"{value:.2g}"


_SHOULD_FAIL = {"random_direction": "random directions", "shuffled": "shuffled labels"}


def unbeaten(m: Metrics, n: str) -> list[str] | None:
    """Of the controls that should fail those that success does not clear, interval above interval; None where nothing is judged."""
    if not m["success"]:
        return None
    low = m["success_ci"][n][0]
    return [words for name, words in _SHOULD_FAIL.items() if low <= m["controls"][name]["success_ci"][n][1]]


def success_said(missed: Sequence[str] | None) -> str:
    """What such controls say of success, in words."""
    if missed is None:
        return "drawn, not judged: no segmenter knows these concepts"
    if missed:
        return f"does NOT clearly beat {' and '.join(missed)}"
    return f"succeeds beyond {' and '.join(_SHOULD_FAIL.values())}"
