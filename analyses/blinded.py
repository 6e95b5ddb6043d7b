"""Pictures judged by eye in a blinded order: the contact sheets that observers see, and what their answers come to."""

from __future__ import annotations

from collections.abc import Sequence
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
    """What each observer said of each item, (observers, items), the items as they were before they were put in an order."""
    return np.array([a[what] for a in answers])[:, np.argsort(order)]


def agreement(answers: list[dict[str, list[int]]]) -> dict[str, float]:
    """Share of the pictures on which two observers agree, over all pairs of them."""
    pairs = list(combinations(answers, 2))
    return {k: float(np.mean([np.equal(a[k], b[k]) for a, b in pairs])) for k in ("glasses", "damaged")}


def rates(
    answers: list[dict[str, list[int]]], order: np.ndarray, conditions: Sequence[str], wearers: int, n: int
) -> dict[str, dict[str, object]]:
    """Of each condition: glasses seen on wearers and others, faces damaged; each with its interval over faces."""
    found = {k: seen(answers, k, order).mean(0).reshape(len(conditions), n) for k in ("glasses", "damaged")}
    out: dict[str, dict[str, object]] = {}
    for c, condition in enumerate(conditions):
        rates = {
            "glasses_on_wearers": found["glasses"][c, :wearers],
            "glasses_on_others": found["glasses"][c, wearers:],
            "damaged": found["damaged"][c],
            "damaged_beyond_before": found["damaged"][c] - found["damaged"][0],
        }
        out[condition] = {k: float(v.mean()) for k, v in rates.items()} | {
            f"{k}_ci": mean_ci(v) for k, v in rates.items()
        }
    return out


def difference(
    answers: list[dict[str, list[int]]], order: np.ndarray, pair: tuple[int, int], wearers: int, n: int
) -> dict[str, object]:
    """Of two conditions by number, the first less the second on the same faces: glasses on wearers, faces damaged; with intervals."""
    found = {k: seen(answers, k, order).mean(0).reshape(-1, n) for k in ("glasses", "damaged")}
    a, b = pair
    less = {
        "glasses_on_wearers": (found["glasses"][a] - found["glasses"][b])[:wearers],
        "damaged": found["damaged"][a] - found["damaged"][b],
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
