"""Pickles read without running anything: every object in them becomes a record of what the pickle says about it.

    read_torch(path)     the tree in a torch file (zip or legacy) or a plain pickle: dicts, lists, numbers, tensors, Objects
    state_of(module)     the state dict of a whole module that was pickled
    children(module)     its submodules in the order in which they were registered

Python's own unpickler looks names up and calls them. This one does neither: a name stays a `Name`, and what the pickle
would make by calling it becomes an `Object` that holds name, arguments and state. Only tensors are rebuilt, from the
bytes of the same file, and by this file's own code.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from probe.base.errors import ProbeError

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch's legacy files
_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_REBUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2")
_WRAPPERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_ADVICE = "fetch or save it again"
_MAX_BYTES = 4 * 2**30
_SAVE_TENSORS = "save the tensors alone, torch.save(model.state_dict(), path)"
# A call of one of these is not weights; it would never run here, but the file is not to be trusted anywhere else.
_HOSTILE = {
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "shutil",
    "socket",
    "runpy",
    "importlib",
    "ctypes",
    "pty",
    "pickle",
}
_HOSTILE_BUILTINS = {"eval", "exec", "compile", "__import__", "getattr", "setattr", "open", "globals", "breakpoint"}


class _DamagedError(Exception):
    """Why a pickle cannot be read."""


class _HostileError(Exception):
    """The name in a pickle that only a file made to run code holds."""


@dataclass(frozen=True)
class Name:
    """A global name in a pickle, never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Object:
    """What a pickle would make by calling a name: the name, the arguments, the state, and what is put into it."""

    name: Name
    arguments: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: Any) -> None:
        """Take an item of a list that it would be."""
        self.items.append(item)

    def extend(self, items: list[Any]) -> None:
        """Take the items of a list or set that it would be."""
        self.items.extend(items)

    update = extend

    @property
    def fields(self) -> dict[str, Any]:
        """Its attributes (of settings saved beside weights)."""
        return self.state

    @property
    def is_module(self) -> bool:
        """Whether it is an nn.Module."""
        parts = (self.state.get(key) for key in ("_modules", "_parameters", "_buffers"))
        return all(isinstance(part, dict) for part in parts)


@dataclass(eq=False)
class _Storage:
    """A storage: its type, its numbers, and where its bytes are."""

    dtype: torch.dtype
    numel: int
    key: str
    fetch: Callable[[str], bytes] | None = None
    whole: Tensor | None = None

    def tensor(self) -> Tensor:
        if self.whole is None:
            width = torch.empty(0, dtype=self.dtype).element_size()
            data = self.fetch(self.key) if self.fetch else b""
            if len(data) < self.numel * width or self.numel < 0:
                raise _DamagedError(f"storage {self.key} holds {len(data)} bytes, {self.numel * width} are declared")
            usable = bytearray(data[: self.numel * width])
            self.whole = torch.frombuffer(usable, dtype=self.dtype) if usable else torch.empty(0, dtype=self.dtype)
        return self.whole


@dataclass(eq=False)
class _Slice:
    """A tensor as the pickle describes it: a storage, an offset, a shape and strides."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def tensor(self) -> Tensor:
        whole, numbers = self.storage.tensor(), (self.offset, *self.shape, *self.strides)
        if any(type(number) is not int or not 0 <= number < 2**40 for number in numbers) or len(self.shape) > 8:
            raise _DamagedError("a tensor whose shape is none")
        span = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)) + 1
        count = math.prod(self.shape)
        if count and (span > whole.numel() or count > whole.numel()):
            raise _DamagedError(f"a tensor of shape {self.shape} has too little data behind it")
        return whole.as_strided(self.shape, self.strides, self.offset).clone() if count else whole.new_empty(self.shape)


class _Inert(pickle._Unpickler):  # the one in Python: its memo is a dict, and every step can be replaced
    """An unpickler that looks no name up and calls nothing but the makers of records."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]

    def __init__(self, file: io.BytesIO, storage: Callable[[Any], Any] | None = None) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        first = module.partition(".")[0]
        if first in _HOSTILE or (first in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS):
            raise _HostileError(f"{module}.{name}")
        return Name(str(module), str(name))

    def persistent_load(self, pid: Any) -> Any:
        if self.storage is None:
            raise _DamagedError("a persistent id, which only torch files have")
        return self.storage(pid)

    def get_extension(self, code: int) -> None:
        raise _DamagedError(f"extension {code}, which no torch file has")

    def make(self, name: Any, arguments: Any) -> Any:
        """The record of a call."""
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise _DamagedError(f"a call of a {type(name).__name__}")
        text = str(name)
        if text == "collections.OrderedDict":
            return {}
        if text in ("torch.storage._load_from_bytes", "torch._C._load_from_bytes"):
            return _storage_in(arguments)
        if name.module == "torch._utils" and name.name in _REBUILDERS and len(arguments) >= 4:
            return _sliced(*arguments[:4])
        if name.module == "torch._utils" and name.name in _WRAPPERS and arguments:
            return arguments[0]
        if text == "torch._tensor._rebuild_from_type_v2" and len(arguments) >= 3:
            return self.make(arguments[0], arguments[2])
        if text == "torch.Size" and arguments and isinstance(arguments[0], tuple | list):
            return tuple(arguments[0])
        return Object(name, arguments)

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.make(self.stack[-1], arguments)

    def _newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.make(self.stack[-1], arguments)

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._newobj()

    def _inst(self) -> None:
        module = self.readline()[:-1].decode("utf-8", "replace")
        name = self.readline()[:-1].decode("utf-8", "replace")
        arguments = tuple(self.pop_mark())
        self.append(self.make(self.find_class(module, name), arguments))

    def _obj(self) -> None:
        parts = self.pop_mark()
        self.append(self.make(parts[0] if parts else None, tuple(parts[1:])))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(state, tuple) and len(state) == 2:  # of a class with slots
            state = {
                **(state[0] if isinstance(state[0], dict) else {}),
                **(state[1] if isinstance(state[1], dict) else {}),
            }
        if isinstance(target, Object):
            target.state |= (
                {str(key): value for key, value in state.items()} if isinstance(state, dict) else {"": state}
            )
        elif not isinstance(target, dict | _Slice | _Storage):
            raise _DamagedError(f"a state for a {type(target).__name__}")

    def _bytearray(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > 2**31:
            raise _DamagedError(f"an array of {length:,} bytes")
        self.append(bytearray(self.read(length)))

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.INST[0]: _inst,
        pickle.OBJ[0]: _obj,
        pickle.BUILD[0]: _build,
        pickle.BYTEARRAY8[0]: _bytearray,
    }


def _sliced(storage: Any, offset: Any, shape: Any, strides: Any) -> _Slice:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise _DamagedError("a tensor without a storage")
    if len(shape) != len(strides):
        raise _DamagedError("a tensor whose strides do not fit its shape")
    return _Slice(storage, offset, shape, strides)


def _storage_of(pid: Any, fetch: Callable[[str], bytes]) -> Any:
    """What a persistent id of torch stands for: a storage, or in old files a class with its source."""
    if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
        return pid[1]
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Name):
        raise _DamagedError("a persistent id that names no storage")
    dtype = _DTYPES.get(pid[1].name.removesuffix("Storage"))
    if dtype is None or type(pid[4]) is not int or not isinstance(pid[2], str):
        raise _DamagedError(f"a storage of type {pid[1]}")
    return _Storage(dtype, pid[4], pid[2], fetch)


def _loaded(data: io.BytesIO, storage: Callable[[Any], Any] | None = None) -> Any:
    return _Inert(data, storage).load()


def _storage_in(arguments: tuple[Any, ...]) -> Any:
    """The storage in the bytes of a torch file inside a plain pickle."""
    data = arguments[0] if arguments else None
    if not isinstance(data, bytes | bytearray):
        raise _DamagedError("a storage without bytes")
    tree = _legacy(io.BytesIO(data)) if data[:2] != b"PK" else _zipped(io.BytesIO(data), len(data))
    if not isinstance(tree, _Storage):
        raise _DamagedError("bytes that hold no storage")
    tree.tensor()  # while its file is at hand
    return tree


def _legacy(file: io.BytesIO) -> Any:
    """The object in torch's legacy format: five pickles, then the storages, each behind its length."""
    if _loaded(file) != _MAGIC:
        raise _DamagedError("no torch file")
    _loaded(file)
    info = _loaded(file)
    if isinstance(info, dict) and info.get("little_endian") is False:
        raise _DamagedError("numbers of a big-endian machine")
    known: dict[str, _Storage] = {}

    def storage(pid: Any) -> Any:
        found = _storage_of(pid, lambda key: b"")
        if not isinstance(found, _Storage):
            return found
        if len(pid) > 5 and pid[5] is not None:
            raise _DamagedError("a view of a storage")
        return known.setdefault(found.key, found)

    tree = _loaded(file, storage)
    keys = _loaded(file)
    if not isinstance(keys, list):
        raise _DamagedError("no list of storages")
    for key in keys:
        held = known.get(key) if isinstance(key, str) else None
        if held is None:
            raise _DamagedError("a storage that nothing refers to")
        head = file.read(8)
        if len(head) < 8 or struct.unpack("<q", head)[0] != held.numel:
            raise _DamagedError(f"storage {key} has another length than declared")
        data = file.read(max(0, held.numel) * torch.empty(0, dtype=held.dtype).element_size())
        held.fetch = lambda _, data=data: data
        held.tensor()
    return tree


def _zipped(file: Any, size: int) -> Any:
    """The object in torch's zip format."""
    with zipfile.ZipFile(file) as archive:
        names = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if sum(entry.file_size for entry in names.values()) > 20 * size + 2**20:
            raise _DamagedError("a zip bomb")
        if "byteorder" in names and archive.read(names["byteorder"]).strip() == b"big":
            raise _DamagedError("numbers of a big-endian machine")
        if "data.pkl" not in names:
            raise _DamagedError("no data.pkl")
        known: dict[str, _Storage] = {}

        def fetch(key: str) -> bytes:
            entry = names.get(f"data/{key}")
            if entry is None:
                raise _DamagedError(f"storage {key} is missing")
            return archive.read(entry)

        def storage(pid: Any) -> Any:
            found = _storage_of(pid, fetch)
            return known.setdefault(found.key, found) if isinstance(found, _Storage) else found

        tree = _loaded(io.BytesIO(archive.read(names["data.pkl"])), storage)
        if isinstance(tree, _Storage):
            tree.tensor()
        return _settled(tree)


def _settled(tree: Any) -> Any:
    """A tree with its tensors rebuilt, in place; each container is visited once, so that cycles end."""
    done: dict[int, Tensor] = {}

    def settle(value: Any) -> Any:
        if isinstance(value, _Slice):
            if id(value) not in done:
                done[id(value)] = value.tensor()
            return done[id(value)]
        return value

    stack, seen, held = [tree], set(), []
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        held.append(node)  # so that no id is used twice
        if isinstance(node, dict):
            for key, value in list(node.items()):
                node[key] = settle(value)
            stack += [value for value in node.values() if not isinstance(value, Tensor)]
        elif isinstance(node, list):
            node[:] = [settle(value) for value in node]
            stack += [value for value in node if not isinstance(value, Tensor)]
        elif isinstance(node, tuple):
            stack += node
        elif isinstance(node, Object):
            stack += [node.state, node.entries, node.items]
    return settle(tree)


def read_torch(path: Path) -> Any:
    """The tree in a torch file or a plain pickle; nothing in it is imported or called.

    Raises ProbeError, one line, where the file is damaged.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ProbeError(f"{path}: {size:,} bytes of whole modules; expected at most {_MAX_BYTES:,}: {_SAVE_TENSORS}")
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                file.seek(0)
                return _zipped(file, size)
            file.seek(0)
            data = io.BytesIO(file.read())
        head = data.read(32)
        data.seek(0)
        if b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in head:
            return _settled(_legacy(data))
        return _settled(_loaded(data))
    except _HostileError as error:
        raise ProbeError(
            f"{path}: holds {error}, made to run code where it is opened; refused, and nothing ran"
        ) from None
    except MemoryError:
        raise ProbeError(f"{path}: declares more than the memory holds; {_ADVICE}") from None
    except Exception as error:  # a hostile pickle can make the machine of pickles raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ProbeError(f"{path}: truncated or damaged pickle ({reason}); {_ADVICE}") from None


# Modules -------------------------------------------------------------------------------------------------------------


def children(module: Object) -> dict[str, Object]:
    """The submodules of a module, in the order in which they were registered."""
    return {
        str(key): value
        for key, value in module.state["_modules"].items()
        if isinstance(value, Object) and value.is_module
    }


def own_tensors(module: Object) -> dict[str, Tensor]:
    """A module's own parameters and buffers."""
    both = {**module.state["_parameters"], **module.state["_buffers"]}
    return {str(key): value for key, value in both.items() if isinstance(value, Tensor)}


def walk(module: Object, prefix: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Object]]:
    """A module and all below it by their dotted names; a module that holds itself is not entered again."""
    if id(module) in seen or len(seen) > 32:
        return
    yield prefix, module
    for name, child in children(module).items():
        yield from walk(child, f"{prefix}.{name}" if prefix else name, seen | {id(module)})


def state_of(module: Object) -> dict[str, Tensor]:
    """The state dict of a module, as `module.state_dict()` would give it."""
    state: dict[str, Tensor] = {}
    for i, (prefix, part) in enumerate(walk(module)):
        if i > 10_000:
            raise ProbeError(f"a module of more than 10,000 parts; {_ADVICE}")
        state |= {f"{prefix}.{key}" if prefix else key: value for key, value in own_tensors(part).items()}
    return state
