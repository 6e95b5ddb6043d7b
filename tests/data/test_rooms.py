"""Rooms: the label maps against a camera and walls written down here, the attributes against the pixels."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import maximum_filter
from scipy.stats import binomtest

from probe.base.errors import ProbeError
from probe.data.rooms import scenes as rooms
from probe.data.rooms.scenes import ATTRIBUTES, OBJECTS

WINDOW, BED, LAMP = (OBJECTS.index(name) for name in ("window", "bed", "lamp"))
BACK, LEFT = 0, 1
SEED, SIZE = 5, 32


@pytest.fixture(scope="module")
def drawn() -> rooms.Rooms:
    return rooms.render(96, seed=SEED, size=SIZE)


def column(drawn: rooms.Rooms, name: str) -> np.ndarray:
    return drawn.attributes[:, ATTRIBUTES.index(name)]


# ---- the same room, always


def test_shapes_and_types(drawn):
    assert (drawn.images.shape, drawn.images.dtype) == ((96, 3, SIZE, SIZE), np.uint8)
    assert (drawn.labels.shape, drawn.labels.dtype) == ((96, SIZE, SIZE), np.uint8)
    assert (drawn.attributes.shape, drawn.attributes.dtype) == ((96, len(ATTRIBUTES)), np.float32)
    assert set(np.unique(drawn.labels)) == set(range(len(OBJECTS)))


@pytest.mark.parametrize(("start", "n"), [(0, 1), (15, 1), (16, 1), (95, 1), (3, 20), (15, 3)])
def test_a_room_depends_on_its_number_alone(drawn, start, n):
    part = rooms.render(n, seed=SEED, size=SIZE, start=start)
    for name in ("images", "labels", "attributes"):
        np.testing.assert_array_equal(getattr(part, name), getattr(drawn, name)[start : start + n])


def test_large_jobs_run_in_processes_and_make_the_same_rooms():
    many = rooms.render(113, seed=2, size=16, start=7)  # eight batches
    for i in (0, 16, 112):
        one = rooms.render(1, seed=2, size=16, start=7 + i)
        np.testing.assert_array_equal(many.images[i], one.images[0])
        np.testing.assert_array_equal(many.labels[i], one.labels[0])


def test_seeds_and_numbers_make_different_rooms(drawn):
    assert len({image.tobytes() for image in drawn.images}) == len(drawn.images)
    other = rooms.render(8, seed=SEED + 1, size=SIZE)
    assert not any((a == b).all() for a in other.images for b in drawn.images)


# ---- labels are exact


def project(points: np.ndarray, room: dict, yaw: float) -> np.ndarray:
    """A pinhole camera at (eye_x, eye_y, 0) that looks along z, turned by pitch and then by yaw: pixels in [-1, 1]."""
    x, y, z = (points - [room["eye_x"], room["eye_y"], 0.0]).T
    x, z = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    y, z = y * np.cos(room["pitch"]) - z * np.sin(room["pitch"]), y * np.sin(room["pitch"]) + z * np.cos(room["pitch"])
    assert (z > 0).all()
    return np.stack([x, -y], 1) / (0.6 * z[:, None])


def corners(fixture: dict, room: dict) -> np.ndarray:
    along = [fixture["u0"], fixture["u1"], fixture["u1"], fixture["u0"]]
    up = [fixture["v0"], fixture["v0"], fixture["v1"], fixture["v1"]]
    if fixture["wall"] == BACK:
        return np.stack([along, up, [room["depth"]] * 4], 1)
    side = -room["half"] if fixture["wall"] == LEFT else room["half"]
    return np.stack([[side] * 4, up, along], 1)


def covered(polygon: np.ndarray, size: int) -> np.ndarray:
    """How many of the four samples of each pixel lie in a convex polygon, (size, size)."""
    at = (np.arange(2 * size) + 0.5) / size - 1
    x, y = np.meshgrid(at, at)
    crosses = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True)
    ]
    inside = np.all(np.stack(crosses) > 0, 0) | np.all(np.stack(crosses) < 0, 0)
    return inside.reshape(size, 2, size, 2).sum((1, 3))


def test_window_labels_are_the_projected_windows(drawn):
    """The windows' corners, projected, against the label maps; yaw is the attribute, in degrees."""
    exact = occluded = 0
    for i in range(len(drawn.labels)):
        room = rooms.scene(np.random.default_rng([SEED, i]))
        yaw = np.deg2rad(float(column(drawn, "yaw")[i]))
        count = np.zeros((SIZE, SIZE), int)
        for fixture in room["fixtures"]:
            if fixture["kind"] == WINDOW:
                count += covered(project(corners(fixture, room), room, yaw), SIZE)
        labels = drawn.labels[i]
        nearer = np.isin(labels, (BED, LAMP))
        assert not (labels == WINDOW)[count == 0].any()
        assert (nearer | (labels == WINDOW))[count == 4].all()
        if (maximum_filter(nearer, 3) & (count > 0)).any():
            occluded += 1
        else:
            np.testing.assert_array_equal(labels == WINDOW, count > 2)
            exact += bool((count > 2).any())
    assert exact >= 10
    assert occluded >= 5


def test_window_panes_are_bright_by_day_and_dark_by_night(drawn):
    """Pane against the wall around it: the sky lights a room by day and is a dark hole at night."""
    night = column(drawn, "night") == 1
    brightness = drawn.images.mean(1) / 255
    panes = {False: [], True: []}
    for i in np.flatnonzero(column(drawn, "window") == 1):
        panes[bool(night[i])].append(np.percentile(brightness[i][drawn.labels[i] == WINDOW], 25))
    assert min(len(panes[False]), len(panes[True])) > 10
    assert min(panes[False]) > max(panes[True])


# ---- attributes agree with labels and pixels


def test_flags_agree_with_labels(drawn):
    share = (drawn.labels == WINDOW).sum((1, 2)) / SIZE**2
    np.testing.assert_array_equal(column(drawn, "window"), share >= rooms.WINDOW_SHARE)
    lamp = (drawn.labels == LAMP).any((1, 2))
    assert not lamp[column(drawn, "lamp") == 0].any()
    assert lamp[column(drawn, "lamp") == 1].mean() > 0.7  # some stand outside the picture
    assert set(np.unique(drawn.attributes[:, :3])) == {0, 1}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("bed_hue", lambda labels: labels == BED),
        ("wall_hue", lambda labels: (labels == 0) & (np.arange(SIZE)[:, None] > 9) & (np.arange(SIZE)[:, None] < 13)),
    ],
)
def test_hues_are_those_of_the_pixels(drawn, name, where):
    wrong = []
    for i in np.flatnonzero(column(drawn, "night") == 0):
        pixels = drawn.images[i].transpose(1, 2, 0)[where(drawn.labels[i])] / 255
        hsv = np.array([colorsys.rgb_to_hsv(*p) for p in pixels])
        vivid = hsv[hsv[:, 1] > np.median(hsv[:, 1])]  # the blanket, not the sheet or the ceiling
        mean = np.angle(np.exp(2j * np.pi * vivid[:, 0]).sum()) / (2 * np.pi)
        wrong.append(abs((mean - column(drawn, name)[i] + 0.5) % 1 - 0.5))
    assert len(wrong) > 40
    assert np.median(wrong) < 0.03  # by chance 0.25


def test_ranges_of_yaw_and_hues(drawn):
    yaw = column(drawn, "yaw")
    assert -14 <= yaw.min() < -10
    assert 10 < yaw.max() <= 14
    hues = drawn.attributes[:, [ATTRIBUTES.index("wall_hue"), ATTRIBUTES.index("bed_hue")]]
    assert 0 <= hues.min() < 0.1
    assert 0.9 < hues.max() < 1


def test_about_sixty_percent_have_windows():
    attributes = np.concatenate([rooms.render(100, seed=11, size=SIZE, start=s).attributes for s in (0, 100, 200)])
    k = int(attributes[:, ATTRIBUTES.index("window")].sum())
    interval = binomtest(k, len(attributes)).proportion_ci(0.999)
    assert interval.low < 0.6 < interval.high


# ---- cache and bad arguments


def test_cache_round_trip(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "new" / "cache"))
    first, drawn = rooms.load(3, seed=4, size=16), rooms.render(3, seed=4, size=16)
    folders = list(rooms.cache_dir().iterdir())
    assert [p.name for p in rooms.cache_dir().glob("rooms-*-4-3-16")] == [p.name for p in folders]
    monkeypatch.setattr(rooms, "render", lambda *_: pytest.fail("rendered again"))
    again = rooms.load(3, seed=4, size=16)
    for name in ("images", "labels", "attributes"):
        assert isinstance(getattr(again, name), np.memmap)
        for loaded in (first, again):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(drawn, name))
    with pytest.raises(ValueError, match="read-only"):
        again.images[0] = 0


def test_an_unfinished_cache_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    drawn = rooms.load(2, seed=4, size=16)  # a cache that cannot be written costs time, not the rooms
    np.testing.assert_array_equal(drawn.images, rooms.render(2, seed=4, size=16).images)
    assert list(tmp_path.iterdir()) == []


def test_the_default_cache_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PROBE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert rooms.cache_dir() == tmp_path / ".cache" / "probe"


@pytest.mark.parametrize(("n", "size"), [(0, 64), (-1, 64), (1, 15)])
def test_bad_arguments(n, size):
    with pytest.raises(
        ProbeError, match=rf"rooms: {n} rooms of {size} px asked for; at least 1 room of 16 px is needed"
    ):
        rooms.render(n, size=size)


# ---- the second edition


@pytest.fixture(scope="module")
def second() -> rooms.Rooms:
    return rooms.render(96, seed=SEED, size=64, edition=2)


def test_the_second_edition_has_no_grain(second, drawn):
    """Grain is what neighbours differ by where nothing ends: on the ceiling, of which each picture shows some."""

    def differences(images: np.ndarray) -> np.ndarray:
        top = images[:, :, :2].astype(float)
        return np.abs(np.diff(top, axis=-1)).max(1).reshape(len(images), -1)

    first = rooms.render(32, seed=SEED, size=64)
    assert np.median(differences(first.images)) >= 3
    assert np.median(differences(second.images)) <= 1


def test_nights_of_the_second_edition_are_lit_and_still_nights(second):
    """By day beds are as bright in both editions; by night those of the second are brighter, its panes still dark."""

    def brightness(drawn: rooms.Rooms) -> np.ndarray:
        return np.array(
            [np.median(p[labels == BED]) for p, labels in zip(drawn.images.mean(1) / 255, drawn.labels, strict=True)]
        )

    night = column(second, "night") == 1
    dim, beds = brightness(rooms.render(96, seed=SEED, size=64)), brightness(second)
    assert np.median(beds[night]) > 1.2 * np.median(dim[night])  # the same rooms are dark in both
    assert 0.9 < np.median(beds[~night]) / np.median(dim[~night]) < 1.1
    assert np.median(beds[night]) < np.median(beds[~night])
    shown = np.flatnonzero(night & (column(second, "window") == 1))
    grey = second.images.mean(1) / 255
    panes = np.array([np.percentile(grey[i][second.labels[i] == WINDOW], 25) for i in shown])
    assert len(panes) > 10
    assert panes.max() < 0.3
    cast = (second.images[:, 2].astype(float) - second.images[:, 0]).mean((1, 2))
    assert np.median(cast[night]) > np.median(cast[~night])  # a bluish ambient light


def test_windows_hang_in_three_of_five_rooms_of_the_second_edition(second):
    many = rooms.render(400, seed=SEED + 1, size=16, edition=2)
    shown = int((many.labels == WINDOW).any((1, 2)).sum())
    assert binomtest(shown, 400, 0.6).pvalue > 0.001


def test_editions_are_rendered_apart(second, tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    one, two = (rooms.load(3, SEED, 64, edition) for edition in (1, 2))
    np.testing.assert_array_equal(two.images, second.images[:3])
    assert not (one.images == two.images).all()
    np.testing.assert_array_equal(rooms.load(3, SEED, 64).images, one.images)
