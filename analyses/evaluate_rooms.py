"""How far are the built-in generator's bedrooms from unseen renders? In two networks' features (4 minutes).

The paper gives no such number (FID is of 2017). Neither network is Inception, so neither distance is an FID: one is the
rooms judge, trained on renders, the other has never seen an image.
"""

from __future__ import annotations

import numpy as np

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.data import loading as data
from probe.questions.evaluate.backbones import backbone
from probe.questions.evaluate.run import Settings, evaluate

IMAGES, FRESH, SEED = 2500, "rooms:5000@77", 0
BACKBONES = {"segmenter": "evaluate_rooms", "random": "evaluate_rooms_random"}
WHERE = f"half of {FRESH}, never trained on; floor: its other half"


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    reals = data.load(FRESH, gan.size, gan.channels).images[np.random.default_rng(SEED).permutation(2 * IMAGES)]
    for name, folder in BACKBONES.items():
        phi = backbone(name, gan.channels, gan.device)
        result = evaluate(gan, reals[:IMAGES], reals[IMAGES:], phi, Settings(images=IMAGES, seed=SEED), source=WHERE)
        publish(result, gan, folder, args.out, SEED)
        m = result.metrics
        print(f"  {m['measure']}: {m['fid']:.3g} {m['fid_ci']}; floor {m['floor']['fid']:.3g}")


if __name__ == "__main__":
    main()
