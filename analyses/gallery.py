"""figures/README.md: every figure small, what the paper has, and what ours came to, read from the results (seconds)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analyses.common import FIGURES
from probe.results.result import load

Metrics = dict[str, Any]
LONG = {  # recipes that take long and are run on request: what they make, how long, when they were last run
    "train_rooms": ("the built-in checkpoint rooms", "over an hour", "2026-11-23"),
    "train_rooms_2": ("the built-in checkpoint rooms@2", "about four hours", "2026-12-01"),
    "train_segmenters": ("the segmenters of an edition of rooms", "20 minutes", "2026-12-01"),
    "train_discriminators": (
        "the discriminators of table1_cifar10 and table1_fashion",
        "40 minutes each",
        "2026-11-26",
    ),
    "train_copiers": ("the five generators of memorization_validation", "30 minutes", "2026-11-25"),
}


def interval(value: float, ends: list[float], digits: int = 2) -> str:
    return f"{value:.{digits}f} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def number(m: Metrics, key: str) -> str:
    return interval(m[key], m[f"{key}_ci"])


def forgetting(m: Metrics) -> str:
    return "; ".join(
        f"{name} removes {number(m['methods'][name], 'removal')} at {m['methods'][name]['collateral']:.3f}"
        for name in ("patch", "paper", "finetune", "leace") if name in m["methods"]
    )  # fmt: skip


def walk(m: Metrics) -> str:
    return f"largest step over median {m['max_over_median']:.2f}, {m['sharp_transitions']} sharp transitions"


def guided(m: Metrics) -> str:
    s = m["sanity"]
    return f"sanity {s['verdict']}: similarity with random weights {number(s, 'spearman')}, limit {s['threshold']}"


def arithmetic(m: Metrics) -> str:
    judged = {name: e for name, e in m["expressions"].items() if e.get("success")}
    rates = (f"{name}: {interval(e['success']['3'], e['success_ci']['3'])}" for name, e in judged.items())
    return "success with three exemplars: " + "; ".join(rates) if judged else "looked at, see faces_repeats"


def turning(m: Metrics) -> str:
    if not m.get("success"):
        return "looked at, see faces_repeats"
    n = str(m["shown"])
    return f"R² {number(m, 'r2')}, success {interval(m['success'][n], m['success_ci'][n])}"


def methods(m: Metrics) -> str:
    if "methods" not in m or "target_change" not in m["methods"]["means"]:
        return turning(m)
    change = {name: row["target_change"] for name, row in m["methods"].items()}
    return "change of the target (s.d.): " + ", ".join(f"{name} {value:.2f}" for name, value in change.items())


def copies(m: Metrics) -> str:
    return f"{m['verdict']}, p = {m['p_value']:.2g}, share of copies {number(m, 'copy_share')}"


def validation(m: Metrics) -> str:
    power = ", ".join(f"{share} %: {rate:g}" for share, rate in m["power"].items())
    false = interval(m["false_alarm_rate"], m["false_alarm_ci"], 3)
    return f"false alarms {false} at 0.05; planted copies detected, {power}"


def study(m: Metrics) -> str:
    seen = (f"{name} {number(c, 'seen_on_positives')} / {number(c, 'damaged')}" for name, c in m["conditions"].items())
    concept = next(asked for asked in m["agreement"] if asked != "damaged")
    return f"{concept} seen in positives / images damaged: " + "; ".join(seen)


def repeats(m: Metrics) -> str:
    return "; ".join(f"{name} {c['kept']} of {c['of']}" for name, c in m["counts"].items())


def dissection(m: Metrics) -> str:
    return "best IoU: " + ", ".join(
        f"{name} {c['best_iou']:.2f} (p = {c['p_value']:.2g})" for name, c in m["concepts"].items()
    )


def classes(m: Metrics) -> str:
    rows = {"D's features": m, **m["baselines"]}
    return "; ".join(f"{name.replace('_', ' ')} {number(row, 'accuracy')}" for name, row in rows.items())


def duplicates(m: Metrics) -> str:
    wrong = interval(m["false_positive_rate"], m["false_positive_ci"], 3)
    return f"{m['removed']} of {m['images']} images removed, wrong {wrong}"


def samples(m: Metrics) -> str:
    return f"precision {number(m, 'precision')}, recall {number(m, 'recall')}, in features of {m['backbone']}"


def early(m: Metrics) -> str:
    return f"after {m['passes']} of {m['training_images']:,} images each ({m['steps']:,} steps), of rooms@2"


def grid(m: Metrics) -> str:
    return f"corner {number(m, 'corner')}, renders {number(m['real'], 'corner')}"


TABLE1 = "Table 1: 82.8 %, D trained on ImageNet; K-means 80.6 %"
FIG6 = "200 maps dropped, by 52 boxes; judged by eye"
FIG7 = "two examples; judged by eye"
FIG8 = "five rows of faces; judged by eye"
NONE = "not in the paper"
FIGURE: dict[str, tuple[str, str, Callable[[Metrics], str]]] = {  # start of a folder's name: recipe, the paper, ours
    "fig2": ("fig2_samples_early", "Fig. 2: after one pass over 3M images", early),
    "fig3_samples_early": ("fig2_samples_early", "Fig. 3: after five passes over 3M images", early),
    "fig3": ("fig3_samples", "Fig. 3: samples; judged by eye", lambda m: f"{m['images']} samples, not chosen"),
    "fig4_walk": ("fig4_walk", "Fig. 4: smooth; judged by eye", walk),
    "fig5_guided": ("fig5_guided_backprop", "Fig. 5: beds and windows; judged by eye", guided),
    "fig5_svhn": ("fig5_svhn", "Fig. 5, on the authors' SVHN network", guided),
    "fig6": ("fig6_forget_windows", f"Fig. 6: {FIG6}", forgetting),
    "fig7": ("fig7_arithmetic", f"Fig. 7: {FIG7}", arithmetic),
    "fig8_turn": ("fig8_turn", f"Fig. 8: {FIG8}", turning),
    "fig8_methods": ("fig8_turn", NONE, methods),
    "table1_cifar10": ("table1_cifar10", TABLE1, classes),
    "table1_fashion": ("table1_fashion", NONE, classes),
    "dedup": ("dedup_cifar10", "about 275,000 of 3 million removed, wrong below 1 in 100", duplicates),
    "spectrum": ("spectrum_rooms", NONE, grid),
    "evaluate": ("evaluate_rooms", NONE, samples),
    "rivals": ("rivals", NONE, forgetting),
    "faces_arithmetic": ("faces_arithmetic", f"Fig. 7: {FIG7}", arithmetic),
    "faces_turn": ("faces_arithmetic", f"Fig. 8: {FIG8}", turning),
    "faces_repeats": ("faces_repeats", NONE, repeats),
    "faces_glasses": ("faces_glasses", f"Fig. 6: {FIG6}", forgetting),
    "faces_open": ("faces_glasses", f"Fig. 6: {FIG6}", forgetting),
    "glasses_study": ("glasses_study", NONE, study),
    "dissect": ("dissect_rooms", NONE, dissection),
    "ablate": ("ablate_rooms", NONE, lambda m: f"windows left {number(m['objects']['window'], 'ratio')}"),
    "insert": (
        "insert_rooms",
        NONE,
        lambda m: f"success {number(m, 'success')}, random edits {m['random']['success_mean']:.2f}",
    ),
    "memorization_validation": ("memorization_validation", "no test of copies", validation),
    "memorization": ("memorization_validation", "no test of copies", copies),
}


def row(name: str) -> str:
    start = max((start for start in FIGURE if name.startswith(start)), key=len, default="")
    recipe, paper, ours = FIGURE.get(start, ("", NONE, lambda m: f"[numbers]({name}/result.json)"))
    by = f"<br>`analyses/{recipe}.py`" if recipe else ""
    picture = f'<img src="{name}/figure.png" width="220" alt="{name}">'
    return f"| [{picture}]({name}/figure.png) | `{name}`{by} | {paper} | {ours(load(FIGURES / name).metrics)} |"


def text() -> str:
    names = sorted(path.parent.name for path in FIGURES.glob("*/figure.png"))
    head = [
        "# Figures", "", "Drawn by the recipes of `analyses/`; written by `python -m analyses.gallery`. Beside each figure lie its numbers",
        "(`result.json`) and arrays; brackets hold 95 % intervals. Each recipe says at its top how long it takes and "
        "what it needs.",
        "", "| | figure, recipe | the paper | ours |", "|---|---|---|---|",
    ]  # fmt: skip
    slow = [f"| `analyses/{name}.py` | {' | '.join(about)} |" for name, about in LONG.items()]
    tail = ["", "Run on request:", "", "| recipe | makes | takes | last run |", "|---|---|---|---|", *slow, ""]
    return "\n".join([*head, *map(row, names), *tail])


def main() -> None:
    (FIGURES / "README.md").write_text(text(), encoding="utf-8")
    print(f"gallery: {FIGURES / 'README.md'}")


if __name__ == "__main__":
    main()
