"""Turning in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval, success_said, unbeaten


def summary(m: Metrics) -> Summary:
    """Turning in words."""
    n, lines, rows, numbers = str(m["shown"]), [], [], {}
    title = f"{m['from']} to {m['to']}"
    judged = "r2" in next(iter(m["methods"].values()))
    success = interval(m["success"][n], m["success_ci"][n]) if judged and m.get("success") else ""
    for name, found in m["methods"].items():
        if "r2" not in found:
            lines.append(f"{title} by {name}: not judged")
            continue
        lines.append(
            f"{title} by {name}: R² {found['r2']:.2f}, monotone {found['monotone_share']:.2f}, "
            f"target {found['target_change']:+.2f} sd, others {found['other_change']:.2f} sd"
        )
        rows.append([
            name, interval(found["r2"], found["r2_ci"]), interval(found["monotone_share"], found["monotone_share_ci"]),
            f"{found['target_change']:+.2f}", f"{found['other_change']:.2f}",
        ])  # fmt: skip
    if success:
        lines[0] += f"; success of class means {success}"
        numbers[f"{title}, success"] = success
        random = m["controls"]["random_direction"]
        numbers["random direction"] = interval(random["success"][n], random["success_ci"][n])
    missed = unbeaten(m, n) if success else None
    header = ("method", "R²", "never falls", "target, sd", "others, sd")
    return Summary(
        verdict=success_said(missed),
        text="\n".join(lines),
        holds=None if missed is None else not missed,
        numbers=numbers,
        header=header,
        rows=rows,
    )
