"""Accuracies beside baselines, as CSV and as LaTeX."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from probe.results.captions import escape
from probe.results.result import Result


def _rows(result: Result) -> dict[str, dict[str, Any]]:
    return {"discriminator": result.metrics, **result.metrics["baselines"]}


def write_csv(result: Result, path: Path) -> None:
    """Write accuracy with its 95 % interval, number of features and C, a row each for D and the baselines, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("representation", "accuracy", "low", "high", "features", "C"))
        for name, row in _rows(result).items():
            cost = "" if row["C"] is None else f"{row['C']:g}"
            table.writerow((name, *(f"{v:.6g}" for v in (row["accuracy"], *row["accuracy_ci"])), row["features"], cost))


def write_latex(result: Result, path: Path) -> None:
    """Write the same as a LaTeX table, which needs no package."""
    m = result.metrics
    lines = [
        f"% probe classify: {m['labels']} labels, {m['test_images']} test images, {m['draws']} draws; brackets: 95 % intervals",
        r"\begin{tabular}{lrrr}", r"\hline", r"representation & features & $C$ & accuracy (\%) \\", r"\hline",
    ]  # fmt: skip
    for name, row in _rows(result).items():
        low, high = (100 * v for v in row["accuracy_ci"])
        cost = "--" if row["C"] is None else f"{row['C']:g}"
        accuracy = f"{100 * row['accuracy']:.2f} [{low:.2f}, {high:.2f}]"
        cells = (escape(name.replace("_", " ")), row["features"], cost, accuracy)
        lines.append(rf"{' & '.join(map(str, cells))} \\")
    path.write_text("\n".join([*lines, r"\hline", r"\end{tabular}", ""]), encoding="utf-8")
