"""Fig. 8 on rooms: the camera turns, night falls, a window appears; six ways to find directions (10 minutes).

Paper: a "turn" vector from four averaged samples of faces looking left and right, added to five new samples in 11
steps; judged by eye. Here: exemplars by the selector, every step on 200 new samples scored by the judge, success over
200 draws of exemplars with five controls. Then the same from many labelled latents (linear SVM, logistic regression,
with and without conditional projection) and unsupervised (PCA of activations, eigenvectors of weights), within the
original range, all as long as the difference of the means.
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.exemplars import label
from probe.concepts.latent_directions import METHODS
from probe.questions.turn.run import Settings, turn

TURNS = {"camera": ("left", "right"), "light": ("day", "night"), "window": ("nowindow", "window")}
EXEMPLARS, STEPS, REACH, ROWS, SCORED, DRAWS, SAMPLES, SEED = (1, 2, 4, 8), 11, 1.0, 5, 200, 200, 2048, 0


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    labelled = label(gan, SAMPLES, SEED)
    for name, (before, after) in TURNS.items():
        exemplars = labelled.exemplars([before, after])
        settings = Settings(
            methods=("means",),
            exemplars=EXEMPLARS,
            frames=STEPS,
            reach=REACH,
            rows=ROWS,
            scored=SCORED,
            draws=DRAWS,
            seed=SEED,
        )
        result = turn(gan, before, after, exemplars, settings, labelled)
        publish(result, gan, f"fig8_turn_{name}", args.out, SEED)
        m = result.metrics
        print(
            f"{before} to {after}: R² {m['r2']:.2f} {m['r2_ci']}, monotone {m['monotone_share']:.2f} "
            f"{m['monotone_share_ci']}"
        )
        print(f"  original range: R² {m['r2_original_range']:.2f}, monotone {m['monotone_share_original_range']:.2f}")
        for n in EXEMPLARS:
            print(
                f"  {n}: {m['success'][n]:.2f} {m['success_ci'][n]};",
                {k: c["success"][n] for k, c in m["controls"].items()},
                flush=True,
            )
        settings = Settings(
            methods=tuple(METHODS),
            exemplars=EXEMPLARS[2:3],
            frames=STEPS,
            reach=0.5,
            rows=1,
            scored=SCORED // 2,
            draws=DRAWS,
            seed=SEED,
        )
        result = turn(gan, before, after, exemplars, settings, labelled)
        publish(result, gan, f"fig8_methods_{name}", args.out, SEED)
        for method, m in result.metrics["methods"].items():
            print(
                f"  {method}: target {m['target_change']:+.2f} {m['target_change_ci']}, others {m['other_change']:.2f} "
                f"{m['other_change_ci']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
