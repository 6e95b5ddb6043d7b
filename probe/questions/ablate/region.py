"""What people write for a set of numbers or a part of the picture, read with care."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.base.files import picture

_MOST = 100_000


def numbers(text: str, what: str) -> tuple[int, ...]:
    """The numbers of a list such as `3,7,12` or `0-11,40`, each once, in the order given.

    Raises ProbeError, naming `what` the list is of, for anything else and for numbers of 100,000 and more.
    """
    out: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if not match:
            raise ProbeError(
                f"{what} {text!r}: expected numbers and ranges with commas between, such as 3,7,12 or 0-11"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= _MOST:
            reason = (
                f"{part.strip()} runs backwards" if last < first else f"{last} is too large (the most is {_MOST - 1})"
            )
            raise ProbeError(f"{what} {text!r}: {reason}")
        out |= dict.fromkeys(range(first, last + 1))
    return tuple(out)


def region(text: str, size: int) -> Tensor:
    """A region of images of a size as the share of each pixel inside it, (size, size) in [0, 1].

    `text` is a box `x0,y0,x1,y1` in pixels, from the left and the top, or the path of a square greyscale image of any
    size, white inside. Raises ProbeError for a box that is empty or leaves the image, and for a file that is missing,
    no image, not square or black throughout.
    """
    found = re.fullmatch(r"\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*", text)
    if found:
        return _box(text, size, found.groups())
    path = Path(text)
    try:
        with picture(path) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
    except FileNotFoundError:
        raise ProbeError(
            f"region {text}: neither a box x0,y0,x1,y1 in pixels nor a file; expected one of them"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ProbeError(
            f"region {path.name}: not an image that can be read ({reason}); expected a mask, white inside"
        ) from None
    if pixels.shape[0] != pixels.shape[1]:
        raise ProbeError(
            f"region {path.name}: the mask is {pixels.shape[1]}x{pixels.shape[0]}; the images are square, {size}x{size}"
        )
    if not pixels.any():
        raise ProbeError(f"region {path.name}: the mask is black throughout; white is where the edit holds")
    return F.interpolate(torch.from_numpy(pixels)[None, None], (size, size), mode="area")[0, 0]


def _box(text: str, size: int, words: tuple[str, ...]) -> Tensor:
    try:
        x0, y0, x1, y1 = map(float, words)
    except ValueError:
        raise ProbeError(f"region {text}: expected a box x0,y0,x1,y1 in pixels") from None
    if not (0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size):
        raise ProbeError(
            f"region {text}: no box within images of {size}x{size}; expected x0,y0,x1,y1 with 0 <= x0 < x1 <= {size}, same for y"
        )
    edges = torch.arange(size, dtype=torch.float32)
    columns, rows = ((edges + 1).clamp(max=b) - edges.clamp(min=a) for a, b in ((x0, x1), (y0, y1)))
    return torch.outer(rows.clamp(min=0), columns.clamp(min=0))
