"""Fig. 5: what the first six units of the built-in discriminator's last convolution layer see (3 minutes).

The paper: guided backpropagation (Springenberg et al. 2015) of the maximal axis-aligned responses of the first six
features of the last convolution layer, beside random filters, on LSUN bedrooms; no numbers. It does not say how
LeakyReLU is gone back through. Ours: the same rule on LeakyReLU(0.2), which is 1[x > 0] 1[g > 0] g, on renders that D
was not trained on. The sanity checks are repeated on a discriminator that was never trained, to see what passing them
is worth.
"""

from __future__ import annotations

from dataclasses import replace

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.segmenters import load_rooms
from probe.data import loading as data
from probe.questions.guided_backprop import sanity
from probe.questions.guided_backprop.lens import from_images
from probe.questions.guided_backprop.run import Settings, guided

DATA = "rooms:2048@1"  # the discriminator saw rooms of seed 0
LAYER, UNITS, CROPS, RULE, SEED, UNTRAINED = "-1", "0-5", 5, "guided", 0, 99


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    source = from_images(data.load(DATA, gan.size, gan.channels))
    settings = Settings(layer=LAYER, units=UNITS, rule=RULE, crops=CROPS, sanity="full", seed=SEED)
    result = guided(gan, source, settings, load_rooms()["judge"])
    weights = sanity.randomised(gan.require_discriminator(), None, UNTRAINED, (x for _, x in source.batches(512)))
    untrained = guided(replace(gan, discriminator=weights), source, replace(settings, sanity="fast"))
    result.metrics["sanity_untrained"] = untrained.metrics["sanity"]
    publish(result, gan, "fig5_guided_backprop", args.out, SEED)
    rows = result.metrics["sanity"]["rows"] | {
        "an untrained one: all layers random": result.metrics["sanity_untrained"]
    }
    for name, row in rows.items():
        low, high = row["spearman_ci"]
        print(
            f"  {name}: absolute Spearman {row['spearman']:.2f} [{low:.2f}, {high:.2f}], SSIM {row['ssim']:.2f}, HOG "
            f"{row['hog']:.2f}"
        )


if __name__ == "__main__":
    main()
