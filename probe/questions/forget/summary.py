"""Forgetting in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval, p_text, verdict


def _rivals(random: Metrics) -> str:
    """Random edits in words; sets of maps that are at zero already may fall short of the method's collateral."""
    short = random["collateral"] < 0.9 * random["method_collateral"]
    return (
        f"random edits of less collateral, {random['collateral']:.3f}" if short else "random edits of equal collateral"
    )


def _against_random(method: Metrics) -> str | None:
    """What the random control says of a method of forgetting; None where it had none."""
    return verdict(method["p_value"], method["random"]["draws"]) if method.get("random") else None


def summary(m: Metrics) -> Summary:
    """Forgetting in words."""
    lines, rows, numbers = [], [], {}
    for name, found in m["methods"].items():
        removal, beats = interval(found["removal"], found["removal_ci"]), _against_random(found)
        control = "no random control" if beats is None else f"{beats} {_rivals(found['random'])}"
        random = found["random"]["removal_mean"] if beats else None
        known = f" ({random:.2f}, p = {found['p_value']:.2g})" if beats else ""
        lines.append(f"{name}: removal {removal}, collateral {found['collateral']:.3f}; {control}{known}")
        cost = interval(found["collateral"], found.get("collateral_ci"), 4)
        rows.append((name, removal, cost, interval(random, None), p_text(found.get("p_value"))))
        if name in ("paper", "patch"):
            numbers[f"removed by {name}"] = f"{removal}, collateral {found['collateral']:.3f}"
    name = "patch" if "patch" in m["methods"] else next(iter(m["methods"]))
    found = m["methods"][name]
    beats = _against_random(found)
    said = f"{name}: no random control" if beats is None else f"{name} {beats} {_rivals(found['random'])}"
    header = ("method", "removal", "collateral", "removal by random edits", "p")
    return Summary(
        verdict=said,
        text="\n".join(lines),
        holds=None if beats is None else beats == "beats",
        numbers=numbers,
        header=header,
        rows=rows,
    )
