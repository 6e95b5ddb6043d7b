"""Table 1 on CIFAR-10 with a discriminator trained on its training images alone (ten minutes with AVX-512).

Run: python -m analyses.table1_cifar10 --train parquet:cifar10-train.parquet --test parquet:cifar10-test.parquet
The shipped discriminator, analyses/weights/cifar10.safetensors, is that of analyses/train_discriminators.py, in half
precision.
With --more each image is joined by its mirror image, both by copies moved by up to 4 px, and the largest value of each
cell by its mean; random weights are the only baseline (half an hour).
With --small 3,000 training images are fitted to and 2,000 others scored, in a few minutes, and the test set stays
unread. The baselines do not depend on its weights; they are kept in --baselines and used again, for another of its
width say. The paper: a discriminator trained on ImageNet-1k, 28,672 features, 82.8 %; 1-layer K-means 80.6, 3-layer
K-means 82.0, view-invariant K-means 81.9, exemplar CNN 84.3. Ours has five eighths of its width and has seen none of
its images.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.data import loading as data
from probe.data.loading import Images
from probe.models.gan import GAN
from probe.questions.classify import tasks
from probe.questions.classify.run import BASELINES, Settings, baseline, classify
from probe.results.result import Result

CHECKPOINT = Path(__file__).parent / "weights" / "cifar10.safetensors"
PAPER = {"DCGAN and L2-SVM": 82.8, "1-layer K-means": 80.6, "exemplar CNN": 84.3}
SETTINGS = Settings(costs=(0.1, 0.3, 1.0), validation=5000, centroids=800, supervised_steps=300, seed=0)
MORE = replace(SETTINGS, costs=(2.0, 4.0), flips=True, shifts=4, means=True, baselines=("random_weights",))
SMALL, FITTED, SCORED = (
    replace(SETTINGS, costs=(0.5, 2.0), validation=500, statistics=2500, centroids=400, supervised_steps=100),
    3000,
    2000,
)


def small(gan: GAN, images: Images, out: Path) -> None:
    """The first training images against the last ones, all baselines in one go."""
    parts = [
        replace(images, images=images.images[p], labels=images.labels[p]) for p in (slice(FITTED), slice(-SCORED, None))
    ]
    ours = classify(gan, *parts, SMALL, say)
    ours.assumptions.append(
        "a small check: the images scored are training images of the GAN, whose labels nothing has seen"
    )
    publish(ours, gan, "table1_cifar10_small", out, SMALL.seed)
    tell(ours)


def report(gan: GAN, ours: Result, recipe: str, out: Path) -> None:
    publish(ours, gan, recipe, out, SETTINGS.seed)
    tell(ours)


def tell(ours: Result) -> None:
    for name, row in {"ours": ours.metrics, **ours.metrics["baselines"]}.items():
        low, high = row["accuracy_ci"]
        print(f"{name}: {100 * row['accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}], {row['features']} features")


def say(name: str, done: int, total: int) -> None:
    if done == total or done % 10_000 == 0:
        print(f"  {name}: {done} of {total}", flush=True)


def main() -> None:
    parser = arguments(__doc__, ckpt=str(CHECKPOINT))
    parser.add_argument("--train", required=True, help="the 50,000 training images, with labels")
    parser.add_argument("--test", help="the 10,000 test images, with labels")
    form = parser.add_mutually_exclusive_group()
    for option in ("small", "more"):
        form.add_argument(f"--{option}", action="store_const", const=option, dest="form")
    parser.add_argument("--baselines", type=Path, default=Path("out/table1-baselines"), help="folder of their numbers")
    parser.add_argument("--only", nargs="*", choices=BASELINES, help="measure these baselines and stop")
    args = parser.parse_args()
    gan = load(args.ckpt)
    if not (args.form == "small" or args.test):
        parser.error("--test is needed, or --small")
    if args.form == "small":
        small(gan, data.load(args.train, gan.size, gan.channels), args.out)
        return
    images = [data.load(source, gan.size, gan.channels) for source in (args.train, args.test)]
    settings = MORE if args.form == "more" else SETTINGS
    recipe = f"table1_cifar10_{args.form}" if args.form else "table1_cifar10"
    task = tasks.make(*images, settings.validation, settings.seed)
    known = {}
    for name in args.only or settings.baselines:
        kept = args.baselines / f"{recipe}-{gan.require_discriminator().blocks[0].outputs}" / f"{name}.json"
        if not kept.exists():
            found = baseline(name, gan, task, settings, say)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found.metrics()) if found else "null")
        known[name] = json.loads(kept.read_text())
    if args.only:
        return
    report(gan, classify(gan, *images, settings, say, known), recipe, args.out)
    print("paper: " + ", ".join(f"{name} {value}" for name, value in PAPER.items()))


if __name__ == "__main__":
    main()
