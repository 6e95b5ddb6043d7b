"""What a result says, in words and in a small table: printed by the command, shown by notebooks and by the report.

    summarise(result)    Summary: verdict, key numbers, table, and the lines that the command prints
    verdict(p, draws)    what a random control says

It reads the published metrics alone, so a result from disk says the same as a fresh one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from probe.results.result import Result

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """A `verdict` in a few words, key `numbers` by name, a table of `header` and `rows`, and all of it as `text`.

    `holds` is whether the control says yes (True), no (False), or there is nothing to judge (None).
    """

    verdict: str
    text: str
    holds: bool | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)
    header: Sequence[str] = ("measure", "value")
    rows: Sequence[Sequence[str]] = ()


def interval(value: float | None, ends: Sequence[float] | None, digits: int = 2) -> str:
    """A number with its 95 % interval: `0.98 [0.96, 0.99]`; an en dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text if ends is None else f"{text} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def verdict(p_value: float, draws: int) -> str:
    """What a random control says: whether a method beats random edits, or that there were too few to tell."""
    if 1 / (draws + 1) >= 0.05:
        return f"too few draws to tell ({draws}; 20 or more) from"
    return "beats" if p_value < 0.05 else "does NOT beat"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _sample(m: Metrics) -> Summary:
    return Summary("drawn, nothing to judge", f"{m['images']} samples", numbers={"samples": str(m["images"])})


def _walk(m: Metrics) -> Summary:
    resolved = "resolved" if m["resolved"] else "not resolved: a jump that finer steps do not divide"
    p = "none (fewer than 19 --null generators)" if m["p_value"] is None else f"{m['p_value']:.2g}"
    text = (
        f"largest step / median {m['max_over_median']:.2f}, p {p}; plateaus {m['plateau_share']:.1%}; order {m['order']:.2f} ({resolved})\n"
        f"sharp transitions: {m['sharp_transitions']}; path length (PPL, {m['feature']}) {m['ppl']:.3g} "
        f"[{m['ppl_ci'][0]:.3g}, {m['ppl_ci'][1]:.3g}]"
    )
    sharp = m["sharp_transitions"]
    ratio, ppl = f"{m['max_over_median']:.2f}", f"{m['ppl']:.3g} [{m['ppl_ci'][0]:.3g}, {m['ppl_ci'][1]:.3g}]"
    rows = [
        ("largest step / median", ratio), ("p-value", _p(m["p_value"])), ("sharp transitions", str(sharp)),
        ("plateaus", f"{m['plateau_share']:.1%}"), ("order", f"{m['order']:.2f}"), ("path length (PPL)", ppl),
    ]  # fmt: skip
    said = f"{sharp} sharp transition{'s' * (sharp != 1)}" if sharp else "smooth: no sharp transition"
    return Summary(
        said, text, not sharp, {"largest step / median": ratio, "path length (PPL)": ppl}, ("measure", "value"), rows
    )


def _guided(m: Metrics) -> Summary:
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
    return Summary(said, "\n".join(lines), passed, numbers, ("compared with", "absolute Spearman similarity"), rows)


def _dissect(m: Metrics) -> Summary:
    lines, rows = [], []
    for name, concept in m["concepts"].items():
        best, random, p = concept["units"][0], concept["random"], concept["p_value"]
        effect = "" if best["effect"] is None else f", effect {best['effect']:+.4f}"
        iou = interval(best["iou"], best["iou_ci"], 3)
        lines.append(
            f"{name}: unit {best['unit']}, IoU {iou}{effect}; best of shuffled images {random['best_iou_mean']:.3f}, "
            f"p = {_p(p)}; {concept['detectors']} units above its 95th percentile"
        )
        shuffled = f"{random['best_iou_mean']:.3f}"
        rows.append((name, str(best["unit"]), iou, shuffled, _p(p), str(concept["detectors"])))
    found = sum(concept["p_value"] < 0.05 for concept in m["concepts"].values())
    said = f"a unit beyond chance for {found} of {len(rows)} concepts, in {m['layer']}"
    header = ("concept", "best unit", "IoU", "best of shuffled", "p", "units beyond chance")
    first = max(m["concepts"].items(), key=lambda item: float(item[1]["best_iou"]))
    numbers = {f"best IoU ({first[0]})": interval(first[1]["best_iou"], first[1]["best_iou_ci"], 3)}
    return Summary(said, "\n".join(lines), found > 0, numbers, header, rows)


def _ablate(m: Metrics) -> Summary:
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
        rows.append((name, ratio, "–" if mean is None else f"{mean:.2f}", _p(o["p_value"])))
    header = ("object", "area after / before", "random maps", "p")
    return Summary(
        f"{len(m['units'])} maps of {m['layer']} changed", "\n".join(lines), None, {"mean change": change}, header, rows
    )


def _comma_p(value: float | None) -> str:
    return "" if value is None else f", p = {value:.2g}"


def _insert(m: Metrics) -> Summary:
    success, random = interval(m["success"], m["success_ci"]), m["random"]
    beats = verdict(m["p_value"], random["draws"])
    text = (
        f"{m['variant']} at {', '.join(m['layers'])}, strength {m['strength']:g}: success {success} "
        f"on {m['latents']} samples without {m['concept']} there, collateral {m['collateral']:.3f}; {beats} random edits "
        f"of as much change in the box ({random['success_mean']:.2f}, p = {m['p_value']:.2g})"
    )
    rows = [
        ("success", success), ("of random edits", f"{random['success_mean']:.2f}"), ("p", _p(m["p_value"])),
        ("collateral", interval(m["collateral"], m["collateral_ci"], 4)),
    ]  # fmt: skip
    return Summary(
        f"{m['concept']}: {beats} random edits",
        text,
        beats == "beats",
        {"success": success},
        ("measure", "value"),
        rows,
    )


def _forget(m: Metrics) -> Summary:
    lines, rows, numbers = [], [], {}
    for name, found in m["methods"].items():
        removal, beats = interval(found["removal"], found["removal_ci"]), _against_random(found)
        control = "no random control" if beats is None else f"{beats} {_rivals(found['random'])}"
        random = found["random"]["removal_mean"] if beats else None
        known = f" ({random:.2f}, p = {found['p_value']:.2g})" if beats else ""
        lines.append(f"{name}: removal {removal}, collateral {found['collateral']:.3f}; {control}{known}")
        cost = interval(found["collateral"], found.get("collateral_ci"), 4)
        rows.append((name, removal, cost, interval(random, None), _p(found.get("p_value"))))
        if name in ("paper", "patch"):
            numbers[f"removed by {name}"] = f"{removal}, collateral {found['collateral']:.3f}"
    name = "patch" if "patch" in m["methods"] else next(iter(m["methods"]))
    found = m["methods"][name]
    beats = _against_random(found)
    said = f"{name}: no random control" if beats is None else f"{name} {beats} {_rivals(found['random'])}"
    header = ("method", "removal", "collateral", "removal by random edits", "p")
    return Summary(said, "\n".join(lines), None if beats is None else beats == "beats", numbers, header, rows)


def _rivals(random: Metrics) -> str:
    """Random edits in words; sets of maps that are at zero already may fall short of the method's collateral."""
    short = random["collateral"] < 0.9 * random["method_collateral"]
    return (
        f"random edits of less collateral, {random['collateral']:.3f}" if short else "random edits of equal collateral"
    )


def _against_random(method: Metrics) -> str | None:
    """What the random control says of a method of forgetting; None where it had none."""
    return verdict(method["p_value"], method["random"]["draws"]) if method.get("random") else None


_SHOULD_FAIL = {"random_direction": "random directions", "shuffled": "shuffled labels"}


def _unbeaten(m: Metrics, n: str) -> list[str] | None:
    """Of the controls that should fail those that success does not clear, interval above interval; None where nothing is judged."""
    if not m["success"]:
        return None
    low = m["success_ci"][n][0]
    return [words for name, words in _SHOULD_FAIL.items() if low <= m["controls"][name]["success_ci"][n][1]]


def _said(unbeaten: Sequence[str] | None) -> str:
    if unbeaten is None:
        return "drawn, not judged: no segmenter knows these concepts"
    if unbeaten:
        return f"does NOT clearly beat {' and '.join(unbeaten)}"
    return f"succeeds beyond {' and '.join(_SHOULD_FAIL.values())}"


def _arithmetic(m: Metrics) -> Summary:
    n, lines, rows, numbers, unbeaten = str(m["shown"]), [], [], {}, list[list[str]]()
    header = ["expression", f"success, {n} exemplars"]
    for name, found in m["expressions"].items():
        missed = _unbeaten(found, n)
        if missed is None:
            lines.append(f"{name}: not judged")
            rows.append([name, "not judged"])
            continue
        unbeaten.append(missed)
        success = interval(found["success"][n], found["success_ci"][n])
        named = {key.replace("_", " "): c["success"][n] for key, c in found["controls"].items()}
        controls = ", ".join(f"{key} {value:.2f}" for key, value in named.items())
        lines.append(f"{name} = {found['expected']}: success {success} with {n} exemplars; {controls}")
        header = [*header[:2], *named]
        rows.append([name, success, *(f"{value:.2f}" for value in named.values())])
        numbers[name] = success
    every = list(dict.fromkeys(itertools.chain(*unbeaten))) if unbeaten else None
    return Summary(_said(every), "\n".join(lines), None if every is None else not every, numbers, header, rows)


def _turn(m: Metrics) -> Summary:
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
    unbeaten = _unbeaten(m, n) if success else None
    header = ("method", "R²", "never falls", "target, sd", "others, sd")
    return Summary(_said(unbeaten), "\n".join(lines), None if unbeaten is None else not unbeaten, numbers, header, rows)


def _memorization(m: Metrics) -> Summary:
    floor = f" at >= {m['floor']:.0%}" if m["floor"] else ""
    said, lines, rows = f"{m['verdict']}{floor}", [f"{m['verdict']}{floor}: {m['reason']}"], []
    numbers = {}
    if m["p_value"] is not None:
        low, high = m["copy_share_ci"]
        share = f"{m['copy_share']:.1%} [{low:.1%}, {high:.1%}]"
        lines.append(f"p = {m['p_value']:.3g}; share of copies {share}; C_T {m['ct']:.1f}")
        rows += [("p", f"{m['p_value']:.3g}"), ("share of copies", share), ("C_T", f"{m['ct']:.1f}")]
        numbers = {"share of copies": share, "p": f"{m['p_value']:.3g}"}
    lines.append(
        f"authenticity {m['authenticity']:.2f}; {m['samples']} samples, {m['train_images']} training and "
        f"{m['holdout_images']} held-out images, distance in {m['distance']}. No guarantee of privacy."
    )
    rows += [("authenticity", interval(m["authenticity"], m.get("authenticity_ci"))), ("samples", str(m["samples"]))]
    rows += [("training images", str(m["train_images"])), ("held-out images", str(m["holdout_images"]))]
    holds = {"detected": False, "not detected": True}.get(m["verdict"])
    return Summary(said, "\n".join(lines), holds, numbers, ("measure", "value"), rows)


def _evaluate(m: Metrics) -> Summary:
    named = "FID" if m["measure"] == "FID" else "Fréchet distance"
    columns, rows = ("samples", "floor", "ceiling"), []
    for key, name in (("fid", named), ("kid", "KID"), ("precision", "precision"), ("recall", "recall")):
        parts = [m, m["floor"], m["ceiling"]]
        rows.append((name, *(f"{p[key]:.3g} [{p[f'{key}_ci'][0]:.3g}, {p[f'{key}_ci'][1]:.3g}]" for p in parts)))
    wide = 2 + max(len(cell) for row in rows for cell in row[1:])
    lines = [
        f"{m['measure']}; {m['n']} images a set; reference: {m['reference']}",
        *(f"{row[0]:17}" + "".join(f"{cell:>{wide}}" for cell in row[1:]) for row in [("", *columns), *rows]),
    ]
    numbers = {name: row for name, row, *_ in rows}
    said = f"compared in features of {m['backbone']}, nothing to judge"
    return Summary(said, "\n".join(lines), None, numbers, ("measure", *columns), rows)


def _classify(m: Metrics) -> Summary:
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
        f"D's features {beats} those of random weights", "\n".join(lines), holds, {"accuracy": rows[0][1]}, header, rows
    )


def _dedup(m: Metrics) -> Summary:
    lines = [f"{m['removed']} of {m['images']} images repeat one of {m['groups']} others"]
    if m["false_positive_rate"] is not None and "false_positive_ci" not in m:
        lines.append("no two rooms are alike, so every one of these removals is wrong")
    lines.append("planted copies found, and by equal hashes alone:")
    rows = [
        (kind, interval(value, m["recall_ci"][kind]), f"{m['plain']['recall'][kind]:.2f}")
        for kind, value in m["recall"].items()
    ]
    lines += [f"  {kind:9} {found}   {equal}" for kind, found, equal in rows]
    header = ("planted copies", "found", "by equal hashes")
    return Summary(f"{m['removed']} of {m['images']} images repeat another", "\n".join(lines), None, {}, header, rows)


SUMMARIES: dict[str, Callable[[Metrics], Summary]] = {
    "sample": _sample, "walk": _walk, "guided-backprop": _guided, "dissect": _dissect, "ablate": _ablate,
    "insert": _insert, "forget": _forget, "arithmetic": _arithmetic, "turn": _turn, "memorization": _memorization,
    "evaluate": _evaluate, "classify": _classify, "dedup": _dedup,
}  # fmt: skip


def summarise(result: Result) -> Summary:
    """What a result says; of a command without words of its own, its plain numbers."""
    metrics = result.document()["metrics"]
    if result.command in SUMMARIES:
        return SUMMARIES[result.command](metrics)
    rows = [(name, f"{v:.4g}" if isinstance(v, float) else str(v)) for name, v in metrics.items() if _is_plain(v)]
    lines = "\n".join(f"{name}: {value}" for name, value in rows)
    return Summary(result.command, lines or result.command, header=("measure", "value"), rows=rows)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)
