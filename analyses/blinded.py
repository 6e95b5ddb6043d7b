"""Pictures judged by eye in a blinded order: the contact sheets that observers see, and what their answers come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from probe.measures.statistics import mean_ci, share_ci


def sheets(
    images: np.ndarray, order: np.ndarray, folder: Path, columns: int = 8, rows: int = 6, side: int = 148
) -> None:
    """Numbered contact sheets in the blinded order, each picture `side` pixels wide."""
    folder.mkdir(parents=True, exist_ok=True)
    each, (w, h) = columns * rows, (side + 4, side + 22)
    for page in range(-(-len(order) // each)):
        sheet = Image.new("RGB", (columns * w, rows * h), "white")
        pen = ImageDraw.Draw(sheet)
        for k, item in enumerate(order[page * each :][:each]):
            y, x = divmod(k, columns)
            sheet.paste(Image.fromarray(images[item].transpose(1, 2, 0)).resize((side, side)), (x * w, y * h + 18))
            pen.text((x * w + 4, y * h), str(page * each + k), fill="black")
        sheet.save(folder / f"sheet{page:02d}.png")


def seen(answers: list[dict[str, list[int]]], what: str, order: np.ndarray) -> np.ndarray:
    """What each observer said of each item, (observers, items), the items as they were before they were ordered."""
    return np.array([a[what] for a in answers])[:, np.argsort(order)]


def agreement(answers: list[dict[str, list[int]]]) -> dict[str, float]:
    """Of each thing asked: the share of the pictures on which two observers agree, over all pairs of them."""
    pairs = list(combinations(answers, 2))
    return {k: float(np.mean([np.equal(a[k], b[k]) for a, b in pairs])) for k in answers[0]}


@dataclass(frozen=True)
class Judged:
    """Observers' answers on n samples, as shares (conditions, n); the first `positives` samples show the concept."""

    seen: np.ndarray
    damaged: np.ndarray
    positives: int

    @classmethod
    def of(cls, answers: list[dict[str, list[int]]], order: np.ndarray, concept: str, positives: int, n: int) -> Judged:
        """The means over observers, of answers in a blinded order."""
        found, damaged = (seen(answers, k, order).mean(0).reshape(-1, n) for k in (concept, "damaged"))
        return cls(found, damaged, positives)


def rates(judged: Judged, conditions: Sequence[str]) -> dict[str, dict[str, object]]:
    """Of each condition: concept seen in positives and in others, samples damaged; with intervals over samples."""
    out: dict[str, dict[str, object]] = {}
    for c, condition in enumerate(conditions):
        rates = {
            "seen_on_positives": judged.seen[c, : judged.positives],
            "seen_on_others": judged.seen[c, judged.positives :],
            "damaged": judged.damaged[c],
            "damaged_beyond_before": judged.damaged[c] - judged.damaged[0],
        }
        out[condition] = {k: float(v.mean()) for k, v in rates.items()} | {
            f"{k}_ci": mean_ci(v) for k, v in rates.items()
        }
    return out


def difference(judged: Judged, a: int, b: int) -> dict[str, object]:
    """Of two conditions by number, the first less the second on the same samples, with intervals."""
    less = {
        "seen_on_positives": (judged.seen[a] - judged.seen[b])[: judged.positives],
        "damaged": judged.damaged[a] - judged.damaged[b],
    }
    return {k: float(v.mean()) for k, v in less.items()} | {f"{k}_ci": mean_ci(v) for k, v in less.items()}


def counts(
    answers: dict[str, list[int]],
    order: np.ndarray,
    promises: dict[str, tuple[str, ...]],
    conditions: Sequence[str],
    repeats: int,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, object]]]:
    """Who kept the promise, (repeats,) by example and condition; and the counts with intervals over repetitions."""
    place = np.argsort(order)  # where a picture was shown
    seen = {k: np.array(v)[place].reshape(-1, repeats) for k, v in answers.items()}
    kept, row = {}, 0
    for title, promised in promises.items():
        for name in conditions:
            kept[f"{title}/{name}"] = np.all([_shows(seen, word, row) for word in promised], 0)
            row += 1
    for name in ("turn", "random"):
        kept[name] = (seen["facing"][row] < 0) & (seen["facing"][row + 1] > 0)
        row += 2
    return kept, {
        k: {"kept": int(v.sum()), "of": repeats, "ci": share_ci(int(v.sum()), repeats)} for k, v in kept.items()
    }


def _shows(seen: dict[str, np.ndarray], word: str, row: int) -> np.ndarray:
    return seen["man"][row] == 0 if word == "woman" else seen[word][row] == 1
