"""A part of the picture as people write it, read with care."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.base.files import picture


def region(text: str, size: int) -> Tensor:
    """A region of images of a size as the share of each pixel inside it, (size, size) in [0, 1].

    `text` is a box `x0,y0,x1,y1` in pixels, from the left and the top, or the path of a square image of any size, white
    inside. Of a picture whose transparency differs it is what is opaque, where the picture itself does not differ; of a
    palette's numbers all but 0, of numbers 0 and 1 the 1. Raises ProbeError for a box that is empty or leaves the image,
    and for a file that is missing, no image, not square or black throughout.
    """
    found = re.fullmatch(r"\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*", text)
    if found:
        return _box(text, size, found.groups())
    path = Path(text)
    try:
        with picture(path) as image:
            pixels = _inside(image)
    except FileNotFoundError:
        raise ProbeError(
            f"`where` {text}: neither a box x0,y0,x1,y1 in pixels nor a file; expected one of them"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ProbeError(
            f"`where` {path.name}: not an image that can be read ({reason}); expected a mask, white inside"
        ) from None
    if pixels.shape[0] != pixels.shape[1]:
        raise ProbeError(
            f"`where` {path.name}: the mask is {pixels.shape[1]}x{pixels.shape[0]}; the images are square, {size}x{size}"
        )
    if not pixels.any():
        raise ProbeError(f"`where` {path.name}: the mask is black throughout; white is where the edit holds")
    return F.interpolate(torch.from_numpy(pixels)[None, None], (size, size), mode="area")[0, 0]


def _inside(image: Image.Image) -> NDArray[Any]:
    """The share of each pixel of a mask that is inside, (H, W) in [0, 1], whichever way the file says it."""
    if image.mode == "P":  # of classes, as VOC's, where 255 is the border between them
        classes = np.asarray(image)
        if "transparency" not in image.info and _is_coloured(image):
            return ((classes > 0) & (classes < 255)).astype(np.float32)
    if image.has_transparency_data:
        shown = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
        opaque, grey = shown[..., 3], np.asarray(image.convert("RGBA").convert("L"), dtype=np.float32) / 255
        seen = grey[opaque > 0]
        return opaque if opaque.min() < opaque.max() and (not seen.size or seen.min() == seen.max()) else grey * opaque
    values = np.asarray(image if image.mode.startswith(("I", "F", "1")) else image.convert("L"), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if low < 0 or not np.isfinite(values).all():
        raise ValueError(f"its values go from {low:g} to {high:g}")
    if high <= 1:
        return np.array(values)
    return (values / (255 if high <= 255 else 65535)).clip(0, 1)


def _is_coloured(image: Image.Image) -> bool:
    """Whether a palette is one of colours, which are numbers of classes, and not of greys."""
    colours = np.asarray(image.convert("RGB"))
    return bool((colours != colours[..., :1]).any())


def _box(text: str, size: int, words: tuple[str, ...]) -> Tensor:
    try:
        x0, y0, x1, y1 = map(float, words)
    except ValueError:
        raise ProbeError(f"`where` {text}: expected a box x0,y0,x1,y1 in pixels") from None
    if x0 == x1 or y0 == y1:
        raise ProbeError(f"`where` {text}: an empty box; expected x0,y0,x1,y1 with x0 < x1 and y0 < y1")
    if not (0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size):
        raise ProbeError(
            f"`where` {text}: no box within images of {size}x{size}; expected x0,y0,x1,y1 with 0 <= x0 < x1 <= {size}, same for y"
        )
    edges = torch.arange(size, dtype=torch.float32)
    columns, rows = ((edges + 1).clamp(max=b) - edges.clamp(min=a) for a, b in ((x0, x1), (y0, y1)))
    return torch.outer(rows.clamp(min=0), columns.clamp(min=0))
