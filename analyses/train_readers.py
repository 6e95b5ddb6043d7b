"""The built-in readers of rooms: chooser and judge on disjoint renders, and how well they read (about 20 minutes).

Run: python -m analyses.train_readers --out out/readers.safetensors
The weights go to probe/weights/readers.safetensors in half precision; the numbers are printed and kept as a result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from probe.base import files
from probe.concepts import segmenters as readers
from probe.data.rooms import scenes as rooms
from probe.measures.statistics import iou
from probe.models.gan import from_bytes
from probe.results.result import Result, versions

RENDERS, STEPS = 6000, {"chooser": 1500, "judge": 1200}
SEEDS = {"chooser": 102, "judge": 101}  # disjoint renders: training of the generator uses seed 0, tests 103
TEST_RENDERS, TEST_SEED = 1024, 103


def report(reader: readers.Reader, x: torch.Tensor, labels: torch.Tensor, attributes: torch.Tensor) -> dict[str, float]:
    found, read = reader.labels(x), reader.attributes(x)
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
    parser.add_argument("--out", type=Path, default=Path("out/readers"))
    parser.add_argument("--evaluate", action="store_true", help="only measure the built-in readers")
    args = parser.parse_args()
    fitted = readers.load_rooms() if args.evaluate else {}
    for name, architecture in readers.ROLES.items() if not args.evaluate else ():
        data = rooms.load(RENDERS, SEEDS[name])
        fitted[name] = readers.fit(
            architecture, rooms.OBJECTS, data.images, data.labels, data.attributes,
            steps=STEPS[name], seed=SEEDS[name], report=lambda done, total: print(f"{done}/{total}", end="\r"),
        )  # fmt: skip
    test = rooms.load(TEST_RENDERS, TEST_SEED)
    x, labels = from_bytes(torch.from_numpy(test.images.copy())), torch.from_numpy(test.labels.copy())
    attributes = torch.from_numpy(test.attributes.copy())
    worse, moved = readers.degrade(x, labels, torch.Generator().manual_seed(5))
    metrics = {
        name: {"clean": report(reader, x, labels, attributes), "degraded": report(reader, worse, moved, attributes)}
        for name, reader in fitted.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.evaluate:
        files.save_tensors(
            args.out / "readers.safetensors", readers.state(fitted), {"recipe": "analyses/train_readers.py"}
        )
    settings = {
        "renders": RENDERS,
        "steps": STEPS,
        "seeds": SEEDS,
        "test_renders": TEST_RENDERS,
        "test_seed": TEST_SEED,
    }
    Result("readers", metrics, settings, [], {"versions": versions()}, {"test": test.images[:1]}).save(args.out)
    for name, rows in metrics.items():
        for kind, numbers in rows.items():
            print(name, kind, {k: round(v, 3) for k, v in numbers.items()})


if __name__ == "__main__":
    main()
