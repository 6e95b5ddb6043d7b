"""Lists of images to leave out: `probe dedup` writes them, `probe train --exclude` reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.base.errors import ProbeError
from probe.base.files import writing

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Indices (K,), ascending, to leave out of a source of so many images; `file` and `sha256` name the list.

    `contents` is the digest of the source (`data.loading.Images`), '' in a list of an earlier version or by hand: that
    knows its source by name and count only.
    """

    source: str
    images: int
    indices: Array
    file: str
    sha256: str
    contents: str = ""

    def kept(self, n: int, source: str, contents: str = "") -> Array:
        """Indices of what remains of n images of a source; ProbeError where the list was made for another.

        Which source it is, its digest `contents` says where both sides have one, else its name and count.
        """
        if len(self.indices) and self.indices[-1] >= n:
            raise ProbeError(
                f"{self.file}: leaves out image {self.indices[-1]} of {self.source}; {source} has {n} images (0 to "
                f"{n - 1}): make the list anew with probe dedup"
            )
        known, alike = bool(self.contents and contents), (self.source, self.images) == (source, n)
        if known and alike and self.contents != contents:
            raise ProbeError(
                f"{self.file}: made for {self.images} images of {self.source} with other contents than these {n} of "
                f"{source}: files were renamed, added or changed since; make the list anew with probe dedup"
            )
        if not alike and not (known and self.contents == contents):
            raise ProbeError(
                f"{self.file}: made for {self.images} images of {self.source}, not for {n} of {source}; "
                "make one for this source (and `limit`) with probe dedup"
            )
        if len(self.indices) == n:
            raise ProbeError(f"{self.file}: leaves out all {n} images of {source}; expected some to remain")
        return np.setdiff1d(np.arange(n), self.indices)

    def doubt(self, source: str) -> str:
        """What has to be said where the list cannot know whether a source is the one it was made for; else nothing."""
        if self.contents or source.startswith("rooms"):
            return ""
        return (
            f"{self.file}: knows {self.source} by name and count only, not by its contents; files renamed or replaced "
            "since would not be noticed"
        )

    def note(self) -> dict[str, Any]:
        """What a checkpoint remembers of the list."""
        return {"file": self.file, "sha256": self.sha256, "images": len(self.indices)}


def save(
    path: Path, source: str, images: int, indices: Array, contents: str = "", names: Sequence[str] | None = None
) -> None:
    """Write a list; `names` are those of all images of the source: the list gets those left out, for people to read."""
    listed = np.sort(indices).tolist()
    document: dict[str, Any] = {"source": source, "images": images, "exclude": listed}
    document |= {"contents": contents} if contents else {}
    document |= {"names": [names[i] for i in listed]} if names else {}
    with writing(path) as temporary:
        temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")


def load(path: Path) -> Exclusion:
    """Read a list; raises ProbeError where it is none."""
    wanted = 'expected {"source": NAME, "images": N, "exclude": [INDEX, …]}, as probe dedup writes it'
    try:
        text = path.read_bytes()
        document = json.loads(text)
        source, images, indices = (document[k] for k in ("source", "images", "exclude"))
        contents = document.get("contents", "")
    except OSError as error:
        raise ProbeError(f"{path}: cannot be read ({error.strerror}); {wanted}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProbeError(f"{path.name}: not a list of images to leave out ({error}); {wanted}") from error
    whole = isinstance(indices, list) and all(type(i) is int and 0 <= i < 2**62 for i in indices)
    if not (whole and isinstance(source, str) and isinstance(contents, str) and type(images) is int):
        raise ProbeError(f"{path.name}: not a list of images to leave out; {wanted}")
    digest = hashlib.sha256(text).hexdigest()
    unique = np.unique(np.array(indices, np.int64))
    return Exclusion(source=source, images=images, indices=unique, file=path.name, sha256=digest, contents=contents)
