"""Near-copies of one image, by that criterion alone: false alarms, and detection by number of copied images (a minute).

Run: python -m analyses.copy_hits
Samples are fresh rooms, or 20 fresh rooms again and again (a collapsed generator); a fifth of them replaced by exact
copies of few training images. How near a near-copy must be (half of the way) was not chosen on these rooms.
"""

from __future__ import annotations

import numpy as np

from probe.data.rooms import scenes as rooms
from probe.measures.features import feature
from probe.measures.neighbours import Rows, nearest
from probe.questions.memorization.hits import WEIGHT, hits, p_of_counts

POOL, ROOMS_SEED, SIZE, SAMPLES, SHARE, COLLAPSED = 2400, 20_291, 16, 1000, 0.2, 20
SPLITS = ((400, 100), (1000, 200))
CASES = ((None, 0, 30), (COLLAPSED, 0, 60), (None, 1, 5), (None, 3, 5), (None, 10, 10))  # fresh images, copied, runs
LEVEL = 0.01 * WEIGHT


def p_value(pool: np.ndarray, t: int, h: int, fresh: int | None, copied: int, seed: int) -> float:
    """The criterion's p-value of one simulated generator."""
    phi, rng = feature("pixels", 3), np.random.default_rng([seed, t])
    order = rng.permutation(len(pool))
    train, holdout, others = pool[order[:t]], pool[order[t : t + h]], pool[order[t + h :]][:fresh]
    samples = others[rng.integers(0, len(others), SAMPLES)]
    if copied:
        many = round(SHARE * SAMPLES)
        samples[:many] = train[rng.integers(0, copied, many)]
    found = [nearest(Rows(samples, phi), Rows(images, phi), 1) for images in (train, holdout)]
    return p_of_counts(*hits(found[0], found[1], train, holdout, phi).counts(), t)


def main() -> None:
    pool = rooms.render(POOL, ROOMS_SEED, SIZE).images
    for t, h in SPLITS:
        for fresh, copied, runs in CASES:
            below = sum(p_value(pool, t, h, fresh, copied, seed) < LEVEL for seed in range(runs))
            print(
                f"{t} + {h}, {fresh or 'all'} fresh images, {copied} copied: {below} of {runs} below {LEVEL:g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
