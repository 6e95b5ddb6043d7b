"""Near-duplicates in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval


def summary(m: Metrics) -> Summary:
    """Near-duplicates in words."""
    lines = [f"{m['removed']} of {m['images']} images repeat one of {m['groups']} others"]
    if m["false_positive_rate"] is not None and "false_positive_ci" not in m:
        lines.append("no two rooms are alike, so every one of these removals is wrong")
    pairs = [f"{kept} and {removed}" for kept, removed in m.get("doubtful", [])[:3]]
    lines += [f"least alike of them: {'; '.join(pairs)}"] if pairs else []
    lines.append("planted copies found, and by equal hashes alone:")
    rows = [
        (kind, interval(value, m["recall_ci"][kind]), f"{m['plain']['recall'][kind]:.2f}")
        for kind, value in m["recall"].items()
    ]
    lines += [f"  {kind:9} {found}   {equal}" for kind, found, equal in rows]
    header = ("planted copies", "found", "by equal hashes")
    return Summary(
        verdict=f"{m['removed']} of {m['images']} images repeat another",
        text="\n".join(lines),
        header=header,
        rows=rows,
    )
