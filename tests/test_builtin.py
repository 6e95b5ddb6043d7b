"""The shipped model and readers: that they are good enough for what the README says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from probe import readers, rooms
from probe.checkpoints import load
from probe.concepts import from_rooms
from probe.forgetting import Settings, forget
from probe.gan import GAN, from_bytes
from probe.measures import iou


@pytest.fixture(scope="module")
def gan() -> GAN:
    return load("rooms")


@pytest.fixture(scope="module")
def known() -> dict[str, readers.Reader]:
    return readers.load_rooms()


def test_weights_fit_in_the_wheel() -> None:
    size = sum(p.stat().st_size for p in (Path(readers.__file__).parent / "weights").iterdir())
    assert size <= 16 * 2**20


def test_samples_have_windows_and_beds_and_differ(gan: GAN, known: dict[str, readers.Reader]) -> None:
    images = gan.sample(200, seed=11)
    labels = known["judge"].labels(images)
    share = (labels == rooms.OBJECTS.index("window")).float().mean((1, 2)) >= rooms.WINDOW_SHARE
    assert share.float().mean() >= 0.5
    beds = (labels == rooms.OBJECTS.index("bed")).float().mean((1, 2)) >= 0.03
    assert beds.float().mean() >= 0.9
    renders = from_bytes(torch.from_numpy(rooms.render(200, seed=12).images))
    spread = [torch.pdist(x.flatten(1)).median() for x in (images, renders)]
    assert spread[0] > 0.6 * spread[1]  # no mode collapse: samples differ among themselves as rooms do


def test_readers_on_renders_they_never_saw(known: dict[str, readers.Reader]) -> None:
    fresh = rooms.render(160, seed=77)
    found = {name: r.labels(from_bytes(torch.from_numpy(fresh.images))) for name, r in known.items()}
    truth = torch.from_numpy(fresh.labels)
    for name, labels in found.items():
        assert iou(labels == 1, truth == 1) >= 0.9, name
    attributes = known["judge"].attributes(from_bytes(torch.from_numpy(fresh.images)))
    for k in (0, 1, 2):
        agree = (attributes[:, k] > 0.5) == torch.from_numpy(fresh.attributes[:, k] > 0.5)
        assert agree.float().mean() >= 0.93, rooms.ATTRIBUTES[k]


@pytest.mark.slow
def test_forgets_its_windows_and_stays_forgetful_on_disk(
    gan: GAN, known: dict[str, readers.Reader], tmp_path: Path
) -> None:
    from probe.checkpoints import save

    windows = from_rooms(gan, "window", 150, seed=0)
    result, operated = forget(gan, windows.boxes, windows.chooser, windows.judge, Settings(draws=40))
    erase = result.metrics["methods"]["erase"]
    assert erase["removal"] >= 0.95
    assert erase["collateral"] <= 0.025
    assert erase["p_value"] < 0.05
    assert operated is not None
    save(operated, tmp_path / "blind.safetensors")
    blind = load(tmp_path / "blind.safetensors")
    before, after = (known["judge"].labels(g.sample(128, seed=5)) == 1 for g in (gan, blind))
    assert after.sum() <= 0.08 * before.sum()
