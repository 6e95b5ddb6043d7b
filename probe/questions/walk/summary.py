"""A walk in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, p_text


def summary(m: Metrics) -> Summary:
    """A walk in words."""
    resolved = "resolved" if m["resolved"] else "not resolved: a jump that finer steps do not divide"
    p = "none (fewer than 19 --null generators)" if m["p_value"] is None else f"{m['p_value']:.2g}"
    text = (
        f"largest step / median {m['max_over_median']:.2f}, p {p}; plateaus {m['plateau_share']:.1%}; order {m['order']:.2f} ({resolved})\n"
        f"sharp transitions: {m['sharp_transitions']}; path length (PPL, {m['feature']}) {m['ppl']:.3g} "
        f"[{m['ppl_ci'][0]:.3g}, {m['ppl_ci'][1]:.3g}]"
    )
    sharp = m["sharp_transitions"]
    ratio, ppl = f"{m['max_over_median']:.2f}", f"{m['ppl']:.3g} [{m['ppl_ci'][0]:.3g}, {m['ppl_ci'][1]:.3g}]"
    rows = [
        ("largest step / median", ratio), ("p-value", p_text(m["p_value"])), ("sharp transitions", str(sharp)),
        ("plateaus", f"{m['plateau_share']:.1%}"), ("order", f"{m['order']:.2f}"), ("path length (PPL)", ppl),
    ]  # fmt: skip
    said = f"{sharp} sharp transition{'s' * (sharp != 1)}" if sharp else "smooth: no sharp transition"
    return Summary(
        verdict=said,
        text=text,
        holds=not sharp,
        numbers={"largest step / median": ratio, "path length (PPL)": ppl},
        rows=rows,
    )
