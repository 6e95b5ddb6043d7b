"""Files that are damaged, hostile or no DCGAN against their error line; none of them runs code."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probe import checkpoints
from tests.originals import NZ, main_d, main_g, refused, tiny, up


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def torch_file(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(make(), path)


def changed(module: nn.Module, **entries: Any) -> dict[str, Tensor]:
    return {key: entries.get(key.replace(".", "_"), value) for key, value in module.state_dict().items()}


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(2**24))


def archive(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, b"x")

    return write


def cut(make: Callable[[], Any], keep: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch_file(make)(path)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])

    return write


def cut_safetensors(path: Path) -> None:
    checkpoints.native.save(tiny(), path)
    path.write_bytes(path.read_bytes()[:-100])


def resnet() -> dict[str, Tensor]:
    shapes = {
        "conv1": (8, 3, 7, 7),
        "layer1.0.conv1": (8, 8, 3, 3),
        "layer1.0.downsample.0": (16, 8, 1, 1),
        "fc": (10, 16),
    }
    return {f"{name}.weight": torch.ones(shape) for name, shape in shapes.items()}


def stylegan() -> dict[str, Any]:
    entries = {
        "style.1.weight": (8, 8),
        "style.1.bias": (8,),
        "conv1.conv.weight": (1, 8, 8, 3, 3),
        "noise.weight": (1,),
    }
    return {"g_ema": {name: torch.ones(shape) for name, shape in entries.items()}}


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), r"the file is empty \(0 bytes\)"),
    "png": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64)), r"not a checkpoint \(starts with b'\\x89PNG"),
    "text": (lambda p: p.write_text("<!DOCTYPE html>"), r"not a checkpoint \(starts with b'<!DOCTYP"),
    "plain pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), r"no weights in it \(found a\)"),
    "safetensors header": (lambda p: p.write_bytes(struct.pack("<Q", 2**40) + b"{}"), r"damaged safetensors file"),
    "cut safetensors": (cut_safetensors, r"truncated or damaged safetensors file"),
    "cut zip": (cut(lambda: main_g().state_dict(), 0.6), r"truncated or damaged zip archive"),
    "bomb": (bomb, r"would unpack to 16,777,220: a zip bomb"),
    "torchscript": (
        archive("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py"),
        r"truncated or damaged pickle",
    ),
    "other zip": (archive("word/document.xml"), r"a zip archive without torch's data.pkl"),
    "bad zip": (archive("a/data.pkl"), r"truncated or damaged torch file"),
    "runs code": (
        torch_file(lambda: {"netG": main_g().state_dict(), "x": Runs()}),
        r"holds (posix|nt).system, made to run code where it is opened; refused, and nothing ran",
    ),
    "stride 0": (
        torch_file(lambda: {"main.0.weight": torch.zeros(1).expand(2**20, 2**20)}),
        r"shape \(1048576, 1048576\) has too little data",
    ),
    "sparse": (torch_file(lambda: {"a.weight": torch.eye(3).to_sparse()}), r"sparse or quantized"),
    "nan": (
        torch_file(lambda: changed(main_g(), main_3_weight=torch.full((32, 16, 4, 4), torch.nan))),
        r"layer main.3 holds NaN or infinite weights",
    ),
    "infinite": (
        torch_file(lambda: changed(main_g(), main_1_running_var=torch.full((32,), torch.inf))),
        r"layer main.0 holds NaN or infinite weights",
    ),
    "negative variance": (
        torch_file(lambda: changed(main_g(), main_1_running_var=torch.full((32,), -1.0))),
        r"its generator computes nan from finite weights; expected numbers: a variance is negative",
    ),
    "huge": (
        torch_file(
            lambda: {"G": main_g().state_dict(), "D": changed(main_d(), main_0_weight=torch.full((8, 3, 4, 4), 3e38))}
        ),
        r"its discriminator computes (nan|-?inf) from finite weights",
    ),
    "resnet": (
        torch_file(resnet),
        r"layer fc gives 10 numbers for an image, not one; expected a DCGAN .* `model` pkg.module:factory",
    ),
    "stylegan": (torch_file(stylegan), r"a.pt/g_ema: conv1.conv \(weight \(1, 8, 8, 3, 3\)\) is neither"),
    "vit": (
        torch_file(lambda: {"cls.pos.weight": torch.ones(2, 2)}),
        r"1 layers, of which a (generator|discriminator)",
    ),
    "no weights": (torch_file(lambda: {"epoch": 3, "losses": [1.0]}), r"no weights in it \(found epoch, losses\)"),
    "list": (torch_file(lambda: [1, 2]), r"no weights in it \(found a list\)"),
    "broken chain": (
        torch_file(lambda: changed(main_g(size=64), main_6_weight=torch.ones(12, 8, 4, 4))),
        r"layer main.6 \(12, 8, 4, 4\) does not take the 32 outputs of the layer before",
    ),
    "8 px": (
        torch_file(lambda: up((NZ, 8, 2, 1), (8, 4, 2, 2), (4, 3, 2, 2)).state_dict()),
        r"kernels 2, 2, 2 lead to an image of 8 px",
    ),
    "two channels": (
        torch_file(lambda: up((NZ, 8, 4, 1), (8, 4, 4, 2, 1), (4, 2, 4, 2, 1)).state_dict()),
        r"gives 2 maps, not an image of 1, 3 or 4 channels",
    ),
    "discriminator": (torch_file(lambda: main_d().state_dict()), r"holds a discriminator only; .* `disc`"),
    "two generators": (
        torch_file(lambda: {"G_A": main_g().state_dict(), "G_B": main_g().state_dict()}),
        r"2 generators \(a.pt/G_A, a.pt/G_B\); expected one",
    ),
    "sizes": (
        torch_file(lambda: {"G": main_g(size=64).state_dict(), "D": main_d(size=16).state_dict()}),
        r"a.pt/D: no usual strides take this discriminator from the generator's \d+ px",
    ),
    "channels": (
        torch_file(lambda: {"G": main_g().state_dict(), "D": main_d(channels=1).state_dict()}),
        r"a.pt/D: takes images of 1 channels, the generator makes 3",
    ),
    "bias": (
        torch_file(lambda: changed(main_g(bias=True), main_3_bias=torch.ones(3))),
        r"a.pt.*weights do not fit the network \(.*layer2.conv.bias",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_with_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = HOSTILE[name]
    write(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", message)
    assert not (tmp_path / "ran").exists()
