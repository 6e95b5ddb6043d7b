"""Reads one HDF5 file in a process of its own, since damaged ones can make the HDF5 library loop for ever or crash.

Run by path, with the file's path or `-` for its bytes on standard input, and the file's size. Written to standard output: the
length of a JSON text (8 bytes), the text, and the arrays' bytes one after another, float32 or int64. The text holds
`config`, `layers` (names), `arrays` (path and shape of each), or `refused`, why not. Only hard links are followed, and
nothing outside of the file is read.
"""

from __future__ import annotations

import io
import json
import math
import struct
import sys
from typing import Any

import numpy as np

SECONDS = 10
MOST_ARRAYS, MOST_DEPTH, MOST_NAMES = 5000, 16, 20_000


class RefusedError(Exception):
    """Why a file is not read."""


def limit(size: int) -> None:
    """Bound the time and memory of this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    memory = 2 * 2**30 + 24 * size
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def names(group: Any, key: str) -> list[str]:
    """A list of names that an attribute holds."""
    values = np.asarray(group.attrs[key]).ravel()[:MOST_NAMES]
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def contents(file: Any, size: int) -> tuple[dict[str, Any], list[Any]]:
    """The text to write, and the arrays."""
    import h5py

    config, root = None, file
    if "model_config" in file.attrs:
        text = file.attrs["model_config"]
        config = text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")
    if isinstance(file.get("model_weights", getlink=True), h5py.HardLink):
        root = file["model_weights"]
    found: dict[tuple[str, ...], Any] = {}
    budget, seen = [20 * size + 2**20], set[Any]()

    def array(item: Any) -> Any:
        if item.external or item.is_virtual:
            raise RefusedError(f"{item.name} lies in another file; refused; save the model in one file")
        budget[0] -= math.prod(item.shape) * item.dtype.itemsize
        if budget[0] < 0 or len(item.shape) > 6:
            raise RefusedError(
                f"{item.name} declares shape {item.shape}, more than the file can hold; fetch or save it again"
            )
        return np.ascontiguousarray(item[()], dtype="<f4" if item.dtype.kind == "f" else "<i8")

    def visit(group: Any, where: tuple[str, ...]) -> None:
        if len(where) > MOST_DEPTH or len(found) > MOST_ARRAYS:
            raise RefusedError(f"more than {MOST_ARRAYS:,} arrays, or groups nested too deep; fetch or save it again")
        key = h5py.h5o.get_info(group.id).addr
        if key in seen:
            return
        seen.add(key)
        listed = names(group, "weight_names") if "weight_names" in group.attrs else []
        held = [name for name, _ in zip(group, range(MOST_NAMES), strict=False)]
        first = [name for name in dict.fromkeys(part.partition("/")[0] for part in listed) if name in held]
        for name in dict.fromkeys([*first, *held]):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RefusedError(f"{name} is a link to somewhere else; refused; save the model in one file")
            item = group.get(name)
            if isinstance(item, h5py.Group):
                visit(item, (*where, name))
            elif (
                isinstance(item, h5py.Dataset)
                and item.dtype.kind in "fiu"
                and not {"optimizer", "metrics"} & set(where)
            ):
                found[*where, name] = array(item)
        ranks = {tuple(part.split("/")): i for i, part in enumerate(listed)}
        if ranks:  # a nested model lists its weights in the order of its layers
            below = [key for key in found if key[: len(where)] == where]
            for key in sorted(below, key=lambda key: ranks.get(key[len(where) :], len(ranks))):
                found[key] = found.pop(key)

    visit(root, ())
    layers = names(root, "layer_names") if "layer_names" in root.attrs else []
    about = {
        "config": config,
        "layers": layers,
        "arrays": [[list(path), list(a.shape), a.dtype.str] for path, a in found.items()],
    }
    return about, list(found.values())


def main() -> None:
    """Read the file that the command line names."""
    place, size = sys.argv[1], int(sys.argv[2])
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if place == "-" else place
    limit(size)
    import h5py

    arrays: list[Any] = []
    try:
        with h5py.File(source, "r") as file:
            about, arrays = contents(file, size)
    except RefusedError as error:
        about = {"refused": str(error)}
    except Exception as error:  # HDF5 files that are damaged make h5py raise anything
        about = {"damaged": " ".join(str(error).split())[:120] or type(error).__name__}
    text = json.dumps(about).encode()
    out = sys.stdout.buffer
    out.write(struct.pack("<Q", len(text)) + text)
    for array in arrays:
        out.write(array.tobytes())
    out.flush()


if __name__ == "__main__":
    main()
