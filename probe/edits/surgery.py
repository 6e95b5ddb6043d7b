"""Permanent edits of a generator: a GAN in, a new GAN out; the input is left as it was.

All but `erase` and `patch` go into the weights, so that the result is an ordinary DCGAN. Edits compose: each does to
the GAN it is given what a hook (`hooks.edit`) on the layer's output would do, and `provenance["edits"]` lists them in
order. So of two matrices folded behind one layer the later one acts first, directly on the layer's output.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.edits.directions import Counterfactual, Direction, fit_erase, fit_patch, leace
from probe.models.dcgan import Block, Generator, Layer
from probe.models.gan import GAN
from probe.models.hooks import Site, resolve

__all__ = [
    "Counterfactual", "Direction", "ablate", "erase", "fit_erase", "fit_patch", "fold", "leace", "patch", "scale",
]  # fmt: skip


def _copy(gan: GAN, what: str) -> tuple[GAN, Generator]:
    """A GAN with a generator of its own, and that generator."""
    if not isinstance(gan.generator, Generator):
        raise ProbeError(
            f"{what}: the generator is a {type(gan.generator).__name__}; only a DCGAN read by probe can be rebuilt"
        )
    generator = copy.deepcopy(gan.generator)
    return replace(gan, generator=generator, provenance=dict(gan.provenance)), generator


def _note(gan: GAN, edit: str) -> GAN:
    gan.provenance["edits"] = [*gan.provenance.get("edits", []), edit]
    return gan


def _part(generator: Generator, site: Site) -> tuple[Layer, Block, int]:
    """A site's layer, its block and the block's place in the generator's list."""
    layer = generator.get_submodule(site.name)
    assert isinstance(layer, Layer)
    index = _index(site)
    return layer, generator.blocks[index], index


def _index(site: Site) -> int:
    """The place of a site's block in its generator's list; linear layers, which are no sites, may stand before it."""
    return int(site.name.removeprefix("layer")) - 1


def _replace_block(generator: Generator, index: int, block: Block) -> None:
    generator.blocks = (*generator.blocks[:index], block, *generator.blocks[index + 1 :])


def erase(gan: GAN, directions: Mapping[str, Direction], strength: float) -> GAN:
    """A GAN whose generator erases a concept behind the given layers (by name, rank or grid) of a DCGAN.

    The formula is that of `Direction.eraser`. Raises ProbeError for a generator that is no DCGAN, a layer it has not
    or that carries an erasure already, a direction of another width, and a strength that is no number.
    """
    new, generator = _copy(gan, f"erase at {', '.join(map(str, directions))}, strength {strength:g}")
    if not math.isfinite(strength):
        raise ProbeError(f"erase: strength {strength:g}: expected a finite number")
    names = []
    for key, direction in directions.items():
        site = resolve(gan, key)
        layer, block, index = _part(generator, site)
        if generator.blocks[index].erase:
            raise ProbeError(f"erase: {site.name} already carries an erasure; one a layer")
        if direction.weight.shape[-1] != site.maps:
            found = direction.weight.shape[-1]
            raise ProbeError(f"erase: {site.name} has {site.maps} maps; the direction is for {found}")
        module = direction.eraser(strength).to(gan.device)
        layer.add_module("erase", module)
        _replace_block(generator, index, replace(block, erase=len(module.bias)))
        names.append(site.name)
    return _note(new, f"erase at {', '.join(names)}, strength {strength:g}")


def patch(gan: GAN, layer: str | int, counterfactual: Counterfactual, strength: float = 1.0) -> GAN:
    """A GAN whose generator draws a concept's places as a latent without the concept would have them (`dcgan.Patch`).

    `layer` (by name, rank or grid) is where features are taken over. Raises ProbeError for a generator that is no DCGAN
    or carries a patch already, a counterfactual of another size, and a strength that is no number.
    """
    new, generator = _copy(gan, f"patch at {layer}")
    if not math.isfinite(strength):
        raise ProbeError(f"patch: strength {strength:g}: expected a finite number")
    site = resolve(gan, layer)
    if generator.patched:
        raise ProbeError(f"patch: layer{generator.patched} already carries one; one a generator")
    found, wanted = (counterfactual.weight.shape[1], len(counterfactual.gate)), (gan.nz, site.maps)
    if found != wanted:
        raise ProbeError(
            f"patch: made for latents of {found[0]} and {found[1]} maps; {site.name} has {wanted[0]} and {wanted[1]}"
        )
    generator.patch = counterfactual.patch(strength).to(gan.device)
    index = _index(site)
    _replace_block(generator, index, replace(generator.blocks[index], patch=len(counterfactual.bias)))
    return _note(new, f"patch at {site.name}, strength {strength:g}")


def ablate(gan: GAN, layer: str | int, units: Sequence[int]) -> GAN:
    """A GAN whose generator has the given feature maps of a layer at zero everywhere: `scale` by 0."""
    return _scale(gan, layer, units, 0.0, "ablate")


def scale(gan: GAN, layer: str | int, units: Sequence[int], factor: float) -> GAN:
    """A GAN whose generator has the given feature maps of a layer (by name, rank or grid) times a factor of 0 or more.

    Exact: the factor goes into the layer's norm, or into its convolution where it has none, and ReLU, LeakyReLU and
    PReLU pass it on, f·act(x) = act(f·x). Behind an erasure the maps are scaled after it, which goes on to look
    at them as they were; only with factor 0 it looks at a map of zeros. A unit named twice is scaled once.

    Raises ProbeError for a generator that is no DCGAN, layers and units that it has not, and a factor that is
    negative (the activation would cut what changes sign) or no number.
    """
    return _scale(gan, layer, units, factor, "scale")


def _scale(gan: GAN, layer: str | int, units: Sequence[int], factor: float, verb: str) -> GAN:
    new, generator = _copy(gan, f"{verb} {len(units)} maps of {layer}")
    if not math.isfinite(factor):
        raise ProbeError(f"{verb}: factor {factor}: expected a finite number of at least 0")
    if factor < 0:
        raise ProbeError(
            f"{verb}: factor {factor:g} is negative, and the activation stands between the weights and the map; "
            "fold a matrix with this factor on its diagonal behind the layer instead"
        )
    site = resolve(gan, layer)
    part, block, _ = _part(generator, site)
    wrong = [u for u in units if not 0 <= u < site.maps]
    if wrong:
        raise ProbeError(f"{verb}: {site.name} has maps 0 to {site.maps - 1}; there is no map {wrong[0]}")
    reason = _no_factor(block, factor)
    if reason:
        raise ProbeError(
            f"{verb}: {site.name} {reason}; fold a matrix with the factor on its diagonal behind it instead"
        )
    chosen = sorted({int(u) for u in units})
    gains = torch.ones(site.maps, device=gan.device)
    gains[chosen] = factor
    _multiply(part, block, gains)
    listed = ",".join(map(str, chosen))
    by = "" if verb == "ablate" else f" by {factor:g}"
    return _note(new, f"{verb} {len(chosen)} maps of {site.name}{by}" + (f": {listed}" if listed else ""))


def _no_factor(block: Block, factor: float) -> str | None:
    """Why no weight of a layer multiplies its maps by a factor, or None."""
    if block.norm != "none" and (block.norm == "pixel" or not block.affine):
        return "has a norm without gains, which takes any factor out again"
    if block.order == "act-norm" and block.norm != "none":
        return None
    passes = block.activation in ("none", "relu", "leaky", "prelu")
    if not passes and (factor or block.activation == "sigmoid"):  # the others leave zero as it is
        return f"ends in {block.activation}, which passes no factor on"
    return None


@torch.no_grad()
def _multiply(layer: Layer, block: Block, gains: Tensor) -> None:
    """Multiply a layer's maps by gains (maps,) of at least 0, in place, ahead of its activation or in its last norm."""
    last, axis = (layer[0], int(block.kind == "deconv"))  # only a transposed convolution has its outputs second
    if block.norm != "none":
        last, axis = layer.get_submodule("norm"), 0
    for key, parameter in last.named_parameters():
        outputs = axis if key == "weight" else 0
        maps = parameter.unflatten(outputs, (block.outputs, -1))
        maps.mul_(gains.view(*[1] * outputs, -1, *[1] * (maps.ndim - outputs - 1)))
    if block.erase:  # max(fx - relu(w/f·fx + b) fv, min(fx, 0)) = f max(x - relu(w·x + b) v, min(x, 0))
        eraser = layer.get_submodule("erase")
        eraser.get_buffer("step").mul_(gains)
        eraser.get_buffer("weight").div_(torch.where(gains > 0, gains, 1))


def fold(gan: GAN, layer: str | int, matrix: Tensor, offset: Tensor | None = None, tolerance: float = 1e-4) -> GAN:
    """A GAN with x -> matrix·x + offset behind a layer (by name, rank or grid), folded into the next convolution.

    `matrix` (C, C) and `offset` (C,) act at every place on the C feature maps as `layers.capture` shows them, after
    the activation and behind an erasure. The matrix folds exactly, borders included. An offset is a constant map:
    behind a strided transposed convolution it becomes a pattern that repeats every `stride` pixels, because each
    output phase sees other taps of the kernel, and only the mean of the phases is a bias. Where phases differ by up to
    `tolerance` that mean goes into the next layer's bias or BatchNorm; at the borders, where the kernel reaches past
    the maps, an offset is then off by the amount that `provenance["edits"]` states. Both are in units of the next
    layer's input to its activation.

    Raises ProbeError for a generator that is no DCGAN, layers it has not, shapes that do not fit or hold NaN, and
    offsets whose phases differ by more.
    """
    new, generator = _copy(gan, f"fold behind {layer}")
    site = resolve(gan, layer)
    given = {"matrix": (matrix, (site.maps,) * 2)} | ({} if offset is None else {"offset": (offset, (site.maps,))})
    for name, (tensor, shape) in given.items():
        if tensor.shape != shape:
            found = f"{name} of shape {tuple(tensor.shape)}"
            raise ProbeError(f"fold: {site.name} has {site.maps} maps; {found} given, expected {shape}")
        if not tensor.isfinite().all():
            raise ProbeError(f"fold: {name} behind {site.name} holds NaN or infinite values")
    note = f"fold a matrix behind {site.name}"
    if offset is not None and offset.any():
        border = _fold_offset(generator, site, offset, tolerance)
        note = f"fold a matrix and an offset behind {site.name}, off by up to {border:.2g} at the border"
    after = _index(site) + 1
    conv = generator.layers()[after].get_submodule("conv")
    inputs = int(generator.blocks[after].kind == "conv")
    weight = conv.get_parameter("weight")
    with torch.no_grad():
        old, change = weight.detach().cpu().double(), matrix.detach().cpu().double()
        weight.copy_(
            torch.tensordot(old, change, ([inputs], [0])).movedim(-1, inputs)
        )  # W'[c, …] = Σ_d W[d, …] M[d, c]
    return _note(new, note)


def _fold_offset(generator: Generator, site: Site, offset: Tensor, tolerance: float) -> float:
    """Put a constant behind a site into the next layer's bias or norm; returns how far off it is at the border."""
    index = _index(site) + 1
    block, layer = generator.blocks[index], generator.layers()[index]
    conv = layer.get_submodule("conv")
    gain = torch.ones(block.outputs, dtype=torch.float64)
    counted = block.norm == "map" and block.order == "norm-act"  # by statistics that can take the offset out again
    if counted:
        norm = layer.get_submodule("norm")
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.running_mean is None or norm.running_var is None:
            raise ProbeError(f"fold: layer{index + 1} normalises by the batch, which takes any offset out again")
        gain = (norm.running_var.cpu().double() + norm.eps).rsqrt()
        gain = gain if norm.weight is None else gain * norm.weight.detach().cpu().double().abs()
    weight, constant = conv.get_parameter("weight").detach().cpu().double(), offset.detach().cpu().double()
    period = block.stride if block.kind == "deconv" else 1
    far = site.grid + 4 * block.kernel  # so large that its middle is away from all borders
    middle = _constant_through(block, weight, constant, far)
    start = middle.shape[-1] // 2
    phases = middle[:, start : start + period, start : start + period]
    mean = phases.mean((1, 2))

    def worst(pattern: Tensor) -> float:
        return float(((pattern - mean[:, None, None]).abs() * gain[:, None, None]).max())

    if not worst(phases) <= tolerance:
        raise ProbeError(
            f"fold: the offset behind {site.name} is no constant behind layer{index + 1}: its {period}x{period} "
            f"output phases see other taps of the kernel and differ by up to {worst(phases):.2g} from their mean, in "
            f"units of that layer's input to its activation (tolerance {tolerance:g}); fold the matrix alone, or edit "
            "with hooks.edit"
        )
    step = mean.float().to(conv.get_parameter("weight").device)
    with torch.no_grad():
        if counted:
            layer.get_submodule("norm").get_buffer("running_mean").sub_(step)
        elif block.bias:
            conv.get_parameter("bias").add_(step)
        else:
            conv.bias = nn.Parameter(step)
            _replace_block(generator, index, replace(block, bias=True))
    return worst(_constant_through(block, weight, constant, site.grid))


def _constant_through(block: Block, weight: Tensor, constant: Tensor, grid: int) -> Tensor:
    """What a convolution without its bias makes of a constant (inputs,) on a grid, (outputs, H, W)."""
    side = grid * block.upsample
    x = constant[None, :, None, None].expand(1, -1, side, side)
    if block.kind == "deconv":
        x = F.conv_transpose2d(x, weight, None, block.stride, block.padding, block.output_padding)
        return F.pad(x, [-block.crop[0], -block.crop[1]] * 2)[0]
    return F.conv2d(F.pad(x, [*block.pad] * 2), weight, None, block.stride, block.padding)[0]
