"""An ablation in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval, p_text


def _comma_p(value: float | None) -> str:
    return "" if value is None else f", p = {value:.2g}"


def summary(m: Metrics) -> Summary:
    """An ablation in words."""
    random, change = m["random"], interval(m["change"], m["change_ci"], 4)
    lines = [f"{m['layer']}: mean change {change}"]
    if random["draws"]:
        lines[0] += f"; random sets of other maps {random['change_mean']:.4f}" + _comma_p(m["p_value"])
    if m["inside"] is not None and m["outside"] is not None:
        lines.append(f"inside the region {m['inside']:.4f}, outside {m['outside']:.4f}")
    rows = []
    for name, o in m["objects"].items():
        if o["ratio"] is None:
            continue
        ratio, mean = interval(o["ratio"], o["ratio_ci"]), o["random"]["ratio_mean"]
        known = "" if mean is None else f"; random {mean:.2f}" + _comma_p(o["p_value"])
        lines.append(f"  {name:8} area after / before {ratio}{known}")
        rows.append((name, ratio, "–" if mean is None else f"{mean:.2f}", p_text(o["p_value"])))
    header = ("object", "area after / before", "random maps", "p")
    return Summary(
        verdict=f"{len(m['units'])} maps of {m['layer']} changed",
        text="\n".join(lines),
        numbers={"mean change": change},
        header=header,
        rows=rows,
    )
