"""Questions replaced for a test, in the table that the command, the report and the Python API ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from probe.base.plugins import QUESTIONS, function


def instead(patch: pytest.MonkeyPatch, name: str, call: Callable[..., Any]) -> None:
    """Ask `call` in place of a question, with the question's own declaration."""
    real = function(QUESTIONS[name].call)
    patch.setitem(QUESTIONS, name, replace(QUESTIONS[name], call=wraps(real)(call)))


def counted(patch: pytest.MonkeyPatch, name: str, calls: list[str]) -> None:
    """Note each time a question is asked, and ask it."""
    real = function(QUESTIONS[name].call)
    instead(patch, name, lambda *a, **k: (calls.append(name), real(*a, **k))[1])
