"""What the recipes share: where their figures go, and the arguments they all take."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from probe import runs
from probe.gan import GAN
from probe.result import Result

FIGURES = Path(__file__).parents[1] / "figures"


def arguments(doc: str | None, ckpt: str | None = "rooms") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if ckpt:
        parser.add_argument("--ckpt", default=ckpt, help="checkpoint")
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder of figures (default: figures/)")
    return parser


def publish(result: Result, gan: GAN, recipe: str, out: Path, seed: int) -> None:
    """Write figures/<recipe>/ and say so; a recipe that draws several figures gives each its own name."""
    result.provenance = {**runs.provenance(gan, seed), "command": f"python -m analyses.{Path(sys.argv[0]).stem}"}
    print(f"figure: {runs.publish(result, out / recipe, ['png'])}")
