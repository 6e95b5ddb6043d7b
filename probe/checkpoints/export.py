"""A generator as an ordinary state dict, in the layout of pytorch/examples' dcgan, for code that knows nothing of probe.

    save(gan, path)      any GAN: probe's own format, or for .pth and .pt this layout
    check(gan, path)     refuse, before any work, a generator that the layout cannot hold

N counts the children of one nn.Sequential: convolution, BatchNorm, ReLU, …, convolution, tanh. At 64 px the file opens in
pytorch/examples' own Generator (its `ngf` the width of the layer next to the image); at other sizes there are fewer or
more layers. The layout has no place for the discriminator, the prior or the provenance.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from probe.base import files
from probe.base.errors import ProbeError
from probe.base.parameters import File, require_gan
from probe.checkpoints import native
from probe.models.dcgan import Block, Generator
from probe.models.gan import GAN

SUFFIXES = (".pth", ".pt")
_EPS = 1e-5  # of nn.BatchNorm2d, which no state dict holds


def _obstacle(block: Block, first: bool, last: bool) -> str | None:
    """Why the layout cannot hold a layer, or None."""
    shape = (block.stride, block.padding, block.output_padding)
    named = {"linear": "a linear layer", "conv": "a convolution"}
    if block.kind != "deconv":
        return f"is {named[block.kind]}, not a transposed convolution"
    if shape != ((1, 0, 0) if first else (2, 1, 0)) or not (first or block.kernel == 4):
        return f"has kernel {block.kernel}, stride {block.stride} and padding {block.padding}, not 4, 2 and 1"
    if any(block.crop) or block.resize:
        return "gives maps that are then cut or interpolated"
    if block.bias:
        return "has a bias"
    if block.erase:
        return "carries a one-sided erasure"
    if block.patch:
        return "carries a patch from another latent"
    if block.norm != ("none" if last else "map"):
        return "has BatchNorm, which the last layer has not" if last else "has no BatchNorm over its maps"
    if not last and block.order != "norm-act":
        return "has BatchNorm behind its activation"
    if not last and not block.affine:
        return "has BatchNorm without gain and bias"
    if block.activation != ("tanh" if last else "relu"):
        return f"ends in {block.activation}, not {'tanh' if last else 'ReLU'}"
    if block.unit_range:
        return "gives images in [0, 1]"
    return None


def check(gan: GAN, path: Path) -> None:
    """Raise ProbeError, naming the layer and the reason, where a generator does not fit the layout."""
    _state(gan, path)


def save(gan: GAN, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a GAN, atomically, as the path's ending asks: .pth or .pt for pytorch/examples, any other for probe itself.

    Probe's own format (native.save) holds both networks, prior, policy and provenance; dtype float16 halves it. The other
    is the generator's state dict, float32, which pytorch/examples' Generator opens with strict=True.
    Raises ProbeError where the format cannot hold the networks, with the layer and the reason, and for NaN weights.
    """
    require_gan(gan)
    path = files.path_of(path, "path")
    if path.suffix not in SUFFIXES:
        native.save(gan, path, dtype)
        return
    if dtype not in (None, torch.float32):
        raise ProbeError(f"{path}: a state dict for pytorch/examples is float32; {dtype} was asked for")
    state = _state(gan, path)
    bad = next((key for key, tensor in state.items() if not tensor.isfinite().all()), None)
    if bad:
        raise ProbeError(f"{path}: {bad} holds NaN or infinite weights; nothing was written")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with files.writing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _state(gan: GAN, path: Path) -> dict[str, Tensor]:
    """The state dict of the layout."""
    use = f"use a path ending in .safetensors instead of {path.suffix}"
    if not isinstance(gan.generator, Generator):
        raise ProbeError(f"{path}: the generator is a {type(gan.generator).__name__}, and only DCGANs can be saved")
    blocks, state = gan.generator.blocks, {}
    for i, (block, layer) in enumerate(zip(blocks, gan.generator.layers(), strict=True)):
        reason = _obstacle(block, i == 0, block is blocks[-1])
        entries = {key: tensor.detach().cpu().clone() for key, tensor in layer.state_dict().items()}
        if reason is None and block.norm == "map":
            reason = _to_default_eps(entries, block.eps)
        if reason:
            raise ProbeError(f"{path}: layer{i + 1} {reason}, so it is no generator of pytorch/examples; {use}")
        for child, name in enumerate(("conv", "norm")):
            for key, tensor in entries.items():
                if key.startswith(f"{name}."):
                    value = tensor.float().contiguous() if tensor.is_floating_point() else tensor
                    state[f"main.{3 * i + child}.{key.partition('.')[2]}"] = value
    return state


def _to_default_eps(entries: dict[str, Tensor], eps: float) -> str | None:
    """Put a BatchNorm's own eps into its variance, in place; why that cannot be, or None."""
    if "norm.running_var" not in entries:
        return "normalises by the batch's own statistics"
    if eps != _EPS:
        entries["norm.running_var"] = (entries["norm.running_var"].double() + (eps - _EPS)).float()
        if (entries["norm.running_var"] < 0).any():
            return f"has variances that eps {_EPS:g} in place of its own {eps:g} would swamp"
    return None


def check_save(gan: GAN, save: File | None, ordinary: bool = False) -> Path | None:
    """Where an operated generator will be saved; refused, before any work, where it cannot be rebuilt or has nowhere to go.

    `ordinary` says that the operation leaves the generator's architecture as it is.
    """
    if save is None:
        return None
    path = files.path_of(save, "save")
    if not path.name or (path.exists() and not path.is_file()):
        raise ProbeError(f"`save` {path}: is no file; expected a file's name, such as edited.safetensors")
    if not hasattr(gan.generator, "blocks"):
        kind = type(gan.generator).__name__
        raise ProbeError(f"`save` {path}: the generator is a {kind}; only a DCGAN read by probe can be rebuilt")
    if path.suffix in SUFFIXES:
        if not ordinary:
            raise ProbeError(f"`save` {path}: a patch has no place in a {path.suffix} file; use .safetensors")
        check(gan, path)
    with files.writing(path.with_name(f".{path.name}.try")):
        pass
    path.with_name(f".{path.name}.try").unlink()
    return path
