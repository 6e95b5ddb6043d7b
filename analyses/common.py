"""What the recipes share: where their figures go, and the arguments they all take."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from probe.models.gan import GAN
from probe.results import provenance
from probe.results.result import Result

FIGURES = Path(__file__).parents[1] / "figures"


def arguments(doc: str | None, ckpt: str | None = "rooms") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if ckpt:
        parser.add_argument("--ckpt", default=ckpt, help="checkpoint")
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder of figures (default: figures/)")
    return parser


def publish(result: Result, gan: GAN | None, recipe: str, out: Path, seed: int) -> None:
    """Write figures/<recipe>/ and say so; the command recorded is the module that runs, which may write several."""
    command = f"python -m analyses.{Path(sys.argv[0]).stem}"
    about = provenance.about(gan, seed) if gan else {"versions": provenance.versions(), "seed": seed}
    result.provenance = {**about, "command": command}
    print(f"figure: {result.save(out / recipe)}")
