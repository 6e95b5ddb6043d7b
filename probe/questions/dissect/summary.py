"""A dissection in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary, interval, p_text


def summary(m: Metrics) -> Summary:
    """A dissection in words."""
    lines, rows = [], []
    for name, concept in m["concepts"].items():
        best, random, p = concept["units"][0], concept["random"], concept["p_value"]
        effect = "" if best["effect"] is None else f", effect {best['effect']:+.4f}"
        iou = interval(best["iou"], best["iou_ci"], 3)
        lines.append(
            f"{name}: unit {best['unit']}, IoU {iou}{effect}; best of shuffled images {random['best_iou_mean']:.3f}, "
            f"p = {p_text(p)}; {concept['detectors']} units above its 95th percentile"
        )
        shuffled = f"{random['best_iou_mean']:.3f}"
        rows.append((name, str(best["unit"]), iou, shuffled, p_text(p), str(concept["detectors"])))
    found = sum(concept["p_value"] < 0.05 for concept in m["concepts"].values())
    said = f"a unit beyond chance for {found} of {len(rows)} concepts, in {m['layer']}"
    header = ("concept", "best unit", "IoU", "best of shuffled", "p", "units beyond chance")
    first = max(m["concepts"].items(), key=lambda item: float(item[1]["best_iou"]))
    numbers = {f"best IoU ({first[0]})": interval(first[1]["best_iou"], first[1]["best_iou_ci"], 3)}
    return Summary(verdict=said, text="\n".join(lines), holds=found > 0, numbers=numbers, header=header, rows=rows)
