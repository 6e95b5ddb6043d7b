"""The figure check: what the code draws and finds today against what is committed in figures/.

Run: python -m analyses.check               every committed figure drawn again from its arrays, held against its PNG
     python -m analyses.check --recompute   and the quick recipes run again from the shipped checkpoint (a minute)

Recomputed numbers come from fixed latents and weights and are compared with a tolerance, since another CPU or another
number of threads rounds otherwise; drawings from the same arrays, with the fonts that matplotlib brings, as pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from analyses import ablate_rooms, fig3_samples, fig4_walk, gallery
from analyses.common import FIGURES
from probe.results.compare import Comparison, Tolerance, compare, drawing, pixels, redrawn
from probe.results.result import load

QUICK = (fig3_samples, fig4_walk, ablate_rooms)
TOLERANCE = Tolerance()


def drawings() -> Iterator[str]:
    """Committed figures that the code draws otherwise today."""
    for folder in sorted(p.parent for p in FIGURES.glob("*/figure.png")):
        difference = drawing(pixels(folder / "figure.png"), redrawn(load(folder)), TOLERANCE, None)
        if difference:
            yield f"{folder.name}: {difference}"
    if (FIGURES / "README.md").read_text(encoding="utf-8") != gallery.text():
        yield "figures/README.md: not what the results say; run python -m analyses.gallery"


def recomputed(pictures: Path) -> Comparison:
    """The quick recipes, run into a temporary folder and compared."""
    found = Comparison()
    with tempfile.TemporaryDirectory() as folder:
        for recipe in QUICK:
            sys.argv = [f"{recipe.__name__.split('.')[-1]}.py", "--out", folder]
            recipe.main()
        for made in sorted(Path(folder).iterdir()):
            picture = pictures / f"{made.name}.png"
            found.results[made.name] = compare(FIGURES / made.name, made, TOLERANCE, picture)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recompute", action="store_true", help="run the quick recipes too")
    parser.add_argument("--pictures", type=Path, default=Path("out/check"), help="where differences are shown")
    args = parser.parse_args()
    problems = list(drawings())
    print("\n".join(problems) or "every committed figure is drawn as it was")
    same = True
    if args.recompute:
        found = recomputed(args.pictures)
        print(found.told())
        same = found.same
    sys.exit(0 if same and not problems else 1)


if __name__ == "__main__":
    main()
