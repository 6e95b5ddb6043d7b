"""Faces as the paper gathered them (section 4.1): boxes by OpenCV's detector on people's pictures, of enough pixels each."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from probe.base.errors import ProbeError
from probe.data.reading import Array, Fetched, Items, LeftOutError, Reading, extra

_CASCADE = "haarcascade_frontalface_default.xml"
_SCALE, _NEIGHBOURS = 1.1, 5  # steps between sizes that are tried, and detections that must agree
_MOST_PIXELS = 2**26  # of a picture; a larger one is left out


def faces(folder: Reading, size: int) -> Reading:
    """The faces of a folder's pictures, each a picture of its own, cropped square and at its own resolution.

    A face of fewer than `size` pixels a side is left out, as is a picture without any; the detector finds frontal faces only.
    """
    cv2 = extra("cv2", "faces")
    path = Path(cv2.data.haarcascades) / _CASCADE if hasattr(cv2, "CascadeClassifier") else Path()
    if not path.is_file():
        found = f"OpenCV {cv2.__version__}, which has no {_CASCADE}"
        raise ProbeError(f"faces: found {found}; expected 4.8 or newer, below 5: pip install 'dcgan-probe[faces]'")
    detector = cv2.CascadeClassifier(str(path))

    def items() -> Items:
        for name, picture, label in folder.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of huge pictures, which are left out
                    colours = _colours(picture.open())
            except Exception:  # PIL's decoders raise whatever they stumble over: the loader opens it again, and says so
                yield name, picture, label
                continue
            boxes = _boxes(cv2, detector, colours, size)
            if not boxes:
                yield name, Fetched(partial(_none, size)), label
            for k, (x, y, side) in enumerate(boxes, 1):
                crop = colours[y : y + side, x : x + side].copy()
                yield f"{name} face {k}" if len(boxes) > 1 else name, Fetched(partial(Image.fromarray, crop)), label

    return Reading(
        name=folder.name.replace("folder:", "faces:", 1),
        stamp=f"{folder.stamp} faces {cv2.__version__} {_SCALE} {_NEIGHBOURS}",
        count=None,
        items=items,
        classes=folder.classes,
        left_out=folder.left_out,
    )


def _colours(picture: Image.Image | Array) -> Array:
    """A picture's pixels (H, W, 3) uint8, upright."""
    if not isinstance(picture, Image.Image) or picture.width * picture.height > _MOST_PIXELS:
        raise ValueError("no picture of bytes, or a huge one")
    upright = ImageOps.exif_transpose(picture)
    return np.asarray(upright.convert("RGB"))


def _boxes(cv2: Any, detector: Any, colours: Array, size: int) -> list[tuple[int, int, int]]:
    """Left, top and side of each face of at least `size` pixels, from left to right."""
    grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    found = detector.detectMultiScale(grey, _SCALE, _NEIGHBOURS, minSize=(size, size))
    return sorted((int(x), int(y), int(min(w, h))) for x, y, w, h in found)


def _none(size: int) -> Image.Image:
    raise LeftOutError(f"without a face of {size} px or more")
