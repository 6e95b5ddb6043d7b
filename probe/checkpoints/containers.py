"""Files that hold more than a state dict, and the GAN of the networks that they describe.

    read(path)             the described networks of a file, or else the nested dicts in it (weightfiles)
    gan(found, ...)        a GAN of described networks
    attach(gan, network)   give a GAN a described discriminator

| file | reader |
|---|---|
| Keras .h5, .hdf5, .keras | keras |
| ONNX | onnx_graph |
| TorchScript archive | torchscript |
| Torch7 .t7 | torch7 |
| TensorFlow checkpoint .index, .data-… | tensorflow |
| torch file or pickle with whole modules | inert, modules |
| any other | weightfiles |
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from probe.base.errors import ProbeError
from probe.checkpoints import conversion, identify, inert, modules, weightfiles
from probe.checkpoints import described as networks
from probe.checkpoints.described import Described
from probe.checkpoints.formats import find_networks
from probe.models.dcgan import Discriminator
from probe.models.gan import GAN, NoGenerator, Prior, recalibrate, takes_batch_statistics

MAX_BYTES = 2 * 2**30
_EXTRAS = {"h5py": "keras", "onnx": "onnx", "huggingface_hub": "hf"}


def require(module: str, path: str | Path) -> None:
    """Raise ProbeError, with the command that installs it, where the package of an extra is missing."""
    if find_spec(module) is None:
        command = f"pip install 'dcgan-probe[{_EXTRAS[module]}]'"
        raise ProbeError(f"{path}: needs the package {module}; install it with {command}")


def read(path: Path) -> tuple[list[Described], Any, dict[str, str]]:
    """The networks that a file describes, or else none and what weightfiles.read gives: nested dicts and text metadata.

    Raises ProbeError, one line, where the file cannot be read, is damaged, or describes no DCGAN.
    """
    if path.exists() and not path.is_file():
        raise ProbeError(f"{path}: is no file (a device, a pipe or a folder); expected a checkpoint's file")
    reader = _reader(path)
    if reader is not None:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ProbeError(f"{path}: {size:,} bytes; expected at most {MAX_BYTES:,} for a DCGAN in this format")
        try:
            found: list[Described] = importlib.import_module(f"probe.checkpoints.{reader}").read(path)
        except ProbeError as error:
            raise error if path.name in str(error) else ProbeError(f"{path}: {error}") from None
        return found, None, {}
    tree, metadata = weightfiles.read(path)
    if not modules.is_tree(tree):
        return [], tree, metadata
    try:
        return modules.networks(tree, path.name), None, {}
    except ProbeError as error:
        # the code of a class of one's own is not known; its weights may still tell
        plain = modules.plain_tree(tree)
        try:
            find_networks(plain, path.name)
        except ProbeError:
            raise error from None
        return [], plain, {}


def _reader(path: Path) -> str | None:
    """The reader of a file that is no torch file: by its first bytes, and by its ending where its format has no mark."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return None  # weightfiles says why
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if path.suffix == ".index":
        return "tensorflow"
    if path.suffix in (".pb", ".tflite", ".pdparams") or path.suffix.startswith(".data-0"):
        raise ProbeError(_other_tool(path))
    if head.startswith(b"PK\x03\x04"):
        names = weightfiles.names_in(path)
        if "config.json" in names and "model.weights.h5" in names:
            return "keras"
        return "torchscript" if any("/code/" in name or name.endswith("/constants.pkl") for name in names) else None
    if path.suffix == ".onnx":
        return "onnx_graph"
    return "torch7" if path.suffix == ".t7" else None


def _other_tool(path: Path) -> str:
    """What to do with a file of TensorFlow or Paddle that is no Keras file."""
    if path.suffix in (".tflite", ".pdparams"):
        kind = "TensorFlow Lite" if path.suffix == ".tflite" else "PaddlePaddle"
        return f"{path}: a {kind} file, which is not read; save the model as ONNX or Keras .h5 where it was made"
    if path.suffix == ".pb":
        return (
            f"{path}: a TensorFlow SavedModel; with TensorFlow installed, convert it: "
            f"python -m tf2onnx.convert --saved-model {path.parent} --output generator.onnx"
        )
    return f"{path}: the arrays of a TensorFlow checkpoint; pass {path.stem}.index, which lists them and lies beside it"


def in_folder(folder: Path) -> Path | None:
    """The newest TensorFlow checkpoint in a folder; raises ProbeError for a SavedModel, which is a folder, too."""
    if (folder / "saved_model.pb").is_file():
        raise ProbeError(_other_tool(folder / "saved_model.pb"))
    listed = [path for path in folder.glob("*.index") if any(folder.glob(f"{path.stem}.data-*"))]
    return max(listed, key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)], default=None)


# GANs ----------------------------------------------------------------------------------------------------------------


def gan(found: dict[Path, list[Described]], name: str, prior: Prior | None, label: int | None = None) -> GAN:
    """The GAN of the described networks in some files; `label` is the class that a conditional generator shall draw.

    Raises ProbeError where there is no generator, more than one, or a conditional one without a class.
    """
    every = [item for items in found.values() for item in items]
    best = _only(every, "generator", name)
    if best is None:
        reason = "holds a discriminator only; pass it as `disc`, alone or beside the generator's file as `path`"
        raise ProbeError(f"{name}: {reason}")
    reading = best
    if label is not None:
        best = networks.at_class(best, label)
    generator, size = networks.generator(best)
    prior, source, verdict = _judged(reading, prior)
    channels = generator.blocks[-1].outputs
    made = GAN(generator, None, generator.nz, size, channels, prior, {"generator": "running"})
    made.provenance = {"checkpoint": name, "sha256": "", "format": best.format, "prior_source": source}
    verdict["layers"] = best.layers
    made.provenance["consistency"] = {"generator": verdict}
    if takes_batch_statistics(generator):
        recalibrate(generator, made.nz, made.prior)
        made.batchnorm["generator"] = "recalibrated"
    if label is not None and reading.condition is not None:
        how = {"multiply": "times", "before": "before", "behind": "after"}.get(
            reading.condition.how, "beside the maps of"
        )
        known = "file" if best.format not in ("Keras weights", "PyTorch module") else "assumed"
        verdict["class"] = {"label": label, "classes": reading.classes, "how": how, "from": known}
        made.provenance["class"] = verdict["class"]
        made.by_class = lambda k: networks.generator(networks.at_class(reading, k))[0]
    for key, lines in (("assumed", best.assumed), ("left_over", best.leftover)):
        if lines:
            made.provenance[key] = list(lines)
    conversion.adapt_range(made)
    other = _only(every, "discriminator", name)
    if other is not None:
        attach(made, other)
    used = [path for path, items in found.items() if best.place in (item.place for item in items) or other in items]
    made.provenance["sha256"] = weightfiles.sha256(used)
    if [path.name for path in used] != [name]:
        made.provenance["files"] = [path.name for path in used]
    return made


_LATENTS = {"normal": "N(0, 1)", "uniform": "U(-1, 1)"}


def _judged(best: Described, given: Prior | None) -> tuple[Prior, str, dict[str, Any]]:
    """The prior, where it is known from, and what the statistics in the file say to the network as it was read.

    Uniform latents are taken where they fit far better; normal ones are the usual.
    """
    stored = [op for op in best.ops if op.kind == "norm" and "var" in op.tensors and op.settings["eps"] > 0]
    source = "given" if given else "assumed"
    if not any(op.tensors["mean"].any() for op in stored):
        reason = "its running statistics were never updated" if stored else "it has no BatchNorm with statistics"
        words = {"latents": _LATENTS[given or "normal"], "from": source}
        if given and not best.assumed:
            return given, source, {"verdict": "consistent", "reason": "the file describes it", "prior": words}
        known = {"described": True} if not best.assumed else {}
        return given or "normal", source, {"verdict": "unchecked", "reason": reason, "prior": words} | known
    kinds: list[Prior] = [given] if given else ["normal", "uniform"]
    n = min(1024, max(256, 3 * best.nz, 512 if best.classes else 0))
    found = {kind: networks.distances(best, kind, n) for kind in kinds}
    scores = {kind: identify.score(some) for kind, some in found.items()}
    prior = min(kinds, key=lambda kind: scores[kind] * (1 if kind == kinds[0] else 2))
    if not given and 2 * scores[prior] < max(scores.values()):
        source = "statistics"
    verdict = conversion.said("consistent", scores[prior], found[prior])
    if not scores[prior] <= conversion.LIKELY:
        verdict |= _contradicted(found[prior], networks.distances(best, prior, n, batch=True))
    elif prior != kinds[0]:
        verdict |= {"verdict": "identified", "before": round(scores[kinds[0]], 4)}
        verdict["changed"] = ["latents from U(-1, 1), not N(0, 1)"]
    return prior, source, verdict | {"prior": {"latents": _LATENTS[prior], "from": source}}


def _contradicted(found: list[identify.Distance], by_batch: list[identify.Distance]) -> dict[str, Any]:
    """What is said of a network whose statistics are far from what its layers get, though the file describes them.

    Statistics that fit where each batch normalises itself have drifted.
    """
    worst = max(found, key=lambda one: one.total).layer
    said: dict[str, Any] = {
        "verdict": "inconsistent",
        "worst": worst,
        "tried": "the layers as the file says, both priors",
    }
    if len(by_batch) > 2 and sum(one.total < conversion.DRIFTED for one in by_batch) > len(by_batch) / 2:
        said |= {"drifted": True, "by_batch": identify.score(by_batch)}
    return said


def _only(every: Sequence[Described], role: str, name: str) -> Described | None:
    """The one network of a role; the same weights in two places count once."""
    candidates = [item for item in every if item.role == role]
    distinct: list[Described] = []
    for item in candidates:
        if not any(_same(item, other) for other in distinct):
            distinct.append(item)
    if len(distinct) > 1:
        places = ", ".join(item.place for item in distinct)
        raise ProbeError(f"{name}: {len(distinct)} {role}s ({places}); expected one: pass the file of the one you want")
    return distinct[0] if distinct else None


def _same(one: Described, other: Described) -> bool:
    a, b = ([tensor for op in item.ops for tensor in op.tensors.values()] for item in (one, other))
    return len(a) == len(b) and all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def attach(made: GAN, network: Described) -> None:
    """Give a GAN a described discriminator; raises ProbeError where it takes images of another size or other channels."""
    # a generator whose images end in a sigmoid was trained beside a discriminator of images in [0, 1]
    unit = any(block.unit_range for block in getattr(made.generator, "blocks", ()))
    discriminator, size = networks.discriminator(network, made.size, unit)
    channels = discriminator.blocks[0].inputs
    if (channels, size) != (made.channels, made.size):
        takes = (
            f"takes images of {channels} channels and {size} px, the generator makes {made.channels} and {made.size}"
        )
        raise ProbeError(f"{network.place}: {takes}; pass the discriminator that was trained with it")
    if unit:
        made.provenance.setdefault("assumed", []).append(
            "the discriminator takes images in [0, 1], as its generator makes them"
        )
    made.provenance.setdefault("consistency", {})["discriminator"] = _seen(made, network, discriminator)
    made.discriminator = discriminator
    made.batchnorm["discriminator"] = "batch" if takes_batch_statistics(discriminator) else "running"


def _seen(made: GAN, network: Described, discriminator: Discriminator) -> dict[str, Any]:
    """What the statistics of a described discriminator say to samples of its generator."""
    bare = isinstance(made.generator, NoGenerator)
    found = [] if bare else identify.measured([(discriminator, made.sample(128, seed=1))])
    if bare:
        return {"verdict": "unchecked", "reason": "there are no images to run through it", "layers": network.layers}
    if not found:
        known = "its file does not say all of it" if network.assumed else "it has no BatchNorm with statistics"
        return {"verdict": "unchecked", "reason": known, "layers": network.layers, "described": not network.assumed}
    verdict = conversion.said("consistent", identify.score(found), found)
    if not verdict["score"] <= conversion.LENIENT:
        verdict |= {"verdict": "inconsistent", "tried": "the layers as the file says"}
        verdict["worst"] = max(found, key=lambda one: one.total).layer
    return verdict | {"layers": network.layers}


def discriminator_in(every: Sequence[Described], name: str) -> Described:
    """The discriminator among described networks; raises ProbeError where there is none."""
    other = _only(every, "discriminator", name)
    if other is None:
        raise ProbeError(f"{name}: holds a generator; `disc` takes the discriminator's file")
    return other


__all__ = ["attach", "discriminator_in", "gan", "inert", "read", "require"]
