"""Table 2 on the paper authors' own SVHN discriminator, by the protocol of their script (about 40 minutes on 2 cores).

SVHN is not part of this project; pass your copy of it, as one of
    --train mat:train_32x32.mat                --test mat:test_32x32.mat          the official files, cropped digits
    --train parquet:svhn/train*.parquet        --test parquet:svhn/test*.parquet  a column image, a column label
    --train npz:svhn-train.npz                 --test npz:svhn-test.npz           X uint8 (N, 32, 32, 3), Y integers
The checkpoint is the folder of arrays in github.com/Newmu/dcgan_code,
models/svhn_unsup_all_conv_dcgan_100z_gaussian_lr_0.0005_64mb (MIT). C of 0.0001 … 0.01 by 10 draws of 1,000 labels on
10,000 validation images, 100 draws for the test, BatchNorm statistics estimated from the training images, features as
they are. The paper: 22.48 % test error; the same network supervised 28.87 % on validation images. Without the data no
number of this table is claimed here.
Run: python -m analyses.table2_svhn --ckpt path/to/folder --train … --test …
"""

from __future__ import annotations

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.data import loading as data
from probe.questions.classify.run import SVHN_1000, classify

PAPER = 22.48


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="the folder of arrays")
    parser.add_argument("--train", required=True, help="73,257 training digits")
    parser.add_argument("--test", required=True, help="26,032 test digits")
    args = parser.parse_args()
    gan = load(args.ckpt)
    train, test = (data.load(source, gan.size, gan.channels) for source in (args.train, args.test))
    result = classify(gan, train, test, SVHN_1000)
    publish(result, gan, "table2_svhn", args.out, SVHN_1000.seed)
    low, high = (100 * (1 - v) for v in reversed(result.metrics["accuracy_ci"]))
    print(f"test error {100 * result.metrics['error']:.2f} % [{low:.2f}, {high:.2f}] over 100 draws (paper: {PAPER})")


if __name__ == "__main__":
    main()
