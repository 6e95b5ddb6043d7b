"""Peak memory of `probe dedup` on a million images: 1,000 rooms, each 1,000 times, generated when they are asked for.

The images themselves are never held, as they are not where a source lies on disk; what is measured is the rest.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from probe import rooms
from probe.deduplication import Settings, dedup

DISTINCT, TIMES, SEED = 1000, 1000, 3
SETTINGS = Settings(steps=200, planted=20)


class Repeated:
    """Images (N, 3, 32, 32) of which N / TIMES exist."""

    def __init__(self, images: Any, times: int) -> None:
        self.images, self.shape = images, (times * len(images), *images.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> Any:
        places = np.arange(len(self))[which] if isinstance(which, slice) else which
        return self.images[places % len(self.images)]


def peak() -> float:
    """In MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    images = Repeated(rooms.load(DISTINCT, SEED, 32).images, TIMES)
    before, start = peak(), time.monotonic()
    m = dedup(images, "rooms, repeated", SETTINGS).metrics
    print(
        f"{m['images']:,} images, {m['removed']:,} removed: peak memory {peak():.0f} MiB, {before:.0f} of them before it began "
        f"(libraries and {DISTINCT:,} images); {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
