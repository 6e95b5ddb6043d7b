"""How often is a checkpoint read wrong, and does probe say so? On 30 generators that settled no threshold (some 10 minutes on one core).

Run: python -m analyses.calibrate_reading --work out/reading, again to go on after an interruption.
Small generators of plain torch, none of them probe's own modules, are trained for a few hundred steps against a small
discriminator on rooms and saved as bare state dicts: every combination of five activations, two priors and two orders of
BatchNorm and activation, with three kernels in turn; size, batch and whether the names are numbers that betray what
stands between are spread over these. `probe.load` opens each, and its images of 16 latents are held against the
module's own. The set is split in half by the parity of the seed: what one half suggests the other must confirm.
Beside it, all 20 readings (activation, order, prior) of each generator: how far its own reading and the wrong ones are
from its statistics, and what other thresholds would have made of them. Thresholds of discriminators and of drifted
statistics are not measured.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analyses.common import arguments
from probe.checkpoints import identify, load
from probe.checkpoints.conversion import _NEARER, LIKELY, SURE
from probe.data.rooms import scenes as rooms
from probe.measures.statistics import share_ci
from probe.models.gan import Prior, from_bytes, latents, to_unit
from probe.results.provenance import versions
from probe.results.result import Result

ACTIVATIONS = ("relu", "leaky 0.2", "leaky 0.1", "elu", "none first")  # the last: ReLU, but none after the first layer
PRIORS: tuple[Prior, ...] = ("uniform", "normal")
ORDERS = ("norm-act", "act-norm")
KERNELS = {"4": (4, 1, 0), "5": (5, 2, 1), "3": (3, 1, 1)}  # kernel, padding, output padding; all of stride 2
SIZES, BATCHES, WIDTHS, NAMES = (32, 28), (64, 32), (8, 12), ("numbers", "words")
NZ, STEPS, LR, ROOMS, ROOMS_SEED = 32, 300, 5e-4, 1000, 23
LATENTS, LATENT_SEED, SAME, CHECKED = 16, 77, 0.01, 256  # images agree to SAME, pixels in [0, 1]
SWEPT = {"sure": (0.01, 0.02, 0.03, 0.06, 0.1), "likely": (0.1, 0.2, 0.3, 0.5, 1.0), "nearer": (0.4, 0.6, 0.8, 0.95)}
KINDS = (
    "right, consistent",
    "right, identified",
    "right, warned of",
    "wrong, warned of",
    "wrong, called identified",
    "wrong and silent",
)
READINGS = tuple(itertools.product(ACTIVATIONS, ORDERS, PRIORS))


@dataclass(frozen=True)
class Kind:
    """What a generator is made of; the parity of its seed is its half."""

    seed: int
    activation: str
    prior: Prior
    order: str
    kernel: str
    size: int
    width: int
    batch: int
    names: str

    @property
    def name(self) -> str:
        return f"{self.seed:02d}"

    def after(self, layer: int) -> str:
        """The activation after a layer but the last."""
        return _after(self.activation, layer)


def kinds() -> Iterator[Kind]:
    """Half of all combinations, each level in even parts; seeds are places among all."""
    seeds = [itertools.count(0, 2), itertools.count(1, 2)]
    levels = (enumerate(ACTIVATIONS), enumerate(PRIORS), enumerate(ORDERS), enumerate(KERNELS))
    for (a, act), (p, prior), (o, order), (k, kernel) in itertools.product(*levels):
        seed, turn = next(seeds[(a + p + o + k) % 2]), (k + a) % 3
        if turn > (a + p) % 2:  # one or two kernels of three for each activation, prior and order
            continue
        sizes, names, batch = SIZES[(a + o) % 2], NAMES[(p + k) % 2], BATCHES[(p + o) % 2]
        yield Kind(seed, act, prior, order, kernel, sizes, WIDTHS[turn], batch, names)


# Generators ------------------------------------------------------------------------------------------------------------


def _after(activation: str, layer: int) -> str:
    return ("none" if layer == 0 else "relu") if activation == "none first" else activation


def _module(activation: str) -> nn.Module | None:
    kind, _, slope = activation.partition(" ")
    made = {"relu": nn.ReLU, "elu": nn.ELU, "leaky": lambda: nn.LeakyReLU(float(slope)), "none": lambda: None}
    return made[kind]()


def generator(kind: Kind, activation: str = "", order: str = "", names: str = "") -> nn.Sequential:
    """The generator of a kind, or the same layers with another activation, order or names."""
    activation, order, names = activation or kind.activation, order or kind.order, names or kind.names
    size, padding, output_padding = KERNELS[kind.kernel]
    doublings = 3 if kind.size == 32 else 2
    maps = [kind.width * 2 ** (doublings - 1 - i) for i in range(doublings)]
    made: list[tuple[str, nn.Module]] = []
    for i, (before, after) in enumerate(itertools.pairwise([NZ, *maps, 3])):
        if i:
            layer = nn.ConvTranspose2d(before, after, size, 2, padding, output_padding, bias=i == doublings)
        else:
            layer = nn.ConvTranspose2d(before, after, kind.size // 2**doublings, bias=False)
        nn.init.normal_(layer.weight, 0, 0.02)
        made.append((f"deconv{i + 1}", layer))
        if i < doublings:
            norm, act = (f"bn{i + 1}", nn.BatchNorm2d(after)), _module(_after(activation, i))
            pair = [norm] if act is None else [norm, (f"act{i + 1}", act)]
            made += pair if order == "norm-act" else pair[::-1]
    made.append(("tanh", nn.Tanh()))
    return nn.Sequential(OrderedDict(made)) if names == "words" else nn.Sequential(*(module for _, module in made))


def discriminator(size: int) -> nn.Sequential:
    side = size // 4
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(16 * side**2, 1),
    )


def trained(kind: Kind, images: Tensor) -> nn.Sequential:
    """A generator after its game; images (N, 3, size, size) in [-1, 1]."""
    torch.manual_seed(kind.seed)
    g, d = generator(kind), discriminator(kind.size)
    optimisers = [torch.optim.Adam(model.parameters(), LR, (0.5, 0.999)) for model in (g, d)]
    for step in range(STEPS):
        real = images[torch.randint(len(images), (kind.batch,))]
        fake = g(latents(kind.batch, NZ, kind.seed * STEPS + step, kind.prior)[:, :, None, None])
        for model, optimiser in zip((d, g), reversed(optimisers), strict=True):
            optimiser.zero_grad()
            if model is d:
                loss = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
            else:
                loss = F.softplus(-d(fake)).mean()
            loss.backward()
            optimiser.step()
    return g.eval()


def make(folder: Path) -> None:
    """Train what is not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(kinds())
    missing = [kind for kind in every if not (folder / f"{kind.name}.pth").exists()]
    pictures = {
        s: from_bytes(torch.from_numpy(rooms.load(ROOMS, ROOMS_SEED, s).images.copy())) for s in SIZES if missing
    }
    for kind in missing:
        torch.save(trained(kind, pictures[kind.size]).state_dict(), folder / f"{kind.name}.part")
        os.replace(folder / f"{kind.name}.part", folder / f"{kind.name}.pth")
        print(f"trained {kind.name}: {kind.activation}, {kind.order}, {kind.prior}, kernel {kind.kernel}", flush=True)


# How they are read -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def drawn(module: nn.Module, z: Tensor) -> Tensor:
    return to_unit(module(z[:, :, None, None]))


def read(kind: Kind, path: Path) -> dict[str, Any]:
    """What probe makes of a file, against what the file is of."""
    own = generator(kind)
    own.load_state_dict(torch.load(path))
    z = latents(LATENTS, NZ, LATENT_SEED, kind.prior)
    gan = load(path)
    found = gan.provenance["consistency"]["generator"]
    images = to_unit(gan.images(z))
    truth = drawn(own.eval(), z)
    far = float((images - truth).abs().mean()) if images.shape == truth.shape else 1.0
    layers = found["layers"]
    hidden = layers[:-1]
    _, padding, output_padding = KERNELS[kind.kernel]
    strides = [(layer.get("stride"), layer.get("padding"), layer.get("output_padding", 0)) for layer in layers[1:]]
    row = {"verdict": found["verdict"], "score": found["score"], "before": found.get("before", found["score"])}
    row |= {"drifted": found.get("drifted", False), "difference": far, "changed": found.get("changed", [])}
    row["activation_right"] = [layer["activation"] for layer in hidden] == [kind.after(i) for i in range(len(hidden))]
    row["order_right"] = all(layer["order"] == kind.order for layer in hidden if layer["activation"] != "none")
    row["prior_right"] = gan.prior == kind.prior
    row["strides_right"] = strides == [(2, padding, output_padding)] * len(strides)
    warned = "warned of" if found["verdict"] == "inconsistent" else found["verdict"]
    if far <= SAME:
        row["kind"] = f"right, {warned}"
    else:
        row["kind"] = {"identified": "wrong, called identified", "consistent": "wrong and silent"}.get(
            warned, "wrong, warned of"
        )
    return row


@torch.no_grad()
def distances(kind: Kind, path: Path) -> tuple[list[float], list[float]]:
    """For each of READINGS how far a generator's statistics are from it, and its images from the generator's own."""
    weights = list(torch.load(path).values())
    z = latents(LATENTS, NZ, LATENT_SEED, kind.prior)
    scores, far, truth = [], [], None
    for activation, order in [(kind.activation, kind.order), *itertools.product(ACTIVATIONS, ORDERS)]:
        module = generator(kind, activation, order, "words").eval()
        module.load_state_dict(dict(zip(module.state_dict(), weights, strict=True)))
        images = drawn(module, z)
        if truth is None:  # the generator itself comes first
            truth = images
            continue
        for prior in PRIORS:
            scores.append(_score(module, identify.balanced(CHECKED, NZ, 1, prior)))
            far.append(float((images - truth).abs().mean()))
    return scores, far


def _score(module: nn.Sequential, z: Tensor) -> float:
    x, found = z[:, :, None, None], []
    for name, layer in module.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            found.append(identify.distance(x, name, layer.running_mean, layer.running_var))
        x = layer(x)
    return identify.score(found)


def usual(kind: Kind) -> int:
    """Which of READINGS a file is read as where nothing else fits much better; numbers tell what stands between."""
    numbered = kind.names == "numbers"
    first = "none first" if numbered and kind.activation == "none first" else "relu"
    return READINGS.index((first, kind.order if numbered else "norm-act", "normal"))


def ruled(scores: Any, default: int, sure: float, likely: float, nearer: float) -> tuple[int, str]:
    """The reading that these thresholds choose among READINGS, and their verdict."""
    before, best = scores[default], int(np.argmin(scores))
    if before <= sure:
        return default, "consistent"
    if best != default and scores[best] <= likely and scores[best] < nearer * before:
        return best, "identified"
    return default, "consistent" if before <= likely else "inconsistent"


# What came of it -------------------------------------------------------------------------------------------------------


def rate(successes: int, n: int) -> dict[str, Any]:
    return {"count": successes, "of": n, "share": successes / n, "ci": share_ci(successes, n)}


def _range(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    return {"least": float(low), "median": float(middle), "most": float(high), "n": len(values)}


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates and scores of a set of generators."""
    found: dict[str, Any] = {"kinds": {k: rate(sum(r["kind"] == k for r in rows), len(rows)) for k in KINDS}}
    for part in ("activation", "order", "prior", "strides"):
        found[f"{part}_right"] = rate(sum(r[f"{part}_right"] for r in rows), len(rows))
    silent = sum(not r["prior_right"] and r["verdict"] != "inconsistent" for r in rows)
    found["prior_wrong_and_silent"] = rate(silent, len(rows))
    right = [r["difference"] <= SAME for r in rows]
    found["score_right"] = _range([r["score"] for r, yes in zip(rows, right, strict=True) if yes])
    found["score_wrong"] = _range([r["score"] for r, yes in zip(rows, right, strict=True) if not yes])
    return found


def compared(those: list[Kind], scores: Any, far: Any) -> dict[str, Any]:
    """The readings of a set of generators: scores of its own, of those that draw otherwise, and other thresholds."""
    own = [READINGS.index((k.activation, k.order, k.prior)) for k in those]
    pairs = list(zip(those, own, scores, far, strict=True))
    nearest = [float(s[f > SAME].min()) for _, _, s, f in pairs]
    found: dict[str, Any] = {
        "own": _range([float(s[i]) for _, i, s, _ in pairs]),
        "nearest_that_draws_otherwise": _range(nearest),
        "own_over_nearest": _range([float(s[i]) / near for (_, i, s, _), near in zip(pairs, nearest, strict=True)]),
        "own_over_other_prior": _range([float(s[i] / s[i ^ 1]) for _, i, s, _ in pairs]),
        "own_is_nearest": rate(sum(float(s[i]) < near for (_, i, s, _), near in zip(pairs, nearest, strict=True)), len(own)),
    }  # fmt: skip
    now = {"sure": SURE, "likely": LIKELY, "nearer": _NEARER}
    found["thresholds"] = {}
    for name, values in SWEPT.items():
        for value in values:
            counts = dict.fromkeys(("silent", "misidentified", "warned_right", "warned_wrong", "prior_wrong"), 0)
            for kind, _, s, f in pairs:
                chosen, verdict = ruled(s, usual(kind), **(now | {name: value}))
                wrong = f[chosen] > SAME
                counts["silent"] += wrong and verdict == "consistent"
                counts["misidentified"] += wrong and verdict == "identified"
                counts["warned_wrong" if wrong else "warned_right"] += verdict == "inconsistent"
                counts["prior_wrong"] += READINGS[chosen][2] != kind.prior and verdict != "inconsistent"
            found["thresholds"][f"{name} {value:g}"] = {k: int(v) for k, v in counts.items()}
    return found


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--work", type=Path, default=Path("out/reading"), help="folder of the generators")
    args = parser.parse_args()
    make(args.work)
    every = sorted(kinds(), key=lambda kind: kind.seed)
    publish(every, [measured(kind, args.work / f"{kind.name}.pth") for kind in every], args.out)


def measured(kind: Kind, path: Path) -> tuple[dict[str, Any], list[float], list[float]]:
    """How a file is read, and the scores and differences of READINGS."""
    row, (scores, far) = vars(kind) | read(kind, path), distances(kind, path)
    about = f"{kind.activation}, {kind.order}, {kind.prior}, kernel {kind.kernel}, {kind.names}"
    print(f"  {kind.name} {row['kind']}: {about}; score {row['score']:.3f}", flush=True)
    return row, scores, far


def publish(every: list[Kind], measurements: list[tuple[dict[str, Any], list[float], list[float]]], out: Path) -> None:
    """Write figures/reading/ and print what came of it."""
    rows, scores, far = (list(column) for column in zip(*measurements, strict=True))
    arrays = {"scores": np.array(scores, np.float32), "differences": np.array(far, np.float32)}
    halves = {"all": (0, 1), "even": (0,), "odd": (1,)}
    metrics: dict[str, Any] = {}
    for name, parities in halves.items():
        chosen = [i for i, kind in enumerate(every) if kind.seed % 2 in parities]
        those = [every[i] for i in chosen]
        metrics[name] = told([rows[i] for i in chosen])
        metrics[name]["readings"] = compared(those, arrays["scores"][chosen], arrays["differences"][chosen])
    metrics["generators"] = rows
    settings = {"steps": STEPS, "nz": NZ, "rooms": ROOMS, "latents": LATENTS, "same": SAME}
    settings |= {"sure": SURE, "likely": LIKELY, "nearer": _NEARER, "readings": [", ".join(r) for r in READINGS]}
    assumed = [f"a reading is right where its images agree to {SAME} on average, with latents of the true prior"]
    result = Result("reading-calibration", metrics, settings, assumed, arrays=arrays)
    result.provenance = {"versions": versions(), "seed": LATENT_SEED}
    result.provenance["command"] = f"python -m analyses.{Path(sys.argv[0]).stem}"
    print(f"numbers: {result.save(out / 'reading')}")
    for label in KINDS:
        print(f"  {label:26}" + "".join(_cell(metrics[part]["kinds"][label]) for part in ("all", "even", "odd")))
    for key in ("activation_right", "order_right", "prior_right", "strides_right", "prior_wrong_and_silent"):
        print(f"  {key.replace('_', ' '):26}" + "".join(_cell(metrics[part][key]) for part in ("all", "even", "odd")))
    for part in ("even", "odd"):
        print(f"  {part}: scores right {metrics[part]['score_right']}, wrong {metrics[part]['score_wrong']}")
        numbers = metrics[part]["readings"]
        for key, value in numbers.items():
            if key != "thresholds":
                print(f"    {key.replace('_', ' ')}: {value}")
        for key, counts in numbers["thresholds"].items():
            print(f"    {key:12} {counts}")


def _cell(found: dict[str, Any]) -> str:
    low, high = found["ci"]
    return f"  {found['count']:3d} of {found['of']} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
