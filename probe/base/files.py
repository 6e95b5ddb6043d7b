"""Writing so that nobody ever sees half a file (a temporary name in the same folder, then a rename); opening pictures."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.errors import ProbeError

if TYPE_CHECKING:
    from PIL.Image import Image


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path`, or what it links to, when the block ends well and vanishes when it does not.

    Raises ProbeError with the system's reason (no space, no permission) in place of OSError, and where there is something
    else than a file: a folder, a device, a pipe.
    """
    try:
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        if path.exists() and not path.is_file():
            raise ProbeError(f"{path}: is no file; expected one, or a name that is not taken")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise ProbeError(f"{path}: cannot write there ({error.strerror}); choose another place") from error
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise ProbeError(
            f"{path}: could not be written ({error.strerror or error}); free some space or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def picture(path: Path) -> Iterator[Image]:
    """Open a picture; OSError also where it is too large to be one of ours (PIL warns of decompression bombs)."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(path)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise OSError(str(error)) from error
        with opened:
            yield opened


def path_of(value: str | os.PathLike[str], parameter: str) -> Path:
    """A path given as a text or path-like; raises ProbeError, naming the parameter, for anything else."""
    try:
        return Path(os.fsdecode(value))
    except TypeError:
        raise ProbeError(f"`{parameter}`: is of type {type(value).__name__}; expected a path") from None


def save_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, atomically; bytes of a file's name that are none are escaped, as JSON does."""
    with writing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `folder`, or of what it links to, when the block ends well."""
    folder = folder.resolve() if folder.is_symlink() else folder
    if folder.exists() and not folder.is_dir():
        raise ProbeError(f"{folder}: is no folder; expected one, choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise ProbeError(f"{folder}: cannot write there ({error.strerror}); choose another folder") from error
    old = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    except ProbeError as error:  # about a file that nobody knows by the name it has here
        raise ProbeError(str(error).replace(str(temporary), str(folder))) from error
    except OSError as error:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise ProbeError(
            f"{folder}: could not be written ({error.strerror or error}); free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def save_tensors(
    path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None, of: str = "torch"
) -> None:
    """Write tensors `of` torch or numpy, and text metadata, as one safetensors file, atomically."""
    from safetensors import SafetensorError

    if of == "torch":
        from safetensors import torch as kind
    else:
        from safetensors import numpy as kind  # type: ignore[no-redef]

    with writing(path) as temporary:
        try:
            kind.save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # a full disk comes back as this
            raise OSError(None, str(error)) from error
