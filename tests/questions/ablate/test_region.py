"""A part of the picture as a mask, whichever way a file says what is inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe.base.errors import ProbeError
from probe.questions.ablate.region import region

INSIDE = np.zeros((8, 8), np.uint8)
INSIDE[2:5, 1:7] = 1


def _voc() -> Image.Image:
    """Classes by number in a coloured palette, their border 255."""
    classes = INSIDE * 15
    classes[6, :] = 255
    image = Image.fromarray(classes, "L").convert("P")
    image.putdata(classes.ravel().tolist())
    image.putpalette([channel for k in range(256) for channel in ((k * 37) % 256, (k * 11) % 256, (k * 101) % 256)])
    return image


def _rgba(colour: int, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((8, 8, 3), colour, np.uint8), alpha]))


MASKS = {
    "0 and 255": lambda: Image.fromarray(INSIDE * 255),
    "0 and 1": lambda: Image.fromarray(INSIDE),
    "one bit": lambda: Image.fromarray(INSIDE > 0),
    "colours": lambda: Image.fromarray(np.dstack([INSIDE * 255] * 3)),
    "16 bits": lambda: Image.fromarray(INSIDE.astype(np.uint16) * 65535),
    "8 bits in 16": lambda: Image.fromarray(INSIDE.astype(np.uint16) * 255),
    "0 and 1 in 16": lambda: Image.fromarray(INSIDE.astype(np.uint16)),
    "palette of classes": _voc,
    "black, cut out": lambda: _rgba(0, INSIDE * 255),
    "white, cut out": lambda: _rgba(255, INSIDE * 255),
    "white on black, opaque": lambda: Image.fromarray(np.dstack([INSIDE * 255] * 3 + [np.full((8, 8), 255, np.uint8)])),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_what_the_file_says(tmp_path: Path, name: str) -> None:
    MASKS[name]().save(tmp_path / "mask.png")
    torch.testing.assert_close(region(str(tmp_path / "mask.png"), 8), torch.from_numpy(INSIDE.astype(np.float32)))


def test_floats_are_shares(tmp_path: Path) -> None:
    Image.fromarray(INSIDE.astype(np.float32) / 2).save(tmp_path / "mask.tif")
    torch.testing.assert_close(region(str(tmp_path / "mask.tif"), 8), torch.from_numpy(INSIDE.astype(np.float32) / 2))
    Image.fromarray(INSIDE.astype(np.float32) - 1).save(tmp_path / "mask.tif")
    with pytest.raises(ProbeError, match=r"mask\.tif: not an image that can be read \(its values go from -1 to 0\)"):
        region(str(tmp_path / "mask.tif"), 8)
