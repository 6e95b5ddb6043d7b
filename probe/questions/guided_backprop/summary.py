"""What the discriminator's units see, in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval


def summary(m: Metrics) -> Summary:
    """What the discriminator's units see, in words."""
    sane = m["sanity"]
    lines = [
        f"{m['layer']}, {m['maps_total']} units, {m['images']} images, rule {m['rule']}: {m['activations_replaced']} activations replaced, "
        f"difference from the plain gradient {m['difference_from_gradient']:.2f}"
    ]
    similarity = interval(sane["spearman"], sane.get("spearman_ci"))
    if sane["spearman"] is None:
        lines.append("sanity fail: no gradient under random weights")
    else:
        verb = "stays below" if sane["verdict"] == "pass" else "does NOT stay below"
        lines.append(
            f"sanity {sane['verdict']}: with all layers random the picture's absolute Spearman similarity is {similarity}; "
            f"{verb} {sane['threshold']}"
        )
        lines += [
            f"  {name}: {row['spearman']:.2f}" for name, row in sane["rows"].items() if row["spearman"] is not None
        ]
    words = {unit: row["concept"] for unit, row in m["concepts"].items() if row["concept"]}
    if words and len(words) <= 12:
        lines.append("units named: " + ", ".join(f"{unit} {word}" for unit, word in words.items()))
    elif words:
        lines.append(f"units named: {len(words)} of {len(m['concepts'])}")
    rows = [(name, interval(row["spearman"], row.get("spearman_ci"))) for name, row in sane.get("rows", {}).items()]
    passed = sane["verdict"] == "pass"
    said = (
        f"the picture {'depends' if passed else 'does NOT clearly depend'} on the weights (limit {sane['threshold']})"
    )
    numbers = {"similarity to random weights": similarity}
    return Summary(
        verdict=said,
        text="\n".join(lines),
        holds=passed,
        numbers=numbers,
        header=("compared with", "absolute Spearman similarity"),
        rows=rows,
    )
