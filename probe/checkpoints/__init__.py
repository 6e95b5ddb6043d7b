"""Opening and saving checkpoints.

    load(path, ...)     a GAN from probe's own file, any DCGAN checkpoint, a folder, a built-in name or a factory
    save(gan, path)     probe's own format, or for .pth and .pt a state dict as pytorch/examples would have saved it
    describe(gan)       what was recognised, as `probe inspect` prints it

A file is read without running code (weightfiles), its networks are found and recognised by a table (formats) and
read as chains of layers (chains), which become probe's own modules (conversion).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from probe.base.errors import ProbeError
from probe.checkpoints import containers, conversion, factories, hub, native, weightfiles
from probe.checkpoints.described import Described
from probe.checkpoints.export import save
from probe.checkpoints.formats import Found, find_networks, named_role, theano_state
from probe.models.gan import GAN, Prior, recalibrate, takes_batch_statistics, use_batch_statistics

__all__ = ["BUILTIN", "describe", "load", "save"]

BUILTIN = {"rooms": "rooms.safetensors"}
SUFFIXES = (
    *(".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".model", ".pkl", ".pickle"),
    *(".h5", ".hdf5", ".keras", ".onnx", ".t7"),
)
_THEANO = re.compile(r"(\d+)_(gen|discrim)_params\.jl_(\d+)\.npy")


def load(
    path: str | Path | None,
    *,
    disc: str | Path | None = None,
    model: str | None = None,
    prior: Prior | None = None,
    label: int | None = None,
    device: str = "cpu",
) -> GAN:
    """Open a checkpoint; both networks are float32 and in eval mode.

    Args:
        path: a file with the generator or both networks, a folder of such files, hf:owner/name[@revision][/file] on the
            Hugging Face Hub, or a built-in name; None with `model`.
        disc: the discriminator's file, where it is not in `path`.
        model: `pkg.module:factory`, which returns an nn.Module that takes the latent alone; `path` is loaded into it.
        prior: overrides the prior that is stored or assumed.
        label: the class, from 0 on, that a conditional generator shall draw.
        device: where the networks go.

    Raises:
        ProbeError: with one line, for anything that is not a DCGAN.
    """
    if prior not in (None, *get_args(Prior)):
        raise ProbeError(f"prior {prior!r}: expected one of {', '.join(get_args(Prior))}")
    place = None if path is None else _resolve(path)
    if model is not None:
        gan = _from_factory(model, place, prior)
    elif place is None:
        raise ProbeError(f"no checkpoint: pass a file, a folder or a built-in name ({', '.join(BUILTIN)})")
    else:
        gan = _from_folder(place, prior, label) if place.is_dir() else _from_file(place, prior, label)
    if label is not None and "class" not in gan.provenance:
        raise ProbeError(f"{path or model}: class {label} of a generator without classes; leave --class out")
    if disc is not None:
        _add_discriminator(gan, hub.fetch(str(disc), SUFFIXES) if str(disc).startswith(hub.PREFIX) else Path(disc))
    if str(path).startswith(hub.PREFIX):
        gan.provenance["source"] = str(path)
    _require_finite(gan)
    try:
        return gan.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ProbeError(f"device {device!r}: {str(error).splitlines()[0]}; try cpu") from None


def _require_finite(gan: GAN) -> None:
    """Refuse networks that compute no numbers, though their weights are some: huge ones, or with negative variances."""
    images = gan.sample(4)
    with torch.no_grad():
        logits = images if gan.discriminator is None else gan.discriminator(images)
    for role, key, made in (("generator", "checkpoint", images), ("discriminator", "disc", logits)):
        if not made.isfinite().all():
            name = gan.provenance.get(key) or gan.provenance["checkpoint"]
            found = f"its {role} computes {made[~made.isfinite()][0].item()} from finite weights"
            raise ProbeError(
                f"{name}: {found}; expected numbers: a variance is negative or weights are huge, save it again"
            )


def _resolve(path: str | Path) -> Path:
    """A checkpoint's path, or that of a built-in one."""
    if str(path).startswith(hub.PREFIX):
        return hub.fetch(str(path), SUFFIXES)
    if path in BUILTIN:
        builtin = Path(__file__).parents[1] / "weights" / BUILTIN[str(path)]
        if not builtin.is_file():
            raise ProbeError(f"{path}: the built-in checkpoint is missing from the package; install dcgan-probe again")
        return builtin
    if not Path(path).exists():
        raise ProbeError(f"{path}: no such file or folder, and not a built-in checkpoint ({', '.join(BUILTIN)})")
    return Path(path)


def _from_file(path: Path, prior: Prior | None, label: int | None = None) -> GAN:
    described, tree, metadata = containers.read(path)
    if described:
        return containers.gan({path: described}, path.name, prior, label)
    if "probe" in metadata:
        return native.rebuild(path, tree, metadata["probe"], prior)
    _refuse_state(path, metadata)
    return _from_found({path: find_networks(tree, path.name)}, path.name, prior)


def _refuse_state(path: Path, metadata: dict[str, str]) -> None:
    if {"settings", "step"} <= set(metadata):
        raise ProbeError(f"{path.name}: the state of a training run; pass the checkpoint that the run wrote beside it")


def _from_found(found: dict[Path, list[Found]], name: str, prior: Prior | None) -> GAN:
    """The GAN of the networks found in some files."""
    networks = [item for items in found.values() for item in items]
    best = _choose(networks, "generator")
    if best is None:
        reason = "holds a discriminator only; pass the generator's file as --ckpt and this one as --disc"
        raise ProbeError(f"{name}: {reason}")
    other = _choose(networks, "discriminator", like=best)
    gan = _from_networks(best, other, prior)
    used = [path for path, items in found.items() if best in items or other in items]
    gan.provenance |= {"checkpoint": name, "sha256": weightfiles.sha256(used)}
    if [path.name for path in used] != [name]:
        gan.provenance["files"] = [path.name for path in used]
    return gan


def _choose(networks: Sequence[Found], role: str, like: Found | None = None) -> Found | None:
    """The network of a role: moving averages before raw weights, then the best before the current one."""
    candidates = [item for item in networks if item.network.role == role]
    if not candidates:
        return None
    wanted = "best" in like.words if like else True

    def rank(item: Found) -> tuple[bool, bool]:
        return item.averaged, ("best" in item.words) == wanted

    top = max(rank(item) for item in candidates)
    best = [item for item in candidates if rank(item) == top]
    if len(best) > 1:
        places = ", ".join(item.network.place for item in best)
        raise ProbeError(f"{len(best)} {role}s ({places}); expected one: pass the file of the one you want")
    return best[0]


def _from_networks(best: Found, other: Found | None, prior: Prior | None) -> GAN:
    """A GAN of recognised networks, with the BatchNorm policy that their format calls for."""
    generator = conversion.generator(best.network)
    size, channels = best.network.size, generator.blocks[-1].outputs
    source = "given" if prior else "format" if best.format.prior else "assumed"
    prior = prior or best.format.prior or "normal"
    gan = GAN(generator, None, generator.nz, size, channels, prior, {"generator": "running"})
    gan.provenance = {"checkpoint": "", "sha256": "", "format": best.format.name, "prior_source": source}
    if not best.network.conventions.statistics:
        recalibrate(generator, gan.nz, prior)
        gan.batchnorm["generator"] = "recalibrated"
    if best.averaged:
        gan.provenance["weights"] = f"moving average, {best.network.place}"
    means = [tensor for key, tensor in generator.state_dict().items() if key.endswith("running_mean")]
    if means and not any(mean.any() for mean in means):
        gan.provenance["batchnorm_note"] = "the generator's running statistics were never updated; recalibrate them"
    if other is not None:
        _attach(gan, other)
    return gan


def _attach(gan: GAN, other: Found) -> None:
    """Give a GAN its discriminator."""
    discriminator = conversion.discriminator(other.network, gan.size)
    channels = discriminator.blocks[0].inputs
    if channels != gan.channels:
        reason = f"takes images of {channels} channels, the generator makes {gan.channels}"
        raise ProbeError(f"{other.network.place}: {reason}; pass the discriminator that was trained with it")
    gan.discriminator, gan.batchnorm["discriminator"] = discriminator, "running"
    if not other.network.conventions.statistics:
        use_batch_statistics(discriminator)
        gan.batchnorm["discriminator"] = "batch"


def _add_discriminator(gan: GAN, path: Path) -> None:
    """Take the discriminator from a file (or a folder of the paper's arrays) of its own."""
    if not path.exists():
        raise ProbeError(f"{path}: no such file; --disc takes the discriminator's file")
    described, tree, metadata = ([], _theano(path)[0], {}) if path.is_dir() else containers.read(path)
    if described:
        containers.attach(gan, containers.discriminator_in(described, path.name))
    elif "probe" in metadata:
        own = native.rebuild(path, tree, metadata["probe"], None)
        if own.discriminator is None or (own.size, own.channels) != (gan.size, gan.channels):
            raise ProbeError(f"{path.name}: no discriminator for {gan.size} px images of {gan.channels} channels in it")
        gan.discriminator, gan.batchnorm["discriminator"] = own.discriminator, own.batchnorm["discriminator"]
    else:
        other = _choose(find_networks(tree, path.name), "discriminator")
        if other is None:
            raise ProbeError(f"{path.name}: holds a generator; --disc takes the discriminator's file")
        _attach(gan, other)
    gan.provenance |= {
        "disc": path.name,
        "disc_sha256": weightfiles.sha256(_theano(path)[1] if path.is_dir() else [path]),
    }


# Folders -------------------------------------------------------------------------------------------------------------


def _from_folder(folder: Path, prior: Prior | None, label: int | None = None) -> GAN:
    """The GAN in a folder: the paper's arrays, probe's own file, or a generator's and a discriminator's file."""
    if any(_THEANO.fullmatch(path.name) for path in folder.iterdir()):
        return _from_theano(folder, prior)
    newest: dict[str, Path] = {}
    last = False
    for path in sorted(folder.iterdir(), key=lambda path: _numbers(path.name)):
        if path.suffix in SUFFIXES and path.is_file():
            name = re.sub(r"\d+", "#", path.name)
            last = last or name in newest
            newest[name] = path
    own: list[Path] = []
    found: dict[Path, list[Found]] = {}
    full: dict[Path, list[Described]] = {}
    failures: list[ProbeError] = []
    for path in newest.values():
        try:
            described, tree, metadata = containers.read(path)
            if described:
                full[path] = described
            elif "probe" in metadata:
                own.append(path)
            else:
                _refuse_state(path, metadata)
                found[path] = find_networks(tree, path.name)
        except ProbeError as error:
            if named_role(path.stem):
                raise
            failures.append(error)
    if len(own) > 1:
        raise ProbeError(f"{folder}: {len(own)} checkpoints ({', '.join(path.name for path in own)}); pass one of them")
    if not own and not found and not full and (newest_checkpoint := containers.in_folder(folder)):
        full, last = {newest_checkpoint: containers.read(newest_checkpoint)[0]}, True
    drawn = any(item.network.role == "generator" for items in found.values() for item in items)
    if full and not own and not drawn:
        gan = containers.gan(full, folder.resolve().name, prior, label)
        other = _choose([item for items in found.values() for item in items], "discriminator")
        if gan.discriminator is None and other is not None:
            _attach(gan, other)
        gan.provenance |= {"chosen": "the highest number of each file name"} if last else {}
        return gan
    if own or found:
        gan = _from_file(own[0], prior) if own else _from_found(found, folder.resolve().name, prior)
        gan.provenance |= {"chosen": "the highest number of each file name"} if last else {}
        return gan
    if failures:
        raise failures[0]
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise ProbeError(
        f"{folder}: no checkpoint in this folder (found {names}); expected {', '.join(SUFFIXES)} or .npy arrays"
    )


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _theano(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """The last epoch of the paper's arrays as two state dicts, and the files read."""
    epochs: dict[int, dict[str, dict[int, Path]]] = {}
    for path in folder.iterdir():
        if match := _THEANO.fullmatch(path.name):
            epochs.setdefault(int(match[1]), {}).setdefault(match[2], {})[int(match[3])] = path
    tree, used = {}, []
    for network, arrays in sorted(epochs[max(epochs)].items(), reverse=True) if epochs else []:
        missing = set(range(1, max(arrays) + 1)) - set(arrays)
        if missing:
            raise ProbeError(f"{folder}: array {min(missing)} of {network}_params is missing; fetch the folder again")
        paths = [arrays[number] for number in sorted(arrays)]
        tree[network] = theano_state(weightfiles.read_arrays(paths))
        used += paths
    return tree, used


def _from_theano(folder: Path, prior: Prior | None) -> GAN:
    tree, used = _theano(folder)
    networks = find_networks(tree, folder.name)
    best = _choose(networks, "generator")
    if best is None:
        raise ProbeError(
            f"{folder}: discriminator arrays only; expected NNN_gen_params.jl_01.npy and so on beside them"
        )
    gan = _from_networks(best, _choose(networks, "discriminator"), prior)
    gan.provenance |= {"checkpoint": folder.resolve().name, "sha256": weightfiles.sha256(used)}
    gan.provenance["chosen"] = f"epoch {_numbers(used[0].name)[0]}"
    return gan


def _from_factory(spec: str, path: Path | None, prior: Prior | None) -> GAN:
    """A user's own generator, with a checkpoint's weights where one is given."""
    tree = None if path is None else weightfiles.read(path)[0]
    source = "given" if prior else "assumed"
    prior = prior or "normal"
    generator, nz, images = factories.build(spec, tree, prior)
    statistics = "batch" if takes_batch_statistics(generator) else "running"
    gan = GAN(generator, None, nz, images[-1], images[1], prior, {"generator": statistics})
    digest = "" if path is None else weightfiles.sha256([path])
    gan.provenance = {"checkpoint": spec if path is None else path.name, "sha256": digest}
    gan.provenance |= {"format": f"model {spec}", "prior_source": source}
    return gan


def describe(gan: GAN) -> dict[str, Any]:
    """What was recognised: format, both networks' shapes, prior, BatchNorm policy, numbers of parameters, edits if any."""
    networks = {"generator": gan.generator} | ({"discriminator": gan.discriminator} if gan.discriminator else {})
    shapes: dict[str, dict[str, Any] | None] = {"discriminator": None}
    for role, network in networks.items():
        blocks = getattr(network, "blocks", ())
        strided = [block.kernel for block in blocks if block.kind != "linear" and block.stride > 1]
        shapes[role] = {
            **({"nz": gan.nz} if role == "generator" else {}),
            "widths": [block.outputs for block in blocks[:-1]],
            "image_size": gan.size,
            "channels": gan.channels,
            "kernel": strided[0] if strided else None,
        }
    counts = {role: sum(p.numel() for p in network.parameters()) for role, network in networks.items()}
    return {
        "format": gan.provenance.get("format"),
        "generator": shapes["generator"],
        "discriminator": shapes["discriminator"],
        "prior": gan.prior,
        "batchnorm": gan.batchnorm,
        "parameters": counts,
        **({"edits": "; ".join(gan.provenance["edits"])} if "edits" in gan.provenance else {}),
    }
