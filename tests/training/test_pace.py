"""How long a run takes is measured on it; the precision is the one that was faster."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from probe.training import pace
from tests.training_runs import TINY

LONG = replace(TINY, steps=1000)


@pytest.fixture
def times(monkeypatch) -> dict[str, float]:
    """Seconds a step by precision, in place of a measurement."""
    told = {"float32": 2.0, "bfloat16": 1.0}
    monkeypatch.setattr(pace, "seconds_a_step", lambda settings, device: told[settings.precision])
    monkeypatch.setattr(pace, "best_precision", lambda device: "bfloat16")
    return told


@pytest.mark.parametrize(("half", "chosen"), [(1.0, "bfloat16"), (3.0, "float32")])
def test_the_faster_precision_is_taken(times, half, chosen):
    times["bfloat16"] = half
    assert pace.measured(LONG, "cpu") == (replace(LONG, precision=chosen), min(half, 2.0))


def test_half_precision_is_not_tried_where_nothing_multiplies_it(times, monkeypatch):
    monkeypatch.setattr(pace, "best_precision", lambda device: "float32")
    assert pace.measured(LONG, "cpu") == (LONG, 2.0)


def test_a_resumed_run_keeps_its_precision(times):
    assert pace.measured(LONG, "cpu", 300, "float32") == (LONG, 2.0)
    assert pace.measured(LONG, "cpu", 950, "float32") == (LONG, None)


def test_a_short_run_is_not_measured(times):
    assert pace.measured(TINY, "cpu") == (replace(TINY, precision="bfloat16"), None)


def test_seconds_are_those_of_a_step(monkeypatch):
    """Steps that sleep: the first, during which a network warms up, is not counted."""
    naps = [2.0, 0.05, 0.15]
    monkeypatch.setattr(pace.Run, "advance", lambda *_: torch.full((4,), float(time.sleep(naps.pop(0)) is None)))
    assert 0.1 <= pace.seconds_a_step(TINY, "cpu") < 0.9
    assert naps == []
