"""The trials of memorization_validation.py: nulls and planted copies, simulated and on images, kept as they are made.

Simulated nulls are Gaussian points in 16 dimensions; image nulls are rooms no generator was trained on and samples of
`dcgan_1000`, as they are, shrunk to half around their mean, and of one mode only. Planted copies are that generator's
own best drawings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyses.copy_trials import Sizes, null_trials, power, rates
from probe.checkpoints import load
from probe.data.rooms import scenes as rooms
from probe.measures.features import feature
from probe.models.gan import from_bytes
from probe.questions.memorization.recovery import recover

SIZE = 32
SIMULATED, SIMULATED_RUNS, DIMENSIONS, NOISE = Sizes(200, 200, 200, 499), 334, 16, 0.35  # runs for each of three kinds
IMAGES, IMAGE_RUNS, POOL, POOL_SEED = Sizes(400, 400, 300, 499), 200, 4000, 12
POWERED, DRAWS, SHARES, SOURCES = Sizes(1000, 1000, 1000, 199), 40, (0.01, 0.02, 0.05, 0.1), 200
UNEVEN, MORE = (
    Sizes(400, 80, 300, 199),
    (0.05, 0.1, 0.3, 1.0),
)  # few held out, much copied: the lower tail alone is blind


def pixels(images: np.ndarray) -> Tensor:
    return feature("pixels", 3)(from_bytes(torch.from_numpy(np.array(images))))


def normal(rng: np.random.Generator, n: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal((n, DIMENSIONS)).astype(np.float32))


def simulated() -> dict[str, np.ndarray]:
    """Nulls where everything is Gaussian."""
    m = SIMULATED.samples
    kinds = {
        "faithful": lambda rng: normal(rng, m),
        "shrunk": lambda rng: 0.5 * normal(rng, m),
        "one mode": lambda rng: 0.2 * normal(rng, m) + normal(rng, 1),
    }
    return null_trials(kinds, normal, SIMULATED, SIMULATED_RUNS)


def simulated_power(n: Sizes, shares: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Power where everything is Gaussian and copies carry noise of standard deviation 0.35."""

    def trial(rng: np.random.Generator, share: float) -> tuple[Tensor, Tensor]:
        x, g, k = normal(rng, n.train + n.holdout), normal(rng, n.samples), round(share * n.samples)
        g[:k] = x[rng.integers(0, n.train, k)] + NOISE * normal(rng, k)
        return g, x

    return power(trial, shares, n, DRAWS)


def on_images(run: Path) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The same on rooms, with a real generator that saw none of them."""
    gan, images = load(run / "dcgan_1000.safetensors"), rooms.load(POOL, POOL_SEED, SIZE).images
    pool, drawn = pixels(images), feature("pixels", 3)(gan.sample(3000, POOL_SEED))
    copies, middle, m = feature("pixels", 3)(recover(gan, images[:SOURCES])), drawn.mean(0), IMAGES.samples

    def some(rng: np.random.Generator, n: int = m) -> Tensor:
        return drawn[rng.choice(len(drawn), n, replace=False)]

    def one_mode(rng: np.random.Generator) -> Tensor:
        return drawn[(drawn - some(rng, 1)).norm(dim=1).topk(m, largest=False).indices]

    def trial(rng: np.random.Generator, share: float) -> tuple[Tensor, Tensor]:
        others = SOURCES + rng.choice(len(pool) - SOURCES, POWERED.train + POWERED.holdout - SOURCES, replace=False)
        g, k = some(rng, POWERED.samples).clone(), round(share * POWERED.samples)
        g[:k] = copies[rng.integers(0, SOURCES, k)]
        return g, torch.cat([pool[:SOURCES], pool[others]])

    kinds = {"as they are": some, "shrunk": lambda rng: torch.lerp(middle, some(rng), 0.5), "one mode": one_mode}

    def fresh(rng: np.random.Generator, n: int) -> Tensor:
        return pool[rng.choice(len(pool), n, replace=False)]

    return null_trials(kinds, fresh, IMAGES, IMAGE_RUNS), power(trial, SHARES, POWERED, DRAWS)


def trials(run: Path) -> dict[str, np.ndarray]:
    """p-values and power curves; kept beside the checkpoints, so that an interrupted run goes on."""
    kept = run / "trials.npz"
    if not kept.exists():
        nulls, curve = on_images(run)
        powers = {
            "images": curve,
            "simulated": simulated_power(POWERED, SHARES),
            "uneven": simulated_power(UNEVEN, MORE),
        }
        arrays = {f"p_images_{kind}": p for kind, p in nulls.items()}
        arrays |= {f"p_simulated_{kind}": p for kind, p in simulated().items()}
        for where, (test, lower) in powers.items():
            arrays |= {f"power_{where}": test, f"lower_{where}": lower}
        np.savez(kept, **arrays)
    with np.load(kept) as file:
        return dict(file)


def null_rates(arrays: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    nulls = {k.removeprefix(f"p_{where}_"): p for k, p in arrays.items() if k.startswith(f"p_{where}_")}
    return {**rates(np.concatenate(list(nulls.values()))), "kinds": {k: rates(p) for k, p in nulls.items()}}
