"""Latent arithmetic in words."""

from __future__ import annotations

import itertools

from probe.results.summary import Metrics, Summary, interval, success_said, unbeaten


def summary(m: Metrics) -> Summary:
    """Latent arithmetic in words."""
    n, lines, rows, numbers, failed = str(m["shown"]), [], [], {}, list[list[str]]()
    header = ["expression", f"success, {n} exemplars"]
    for name, found in m["expressions"].items():
        missed = unbeaten(found, n)
        if missed is None:
            lines.append(f"{name}: not judged")
            rows.append([name, "not judged"])
            continue
        failed.append(missed)
        success = interval(found["success"][n], found["success_ci"][n])
        named = {key.replace("_", " "): c["success"][n] for key, c in found["controls"].items()}
        controls = ", ".join(f"{key} {value:.2f}" for key, value in named.items())
        lines.append(f"{name} = {found['expected']}: success {success} with {n} exemplars; {controls}")
        header = [*header[:2], *named]
        rows.append([name, success, *(f"{value:.2f}" for value in named.values())])
        numbers[name] = success
    every = list(dict.fromkeys(itertools.chain(*failed))) if failed else None
    return Summary(
        verdict=success_said(every),
        text="\n".join(lines),
        holds=None if every is None else not every,
        numbers=numbers,
        header=header,
        rows=rows,
    )
