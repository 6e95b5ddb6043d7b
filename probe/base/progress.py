"""How far long work is: a bar for each named task, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Report(Protocol):
    """Tells of a named task: how much is done, of how much, and a note behind the name."""

    def __call__(self, name: str, done: int, total: int, note: str = "") -> None: ...


def silent(*_: Any, **__: Any) -> None:
    """Report to nobody."""


@contextmanager
def progress(quiet: bool = False) -> Iterator[Report]:
    """A bar with time left for each named task, on standard error; silent where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda name, done, total, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def tell(name: str, done: int, total: int, note: str = "") -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total, description=f"{name}  {note}".strip())

        yield tell


@contextmanager
def training_bar(quiet: bool = False) -> Iterator[Callable[[Any], None]]:
    """Report a training run's losses and time left, from its `Progress`; warnings are printed once, terminal or not."""
    warned: set[str] = set()
    with progress(quiet) as tell:

        def report(p: Any) -> None:
            tell("training", p.step, p.steps, f"loss D {p.loss_d:.2f}  G {p.loss_g:.2f}")
            if p.warning and p.warning not in warned:
                warned.add(p.warning)
                print(f"step {p.step}: {p.warning}", file=sys.stderr)

        yield report
