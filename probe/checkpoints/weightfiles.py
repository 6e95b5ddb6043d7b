"""Files of weights, read without running anything that is in them.

    read(path)            the nested dicts of a .safetensors or torch file, and the text metadata of the former
    read_arrays(paths)    the tensors of .npy files
    sha256(paths)         one digest over the files' contents

Every refusal is a ProbeError of one line: the file, what was found, what to do.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from probe.base.errors import ProbeError
from probe.checkpoints import inert

MAX_UNPACKED = 4 * 2**30  # bytes a zip archive may unpack to, and at most 20 times the file (torch does not compress)
_SAVE_TENSORS = "where the file was made, save the tensors alone: torch.save(model.state_dict(), path)"
_ADVICE = "expected a torch file (.pth, .pt, .ckpt) or .safetensors; fetch or save it again"


class _Record:
    """Settings saved beside weights. Their class is never looked up: this one stands in, and keeps plain values."""

    def __new__(cls, *_: object) -> _Record:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.fields = dict(state) if isinstance(state, dict) else {}


# Names that well-known tools leave in their checkpoints: settings, paths, NumPy values, Lightning's callback keys.
RECORDS = (
    "models.utils.config.BaseConfig",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """The contents of a weight file: nested dicts with tensors as leaves, and metadata (empty for a torch file)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ProbeError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if size == 0:
        raise ProbeError(f"{path}: the file is empty (0 bytes); {_ADVICE}")
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04":
        _check_zip(path)
    elif head == b"version https://"[:16]:
        raise ProbeError(f"{path}: a Git LFS pointer in place of the weights; fetch them with `git lfs pull`")
    elif head[:1] == b"\x80" and head[1:2] in (b"\x03", b"\x04", b"\x05"):
        return inert.read_torch(path), {}
    elif head[:2] != b"\x80\x02":
        raise ProbeError(f"{path}: not a checkpoint (starts with {head[:8]!r}); {_ADVICE}")
    return _read_torch(path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key).clone() for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ProbeError(f"{path}: truncated or damaged safetensors file ({_line(error)}); {_ADVICE}") from None


def names_in(path: Path) -> list[str]:
    """The names in a zip archive; raises ProbeError where it is damaged or a bomb."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ProbeError(f"{path}: truncated or damaged zip archive ({_line(error)}); {_ADVICE}") from None
    total = sum(entry.file_size for entry in entries)
    if total > min(MAX_UNPACKED, 20 * size + 2**20):
        raise ProbeError(
            f"{path}: {size:,} bytes that would unpack to {total:,}: a zip bomb, not a checkpoint; refused"
        )
    return [entry.filename for entry in entries]


def _check_zip(path: Path) -> None:
    """Refuse, before torch opens it, an archive that is damaged, a bomb or no torch file."""
    names = [name.partition("/")[2] for name in names_in(path)]
    if "data.pkl" not in names:
        raise ProbeError(f"{path}: a zip archive without torch's data.pkl; {_ADVICE}")


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([(_Record, name) for name in RECORDS]):
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile pickle can make torch raise anything
        text = str(error)
        if re.search(r"(?:unsupported GLOBAL|GLOBAL) ([\w.]+)|<class '([\w.]+)'>|<function (\w+)", text):
            return inert.read_torch(path)
        found = re.search(r"WeightsUnpickler error: (.+)", text)
        reason = found[1][:120] if found else _line(error)
        raise ProbeError(f"{path}: truncated or damaged torch file ({reason}); {_ADVICE}") from None
    _check_storages(path, tree)
    return tree


def _check_storages(path: Path, tree: Any) -> None:
    """Refuse tensors that claim more memory than the file holds (a stride of 0, or a false length)."""
    limit = 20 * path.stat().st_size + 2**20
    for tensor in _tensors(tree):
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ProbeError(f"{path}: holds a sparse or quantized tensor; save dense floating-point weights")
        held = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > held or held > limit:
            raise ProbeError(
                f"{path}: a tensor of shape {tuple(tensor.shape)} has too little data behind it; {_ADVICE}"
            )


def _tensors(tree: Any) -> Iterable[Tensor]:
    """All tensors in nested dicts, lists and tuples, each container visited once."""
    stack, seen = [tree], set()
    while stack:
        node = stack.pop()
        if isinstance(node, Tensor):
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack += node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()


def read_arrays(paths: Sequence[Path]) -> list[Tensor]:
    """Float32 tensors of .npy files; pickled objects in them are refused."""
    arrays = []
    for path in paths:
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ProbeError(f"{path}: not a plain .npy array ({_line(error)}); fetch it again") from None
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise ProbeError(f"{path}: expected one floating-point array; fetch it again")
        arrays.append(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)))
    return arrays


def sha256(paths: Iterable[Path]) -> str:
    """Hex digest of the files' contents, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def _line(error: Exception) -> str:
    """The first line of an exception, cut to what fits into one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
