"""Spectra in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval


def summary(m: Metrics) -> Summary:
    """Spectra in words."""
    ours, real = interval(m["corner"], m["corner_ci"]), interval(m["real"]["corner"], m["real"]["corner_ci"])
    if m["excess"] is None:
        said = "nothing to judge: images without fine structure"
        return Summary(verdict=said, text=said)
    grid = m["corner_ci"][0] > 1.5 * m["real"]["corner_ci"][1]
    said = "a grid of one pixel lies over the samples" if grid else "no grid beyond what real images have"
    text = f"power at the highest frequency over that around it: samples {ours}, real images {real}; {said}"
    rows = [("samples", ours), ("real images", real)]
    return Summary(verdict=said, text=text, holds=not grid, numbers={"corner": ours}, header=("", "corner"), rows=rows)
