"""The test for copies in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval


def summary(m: Metrics) -> Summary:
    """The test for copies in words."""
    floor = f" at >= {m['floor']:.0%}" if m["floor"] else ""
    said, lines, rows = f"{m['verdict']}{floor}", [f"{m['verdict']}{floor}: {m['reason']}"], []
    numbers = {}
    if m["p_value"] is not None:
        low, high = m["copy_share_ci"]
        share = f"{m['copy_share']:.1%} [{low:.1%}, {high:.1%}]"
        lines.append(f"p = {m['p_value']:.3g}; share of copies {share}; C_T {m['ct']:.1f}")
        rows += [("p", f"{m['p_value']:.3g}"), ("share of copies", share), ("C_T", f"{m['ct']:.1f}")]
        numbers = {"share of copies": share, "p": f"{m['p_value']:.3g}"}
    if m.get("most_hits"):  # older results have none
        hits = f"{m['most_hits']['train']} of one training image, {m['most_hits']['holdout']} of one held-out image"
        lines.append(f"near-copies, at most: {hits} (p = {m['p_hits']:.3g}); both criteria p = {m['p_combined']:.3g}")
        rows += [("most near-copies", hits), ("p of near-copies", f"{m['p_hits']:.3g}")]
    lines.append(
        f"authenticity {m['authenticity']:.2f}; {m['samples']} samples, {m['train_images']} training and "
        f"{m['holdout_images']} held-out images, distance in {m['distance']}. No guarantee of privacy."
    )
    near = [f"sample {s['sample']} to {s['train']}" for s in m.get("suspects", [])[:3]]
    lines += [f"nearest to training images: {', '.join(near)}"] if near else []
    rows += [("authenticity", interval(m["authenticity"], m.get("authenticity_ci"))), ("samples", str(m["samples"]))]
    rows += [("training images", str(m["train_images"])), ("held-out images", str(m["holdout_images"]))]
    holds = {"detected": False, "not detected": True}.get(m["verdict"])
    return Summary(verdict=said, text="\n".join(lines), holds=holds, numbers=numbers, rows=rows)
