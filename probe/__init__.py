"""probe: look inside a trained DCGAN and operate on it.

>>> import probe
>>> probe.__version__.count(".")
2
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import probe.questions  # noqa: F401  (fills the table of questions; imports nothing heavy)
from probe.base import plugins as _plugins

__version__ = "0.1.0"

_PUBLIC = {
    "GAN": "probe.models.gan",
    "hooks": "probe.models",
    "surgery": "probe.edits",
    "load": "probe.checkpoints",
    "save": "probe.checkpoints",
    "describe": "probe.checkpoints",
    "train": "probe.training.loop",
    "Result": "probe.results.result",
    "load_result": "probe.results.result",
    "ProbeError": "probe.base.errors",
    "Concept": "probe.concepts.sources",
    "Segmenter": "probe.concepts.protocols",
    "Feature": "probe.measures.features",
    "Edit": "probe.edits.protocols",
    "EditMethod": "probe.edits.protocols",
    "register_edit_method": "probe.edits.methods",
    "Question": "probe.base.plugins",
    "register_question": "probe.base.plugins",
    "question": "probe.base.parameters",
    "Param": "probe.base.parameters",
    "Summary": "probe.results.summary",
}


def _calls() -> dict[str, _plugins.Question]:
    """The questions, by the names of their Python calls."""
    return {question.python: question for question in _plugins.QUESTIONS.values()}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: importing probe imports neither torch nor matplotlib."""
    if name in _PUBLIC:
        place = _PUBLIC[name]
        return import_module(f"{place}.{name}") if name in ("hooks", "surgery") else getattr(import_module(place), name)
    if name in _calls():
        return _plugins.function(_calls()[name].call)
    if name == "__all__":
        return sorted({"__version__", *_PUBLIC, *_calls()})
    raise AttributeError(f"module 'probe' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names and nothing else."""
    return sorted({"__version__", *_PUBLIC, *_calls()})
