"""The built-in segmenters of rooms: selector and judge on disjoint renders, and how well they read (about 20 minutes).

Run: python -m analyses.train_segmenters --edition 2 --out out/segmenters
The weights go to probe/weights/, a file for each edition, in half precision; the numbers are printed and kept as a result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from probe.base import files
from probe.concepts import segmenters as segmenters
from probe.data.rooms import scenes as rooms
from probe.measures.statistics import iou
from probe.models.gan import from_bytes
from probe.results.provenance import versions
from probe.results.result import Result

RENDERS, STEPS = {1: 6000, 2: 5000}, {"selector": 1500, "judge": 1200}
SEEDS = {"selector": 102, "judge": 101}  # disjoint renders: training of the generator uses seed 0, tests 103
TEST_RENDERS, TEST_SEED = 1024, 103


def report(
    segmenter: segmenters.Segmenter, x: torch.Tensor, labels: torch.Tensor, attributes: torch.Tensor
) -> dict[str, float]:
    found, read = segmenter.labels(x), segmenter.attributes(x)
    out = {f"iou_{name}": iou(found == k, labels == k) for k, name in enumerate(rooms.OBJECTS)}
    for k, name in enumerate(rooms.ATTRIBUTES):
        if name in ("window", "night", "lamp"):
            out[f"accuracy_{name}"] = float(((read[:, k] > 0.5) == (attributes[:, k] > 0.5)).float().mean())
        elif name == "yaw":
            out["yaw_error_degrees"] = float((read[:, k] - attributes[:, k]).abs().mean())
        else:
            off = (read[:, k] - attributes[:, k] + 0.5) % 1 - 0.5
            out[f"{name}_within_0.08"] = float((off.abs() < 0.08).float().mean())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/segmenters"))
    parser.add_argument("--edition", type=int, choices=rooms.EDITIONS, default=2, help="of the rooms")
    parser.add_argument("--evaluate", action="store_true", help="only measure the built-in segmenters")
    args = parser.parse_args()
    fitted = segmenters.load_rooms(args.edition) if args.evaluate else {}
    for name, architecture in segmenters.ROLES.items() if not args.evaluate else ():
        data = rooms.load(RENDERS[args.edition], SEEDS[name], edition=args.edition)
        fitted[name] = segmenters.fit(
            architecture,
            rooms.OBJECTS,
            data.images,
            data.labels,
            data.attributes,
            steps=STEPS[name],
            seed=SEEDS[name],
            report=lambda done, total: print(f"{done}/{total}", end="\r"),
        )
    test = rooms.load(TEST_RENDERS, TEST_SEED, edition=args.edition)
    x, labels = from_bytes(torch.from_numpy(test.images.copy())), torch.from_numpy(test.labels.copy())
    attributes = torch.from_numpy(test.attributes.copy())
    worse, moved = segmenters.degrade(x, labels, torch.Generator().manual_seed(5))
    metrics = {
        name: {
            "clean": report(segmenter, x, labels, attributes),
            "degraded": report(segmenter, worse, moved, attributes),
        }
        for name, segmenter in fitted.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.evaluate:
        path = args.out / segmenters.weights_name(args.edition)
        files.save_tensors(path, segmenters.state(fitted), {"recipe": "analyses/train_segmenters.py"})
    settings = {
        "edition": args.edition,
        "renders": RENDERS[args.edition],
        "steps": STEPS,
        "seeds": SEEDS,
        "test_renders": TEST_RENDERS,
        "test_seed": TEST_SEED,
    }
    Result("segmenters", metrics, settings, [], {"versions": versions()}, {"test": test.images[:1]}).write(args.out)
    for name, rows in metrics.items():
        for kind, numbers in rows.items():
            print(name, kind, {k: round(v, 3) for k, v in numbers.items()})


if __name__ == "__main__":
    main()
