"""Computations side by side: in order, each on one thread, and torch left as it was, whatever happens."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from probe.base.parallel import each


def test_in_order_side_by_side_on_a_thread_each(two_threads):
    together = threading.Barrier(2, timeout=20)  # passed by none before two are there

    def square(x: int) -> tuple[int, int]:
        together.wait()
        return x * x, torch.get_num_threads()

    assert list(each(square, range(6))) == [(x * x, 1) for x in range(6)]
    assert torch.get_num_threads() == 2


def test_after_a_failure_nothing_more_is_begun(two_threads):
    begun = []

    def fail(x: int) -> int:
        begun.append(x)
        time.sleep(0.002)
        if x == 1:
            raise ValueError("no")
        return x

    with pytest.raises(ValueError, match="no"):
        for _ in each(fail, range(2000)):
            pass
    assert len(begun) < 2000
    assert torch.get_num_threads() == 2


def test_one_thread_is_the_one_at_hand():
    assert torch.get_num_threads() == 1  # of all tests, see conftest
    here = threading.get_ident()
    assert list(each(lambda _: threading.get_ident(), range(3))) == [here] * 3
