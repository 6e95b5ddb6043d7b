"""Peak memory of `probe dedup` on a million images: 1,000 clouds of 1/f noise, each 1,000 times, made when asked for.

The images themselves are never held, as they are not where a source lies on disk; what is measured is the rest. Clouds
hash apart, so that a repeated one is compared with its like alone; where most images hash alike, as rooms do, each is
compared with dozens, and the time is many times as long.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from probe.questions.dedup.run import Settings, dedup

DISTINCT, TIMES, SEED = 1000, 1000, 3
SETTINGS = Settings(steps=200, planted=20)


def clouds(n: int, seed: int) -> np.ndarray:
    """Images (n, 3, 32, 32) uint8 of noise whose amplitude falls as 1/f, as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32))
    frequency[0, 0] = 1
    noise = np.random.default_rng(seed).normal(size=(n, 3, 32, 32))
    fields = np.fft.irfft2(np.fft.rfft2(noise) / frequency)
    fields *= 50 / fields.std(axis=(1, 2, 3), keepdims=True)
    return (fields + 128).clip(0, 255).astype(np.uint8)


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
    images = Repeated(clouds(DISTINCT, SEED), TIMES)
    before, start = peak(), time.monotonic()
    m = dedup(images, "clouds, repeated", SETTINGS).metrics
    print(
        f"{m['images']:,} images, {m['removed']:,} removed: peak memory {peak():.0f} MiB, {before:.0f} of them before "
        f"it began (libraries and {DISTINCT:,} images); {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
