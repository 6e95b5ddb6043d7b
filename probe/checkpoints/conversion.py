"""A network found in a checkpoint as one of probe's own modules, read as its own statistics ask for.

generator(network, ...)      a probe Generator, how it was read and how far that is from its statistics
discriminator(network, ...)  a probe Discriminator, likewise, on samples of its generator
assemble(...)                a module around given weights
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.checkpoints import identify
from probe.checkpoints.chains import Network
from probe.checkpoints.geometry import discriminator_routes, generator_routes, unreachable
from probe.checkpoints.identify import Distance, Entrance, Reading
from probe.models.dcgan import Block, Discriminator, Generator, Layer
from probe.models.gan import GAN, Prior, takes_batch_statistics, use_batch_statistics

_Model = TypeVar("_Model", Generator, Discriminator)
_N = 256  # inputs of a check

SURE, LIKELY = 0.03, 0.3
"""A generator's score: consistent below the first; between the two, where no other reading is much nearer."""
UNSURE, LENIENT = 0.06, 1.0
"""A discriminator's: its statistics are those of real images, too."""
_LARGE = 5e7  # multiplications an image; above, a search of half a minute is left to networks that need it
_NEARER = 0.6  # of a plainer reading's score: what another must reach
_LEAKY = 0.7  # likewise, LeakyReLU of slope 0.2 in all layers, which a quarter of public generators have
_MIXED = 0.5  # likewise, activations that differ from layer to layer
_TRIFLE = 0.4  # likewise, LeakyReLU of slope 0.01 in place of ReLU, which draws nearly the same
_CLOSE = 1.5  # times the score within which another activation is named beside the one that is taken
DRIFTED = 0.45
"""Distance of a layer, normalising by the batch, within which drifted statistics are told from a wrong reading."""


def generator(
    network: Network, prior: Prior | None, label: int | None = None, size: int | None = None
) -> tuple[Generator, Prior, dict[str, Any], Callable[[int], Generator] | None]:
    """A found generator as probe's own module, float32, in eval mode, its prior, and the verdict on how it was read.

    Last, of a conditional one, what makes that of another class.

    Of a conditional one, that of class `label`; `size` is its images' side where that is known. Raises ProbeError for a conditional one without a class, a class it has not,
    and a class where there are none.
    """
    routes, links = generator_routes(network, size), network.links
    way = routes.best()
    if way is None:
        raise ProbeError(f"{network.place}: {unreachable(network)}; expected one of {size or '16 to 1024'} px")
    usual = identify.entrances(network, prior)
    inputs, says = links[0].inputs, network.conventions
    if network.table is not None:
        _require_class(network, len(network.table.values), label)
    default = identify.default_reading(network, way, usual[0])
    reason, young = _unchecked(network), _young(network)
    if reason:
        verdict: dict[str, Any] = {"verdict": "unchecked", "reason": reason}
        chosen = default
        if (share := _normalised_by_pixel(network, default, size)) is not None:
            chosen = default = identify.default_reading(network, way, usual[0])
            verdict["changed"] = [
                f"PixelNorm behind each activation: without it {share:.0%} of its pixels are black or white"
            ]
    else:

        def measure(reading: Reading, batch: bool = False, limit: float = math.inf) -> list[Distance]:
            assert reading.entrance is not None
            return _measure(network, reading, reading.entrance.draw(_n(inputs), inputs, 1), batch or young, limit)

        def candidates(guess: bool) -> list[Reading]:
            some = usual
            if guess:
                first = measure(default)[0].total
                some = identify.fitting(network, routes, identify.one_hots(network, prior), first)
            return identify.search(network, routes, [(e, e.draw(_n(inputs), inputs)) for e in some]) if some else []

        guessing = network.table is None and not says.settled and inputs > 4
        chosen, verdict = _judge(
            network,
            default,
            measure,
            candidates,
            (SURE, LIKELY),
            lambda r: identify.alternatives(network, r, usual),
            guessing,
            prior is not None,
        )
    entrance = chosen.entrance
    assert entrance is not None
    if entrance.classes and network.table is None:
        _require_class(network, entrance.classes, label, "its statistics say so")
    elif label is not None and not entrance.classes:
        raise ProbeError(f"{network.place}: class {label} of a generator without classes; leave `label` out")
    verdict |= {"layers": _evidence(network, chosen, default, verdict), "score": verdict.get("score")}
    verdict |= _of_youth(verdict) if young else {}
    verdict["size"] = chosen.way.size
    verdict["prior"] = _prior_evidence(entrance, prior, verdict)
    if entrance.classes:
        verdict["class"] = {"label": label, "classes": entrance.classes, "how": entrance.how, "from": entrance.name}
    blocks, state = chosen.blocks(network), _state(network, chosen)

    def at(label: int | None) -> Generator:
        if label is not None:
            _require_class(network, entrance.classes, label)
        first, entered = _entered(blocks[0], state, entrance, label)
        return assemble(network.place, Generator, [first, *blocks[1:]], entered)

    named: Prior = "normal" if entrance.source == "normal" else "uniform"
    return at(label), named, verdict, at if entrance.classes else None


def discriminator(
    network: Network, size: int, images: Tensor | None = None, others: Tensor | None = None, unit: bool = False
) -> tuple[Discriminator, dict[str, Any]]:
    """A found discriminator as probe's own module, for images of a size, and the verdict on how it was read.

    `images` (N, channels, size, size) are samples of its generator in [-1, 1], `others` those in [0, 1] that the generator
    would make with a sigmoid in place of its tanh: where they fit much better, the verdict has `sigmoid`. `unit` says that
    its generator made images in [0, 1], which are brought to [-1, 1] now. Raises ProbeError where it takes others.
    """
    if network.table is not None:
        raise ProbeError(
            f"{network.place}: a conditional discriminator ({network.table.name}), which takes a class; leave it out"
        )
    routes = discriminator_routes(network, size)
    way = routes.best()
    if way is None:
        found = f"no usual strides take this discriminator from the generator's {size} px images to one number"
        raise ProbeError(f"{network.place}: {found}; pass the discriminator that was trained with it")
    default = identify.default_reading(network, way, None)
    reason, young = _unchecked(network), _young(network)
    if reason is None and images is None:
        reason = "there are no images to run through it"
    if reason or images is None:
        chosen, verdict = default, dict[str, Any](verdict="unchecked", reason=reason)
    else:
        seen = (images + 1) / 2 if unit else images

        def measure(reading: Reading, batch: bool = False, limit: float = math.inf) -> list[Distance]:
            return _measure(network, reading, seen, batch or young, limit)

        def candidates(_: bool) -> list[Reading]:
            return identify.search(network, routes, [(None, seen[:128])], good=0.2)

        sigmoid = False
        if others is not None and identify.score(measure(default)) > SURE:
            by_sigmoid = identify.score(_measure(network, default, others, False))
            sigmoid = by_sigmoid < 0.5 * identify.score(measure(default))
        seen = others if sigmoid and others is not None else (images + 1) / 2 if unit else images
        limits = (UNSURE, LIKELY if young else LENIENT)
        chosen, verdict = _judge(
            network, default, measure, candidates, limits, lambda r: identify.alternatives(network, r, [])
        )
        if young and verdict["verdict"] == "inconsistent":  # which says nothing yet
            distances = measure(default)
            chosen, verdict = default, said("consistent", identify.score(distances), distances)
        verdict |= {"sigmoid": True} if sigmoid else {}
    verdict |= {"layers": _evidence(network, chosen, default, verdict), "score": verdict.get("score")}
    verdict |= _of_youth(verdict) if young else {}
    _spread_pooled(network, chosen, size)
    blocks = chosen.blocks(network)
    blocks[0] = replace(blocks[0], unit_input=unit or "sigmoid" in verdict)
    return assemble(network.place, Discriminator, blocks, _state(network, chosen)), verdict


def with_sigmoid(model: Generator) -> Generator:
    """A generator whose images come from a sigmoid, in [0, 1] before they are brought to [-1, 1], in place of its tanh."""
    blocks = [*model.blocks[:-1], replace(model.blocks[-1], activation="sigmoid", unit_range=True)]
    return assemble("generator", Generator, blocks, dict(model.state_dict()))


def from_unit_range(model: Generator) -> Generator:
    """A generator whose images lie in [0, 1], with images in [-1, 1]."""
    blocks = [*model.blocks[:-1], replace(model.blocks[-1], unit_range=True)]
    return assemble("generator", Generator, blocks, dict(model.state_dict()), takes_batch_statistics(model))


def adapt_range(gan: GAN) -> None:
    """Bring the images of a generator that was trained on pixels in [0, 1] to [-1, 1], and note that this is assumed.

    Its tanh, or whatever it ends in, then gives next to nothing below 0 and many pixels near it; of pixels in [-1, 1] about
    half are negative.
    """
    model = gan.generator
    if not isinstance(model, Generator) or model.blocks[-1].unit_range:
        return
    drawn = gan.sample(64, seed=2).flatten()
    low, high = torch.quantile(drawn[:: max(1, len(drawn) // 100_000)], torch.tensor([0.02, 0.998])).tolist()
    if not (-0.05 <= low <= 0.1 and high > 0.5):
        return
    gan.generator, by_class = from_unit_range(model), gan.by_class
    if by_class is not None:
        gan.by_class = lambda label: from_unit_range(by_class(label))  # type: ignore[arg-type]
    gan.provenance.setdefault("assumed", []).append(
        f"its images lie in [0, 1] (98 % of the pixels of 64 samples are above {low:.2f}); they are brought to [-1, 1]"
    )


def _n(inputs: int) -> int:
    return max(_N, 3 * inputs) if inputs <= 256 else _N


def _require_class(network: Network, classes: int, label: int | None, why: str = "") -> None:
    table = f"{network.table.name} {tuple(network.table.values.shape)}" if network.table else why
    if label is None:
        found = f"a conditional generator of {classes} classes ({table})"
        raise ProbeError(f"{network.place}: {found}; choose one with `label` 0 to {classes - 1}")
    if not 0 <= label < classes:
        raise ProbeError(f"{network.place}: class {label}: expected 0 to {classes - 1}")


def _unchecked(network: Network) -> str | None:
    """Why a network's statistics say nothing about how it is read, or None."""
    if any(link.counted for link in network.links):
        return None
    norms = {link.norm for link in network.links} - {"none"}
    if not norms:
        return "it has no BatchNorm"
    if not norms & {"map", "unit"}:
        return "it has no BatchNorm with statistics"
    return "its running statistics were never updated" if network.conventions.statistics else "the format stores none"


def _normalised_by_pixel(network: Network, default: Reading, size: int | None) -> float | None:
    """Whether a generator without norms draws sensible images only with PixelNorm, which has no weights, in each hidden layer.

    Without it, as the weights of such generators are large, most pixels are black and most of the rest are white; their share
    is returned, and the network's links get the norm. None where it has norms, or draws well without.
    """
    links = network.links[:-1]
    if network.table is not None or any(link.norm != "none" for link in links) or default.entrance is None:
        return None
    z = default.entrance.draw(32, network.links[0].inputs, 1)

    def saturated() -> list[float]:
        reading = identify.default_reading(network, default.way, default.entrance)
        model = assemble(network.place, Generator, reading.blocks(network), _state(network, reading))
        with torch.no_grad():
            x = model(z)
        return [float((x > 0.99).float().mean()), float((x < -0.99).float().mean())]

    before = saturated()
    if min(before) < 0.2:
        return None
    for link in links:
        link.norm, link.between = "pixel", 1  # an activation lies between
    if max(saturated()) > 0.1:
        for link in links:
            link.norm = "none"
        return None
    return sum(before)


def _young(network: Network) -> bool:
    """Whether a network's statistics are of so few updates that what it was trained with never was what they say.

    Such files are compared where each batch normalises itself, as in training.
    """
    counts = [int(link.statistics.get("num_batches_tracked", 0)) for link in network.links if link.counted]
    return any(0 < n < identify.YOUNG for n in counts)


def _of_youth(verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict on a network of few updates: a reading that fits where each batch normalises itself is not confirmed."""
    if verdict["verdict"] not in ("consistent", "identified"):
        return {}
    found = f"its statistics are of fewer than {identify.YOUNG} updates"
    fits = f"where each batch normalises itself, they fit with a distance of {verdict['score']:.2f}"
    return {"verdict": "unchecked", "reason": f"{found} ({fits})", "young": True}


# The verdict -------------------------------------------------------------------------------------------------------------


def _judge(
    network: Network,
    default: Reading,
    measure: Any,
    candidates: Any,
    limits: tuple[float, float],
    others_alike: Callable[[Reading], list[Reading]],
    guessing: bool = False,
    given: bool = False,
) -> tuple[Reading, dict[str, Any]]:
    """The reading to take, and what the statistics say to it."""
    sure, likely = limits
    distances = measure(default)
    before = identify.score(distances)
    if before <= sure or network.conventions.settled:  # nothing else need be tried
        kind = "consistent" if before <= likely else "inconsistent"
        return default, said(kind, before, distances) | ({"tried": "nothing else"} if kind != "consistent" else {})
    others: list[Reading] = []
    tried: list[tuple[float, Reading]] = [(before, default)]

    def total(reading: Reading, limit: float) -> float:
        found = identify.score(measure(reading, limit=limit * len(distances)))
        tried.append((found, reading))
        return found

    best, nearest = default, before
    for guess in (None, False, True) if guessing else (None, False):
        if guess is not None and (
            nearest <= max(sure, 0.06) or (nearest <= likely and identify.work(network, default) > _LARGE)
        ):
            break
        some = others_alike(default) if guess is None else candidates(guess)
        others += [_with_eps(reading, default) for reading in some] if guess is False else []
        for reading in some:
            found = total(reading, _CLOSE * nearest)
            best, nearest = (reading, found) if found < nearest - 0.002 else (best, nearest)
    best, nearest = _plainest(network, default, best, nearest, likely, total)
    changed = _changes(network, default, best)
    alone = replace(best, choices=default.choices, seen=default.seen, price=default.price)
    activations_alone = not _changes(network, default, alone) and all(
        (a.order, a.eps) == (b.order, b.eps) for a, b in zip(best.choices, default.choices, strict=True)
    )
    if changed and nearest <= likely and (activations_alone or nearest < _NEARER * before):
        verdict = said("identified", nearest, measure(best)) | {"before": before, "changed": changed}
        return best, verdict | _close(best, nearest, tried)
    if before <= likely:
        return default, said("consistent", before, distances) | _close(default, before, tried)
    verdict = said("inconsistent", before, distances)
    others += [alike for reading in others[:1] for alike in identify.homogeneous(reading)]
    by_batch = [(r, measure(r, batch=True)) for r in (default, *others)]
    reading, drifting = min(by_batch, key=lambda pair: sum(min(d.total, 1.0) for d in pair[1]) + 0.1 * _unlike(pair[0]))
    drift = [d for d in drifting if d.total < DRIFTED]
    if not given and len(drifting) > 2 and len(drift) > len(drifting) / 2:
        verdict = said("inconsistent", identify.score(measure(reading)), measure(reading))
        verdict |= {
            "drifted": True,
            "by_batch": identify.score(drifting),
            "changed": _changes(network, default, reading),
        }
        best = reading
    else:
        best = default
    worst = max(verdict["distances"], key=lambda d: d["mean"] + d["variance"])
    verdict["worst"] = worst["layer"]
    verdict["tried"] = "activations, slopes, order of norm and activation, strides, eps" + (
        ", priors, classes" if guessing else ""
    )
    verdict["best_tried"] = nearest
    return best, verdict


def _plainest(
    network: Network,
    default: Reading,
    best: Reading,
    nearest: float,
    likely: float,
    total: Callable[[Reading, float], float],
) -> tuple[Reading, float]:
    """The plainest reading that `best` is not clearly nearer than, and its score.

    Statistics lag behind weights, so that some rare combination of activations or strides nearly always fits a little better
    than the true one.
    """
    if best is default:
        return best, nearest
    if _changes(network, default, replace(default, way=best.way)):
        usual = replace(best, way=default.way)
        found = total(usual, min(likely, nearest / _NEARER))
        best, nearest = (usual, found) if found <= min(likely, nearest / _NEARER) else (best, nearest)
    says = network.conventions
    plain, least = best, math.inf
    for reading in identify.from_plain(best, default, says.activation if network.role == "generator" else says.hidden):
        limit = _margin(reading) * least
        found = nearest if reading is best else total(reading, limit)
        plain, least = (reading, found) if found < limit else (plain, least)
    return plain, least


def _margin(reading: Reading) -> float:
    """What part of a plainer reading's score this one must reach."""
    names = {choice.name for choice in reading.choices[:-1]} - {"none", "prelu"}
    alike = {"leaky 0.2": _LEAKY, "leaky 0.01": _TRIFLE}
    return _MIXED if len(names) > 1 else alike.get(names.pop(), _NEARER) if names else _NEARER


def _close(taken: Reading, score: float, tried: Sequence[tuple[float, Reading]]) -> dict[str, Any]:
    """The nearest reading with clearly another activation whose score is almost that of the one taken, where there is one."""
    rivals = [
        (total, reading)
        for total, reading in tried
        if total <= _CLOSE * score
        and any(_apart(a, b) for a, b in zip(reading.choices[:-1], taken.choices[:-1], strict=True))
    ]
    if not rivals:
        return {}
    total, reading = min(rivals, key=lambda pair: pair[0])
    names = dict.fromkeys(c.name for c in reading.choices[:-1])
    return {"close": {"activations": list(names), "score": round(total, 4)}}


def _apart(one: identify.Choice, other: identify.Choice) -> bool:
    """Whether two activations draw different images: ReLU and LeakyReLU of slope 0.01 hardly do."""
    slopes = [c.slope if c.activation == "leaky" else 0.0 if c.activation == "relu" else math.inf for c in (one, other)]
    return one.name != other.name and not abs(slopes[0] - slopes[1]) < 0.02


def _unlike(reading: Reading) -> float:
    """How unusual a reading is: its price, and different activations."""
    return reading.price + len({c.name for c in reading.choices[:-1]})


def _with_eps(reading: Reading, default: Reading) -> Reading:
    """A reading with the usual eps, which drifted statistics cannot tell."""
    choices = [replace(c, eps=d.eps) for c, d in zip(reading.choices, default.choices, strict=True)]
    return replace(reading, choices=choices)


def said(verdict: str, total: float, distances: Sequence[Distance]) -> dict[str, Any]:
    """A verdict with its score, and the distance of each layer."""
    layers = [{"layer": d.layer, "mean": round(d.mean, 4), "variance": round(d.variance, 4)} for d in distances]
    return {"verdict": verdict, "score": round(total, 4), "distances": layers}


def _measure(
    network: Network, reading: Reading, x: Tensor, batch: bool = False, limit: float = math.inf
) -> list[Distance]:
    """The distances of a reading's BatchNorms on inputs of its first layer."""
    blocks, state = reading.blocks(network), _state(network, reading)
    layers = []
    for i, block in enumerate(blocks, 1):
        if not any(link.counted for link in network.links[i - 1 :]):
            break
        prefix = f"layer{i}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        layers.append(_layer(network.place, f"layer{i}", block, own))
    x = x[:, :, None, None] if x.dim() == 2 and blocks[0].kind != "linear" else x
    return identify.check(layers, [link.name for link in network.links], x, batch, limit)


def _layer(place: str, name: str, block: Block, state: dict[str, Tensor]) -> Layer:
    with torch.device("meta"):
        layer = Layer(block)
    _fill(place, layer, state, f"{name}.")
    return layer.eval()


def _changes(network: Network, default: Reading, chosen: Reading) -> list[str]:
    """What a reading has otherwise than the usual one, in words."""
    found = []
    a, b = default.entrance, chosen.entrance
    if a and b and a.source != b.source:
        found.append(f"latents from {_LATENTS[b.source]}, not {_LATENTS[a.source]}")
    if a and b and b.how != a.how:
        found.append(f"{b.name} classes {b.how} the latents" if b.values is not None else "no classes")
    for link, old, new, was, is_ in zip(
        network.links, default.choices, chosen.choices, default.way.steps, chosen.way.steps, strict=True
    ):
        if old.name != new.name:
            found.append(f"{link.name}: {new.name}, not {old.name}")
        if old.order != new.order and link.norm != "none":
            found.append(f"{link.name}: {'activation before' if new.order == 'act-norm' else 'norm before'} the other")
        if link.norm != "none" and old.eps != new.eps:
            found.append(f"{link.name}: eps {new.eps:g}, not {old.eps:g}")
        if replace(was, price=0.0) != replace(is_, price=0.0):
            found.append(f"{link.name}: {_form(is_)}, not {_form(was)}")
    if default.way.resize != chosen.way.resize:
        found.append(f"interpolated to {chosen.way.resize} px" if chosen.way.resize else "not interpolated")
    return found


_LATENTS = {"normal": "N(0, 1)", "uniform": "U(-1, 1)", "unit": "U(0, 1)"}


def _form(step: Any) -> str:
    words = f"{step.kind} of stride {step.stride}, padding {step.padding}"
    words += f", output padding {step.output_padding}" if step.output_padding else ""
    return words + (f", behind an enlargement by {step.upsample}" if step.upsample > 1 else "")


def _evidence(network: Network, chosen: Reading, default: Reading, verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """For each layer what it is, and from where that is known."""
    told = verdict["verdict"] in ("consistent", "identified")
    moved = {d["layer"]: d for d in verdict.get("distances", [])}
    found = []
    for i, (link, block, choice) in enumerate(zip(network.links, chosen.blocks(network), chosen.choices, strict=True)):
        last = i == len(network.links) - 1
        witnessed = (
            told and any(later.counted for later in network.links[i + (choice.order == "norm-act") :]) and not last
        )
        after = any(later.counted for later in network.links[i + 1 :])
        if choice.activation == "prelu":
            known = "file"
        elif witnessed and (after or choice.order == "act-norm"):
            known = "statistics"
        elif link.after == 0 and choice.activation == "none" and not last:
            known = "places in the Sequential"
        else:
            known = "format" if network.conventions.settled else "assumed"
        entry: dict[str, Any] = {
            "layer": link.name, "kind": block.kind, "inputs": block.inputs, "outputs": block.outputs,
            "activation": choice.name, "activation_from": known,
        }  # fmt: skip
        if block.kind != "linear":
            entry |= {"kernel": block.kernel, "stride": block.stride, "padding": block.padding}
            entry |= {
                k: v
                for k, v in (("output_padding", block.output_padding), ("upsample", block.upsample))
                if v > (k == "upsample")
            }
            entry["geometry_from"] = "statistics" if told and link.counted else "shapes and image size"
        if block.norm != "none":
            entry |= {
                "norm": {"map": "BatchNorm2d", "unit": "BatchNorm1d", "instance": "InstanceNorm2d"}.get(
                    block.norm, "PixelNorm"
                )
            }
            entry |= {"order": choice.order, "eps": choice.eps}
            entry["norm_from"] = {"instance": "assumed: GroupNorm has the same shapes", "pixel": "assumed"}.get(
                block.norm, "shape"
            )
        if link.name in moved:
            entry["distance"] = round(moved[link.name]["mean"] + moved[link.name]["variance"], 4)
        if last and network.role == "generator":
            entry["images"] = f"interpolated to {block.resize} px" if block.resize else "as made"
        found.append(entry)
    return found


def _prior_evidence(entrance: Entrance, given: Prior | None, verdict: dict[str, Any]) -> dict[str, str]:
    told = verdict["verdict"] in ("consistent", "identified")
    source = "given" if given else "statistics" if told else "assumed"
    return {"latents": _LATENTS[entrance.source], "from": source}


# Weights -----------------------------------------------------------------------------------------------------------------


def _entered(
    block: Block, state: dict[str, Tensor], entrance: Entrance, label: int | None
) -> tuple[Block, dict[str, Tensor]]:
    """A generator's first layer as one of latents from N(0, 1) or U(-1, 1) alone: class and range become weights and bias."""
    if entrance.values is None and entrance.source != "unit":
        return block, state
    name = "project" if block.kind == "linear" else "conv"
    matrix, state = _matrix(block, state[f"layer1.{name}.weight"]), dict(state)  # (inputs, outputs, ...)
    constant = torch.zeros_like(matrix[0])
    if entrance.values is not None:
        row, nz = entrance.values[label or 0].to(matrix), entrance.noise(len(matrix))
        if entrance.how == "times":
            matrix = matrix * row.view(-1, *[1] * (matrix.dim() - 1))
        else:
            noise, classes = (matrix[:nz], matrix[nz:]) if entrance.how == "after" else (matrix[-nz:], matrix[:-nz])
            constant, matrix = torch.tensordot(row, classes, ([0], [0])), noise
    if entrance.source == "unit":
        constant, matrix = constant + matrix.sum(0) / 2, matrix / 2
    old = state.pop(f"layer1.{name}.bias", None)
    del state[f"layer1.{name}.weight"]
    if old is not None:
        constant = constant + (old if block.kind == "linear" else old[:, None, None])
    grid = block.grid if block.kind == "linear" else matrix.shape[-1]
    state["layer1.project.weight"], state["layer1.project.bias"] = matrix.flatten(1).T, constant.flatten()
    linear = replace(block, kind="linear", inputs=len(matrix), bias=True, grid=grid, kernel=4, stride=2, padding=1)
    return replace(linear, output_padding=0, upsample=1), state


def _matrix(block: Block, weight: Tensor) -> Tensor:
    """What a first layer makes of each input, (inputs, outputs) or (inputs, maps, side, side)."""
    if block.kind == "linear":
        return weight.T
    ones = torch.eye(block.inputs)[:, :, None, None]
    return F.conv_transpose2d(ones, weight, None, block.stride, block.padding, block.output_padding)


def _spread_pooled(network: Network, reading: Reading, size: int) -> None:
    """A linear layer over sums of maps becomes one over positions."""
    side = size
    for i, (link, step) in enumerate(zip(network.links, reading.way.steps, strict=True)):
        if not link.flat:
            side = step.side(side, link.kernel)
        elif network.conventions.pooled and link.inputs == network.links[i - 1].outputs and side > 1:
            link.weight = link.plain_weight("linear", network.place)[:, :, None].expand(-1, -1, side**2).flatten(1)
            link.spectral, link.inputs, side = [], link.weight.shape[1], 1


def _state(network: Network, reading: Reading) -> dict[str, Tensor]:
    """The state dict of probe's own module; raises ProbeError where a weight is not finite."""
    state = {}
    for i, (link, step, choice) in enumerate(zip(network.links, reading.way.steps, reading.choices, strict=True), 1):
        entries = {"weight": link.plain_weight(step.kind, network.place)}
        entries |= {} if link.bias is None else {"bias": link.bias}
        for leaf, tensor in entries.items():
            state[f"layer{i}.{'project' if link.flat else 'conv'}.{leaf}"] = tensor.detach().float()
        if choice.activation == "prelu" and link.slopes is not None:
            state[f"layer{i}.act.weight"] = link.slopes.float()
        for leaf, tensor in link.statistics.items():
            state[f"layer{i}.norm.{leaf}"] = tensor.detach().float() if tensor.dim() else tensor.detach().long()
        if not all(tensor.isfinite().all() for key, tensor in state.items() if key.startswith(f"layer{i}.")):
            raise ProbeError(
                f"{network.place}: layer {link.name} holds NaN or infinite weights; use an earlier checkpoint"
            )
    return state


def assemble(
    place: str, kind: type[_Model], blocks: Sequence[Block], state: dict[str, Tensor], batch_statistics: bool = False
) -> _Model:
    """A network around given weights, in eval mode, without initialising any (so no random number is drawn)."""
    with torch.device("meta"):
        model = kind(blocks)
    if batch_statistics:
        use_batch_statistics(model)
    _fill(place, model, state)
    return model.eval()


def _fill(place: str, model: torch.nn.Module, state: dict[str, Tensor], prefix: str = "") -> None:
    try:
        model.load_state_dict({key: tensor.contiguous() for key, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).replace(" for ", f" for {prefix}", 2).split())[:200]
        raise ProbeError(
            f"{place}: the weights do not fit the network ({reason}); fetch or save the checkpoint again"
        ) from None
