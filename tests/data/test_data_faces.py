"""Faces of a folder's pictures: a portrait that ships with scikit-image, beside pictures without a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures

from probe.base.errors import ProbeError
from probe.data import loading

cv2 = pytest.importorskip("cv2")
FACE = (176, 66, 272, 162)  # left, top, right and bottom of hers, looked up in the picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    portrait = Image.fromarray(pictures.astronaut())
    portrait.save(tmp_path / "one.png")
    pair = Image.new("RGB", (2 * portrait.width, portrait.height))
    pair.paste(portrait, (0, 0))
    pair.paste(portrait, (portrait.width, 0))
    pair.save(tmp_path / "two.png")
    Image.fromarray(pictures.coffee()).save(tmp_path / "cup.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    return tmp_path


def test_faces_are_cropped_and_what_has_none_is_named(folder: Path) -> None:
    found = loading.load(f"faces:{folder}", size=64)
    assert found.names == ("one.png", "two.png face 1", "two.png face 2")
    left = dict(zip(found.skipped, found.why, strict=True))
    assert left == {"broken.png": "unreadable, no picture that is known", "cup.png": "without a face of 64 px or more"}
    assert found.name == f"faces:{folder.name}"
    wanted = np.asarray(Image.fromarray(pictures.astronaut()).crop(FACE).resize((64, 64), Image.Resampling.BICUBIC))
    for image in found.images:  # boxes of other versions may lie a few pixels beside
        assert np.corrcoef(image.transpose(1, 2, 0).ravel(), wanted.ravel())[0, 1] > 0.8


def test_faces_smaller_than_the_size_are_left_out(folder: Path) -> None:
    with pytest.raises(ProbeError, match=r"all 4 images are left out, such as .*"):
        loading.load(f"faces:{folder}", size=160)


def test_the_same_folder_whole_is_another_source(folder: Path) -> None:
    whole, faces = (loading.load(f"{prefix}{folder}", size=64) for prefix in ("", "faces:"))
    assert whole.sha256 != faces.sha256
    assert len(whole.images) == 3


def test_an_opencv_without_the_detector(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ProbeError, match=r"faces: found OpenCV .*expected 4.8 or newer, below 5: pip install"):
        loading.load(f"faces:{folder}", size=64)
