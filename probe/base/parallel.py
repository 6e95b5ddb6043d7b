"""Independent computations side by side, each on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")
Map = Callable[[Callable[[Item], Found], Iterable[Item]], Iterator[Found]]


@contextmanager
def workers() -> Iterator[Map[Any, Any]]:
    """What maps a function over items, in order, as many at once as torch has threads.

    Where tensors are small torch's threads wait for each other much of the time. The function must not change what
    others use.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield map
        return
    torch.set_num_threads(1)  # of this thread, and of those that start from now on
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def each(function: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """function(item) of each, in order, side by side."""
    with workers() as run:
        yield from run(function, items)
