"""Arithmetic and turning on real faces: the paper's two examples and its turn vector (seconds).

The checkpoint is weights.tar of the PyPI package gan-face-generate 1.1.1 (see faces_glasses.py). Exemplars, chosen by
eye on contact sheets: analyses/labels/faces-exemplars.json. The figure of the two examples takes the clearest of them,
frontal and bright, named here before their sums were seen; the turn takes the first four a side. How often it works:
faces_repeats.py. Run: python -m analyses.faces_arithmetic --ckpt path/to/weights.tar
"""

from __future__ import annotations

from pathlib import Path

from analyses.common import arguments, publish
from probe.checkpoints import load
from probe.concepts.exemplars import Exemplars
from probe.concepts.exemplars import load as load_exemplars
from probe.concepts.expressions import parse
from probe.questions.arithmetic.run import Settings, arithmetic
from probe.questions.turn.run import Settings as TurnSettings
from probe.questions.turn.run import turn

EXEMPLARS = Path(__file__).parent / "labels" / "faces-exemplars.json"
SMILE = "smiling woman - neutral woman + neutral man = smiling man"
GLASSES = "man with glasses - neutral man + neutral woman = woman with glasses"
CLEAREST = {
    "smiling woman": [73, 300, 382],
    "neutral woman": [222, 223, 240],
    "neutral man": [16, 80, 247],
    "man with glasses": [163, 176, 245],
}
METHODS = ("means", "svm", "logistic", "pca", "sefa")  # conditional projection needs attributes that only rooms have
TURN_EXEMPLARS, NOISE, SEED, SAMPLING_SEED = 4, 0.25, 0, 7


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    args = parser.parse_args()
    gan = load(args.ckpt)
    exemplars = load_exemplars(EXEMPLARS, gan)
    z = gan.latents(1000, SAMPLING_SEED)
    clearest = Exemplars({name: z[rows] for name, rows in CLEAREST.items()}, exemplars.assumptions)
    examples = [parse(text, CLEAREST) for text in (SMILE, GLASSES)]
    publish(
        arithmetic(gan, examples, clearest, Settings(noise=NOISE, seed=SEED)), gan, "faces_arithmetic", args.out, SEED
    )
    settings = TurnSettings(exemplars=(TURN_EXEMPLARS,), seed=SEED)
    publish(turn(gan, "left", "right", exemplars, settings), gan, "faces_turn", args.out, SEED)
    settings = TurnSettings(methods=METHODS, exemplars=(TURN_EXEMPLARS,), seed=SEED)
    publish(turn(gan, "left", "right", exemplars, settings), gan, "faces_turn_methods", args.out, SEED)


if __name__ == "__main__":
    main()
