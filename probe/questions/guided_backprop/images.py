"""Which images the discriminator looks at."""

from __future__ import annotations

from probe.base.errors import ProbeError
from probe.base.progress import Report
from probe.concepts.sources import fresh_rooms, is_rooms
from probe.data import loading as sources
from probe.models.gan import GAN
from probe.questions.guided_backprop.lens import Source, from_images, from_samples


def look_at(gan: GAN, data: str | None, limit: int | None, seed: int, tell: Report) -> tuple[Source, list[str]]:
    """The images to look at, and what has to be said about them."""
    text = data or (fresh_rooms(gan, 2048, 1) if is_rooms(gan) else "samples:2048")
    prefix, _, number = text.partition(":")
    if prefix == "samples":
        if not (number or "2048").isdigit() or int(number or 2048) < 1:
            raise ProbeError(f"data {text}: expected samples or samples:N, such as samples:4096")
        n = min(int(number or 2048), limit or 10**9)
        return from_samples(gan, n, seed), [f"data: {n} of the generator's own samples, seed {seed}"]
    tell("reading images", 0, 1)
    images = sources.load(
        text, gan.size, gan.channels, limit, progress=lambda done, total: tell("reading images", done, total or done)
    )
    return from_images(images), []
