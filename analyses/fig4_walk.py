"""Fig. 4: walks through the latent spaces of the built-in model and of others (a minute or two each on 2 cores).

Paper: "interpolation between a series of 9 random points in Z"; every image looks like a bedroom and changes smoothly,
judged by eye. Here: the same chain, with the steps measured and refined until they resolve.
Run: python -m analyses.fig4_walk [--faces weights.tar] [--svhn newmu-svhn]
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.measures.features import feature
from probe.questions.walk.run import Settings, walk

POINTS, FRAMES, SEED, FEATURE = 9, 8, 0, "random-conv"
AIM = "resolved, no sharp transition, as the paper's picture suggests"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--faces", help="a face generator")
    parser.add_argument("--svhn", help="the paper authors' SVHN generator")
    args = parser.parse_args()
    models = {"fig4_walk": args.ckpt, "fig4_walk_faces": args.faces, "fig4_walk_svhn": args.svhn}
    for recipe, ckpt in models.items():
        if ckpt:
            gan = load(ckpt)
            result = walk(gan, feature(FEATURE, gan.channels), Settings(points=POINTS, frames=FRAMES, seed=SEED))
            publish(result, gan, recipe, args.out, SEED)
            m = result.metrics
            ratio, order, sharp = m["max_over_median"], m["order"], m["sharp_transitions"]
            print(
                f"  largest step / median {ratio:.2f}, order {order:.2f}, {sharp} sharp transitions  ({AIM})",
                flush=True,
            )


if __name__ == "__main__":
    main()
