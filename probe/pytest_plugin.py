"""A plugin of pytest: figures of probe as tests of your own, in the manner of pytest-mpl.

    def test_glasses(probe_figure):
        result = probe.forget(gan, ...)
        probe_figure(result)

pytest --probe-figures=DIR                          compares with DIR/<name of the test>/
pytest --probe-figures=DIR --probe-figures-update   writes them
pytest                                              only draws

Numbers are compared from fixed latents and weights, with tolerance; drawings with the fonts that matplotlib brings.
Nothing heavy is imported before a test asks for the fixture.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from probe.results.result import Result


class ProbeFigure(Protocol):
    """Draws a result and, where a folder of baselines is given, holds it against its baseline."""

    def __call__(self, result: Result, name: str | None = None, rtol: float = 1e-3, atol: float = 1e-5) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("probe", "figures of probe")
    group.addoption("--probe-figures", metavar="DIR", help="compare results given to probe_figure with those in DIR")
    group.addoption("--probe-figures-update", action="store_true", help="write them there instead")


@pytest.fixture
def probe_figure(request: pytest.FixtureRequest, tmp_path: Path) -> ProbeFigure:
    """Call it with a result, and with a name where a test has several: fails where result or drawing changed."""
    from probe.results.compare import Tolerance, compare_trees

    kept = request.config.getoption("--probe-figures")
    if request.config.getoption("--probe-figures-update") and not kept:
        pytest.fail("--probe-figures-update: needs --probe-figures=DIR, the folder to write to", pytrace=False)

    def check(result: Result, name: str | None = None, rtol: float = 1e-3, atol: float = 1e-5) -> None:
        name = name or re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
        if kept and request.config.getoption("--probe-figures-update"):
            result.save(Path(kept) / name)
            return
        made = tmp_path / "probe-figures" / name
        result.save(made)
        baseline = Path(kept) / name if kept else None
        if baseline and not (baseline / "result.json").exists():
            pytest.fail(
                f"{baseline}: no baseline; write it with --probe-figures={kept} --probe-figures-update", pytrace=False
            )
        if baseline:
            found = compare_trees(baseline, made, Tolerance(rtol, atol), tmp_path / "probe-differences")
            if not found.same:
                pytest.fail(found.told(), pytrace=False)

    return check
