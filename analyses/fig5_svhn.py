"""Fig. 5 on the paper authors' own SVHN discriminator (about 3 minutes on 2 cores).

The checkpoint is the folder of arrays in github.com/Newmu/dcgan_code,
models/svhn_unsup_all_conv_dcgan_100z_gaussian_lr_0.0005_64mb (MIT). Its BatchNorm statistics are not stored; they are
estimated from the images, as the authors' own SVHN script does. The images are the generator's own samples.
Run: python -m analyses.fig5_svhn --ckpt path/to/folder
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.questions.guided_backprop.lens import from_samples
from probe.questions.guided_backprop.run import Settings, guided

IMAGES = 4096
LAYER, UNITS, CROPS, RULE, SEED = "-1", "0-5", 5, "guided", 0


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="the folder of arrays")
    args = parser.parse_args()
    gan = load(args.ckpt)
    settings = Settings(
        layer=LAYER, units=UNITS, rule=RULE, crops=CROPS, batchnorm="data", sanity="full", inputs=True, seed=SEED
    )
    result = guided(gan, from_samples(gan, IMAGES, SEED), settings)
    publish(result, gan, "fig5_svhn", args.out, SEED)
    for name, row in result.metrics["sanity"]["rows"].items():
        low, high = row["spearman_ci"]
        print(
            f"  {name}: absolute Spearman {row['spearman']:.2f} [{low:.2f}, {high:.2f}], SSIM {row['ssim']:.2f}, HOG "
            f"{row['hog']:.2f}"
        )


if __name__ == "__main__":
    main()
