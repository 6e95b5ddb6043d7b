"""A layer of a discriminator, ready to be looked through."""

from __future__ import annotations

from probe.models.gan import GAN
from probe.models.hooks import resolve
from probe.questions.guided_backprop.lens import Lens


def looking(gan: GAN, layer: str = "-1", rule: str = "guided") -> Lens:
    return Lens(gan.require_discriminator(), resolve(gan, layer, "discriminator"), gan.size, gan.channels, rule)  # type: ignore[arg-type]
