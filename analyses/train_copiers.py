"""Train the generators that the memorisation test is validated on (some 30 minutes on one core), resumable.

Run: python -m analyses.train_copiers --run out/copiers, again to go on after an interruption.
Four DCGANs by the paper's recipe at 32 px and width 24, on 50, 200, 1,000 and 20,000 rooms, each with its own hold-out,
reserved before training; and `fitted`, the same generator without a game: it learns by squared error to draw, for any
latent, the training image whose anchor lies nearest, which is memorisation by construction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from analyses.train_rooms import say
from probe.checkpoints import save
from probe.data.rooms import scenes as rooms
from probe.models.dcgan import Generator, generator_blocks, initialise
from probe.models.gan import GAN, best_precision, from_bytes, latents, recalibrate
from probe.training.loop import Settings, split, train

SIZE, WIDTH, NZ, BATCH, SEED, ROOMS_SEED = 32, 24, 100, 64, 0, 11
SETS = {"dcgan_50": (50, 1000), "dcgan_200": (200, 1000), "dcgan_1000": (1000, 1000), "dcgan_all": (20_000, 4000)}
STEPS = 4000
FITTED, FITTED_HOLDOUT, FITTED_STEPS, FITTED_LR = 50, 1000, 2000, 1e-3


def dcgan(name: str, folder: Path) -> None:
    """One DCGAN on its number of rooms; goes on from its last state."""
    kept, holdout = SETS[name]
    images = rooms.load(kept + holdout, ROOMS_SEED, SIZE).images
    settings = Settings(
        size=SIZE,
        width=WIDTH,
        nz=NZ,
        batch=BATCH,
        steps=STEPS,
        holdout=holdout,
        seed=SEED,
        precision=best_precision("cpu"),
    )
    source = f"rooms:{kept + holdout}@{ROOMS_SEED}"
    gan = train(images, settings, folder / name, source=source, resume=True, report=say, report_every=200)
    save(gan, folder / f"{name}.safetensors")


def fitted(folder: Path) -> None:
    """A generator fitted to draw the training image whose anchor has the largest product with the latent."""
    n = FITTED + FITTED_HOLDOUT
    chosen, _ = split(n, FITTED_HOLDOUT, SEED)
    targets = from_bytes(torch.from_numpy(rooms.load(n, ROOMS_SEED, SIZE).images[chosen]))
    anchors = latents(FITTED, NZ, SEED + 1, "normal")
    g = Generator(generator_blocks(SIZE, 3, NZ, WIDTH))
    initialise(g, SEED)
    optimiser = torch.optim.Adam(g.parameters(), FITTED_LR)
    for step in range(FITTED_STEPS):
        z = latents(BATCH, NZ, step + 10, "uniform")
        loss = (g(z) - targets[(z @ anchors.T).argmax(1)]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 200 == 0:
            print(f"fitted: step {step}/{FITTED_STEPS}, squared error {loss.item():.4f}", flush=True)
    recalibrate(g, NZ, "uniform")
    note = {
        "source": f"rooms:{n}@{ROOMS_SEED}",
        "settings": {"size": SIZE, "channels": 3, "seed": SEED},
        "split": {"holdout": FITTED_HOLDOUT, "of": n, "rule": "training.split(of, holdout, seed)"},
    }
    gan = GAN(g, None, NZ, SIZE, 3, "uniform", {"generator": "recalibrated"}, {"training": note})
    save(gan, folder / "fitted.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("out/copiers"))
    args = parser.parse_args()
    for name in (*SETS, "fitted"):
        if not (args.run / f"{name}.safetensors").exists():
            fitted(args.run) if name == "fitted" else dcgan(name, args.run)


if __name__ == "__main__":
    main()
