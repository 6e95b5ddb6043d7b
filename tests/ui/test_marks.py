"""Labels that several tabs change at once: nothing lost, everything saved, foreign files refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from probe.base.errors import ProbeError
from probe.concepts import labels
from probe.models.gan import GAN
from probe.ui.marks import Marks


def put(image: int, name: str, box: Any = (4, 4, 10, 12), c: int = 1) -> dict[str, Any]:
    return {"do": "put", "image": image, "id": name, "c": c, "b": list(box)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.json"


@pytest.fixture
def marks(path: Path, tiny_gan: GAN) -> Marks:
    made = Marks(path, tiny_gan, 0)
    made.add_concept("window")
    return made


def test_what_is_marked_is_what_forget_reads(marks, path) -> None:
    marks.apply([put(3, "a"), put(3, "b", (1, 2, 3, 4)), {"do": "lacks", "image": 5, "c": 1, "on": True}], 150)
    found = labels.load(path, "window", 32)
    assert (found.images, found.seed, found.checkpoint) == ((3, 5), 0, "0" * 64)
    assert found.boxes[3].tolist() == [[4, 4, 10, 12], [1, 2, 3, 4]]
    assert list(found.boxes) == [3]


def test_a_sample_decided_for_one_concept_says_nothing_of_another(marks, path) -> None:
    bed = marks.add_concept("bed")
    marks.apply([put(1, "a"), put(2, "b", c=bed), {"do": "lacks", "image": 2, "c": 1, "on": True}], 150)
    assert labels.load(path, "window", 32).images == (1, 2)
    assert labels.load(path, "bed", 32).images == (2,)


def test_it_opens_again_as_it_was_left(marks, path, tiny_gan) -> None:
    marks.apply([put(3, "a"), {"do": "lacks", "image": 5, "c": 1, "on": True}], 150)
    again = Marks(path, tiny_gan, 0)
    assert again.concepts == {1: "window"}
    assert [box["b"] for box in again.record(3)["boxes"]] == [[4, 4, 10, 12]]
    assert again.record(5)["lacks"] == [1]
    before = path.read_text()
    again.apply([put(9, "x"), {"do": "cut", "image": 9, "id": "x"}], 150)
    assert json.loads(path.read_text()) == json.loads(before)


def test_rows_without_a_sound_box_are_kept_and_outlines_stay_until_their_box_moves(path, tiny_gan) -> None:
    outline = [[4, 4, 12, 4, 12, 10]]
    rows = [
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": outline},
        {"id": 8, "image_id": 2, "category_id": 1, "bbox": [0, 0, 0, 0]},
        {"id": 9, "image_id": 2, "category_id": 1, "bbox": [], "segmentation": outline},
    ]
    images = [{"id": i, "file_name": f"{i:06d}.png", "width": None, "height": None} for i in (1, 2, 3)]
    categories = [{"id": 1, "name": "window"}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    made = Marks(path, tiny_gan, 0)
    assert made.record(1)["boxes"][0]["b"] == [4, 4, 12, 10]
    made.apply([put(3, "new"), {"do": "lacks", "image": 3, "c": 1, "on": False}], 150)
    after = {row["id"]: row for row in json.loads(path.read_text())["annotations"]}
    assert [after[row["id"]] for row in rows] == rows
    assert [after[number]["image_id"] for number in after.keys() - {3, 8, 9}] == [3]


def test_any_coco_file_opens_and_keeps_what_it_holds(path, tiny_gan) -> None:
    image = {"id": 7, "file_name": "img_000012.png", "width": 64, "height": 64, "license": 3}
    other = {"id": 8, "file_name": "img_000013.png", "width": 64, "height": 64}
    row = {
        "id": 5,
        "image_id": 7,
        "category_id": 40,
        "bbox": [8, 8, 16, 16],
        "area": 200,
        "segmentation": [[1, 2, 3]],
        "note": "x",
    }
    document = {
        "licenses": [1],
        "images": [image, other],
        "annotations": [row],
        "categories": [{"id": 40, "name": "hat", "supercategory": "clothes"}],
    }
    path.write_text(json.dumps(document))
    marks = Marks(path, tiny_gan, 0)
    (box,) = marks.record(12)["boxes"]
    assert (box["c"], box["b"]) == (40, [4, 4, 12, 12])  # twice as large in the file
    assert marks.record(13)["lacks"] == [40]  # listed without a box
    marks.apply([put(12, "new", (0, 0, 4, 4), 40)], 150)
    after = json.loads(path.read_text())
    assert after["licenses"] == [1]
    assert after["categories"] == document["categories"]
    assert after["images"][0] == image | {"neg_category_ids": []}
    assert after["images"][1] == other | {"neg_category_ids": [40]}
    assert after["annotations"][0] == row
    assert after["annotations"][1]["bbox"] == [0, 0, 8, 8]
    marks.apply([put(12, box["id"], (4, 4, 12, 14), 40)], 150)
    moved = json.loads(path.read_text())["annotations"][0]
    assert (moved["bbox"], moved["note"]) == ([8, 8, 16, 20], "x")
    assert "segmentation" not in moved  # it no longer fits


def test_many_threads_lose_nothing(marks, path) -> None:
    def draw(tab: int) -> None:
        for k in range(25):
            marks.apply([put(k % 3, f"t{tab}-{k}", (0, 0, 2 + tab, 3))], 150)

    tabs = [threading.Thread(target=draw, args=(tab,)) for tab in range(6)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(json.loads(path.read_text())["annotations"]) == 150


def test_none_here_never_takes_a_box_away(marks) -> None:
    marks.apply([put(1, "a")], 150)
    marks.apply([{"do": "lacks", "image": 1, "c": 1, "on": True}], 150)  # from a tab that had not seen the box
    assert marks.record(1)["lacks"] == []
    assert len(marks.record(1)["boxes"]) == 1


def test_a_box_moved_here_and_deleted_there_stays(marks) -> None:
    marks.apply([put(1, "a")], 150)
    marks.apply([{"do": "cut", "image": 1, "id": "a"}], 150)
    marks.apply([put(1, "a", (5, 5, 9, 9))], 150)
    assert [box["b"] for box in marks.record(1)["boxes"]] == [[5, 5, 9, 9]]


def test_revisions_rise_and_listeners_hear(marks) -> None:
    heard: list[int] = []
    marks.listeners.append(heard.append)
    marks.apply([put(1, "a"), put(4, "b")], 150)
    first = marks.record(1)["revision"]
    marks.apply([put(1, "a", (5, 5, 9, 9))], 150)
    assert heard == [1, 4, 1]
    assert marks.record(1)["revision"] > first


@pytest.mark.parametrize(
    "change",
    [
        put(150, "a"), put(-1, "a"), put(True, "a"), put(1, "../x"), put(1, ""), put(1, "a", c=9), put(1, "a", (1, 1, 1.5, 9)),
        put(1, "a", (1, 1, float("nan"), 9)), put(1, "a", ("1", 1, 5, 9)), put(1, "a", (40, 40, 50, 50)), {"do": "rm", "image": 1},
        {"do": "lacks", "image": 1, "c": None, "on": True},
    ],
)  # fmt: skip
def test_nonsense_from_a_browser_changes_nothing(marks, path, change) -> None:
    before = path.read_text()
    with pytest.raises(ProbeError):
        marks.apply([put(2, "fine"), change], 150)
    assert path.read_text() == before
    assert marks.record(2)["boxes"] == []


def test_labels_of_another_checkpoint_are_refused_with_both_named(marks, path, tiny_gan) -> None:
    marks.apply([put(1, "a")], 150)
    tiny_gan.provenance["sha256"] = "f" * 64
    with pytest.raises(
        ProbeError, match=r"^labels\.json: labels of samples of checkpoint 0{12}…, but this one is f{12}…; choose"
    ):
        Marks(path, tiny_gan, 0)


def test_labels_of_another_seed_are_refused_with_both_named(marks, path, tiny_gan) -> None:
    marks.apply([put(1, "a")], 150)
    with pytest.raises(
        ProbeError, match=r"^labels\.json: labels of samples of seed 0, but --seed is 3; use --seed 0 or"
    ):
        Marks(path, tiny_gan, 3)


def test_a_file_that_another_program_changed_is_not_overwritten(marks, path) -> None:
    path.write_text(
        foreign := '{"images": [], "annotations": [], "categories": [], "mine": "a longer text than before"}'
    )
    with pytest.raises(ProbeError, match=r"^not saved: another program changed labels\.json; move that file away"):
        marks.apply([put(1, "a")], 150)
    assert path.read_text() == foreign
    path.unlink()
    marks.apply([put(2, "b")], 150)  # what could not be saved is kept until it can
    assert labels.load(path, "window", 32).images == (1, 2)


def test_concepts(marks, path) -> None:
    assert marks.add_concept("  window ") == 1
    bed = marks.add_concept("bed")
    assert json.loads(path.read_text())["categories"] == [{"id": 1, "name": "window"}, {"id": bed, "name": "bed"}]
    marks.apply([put(1, "a")], 150)
    with pytest.raises(ProbeError, match="concept window: has boxes; delete them first"):
        marks.drop_concept(1)
    marks.drop_concept(bed)
    assert json.loads(path.read_text())["categories"] == [{"id": 1, "name": "window"}]
    for name in ("", "a" * 41, "a\x00b"):
        with pytest.raises(ProbeError, match="expected a name of 1 to 40 letters"):
            marks.add_concept(name)
