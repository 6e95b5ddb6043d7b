"""What a discriminator's units see (Fig. 5 of the paper), and whether the picture depends on what was learnt.

For each unit the images and places of largest response are found, and that one response is propagated back to the pixels
by a rule (rules.py). Beside it the same for random weights, whose maxima are their own, and the sanity checks (sanity.py),
which keep the trained network's images, places and units.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.base.parameters import numbers
from probe.concepts.segmenters import Segmenter
from probe.measures.statistics import Array
from probe.models.gan import GAN, estimate_statistics, to_bytes
from probe.models.hooks import Site, resolve
from probe.questions.guided_backprop import sanity
from probe.questions.guided_backprop.lens import Lens, Source, Top, gradients, scan
from probe.questions.guided_backprop.naming import name_units
from probe.questions.guided_backprop.receptive import cut, inside
from probe.questions.guided_backprop.rules import RULES, Rule
from probe.results.result import Result

Report = Callable[[str, int, int], None]
Policy = Literal["running", "data", "batch"]
SHOWN, _ROWS = 6, 24  # rows of the figure: of `top` and `all`, and at most
OUTSIDE = -128  # marks what lies outside of the image in int8 gradients
_CALIBRATION = 512  # images from which a randomised network takes its BatchNorm statistics
_ESTIMATION = 2048  # and the trained one, where they are estimated
SEEDS = {"fast": 3, "full": 5}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `guided`. `units` is `0-5`, `top` or `all`; `batchnorm` None takes `running` where stored, else `data`.

    `sanity` is `fast` (all layers random, the last one random; 3 seeds) or `full` (every layer, 5 seeds); `inputs` shows the crops.
    """

    layer: str = "-1"
    units: str = "0-5"
    rule: Rule = "guided"
    crops: int = 5
    batchnorm: Policy | None = None
    sanity: str = "fast"
    inputs: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crops < 1:
            raise ProbeError(f"crops {self.crops}: expected at least 1")
        if self.rule not in RULES:
            raise ProbeError(f"rule {self.rule}: expected {', '.join(RULES)}")
        if self.sanity not in SEEDS or self.batchnorm not in (None, *get_args(Policy)):
            found = f"sanity {self.sanity}, batchnorm {self.batchnorm}"
            raise ProbeError(f"{found}: expected fast or full, and {', '.join(get_args(Policy))}")


def parse_units(text: str, site: Site) -> list[int]:
    """The units of a layer that a text names; for `top` all, to be ranked after the scan.

    Raises ProbeError for one that the layer does not have.
    """
    if text in ("all", "top"):
        return list(range(site.maps))
    units = list(numbers(text, "units"))
    wrong = [u for u in units if u >= site.maps]
    if len(units) > _ROWS:
        raise ProbeError(
            f"units {text}: {len(units)} units; a figure shows up to {_ROWS}, `all` makes an atlas of every unit"
        )
    if wrong:
        raise ProbeError(f"unit {wrong[0]}: {site.name} has {site.maps} units, 0 to {site.maps - 1}")
    return units


def fit_policy(gan: GAN, wanted: Policy | None) -> Policy:
    """Where the discriminator's BatchNorm statistics come from: what is wanted, else those stored, else the data.

    Raises ProbeError where stored ones are wanted and there are none.
    """
    norms = [m for m in gan.require_discriminator().modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    stored = all(m.running_mean is not None for m in norms)
    if wanted == "running" and not stored:
        raise ProbeError(
            "batchnorm running: the checkpoint stores no running statistics of its discriminator; take data or batch"
        )
    return wanted or ("running" if stored else "data")


def guided(
    gan: GAN, source: Source, settings: Settings, segmenter: Segmenter | None = None, report: Report | None = None
) -> Result:
    """Find what excites units most and go back from it to the pixels, for the trained and for random weights.

    Arrays: `gradients` and `random_gradients` (U, K, C, R, R) int8 in units of `scale` / 127, -128 outside of the image;
    `inputs`, `random_inputs` uint8; `units` (U,), `values` (U, K), `images` (U, K), `places` (U, K, 2), and the same with
    `random_`; the sanity checks' pictures `example_maps` (4, U, C, R, R) and `similarity` (rows, seeds, U·K, 4). U are the
    figure's; with units `all` there is also `atlas_*` of every unit. `segmenter` names units by what it sees.
    Raises ProbeError for a missing discriminator, a layer, unit or activation that does not fit, fewer images than crops,
    and where the rule changed nothing.
    """
    run = _Run(gan, source, settings, report or (lambda *_: None))
    found = run.scan(run.lens, run.candidates, "scanning")
    shown = found.rows(_shown(found, settings.units))
    maps = gradients(run.lens, source, shown, run.by_batch)
    plain = gradients(run.twin(run.trained, "gradient"), source, shown, run.by_batch)
    difference = _difference(maps, plain, run.lens)
    other = run.twin(run.random(None, settings.seed), settings.rule)
    random = run.scan(other, shown.units.tolist(), "scanning with random weights")
    arrays = _pictures("", shown, maps, run.lens, source)
    arrays |= _pictures("random_", random, gradients(other, source, random, False), other, source)
    verdict, checked = run.check(shown, maps, plain)
    arrays |= checked
    named = found if settings.units == "all" else shown
    metrics: dict[str, Any] = {
        "layer": run.site.name,
        "maps_total": run.site.maps,
        "units": shown.units.tolist(),
        "images": source.count,
        "rule": settings.rule,
        "activations_replaced": run.lens.rectifiers,
        "difference_from_gradient": difference,
        "batchnorm": run.policy,
        "receptive_field": asdict(run.lens.field),
        "never_positive": int((found.values[:, 0] <= 0).sum()),
        "sanity": verdict,
        "concepts": name_units(run.twin(run.trained, settings.rule), source, named.units, segmenter, settings.seed),
    }
    if settings.units == "all":
        run.tell("atlas", 0, 1)
        arrays |= _pictures("atlas_", found, gradients(run.lens, source, found, run.by_batch), run.lens, source)
        run.tell("atlas", 1, 1)
    return Result(
        "guided-backprop", metrics, asdict(settings) | {"data": source.name}, run.notes(), dict(gan.provenance), arrays
    )


def _shown(found: Top, units: str) -> list[int]:
    """Positions of the units that the figure shows: those named, of `all` the first, of `top` those that stand out most."""
    order = found.spread.argsort(descending=True, stable=True).tolist() if units == "top" else range(len(found.units))
    return list(order)[: SHOWN if units in ("all", "top") else None]


def _difference(maps: Tensor, plain: Tensor, lens: Lens) -> float:
    """‖maps − gradient‖ / ‖gradient‖ over all crops; refuses a rule that changed nothing though activations lie on the path."""
    difference = float((maps - plain).norm() / plain.norm().clamp(min=1e-30))
    if lens.rule != "gradient" and lens.before and not difference:
        raise ProbeError(
            f"rule {lens.rule}: gives the plain gradient in {lens.site.name} though {lens.before} activations lie before it; nothing to show"
        )
    return difference


def _quantised(maps: Tensor, valid: Tensor) -> tuple[Array, float]:
    """Maps (…, C, R, R) as int8 on one signed scale, `OUTSIDE` where they are not valid (…, R, R), and what 127 stands for."""
    values = maps.abs()[valid.unsqueeze(-3).expand_as(maps)]
    scale = float(np.quantile(values.numpy(), 0.995)) if len(values) else 0.0
    levels = (maps / max(scale, 1e-30)).clamp(-1, 1).mul(127).round().to(torch.int8)
    levels[~valid.unsqueeze(-3).expand_as(maps)] = OUTSIDE
    return levels.numpy(), scale


def _pictures(prefix: str, top: Top, maps: Tensor, lens: Lens, source: Source) -> dict[str, Array]:
    """What a panel of the figure is drawn from."""
    places = top.places.flatten(0, 1)
    valid = inside(places, lens.field, lens.size).unflatten(0, top.images.shape)
    levels, scale = _quantised(maps, valid)
    crops = [
        to_bytes(cut(source.fetch(rows), at, lens.field))
        for rows, at in zip(top.images.flatten().split(256), places.split(256), strict=True)
    ]
    return {
        f"{prefix}gradients": levels,
        f"{prefix}scale": np.array(scale, dtype=np.float32),
        f"{prefix}inputs": torch.cat(crops).unflatten(0, top.images.shape).numpy(),
        f"{prefix}units": top.units.numpy(),
        f"{prefix}values": top.values.numpy(),
        f"{prefix}images": top.images.numpy(),
        f"{prefix}places": top.places.numpy(),
    }


class _Run:
    """The trained network as it is looked at, its twins with other rules or weights, and what all of them share."""

    def __init__(self, gan: GAN, source: Source, settings: Settings, tell: Report) -> None:
        self.gan, self.source, self.settings, self.tell = gan, source, settings, tell
        self.site = resolve(gan, settings.layer, "discriminator")
        self.candidates = parse_units(settings.units, self.site)
        self.policy = fit_policy(gan, settings.batchnorm)
        self.by_batch = self.policy == "batch"
        if source.count < max(settings.crops, 2):
            raise ProbeError(f"{source.name}: {source.count} images; at least {max(settings.crops, 2)} are needed")
        self.trained = gan.require_discriminator()
        if self.policy != "running":
            self.trained = copy.deepcopy(self.trained)
            estimate_statistics(self.trained, self.images(_ESTIMATION))
        self.lens = self.twin(self.trained, settings.rule)
        self.calibration = list(self.images(_CALIBRATION))

    def images(self, n: int) -> Iterator[Tensor]:
        """N of the images, a batch at a time, where the discriminator is."""
        device = next(self.trained.parameters()).device
        return (x.to(device) for _, x in self.source.batches(n))

    def twin(self, model: nn.Module, rule: Rule) -> Lens:
        """A network looked at in the same layer."""
        return Lens(model, self.site, self.gan.size, self.gan.channels, rule)

    def random(self, layers: list[int] | None, seed: int) -> nn.Module:
        """The network with some layers, or all, random."""
        return sanity.randomised(self.trained, layers, seed, iter(self.calibration))

    def scan(self, lens: Lens, units: list[int], title: str) -> Top:
        """The largest responses in all images."""
        by_batch = self.by_batch and lens is self.lens
        return scan(lens, self.source, units, self.settings.crops, by_batch, lambda i, n: self.tell(title, i, n))

    def check(self, top: Top, maps: Tensor, plain: Tensor) -> tuple[dict[str, Any], dict[str, Array]]:
        """The sanity checks on the images, places and units of the trained network: metrics and arrays."""
        flat, places = maps.flatten(0, 1), top.places.flatten(0, 1)
        valid = inside(places, self.lens.field, self.gan.size)
        fields = cut(self.source.fetch(top.images.flatten()), places, self.lens.field)
        rows, random = self._under_random_weights(top, flat, valid)
        others = {"plain gradient": plain.flatten(0, 1), "Sobel edges": sanity.edges(fields), "input": fields}
        rows |= {name: sanity.compare(flat, x, valid)[None] for name, x in others.items()}
        if len(flat) > self.settings.crops:  # what the field's shape alone gives: the next unit's crop of the same rank
            apart = flat.roll(self.settings.crops, 0), valid & valid.roll(self.settings.crops, 0)
            rows["another unit's crop"] = sanity.compare(flat, *apart)[None]
        first = slice(None, None, self.settings.crops)
        shown = (flat, random, others["plain gradient"], others["Sobel edges"])
        pictures = np.stack([_quantised(x[first], valid[first])[0] for x in shown])
        table = np.full((len(rows), *rows["all layers random"].shape), np.nan, dtype=np.float32)
        for k, values in enumerate(rows.values()):
            table[k, : len(values)] = values
        metrics = sanity.verdict(rows, self.settings.sanity, self.settings.seed)
        return metrics, {"example_maps": pictures, "similarity": table}

    def _under_random_weights(self, top: Top, maps: Tensor, valid: Tensor) -> tuple[dict[str, Array], Tensor]:
        """Similarities (seeds, crops, 4) by what is random, and the first seed's maps with all layers random."""
        s = self.settings
        stages = sanity.stages(sanity.depth(self.lens.model, self.lens.gate), s.sanity == "full")
        seeds = range(s.seed, s.seed + SEEDS[s.sanity])
        rows: dict[str, Array] = {}
        kept: list[Tensor] = []
        for i, (name, layers) in enumerate(stages.items()):
            values = []
            for seed in seeds:
                lens = self.twin(self.random(layers, seed), s.rule)
                found = gradients(lens, self.source, top, False).flatten(0, 1)
                values.append(sanity.compare(maps, found, valid))
                kept = kept or [found]
                self.tell("sanity checks", i * len(seeds) + len(values), len(stages) * len(seeds))
            rows[name] = np.stack(values)
        return rows, kept[0]

    def notes(self) -> list[str]:
        """What was assumed where the paper is silent."""
        policies = {
            "running": "those stored in the checkpoint",
            "data": f"estimated from {min(_ESTIMATION, self.source.count)} of the images",
            "batch": "those of each batch of 128 images, held constant on the way back",
        }
        found = [
            f"images: {self.source.name}, {self.source.count} of them; one place an image, that of the largest response",
            "a response is what goes into the layer's own activation",
            f"BatchNorm of the discriminator: {policies[self.policy]}",
            f"random weights: kernels N(0, 0.02), BatchNorm's gain N(1, 0.02), its statistics from {min(_CALIBRATION, self.source.count)} of the images",
            "grey scale of a panel: its 99.5th percentile of the absolute gradient",
        ]
        if self.lens.cells is None:
            found.append(
                "the discriminator is not one of probe's own modules: whole images are shown, not receptive fields"
            )
        if not self.lens.before:
            found.append(f"no activation lies before {self.site.name}: every rule gives the plain gradient there")
        return found
