"""The caption of a result's figure, with every constant of its protocol, as plain text and as LaTeX."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.results.record import Record

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''"}
_TEX |= {c: f"\\{c}" for c in "&%$#_{}"} | {c: f"${c}$" for c in "<>|"}
_TEX |= {"−": "$-$", "–": "--", "—": "---", "…": r"\dots{}", "‰": r"\textperthousand{}", "°": r"$^\circ$"}
_TEX |= {"“": "``", "”": "''", "‘": "`", "’": "'"}
_TEX |= {
    char: f"$\\{name}$"
    for char, name in {
        "±": "pm", "×": "times", "·": "cdot", "≤": "leq", "≥": "geq", "≈": "approx", "→": "rightarrow", "←": "leftarrow",
        "∞": "infty", "∈": "in", "√": "surd", "Σ": "Sigma", "Δ": "Delta", "α": "alpha", "β": "beta", "ε": "varepsilon",
        "λ": "lambda", "μ": "mu", "µ": "mu", "σ": "sigma", "φ": "varphi", "θ": "theta", "⁻": "mbox{}^-",
    }.items()
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX: its own characters made harmless, signs as mathematics, what pdfLaTeX lacks as a code point."""
    return "".join(_letter(c) for c in text)


def _letter(char: str) -> str:
    if char in _TEX or ord(char) < 128:
        return _TEX.get(char, char)
    plain = unicodedata.normalize("NFKC", char)
    if unicodedata.category(char) == "No" and plain.isdigit():  # ² and ₂
        return f"$_{plain}$" if "SUBSCRIPT" in unicodedata.name(char) else f"$^{plain}$"
    return char if "LATIN" in unicodedata.name(char, "") else rf"\texttt{{U+{ord(char):04X}}}"


def captions(result: Record, notes: str) -> dict[str, str]:
    """caption.txt and caption.tex of a result, from what stands on its figure in small print and its protocol."""
    parts = [notes, *_protocol(result)]
    text = " ".join(part if part.endswith((".", ":")) else f"{part}." for part in parts if part)
    return {"caption.txt": f"{text}\n", "caption.tex": f"\\caption{{{escape(text)}}}\n"}


def _protocol(result: Record) -> Iterator[str]:
    """Model, settings, assumptions and versions as sentences; numbers as the result has them."""
    document = result.document()
    about = document["provenance"]
    named = {
        key: about[key]
        for key in ("checkpoint", "sha256", "prior", "seed", "device", "precision")
        if about.get(key) is not None
    }
    if named:
        yield "Model: " + _listed(named)
    yield "Settings: " + (_listed(document["settings"]) or "none")
    yield from document["assumptions"]
    if about.get("command"):
        yield f"Command: {about['command']}"
    if about.get("versions"):
        yield "Versions: " + _listed(about["versions"])


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in _flat(values))


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested settings by dotted name; lists of plain values in brackets."""
    for key, value in values.items():
        path = f"{name}.{key}" if name else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, path)
        elif isinstance(value, list):
            yield path, "[" + ", ".join(map(_said, value)) + "]"
        else:
            yield path, _said(value)


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
