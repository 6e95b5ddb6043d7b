"""Files with bytes changed at random: a line that names the file, or a network; never anything else, and never for long."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.checkpoints.standalone import export
from probe.models.dcgan import Generator, generator_blocks
from probe.models.gan import GAN
from tests.originals import NZ, randomised

MUTATIONS, SECONDS, MEMORY = 150, 5.0, 3 * 2**30
PROCESSES = 20  # mutations of a format that a process of its own reads


def small() -> nn.Sequential:
    layers = [
        nn.ConvTranspose2d(NZ, 4, 4, 1, 0),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(4, 3, 4, 4, 0),
        nn.Tanh(),
    ]
    return randomised(nn.Sequential(*layers))


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def module(path: Path) -> bytes:
    return saved(lambda file: torch.save({"G": small(), "epoch": 3}, file))


def legacy(path: Path) -> bytes:
    return saved(lambda file: torch.save(small(), file, _use_new_zipfile_serialization=False))


def plain(path: Path) -> bytes:
    return pickle.dumps(small())


def script(path: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(lambda file: torch.jit.save(torch.jit.script(small()), file))


def keras(path: Path) -> bytes:
    pytest.importorskip("h5py")
    from tests.checkpoints.test_checkpoint_keras import orders, write

    write(path, orders(), [None, 6])
    return path.read_bytes()


def keras_weights(path: Path) -> bytes:
    pytest.importorskip("h5py")
    from tests.checkpoints.test_checkpoint_keras import tutorial, write

    write(path, tutorial(), [None, 6], config=False)
    return path.read_bytes()


def keras_archive(path: Path) -> bytes:
    pytest.importorskip("h5py")
    from tests.checkpoints.test_checkpoint_keras import orders, write_archive

    write_archive(path, orders(), [None, 6])
    return path.read_bytes()


def onnx(path: Path) -> bytes:
    pytest.importorskip("onnx")
    export(GAN(randomised(Generator(generator_blocks(16, 3, NZ, 2))), None, NZ, 16, 3), path, "onnx")
    return path.read_bytes()


def torch7(path: Path) -> bytes:
    from tests.checkpoints.test_checkpoint_modules import Lua, lua

    writer = Lua()
    writer.write(lua(small()))
    return bytes(writer.out)


def tensorflow(path: Path) -> bytes:
    from tests.checkpoints.test_checkpoint_keras import tutorial
    from tests.checkpoints.test_checkpoint_tensorflow import objects, write

    write(path.with_suffix(""), objects("g", tutorial()))
    return path.read_bytes()


FORMATS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "module": (module, ".pth"),
    "legacy": (legacy, ".pth"),
    "plain": (plain, ".pkl"),
    "script": (script, ".pt"),
    "keras": (keras, ".h5"),
    "keras weights": (keras_weights, ".h5"),
    "keras archive": (keras_archive, ".keras"),
    "onnx": (onnx, ".onnx"),
    "torch7": (torch7, ".t7"),
    "tensorflow": (tensorflow, ".index"),
}


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Data cut short, with bits turned, with numbers made huge, or with a piece left out, repeated or moved."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at, kind = draw.randrange(len(out)), draw.randrange(7)
        at = at if draw.random() < 0.5 else draw.randrange(min(len(out), 3000))  # structure lies in front
        length = draw.choice((1, 4, 8, 64))
        if kind == 0:
            out = out[: max(at, 1)]
        elif kind == 1:
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 3:
            out[at : at + length] = b"\xff" * draw.choice((1, 3, 7)) + b"\x7f"
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length]
        else:
            other = draw.randrange(len(out))
            out[at : at + length] = out[other : other + length]
        if not out:
            return b"\0"
    return bytes(out)


def changed(data: bytes, draw: random.Random) -> bytes:
    """A file with bytes changed; of an archive also with those of one of its files, its checksums right again."""
    if data[:2] != b"PK" or draw.random() < 0.3:
        return mutated(data, draw)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as made:
        names = [name for name in archive.namelist() if archive.read(name) and not name.endswith("debug_pkl")]
        likely = [name for name in names if name.endswith((".pkl", ".json", ".h5", ".py"))]
        chosen = draw.choice(likely if draw.random() < 0.8 else names)
        for name in archive.namelist():
            held = archive.read(name)
            made.writestr(name, mutated(held, draw) if name == chosen else held)
    return out.getvalue()


@contextmanager
def bounded(extra: int) -> Iterator[None]:
    """No more memory than what is in use now and `extra` bytes."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def attempt(path: Path, data: bytes) -> bool:
    """Whether a file opens; asserts that otherwise one line says why, soon."""
    path.write_bytes(data)
    start = time.process_time()
    line = ""
    try:
        checkpoints.load(path, prior="normal")
    except ProbeError as error:
        line = str(error)
    assert time.process_time() - start < SECONDS
    assert "\n" not in line
    assert not line or path.name in line
    return not line


def run(name: str, folder: Path, mutations: int, seed: int) -> list[bool]:
    make, suffix = FORMATS[name]
    path = folder / f"a{suffix}"
    data = make(path)
    draw = random.Random(f"{name} {seed}")
    attempt(path, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [attempt(path, changed(data, draw)) for _ in range(mutations)]


@pytest.mark.parametrize("name", FORMATS)
def test_changed_bytes(tmp_path: Path, name: str) -> None:
    with bounded(MEMORY):
        opened = run(name, tmp_path, PROCESSES if "keras" in name else MUTATIONS, 0)
    assert not all(opened)  # some of the changes do damage


@pytest.mark.parametrize("suffix", [".pth", ".h5", ".onnx", ".t7", ".index"])
def test_devices_and_pipes_are_no_files(tmp_path: Path, suffix: str) -> None:
    """A link to a device that never ends, a pipe that nobody writes to: refused before anything is read."""
    link, pipe = tmp_path / f"link{suffix}", tmp_path / f"pipe{suffix}"
    link.symlink_to("/dev/zero")
    os.mkfifo(pipe)
    for path in (link, pipe):
        with pytest.raises(ProbeError, match=rf"{path.name}: is no file \(a device, a pipe or a folder\)"):
            checkpoints.load(path)


def test_pickles_made_to_run_on_for_ever(tmp_path: Path) -> None:
    """Cycles, lists within lists a million deep, doublings, huge indices of the memo: refused or passed over."""
    deep = b"\x80\x04" + b"(" * 200_000 + b"l" * 200_000 + b"."
    doubling = b"\x80\x04]\x94" + b"".join(b"]\x94(h%ch%ce" % (i, i) for i in range(60)) + b"."
    cycle = b"\x80\x04}\x94\x8c\x01a\x94h\x00s."
    memo = b"\x80\x04]r\xff\xff\xff\x7f."
    array = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x."
    text = b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x."
    frame = b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}."
    with bounded(MEMORY):
        for data in (deep, doubling, cycle, memo, array, text, frame):
            assert not attempt(tmp_path / "a.pkl", data)
