"""Procedural bedrooms whose every pixel knows what it shows, in two editions.

A room is a box seen from inside, with furniture (boxes and ellipsoids) and fixtures (rectangles on
the walls). Windows hang in about 60 % of rooms; pictures, mirrors and doors are the confounders.
Room `i` of seed `s` is the same room whatever the number rendered, the batch or the machine's cores.

The first edition has sensor grain, which a generator can only imitate by a fixed pattern, fine textures that alias at
64 px, and night rooms that a print shows black. The second has none of these, and more beds, windows and viewpoints.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.data.rooms.raycast import BACK, DOOR, LEFT, MIRROR, NONE, PICTURE, RIGHT, WINDOW, Array, draw

OBJECTS = ("background", "window", "picture", "mirror", "door", "bed", "lamp")
"""Names of the values of a label map, in order."""
ATTRIBUTES = ("window", "night", "lamp", "yaw", "wall_hue", "bed_hue")
"""Columns of the attribute table: 0/1, 0/1, 0/1, degrees in [-14, 14], and two hues in [0, 1)."""
WINDOW_SHARE = 0.004
"""A room counts as one with a window when the window covers this share of the picture."""

EDITIONS = (1, 2)
_SUPERSAMPLE = {1: 2, 2: 3}
_BATCH = 16
_FIRST = dict(
    planks=0.15, grain=0.06, paper=0.04, frame_width=0.09, bars=30, bars_across=35, soft=False, turned=0.62
)  # fmt: skip


@dataclass(frozen=True)
class Rooms:
    """Rendered rooms: images (N, 3, S, S) uint8, labels (N, S, S) uint8, attributes (N, 6) float32."""

    images: Array
    labels: Array
    attributes: Array


def _rgb(hue: float, saturation: float, value: float) -> Array:
    """HSV in [0, 1] -> RGB in [0, 1], shape (3,)."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return np.asarray(value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1), dtype=np.float32)


def _fixtures(rng: np.random.Generator, half: float, depth: float) -> list[dict[str, Any]]:
    """Four places for a fixture (two on the back wall, one on each side wall) and what hangs there."""
    gap = 0.06 * rng.random() + 0.06
    spans = [
        (BACK, -half + gap, -0.06),
        (BACK, 0.06, half - gap),
        (LEFT, 2.2, depth - 0.2),
        (RIGHT, 2.2, depth - 0.2),
    ]
    kinds = rng.choice([NONE, PICTURE, MIRROR, DOOR], size=4, p=[0.5, 0.26, 0.12, 0.12])
    if rng.random() < 0.68:
        chosen = rng.choice(4, size=1 + int(rng.random() < 0.25), replace=False, p=[0.32, 0.32, 0.18, 0.18])
        kinds[chosen] = WINDOW
    out = []
    for kind, (wall, low, high) in zip(kinds, spans, strict=True):
        sizes = {WINDOW: (1.25, 1.55, 1.2, 1.5), PICTURE: (0.5, 0.95, 0.45, 0.8), MIRROR: (0.5, 0.8, 0.8, 1.2)}
        w0, w1, h0, h1 = sizes.get(int(kind), (0.85, 1.0, 2.0, 2.1))
        width = min(rng.uniform(w0, w1), high - low)
        height = rng.uniform(h0, h1)
        left = rng.uniform(low, high - width)
        bottom = (
            0.0
            if kind == DOOR
            else rng.uniform(0.88, 1.0)
            if kind == WINDOW
            else 1.55 - height / 2 + rng.uniform(-0.1, 0.2)
        )
        wood = rng.random() < 0.5
        frame = _rgb(0.08, 0.55, rng.uniform(0.25, 0.5)) if wood else _rgb(0.1, 0.05, rng.uniform(0.85, 0.97))
        if kind == WINDOW:
            frame = _rgb(0.1, 0.04, rng.uniform(0.88, 1.0))
        colours = np.stack([_rgb(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.9)) for _ in range(2)])
        out.append(
            dict(
                kind=kind,
                wall=wall,
                u0=left,
                u1=left + width,
                v0=bottom,
                v1=min(bottom + height, 2.42),
                frame=frame,
                colours=colours,
            )
            | dict(bars_u=2, bars_v=int(rng.integers(2, 4)))
        )
    return out


def scene(rng: np.random.Generator) -> dict[str, Any]:
    """Draw one room: every length in metres, angles in radians, colours RGB in [0, 1]."""
    half, depth, height = rng.uniform(1.65, 1.95), rng.uniform(3.9, 4.4), 2.5
    yaw = rng.uniform(-14, 14)
    night = rng.random() < 0.35
    wall_hue, bed_hue = rng.random(), rng.random()
    fixtures = _fixtures(rng, half, depth)
    head = int(rng.choice([BACK, LEFT, RIGHT], p=[0.6, 0.2, 0.2]))
    wide, long, top = rng.uniform(1.5, 1.9), rng.uniform(1.8, 2.1), rng.uniform(0.5, 0.62)
    side = 1 if rng.random() < 0.5 else -1
    if head == BACK:
        middle = rng.uniform(-0.35, 0.35)
        bed = [middle - wide / 2, middle + wide / 2, depth - long, depth]
        board = [bed[0], bed[1], depth - 0.08, depth]
        stand = [middle + side * (wide / 2 + 0.25) - 0.2, middle + side * (wide / 2 + 0.25) + 0.2, depth - 0.45, depth]
    else:
        sign = -1 if head == LEFT else 1
        far = depth - rng.uniform(0.05, 0.5)
        xs = sorted([sign * half, sign * (half - long)])
        bed = [xs[0], xs[1], far - wide, far]
        xs = sorted([sign * half, sign * (half - 0.08)])
        board = [xs[0], xs[1], far - wide, far]
        stand = [-sign * (half - 0.5) - 0.2, -sign * (half - 0.5) + 0.2, depth - 0.45, depth]
    has_lamp = rng.random() < 0.6
    pillows = []
    for shift in (-0.25, 0.25):
        along = (bed[0] + bed[1]) / 2 if head == BACK else (bed[2] + bed[3]) / 2
        across = along + shift * wide
        inset = 0.32
        centre = (
            [across, top + 0.08, depth - inset]
            if head == BACK
            else [(-1 if head == LEFT else 1) * (half - inset), top + 0.08, across]
        )
        radius = [0.19 * wide, 0.12, 0.2] if head == BACK else [0.2, 0.12, 0.19 * wide]
        pillows.append((centre, radius))
    lamp_x, lamp_z = (stand[0] + stand[1]) / 2, (stand[2] + stand[3]) / 2
    return dict(
        half=half,
        depth=depth,
        height=height,
        yaw=np.deg2rad(yaw),
        pitch=np.deg2rad(rng.uniform(-9, -5)),
        eye_x=rng.uniform(-0.25, 0.25),
        eye_y=rng.uniform(1.45, 1.6),
        night=night,
        head=head,
        has_lamp=has_lamp,
        fixtures=fixtures,
        bed=np.array([bed[0], bed[1], 0.0, top, bed[2], bed[3]]),
        board=np.array([board[0], board[1], 0.0, rng.uniform(0.8, 1.0), board[2], board[3]]),
        stand=np.array([stand[0], stand[1], 0.0, 0.5, stand[2], stand[3]]),
        stem=np.array([lamp_x - 0.03, lamp_x + 0.03, 0.5, 0.75, lamp_z - 0.03, lamp_z + 0.03]),
        shade=np.array([lamp_x, 0.85, lamp_z, 0.19, 0.16, 0.19]),
        pillows=np.array([[*centre, *radius] for centre, radius in pillows]),
        wall=_rgb(wall_hue, rng.uniform(0.15, 0.5), rng.uniform(0.7, 0.95)),
        floor=_rgb(rng.uniform(0.05, 0.11), rng.uniform(0.35, 0.6), rng.uniform(0.4, 0.75)),
        blanket=_rgb(bed_hue, rng.uniform(0.45, 0.85), rng.uniform(0.45, 0.9)),
        sheet=_rgb(0.1, 0.06, rng.uniform(0.88, 0.98)),
        wood=_rgb(0.07, rng.uniform(0.4, 0.65), rng.uniform(0.25, 0.6)),
        stripes=rng.uniform(8, 16),
        stripe_depth=rng.uniform(0.0, 0.25),
        rug=_rgb(rng.random(), rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.85)),
        rug_size=rng.uniform(0.0, 1.0) * (rng.random() < 0.5),
        sun=np.array([rng.uniform(-0.5, 0.5), -0.9, -0.7]),
        sky=_rgb(0.58, rng.uniform(0.1, 0.4), rng.uniform(0.92, 1.0))
        if not night
        else _rgb(0.63, 0.6, rng.uniform(0.1, 0.2)),
        phase=rng.uniform(0, 6.28, size=6),
        attributes=np.array([0, night, has_lamp, yaw, wall_hue, bed_hue], dtype=np.float32),
        dusk=np.array([0.52, 0.52, 0.62]),
        land=np.array([0.05, 0.05, 0.05]),
        **_FIRST,
    )


def second(rng: np.random.Generator) -> dict[str, Any]:
    """Draw one room of the second edition: one of the first, with what differs drawn anew."""
    s = scene(rng)
    s |= dict(planks=0.07, grain=0.02, paper=0.015, frame_width=0.12, bars=45, bars_across=45, soft=True)
    s |= dict(dusk=np.array([0.66, 0.70, 0.86]), land=np.array([0.07, 0.09, 0.12]), turned=rng.uniform(0.45, 0.9))
    s |= dict(pitch=np.deg2rad(rng.uniform(-10, -4)), eye_x=rng.uniform(-0.35, 0.35), eye_y=rng.uniform(1.4, 1.7))
    s |= dict(stripes=rng.uniform(6, 10), stripe_depth=rng.choice([0.0, rng.uniform(0.15, 0.35)]))
    s["rug_size"] = rng.uniform(0.5, 1.0) * (rng.random() < 0.4)
    if s["night"]:
        s["sky"] = _rgb(0.63, 0.65, rng.uniform(0.16, 0.3))
    up = rng.uniform(-0.12, 0.08)  # the bed's height, its pillows with it
    s["bed"][3] += up
    s["pillows"][:, 1] += up
    s["board"][3] = s["bed"][3] + rng.uniform(0.15, 0.6)
    panes, wood = rng.choice([(2, 2), (2, 2), (2, 1), (1, 2), (2, 3)]), rng.random() < 0.3
    frame = _rgb(0.08, 0.5, rng.uniform(0.3, 0.5)) if wood else _rgb(0.1, 0.04, rng.uniform(0.88, 1.0))
    for fixture in s["fixtures"]:  # the windows of a room are of one kind
        fixture["bars_u"], fixture["bars_v"] = (int(number) for number in panes)
        if fixture["kind"] == WINDOW:
            fixture["frame"] = frame
    return s


_SCENES = {1: scene, 2: second}


def _stack(scenes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scenes -> one dictionary of arrays with the batch first."""
    flat = {k: np.array([s[k] for s in scenes]) for k in scenes[0] if k != "fixtures"}
    names = scenes[0]["fixtures"][0]
    fixtures = {k: np.array([[f[k] for f in s["fixtures"]] for s in scenes]) for k in names}
    floats = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in flat.items()}
    return floats | {"fixtures": {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in fixtures.items()}}


def _render_batch(job: tuple[int, range, int, int]) -> tuple[Array, Array, Array]:
    seed, indices, size, edition = job
    generators = [np.random.default_rng([seed, i]) for i in indices]
    scenes = [_SCENES[edition](g) for g in generators]
    n, k = len(scenes), _SUPERSAMPLE[edition]
    colours, fine = draw(_stack(scenes), size * k)
    colours, fine = colours.reshape(n, size * k, size * k, 3), fine.reshape(n, size * k, size * k)
    corners = [(slice(None), slice(i, None, k), slice(j, None, k)) for i in range(k) for j in range(k)]
    mean = sum(colours[corner] for corner in corners) / k**2
    counts = np.stack(
        [sum((fine[corner] == label).view(np.uint8) for corner in corners) for label in range(len(OBJECTS))]
    )
    labels = counts.argmax(0).astype(np.uint8)
    if edition == 1:
        mean = mean + np.stack([g.normal(0, 0.012, size=(size, size, 3)) + g.normal(0, 0.015) for g in generators])
    images = (np.clip(mean, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(0, 3, 1, 2)
    attributes = np.stack([s["attributes"] for s in scenes])
    attributes[:, 0] = (labels == WINDOW).mean((1, 2)) >= WINDOW_SHARE
    return images, labels, attributes


def render(n: int, seed: int = 0, size: int = 64, start: int = 0, edition: int = 1) -> Rooms:
    """Render rooms `start` … `start + n - 1` of a seed and an edition.

    Returns images (n, 3, size, size) uint8, label maps (n, size, size) with values indexing `OBJECTS`, and
    the attribute table (n, 6) with columns `ATTRIBUTES`. Large jobs use all cores; the result does not
    depend on how many there are.
    """
    if n < 1 or size < 16:
        raise ProbeError(f"rooms: {n} rooms of {size} px asked for; at least 1 room of 16 px is needed")
    jobs = [(seed, range(i, min(i + _BATCH, start + n)), size, edition) for i in range(start, start + n, _BATCH)]
    if len(jobs) < 8:
        parts = [_render_batch(job) for job in jobs]
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(_render_batch, jobs))
    return Rooms(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def cache_dir() -> Path:
    """Where rendered rooms are kept: `$PROBE_CACHE`, else `~/.cache/probe`."""
    return Path(os.environ.get("PROBE_CACHE") or Path.home() / ".cache" / "probe")


def load(n: int, seed: int = 0, size: int = 64, edition: int = 1) -> Rooms:
    """`render`, kept on disk and memory-mapped; the cache is keyed by a picture of what the renderer draws today."""
    parts = _render_batch((0, range(_BATCH), 32, edition))
    drawn = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:12]
    folder = cache_dir() / f"rooms-{drawn}-{seed}-{n}-{size}"
    names = ("images", "labels", "attributes")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        rooms = render(n, seed, size, edition=edition)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".rooms-"))
        try:
            for name in names:
                np.save(temporary / f"{name}.npy", getattr(rooms, name))
            os.replace(temporary, folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not folder.exists():  # unless another process finished first
                return rooms
    return Rooms(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))
