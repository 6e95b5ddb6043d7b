"""Independent computations side by side, each on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")


def each(function: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """function(item) of each, in order, as many at once as torch has threads.

    Where tensors are small torch's threads wait for each other much of the time. `function` must not change what others use.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    torch.set_num_threads(1)  # of this thread, and of those that start from now on
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(threads)
