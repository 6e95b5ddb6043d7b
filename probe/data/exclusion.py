"""Lists of images to leave out: `probe dedup` writes them, `probe train --exclude` reads them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.base.files import writing

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Indices (K,), ascending, to leave out of a source of so many images; `file` and `sha256` name the list."""

    source: str
    images: int
    indices: Array
    file: str
    sha256: str

    def kept(self, n: int, source: str) -> Array:
        """Indices of what remains of n images of a source; ProbeError where the list was made for another."""
        if len(self.indices) and self.indices[-1] >= n:
            raise ProbeError(
                f"{self.file}: leaves out image {self.indices[-1]} of {self.source}; {source} has {n} images (0 to "
                f"{n - 1}): make the list anew with probe dedup"
            )
        if (self.source, self.images) != (source, n):
            raise ProbeError(
                f"{self.file}: made for {self.images} images of {self.source}, not for {n} of {source}; "
                "make one for this source (and `limit`) with probe dedup"
            )
        if len(self.indices) == n:
            raise ProbeError(f"{self.file}: leaves out all {n} images of {source}; expected some to remain")
        return np.setdiff1d(np.arange(n), self.indices)

    def note(self) -> dict[str, Any]:
        """What a checkpoint remembers of the list."""
        return {"file": self.file, "sha256": self.sha256, "images": len(self.indices)}


def save(path: Path, source: str, images: int, indices: Array) -> None:
    """Write a list."""
    document = {"source": source, "images": images, "exclude": np.sort(indices).tolist()}
    with writing(path) as temporary:
        temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")


def load(path: Path) -> Exclusion:
    """Read a list; raises ProbeError where it is none."""
    wanted = 'expected {"source": NAME, "images": N, "exclude": [INDEX, …]}, as probe dedup writes it'
    try:
        text = path.read_bytes()
        document = json.loads(text)
        source, images, indices = (document[k] for k in ("source", "images", "exclude"))
    except OSError as error:
        raise ProbeError(f"{path}: cannot be read ({error.strerror}); {wanted}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProbeError(f"{path.name}: not a list of images to leave out ({error}); {wanted}") from error
    whole = isinstance(indices, list) and all(type(i) is int and 0 <= i < 2**62 for i in indices)
    if not (whole and isinstance(source, str) and type(images) is int):
        raise ProbeError(f"{path.name}: not a list of images to leave out; {wanted}")
    digest = hashlib.sha256(text).hexdigest()
    return Exclusion(
        source=source, images=images, indices=np.unique(np.array(indices, np.int64)), file=path.name, sha256=digest
    )
