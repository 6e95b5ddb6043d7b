"""Fig. 6: the generator forgets windows, three seeds (minutes each on 2 cores).

Paper: 150 samples, 52 boxes by hand, logistic regression on the second-highest convolution layer, all 200 maps with a
positive weight dropped; judged by eye. Here: boxes by the selector, both readings of the layer, maps ranked in three
other ways and activation patching beside it, removal and collateral by the judge on 256 held-out latents, 200 random
edits of equal collateral for each, intervals over images and, for seed 0, over labels drawn anew.
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.sources import from_rooms
from probe.questions.forget.run import Settings, forget

SAMPLES, HELDOUT, DRAWS = 150, 256, 200
LABEL_DRAWS = {0: 8, 1: 0, 2: 0}  # by seed; patch is adjusted anew for each draw, which takes five seconds
AIM = "patch: removal >= 0.95 at collateral <= 0.025, below iou and causal at every removal they share"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seed", type=int, choices=LABEL_DRAWS, help="only one of them")
    args = parser.parse_args()
    gan = load(args.ckpt)
    for seed in LABEL_DRAWS if args.seed is None else [args.seed]:
        concept = from_rooms(gan, "window", SAMPLES, seed)
        settings = Settings(heldout=HELDOUT, draws=DRAWS, label_draws=LABEL_DRAWS[seed], seed=seed)
        result, _ = forget(gan, concept.boxes, concept.selector, concept.judge, settings, judge_iou=concept.judge_iou)
        result.assumptions += concept.assumptions
        publish(result, gan, f"fig6_forget_windows_seed{seed}", args.out, seed)
        for name, m in result.metrics["methods"].items():
            print(
                f"  seed {seed} {name}: {m['removal']:.3f} / {m['collateral']:.4f}, p = {m['p_value']:.3g}  ({AIM})",
                flush=True,
            )
        print("  ", {name: c["below_everywhere"] for name, c in result.metrics["comparisons"].items()}, flush=True)


if __name__ == "__main__":
    main()
