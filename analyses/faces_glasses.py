"""A real face generator forgets its glasses, or its open mouths, from boxes drawn by hand (minutes on 2 cores).

The checkpoint is weights.tar of the PyPI package gan-face-generate 1.1.1 (MIT; a 64x64 DCGAN trained on DigiFace-1M):
pip download --no-deps gan-face-generate==1.1.1, and unpack. Labels: analyses/labels/faces-*.coco.json, boxes by one
annotator on samples of seed 0. Run: python -m analyses.faces_glasses --ckpt path/to/weights.tar
"""

from __future__ import annotations

from pathlib import Path

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts import from_labels
from probe.forgetting import Settings, forget

LABELS = Path(__file__).parent / "labels"
CONCEPTS = {"glasses": "faces_glasses", "open-mouth": "faces_open_mouth"}
SEED, DRAWS, LABEL_DRAWS = 0, 200, 8


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    parser.add_argument("--concept", choices=CONCEPTS, help="only one of them")
    args = parser.parse_args()
    gan = load(args.ckpt)
    for name in [args.concept] if args.concept else CONCEPTS:
        concept = from_labels(gan, LABELS / f"faces-{name}.coco.json", name, None, SEED)
        settings = Settings(draws=DRAWS, label_draws=LABEL_DRAWS, seed=SEED)
        result, _ = forget(gan, concept.boxes, concept.chooser, concept.judge, settings, judge_iou=concept.judge_iou)
        result.assumptions += concept.assumptions
        publish(result, gan, CONCEPTS[name], args.out, SEED)
        for method, m in result.metrics["methods"].items():
            print(f"  {name} {method}: {m['removal']:.3f} / {m['collateral']:.4f}, p = {m['p_value']:.3g}", flush=True)


if __name__ == "__main__":
    main()
