"""A real face generator forgets its glasses, or its open mouths, from boxes drawn by hand (10 minutes each).

The checkpoint is weights.tar of the PyPI package gan-face-generate 1.1.1 (MIT; a 64x64 DCGAN trained on DigiFace-1M):
pip download --no-deps gan-face-generate==1.1.1, and unpack. Labels: analyses/labels/faces-*.coco.json, boxes by one
annotator on samples of seed 0; 146 of 600 were left out of the glasses as doubtful (`-sure`), and decided later by the
majority of three automated observers, who agreed on 98.
Run: python -m analyses.faces_glasses --ckpt path/to/weights.tar
With --only segmenters: the sure glasses again with segmenters fitted anew, on other halves of the samples, and no
figure.
"""

from __future__ import annotations

from pathlib import Path

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.sources import from_labels
from probe.models.gan import GAN
from probe.questions.forget.run import Settings, forget

LABELS = Path(__file__).parent / "labels"
RUNS = {
    "faces_glasses": ("glasses", "faces-glasses-sure"),
    "faces_glasses_all": ("glasses", "faces-glasses"),
    "faces_open_mouth": ("open-mouth", "faces-open-mouth"),
}
SEED, DRAWS, LABEL_DRAWS, FITS = 0, 200, 8, 5


def refitted(gan: GAN) -> None:
    """What the paper's rule and erasure do to the sure glasses by each of several selectors and judges."""
    name, labels = RUNS["faces_glasses"]
    for seed in range(FITS):
        concept = from_labels(gan, LABELS / f"{labels}.coco.json", name, None, seed)
        settings = Settings(draws=1, methods=("paper", "patch"), seed=SEED)
        result, _ = forget(gan, concept.boxes, concept.selector, concept.judge, settings, judge_iou=concept.judge_iou)
        found = "; ".join(
            f"{method} at {m['layers'][0]} {m['removal']:.3f} / {m['collateral']:.4f}"
            for method, m in result.metrics["methods"].items()
        )
        below = result.metrics["comparisons"]["paper"]["below_everywhere"]
        print(f"  segmenters {seed}, IoU {concept.judge_iou:.2f}: {found}; patch below paper: {below}", flush=True)


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    parser.add_argument("--only", choices=[*RUNS, "segmenters"], help="one figure, or the segmenters fitted anew")
    args = parser.parse_args()
    gan = load(args.ckpt)
    if args.only == "segmenters":
        return refitted(gan)
    for figure in [args.only] if args.only else RUNS:
        name, labels = RUNS[figure]
        concept = from_labels(gan, LABELS / f"{labels}.coco.json", name, None, SEED)
        settings = Settings(draws=DRAWS, label_draws=LABEL_DRAWS, seed=SEED)
        result, _ = forget(gan, concept.boxes, concept.selector, concept.judge, settings, judge_iou=concept.judge_iou)
        result.assumptions += concept.assumptions
        publish(result, gan, figure, args.out, SEED)
        for method, m in result.metrics["methods"].items():
            print(
                f"  {figure} {method}: {m['removal']:.3f} / {m['collateral']:.4f}, p = {m['p_value']:.3g}", flush=True
            )


if __name__ == "__main__":
    main()
