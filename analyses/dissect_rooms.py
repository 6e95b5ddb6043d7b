"""Which units of the built-in generator draw what: every unit of a layer against every object (a minute on 2 cores).

After GAN Dissection (Bau et al. 2019): overlap of each unit's active region with each object, how well it ranks places,
and its causal effect; here by the built-in selector on 256 samples, beside the best unit of samples shuffled 100 times.
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.segmenters import load_rooms
from probe.questions.dissect.run import Settings, dissect, from_segmenter

LAYER, SAMPLES, TOP, SHUFFLES, SEED = "16x16", 256, 8, 100, 0


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    material = from_segmenter(gan, load_rooms()["selector"], SAMPLES, SEED)
    result = dissect(gan, material, Settings(layer=LAYER, top=TOP, shuffles=SHUFFLES, seed=SEED))
    publish(result, gan, "dissect_rooms", args.out, SEED)
    for name, concept in result.metrics["concepts"].items():
        best = concept["units"][0]
        print(f"  {name}: unit {best['unit']}, IoU {best['iou']:.3f}, p = {concept['p_value']:.2g}")


if __name__ == "__main__":
    main()
