"""Units against concepts, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from probe.results.captions import escape
from probe.results.result import Result

_COLUMNS = ("iou", "auc", "effect", "threshold")


def write_csv(result: Result, path: Path) -> None:
    """Write unit, concept, iou, auc, effect and threshold as CSV; best first by concept."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("unit", "concept", *_COLUMNS))
        for k, name in enumerate(result.metrics["concepts"]):
            for unit in np.argsort(-result.arrays["iou"][:, k], kind="stable"):
                values = [float(result.arrays[column][unit, k]) for column in _COLUMNS]
                table.writerow((int(unit), name, *(f"{v:.6g}" if math.isfinite(v) else "" for v in values)))


def write_latex(result: Result, path: Path) -> None:
    """Write a plain LaTeX table of each concept's top units, which needs no package; with intervals, and p by concept."""
    m = result.metrics
    lines = [
        f"% probe dissect: {m['layer']} ({m['maps_total']} units), {m['images']} images; brackets: 95 % intervals over images",
        f"% p: best IoU of all units against {result.settings['shuffles']} shufflings of the images; effect in 1/1000 of the pixels",
        r"\begin{tabular}{lrlrlr}", r"\hline",
        r"concept & unit & IoU & AUC & effect ($\times 10^{-3}$) & $p$ \\", r"\hline",
    ]  # fmt: skip
    for name, concept in m["concepts"].items():
        for i, row in enumerate(concept["units"]):
            first = (escape(name), f"{concept['p_value']:.2g}") if i == 0 else ("", "")
            lines.append(rf"{first[0]} & {_row(row)} & {first[1]} \\")
        lines.append(r"\hline")
    path.write_text("\n".join([*lines, r"\end{tabular}", ""]), encoding="utf-8")


def _row(row: dict[str, Any]) -> str:
    auc = "--" if not math.isfinite(row["auc"]) else f"{row['auc']:.3f}"
    effect = "--"
    if row["effect"] is not None:
        low, high = row["effect_ci"]
        effect = f"${1000 * row['effect']:.2f}$ [${1000 * low:.2f}$, ${1000 * high:.2f}$]"
    return f"{row['unit']} & {row['iou']:.3f} [{row['iou_ci'][0]:.3f}, {row['iou_ci'][1]:.3f}] & {auc} & {effect}"
