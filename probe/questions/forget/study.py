"""A blinded study by eye: what observers saw before and after an edit, and where it failed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from probe.plots.common import columns, flow, note, page, show, tile
from probe.results.result import Result

_NAMES = {"before": "before", "patch": "patch", "paper": "paper", "narrow": "narrower gate"}
_COLOURS = {"before": "0.55", "patch": "#0072B2", "paper": "#D55E00", "narrow": "#009E73"}
_RATES = {
    "seen_on_positives": "{concept} seen\nin positives",
    "seen_on_others": "{concept} seen\nin others",
    "damaged": "image\ndamaged",
}


def draw(result: Result) -> Figure:
    """Strips of the first samples and of failures, and the observers' rates with their intervals."""
    m = result.metrics
    concept = next(asked for asked in m["agreement"] if asked != "damaged")
    space = page() - 1.0
    count = columns(len(result.arrays["first_before"]), space, 0.42)
    failed = len(result.arrays["failed_before"])
    strips = [(kind, name) for kind in ["first"] + ["failed"] * (failed > 0) for name in m["conditions"]]
    side = space / count
    (left, width, _), (beside, _, row) = flow([(0, 0.95, 3.6, 4.6), (4.7, 4.75, 2.2, 7.0)])
    lower = row * 0.2
    height = len(strips) * side + 2.35 + lower
    figure = Figure(figsize=(page(), height))
    for k, (kind, name) in enumerate(strips):
        bottom = height - (k + 1) * side - (0.18 if kind == "failed" else 0)
        images = result.arrays[f"{kind}_{name}"][:count]
        wide = side * len(images)
        show(figure, [0.95 / page(), bottom / height, wide / page(), side * 0.97 / height], tile(images, len(images)))
        figure.text(0.9 / page(), (bottom + side / 2) / height, _NAMES[name], ha="right", va="center", fontsize=6)
        if (kind, name) == ("failed", "before"):
            says = f"every observer still sees {concept} after patching (the first such samples):"
            figure.text(
                (0.05 if row else 0.95) / page(), (bottom + side + 0.08) / height, says, fontsize=6, va="center"
            )
    axes = figure.add_axes((left / page(), (0.5 + lower) / height, width / page(), 1.35 / height))
    for c, (name, rates) in enumerate(m["conditions"].items()):
        x = np.arange(len(_RATES)) + 0.27 * (c - 1)
        y = np.array([rates[key] for key in _RATES])
        ends = np.array([rates[f"{key}_ci"] for key in _RATES])
        axes.bar(x, y, 0.25, color=_COLOURS[name], label=_NAMES[name])
        axes.errorbar(
            x, y, yerr=[np.maximum(y - ends[:, 0], 0), np.maximum(ends[:, 1] - y, 0)], fmt="none", color="black", lw=0.7
        )
    axes.set_xticks(range(len(_RATES)), [words.format(concept=concept) for words in _RATES.values()])
    axes.set(ylabel="share of pictures", ylim=(0, 1))
    axes.legend(
        frameon=False,
        fontsize=6,
        loc="upper left",
        bbox_to_anchor=(0.0, 1.25) if row else (1.0, 1.0),
        ncols=3 if row else 1,
    )
    text = (
        f"{m['positives']} fresh positives, with {concept}, and {m['others']} others,\n"
        "each shown unedited and after both edits, in one\n"
        f"random order, to {m['observers']} automated observers, not told\n"
        f"what was done. Pairs agree on {concept} in {m['agreement'][concept]:.2f},\n"
        f"on damage in {m['agreement']['damaged']:.2f} of the pictures."
    )
    note(figure, beside, 0.5, text, fontsize=6, linespacing=1.4)
    return figure
