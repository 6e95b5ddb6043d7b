"""Erasure beside today's rivals: LEACE and feature unlearning by fine-tuning (minutes on 2 cores).

LEACE (Belrose et al. 2023): linear erasure at every place, x -> x + s (P(x - m) + m - x); s = 1 as published.
Fine-tuning (Moon, Cho and Kim 2023): the generator is tuned so that a latent with the concept draws what the original
draws at the latent moved back along (mean latent with it - mean latent without); its strength is how far back, the
quantile. Rooms, windows; the same 256 held-out latents and judge for all. `seconds` is what fitting and tuning took on
this run.
"""

from __future__ import annotations

import time

import numpy as np

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.sources import from_rooms
from probe.edits.scoring import Scorer
from probe.edits.tuning import BOUND
from probe.edits.unlearning import Settings as Unlearning
from probe.edits.unlearning import linearity, snapshots
from probe.models.gan import best_precision, to_bytes
from probe.models.replay import Replay
from probe.questions.forget.run import SHOWN, Settings, curve, forget, heldout_scorer

SEED, SAMPLES, HELDOUT, DRAWS = 0, 150, 256, 200
METHODS = ("iou", "causal", "patch", "lda", "leace")
LABELLED, LATENT_SEED, STEPS, QUANTILES = 2000, 5, 50, (0.75, 0.5, 0.25, 0.1, 0.05)


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    concept = from_rooms(gan, "window", SAMPLES, SEED)
    settings = Settings(heldout=HELDOUT, draws=DRAWS, seed=SEED, methods=METHODS)
    result, _ = forget(gan, concept.boxes, concept.selector, concept.judge, settings, judge_iou=concept.judge_iou)
    z = gan.latents(LABELLED, LATENT_SEED)
    has = Scorer(Replay(gan, z, ["layer2"]), concept.selector, concept.boxes).has
    with_, without = z[np.flatnonzero(has)], z[np.flatnonzero(~has)]
    began = time.perf_counter()
    tuned = {
        q: snapshots(gan, with_, without, [STEPS], Unlearning(quantile=q, seed=SEED, precision=best_precision("cpu")))[
            0
        ]
        for q in QUANTILES
    }
    seconds = (time.perf_counter() - began) / len(tuned)
    heldout = heldout_scorer(gan, concept.judge, concept.boxes, settings)
    scorer = heldout.having(2 * settings.random_latents)
    scores = [scorer.compare(g.images(scorer.replay.z)) for g in tuned.values()]
    rows = curve([1 - q for q in QUANTILES], scores)
    best = int(rows[:, 1].argmax())
    strength = QUANTILES[best]
    metrics = heldout.compare(tuned[strength].images(heldout.replay.z)).metrics()
    about = {"layers": ["all"], "strength": 1 - strength, "maps_dropped": 0, "seconds": seconds, "p_value": None}
    about["linearity"], about["linearity_ci"] = linearity(with_, without)
    result.metrics["methods"]["finetune"] = {**about, **metrics}
    drawn = to_bytes(tuned[strength].images(heldout.replay.z[np.flatnonzero(heldout.has)[:SHOWN]])).numpy()
    small = rows[:, 2] <= BOUND
    matched = drawn if small[best] else result.arrays["before"]
    result.arrays |= {"finetune": drawn, "finetune_matched": matched, "finetune_curve": rows}
    result.assumptions.append(
        f"finetune: {STEPS} steps of 32 latents on {LABELLED} latents read by the selector, L1 + L2 without MS-SSIM; "
        "its strength is 1 - the quantile of latents without the concept that others are moved back to; the largest "
        "removal is the dot, chosen on the held-out latents, in its favour; no random control"
    )
    publish(result, gan, "rivals", args.out, SEED)
    for name, m in result.metrics["methods"].items():
        print(f"  {name}: {m['removal']:.3f} / {m['collateral']:.4f}, {m['seconds']:.0f} s")
    print(f"  linearity of the latent: {about['linearity']:.3f}")


if __name__ == "__main__":
    main()
