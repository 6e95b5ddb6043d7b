"""A real face generator forgets its glasses, from boxes drawn by hand (minutes on 2 cores).

The checkpoint is weights.tar of the PyPI package gan-face-generate 1.1.1 (MIT; a 64x64 DCGAN trained on DigiFace-1M):
pip download --no-deps gan-face-generate==1.1.1, and unpack. Labels: analyses/labels/faces-glasses.coco.json, boxes on
samples of seed 0. Run: python -m analyses.faces_glasses --ckpt path/to/weights.tar
"""

from __future__ import annotations

from pathlib import Path

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts import from_labels
from probe.forgetting import Settings, forget

LABELS = Path(__file__).parent / "labels" / "faces-glasses.coco.json"
SEED, DRAWS = 0, 200
STRENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)  # beyond these the faces only blur


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    args = parser.parse_args()
    gan = load(args.ckpt)
    concept = from_labels(gan, LABELS, "glasses", None, SEED)
    settings = Settings(draws=DRAWS, seed=SEED, strengths=STRENGTHS)
    result, _ = forget(gan, concept.boxes, concept.chooser, concept.judge, settings, judge_iou=concept.judge_iou)
    result.assumptions += concept.assumptions
    publish(result, gan, "faces_glasses", args.out, SEED)
    for name, m in result.metrics["methods"].items():
        print(f"  {name}: removal {m['removal']:.3f}, collateral {m['collateral']:.4f}, p = {m['p_value']:.3g}")


if __name__ == "__main__":
    main()
