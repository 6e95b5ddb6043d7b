"""The ray caster behind the procedural bedrooms: a batch of rooms at once, one sample a pixel.

Rooms are boxes seen from inside. Walls, floor and ceiling are planes, furniture is boxes (slab method) and
ellipsoids, and fixtures (windows, pictures, mirrors, doors) are painted on the walls. Lengths are in metres.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Colour = Callable[[Array, Array], Array]  # points (M, 3) and their rooms (M,) -> RGB (M, 3)

BACK, LEFT, RIGHT = 0, 1, 2
NONE, WINDOW, PICTURE, MIRROR, DOOR, BED, LAMP = -1, 1, 2, 3, 4, 5, 6


def _rgb32(values: list[float]) -> Array:
    return np.array(values, dtype=np.float32)


class Canvas:
    """The nearest hit so far of every ray of a batch: distance, normal, colour, label, own light; shapes (B, P, …)."""

    def __init__(self, origin: Array, direction: Array) -> None:
        self.origin, self.direction = origin, direction
        shape = direction.shape[:2]
        self.t = np.full(shape, 1e9, dtype=np.float32)
        self.normal = np.zeros((*shape, 3), dtype=np.float32)
        self.colour = np.zeros((*shape, 3), dtype=np.float32)
        self.label = np.zeros(shape, dtype=np.uint8)
        self.glow = np.zeros(shape, dtype=np.float32)

    def points(self, at: Any = slice(None)) -> Array:
        """Where the rays of the rooms `at` end, (B, P, 3)."""
        return np.asarray(self.origin[at, None] + self.t[at, :, None] * self.direction[at])

    def paint(
        self, t: Array, hit: Array, normal: Callable[[Array, Array, Array], Array], colour: Colour, label: int
    ) -> tuple[Array, Array]:
        """Where `hit` is nearer than what is there, put the surface; returns the indices it won."""
        room, pixel = np.nonzero(hit & (t < self.t) & (t > 1e-3))
        self.t[room, pixel] = t[room, pixel]
        point = self.origin[room] + t[room, pixel, None] * self.direction[room, pixel]
        self.normal[room, pixel] = normal(point, room, pixel)
        self.colour[room, pixel] = colour(point, room)
        self.label[room, pixel] = label
        self.glow[room, pixel] = 0
        return room, pixel


def _dot(a: Array, b: Array) -> Array:
    """Dot product over the last axis of three: unrolled, since NumPy's reductions are slow on short axes."""
    return np.asarray(a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2])


def _safe(direction: Array) -> Array:
    return np.where(np.abs(direction) < 1e-6, np.float32(1e-6), direction)


def _box(canvas: Canvas, box: Array, colour: Colour, label: int) -> None:
    """Axis-aligned boxes (B, 6) as x0, x1, y0, y1, z0, z1: the slab method."""
    inverse = 1 / _safe(canvas.direction)
    a = (box[:, None, 0::2] - canvas.origin[:, None]) * inverse
    b = (box[:, None, 1::2] - canvas.origin[:, None]) * inverse
    near, far = np.minimum(a, b), np.maximum(a, b)
    t = np.maximum(np.maximum(near[..., 0], near[..., 1]), near[..., 2])
    leave = np.minimum(np.minimum(far[..., 0], far[..., 1]), far[..., 2])

    def normal(_: Array, room: Array, pixel: Array) -> Array:
        axis = near[room, pixel].argmax(-1)
        return np.asarray(-np.eye(3, dtype=np.float32)[axis] * np.sign(canvas.direction[room, pixel]))

    canvas.paint(t, t < leave, normal, colour, label)


def _ellipsoid(canvas: Canvas, shape: Array, colour: Colour, label: int, present: Array) -> tuple[Array, Array]:
    """Ellipsoids (B, 6) as centre and radii; returns the pixels they won."""
    centre, radius = shape[:, None, :3], shape[:, None, 3:]
    d, o = canvas.direction / radius, (canvas.origin[:, None] - centre) / radius
    a, b, c = _dot(d, d), _dot(d, o), _dot(o, o) - 1
    root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(root, 0))) / a

    def normal(point: Array, room: Array, _: Array) -> Array:
        n = (point - centre[room, 0]) / radius[room, 0] ** 2
        return np.asarray(n / (np.sqrt(_dot(n, n)) + 1e-6)[:, None])

    return canvas.paint(t, (root > 0) & present[:, None], normal, colour, label)


def _waves(p: Array, phase: Array, frequency: float) -> Array:
    """A smooth texture of points (M, 3) in about [-1, 1]: three crossed sine waves with a room's own phases (M, 6)."""
    u, v = p[:, 0] + 0.5 * p[:, 1], p[:, 2] + 0.7 * p[:, 1]
    a, b, c = phase[:, 0], phase[:, 1], phase[:, 2]
    return np.asarray(
        (np.sin(frequency * u + a) + np.sin(frequency * 1.3 * v + b) + np.sin(frequency * 0.7 * (u + v) + c)) / 3
    )


def _floor(s: dict[str, Any]) -> Colour:
    def colour(p: Array, room: Array) -> Any:
        boards = np.cos(18 * p[:, 0]) * np.sign(np.sin(3 * p[:, 2] + 9 * np.floor(p[:, 0] * 2.86)))
        grain = 0.85 + s["planks"][room] * boards + s["grain"][room] * _waves(p, s["phase"][room], 9)
        rug = ((p[:, 0] / 1.1) ** 2 + ((p[:, 2] - 2) / 0.8) ** 2) < s["rug_size"][room]
        ring = 0.9 + 0.1 * np.sign(np.sin(14 * np.hypot(p[:, 0], p[:, 2] - 2)))
        return np.where(rug[:, None], s["rug"][room] * ring[:, None], s["floor"][room] * grain[:, None])

    return colour


def _wallpaper(s: dict[str, Any]) -> Colour:
    def colour(p: Array, room: Array) -> Any:
        paper = s["wall"][room] * (1 + s["paper"][room] * _waves(p, s["phase"][room], 7))[:, None]
        return np.where((p[:, 1] < 0.12)[:, None], np.float32(0.88), paper)

    return colour


def _shell(canvas: Canvas, s: dict[str, Any]) -> Array:
    """Walls, floor and ceiling; returns which a ray meets (0 back, 1 left, 2 right, 3 floor, 4 ceiling)."""
    wall = _wallpaper(s)
    zero = np.zeros_like(s["half"])
    planes: list[tuple[int, Array, int, Colour]] = [
        (2, s["depth"], -1, wall), (0, -s["half"], 1, wall), (0, s["half"], -1, wall), (1, zero, 1, _floor(s)),
        (1, s["height"], -1, lambda p, room: _rgb32([0.95] * 3)),
    ]  # fmt: skip
    which = np.zeros(canvas.t.shape, dtype=np.int8)
    for k, (axis, at, sign, colour) in enumerate(planes):
        t = (at[:, None] - canvas.origin[:, None, axis]) / _safe(canvas.direction[..., axis])
        facing = np.zeros(3, dtype=np.float32)
        facing[axis] = sign
        which[canvas.paint(t, t > 0, lambda *_, n=facing: n, colour, 0)] = k
    return which


def _wall_axes(p: Array, wall: Array) -> tuple[Array, Array]:
    """A wall's own coordinates of points (…, 3): along the wall, and up."""
    return np.where(wall == BACK, p[..., 0], p[..., 2]), p[..., 1]


def _face(kind: int, a: Array, b: Array, edge: Array, f: dict[str, Any], s: dict[str, Any]) -> tuple[Array, Array]:
    """Colours (M, 3) and own light (M,) of points of one kind of fixture; a, b in [0, 1] along and up, edge in m."""
    frame, dark = edge < s["frame_width"], np.zeros_like(a)
    if kind == WINDOW:
        bars = (np.abs((a * f["bars_u"] + 0.5) % 1 - 0.5) < s["bars"] / 1000 * f["bars_u"]) | (
            np.abs((b * f["bars_v"] + 0.5) % 1 - 0.5) < s["bars_across"] / 1000 * f["bars_v"]
        )
        hills = b < 0.28 + 0.1 * np.sin(7 * a + s["phase"][:, 3])
        land = np.where(s["night"][:, None], s["land"], np.array([0.42, 0.6, 0.38]))
        sky = np.where(hills[:, None], land, s["sky"] * (0.82 + 0.18 * (1 - b))[:, None])
        solid = frame | bars
        return np.where(solid[:, None], f["frame"], sky), np.where(solid, 0.35, 1.0)
    if kind == PICTURE:
        upper = b + 0.35 * np.sin(5 * a + s["phase"][:, 4]) > 0.5
        art = np.where(upper[:, None], f["colours"][:, 0], f["colours"][:, 1])
        return np.where(frame[:, None], f["frame"] * 0.8, art), dark
    if kind == MIRROR:
        glass = np.clip(0.55 + 0.35 * (a + b - 1), 0, 1)[:, None] * np.array([0.85, 0.92, 0.95]) + 0.12 * s["wall"]
        return np.where(frame[:, None], f["frame"] * 0.9, glass), dark
    panel = (np.abs(a - 0.5) < 0.3) & (np.abs(b % 0.5 - 0.25) < 0.18)
    knob = (np.abs(a - 0.87) < 0.06) & (np.abs(b - 0.48) < 0.02)
    return np.where(knob[:, None], 0.9, f["frame"] * np.where(panel, 0.8, 1.0)[:, None]), dark


_LOOKED_AT = ("phase", "night", "sky", "wall", "land", "frame_width", "bars", "bars_across")


def _hang(canvas: Canvas, s: dict[str, Any], which: Array) -> None:
    """Fixtures are painted on the shell: the distance stays; colour, label and own light change."""
    p = canvas.points()
    for k in range(4):
        f = {name: value[:, k] for name, value in s["fixtures"].items()}
        u, v = _wall_axes(p, f["wall"][:, None])
        u0, u1, v0, v1 = (f[name][:, None] for name in ("u0", "u1", "v0", "v1"))
        edge = np.minimum(np.minimum(u - u0, u1 - u), np.minimum(v - v0, v1 - v))
        inside = (which == f["wall"][:, None]) & (edge > 0)
        for kind in (WINDOW, PICTURE, MIRROR, DOOR):
            at = np.nonzero(inside & (f["kind"] == kind)[:, None])
            room = at[0]
            here = {name: value[room] for name, value in f.items()}
            a = (u[at] - here["u0"]) / (here["u1"] - here["u0"])
            b = (v[at] - here["v0"]) / (here["v1"] - here["v0"])
            there = {name: s[name][room] for name in _LOOKED_AT}
            canvas.colour[at], canvas.glow[at] = _face(kind, a, b, edge[at], here, there)
            canvas.label[at] = kind


def _daylight(canvas: Canvas, s: dict[str, Any], k: int, light: Array) -> None:
    """Add to `light` what comes in at the k-th fixture where it is a window by day: soft light, and a sun patch."""
    rooms = np.nonzero((s["fixtures"]["kind"][:, k] == WINDOW) & ~s["night"])[0]
    f = {name: value[rooms, k, None] for name, value in s["fixtures"].items() if value.ndim == 2}
    p, n = canvas.points(rooms), canvas.normal[rooms]
    back, left = f["wall"] == BACK, f["wall"] == LEFT
    half = s["half"][rooms, None]
    u, v = (f["u0"] + f["u1"]) / 2, (f["v0"] + f["v1"]) / 2
    x, z = np.where(back, u, np.where(left, -half, half)), np.where(back, s["depth"][rooms, None], u)
    to = np.stack([x, v, z], -1) - p
    distance = np.sqrt(_dot(to, to)) + 0.5
    soft = 1.0 * np.clip(_dot(n, to) / distance, 0, 1) / distance**1.5
    across, down, inward = (s["sun"][rooms, i, None] for i in range(3))
    sun = np.where(
        back[..., None], np.stack([across, down, inward], -1), np.stack([np.where(left, 0.8, -0.8), down, across], -1)
    )
    travelled = np.where(back, z - p[..., 2], x - p[..., 0]) / np.where(back, sun[..., 2], sun[..., 0])
    along, up = _wall_axes(p + travelled[..., None] * sun, f["wall"])
    lit = (along > f["u0"] + 0.09) & (along < f["u1"] - 0.09) & (up > f["v0"] + 0.09) & (up < f["v1"] - 0.09)
    lit &= (travelled < 0) & (n[..., 1] > 0.3)
    light[rooms] += soft[..., None] * _rgb32([1.0, 1.0, 0.96]) + lit[..., None] * _rgb32([0.42, 0.38, 0.28])


def _shade(canvas: Canvas, s: dict[str, Any]) -> Array:
    """Ambient light by normal and corner, daylight, the lamp's warm light; colours (B, P, 3), not yet clipped."""
    p, n = canvas.points(), canvas.normal
    half, depth, height = s["half"][:, None], s["depth"][:, None], s["height"][:, None]
    to_wall = np.minimum(half - np.abs(p[..., 0]), depth - p[..., 2])
    corner = np.minimum(to_wall, np.minimum(p[..., 1], height - p[..., 1]))
    ambient = (0.86 + 0.1 * n[..., 1] + 0.06 * n[..., 0]) * (0.8 + 0.2 * np.clip(np.abs(corner) / 0.35, 0, 1))
    night = s["night"][:, None, None]
    light = (ambient[..., None] * np.where(night, s["dusk"][:, None], _rgb32([1.0]))).astype(np.float32)
    for k in range(4):
        _daylight(canvas, s, k, light)
    to = s["shade"][:, None, :3] + _rgb32([0, 0, -0.1]) - p
    distance = np.sqrt(_dot(to, to)) + 0.3
    strength = np.where(s["night"], 0.62, 0.22).astype(np.float32) * s["has_lamp"]
    facing = 0.35 + 0.65 * np.clip(_dot(n, to) / distance, 0, 1)
    light += (strength[:, None] * facing / distance**1.4)[..., None] * _rgb32([1.0, 0.8, 0.5])
    glow = canvas.glow[..., None]
    return np.asarray(canvas.colour * (light * (1 - glow) + glow))


def _rays(s: dict[str, Any], size: int) -> tuple[Array, Array]:
    """Camera rays, (B, 3) origins and (B, P, 3) directions; 62 degrees of view."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid * 0.6, -grid * 0.6)
    x, y, z = x.ravel()[None], y.ravel()[None], 1.0
    cp, sp = np.cos(s["pitch"])[:, None], np.sin(s["pitch"])[:, None]
    y, z = y * cp + z * sp, -y * sp + z * cp
    cy, sy = np.cos(s["yaw"])[:, None], np.sin(s["yaw"])[:, None]
    direction = np.stack([x * cy + z * sy, y + 0 * cy, -x * sy + z * cy], -1).astype(np.float32)
    origin = np.stack([s["eye_x"], s["eye_y"], 0 * s["eye_x"]], -1).astype(np.float32)
    return origin, direction


def _quilt(s: dict[str, Any]) -> Colour:
    """A white sheet near the bed's head, a striped blanket below it."""

    def colour(p: Array, room: Array) -> Any:
        half, head = s["half"][room], s["head"][room]
        far = np.select([head == BACK, head == LEFT], [s["depth"][room] - p[:, 2], p[:, 0] + half], half - p[:, 0])
        wave = np.sin(s["stripes"][room] * (p[:, 0] + p[:, 2]))
        dark = np.where(s["soft"][room], np.clip(0.5 + 1.5 * wave, 0, 1), wave > 0).astype(np.float32)
        blanket = s["blanket"][room] * (1 - s["stripe_depth"][room] * dark)[:, None]
        return np.where((far < s["turned"][room])[:, None], s["sheet"][room], blanket)

    return colour


def draw(s: dict[str, Any], size: int) -> tuple[Array, Array]:
    """One batch of scenes -> colours (B, S·S, 3) and labels (B, S·S), one sample a pixel."""
    canvas = Canvas(*_rays(s, size))
    _hang(canvas, s, _shell(canvas, s))

    def wood(brightness: float) -> Colour:
        return lambda _, room: s["wood"][room] * np.float32(brightness)

    _box(canvas, s["bed"], _quilt(s), BED)
    _box(canvas, s["board"], wood(1.0), BED)
    for k in range(2):
        _ellipsoid(canvas, s["pillows"][:, k], lambda _, room: s["sheet"][room], BED, np.ones_like(s["night"]))
    _box(canvas, s["stand"], wood(1.1), 0)
    _box(canvas, np.where(s["has_lamp"][:, None], s["stem"], -9), wood(0.6), LAMP)
    lit = _ellipsoid(canvas, s["shade"], lambda *_: _rgb32([1.0, 0.9, 0.66]), LAMP, s["has_lamp"])
    canvas.glow[lit] = 0.8
    return _shade(canvas, s), canvas.label
