"""Exemplar files, and concepts of rooms by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from probe.base.errors import ProbeError
from probe.concepts import attributes
from probe.concepts.exemplars import Exemplars, label, load
from probe.concepts.expressions import parse
from probe.models.gan import GAN


def write(path: Path, **document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_numbers_are_samples_of_the_seed_and_lists_are_latents(tiny_gan: GAN, tmp_path: Path) -> None:
    own = [0.25 * i for i in range(8)]
    path = write(
        tmp_path / "e.json", seed=5, concepts={"hat": [3, 0], "coat": [own]}, about="by hand", checkpoint="0" * 64
    )
    found = load(path, tiny_gan)
    assert torch.equal(found.latents["hat"], tiny_gan.latents(9, 5)[[3, 0]])
    assert found.latents["coat"].tolist() == [own]
    assert found.assumptions == ["exemplars: e.json, samples of seed 5", "by hand"]


def test_a_file_without_a_seed_says_what_was_taken(tiny_gan: GAN, tmp_path: Path) -> None:
    found = load(write(tmp_path / "e.json", concepts={"hat": [1]}), tiny_gan)
    assert torch.equal(found.latents["hat"], tiny_gan.latents(2, 0)[1:])
    assert "e.json names no sampling seed: 0 taken" in found.assumptions


BAD = {
    "other latents": ({"concepts": {"hat": [[1.0, 2.0]]}}, "'hat' has a latent of 2 numbers; this generator takes 8"),
    "other checkpoint": (
        {"checkpoint": "1" * 64, "concepts": {"hat": [1]}},
        "exemplars of checkpoint 111111111111…, but this one is 000000000000…",
    ),
    "twice": ({"concepts": {"hat": [1, 2, 1]}}, "'hat' lists sample 1 twice"),
    "negative": ({"concepts": {"hat": [-1]}}, "sample -1: expected a number from 0 to 999999"),
    "words": ({"concepts": {"hat": ["seven"]}}, "'hat' has 'seven'; expected a sample's number or a latent"),
    "boolean": ({"concepts": {"hat": [True]}}, "'hat' has True; expected"),
    "not finite": ({"concepts": {"hat": [[float("nan")] * 8]}}, "'hat' has a latent that is not finite"),
    "beyond all bounds": ({"concepts": {"hat": [[10**400] * 8]}}, "'hat' has a latent that is not finite, or beyond"),
    "empty concept": ({"concepts": {"hat": []}}, "'hat' has no exemplars"),
    "no concepts": ({"seed": 3}, "not an exemplar file; expected"),
    "seed": ({"seed": "x", "concepts": {"hat": [1]}}, "seed 'x': expected a whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tiny_gan: GAN, tmp_path: Path, case: str) -> None:
    document, expected = BAD[case]
    with pytest.raises(ProbeError, match=expected):
        load(write(tmp_path / "e.json", **document), tiny_gan)


def test_files_that_are_none(tiny_gan: GAN, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="no such exemplar file"):
        load(tmp_path / "missing.json", tiny_gan)
    (tmp_path / "e.json").write_text('{"concepts": {"hat": [1], "hat": [2]}}')
    with pytest.raises(ProbeError, match="'hat' stands there twice"):
        load(tmp_path / "e.json", tiny_gan)
    for content in (b"\xff\xfe{", b"[" * 100_000, b"1" * 5_000):
        (tmp_path / "e.json").write_bytes(content)
        with pytest.raises(ProbeError, match="not a JSON file"):
            load(tmp_path / "e.json", tiny_gan)


def test_too_few() -> None:
    with pytest.raises(ProbeError, match="'hat': 5 exemplars, but 2 sets of 3 exemplars are asked for"):
        Exemplars({"hat": torch.zeros(5, 8)}).need("hat", 3, 8, 2)


def test_only_rooms_have_a_segmenter(tiny_gan: GAN) -> None:
    with pytest.raises(ProbeError, match=r"tiny: not trained on rooms, .* pass it as `concepts`"):
        label(tiny_gan, 4, 0)


#                  window night lamp yaw  hues
TABLE = np.array([[0.9, 0.1, 0.5, 6.0, 0, 0], [0.2, 0.8, 0.6, -6.0, 0, 0], [0.6, 0.7, 0.1, 1.0, 0, 0]])


@pytest.mark.parametrize(
    ("concept", "rows"),
    [
        ("window", [0, 2]),
        ("nowindow/night", [1]),
        ("day", [0]),
        ("left", [1]),
        ("right", [0]),
        ("nolamp/window/night", [2]),
    ],
)
def test_who_holds_a_concept(concept: str, rows: list[int]) -> None:
    assert np.flatnonzero(attributes.holds(TABLE, attributes.parts(concept))).tolist() == rows


def test_names_of_concepts() -> None:
    assert attributes.describe(attributes.parts("nowindow/night")) == "nowindow/night"
    with pytest.raises(ProbeError, match="'window/dusk': unknown word 'dusk'; concepts of rooms are window, nowindow"):
        attributes.parts("window/dusk")
    with pytest.raises(ProbeError, match="says both sides of night"):
        attributes.parts("day/night")


@pytest.mark.parametrize(
    ("text", "wanted", "targets"),
    [
        ("window/day - nowindow/day + nowindow/night", "window/night", ["window"]),
        ("window/night - window/day + nowindow/day", "nowindow/night", ["night"]),
        ("window/day - nowindow/day + window/night", "window/night", []),  # C has what A - B would add
        ("night - day + window/day", "window/night", ["night"]),
        ("window - nowindow + night", "window/night", ["window"]),
        ("night - day + window - nowindow + nowindow/day", "window/night", ["window", "night"]),
        ("window - nowindow", "", []),
        ("window + night", "", []),
    ],
)
def test_what_arithmetic_promises(text: str, wanted: str, targets: list[str]) -> None:
    """A's side where A and B differ, C's elsewhere."""
    found, changed = attributes.expected(parse(text, attributes.Vocabulary()))
    assert found == (attributes.parts(wanted) if wanted else {})
    assert changed == targets


def test_scores_are_log_odds_and_degrees() -> None:
    found = attributes.scores(TABLE[:1])
    assert found[0] == pytest.approx([np.log(9), -np.log(9), 0, 6.0])
    assert attributes.scores(np.array([[1.0, 0, 0.5, 2, 0, 0]]))[0, :2] == pytest.approx([np.log(999), -np.log(999)])
