"""Table 1's question on Fashion-MNIST: all 60,000 labels, and 1,000 (75 minutes on 2 cores beside other work).

Run: python -m analyses.table1_fashion --train idx:train-images-idx3-ubyte.gz --test idx:t10k-images-idx3-ubyte.gz
The files of labels lie beside those of images. The discriminator, analyses/weights/fashion.safetensors, is that of
analyses/train_discriminators.py, in half precision. The paper has no such table. 10,000 training images are split off
to choose C; draws of 1,000 labels as in Table 2: 10 to choose, 100 to test.
"""

from __future__ import annotations

from pathlib import Path

from analyses.common import arguments
from analyses.table1_cifar10 import report, say
from probe.checkpoints import load
from probe.data import loading as data
from probe.questions.classify.run import Settings, classify

CHECKPOINT = Path(__file__).parent / "weights" / "fashion.safetensors"
ALL = Settings(validation=10_000, centroids=800)
FEW = Settings(costs=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0), validation=10_000, centroids=800, label_count=1000, draws=100)


def main() -> None:
    parser = arguments(__doc__, ckpt=str(CHECKPOINT))
    parser.add_argument("--train", required=True, help="the 60,000 training images")
    parser.add_argument("--test", required=True, help="the 10,000 test images")
    args = parser.parse_args()
    for recipe, settings in (("table1_fashion", ALL), ("table1_fashion_1000", FEW)):
        gan = load(args.ckpt)
        train, test = (data.load(source, gan.size, gan.channels) for source in (args.train, args.test))
        report(gan, classify(gan, train, test, settings, say), recipe, args.out)


if __name__ == "__main__":
    main()
