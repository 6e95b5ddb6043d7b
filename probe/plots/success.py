"""How often something succeeds, by number of exemplars and beside its controls."""

from __future__ import annotations

from typing import Any

import numpy as np

from probe.plots.common import OKABE_ITO

_CURVES = {
    "mean": ("mean of exemplars", OKABE_ITO[0], "o-"),
    "norm_matched_single": ("one exemplar, norm of the mean", OKABE_ITO[4], "s-"),
    "norm_restored_mean": ("mean, norm of the prior", OKABE_ITO[5], "^-"),
    "random_direction": ("random direction, equal length", "0.6", "v-"),
    "shuffled": ("labels shuffled", "0.35", "x-"),
    "pixel": ("in pixel space", OKABE_ITO[3], "D-"),
}


def success_curves(axes: Any, about: dict[str, Any], first: bool) -> None:
    """Success against the number of exemplars, with every control."""
    for name, (label, colour, style) in _CURVES.items():
        of = about if name == "mean" else about["controls"][name]
        n = np.array([int(k) for k in of["success"]])
        values, ends = np.array(list(of["success"].values())), np.array(list(of["success_ci"].values()))
        x = n if len(n) > 1 else n + 0.12 * (list(_CURVES).index(name) - 2.5)
        spread = [np.maximum(values - ends[:, 0], 0), np.maximum(ends[:, 1] - values, 0)]
        lead = name == "mean"
        axes.errorbar(
            x, values, yerr=spread, fmt=style, color=colour, ms=3.2 if lead else 2.4, lw=1.3 if lead else 0.8, elinewidth=0.7, label=label,
            zorder=5 if lead else 3,
        )  # fmt: skip
    axes.axhline(0.9, color="0.75", lw=0.6, ls=":", zorder=0)
    axes.set(ylim=(-0.03, 1.03), xlabel="exemplars a concept")
    axes.set_xscale("log") if len(about["success"]) > 1 else axes.set_xlim(n[0] - 1, n[0] + 1)
    axes.set_xticks(n, [str(k) for k in n])
    axes.minorticks_off()
    if first:
        axes.set_ylabel("success")
    else:
        axes.set_yticklabels([])
