"""An insertion in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval, p_text, verdict


def summary(m: Metrics) -> Summary:
    """An insertion in words."""
    success, random = interval(m["success"], m["success_ci"]), m["random"]
    beats = verdict(m["p_value"], random["draws"])
    text = (
        f"{m['variant']} at {', '.join(m['layers'])}, strength {m['strength']:g}: success {success} "
        f"on {m['latents']} samples without {m['concept']} there, collateral {m['collateral']:.3f}; {beats} random edits "
        f"of as much change in the box ({random['success_mean']:.2f}, p = {m['p_value']:.2g})"
    )
    rows = [
        ("success", success), ("of random edits", f"{random['success_mean']:.2f}"), ("p", p_text(m["p_value"])),
        ("collateral", interval(m["collateral"], m["collateral_ci"], 4)),
    ]  # fmt: skip
    return Summary(
        verdict=f"{m['concept']}: {beats} random edits",
        text=text,
        holds=beats == "beats",
        numbers={"success": success},
        rows=rows,
    )
