"""What shapes cannot tell, told by the statistics that a network's own BatchNorms stored while it was trained.

    Entrance, entrances(...)    what enters a generator: latents of some prior, with a class where it is conditional
    Reading                     blocks for a chain of layers: one way to read it
    default_reading(...)        what names, places and conventions suggest
    search(...)                 the readings that fit the stored statistics best, found layer by layer
    check(...), measured(...)   how far the inputs of each BatchNorm are from what it stored

The distance of a layer is the root mean square over its maps of (mean - running mean) / sqrt(running variance + eps), plus the
mean of |log(variance / running variance)|; a score is its mean over layers. A layer's input depends only on what lies before
it, so a search goes from the latent on and settles one layer after the other. Meanwhile each BatchNorm normalises by the batch
at hand, as it did in training, so that one wrong layer does not spoil the next; a verdict never rests on that.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.checkpoints.chains import Link, Network, Table
from probe.checkpoints.geometry import Geometry, Routes, Way, folds_after
from probe.models.dcgan import Activation, Block, Order
from probe.models.gan import latents

GOOD = 0.06
"""A layer that is this near to its statistics is settled without trying anything else."""
_BEAM, _UNSEEN = 3, 8
YOUNG = 50  # updates, of momentum 0.1, before which statistics still hold half a per cent of what they began as
_CHECKED = 3e9  # multiplications that a check of one layer may take
_HOPELESS = 0.8  # distance of two layers in turn at which a search ends
_PRODUCTS = 1.5e8  # multiplications that one trial may take, within bounds: large maps need fewer images
_WEIGHT = 0.02  # of a reading's price against its distance

How = Literal["noise", "after", "before", "times"]
Source = Literal["normal", "uniform", "unit"]  # N(0, 1), U(-1, 1), U(0, 1)


# What enters -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entrance:
    """What a generator's first layer takes: latents of a prior, and how a class joins them.

    A row of `values` (classes, numbers) stands after or before the latents, or multiplies them.
    """

    source: Source
    how: How = "noise"
    values: Tensor | None = None
    name: str = ""
    price: float = 0.0

    def noise(self, inputs: int) -> int:
        """How many of the first layer's inputs are latents."""
        return inputs - self.values.shape[1] if self.values is not None and self.how != "times" else inputs

    @property
    def classes(self) -> int:
        """The number of classes, 0 of an unconditional generator."""
        return 0 if self.values is None else len(self.values)

    def draw(self, n: int, inputs: int, seed: int = 0) -> Tensor:
        """Inputs (n, inputs) of the first layer, classes in equal parts; latents in pairs of opposite sign."""
        nz = self.noise(inputs)
        z = balanced(n, nz, seed, "normal" if self.source == "normal" else "uniform")
        z = (z + 1) / 2 if self.source == "unit" else z
        if self.values is None:
            return z
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        rows = self.values[order % len(self.values)]
        if self.how == "times":
            return z * rows
        return torch.cat([z, rows] if self.how == "after" else [rows, z], 1)


def balanced(n: int, nz: int, seed: int, prior: Literal["uniform", "normal"]) -> Tensor:
    """Latents (n, nz) whose mean is exactly 0 and, where there are enough, whose covariance is exactly the prior's.

    Sampling noise in the first layer's statistics would hide small differences.
    """
    half = latents((n + 1) // 2, nz, seed, prior)
    z = torch.stack([half, -half], 1).flatten(0, 1)[:n]
    if len(half) > 1.2 * nz:
        covariance = (z.T @ z).double() / len(z)
        root = torch.linalg.cholesky(covariance).float()
        z = torch.linalg.solve_triangular(root, z.T, upper=False).T
        z = z / math.sqrt(3) if prior == "uniform" else z
    return z.contiguous()


def entrances(network: Network, prior: Literal["uniform", "normal"] | None) -> list[Entrance]:
    """What may enter a generator, the likeliest first."""
    inputs, table = network.links[0].inputs, network.table
    sources: list[tuple[Source, float]] = (
        [(prior, 0.0)] if prior else [("normal", 0.0), ("uniform", 0.3), ("unit", 2.0)]
    )
    if table is None:
        return [Entrance(source, price=price) for source, price in sources]
    if table.values.shape[1] == inputs:
        return [Entrance(s, "times", table.values, table.name, price) for s, price in sources]
    ways: list[tuple[How, float]] = [("after", 0.0), ("before", 0.1)]
    made = [(table.values, 0.0)]
    if not _is_embedding(table) and (table.values < 0).any():  # a linear layer, perhaps with an activation
        made += [
            (F.relu(table.values), 0.3),
            (F.leaky_relu(table.values, 0.2), 0.3),
            (F.leaky_relu(table.values, 0.01), 0.4),
        ]
    return [
        Entrance(s, how, values, table.name, price + extra + more)
        for (s, price), (how, extra), (values, more) in itertools.product(sources, ways, made)
    ]


def _is_embedding(table: Table) -> bool:
    return "emb" in table.name.lower()


def one_hots(network: Network, prior: Literal["uniform", "normal"] | None) -> list[Entrance]:
    """Entrances of a generator that takes one-hot classes beside its latents, of which no tensor tells."""
    inputs = network.links[0].inputs
    counts = [10, 2, *(inputs - nz for nz in (100, 128, 64, 62, 50, 32, 256, 200, 512))]
    sources: tuple[Source, ...] = (prior,) if prior else ("normal", "uniform", "unit")
    return [
        Entrance(s, how, torch.eye(k), "one-hot", 1.0 + 0.2 * (k not in (10, inputs - 100)))
        for k, how, s in itertools.product(dict.fromkeys(counts), ("after", "before"), sources)
        if 2 <= k <= min(inputs - 2, 120)
    ]


def fitting(network: Network, routes: Routes, guesses: Sequence[Entrance], near: float) -> list[Entrance]:
    """The guesses, at most two, that bring the first layer's statistics much nearer than `near`; none where it has none."""
    link, step = network.links[0], routes.forms[0][0]
    if not link.counted or not guesses:
        return []
    found = []
    with torch.no_grad():
        for i, guess in enumerate(guesses):
            n = 2 * guess.classes * math.ceil(max(128, 3 * link.inputs) / (2 * guess.classes))  # classes in equal parts
            x = _product(network, link, step, guess.draw(n, link.inputs))
            x = _folded(network, link, x) if link.norm != "unit" else x
            found.append((_distance(link, x).total, i))
    return [guesses[i] for d, i in sorted(found)[:2] if d < 0.5 * near and d < 0.25]


# Readings ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What follows a layer's product: order of norm and activation, which activation, and the norm's eps."""

    order: Order
    activation: Activation
    slope: float
    eps: float
    price: float = 0.0

    @property
    def name(self) -> str:
        """The activation in words."""
        return f"leaky {self.slope:g}" if self.activation == "leaky" else self.activation


@dataclass
class Reading:
    """One way to read a chain: geometry and choice for each layer, what enters, and how the choices are known."""

    way: Way
    choices: list[Choice]
    entrance: Entrance | None = None  # of a generator
    seen: set[int] = field(default_factory=set)  # layers whose activation statistics have witnessed
    price: float = 0.0

    def blocks(self, network: Network) -> list[Block]:
        """The chain's layers as blocks."""
        made = []
        for i, (link, step, choice) in enumerate(zip(network.links, self.way.steps, self.choices, strict=True)):
            block = Block(
                step.kind, link.inputs, link.outputs, bias=link.bias is not None, norm=link.norm, grid=link.grid
            )
            block = replace(block, activation=choice.activation, eps=choice.eps, affine=link.affine)
            block = replace(block, order=choice.order if link.norm != "none" else "norm-act")
            if choice.activation == "leaky":
                block = replace(block, slope=choice.slope)
            if choice.activation == "prelu" and link.slopes is not None:
                block = replace(block, slopes=link.slopes.numel())
            if i == len(network.links) - 1:
                block = replace(block, resize=self.way.resize)
            if step.kind != "linear":
                block = replace(block, kernel=link.kernel, stride=step.stride, padding=step.padding)
                block = replace(block, output_padding=step.output_padding, upsample=step.upsample)
            made.append(block)
        return made


def _places_for_activation(network: Network, i: int, step: Geometry | None) -> int | None:
    """How many modules without weights stand behind a layer besides its fold and the next one's enlargement."""
    link = network.links[i]
    if link.after is None:
        return None
    folds = int(network.role == "generator" and folds_after(link))
    return link.after - folds - int(step is not None and step.upsample > 1)


def default_choice(network: Network, i: int, following: Geometry | None) -> Choice:
    """What names, places and conventions suggest for a layer; `following` is the next layer's geometry."""
    says, link, last = network.conventions, network.links[i], i == len(network.links) - 1
    generator = network.role == "generator"
    eps = 1e-5 if link.flat and says.eps == 0.8 else 1e-8 if link.norm == "pixel" else says.eps
    between = (link.between or 0) - int(generator and link.flat and link.norm == "map")
    order: Order = "act-norm" if link.norm != "none" and between > 0 else "norm-act"
    if last:
        return Choice("norm-act", network.output if generator else "none", 0.2, eps)
    act: Activation = says.activation if generator else says.hidden
    if link.slopes is not None:
        act = "prelu"
    elif generator and link.flat and link.norm == "none":
        act = says.bare
    places = _places_for_activation(network, i, following)
    if order == "norm-act" and places is not None and places < 1 and link.slopes is None and not says.settled:
        act = "none"
    return Choice(order, act, 0.2, eps)


def default_reading(network: Network, way: Way, entrance: Entrance | None) -> Reading:
    """The reading that names, places and conventions suggest."""
    following = [*way.steps[1:], None]
    choices = [default_choice(network, i, following[i]) for i in range(len(network.links))]
    return Reading(way, choices, entrance, price=way.price + (entrance.price if entrance else 0.0))


def _with_activation(reading: Reading, activation: Activation, slope: float) -> Reading:
    """A reading with one activation for all layers that have one, but the last."""
    kept = ("none", "prelu")
    choices = [
        c if c.activation in kept or i == len(reading.choices) - 1 else replace(c, activation=activation, slope=slope)
        for i, c in enumerate(reading.choices)
    ]
    return replace(reading, choices=choices)


def alternatives(network: Network, reading: Reading, usual: Sequence[Entrance]) -> list[Reading]:
    """A reading with another activation in all of its layers, or with something else that enters."""
    some = [replace(reading, entrance=entrance) for entrance in usual if entrance is not reading.entrance]
    if network.conventions.settled or not network.links:
        return some
    acts = _activations(replace(network.links[0], slopes=None), "none", [])
    return some + [_with_activation(reading, act, slope) for act, slope, _ in acts if act != "none"]


def homogeneous(reading: Reading) -> list[Reading]:
    """A reading with each of its activations in all of its layers."""
    used = {(c.activation, c.slope) for c in reading.choices[:-1] if c.activation not in ("none", "prelu")}
    return [_with_activation(reading, act, slope) for act, slope in sorted(used)] if len(used) > 1 else []


def from_plain(best: Reading, default: Reading, usual: Activation) -> list[Reading]:
    """Readings like `best` with activations that are no rarer than its own, the plainest first; `best` is the last of them.

    Those that names and places suggest, LeakyReLU of slope 0.2 there, then where `best` has activations the usual one, that
    LeakyReLU, and each of its own in all layers.
    """
    suggested = [
        replace(mine, activation=theirs.activation, slope=theirs.slope)
        for mine, theirs in zip(best.choices, default.choices, strict=True)
    ]
    plain = replace(best, choices=suggested)
    made = [plain, _with_activation(plain, "leaky", 0.2)]
    made += [_with_activation(best, usual, 0.2), _with_activation(best, "leaky", 0.2), *homogeneous(best)]
    distinct: dict[tuple[str, ...], Reading] = {}
    for reading in made:
        if _names(reading) == _names(best):
            break
        distinct.setdefault(_names(reading), reading)
    return [*distinct.values(), best]


def _names(reading: Reading) -> tuple[str, ...]:
    return tuple(choice.name for choice in reading.choices)


# Distances ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distance:
    """How far the input of one BatchNorm is from its stored statistics: in mean and in log variance."""

    layer: str
    mean: float
    variance: float

    @property
    def total(self) -> float:
        """The layer's distance."""
        return self.mean + self.variance


def score(distances: Sequence[Distance]) -> float:
    """The mean over layers; 0 without any."""
    return sum(d.total for d in distances) / len(distances) if distances else 0.0


def distance(x: Tensor, name: str, running_mean: Tensor, running_var: Tensor, updates: int = 0) -> Distance:
    """The distance of an input (N, C) or (N, C, H, W) from running statistics (C,).

    Maps that hardly vary are measured against a hundredth of the median variance, so that noise in dead ones counts little.
    After few `updates` with the usual momentum of 0.1, 0.9^updates of the statistics are still those that a BatchNorm
    starts with, 0 and 1; the smaller distance counts, from them as they are or with that part taken out.
    """
    start = 0.9**updates
    if 0 < updates < YOUNG:
        mean, variance = running_mean / (1 - start), (running_var - start) / (1 - start)
        kinds = [distance(x, name, running_mean, running_var), distance(x, name, mean, variance.clamp(min=0))]
        return min(kinds, key=lambda d: d.total)
    x, rest = x.float(), [d for d in range(x.dim()) if d != 1]
    mean = x.mean(rest, keepdim=True)
    mean, variance = mean.flatten(), (x - mean).square().mean(rest)  # several times as fast as torch.var_mean
    floor = 0.01 * running_var.median() + 1e-8
    away = ((mean - running_mean).square() / (running_var + floor)).mean().sqrt()
    ratio = ((variance + floor) / (running_var.clamp(min=0) + floor)).log().abs().mean()
    numbers = [float(v) if math.isfinite(v) else 1e6 for v in (away, ratio)]
    return Distance(name, *numbers)


def _distance(link: Link, x: Tensor) -> Distance:
    return distance(
        x,
        link.name,
        link.statistics["running_mean"].float(),
        link.statistics["running_var"].float(),
        int(link.statistics["num_batches_tracked"]),
    )


@torch.no_grad()
def check(
    layers: Sequence[nn.Module], names: Sequence[str], x: Tensor, batch: bool = False, limit: float = math.inf
) -> list[Distance]:
    """The distances of a network's BatchNorms on what enters its first layer, (N, inputs, 1, 1), (N, inputs) or images.

    With `batch` each normalises by the batch at hand in place of what it stored. Once their sum exceeds `limit` the rest is
    left out, and the last distance infinite.
    """
    found: list[Distance] = []
    for layer, name in zip(layers, names, strict=False):
        children = dict(layer.named_children())
        x = x.flatten(1) if "project" in children else x
        if found:  # the first layer's statistics are exact only on all of the inputs; later ones average over places
            larger = getattr(children.get("upsample"), "factor", 1) ** 2
            work = sum(p.numel() for p in layer.parameters()) * (x.shape[-1] ** 2 if x.dim() == 4 else 1) * larger
            x = x[: max(64, int(_CHECKED / work))]
        for key, module in children.items():
            if key == "norm" and _counts(module):
                found.append(distance(x, name, module.running_mean, module.running_var, _updates(module)))  # type: ignore[arg-type]
                if sum(d.total for d in found) > limit:
                    return [*found, Distance(name, math.inf, math.inf)]
                if batch:
                    x = F.batch_norm(x, None, None, module.weight, module.bias, True, 0.0, module.eps)  # type: ignore[arg-type]
                    continue
            x = module(x)
    return found


@torch.no_grad()
def measured(runs: Sequence[tuple[nn.Module, Tensor]], batch: bool = False) -> list[Distance]:
    """The distances of a whole network's BatchNorms on all that enters it in some runs of it, say one for each class.

    With `batch` each normalises by the batch at hand in place of what it stored.
    """
    inputs: dict[str, list[Tensor]] = {}
    norms: dict[str, nn.Module] = {}
    for model, x in runs:
        norms = {name: module for name, module in model.named_modules() if _counts(module)}
        hooks = [
            norm.register_forward_pre_hook(lambda _, x, name=name: inputs.setdefault(name, []).append(x[0]))
            for name, norm in norms.items()
        ]
        hooks += [norm.register_forward_hook(_by_batch) for norm in norms.values() if batch]
        try:
            model(x)
        finally:
            for hook in hooks:
                hook.remove()
    return [
        distance(torch.cat(inputs[name]), name.partition(".")[0], norm.running_mean, norm.running_var, _updates(norm))  # type: ignore[arg-type]
        for name, norm in norms.items()
    ]


def _by_batch(norm: nn.Module, x: tuple[Tensor], _: Tensor) -> Tensor:
    return F.batch_norm(x[0], None, None, norm.weight, norm.bias, True, 0.0, norm.eps)  # type: ignore[arg-type]


def _updates(module: nn.Module) -> int:
    counted = getattr(module, "num_batches_tracked", None)
    return 0 if counted is None else int(counted)


def _counts(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm with statistics that training has changed."""
    if (
        not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        or module.running_mean is None
        or module.running_var is None
    ):
        return False
    return bool(module.running_mean.any()) or bool((module.running_var != 1).any())


def work(network: Network, reading: Reading) -> float:
    """Multiplications for one input up to the last layer with statistics."""
    side, total, sums = (1 if reading.entrance else 32), 0.0, [0.0]
    for link, step in zip(network.links, reading.way.steps, strict=True):
        side = step.side(side, link.kernel, link.grid)
        total += (
            link.weight.numel() * (side // (step.stride if step.kind == "deconv" else 1)) ** 2
            if not link.flat
            else link.weight.numel()
        )
        sums.append(total if link.counted else sums[-1])
    return sums[-1]


# The search --------------------------------------------------------------------------------------------------------------


@dataclass
class _State:
    """A reading of the first layers: their geometries and choices, and what the last one's product is on some inputs."""

    entrance: Entrance | None
    x: Tensor  # ahead of the norm of the last layer read, or of its activation where it has no norm
    side: int  # of its maps
    steps: tuple[Geometry, ...] = ()
    choices: tuple[Choice, ...] = ()  # of all layers but the last, whose is open; its order is in `order`
    order: Order = "norm-act"
    early: Choice | None = None  # the activation ahead of the last layer's norm
    distances: tuple[Distance, ...] = ()
    seen: frozenset[int] = frozenset()
    price: float = 0.0

    @property
    def rank(self) -> float:
        """A layer that is far off under every reading prefers none: distances count up to 1."""
        return sum(min(d.total, 1.0) for d in self.distances) + _WEIGHT * self.price


def _activations(link: Link, default: Activation, used: Sequence[str]) -> list[tuple[Activation, float, float]]:
    """Activations to try with their slopes and prices, those of other layers first."""
    known: list[tuple[Activation, float, float]] = [
        ("relu", 0.0, 0.5), ("leaky", 0.2, 0.5), ("none", 0.2, 0.7), ("leaky", 0.01, 0.8), ("leaky", 0.1, 0.8), ("leaky", 0.3, 0.8),
        ("elu", 0.2, 1.2), ("selu", 0.2, 1.2), ("gelu", 0.2, 1.2), ("silu", 0.2, 1.2), ("tanh", 0.2, 1.2),
    ]  # fmt: skip
    if link.slopes is not None:
        known = [("prelu", 0.2, 0.0), *known]
    usual = ("leaky", 0.2) if default == "leaky" else (default, None)
    found = []
    for act, slope, price in known:
        name = f"leaky {slope:g}" if act == "leaky" else act
        if act == usual[0] and usual[1] in (None, slope):
            price = 0.0
        elif name in used:
            price = 0.1
        found.append((act, slope, price))
    return found


def apply(name: Activation, slope: float, slopes: Tensor | None, x: Tensor) -> Tensor:
    """An activation of feature maps or vectors."""
    if name == "leaky":
        return F.leaky_relu(x, slope)
    if name == "prelu" and slopes is not None:
        return F.prelu(x, slopes)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": F.relu,
        "elu": F.elu,
        "selu": F.selu,
        "gelu": F.gelu,
        "silu": F.silu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    function = functions.get(name)
    return x if function is None else function(x)


def _product(network: Network, link: Link, step: Geometry, x: Tensor) -> Tensor:
    """A layer's convolution or projection, (N, outputs, side, side) or (N, outputs)."""
    weight = link.plain_weight(step.kind, network.place)
    bias = None if link.bias is None else link.bias.detach().float()
    if step.kind == "linear":
        x = x.flatten(1)
        if network.conventions.pooled and network.role == "discriminator":
            x = x.unflatten(1, (weight.shape[1], -1)).sum(2)
        return F.linear(x, weight, bias)
    x = x[:, :, None, None] if x.dim() == 2 else x
    x = F.interpolate(x, scale_factor=step.upsample) if step.upsample > 1 else x
    if step.kind == "deconv":
        return F.conv_transpose2d(x, weight, bias, step.stride, step.padding, step.output_padding)
    return F.conv2d(x, weight, bias, step.stride, step.padding)


def _folded(network: Network, link: Link, x: Tensor) -> Tensor:
    return x.unflatten(1, (link.outputs, link.grid, link.grid)) if link.grid > 1 and x.dim() == 2 else x


def _normalised(network: Network, link: Link, eps: float, x: Tensor) -> Tensor:
    """A norm by the statistics of the batch at hand."""
    if link.norm == "none":
        return _folded(network, link, x)
    if link.norm != "unit":
        x = _folded(network, link, x)
    weight, bias = (link.statistics[k].float() if k in link.statistics else None for k in ("weight", "bias"))
    if link.norm == "instance":
        return F.instance_norm(x, None, None, weight, bias, True, 0.0, eps)
    if link.norm == "pixel":
        return x * (x.square().mean(1, keepdim=True) + eps).rsqrt()
    return _folded(network, link, F.batch_norm(x, None, None, weight, bias, True, 0.0, eps))


def _finished(network: Network, i: int, state: _State, choice: Choice) -> Tensor:
    """What the last layer read hands on, with a choice for it."""
    link = network.links[i]
    x = _normalised(network, link, choice.eps, state.x)
    return x if choice.order == "act-norm" else apply(choice.activation, choice.slope, link.slopes, x)


def _late_choices(network: Network, state: _State, i: int) -> list[Choice]:
    """What may follow the norm of layer i, or the layer where it has none, ahead of the next layer."""
    link = network.links[i]
    usual = default_choice(network, i, None)
    epsilons = [(usual.eps, 0.0)]
    if link.counted and not network.conventions.settled and link.statistics["running_var"].median() < 4:
        epsilons += [(eps, 6.0) for eps in (0.8, 1e-5) if abs(math.log(eps / usual.eps)) > 3]
    if state.early is not None:
        return [replace(state.early, eps=eps, price=price) for eps, price in epsilons]
    if network.conventions.settled:
        return [usual]
    used = [choice.name for j, choice in enumerate(state.choices) if j in state.seen]
    wanted = usual.activation if usual.order == "norm-act" else "none"
    tried = _activations(link, wanted, used)
    places = _places_for_activation(network, i, None)
    none_here = places is not None and places < 1 and link.slopes is None
    return [
        Choice("norm-act", act, slope, eps, price + more + 2.0 * (none_here and act != "none"))
        for (eps, more), (act, slope, price) in itertools.product(epsilons, tried)
    ]


def _early_choices(network: Network, i: int, state: _State) -> list[Choice | None]:
    """What may stand between layer i and its norm: nothing, or an activation."""
    link = network.links[i]
    usual = default_choice(network, i, None)
    if not link.counted or network.conventions.settled or link.between == 0:
        return [replace(usual, price=0.0) if usual.order == "act-norm" else None]
    used = [choice.name for j, choice in enumerate(state.choices) if j in state.seen]
    base = network.conventions.activation if network.role == "generator" else network.conventions.hidden
    named = usual.order == "act-norm"
    extra = 0.0 if named else 0.7
    acts = [
        Choice("act-norm", act, slope, usual.eps, price + extra)
        for act, slope, price in _activations(link, base, used) if act != "none"
    ]  # fmt: skip
    if (link.statistics["running_mean"] < 0).any():  # no mean of what ReLU lets through
        acts = [choice for choice in acts if choice.activation != "relu"]
    return sorted([None, *acts], key=lambda c: (0.7 if named else 0.0) if c is None else c.price)


def search(
    network: Network, routes: Routes, entering: Sequence[tuple[Entrance | None, Tensor]], good: float = GOOD
) -> list[Reading]:
    """Readings that fit the stored statistics best, the best first.

    `entering` are inputs of the first layer, for each thing that may enter; `good` is the distance that settles a layer.
    """
    links = network.links
    states = [_State(entrance, x, routes.start, price=entrance.price if entrance else 0.0) for entrance, x in entering]
    for i, link in enumerate(links):
        if not any(later.counted for later in links[i:]):
            break
        states = _extended(network, routes, i, states, good)
        far = [
            min(s.distances[k].total for s in states) > _HOPELESS
            for k in (-1, -2)
            if link.counted and len(states[0].distances) > 1
        ]
        if far and all(far):
            return []
    readings = [_completed(network, routes, state) for state in sorted(states, key=lambda s: s.rank)]
    return readings[:_BEAM]


def _extended(network: Network, routes: Routes, i: int, states: Sequence[_State], good: float) -> list[_State]:
    """Each state with one layer more, the best few.

    Not every combination of a choice behind the layer before, a geometry and an activation ahead of the norm is computed:
    first what is likeliest, then each choice with the likeliest geometry, each geometry with the best choices, and all
    choices with the best geometries.
    """
    found: list[_State] = []
    counted, trials = network.links[i].counted, _Trials(network, routes, i)
    with torch.no_grad():
        for state in states:
            late: list[Choice | None] = [None] if i == 0 else sorted(_late_choices(network, state, i - 1), key=_price)
            early = _early_choices(network, i, state)
            steps = trials.steps(state)
            if not counted:
                found += [trials(state, *plan) for plan in itertools.product(late[:4], steps[:3], early[:1])]
                continue
            made = [trials(state, late[0], steps[0], early[0])]
            if made[0].distances[-1].total >= good:
                made += [trials(state, choice, steps[0], early[0]) for choice in late[1:]]
            if min(s.distances[-1].total for s in made) >= good:
                plain = [c for c in late if c is None or c.activation == "none" or c is late[0]][:3]
                made += [trials(state, c, steps[0], e) for c, e in itertools.product(plain, early[1:])]
            nearest = min(s.distances[-1].total for s in made)
            lost = bool(state.distances) and state.distances[-1].total > _HOPELESS and nearest > _HOPELESS
            if nearest >= good and not lost:
                best = [(s.choices[-1] if i else None, s.early) for s in sorted(made, key=lambda s: s.rank)[:4]]
                made += [trials(state, c, step, e) for (c, e), step in itertools.product(best, steps[1:])]
                forms = list(dict.fromkeys(s.steps[-1] for s in sorted(made, key=lambda s: s.rank)))[:2]
                made += [trials(state, *plan) for plan in itertools.product(late[:12], forms, early[:1])]
                made += [trials(state, *plan) for plan in itertools.product(plain, forms, early[1:])]
            found += made
            if counted and min(s.distances[-1].total for s in made) < good and i == 0:
                break
    found = list({id(s): s for s in found}.values())
    found.sort(key=lambda s: s.rank)
    if counted and found[0].distances[-1].total > _HOPELESS:
        return found[:1]
    return found[: _BEAM if counted else _UNSEEN]


def _price(choice: Choice | None) -> float:
    return choice.price if choice else 0.0


class _Trials:
    """Ways to go on by one layer, each computed once and on no more images than it needs."""

    def __init__(self, network: Network, routes: Routes, i: int) -> None:
        self.network, self.routes, self.i, self.link = network, routes, i, network.links[i]
        self.handed: dict[tuple[int, Choice | None], Tensor] = {}
        self.products: dict[tuple[int, Choice | None, Geometry], Tensor] = {}
        self.done: dict[tuple[int, Choice | None, Geometry, Choice | None], _State] = {}

    def _more(self, state: _State, step: Geometry) -> float | None:
        """What a geometry costs more than the cheapest; None where it leads nowhere."""
        through = self.routes.rest(self.i, state.side)
        after = self.routes.rest(self.i + 1, self.routes.reach(self.i, state.side, step))
        return step.price + after.price - through.price if after and through else None

    def steps(self, state: _State) -> list[Geometry]:
        """The geometries that lead somewhere, the cheapest first."""
        prices = {step: self._more(state, step) for step in self.routes.forms[self.i]}
        return sorted(
            (step for step, price in prices.items() if price is not None), key=lambda step: prices[step] or 0.0
        )

    def __call__(self, state: _State, choice: Choice | None, step: Geometry, early: Choice | None) -> _State:
        """The state with a choice behind the layer before, this layer's geometry and what comes ahead of its norm."""
        key = (id(state), choice, step, early)
        if key not in self.done:
            self.done[key] = self._extend(state, choice, step, early)
        return self.done[key]

    def _extend(self, state: _State, choice: Choice | None, step: Geometry, early: Choice | None) -> _State:
        network, link, i = self.network, self.link, self.i
        x = self._product(state, choice, step)
        x = _folded(network, link, x) if link.norm != "unit" else x
        x = x if early is None else apply(early.activation, early.slope, link.slopes, x)
        price = state.price + (self._more(state, step) or 0.0) + _price(choice) + _price(early)
        named = default_choice(network, i, None).order
        price += 0.7 if early is None and named == "act-norm" else 0.0
        new = _State(
            state.entrance, x, self.routes.reach(i, state.side, step), (*state.steps, step),
            state.choices if choice is None else (*state.choices, choice), "norm-act" if early is None else "act-norm",
            early, state.distances, state.seen, price,
        )  # fmt: skip
        if link.counted:
            new.distances = (*state.distances, _distance(link, x))
            unseen = {j for j in range(i) if not any(network.links[k].counted for k in range(j + 1, i))}
            new.seen = state.seen | frozenset(unseen) | (frozenset({i}) if early is not None else frozenset())
        return new

    def _product(self, state: _State, choice: Choice | None, step: Geometry) -> Tensor:
        before, key = (id(state), choice), (id(state), choice, step)
        if before not in self.handed:
            work = self.link.weight.numel() * max(state.side, 1) ** 2
            rows = max(24, int(_PRODUCTS / work)) if self.link.counted and self.i else len(state.x)
            part = replace(state, x=state.x[:rows])
            self.handed[before] = part.x if choice is None else _finished(self.network, self.i - 1, part, choice)
        if key not in self.products:
            x = self.handed[before]
            self.products[key] = _product(self.network, self.link, step, x)
        return self.products[key]


def _way_on(network: Network, routes: Routes, state: _State) -> Way:
    """A state's steps and the likeliest on; layers that no statistics witness move like those of their kind that are seen."""
    steps, side = list(state.steps), state.side
    seen = [
        (network.links[i].kernel, step) for i, step in enumerate(steps) if step.stride > 1 and network.links[i].counted
    ]
    for i in range(len(steps), len(network.links)):
        rest = routes.rest(i, side)
        assert rest is not None  # no step was taken that leads nowhere
        step = rest.steps[0]
        alike = [other for kernel, other in seen if kernel == network.links[i].kernel and other.kind == step.kind]
        if step.stride > 1 and alike:
            like = replace(Counter(replace(other, price=0.0) for other in alike).most_common(1)[0][0], price=step.price)
            step = like if routes.rest(i + 1, routes.reach(i, side, like)) else step
        steps.append(step)
        side = routes.reach(i, side, step)
    end = routes.rest(len(steps), side)
    assert end is not None
    return Way(tuple(steps), end.side, end.resize, 0.0)


def _completed(network: Network, routes: Routes, state: _State) -> Reading:
    """A state as a whole reading: layers that no statistics witness are read as those that are."""
    way = _way_on(network, routes, state)
    reading = default_reading(network, way, state.entrance)
    reading.price, reading.seen = state.price, set(state.seen)
    for i, choice in enumerate(state.choices):
        reading.choices[i] = choice
    witnessed = [reading.choices[i] for i in sorted(state.seen) if i < len(state.choices)]
    if state.early is not None and len(state.choices) < len(network.links):
        reading.choices[len(state.choices)] = state.early
        witnessed.append(state.early)
    for i in range(len(state.choices), len(network.links) - 1):
        link, usual = network.links[i], reading.choices[i]
        if usual.activation in ("none", "prelu") or (i == len(state.choices) and state.early is not None):
            continue
        like = [c for c in witnessed if c.activation != "none"]
        if like:
            (order, act, slope, eps), _ = Counter((c.order, c.activation, c.slope, c.eps) for c in like).most_common(1)[
                0
            ]
            order = "norm-act" if link.norm == "none" or state.order == "norm-act" else order
            reading.choices[i] = replace(
                usual, order=order, activation=act, slope=slope, eps=eps if link.counted else usual.eps
            )
    return reading
