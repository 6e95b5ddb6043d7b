"""Guided gradients of many units, against captum's NeuronGuidedBackprop called unit by unit on the same ReLU network.

64 units x 9 crops in float32, agreeing to 1e-5; aim: at least 3 times as fast. Then 10,000 images scanned, and the
memory that takes beside 2,000.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from captum.attr import NeuronGuidedBackprop
from torch import Tensor, nn

from probe.checkpoints import load
from probe.models.gan import GAN
from probe.models.hooks import resolve
from probe.questions.guided_backprop.lens import Lens, Source, scan
from probe.questions.guided_backprop.receptive import cut

UNITS, CROPS, ROUNDS = 64, 9, 5


def relu_gan() -> GAN:
    """The built-in model with ReLU in its discriminator, for which captum does what its name says."""
    gan = load("rooms")
    discriminator = gan.require_discriminator()
    for k in range(1, 5):
        discriminator.get_submodule(f"layer{k}").act = nn.ReLU()
    return gan


def alternately(*functions: Callable[[], Tensor]) -> list[float]:
    """Median seconds of each, in turn, after one round to warm up."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS + 1):
        for kept, function in zip(seconds, functions, strict=True):
            began = time.perf_counter()
            function()
            kept.append(time.perf_counter() - began)
    return [statistics.median(kept[1:]) for kept in seconds]


def gradients() -> None:
    gan = relu_gan()
    discriminator = gan.require_discriminator()
    lens = Lens(discriminator, resolve(gan, -1, "discriminator"), gan.size, gan.channels, "guided")
    generator = torch.Generator().manual_seed(0)
    images = gan.sample(UNITS * CROPS, 0)
    units = torch.arange(UNITS).repeat_interleave(CROPS)
    places = torch.randint(0, 4, (UNITS * CROPS, 2), generator=generator)
    reference = NeuronGuidedBackprop(discriminator, discriminator.get_submodule("layer4.act"))

    def ours() -> Tensor:
        return lens.gradients(images, units, places)

    def captum() -> Tensor:
        parts = []
        for unit in range(UNITS):
            rows = slice(unit * CROPS, (unit + 1) * CROPS)
            at = places[rows]

            def pick(out: Tensor, unit: int = unit, at: Tensor = at) -> Tensor:
                return out[torch.arange(CROPS), unit, at[:, 0], at[:, 1]]

            parts.append(reference.attribute(images[rows].requires_grad_(), pick, attribute_to_neuron_input=True))
        return torch.cat(parts).detach()

    difference = float((cut(captum(), places, lens.field) - ours()).abs().max())
    fast, slow = alternately(ours, captum)
    print(
        f"{UNITS} units x {CROPS} crops: {fast:.2f} s; captum, unit by unit: {slow:.2f} s; {slow / fast:.2f} times as "
        "fast (aim: 3)"
    )
    print(f"largest difference {difference:.1g} (aim: 1e-5)")


def scanned(n: int) -> None:
    """Scan n images, drawn as noise a batch at a time, and print seconds and the process's peak memory in GiB."""
    gan = load("rooms")
    lens = Lens(gan.require_discriminator(), resolve(gan, -1, "discriminator"), gan.size, gan.channels, "guided")

    def noise(rows: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(rows[0]))
        return torch.rand(len(rows), 3, 64, 64, generator=generator) * 2 - 1

    began = time.perf_counter()
    scan(lens, Source("noise", n, noise), range(384), 9, False, lambda done, total: None)
    print(f"{time.perf_counter() - began:.1f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.3f}")


def main() -> None:
    if len(sys.argv) > 1:
        scanned(int(sys.argv[1]))
        return
    warnings.simplefilter("ignore")  # captum tells of its hooks at each call
    gradients()
    for n in (2_000, 10_000):
        found = subprocess.run([sys.executable, __file__, str(n)], check=True, capture_output=True, text=True)
        seconds, memory = found.stdout.split()
        print(f"{n} images scanned, all 384 units: {seconds} s, peak memory {memory} GiB")


if __name__ == "__main__":
    main()
