"""The figure check: what the shipped model draws today against what is committed in figures/.

Arrays come from fixed latents and weights and are compared with a tolerance (2 grey levels for 99.9 % of the pixels,
since another CPU rounds otherwise); drawings are made again from the committed arrays and compared as pictures.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from analyses.common import FIGURES
from analyses.fig3_samples import SEED, SHOWN
from probe.checkpoints import load
from probe.plots import draw
from probe.result import load as load_result
from probe.sampling import sample


def same_samples() -> str:
    committed = load_result(FIGURES / "fig3_samples").arrays["images"].astype(int)
    today = sample(load("rooms"), SHOWN, SEED).arrays["images"].astype(int)
    off = np.abs(committed - today) > 2
    return "" if off.mean() < 1e-3 else f"fig3_samples: {off.mean():.2%} of the pixels moved by more than 2 levels"


def same_drawing(folder: Path) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        draw(load_result(folder), Path(temporary))
        today = np.asarray(Image.open(Path(temporary) / "figure.png").convert("RGB")).astype(float)
    committed = np.asarray(Image.open(folder / "figure.png").convert("RGB")).astype(float)
    if committed.shape != today.shape:
        return f"{folder.name}: the drawing is now {today.shape[1]}x{today.shape[0]}, was {committed.shape[1]}x{committed.shape[0]}"
    difference = float(np.sqrt(((committed - today) ** 2).mean()))
    return "" if difference < 1.0 else f"{folder.name}: the drawing differs by {difference:.1f} grey levels (RMS)"


def main() -> None:
    folders = sorted(p.parent for p in FIGURES.glob("*/figure.png"))
    problems = [p for p in (same_samples(), *(same_drawing(f) for f in folders)) if p]
    print("\n".join(problems) or f"{len(folders)} figures as committed")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
