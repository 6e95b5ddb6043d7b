"""`probe forget-windows`, all methods, 200 random edits each on 64 latents: seconds, memory, what makes it fast.

The baseline is the same random edits scored from the latents on, timed on a few of them in this run.
Aim: 60 s and 1.5 GB on 2 cores.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from probe.checkpoints import load
from probe.concepts.sources import from_rooms
from probe.edits.methods.maps import fading
from probe.edits.scoring import Edits, Scorer
from probe.measures.statistics import change
from probe.models.hooks import edit
from probe.models.replay import Replay

TRIES, LATENTS = 10, 64


def draw_seconds() -> tuple[float, float]:
    """Seconds to score one random edit: from the latents on in batches of 64, and as `forget` does it."""
    gan = load("rooms")
    concept = from_rooms(gan, "window", 60, 0)
    z = gan.latents(LATENTS, 1)
    scorer = Scorer(Replay(gan, z, ["layer3"]), concept.judge, concept.boxes)

    def plainly(edits: Edits) -> None:
        with edit(gan.generator, edits):
            images = gan.images(z)
        concept.judge.labels(images, batch=64)
        change(scorer.images, images, scorer.near)

    rng = np.random.default_rng(0)
    seconds = []
    for score in (plainly, scorer.score):
        edits = [
            {"layer3": fading(torch.from_numpy(rng.choice(96, 30, replace=False)), 96)(1.0)} for _ in range(TRIES + 1)
        ]
        score(edits[0])
        began = time.perf_counter()
        for each in edits[1:]:
            score(each)
        seconds.append((time.perf_counter() - began) / TRIES)
    return seconds[0], seconds[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "probe", "forget-windows", "--out", str(Path(folder) / "out")]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    slow, fast = draw_seconds()
    print(f"forget-windows, 5 methods, 200 draws each: {whole:.0f} s, {memory:.2f} GiB (aim: 60 s, 1.5 GB)")
    print(
        f"one draw on {LATENTS} latents: {1000 * fast:.0f} ms; from the latents on: {1000 * slow:.0f} ms; "
        f"{slow / fast:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
