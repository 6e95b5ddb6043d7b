"""Where a concept comes from: what is taken from a labels file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from probe.base.errors import ProbeError
from probe.concepts import segmenters as segmenters
from probe.concepts import sources as concepts
from probe.models.gan import GAN


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a labels file with the given `info.probe`; fitting is replaced by a note of the images it was given."""
    seen: list[torch.Tensor] = []

    def fit(images: torch.Tensor, boxes: object, **_: object) -> tuple[str, str, float]:
        seen.append(images)
        return "selector", "judge", 0.5

    monkeypatch.setattr(segmenters, "fit_to_boxes", fit)

    def write(about: dict[str, object]) -> tuple[Path, list[torch.Tensor]]:
        numbers = (3, 1, 7)
        document = {
            "info": {"probe": about},
            "images": [{"id": 10 + i, "file_name": f"sample-{i:06d}.png", "width": 32, "height": 32} for i in numbers],
            "categories": [{"id": 1, "name": "hat"}],
            "annotations": [{"id": 1, "image_id": 13, "category_id": 1, "bbox": [4, 4, 8, 8]}],
        }
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(document))
        return path, seen

    return write


def test_labelled_samples_are_those_of_the_files_seed(labelled, tiny_gan: GAN) -> None:
    path, seen = labelled({"seed": 5})
    concept = concepts.from_labels(tiny_gan, path, "hat", None, seed=0)
    assert concept.boxes.images == (1, 3, 7)
    assert torch.equal(seen[0], tiny_gan.images(tiny_gan.latents(8, 5)[[1, 3, 7]]))
    assert not any("names no sampling seed" in a for a in concept.assumptions)


def test_a_seed_nobody_named_is_an_assumption(labelled, tiny_gan: GAN) -> None:
    path, _ = labelled({})
    concept = concepts.from_labels(tiny_gan, path, "hat", None, seed=0)
    assert "labels.json names no sampling seed: 0 taken" in concept.assumptions
    assert concepts.from_labels(tiny_gan, path, "hat", 9, seed=0).boxes.seed == 9


def test_labels_of_another_checkpoint_are_refused(labelled, tiny_gan: GAN) -> None:
    path, _ = labelled({"seed": 5, "sha256": "a" * 64})
    tiny_gan.provenance["sha256"] = "b" * 64
    with pytest.raises(
        ProbeError, match=r"labels of samples of checkpoint aaaaaaaaaaaa…, but this one is bbbbbbbbbbbb…"
    ):
        concepts.from_labels(tiny_gan, path, "hat", None, seed=0)


def test_two_seeds_are_refused(labelled, tiny_gan: GAN) -> None:
    path, _ = labelled({"seed": 5})
    with pytest.raises(ProbeError, match=r"samples of seed 5, but `label_seed` is 6"):
        concepts.from_labels(tiny_gan, path, "hat", 6, seed=0)


def test_built_in_segmenters_are_for_rooms_only(tiny_gan: GAN) -> None:
    with pytest.raises(ProbeError, match=r"not trained on rooms.*probe sample --each"):
        concepts.from_rooms(tiny_gan, "window", 20, 0)


def test_a_rooms_model_without_windows_says_so(tiny_gan: GAN) -> None:
    tiny_gan.provenance["training"] = {"source": "rooms:100"}
    with torch.no_grad():
        tiny_gan.generator.layer4.conv.weight.zero_()  # grey throughout: no segmenter sees anything
    with pytest.raises(ProbeError, match=r"window: found in 0 of 16 samples; at least 8"):
        concepts.from_rooms(tiny_gan, "window", 16, 0)


def test_grey_images_are_read_too() -> None:
    known = segmenters.load_rooms()
    assert known["judge"].labels(torch.zeros(2, 1, 64, 64)).shape == (2, 64, 64)


@pytest.mark.parametrize(
    ("source", "edition", "fresh"),
    [
        ("rooms:24000", 1, "rooms:7@3"),
        ("rooms", 1, "rooms:7@3"),
        ("rooms@2:30000@5", 2, "rooms@2:7@3"),
        ("folder:rooms@2", None, "rooms:7@3"),
        ("roomsy:5", None, "rooms:7@3"),
        ("", None, "rooms:7@3"),
    ],
)
def test_the_edition_of_rooms_is_that_of_the_training(tiny_gan: GAN, monkeypatch, source, edition, fresh) -> None:
    tiny_gan.provenance["training"] = {"source": source}
    assert concepts.rooms_edition(tiny_gan) == edition
    assert concepts.is_rooms(tiny_gan) == (edition is not None)
    assert concepts.fresh_rooms(tiny_gan, 7, 3) == fresh
    asked = []
    monkeypatch.setattr(segmenters, "load_rooms", lambda *args: asked.append(args))
    concepts.segmenters_of(tiny_gan)
    assert asked == [(edition or 1, tiny_gan.device)]
