"""The units that draw windows by dissection, switched off: a causal test of what overlap says (a minute on 2 cores).

The eight units of 16x16 with the largest overlap with windows, as figures/dissect_rooms ranks them, at zero: 12
samples, and the area of every object by the judge beside 50 random sets of as many other units.
"""

from __future__ import annotations

from analyses.common import FIGURES, arguments, publish
from probe.checkpoints import load
from probe.concepts.segmenters import load_rooms
from probe.questions.ablate.run import Settings, effect
from probe.results.result import load as load_result

LAYER, CONCEPT, UNITS, SAMPLES, DRAWS, SEED = "16x16", "window", 8, tuple(range(12)), 50, 0


def main() -> None:
    args = arguments(__doc__).parse_args()
    gan = load(args.ckpt)
    ranked = load_result(FIGURES / "dissect_rooms").metrics["concepts"][CONCEPT]["units"]
    units = tuple(unit["unit"] for unit in ranked[:UNITS])
    settings = Settings(layer=LAYER, units=units, scale=0.0, indices=SAMPLES, draws=DRAWS, seed=SEED)
    result = effect(gan, settings, None, load_rooms()["judge"])
    publish(result, gan, "ablate_rooms", args.out, SEED)
    for name, o in result.metrics["objects"].items():
        print(f"  {name}: {o['ratio']:.2f} {o['ratio_ci']}, random {o['random']['ratio_mean']:.2f}, p = {o['p_value']}")


if __name__ == "__main__":
    main()
