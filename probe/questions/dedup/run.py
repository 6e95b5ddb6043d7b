"""Which images of a source repeat another one: section 4.1 of the paper, with its recall on copies planted here.

A million images stream: held are their hashes (16 bytes each), the indices of the kept, and blocks of pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.measures import hashing
from probe.measures import statistics as measures
from probe.measures.hashing import SIDE, Training
from probe.measures.statistics import Array
from probe.questions.dedup.matching import Hashed, Matches, Rule, first_match, leaders, same_hash
from probe.questions.dedup.planting import plant
from probe.results.result import Result

Report = Callable[[str, int, int], None]
_DOUBTFUL, _GROUPS, _MEMBERS = 24, 5, 14  # pairs, groups and images of a group that the sheet shows


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run: the rule (differing bits, least likeness), or the paper's own where `plain`; the autoencoder's training; copies planted of each kind."""

    radius: int = 18
    likeness: float = 0.76
    plain: bool = False
    steps: int = 2000
    corruption: float = 0.3
    dropout: float = 0.5
    planted: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.radius <= 40 and -1 <= self.likeness <= 1 and self.steps >= 1 and self.planted >= 1):
            raise ProbeError(
                f"radius {self.radius}, likeness {self.likeness}, steps {self.steps}, planted {self.planted}: "
                "expected 0 to 40 of 128 bits, -1 to 1, and at least 1 of the others"
            )
        if not (0 <= self.corruption <= 10 and 0 <= self.dropout < 1):
            raise ProbeError(
                f"corruption {self.corruption}, dropout {self.dropout}: expected 0 to 10, and 0 to below 1"
            )


_ASSUMED = (
    "the paper gives neither noise, dropout nor length: Gaussian noise and dropout on the code as in the settings, Adam, batch 128",
    "each image is centred and scaled to unit deviation before it is coded, so that brightness and contrast move no bit",
    "a bit is an active ReLU unit (threshold 0); the paper's rule is equal hashes, in the result as `plain`",
    "ours, not the paper's: hashes may differ in `radius` bits, and the pixels of a pair must then agree (`likeness`)",
    "images are taken in their order, and each removed one repeats a kept one; compared are at most the 32 nearest hashes of those kept before a "
    "block of 2,048, 32 of its block, and those of up to 63 neighbours",
)


def dedup(
    images: Any, name: str, settings: Settings | None = None, distinct: bool = False, report: Report | None = None
) -> Result:
    """Find the images of a source (N, 3, 32, 32) uint8 that repeat an earlier one.

    `distinct` says that no two of them show the same thing (as rooms do not), so that every removal is wrong. Arrays:
    `removed`, `kept` (R,) indices, `distance` (R,) bits, `likeness` (R,); `doubtful` (P, 2, 3, 32, 32) kept and removed
    image of the least alike, `groups` (G, M, 3, 32, 32) the largest, `group_sizes` (G,). Raises ProbeError for images of another shape or too few.
    """
    s, tell = settings or Settings(), report or (lambda *_: None)
    if images.shape[1:] != (3, SIDE, SIDE) or len(images) < 2:
        raise ProbeError(f"{name}: images of {tuple(images.shape)}; expected at least 2 of (3, {SIDE}, {SIDE})")
    network = hashing.fit(
        images, Training(s.steps, s.corruption, s.dropout, s.seed), lambda i, n: tell("fitting", i, n)
    )
    codes = hashing.hashes(network, images, lambda i, n: tell("hashing", i, n))
    first, order = same_hash(codes), np.arange(len(images))
    every, rule = Hashed(codes, images, order), Rule(s.radius, s.likeness)
    if s.plain:
        gone = np.flatnonzero(first != order)
        found = Matches(gone, first[gone], np.zeros(len(gone), np.int64), np.full(len(gone), np.nan, np.float32))
    else:
        found = leaders(every, rule, lambda i, n: tell("comparing", i, n))
    ours, plain = recall(lambda x: hashing.hashes(network, x), every, found, rule, s)
    ours = plain if s.plain else ours
    groups, sizes = np.unique(found.kept, return_counts=True)
    metrics = {
        "images": len(images), "removed": len(found.removed), "groups": len(groups),
        "largest_group": int(sizes.max() + 1) if len(sizes) else 0,
        "false_positive_rate": 1.0 if distinct and len(found.removed) else None, **ours,
        "plain": {"removed": int((first != order).sum()), "groups": len(np.unique(first[first != order])), **plain},
        "planted": min(s.planted, len(images)),
    }  # fmt: skip
    arrays = {"removed": found.removed, "kept": found.kept, "distance": found.distance, "likeness": found.likeness}
    return Result("dedup", metrics, asdict(s), list(_ASSUMED), {}, arrays | _sheet(images, found, groups, sizes))


def recall(
    hashes: Callable[[Array], Array], every: Hashed, found: Matches, rule: Rule, s: Settings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`recall` and `recall_ci` of planted copies by kind: the rule's, and that of equal hashes.

    A copy counts where it would be removed for its original, or for the image that its original was removed for.
    `hashes` turns images into rows like those of `every`; `found` is what was removed of it.
    """
    n, kept = min(s.planted, len(every)), every[np.setdiff1d(every.index, found.removed)]
    originals = np.sort(np.random.default_rng(s.seed).choice(len(every), n, replace=False))
    keeper = np.arange(len(every))
    keeper[found.removed] = found.kept
    ours: dict[str, Any] = {"recall": {}, "recall_ci": {}}
    plain: dict[str, Any] = {"recall": {}, "recall_ci": {}}
    for kind, copies in plant(every.images[originals], s.seed).items():
        codes = hashes(copies)
        same = int((codes == every.hashes[originals]).all(1).sum())
        matched = first_match(Hashed(codes, copies, np.arange(n)), kept, rule)
        right = kept.index[matched.kept] == keeper[originals[matched.removed]]
        hits = len(np.unique(matched.removed[right]))
        for made, number in ((ours, hits), (plain, same)):
            made["recall"][kind], made["recall_ci"][kind] = number / n, measures.share_ci(number, n)
    return ours, plain


def _sheet(images: Any, found: Matches, groups: Array, sizes: Array) -> dict[str, Array]:
    """What the figure shows: the least alike pairs, and the largest groups, the kept image first."""
    doubtful = np.argsort(found.likeness, kind="stable")[:_DOUBTFUL]
    pairs = np.stack([images[found.kept[doubtful]], images[found.removed[doubtful]]], 1)
    largest = np.argsort(-sizes, kind="stable")[:_GROUPS]
    shown = np.full((len(largest), _MEMBERS, 3, SIDE, SIDE), 255, np.uint8)
    for row, group in zip(shown, groups[largest], strict=True):
        members = np.append(group, found.removed[found.kept == group])[:_MEMBERS]
        row[: len(members)] = images[members]
    return {
        "doubtful": pairs,
        "doubtful_likeness": found.likeness[doubtful],
        "groups": shown,
        "group_sizes": sizes[largest] + 1,
    }
