"""Our training step against the plain float32 loop of pytorch/examples: same width, batch, data and machine.

Run: make bench. The baseline is written out below: NCHW float32, unfused Adam, three passes of D and one of G a step.
Steps of the two alternate in blocks, and the ratio is taken of the medians; nothing depends on the clock but this.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from probe.models.dcgan import Discriminator, Generator, discriminator_blocks, generator_blocks
from probe.models.gan import best_precision, latents
from probe.training.adversaries import Run, Settings

AIM = 2.2


def baseline(width: int, batch: int, real: torch.Tensor) -> Callable[[], None]:
    """The loop of pytorch/examples/dcgan: BCE on sigmoids, labels 1 and 0, normal latents."""
    g = Generator(generator_blocks(width=width))
    d = nn.Sequential(Discriminator(discriminator_blocks(width=width)), nn.Sigmoid())
    criterion = nn.BCELoss()
    opt_d, opt_g = (torch.optim.Adam(m.parameters(), lr=2e-4, betas=(0.5, 0.999)) for m in (d, g))
    ones, zeros = torch.ones(batch), torch.zeros(batch)

    def step() -> None:
        d.zero_grad()
        criterion(d(real), ones).backward()
        fake = g(torch.randn(batch, 100))
        criterion(d(fake.detach()), zeros).backward()
        opt_d.step()
        g.zero_grad()
        criterion(d(fake), ones).backward()
        opt_g.step()

    return step


def ours(width: int, batch: int, real: torch.Tensor) -> Callable[[], None]:
    settings = Settings(width=width, batch=batch, precision=best_precision("cpu"))
    run = Run(settings, torch.device("cpu"))
    pixels = ((real + 1) * 127.5).to(torch.uint8)
    return lambda: run.advance(pixels, latents(batch, 100, run.step, "uniform")).tolist() and None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    real = torch.rand(args.batch, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    steps = {"baseline": baseline(args.width, args.batch, real), "probe": ours(args.width, args.batch, real)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(args.rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if k:  # the first of each warms up
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    pairs = [a / b for a, b in zip(seconds["baseline"], seconds["probe"], strict=True)]
    print(
        f"{torch.get_num_threads()} threads, width {args.width}, batch {args.batch}: "
        + ", ".join(f"{n} {s:.3f} s a step" for n, s in medians.items())
    )
    print(
        f"probe is {medians['baseline'] / medians['probe']:.2f} times as fast (pairs {min(pairs):.2f} to "
        f"{max(pairs):.2f}; aim {AIM})"
    )


if __name__ == "__main__":
    main()
