"""The questions of the DCGAN paper, a folder each, and the only list of them."""

from __future__ import annotations

from probe.base.plugins import Named, Question, register_question


def _row(
    name: str,
    group: str,
    asks: str,
    page: str,
    *examples: str,
    also: dict[str, tuple[Named, Named | None]] | None = None,
) -> Question:
    """A question whose folder, call, command and result carry one name."""
    python = name.replace("-", "_")
    room = f"probe.questions.{python}"
    return Question(
        name=name,
        call=f"{room}.question:{python}",
        figure=f"{room}.figure:draw",
        summary=f"{room}.summary:summary",
        group=group,
        asks=asks,
        examples=examples,
        page=page,
        also=also or {},
    )


_EVERY = (
    _row(
        "sample", "look", "Draw samples as a grid; with --each also as numbered images.", "docs/latent.md",
        "probe sample --ckpt netG.pth -n 100", "probe sample -n 400 --each --out out/seen",
    ),
    _row(
        "forget", "generator", "Make the generator forget a concept (figure 6), beside rivals and controls.", "docs/forgetting.md",
        "probe forget --ckpt netG.pth --concept hat --labels boxes.json --save no-hats.safetensors",
        "probe forget --concept window --method patch --method leace",
        also={"study": ("probe.questions.forget.study:draw", None)},
    ),
    _row(
        "dissect", "generator", "Score every unit of a layer against every concept; a table and a figure.", "docs/forgetting.md",
        "probe dissect --layer 8x8", "probe dissect --ckpt netG.pth --labels boxes.json --causal",
    ),
    _row(
        "ablate", "generator", "Switch feature maps off, or scale them, everywhere or in a region.", "docs/forgetting.md",
        "probe ablate --layer layer3 --units 3,7,12", "probe ablate --units 0-11 --where 12,14,32,34 --scale 2",
    ),
    _row(
        "insert", "generator", "Make the generator draw a concept in a box, and measure how often it does.", "docs/forgetting.md",
        "probe insert --concept window --where 12,14,32,34",
        "probe insert --ckpt netG.pth --concept hat --where 20,4,44,20 --labels boxes.json",
    ),
    _row(
        "walk", "generator", "Walk between random latents (figure 4): sharp transitions, path length.", "docs/latent.md#walks-and-copies",
        "probe walk --ckpt netG.pth --movie", "probe walk --points 4 --loop",
    ),
    _row(
        "arithmetic", "generator", "Add and subtract concepts in latent space (figure 7).", "docs/latent.md",
        "probe arithmetic 'window/day - nowindow/day + nowindow/night'",
        "probe arithmetic 'smiling woman - neutral woman + neutral man' --ckpt netG.pth --concepts exemplars.json",
        also={"repeats": ("probe.questions.arithmetic.repeats:draw", None)},
    ),
    _row(
        "turn", "generator", "Move samples from one concept to another (figure 8).", "docs/latent.md",
        "probe turn left right", "probe turn 'looking left' 'looking right' --ckpt netG.pth --concepts exemplars.json",
    ),
    _row(
        "memorization", "generator", "Test for copies of training images, against held-out ones.", "docs/latent.md#walks-and-copies",
        "probe memorization --ckpt out/mine/checkpoint.safetensors --data path/to/images",
        "probe memorization --ckpt netG.pth --train path/to/training --holdout-data path/to/others",
        also={"memorization-validation": ("probe.questions.memorization.validation:draw", None)},
    ),
    _row(
        "evaluate", "generator", "Fréchet distance, KID, precision and recall, between a floor and a ceiling.", "docs/data.md",
        "probe evaluate --ckpt netG.pth --data path/to/images", "probe evaluate --features pt_inception-2015-12-05.pth",
    ),
    _row(
        "spectrum", "generator", "Power of samples by frequency beside real images: does a grid lie over them?", "docs/data.md",
        "probe spectrum", "probe spectrum --ckpt netG.pth --data path/to/images",
    ),
    _row(
        "guided-backprop", "discriminator", "Show what the discriminator's units see (figure 5), beside sanity checks.", "docs/discriminator.md",
        "probe guided-backprop --ckpt netG.pth --disc netD.pth --data path/to/images", "probe guided-backprop --units all --sanity full",
    ),
    _row(
        "classify", "discriminator", "Classify images by D's features (tables 1 and 2), beside baselines.", "docs/discriminator.md#what-it-is-good-for",
        "probe classify --ckpt netG.pth --disc netD.pth --data parquet:train.parquet --test parquet:test.parquet",
        "probe classify --data mat:train_32x32.mat --test mat:test_32x32.mat --protocol svhn-1000",
    ),
    _row(
        "dedup", "data", "Find near-duplicates in a source of images (section 4.1).", "docs/data.md",
        "probe dedup --data path/to/images", "probe dedup --data parquet:train.parquet --limit 10000 --plain",
    ),
)  # fmt: skip
for _question in _EVERY:
    register_question(_question)
