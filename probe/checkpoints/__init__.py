"""Opening and saving checkpoints.

    load(path, ...)     a GAN from probe's own file, any DCGAN checkpoint, a folder, a built-in name or a factory
    save(gan, path)     probe's own format, or for .pth and .pt a state dict as pytorch/examples would have saved it
    describe(gan)       what was recognised, as `probe inspect` prints it
    evidence(gan)       layer by layer, what it was read as and from where that is known
    warnings(gan)       one line for each network that was not read as its own statistics confirm

A file is read without running code (weightfiles), its networks are found and recognised by a table (formats) and
read as chains of layers (chains) with usual strides (geometry). What shapes do not tell is told by the statistics that
each BatchNorm stored (identify); the chains become probe's own modules (conversion).
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import require_gan
from probe.checkpoints import containers, conversion, factories, hub, identify, native, weightfiles
from probe.checkpoints import described as networks
from probe.checkpoints.chains import Network
from probe.checkpoints.described import Described
from probe.checkpoints.export import save
from probe.checkpoints.formats import Found, find_networks, named_role, theano_state
from probe.checkpoints.geometry import discriminator_routes, generator_routes
from probe.models.dcgan import Generator
from probe.models.gan import GAN, NoGenerator, Prior, recalibrate, takes_batch_statistics, use_batch_statistics

__all__ = ["BUILTIN", "Statistics", "describe", "evidence", "load", "save", "warnings"]

BUILTIN = {"rooms": "rooms.safetensors", "rooms@2": "rooms-2.safetensors"}
SUFFIXES = (
    *(".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".model", ".pkl", ".pickle"),
    *(".h5", ".hdf5", ".keras", ".onnx", ".t7"),
)
_OWN_WORD = "probe's own file says how it is read"
_SIDES = (64, 32, 28, 128, 96, 48, 16, 256)  # of images that a discriminator alone may take, the likeliest first
_THEANO = re.compile(r"(\d+)_(gen|discrim)_params\.jl_(\d+)\.npy")


Statistics = Literal["running", "batch", "recalibrated"]
"""Where a generator's BatchNorms take mean and variance from: the file, the batch at hand, 2048 latents of the prior."""


@dataclass(frozen=True)
class _Wish:
    """What the caller of `load` asks for besides a path."""

    prior: Prior | None = None
    label: int | None = None
    other: Found | None = None  # the discriminator of a file of its own


def load(
    path: str | Path | nn.Module | Mapping[str, Any] | None,
    *,
    disc: str | Path | nn.Module | Mapping[str, Any] | None = None,
    model: str | None = None,
    disc_model: str | None = None,
    prior: Prior | None = None,
    device: str = "cpu",
    strict: bool = False,
    batchnorm: Statistics | None = None,
    label: int | None = None,
) -> GAN:
    """Open a checkpoint; both networks are float32 and in eval mode.

    What no shape tells (activations, slopes, the order of norm and activation, the prior) is checked against the statistics
    that the network's BatchNorms stored, and read as they ask; `provenance["consistency"]` says for each network what was
    found, `warnings` in a line.

    Args:
        path: a file with the generator or both networks, a folder of such files, hf:owner/name[@revision][/file] on the
            Hugging Face Hub, or a built-in name; None with `model`, or for a discriminator alone. From Python also a
            state dict, read like its file, or a live nn.Module that takes the latent alone: a copy of it is taken.
        disc: the discriminator's file, state dict or module, where it is not in `path`. Without `path` and `model` it is opened alone, which is
            enough for what is asked of a discriminator.
        model: `pkg.module:factory`, which returns an nn.Module that takes the latent alone; `path` is loaded into it.
        disc_model: likewise for the discriminator: a module that gives a number an image; `disc` is loaded into it.
        prior: overrides the prior that is stored, identified or assumed.
        device: where the networks go.
        strict: refuse a checkpoint whose statistics contradict every reading that was tried.
        batchnorm: where the generator's BatchNorms take their statistics from; None takes what the file stores.
        label: the class, from 0 on, that a conditional generator draws.

    Raises:
        ProbeError: with one line, for anything that is not a DCGAN.
    """
    if prior not in (None, *get_args(Prior)):
        raise ProbeError(f"prior {prior!r}: expected one of {', '.join(get_args(Prior))}")
    if batchnorm not in (None, *get_args(Statistics)):
        raise ProbeError(f"batchnorm {batchnorm!r}: expected one of {', '.join(get_args(Statistics))}")
    how: dict[str, Any] = {"model": model, "disc_model": disc_model, "prior": prior, "device": device, "strict": strict}
    how |= {"batchnorm": batchnorm, "label": label}
    if isinstance(path, Mapping) or isinstance(disc, Mapping):
        return _of_states(path, disc, **how)
    if isinstance(path, nn.Module) or isinstance(disc, nn.Module):
        return _of_modules(path, disc, **how)
    for name, value in (("path", path), ("disc", disc)):
        if value is not None:
            path_of(value, name)
    path, disc = (os.fsdecode(value) if isinstance(value, bytes) else value for value in (path, disc))
    place = None if path is None else _resolve(path)
    wish, other = _Wish(prior, label), None
    if model is not None:
        gan = _from_factory(model, place, prior)
    elif place is None and (disc is not None or disc_model is not None):
        gan = _alone(disc, disc_model)
    elif place is None:
        raise ProbeError(f"no checkpoint: pass a file, a folder or a built-in name ({', '.join(BUILTIN)})")
    else:
        other = None if disc is None or disc_model else _found_discriminator(_resolve(disc, "--disc"))
        wish = _Wish(prior, label, other if isinstance(other, Found) else None)
        gan = _from_folder(place, wish) if place.is_dir() else _from_file(place, wish)
    if label is not None and "class" not in gan.provenance:
        raise ProbeError(f"{path or model}: class {label} of a generator without classes; leave `label` out")
    if disc_model is not None:
        _add_from_factory(gan, disc_model, disc, [(gan.channels, gan.size)])
    elif disc is not None:
        _add_discriminator(gan, _resolve(disc, "--disc"), other)
    if str(path).startswith(hub.PREFIX):
        gan.provenance["source"] = str(path)
    if batchnorm is not None:
        _take_statistics(gan, batchnorm)
    _require_finite(gan)
    bad = [role for role, found in gan.provenance.get("consistency", {}).items() if found["verdict"] == "inconsistent"]
    if strict and bad:
        raise ProbeError(
            f"{gan.provenance['checkpoint']}: {warnings(gan)[0]}; refused, as strict reading was asked for"
        )
    try:
        return gan.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ProbeError(f"device {device!r}: {str(error).splitlines()[0]}; try cpu") from None


def _of_states(
    path: str | Path | nn.Module | Mapping[str, Any] | None,
    disc: str | Path | nn.Module | Mapping[str, Any] | None,
    **how: Any,
) -> GAN:
    """The GAN of state dicts, read as the files that they are saved to."""
    with tempfile.TemporaryDirectory(prefix="probe-", ignore_cleanup_errors=True) as folder:
        given: dict[str, Any] = {"path": path, "disc": disc}
        for name, value in given.items():
            if isinstance(value, Mapping):
                given[name] = Path(folder, "state_dict.pt" if name == "path" else "disc_state_dict.pt")
                torch.save(dict(value), given[name])
        return load(given["path"], disc=given["disc"], **how)


def _of_modules(
    path: str | Path | nn.Module | None, disc: str | Path | nn.Module | None, *, device: str, **how: Any
) -> GAN:
    """The GAN of live modules, of which copies are taken, as those of a factory are."""
    if how["model"] is not None or how["disc_model"] is not None:
        raise ProbeError("a module and `model` or `disc_model` both given; expected one of them: leave the other out")
    if isinstance(path, nn.Module):
        if how["label"] is not None:
            raise ProbeError(f"class {how['label']} of a module; pass one that takes the latent alone, without `label`")
        gan = _of_generator(copy.deepcopy(path).cpu(), type(path).__name__, _state_digest(path), how["prior"])
        if how["batchnorm"] is not None:
            _take_statistics(gan, how["batchnorm"])
        shapes = [(gan.channels, gan.size)]
    elif path is None:
        gan, shapes = GAN(NoGenerator(), None, 1, 64, 3, "uniform"), [(c, size) for size in _SIDES for c in (3, 1)]
    else:
        gan = load(path, **how)
        shapes = [(gan.channels, gan.size)]
    if isinstance(disc, nn.Module):
        module, name, digest = copy.deepcopy(disc).cpu(), type(disc).__name__, _state_digest(disc)
        gan.discriminator, gan.channels, gan.size = factories.judging(module, f"`disc` {name}", shapes)
        gan.batchnorm["discriminator"] = "batch" if takes_batch_statistics(gan.discriminator) else "running"
        gan.provenance |= {"disc": name, "disc_sha256": digest}
        for key, value in (("checkpoint", name), ("sha256", digest), ("format", "a live module")):
            gan.provenance.setdefault(key, value)
    elif disc is not None:
        _add_discriminator(gan, _resolve(disc, "--disc"), None)
    _require_finite(gan)
    return gan.to(device)


def _state_digest(module: nn.Module) -> str:
    """A digest of a module's weights and buffers, by which results and labels know it again."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _take_statistics(gan: GAN, source: Statistics) -> None:
    """Make the generator's BatchNorms take their statistics from where the caller asks for."""
    stored = gan.batchnorm.get("generator", "running")
    if source == "running" and stored != "running":
        raise ProbeError(f"{gan.provenance['checkpoint']}: stores no running statistics; take batch or recalibrated")
    if source == "batch":
        use_batch_statistics(gan.generator)
    elif source == "recalibrated":
        recalibrate(gan.generator, gan.nz, gan.prior)
    gan.batchnorm["generator"] = source


def _require_finite(gan: GAN) -> None:
    """Refuse networks that compute no numbers, though their weights are some: huge ones, or with negative variances."""
    images = torch.zeros(4, gan.channels, gan.size, gan.size) if _bare(gan) else gan.sample(4)
    with torch.no_grad():
        logits = images if gan.discriminator is None else gan.discriminator(images)
    for role, key, made in (("generator", "checkpoint", images), ("discriminator", "disc", logits)):
        if not made.isfinite().all():
            name = gan.provenance.get(key) or gan.provenance["checkpoint"]
            found = f"its {role} computes {made[~made.isfinite()][0].item()} from finite weights"
            raise ProbeError(
                f"{name}: {found}; expected numbers: a variance is negative or weights are huge, save it again"
            )


def _resolve(path: str | Path, option: str = "--ckpt") -> Path:
    """A checkpoint's path, that of a built-in one, or of what was fetched from the Hub."""
    if str(path).startswith(hub.PREFIX):
        return hub.fetch(str(path), SUFFIXES)
    if option == "--disc":
        return Path(path)
    if path in BUILTIN:
        builtin = Path(__file__).parents[1] / "weights" / BUILTIN[str(path)]
        if not builtin.is_file():
            raise ProbeError(f"{path}: the built-in checkpoint is missing from the package; install dcgan-probe again")
        return builtin
    if not Path(path).exists():
        raise ProbeError(f"{path}: no such file or folder, and not a built-in checkpoint ({', '.join(BUILTIN)})")
    return Path(path)


def _from_file(path: Path, wish: _Wish) -> GAN:
    described, tree, metadata = containers.read(path)
    if described:
        return containers.gan({path: described}, path.name, wish.prior, wish.label)
    if "probe" in metadata:
        gan = native.rebuild(path, tree, metadata["probe"], wish.prior)
        _own_word(gan, {"generator": gan.generator, "discriminator": gan.discriminator})
        return gan
    _refuse_state(path, metadata)
    return _from_found({path: find_networks(tree, path.name)}, path.name, wish)


def _own_word(gan: GAN, networks: dict[str, Any]) -> None:
    """Probe's own files say all of how a network is to be read; a verdict from before they were converted stays."""
    stored = gan.provenance.get("consistency")
    verdicts = dict(stored) if isinstance(stored, dict) else {}
    for role, network in networks.items():
        if network is not None and not isinstance(verdicts.get(role), dict):
            verdicts[role] = {"verdict": "consistent", "reason": _OWN_WORD}
    gan.provenance["consistency"] = verdicts


def _refuse_state(path: Path, metadata: dict[str, str]) -> None:
    if {"settings", "step"} <= set(metadata):
        raise ProbeError(f"{path.name}: the state of a training run; pass the checkpoint that the run wrote beside it")


def _from_found(found: dict[Path, list[Found]], name: str, wish: _Wish) -> GAN:
    """The GAN of the networks found in some files."""
    networks = [item for items in found.values() for item in items]
    best = _choose(networks, "generator")
    if best is None:
        reason = "holds a discriminator only; pass it as `disc`, alone or beside the generator's file as `path`"
        raise ProbeError(f"{name}: {reason}")
    other = _choose(networks, "discriminator", like=best)
    gan = _from_networks(best, other, wish)
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

    def rank(item: Found) -> tuple[tuple[bool, bool], bool]:
        return item.averaged, ("best" in item.words) == wanted

    top = max(rank(item) for item in candidates)
    best = [item for item in candidates if rank(item) == top]
    if len(best) > 1:
        places = ", ".join(item.network.place for item in best)
        raise ProbeError(f"{len(best)} {role}s ({places}); expected one: pass the file of the one you want")
    return best[0]


def _from_networks(best: Found, other: Found | None, wish: _Wish) -> GAN:
    """A GAN of recognised networks, with the BatchNorm policy that their format calls for."""
    network = best.network
    beside = other or wish.other
    given = wish.prior or best.format.prior
    size = None if beside is None else _common_size(network, beside.network)
    generator, prior, verdict, by_class = conversion.generator(network, given, wish.label, size)
    channels, size = network.channels, verdict.pop("size")
    source = "given" if wish.prior else "format" if best.format.prior else verdict["prior"]["from"]
    gan = GAN(generator, None, generator.nz, size, channels, prior, {"generator": "running"}, by_class=by_class)
    gan.provenance = {"checkpoint": "", "sha256": "", "format": best.format.name, "prior_source": source}
    gan.provenance["consistency"] = {"generator": verdict}
    if "class" in verdict:
        gan.provenance["class"] = verdict["class"]
    if not network.conventions.statistics:
        recalibrate(generator, gan.nz, prior)
        gan.batchnorm["generator"] = "recalibrated"
    conversion.adapt_range(gan)
    if any(best.averaged):
        gan.provenance["weights"] = f"moving average, {network.place}"
    if network.leftover:
        gan.provenance["left_over"] = network.leftover
    means = [tensor for key, tensor in generator.state_dict().items() if key.endswith("running_mean")]
    if means and not any(mean.any() for mean in means):
        gan.provenance["batchnorm_note"] = "the generator's running statistics were never updated; recalibrate them"
    if other is not None and (other.network.table is None or wish.other is not None):
        _attach(gan, other)
    elif other is not None:
        gan.provenance["discriminator_note"] = f"left out: it takes a class ({other.network.table.name})"  # type: ignore[union-attr]
    return gan


def _common_size(generator: Network, discriminator: Network) -> int | None:
    """The usual size of images that a generator can make and its discriminator takes; None for the generator's likeliest."""
    best = generator_routes(generator).best()
    for size in dict.fromkeys([best.size if best else 64, 28, 32, 64, 16, 48, 96, 128, 256, 512]):
        way = generator_routes(generator, size).best()
        if best and way and way.price <= best.price + 2.0 and discriminator_routes(discriminator, size).best():
            return size
    return None


def _attach(gan: GAN, other: Found) -> None:
    """Give a GAN its discriminator."""
    network = other.network
    if network.channels != gan.channels:
        reason = f"takes images of {network.channels} channels, the generator makes {gan.channels}"
        raise ProbeError(f"{network.place}: {reason}; pass the discriminator that was trained with it")
    images = others = None
    if any(link.counted for link in network.links) and not _bare(gan):
        drawn = replace(gan)
        if "young" in gan.provenance["consistency"].get("generator", {}):  # its statistics are too young to draw with
            drawn.generator = copy.deepcopy(gan.generator)
            use_batch_statistics(drawn.generator)
        images = drawn.sample(128, seed=1)
        last = gan.generator.blocks[-1] if isinstance(gan.generator, Generator) else None
        if (
            last
            and last.activation == "tanh"
            and not last.unit_range
            and "layers" in gan.provenance["consistency"].get("generator", {})
        ):
            others = torch.atanh(images.clamp(-1 + 1e-6, 1 - 1e-6)).sigmoid()
    unit = any(block.unit_range for block in getattr(gan.generator, "blocks", ()))
    discriminator, verdict = conversion.discriminator(network, gan.size, images, others, unit)
    if verdict.pop("sigmoid", False):
        gan.generator = conversion.with_sigmoid(gan.generator)  # type: ignore[arg-type]
        entry = gan.provenance["consistency"]["generator"]["layers"][-1]
        entry |= {"activation": "sigmoid", "activation_from": "the discriminator's statistics"}
    gan.discriminator, gan.batchnorm["discriminator"] = discriminator, "running"
    gan.provenance["consistency"]["discriminator"] = verdict
    if not network.conventions.statistics:
        use_batch_statistics(discriminator)
        gan.batchnorm["discriminator"] = "batch"


def _bare(gan: GAN) -> bool:
    """Whether there is no generator to draw with."""
    return isinstance(gan.generator, NoGenerator)


def _alone(disc: str | Path | None, disc_model: str | None) -> GAN:
    """A GAN without a generator, ready to be given its discriminator: images of the size and channels that it takes."""
    gan = GAN(NoGenerator(), None, 0, 0, 0)
    if disc_model is not None:
        _add_from_factory(gan, disc_model, disc, [(c, size) for size in _SIDES for c in (3, 1)])
        return gan
    assert disc is not None
    path = _resolve(disc, "--disc")
    found = _found_discriminator(path)
    if found is None:
        tree, metadata = weightfiles.read(path)
        own = native.rebuild(path, tree, metadata["probe"], None)
        gan.size, gan.channels = own.size, own.channels
    elif isinstance(found, Described):
        made, gan.size = networks.discriminator(found)
        gan.channels = made.blocks[0].inputs
    else:
        network = found.network
        ways = [(way.price, size) for size in _SIDES if (way := discriminator_routes(network, size).best())]
        gan.size, gan.channels = min(ways, default=(0.0, 64), key=lambda pair: pair[0])[1], network.channels
    gan.provenance = {"checkpoint": path.name, "format": getattr(found, "format", None) or "a discriminator alone"}
    gan.provenance |= {"format": getattr(gan.provenance["format"], "name", gan.provenance["format"])}
    gan.provenance["sha256"] = weightfiles.sha256(_theano(path)[1] if path.is_dir() else [path])
    return gan


def _add_from_factory(gan: GAN, spec: str, path: str | Path | None, shapes: Sequence[tuple[int, int]]) -> None:
    """Take the discriminator from a user's factory."""
    place = None if path is None else _resolve(path, "--disc")
    tree = None if place is None else weightfiles.read(place)[0]
    gan.discriminator, gan.channels, gan.size = factories.discriminator(spec, tree, shapes)
    gan.batchnorm["discriminator"] = "batch" if takes_batch_statistics(gan.discriminator) else "running"
    gan.provenance["disc"] = spec if place is None else place.name
    gan.provenance["disc_sha256"] = "" if place is None else weightfiles.sha256([place])
    gan.provenance.setdefault("checkpoint", gan.provenance["disc"])
    gan.provenance.setdefault("sha256", gan.provenance["disc_sha256"])
    gan.provenance.setdefault("format", f"discriminator {spec}")


def on_data(gan: GAN, images: Tensor, name: str) -> list[str]:
    """How far images (N, C, S, S) in [-1, 1] of a source are from the statistics that the discriminator stored.

    Kept in `provenance["consistency"]`; returns a line where they are so far that it was trained on others, or is read wrong
    (not of probe's own files, which say how they are read).
    """
    found = identify.measured([(gan.require_discriminator(), images.to(gan.device))])
    if not found:
        return []
    far = identify.score(found)
    told = gan.provenance.setdefault("consistency", {}).setdefault("discriminator", {"verdict": "unchecked"})
    told["on_data"] = {"data": name, "score": round(far, 4)}
    if far <= conversion.LENIENT or told.get("reason") == _OWN_WORD:
        return []
    return [
        f"{name}: its images are {far:.2f} from the discriminator's BatchNorm statistics (at most {conversion.LENIENT:g} where it was "
        "trained on such images and is read right)"
    ]


def _found_discriminator(path: Path) -> Found | Described | None:
    """The discriminator in a file (or a folder of the paper's arrays) of its own; None where the file is probe's own."""
    if not path.exists():
        raise ProbeError(f"{path}: no such file; `disc` takes the discriminator's file")
    described, tree, metadata = ([], _theano(path)[0], {}) if path.is_dir() else containers.read(path)
    if described:
        return containers.discriminator_in(described, path.name)
    if "probe" in metadata:
        return None
    other = _choose(find_networks(tree, path.name), "discriminator")
    if other is None:
        raise ProbeError(f"{path.name}: holds a generator; `disc` takes the discriminator's file")
    return other


def _add_discriminator(gan: GAN, path: Path, other: Found | Described | None) -> None:
    """Take the discriminator from a file of its own."""
    other = other or _found_discriminator(path)
    gan.provenance.setdefault("consistency", {})
    if other is None:
        tree, metadata = weightfiles.read(path)
        own = native.rebuild(path, tree, metadata["probe"], None)
        if own.discriminator is None or (own.size, own.channels) != (gan.size, gan.channels):
            raise ProbeError(f"{path.name}: no discriminator for {gan.size} px images of {gan.channels} channels in it")
        gan.discriminator, gan.batchnorm["discriminator"] = own.discriminator, own.batchnorm["discriminator"]
        gan.provenance["consistency"].pop("discriminator", None)
        _own_word(gan, {"discriminator": own.discriminator})
    elif isinstance(other, Described):
        containers.attach(gan, other)
    else:
        _attach(gan, other)
    gan.provenance |= {
        "disc": path.name,
        "disc_sha256": weightfiles.sha256(_theano(path)[1] if path.is_dir() else [path]),
    }


# Folders -------------------------------------------------------------------------------------------------------------


def _from_folder(folder: Path, wish: _Wish) -> GAN:
    """The GAN in a folder: the paper's arrays, probe's own file, or a generator's and a discriminator's file."""
    if any(_THEANO.fullmatch(path.name) for path in folder.iterdir()):
        return _from_theano(folder, wish)
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
    failures: list[tuple[Path, ProbeError]] = []
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
            failures.append((path, error))
    if len(own) > 1:
        raise ProbeError(f"{folder}: {len(own)} checkpoints ({', '.join(path.name for path in own)}); pass one of them")
    if not own and not found and not full and (newest_checkpoint := containers.in_folder(folder)):
        full, last = {newest_checkpoint: containers.read(newest_checkpoint)[0]}, True
    held = {item.network.role for items in found.values() for item in items}
    drawn = "generator" in held
    held |= {item.role for items in full.values() for item in items}
    for path, failure in failures:
        role = named_role(path.stem)
        if role and role not in held and not own:  # a loss history may be called generator.pkl, too
            raise failure
    if own or found or full:
        if own:
            gan = _from_file(own[0], wish)
        elif drawn:
            gan = _from_found(found, folder.resolve().name, wish)
        else:
            gan = containers.gan(full, folder.resolve().name, wish.prior, wish.label)
        _complete(gan, found, full)
        gan.provenance |= {"chosen": "the highest number of each file name"} if last else {}
        gan.provenance |= {"passed_over": [f"{path.name}: no network" for path, _ in failures]} if failures else {}
        return gan
    if failures:
        raise failures[0][1]
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise ProbeError(
        f"{folder}: no checkpoint in this folder (found {names}); expected {', '.join(SUFFIXES)} or .npy arrays"
    )


def _complete(gan: GAN, found: dict[Path, list[Found]], full: dict[Path, list[Described]]) -> None:
    """Give a GAN the discriminator of its folder where that lies there in another kind of file."""
    if gan.discriminator is not None or not found or not full:
        return
    if other := _choose([item for items in found.values() for item in items], "discriminator"):
        _attach(gan, other)
    elif described := [item for items in full.values() for item in items if item.role == "discriminator"]:
        containers.attach(gan, described[0])


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


def _from_theano(folder: Path, wish: _Wish) -> GAN:
    tree, used = _theano(folder)
    networks = find_networks(tree, folder.name)
    best = _choose(networks, "generator")
    if best is None:
        raise ProbeError(
            f"{folder}: discriminator arrays only; expected NNN_gen_params.jl_01.npy and so on beside them"
        )
    gan = _from_networks(best, _choose(networks, "discriminator"), wish)
    gan.provenance |= {"checkpoint": folder.resolve().name, "sha256": weightfiles.sha256(used)}
    gan.provenance["chosen"] = f"epoch {_numbers(used[0].name)[0]}"
    return gan


def _from_factory(spec: str, path: Path | None, prior: Prior | None) -> GAN:
    """A user's own generator, with a checkpoint's weights where one is given."""
    tree = None if path is None else weightfiles.read(path)[0]
    made = factories.build(spec, tree, prior or "normal")
    digest = "" if path is None else weightfiles.sha256([path])
    return _of_built(made, prior, spec if path is None else path.name, digest, f"model {spec}")


def _of_generator(module: nn.Module, name: str, digest: str, prior: Prior | None) -> GAN:
    """A live generator."""
    return _of_built(factories.opened(module, name, prior or "normal"), prior, name, digest, "a live module")


def _of_built(
    made: tuple[nn.Module, int, torch.Size, list[str]], prior: Prior | None, name: str, digest: str, kind: str
) -> GAN:
    """The GAN of a generator that is somebody else's module."""
    generator, nz, images, notes = made
    statistics = "batch" if takes_batch_statistics(generator) else "running"
    gan = GAN(generator, None, nz, images[-1], images[1], prior or "normal", {"generator": statistics})
    gan.provenance = {"checkpoint": name, "sha256": digest}
    gan.provenance |= {"format": kind, "prior_source": "given" if prior else "assumed"}
    gan.provenance |= {"assumed": notes} if notes else {}
    return gan


def describe(gan: GAN) -> dict[str, Any]:
    """What was recognised: format, both networks' shapes, prior, BatchNorm policy, numbers of parameters, edits if any.

    `consistency` has for each network the verdict of its statistics and, layer by layer, what it was read as and from where
    that is known; `left_over` names tensors of the file that nothing reads.
    """
    require_gan(gan)
    pairs = (("generator", None if _bare(gan) else gan.generator), ("discriminator", gan.discriminator))
    networks = {role: network for role, network in pairs if network is not None}
    shapes: dict[str, dict[str, Any] | None] = {"generator": None, "discriminator": None}
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
        "prior_source": gan.provenance.get("prior_source"),
        "consistency": gan.provenance.get("consistency", {}),
        **({"left_over": gan.provenance["left_over"]} if "left_over" in gan.provenance else {}),
        **({"class": gan.provenance["class"]} if "class" in gan.provenance else {}),
        **({"edits": "; ".join(gan.provenance["edits"])} if "edits" in gan.provenance else {}),
    }


def warnings(gan: GAN) -> list[str]:
    """One line for each network whose reading its own statistics do not confirm as the usual one; none where all is well."""
    passed = [line.partition(":")[0] for line in gan.provenance.get("passed_over", [])]
    lines = (
        [f"{len(passed)} files passed over, since no network is in them: {', '.join(sorted(passed)[:5])}"]
        if passed
        else []
    )
    for role, found in gan.provenance.get("consistency", {}).items():
        line = _warning(found, gan.batchnorm.get(role, "running"))
        lines += [f"{role}: {line}"] if line else []
    return lines


def _warning(found: dict[str, Any], policy: str) -> str | None:
    verdict = found["verdict"]
    if verdict == "identified":
        changes = "; ".join(found["changed"])
        far = f"distance {found['before']:.2f} -> {found['score']:.2f}"
        return f"read as its BatchNorm statistics ask ({changes}): {far}{_rival(found)}"
    if verdict == "unchecked" and found.get("described"):
        if "prior" not in found:  # nothing of it is assumed
            return None
        return f"cannot be checked, since {found['reason']}; its layers are those that the file describes, its prior is assumed"
    if verdict == "unchecked" and found["reason"] != "the format stores none":
        changes = f"; read with {'; '.join(found['changed'])}" if found.get("changed") else ""
        assumed = "" if found.get("young") else f"; activations{' and prior' if 'prior' in found else ''} are assumed"
        return f"cannot be checked, since {found['reason']}{changes}{assumed} (probe inspect lists all)"
    if verdict != "inconsistent":
        return None
    if found.get("drifted"):
        advice = "" if policy != "running" else "; pass `batchnorm` recalibrated"
        return (
            f"its running statistics have drifted: {found['score']:.2f} from what its layers get, {found['by_batch']:.2f} where "
            f"each batch normalises itself; images under the stored ones are wrong{advice}"
        )
    return (
        f"its BatchNorm statistics contradict every reading tried: distance {found['score']:.2f} (at most {conversion.LIKELY:g} where "
        f"read right), most at {found['worst']}; what it draws may be wrong (tried: {found['tried']})"
    )


def _rival(found: dict[str, Any]) -> str:
    """The other activation that fits nearly as well, in words, or nothing."""
    close = found.get("close")
    return f"; {' and '.join(close['activations'])} fits nearly as well ({close['score']:.2f})" if close else ""


def evidence(gan: GAN) -> list[str]:
    """For each network its verdict, and for each layer what it is and from where that is known, in lines."""
    lines = []
    for role, found in gan.provenance.get("consistency", {}).items():
        far = f", distance {found['score']:.3f}" if found.get("score") is not None else ""
        reason = f" ({found['reason']})" if found.get("reason") else ""
        lines.append(
            f"{role}: {'cannot be checked' if found['verdict'] == 'unchecked' else found['verdict']}{far}{_rival(found)}{reason}"
        )
        if "prior" in found:
            lines.append(f"  latents {found['prior']['latents']}: {found['prior']['from']}")
        if "class" in found:
            lines.append("  class {label} of {classes}, {how} the latents: {from}".format(**found["class"]))
        lines += [f"  {_layer_line(layer)}" for layer in found.get("layers", [])]
    lines += [f"assumed: {line}" for line in gan.provenance.get("assumed", [])]
    lines += [f"left over, read by nothing: {name}" for name in gan.provenance.get("left_over", [])]
    return lines


def _layer_line(layer: dict[str, Any]) -> str:
    names = {"linear": "Linear", "conv": "Conv2d", "deconv": "ConvTranspose2d"}
    words = [f"{layer['layer']}: {names[layer['kind']]} {layer['inputs']} -> {layer['outputs']}"]
    if "kernel" in layer:
        form = f"{layer['kernel']}x{layer['kernel']}, stride {layer['stride']}, padding {layer['padding']}"
        form += f", output padding {layer['output_padding']}" if "output_padding" in layer else ""
        form += f", behind an enlargement by {layer['upsample']}" if "upsample" in layer else ""
        form += f", then the largest of each {layer['pool']}x{layer['pool']}" if "pool" in layer else ""
        words.append(f"{form} ({layer['geometry_from']})")
    norm = [f"{layer['norm']} eps {layer['eps']:g} ({layer['norm_from']})"] if "norm" in layer else []
    act = [f"{layer['activation']} ({layer['activation_from']})"]
    words += act + norm if layer.get("order") == "act-norm" else norm + act
    words += [f"distance {layer['distance']:.3f}"] if "distance" in layer else []
    return "; ".join(words)
