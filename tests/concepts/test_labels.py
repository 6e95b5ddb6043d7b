"""Labels: COCO in and out, boxes against feature-map places by hand, and every file that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probe.base import reads
from probe.base.errors import ProbeError
from probe.concepts import labels
from probe.concepts.labels import Boxes

MISSING = object()


def document(**changes: Any) -> dict[str, Any]:
    """Two images of 64 px, one box in the first."""
    out = {
        "info": {"probe": {"seed": 3, "sha256": "ab"}},
        "images": [
            {"id": 7, "file_name": "000004.png", "width": 64, "height": 64},
            {"id": 9, "file_name": "000012.png", "width": 64, "height": 64},
        ],
        "categories": [{"id": 5, "name": "glasses"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 20, 30, 8]}],
    } | changes
    return {k: v for k, v in out.items() if v is not MISSING}


def written(folder: Path, content: Any) -> Path:
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# ---- reading


def test_load(tmp_path):
    found = labels.load(written(tmp_path, document()))
    assert (found.concept, found.images, found.seed, found.checkpoint) == ("glasses", (4, 12), 3, "ab")
    assert list(found.boxes) == [4]
    assert found.boxes[4].tolist() == [[10, 20, 40, 28]]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("name", "index"), [("000123.png", 123), ("run2/sample-0007.jpg", 7), ("v1_img_42.png", 42), ("a.png", 9), ("", 9)]
)
def test_the_index_is_in_the_file_name_or_is_the_id(tmp_path, name, index):
    image = {"id": 9, "file_name": name, "width": 64, "height": 64}
    boxes = [{"id": 1, "image_id": 9, "category_id": 5, "bbox": [1, 2, 3, 4]}]
    found = labels.load(written(tmp_path, document(images=[image], annotations=boxes)))
    assert found.images == (index,)
    assert found.boxes[index].tolist() == [[1, 2, 4, 6]]


def test_an_image_without_file_name_or_size(tmp_path):
    found = labels.load(written(tmp_path, document(images=[{"id": 7}], info={})), size=64)
    assert (found.images, found.seed, found.checkpoint) == ((7,), None, None)
    assert found.boxes[7].tolist() == [[10, 20, 40, 28]]


def test_boxes_of_enlarged_images_are_scaled(tmp_path):
    image = {"id": 7, "file_name": "4.png", "width": 512, "height": 256}
    boxes = [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [80, 40, 160, 20]}]
    path = written(tmp_path, document(images=[image], annotations=boxes))
    assert labels.load(path, size=64).boxes[4].tolist() == [[10, 10, 30, 15]]
    assert labels.load(path, size=128).boxes[4].tolist() == [[20, 20, 60, 30]]


def test_boxes_drawn_over_the_border_by_less_than_half_a_pixel_are_cut(tmp_path):
    boxes = [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [-0.4, -0.2, 64.6, 64.3]}]
    assert labels.load(written(tmp_path, document(annotations=boxes))).boxes[4].tolist() == [[0, 0, 64, 64]]


def test_one_concept_of_several(tmp_path):
    categories = [{"id": 5, "name": "glasses"}, {"id": 6, "name": "hat"}]
    boxes = [
        {"id": k, "image_id": i, "category_id": c, "bbox": [k, 0, 2, 2]}
        for k, i, c in [(1, 7, 5), (2, 7, 6), (3, 9, 6), (4, 7, 6)]
    ]
    path = written(tmp_path, document(categories=categories, annotations=boxes))
    hats = labels.load(path, "hat")
    assert {i: b[:, 0].tolist() for i, b in hats.boxes.items()} == {4: [2, 4], 12: [3]}
    assert len(hats) == 3
    assert labels.load(path, "glasses").images == (4, 12)  # looked at, also where only hats are
    for concept, found in ((None, r"\(none named\)"), ("scarf", "scarf"), ("50% d", "50% d")):
        with pytest.raises(
            ProbeError, match=rf"^labels.json: concept {found}: the file has glasses, hat; name one of them$"
        ):
            labels.load(path, concept)


# ---- round trip


def test_round_trip(tmp_path):
    boxes = {3: np.array([[1.5, 2, 10, 20.25], [0, 0, 64, 64]]), 8: np.array([[5.0, 6, 7, 8]])}
    before = Boxes("window", (1, 3, 8), boxes, 17, "deadbeef")
    labels.save(before, tmp_path / "new" / "l.json", 64)
    after = labels.load(tmp_path / "new" / "l.json")
    assert (after.concept, after.images, after.seed) == (before.concept, before.images, before.seed)
    assert after.checkpoint == before.checkpoint
    assert list(after.boxes) == [3, 8]
    for i in boxes:
        np.testing.assert_allclose(after.boxes[i], boxes[i])


def test_the_file_is_coco(tmp_path):
    labels.save(Boxes("window", (2,), {2: np.array([[1.0, 2, 4, 8]])}, 0), tmp_path / "l.json", 32)
    found = json.loads((tmp_path / "l.json").read_text())
    assert found["images"] == [{"id": 2, "file_name": "000002.png", "width": 32, "height": 32}]
    assert found["categories"] == [{"id": 1, "name": "window"}]
    expected = {"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 6], "area": 18, "iscrowd": 0}
    assert found["annotations"] == [expected]


# ---- refused


def test_a_missing_file(tmp_path):
    with pytest.raises(ProbeError, match=r"none\.json: no such labels file; write one with `probe sample --each` and"):
        labels.load(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["", "{", "boxes", "[" * 100_000, "1" * 5_000])
def test_not_json(tmp_path, content):
    with pytest.raises(ProbeError, match=r"^labels\.json: not a JSON file \(.+\); expected COCO labels$"):
        labels.load(written(tmp_path, content))


def test_not_text_or_not_a_file(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    for path in (tmp_path / "image.png", tmp_path):
        with pytest.raises(ProbeError, match=r": not a JSON file \(.+\); expected COCO labels$"):
            labels.load(path)


@pytest.mark.parametrize("name", [None, 5])
def test_a_category_without_a_name(tmp_path: Path, name: object) -> None:
    path = written(tmp_path, document(categories=[{"id": 5, "name": name}]))
    with pytest.raises(ProbeError, match=rf"^labels\.json: categories named \[{name}\]; expected a name in quotes"):
        labels.load(path)


def test_an_image_without_a_size(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "000004.png", "width": 0, "height": 64}]
    path = written(tmp_path, document(images=images))
    with pytest.raises(ProbeError, match=r"^labels\.json: image 7 of 0x64 pixels; expected its width and height$"):
        labels.load(path)


@pytest.mark.parametrize(
    "content", [[], 3, None, {}, document(images=MISSING), document(categories={}), document(annotations=None)]
)
def test_not_coco(tmp_path, content):
    message = r"^labels\.json: not COCO labels; expected the lists images, annotations and categories$"
    with pytest.raises(ProbeError, match=message):
        labels.load(written(tmp_path, content))


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [{"file_name": "1.png"}]},
        {"images": [{"id": 7, "file_name": None}]},
        {"images": ["000001.png"]},
        {"images": [{"id": 7, "width": "wide"}]},
        {"images": [{"id": float("inf")}]},
        {"annotations": [{"image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 10**400]}]},
        {"categories": [{"id": 5}]},
        {"annotations": [{"image_id": 7, "category_id": 5}]},
        {"annotations": [{"image_id": 7, "category_id": 5, "bbox": [1, 2, 3]}]},
        {"annotations": [{"image_id": 7, "category_id": 5, "bbox": "left"}]},
        {"annotations": [{"image_id": 7, "category_id": 5, "bbox": None}]},
        {"annotations": [None]},
        {"info": None},
    ],
)
def test_a_field_missing_or_of_the_wrong_kind(tmp_path, changes):
    message = r"^labels\.json: (annotation None: )?not COCO labels: a field is missing or of the wrong kind"
    with pytest.raises(ProbeError, match=message):
        labels.load(written(tmp_path, document(**changes)))


def test_no_boxes(tmp_path):
    with pytest.raises(ProbeError, match=r"^labels\.json: no boxes of glasses in it; draw at least a few$"):
        labels.load(written(tmp_path, document(annotations=[])))
    with pytest.raises(
        ProbeError, match=r"^labels\.json: concept \(none named\): the file has none; name one of them$"
    ):
        labels.load(written(tmp_path, document(categories=[])))


@pytest.mark.parametrize(
    "box",
    [
        [40, 20, 30, 8], [10, 60, 5, 8], [-1, 0, 5, 5], [0, -3, 5, 5],
        [float("nan"), 0, 5, 5], [0, 0, float("inf"), 5],
    ],
)  # fmt: skip
def test_a_box_outside_its_image(tmp_path, box):
    boxes = [{"id": 31, "image_id": 7, "category_id": 5, "bbox": box}]
    with pytest.raises(ProbeError, match=r"^labels\.json: annotation 31: box \[.*\] lies outside its image of 64x64$"):
        labels.load(written(tmp_path, document(annotations=boxes)))


@pytest.mark.parametrize("box", [[5, 5, 0, 5], [0, 0, 0, 0], [5, 5, 5, 0]])
def test_an_empty_box(tmp_path, box):
    boxes = [{"id": 31, "image_id": 7, "category_id": 5, "bbox": box}]
    with pytest.raises(ProbeError, match=r"^labels\.json: annotation 31: box \[.*\] is empty$"):
        labels.load(written(tmp_path, document(annotations=boxes)))


def test_a_box_drawn_from_any_corner(tmp_path):
    boxes = [
        {"id": k, "image_id": 7, "category_id": 5, "bbox": box}
        for k, box in enumerate([[40, 35, -20, -15], [20, 35, 20, -15], [40, 20, -20, 15]])
    ]
    assert labels.load(written(tmp_path, document(annotations=boxes))).boxes[4].tolist() == [[20, 20, 40, 35]] * 3


# ---- as tools write them


def test_bad_rows_are_left_out_and_counted_and_their_images_tell_nothing(tmp_path):
    good = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 20, 30, 8]}
    bad = [
        {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 0, 0]},
        {"id": 3, "image_id": 7, "category_id": 5, "bbox": [60, 0, 30, 8]},
        {"id": 4, "image_id": 8, "category_id": 5, "bbox": [1, 1, 5, 5]},
        None,
    ]
    path = written(tmp_path, document(annotations=[*bad, good]))
    with reads.noting() as noted:
        found = labels.load(path)
    assert (found.images, found.boxes[4].tolist()) == ((4,), [[10, 20, 40, 28]])  # not 12, whose only box is empty
    assert [row for row, _ in labels.read(path, 64).left_out] == bad
    assert noted[0].told() == (
        "labels.json: 1 rows read; 4 left out: annotation 2: box [0, 0, 0, 0] is empty; annotation 3: box [60, 0, 30, 8] lies "
        "outside its image of 64x64; annotation 4: image 8 is not in the file's list of images …"
    )
    assert (noted[0].about()["read"], noted[0].about()["left_out"]) == (1, 4)


@pytest.mark.parametrize(
    ("image", "index"),
    [
        ({"file_name": "000007_png.rf.123456d495d565ef66e7dff9f9000001.jpg"}, 7),
        ({"file_name": "x_jpg.rf.123456d495d565ef66e7dff9f9000001.jpg", "extra": {"name": "000007.png"}}, 7),
        ({"file_name": "images\\3/90123456-000007.png"}, 7),
        ({"file_name": "C:\\100001\\sample 7 (1).png"}, 7),
        ({"file_name": "000007_640x640.png"}, 7),
        ({"file_name": "sample_7_64x64.png"}, 7),
        ({"file_name": "seed0007.png"}, 7),
        ({"file_name": "7_0123456789abcdef0123456789abcdef.png"}, 7),
        ({"file_name": "1c9c5f04-0b3c-4f5e-9a51-000012000001_7.png"}, 7),
    ],
)
def test_the_sample_of_an_image_as_tools_name_it(tmp_path, image, index):
    assert labels.load(written(tmp_path, document(images=[{"id": 7, **image}]))).images == (index,)


def test_a_name_of_several_numbers_is_refused_with_both(tmp_path):
    image = {"id": 7, "file_name": "epoch_024_00.png"}
    with pytest.raises(
        ProbeError, match=r"image 7 \(epoch_024_00\): may be sample 24 or 0; name files as `probe sample"
    ):
        labels.load(written(tmp_path, document(images=[image])))
    image["file_name"] = "000123_000456.png"
    with pytest.raises(ProbeError, match=r"may be sample 123 or 456"):
        labels.load(written(tmp_path, document(images=[image])))


def test_of_several_numbers_the_one_that_differs_throughout_a_file_is_the_sample(tmp_path):
    images = [{"id": 7, "file_name": "epoch_024_10.png"}, {"id": 9, "file_name": "epoch_024_00.png"}]
    assert labels.load(written(tmp_path, document(images=images))).images == (0, 10)
    images[1]["file_name"] = "epoch_025_00.png"  # now either may be
    with pytest.raises(ProbeError, match=r"may be sample 24 or 10"):
        labels.load(written(tmp_path, document(images=images)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_the_encoding_of_a_file(tmp_path, encoding):
    (tmp_path / "labels.json").write_bytes(json.dumps(document()).encode(encoding))
    assert labels.load(tmp_path / "labels.json").images == (4, 12)


def test_ids_are_the_same_as_numbers_and_as_texts(tmp_path):
    boxes = [{"id": 1, "image_id": "7", "category_id": "5", "bbox": [10, 20, 30, 8]}]
    assert labels.load(written(tmp_path, document(annotations=boxes))).boxes[4].tolist() == [[10, 20, 40, 28]]
    assert labels.categories(written(tmp_path, document(annotations=boxes))) == ["glasses"]


def test_an_image_whose_size_is_null(tmp_path):
    images = [{"id": 7, "file_name": "000004.png", "width": None, "height": None}]
    assert labels.load(written(tmp_path, document(images=images))).boxes[4].tolist() == [[10, 20, 40, 28]]


def test_half_a_pixel_of_the_sample_over_the_border_of_an_enlarged_image(tmp_path):
    images = [{"id": 7, "file_name": "000004.png", "width": 640, "height": 640}]
    boxes = [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [500, 200, 143, 150]}]
    found = labels.load(written(tmp_path, document(images=images, annotations=boxes)))
    assert found.boxes[4].tolist() == [[50, 20, 64, 35]]
    boxes[0]["bbox"][2] = 146
    with pytest.raises(ProbeError, match="outside its image of 640x640"):
        labels.load(written(tmp_path, document(images=images, annotations=boxes)))


def test_categories_of_one_name_and_names_in_any_case(tmp_path):
    root = [{"id": 0, "name": "glasses"}, {"id": 5, "name": "Glasses "}]
    path = written(tmp_path, document(categories=root))
    for name in ("glasses", "GLASSES", None):
        assert len(labels.load(path, name)) == 1
    assert labels.categories(path) == ["Glasses"]


def _packed(runs: list[int]) -> str:
    """Run lengths packed as in COCO's rleToString, after its C."""
    text = ""
    for k, run in enumerate(runs):
        x, more = run - (runs[k - 2] if k > 2 else 0), True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


@pytest.mark.parametrize("missing", [MISSING, [], None])
@pytest.mark.parametrize("kind", ["polygon", "rle", "packed"])
def test_outlines_give_boxes(tmp_path, kind, missing):
    mask = np.zeros((64, 64), bool)
    mask[20:35, 10:50] = True
    mask[22, 50] = True
    flat = np.concatenate([[False], mask.T.ravel(), [True]])
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [64 * 64]])).tolist()
    outline = {
        "polygon": [[10, 20, 51, 20, 30, 35], [12, 21, 13, 22, 12, 22]],
        "rle": {"counts": runs, "size": [64, 64]},
        "packed": {"counts": _packed(runs), "size": [64, 64]},
    }[kind]
    row = {"id": 1, "image_id": 7, "category_id": 5, "segmentation": outline}
    row |= {} if missing is MISSING else {"bbox": missing}
    assert labels.load(written(tmp_path, document(annotations=[row]))).boxes[4].tolist() == [[10, 20, 51, 35]]


@pytest.mark.parametrize("counts", ["abc", [-3, 5], [], "", [4096]])
def test_a_mask_that_is_none(tmp_path, counts):
    row = {"id": 1, "image_id": 7, "category_id": 5, "segmentation": {"counts": counts, "size": [64, 64]}}
    with pytest.raises(ProbeError, match=r"^labels\.json: annotation 1: not COCO labels: a field is missing"):
        labels.load(written(tmp_path, document(annotations=[row])))


@pytest.mark.parametrize("seed", [True, -1, 2**31, 1.5, "x"])
def test_a_seed_that_is_none(tmp_path, seed):
    with pytest.raises(ProbeError, match=r"^labels\.json: info.probe.seed .*: expected a whole number from 0 to 2147"):
        labels.load(written(tmp_path, document(info={"probe": {"seed": seed}})))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image_id": 8, "category_id": 5}, r"annotation 31: image 8 is not in the file's list of images$"),
        ({"image_id": 7, "category_id": 1}, r"annotation 31: category 1 is not in the file's list$"),
    ],
)
def test_unknown_ids(tmp_path, row, message):
    boxes = [{"id": 31, "bbox": [1, 1, 5, 5], **row}]
    with pytest.raises(ProbeError, match=message):
        labels.load(written(tmp_path, document(annotations=boxes)))


# ---- places


def marked(box: list[float], grid: int, size: int = 64) -> list[tuple[int, int]]:
    found = Boxes("x", (0,), {0: np.array([box], dtype=np.float64)}).cells(0, grid, size)
    return [tuple(place) for place in found.nonzero().tolist()]


@pytest.mark.parametrize(
    ("box", "grid", "places"),
    [
        ([0, 0, 64, 64], 2, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ([16, 0, 32, 8], 8, [(0, 2), (0, 3)]),  # row, column
        ([19, 3, 29, 5], 8, [(0, 2), (0, 3)]),  # centres at 20 and 28, and 4
        ([21, 3, 29, 5], 8, [(0, 3)]),
        ([21, 3, 27, 5], 8, [(0, 3)]),  # no centre of a column in it: the column of its middle, 24
        ([20.5, 3, 23, 5], 8, [(0, 2)]),
        ([1, 1, 2, 2], 8, [(0, 0)]),
        ([63, 63, 64, 64], 4, [(3, 3)]),
        ([63.9, 0.1, 64, 0.2], 4, [(0, 3)]),
        ([30, 60, 31, 64], 4, [(3, 1)]),
    ],
)
def test_cells(box, grid, places):
    assert marked(box, grid) == places


def test_every_box_has_a_cell_that_it_touches():
    rng = np.random.default_rng(0)
    for _ in range(300):
        x, y = rng.uniform(0, 63, 2)
        w, h = rng.uniform(0.1, 1, 2) * rng.choice([1, 20], 2)
        box = [x, y, min(x + w, 64), min(y + h, 64)]
        grid = int(rng.choice([4, 8, 16, 32, 64]))
        cell = 64 / grid
        places = marked(box, grid)
        assert places
        for row, column in places:
            assert box[0] < (column + 1) * cell
            assert column * cell < box[2]
            assert box[1] < (row + 1) * cell
            assert row * cell < box[3]


def test_cells_of_several_boxes_and_of_none():
    boxes = Boxes("x", (0, 1), {0: np.array([[0.0, 0, 8, 8], [56, 56, 64, 64]])})
    assert boxes.cells(0, 8, 64).nonzero().tolist() == [[0, 0], [7, 7]]
    assert not boxes.cells(1, 8, 64).any()
    assert boxes.masks(64).sum((1, 2)).tolist() == [128, 0]


# ---- masks


def test_boxes_around_regions():
    masks = torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[0, 2:6, 3:8] = True
    masks[0, 10:14, 10:13] = True  # 12 pixels
    masks[0, 6, 8] = True  # touches a corner only: a region of its own, too small
    masks[2, 0:16, 0] = True
    masks[1, 0, :11] = True
    found = labels.from_masks(masks, "window", 5)
    assert (found.concept, found.images, found.seed) == ("window", (0, 1, 2), 5)
    assert {i: b.tolist() for i, b in found.boxes.items()} == {
        0: [[3, 2, 8, 6], [10, 10, 13, 14]],
        2: [[0, 0, 1, 16]],
    }
    assert labels.from_masks(masks, "window", 5, smallest=11).boxes[1].tolist() == [[0, 0, 11, 1]]
    filled = found.masks(16)
    assert torch.equal(filled[2], masks[2])
    assert filled[0].sum() == 32


def test_images_may_say_which_categories_they_lack(tmp_path):
    images = [
        {"id": 1, "file_name": "1.png", "neg_category_ids": []},
        {"id": 2, "file_name": "2.png", "neg_category_ids": [5]},
        {"id": 3, "file_name": "3.png"},
    ]
    row = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 4, 4]}
    path = written(tmp_path, document(images=images, annotations=[row]))
    assert labels.load(path, "glasses").images == (1, 2)  # the third was looked at for something else
    images[2]["neg_category_ids"] = 5
    with pytest.raises(ProbeError, match=r"^labels\.json: neg_category_ids: expected a list of category ids$"):
        labels.load(written(tmp_path, document(images=images, annotations=[row])))
