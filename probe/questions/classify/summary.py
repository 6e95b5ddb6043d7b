"""Tables 1 and 2 in words."""

from __future__ import annotations

from probe.results.summary import Metrics, Summary


def summary(m: Metrics) -> Summary:
    """Tables 1 and 2 in words."""
    lines, rows = [], []
    for name, found in {"discriminator": m, **m["baselines"]}.items():
        low, high = (100 * v for v in found["accuracy_ci"])
        accuracy = f"{100 * found['accuracy']:.2f} % [{low:.2f}, {high:.2f}]"
        cost = "–" if found["C"] is None else f"{found['C']:g}"
        rows.append((name.replace("_", " "), accuracy, str(found["features"]), cost))
        lines.append(f"{rows[-1][0]}: {accuracy}, {found['features']} features" + f", C = {cost}" * (cost != "–"))
    random = m["baselines"].get("random_weights")
    holds = None if random is None else m["accuracy_ci"][0] > random["accuracy_ci"][1]
    beats = {None: "not compared with", True: "clearly beat", False: "do NOT clearly beat"}[holds]
    header = ("features", "accuracy", "number", "C")
    return Summary(
        verdict=f"D's features {beats} those of random weights",
        text="\n".join(lines),
        holds=holds,
        numbers={"accuracy": rows[0][1]},
        header=header,
        rows=rows,
    )
