"""Distances to real images in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary


def summary(m: Metrics) -> Summary:
    """Distances to real images in words."""
    named = "FID" if m["measure"] == "FID" else "Fréchet distance"
    columns, rows = ("samples", "floor", "ceiling"), []
    measures = [("fid", named), ("kid", "KID"), ("precision", "precision"), ("recall", "recall")]
    if m["backbone"].startswith("a random-weights network"):  # in which nearness says little of what an image shows
        measures = measures[:2]
    for key, name in measures:
        parts = [m, m["floor"], m["ceiling"]]
        rows.append((name, *(f"{p[key]:.3g} [{p[f'{key}_ci'][0]:.3g}, {p[f'{key}_ci'][1]:.3g}]" for p in parts)))
    wide = 2 + max(len(cell) for row in rows for cell in row[1:])
    lines = [
        f"{m['measure']}; {m['n']} images a set; reference: {m['reference']}",
        *(f"{row[0]:17}" + "".join(f"{cell:>{wide}}" for cell in row[1:]) for row in [("", *columns), *rows]),
    ]
    numbers = {name: row for name, row, *_ in rows}
    said = f"compared in features of {m['backbone']}, nothing to judge"
    return Summary(verdict=said, text="\n".join(lines), numbers=numbers, header=("measure", *columns), rows=rows)
