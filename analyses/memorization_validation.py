"""Is the memorisation test right? Nulls, planted copies, and DCGANs that saw few and many images (minutes on 2 cores).

Run: python -m analyses.train_copiers --run out/copiers
then python -m analyses.memorization_validation --run out/copiers
The paper looks for copies by removing near-duplicates and by walking; it has no test of them. Nulls and planted copies,
and their constants: copy_nulls.py.
"""

from __future__ import annotations

from pathlib import Path

from analyses.common import arguments, publish
from analyses.copy_nulls import IMAGES, SIZE, null_rates, trials
from probe.checkpoints import load
from probe.data.rooms import scenes as rooms
from probe.measures.features import feature
from probe.questions.memorization.run import Settings, memorization
from probe.results.result import Result
from probe.training.loop import own_split

MODELS, DISTANCE, ROOMS_SEED = ("fitted", "dcgan_50", "dcgan_200", "dcgan_1000", "dcgan_all"), "pixels", 11
TOLD = [
    "p_value",
    "copy_share",
    "copy_share_ci",
    "floor",
    "ct",
    "authenticity",
    "train_images",
    "holdout_images",
    "recovery",
]
AIM = (
    "false alarms 0.04 to 0.06 at 0.05, power >= 0.95 at 5 % copies, "
    "fitted and dcgan_50 detected, dcgan_all not detected"
)


def models(run: Path, out: Path) -> dict[str, Result]:
    found = {}
    for name in MODELS:
        gan = load(run / f"{name}.safetensors")
        of = gan.provenance["training"]["split"]["of"]
        train, holdout = own_split(gan, rooms.load(of, ROOMS_SEED, SIZE).images, f"rooms:{of}")
        found[name] = memorization(gan, train, holdout, feature(DISTANCE, 3), Settings())
        publish(found[name], gan, f"memorization_{name}", out, 0)
        print(f"  {name}: {found[name].metrics['verdict']}, {found[name].metrics['reason']}", flush=True)
    return found


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--run", type=Path, default=Path("out/copiers"), help="what analyses.train_copiers wrote")
    args = parser.parse_args()
    arrays, tested = trials(args.run), models(args.run, args.out)
    powers = {k: v for k, v in arrays.items() if k.startswith(("power_", "lower_"))}
    curves = {k: {f"{100 * row[0]:g}": float(row[1]) for row in v} for k, v in powers.items()}
    simulation, images = null_rates(arrays, "simulated"), null_rates(arrays, "images")
    metrics = {
        **{k: simulation[k] for k in ("null_runs", "false_alarm_rate", "false_alarm_ci")},
        "power": curves["power_images"],
        "models": {name: r.metrics["verdict"] for name, r in tested.items()},
        "simulated": simulation,
        "images": images,
        "curves": curves,
        "details": {name: {k: r.metrics[k] for k in TOLD} for name, r in tested.items()},
    }
    for name, r in tested.items():
        parts = ("suspects", "suspects_train", "suspects_holdout")
        arrays |= {f"{name}_{part}": r.arrays[part][:4] for part in parts}
    result = Result(
        "memorization-validation", metrics, {"samples": IMAGES.samples, "distance": DISTANCE}, arrays=arrays
    )
    publish(result, load(args.run / "dcgan_1000.safetensors"), "memorization_validation", args.out, 0)
    print("  ", {k: metrics[k] for k in ("false_alarm_rate", "false_alarm_ci", "power", "models")}, f"({AIM})")


if __name__ == "__main__":
    main()
