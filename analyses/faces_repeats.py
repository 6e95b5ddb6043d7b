"""How often the examples of faces_arithmetic.py work: each repeated with exemplars drawn anew, and looked at (seconds).

Every example is repeated REPEATS times, exemplars drawn from analyses/labels/faces-exemplars.json, beside controls; all
pictures in one random order. An automated observer (a vision-language model shown the sheets that --sheets writes) said
what each shows, not knowing where it came from: analyses/labels/faces-arithmetic-answers.json.
Run: python -m analyses.faces_repeats --ckpt path/to/weights.tar
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from analyses.blinded import counts, sheets
from analyses.common import arguments, publish
from analyses.faces_arithmetic import EXEMPLARS, GLASSES, SMILE
from probe import checkpoints
from probe.concepts import draws
from probe.concepts.exemplars import Exemplars, load
from probe.concepts.expressions import Expression, Term, parse
from probe.models.gan import GAN, to_bytes
from probe.results.result import Result

ANSWERS = Path(__file__).parent / "labels" / "faces-arithmetic-answers.json"
REPEATS, AVERAGED, TURN_AVERAGED, SEED, ORDER_SEED = 20, 3, 4, 0, 20260000
CONDITIONS = {"mean": "arithmetic", "norm_matched_single": "one exemplar, equal norm", "base": "the base's mean"}
PROMISES = {"smiling man": ("smile", "man"), "woman with glasses": ("glasses", "woman")}


def repeats(gan: GAN, exemplars: Exemplars) -> dict[str, np.ndarray]:
    """Pictures to be judged: of each example and condition REPEATS; of the turn both ends, and of random directions."""
    out = {}
    for text in (SMILE, GLASSES):
        expression = parse(text, exemplars.latents)
        bank = draws.Bank.of(gan, exemplars, expression)
        drawn = draws.draw(bank, expression, AVERAGED, REPEATS, np.random.default_rng([SEED, AVERAGED]))
        z = draws.results(bank, expression, drawn, drawn, SEED)
        out |= {f"{expression.title}/{name}": to_bytes(gan.images(z[name])).numpy() for name in CONDITIONS}
    expression = Expression((Term(1, "right"), Term(-1, "left")))
    bank = draws.Bank.of(gan, exemplars, expression)
    drawn = draws.draw(bank, expression, TURN_AVERAGED, REPEATS, np.random.default_rng([SEED, TURN_AVERAGED]))
    vector = draws.combine(expression, bank.z[torch.from_numpy(drawn)].mean(2))
    random = torch.randn(vector.shape, generator=torch.Generator().manual_seed(SEED))
    random *= vector.norm(dim=1, keepdim=True) / random.norm(dim=1, keepdim=True)
    fresh = gan.latents(REPEATS, SEED + 1)
    for name, v in (("turn", vector), ("random", random)):
        out |= {f"{name}/{end}": to_bytes(gan.images(fresh + a * v)).numpy() for end, a in (("first", -1), ("last", 1))}
    return out


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    parser.add_argument("--sheets", type=Path, help="only write the pictures to be judged")
    args = parser.parse_args()
    gan = checkpoints.load(args.ckpt)
    pictures = repeats(gan, load(EXEMPLARS, gan))
    order = np.random.default_rng(ORDER_SEED).permutation(REPEATS * len(pictures))
    if args.sheets:
        sheets(np.concatenate(list(pictures.values())), order, args.sheets)
        return
    answers = json.loads(ANSWERS.read_text())
    kept, found = counts(answers["seen"], order, PROMISES, list(CONDITIONS), REPEATS)
    names = [f"{title}/mean" for title in PROMISES] + ["turn/first", "turn/last"]
    arrays = {f"images_{i}": pictures[n] for i, n in enumerate(names)}
    arrays |= {f"kept_{i}": kept["turn" if n.startswith("turn") else n].astype(np.uint8) for i, n in enumerate(names)}
    metrics = {"rows": names, "conditions": CONDITIONS, "counts": found}
    result = Result("repeats", metrics, {"order_seed": ORDER_SEED, "seed": SEED}, [answers["about"]], arrays=arrays)
    publish(result, gan, "faces_repeats", args.out, SEED)
    for name, count in found.items():
        print(f"{name}: {count['kept']} of {REPEATS}, {[round(v, 2) for v in count['ci']]}")


if __name__ == "__main__":
    main()
