"""Every question at a tiny size, and the pieces that questions are made of, for tests that ask them on two devices.

QUESTIONS    name -> ask(gan, folder): a result of the built-in model; `folder` is one made by `pictures`
PIECES       name -> do(device): what a training step, an edit or a segmenter gives there, as tensors on the CPU
alike(...)   two results say the same within tolerances
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import probe
from probe.concepts import segmenters
from probe.concepts.labels import from_masks, save
from probe.edits import refinement, surgery, unlearning
from probe.edits.scoring import Scorer
from probe.measures.features import feature
from probe.models import dcgan, gan, hooks
from probe.models.replay import Replay
from probe.training.adversaries import Run, Settings
from probe.ui import painter, preview, suggest, workbench
from tests.toy import toy_gan

STEPS = Settings(size=32, nz=8, width=4, batch=8, steps=3, noise=0.1, d_ema=0.9)


def pictures(folder: Path) -> Path:
    """Images of two classes, 24 of each to train on and 24 to test on, and boxes on samples of the built-in model."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(2):
            (folder / part / str(label)).mkdir(parents=True)
            for i in range(24):
                pixels = rng.integers(0, 150, (64, 64, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / str(label) / f"{i}.png")
    return folder


def boxed(g: probe.GAN, folder: Path) -> Path:
    """A labels file of the windows on 60 samples, written once."""
    path = folder / "labels.json"
    if not path.exists():
        known = segmenters.load_rooms(device=g.device)["selector"]
        seen = known.labels(g.sample(60)) == known.objects.index("window")
        save(from_masks(seen, "window", 0), path, g.size)
    return path


QUESTIONS: dict[str, Callable[[probe.GAN, Path], probe.Result]] = {
    "sample": lambda g, _: probe.sample(g, 4),
    "walk": lambda g, _: probe.walk(g, 2, frames=1, most_steps=16),
    "forget": lambda g, _: probe.forget(g, "window", samples=60, layer="8x8", draws=1),
    "dissect": lambda g, _: probe.dissect(g, "4x4", samples=16, shuffles=50),
    "ablate": lambda g, _: probe.ablate(g, "8x8", "0-7", draws=2, indices="0,1", where="0,0,32,32"),
    "insert": lambda g, _: probe.insert(g, "window", (12, 14, 32, 34), samples=60, layer="8x8", draws=1),
    "guided_backprop": lambda g, _: probe.guided_backprop(g, "samples:32", units="0,1", crops=2, batchnorm="data"),
    "arithmetic": lambda g, _: probe.arithmetic(g, "night - day + day", draws=4, samples=64),
    "turn": lambda g, _: probe.turn(
        g, "day", "night", method=("means", "conditional", "pca", "sefa"), frames=3, scored=4, draws=4, samples=128
    ),
    "memorization": lambda g, _: probe.memorization(
        g, train="rooms:40@5", holdout_data="rooms:40@6", samples=40, permutations=199, targets=4
    ),
    "evaluate": lambda g, _: probe.evaluate(g, "rooms:400@77", samples=200),
    "classify": lambda g, folder: probe.classify(
        g, str(folder / "train"), str(folder / "test"), validation=8, costs=(1.0,), centroids=8, supervised_steps=3
    ),
    "dedup": lambda g, _: probe.dedup("rooms:64", steps=5, planted=4),
}  # fmt: skip
HEAVY = ("forget", "insert")
"""Those that take a minute or more."""

Piece = Callable[[str], Mapping[str, Any]]
PIECES: dict[str, Piece] = {}


def _piece(do: Piece) -> Piece:
    PIECES[do.__name__] = do
    return do


def small(device: str, seed: int = 0, prior: gan.Prior = "normal") -> gan.GAN:
    """A GAN of 32 px with weights that keep activations apart."""
    networks = (
        dcgan.Generator(dcgan.generator_blocks(size=32, width=4, nz=8)),
        dcgan.Discriminator(dcgan.discriminator_blocks(size=32, width=4)),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in (m for network in networks for m in network.modules()):
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
                m.weight.normal_(0, 0.2, generator=generator)
            elif isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5, generator=generator)
                m.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
    g, d = (network.eval() for network in networks)
    return gan.GAN(g, d, 8, 32, 3, prior, {"generator": "running", "discriminator": "running"}).to(device)


def _maps(g: gan.GAN, layer: str, n: int = 32) -> Tensor:
    """Feature vectors (n, C) of a layer, the middle of each map, where the generator is."""
    with hooks.capture(g.generator, [layer]) as seen:
        list(g.batches(g.latents(n, 3)))
    middle = seen[layer].shape[-1] // 2
    return seen[layer][:, :, middle, middle]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu() for key, value in model.state_dict().items()}


@_piece
def initial_weights(device: str) -> Mapping[str, Any]:
    g = small(device)
    assert g.discriminator is not None
    dcgan.initialise(g.generator, 3)
    dcgan.initialise(gan.lay_out(g.discriminator, torch.channels_last), 4)
    return _weights(g.generator) | {f"d.{key}": value for key, value in _weights(g.discriminator).items()}


@_piece
def batchnorm_statistics(device: str) -> Mapping[str, Any]:
    g = small(device)
    gan.use_batch_statistics(g.generator)
    images = g.sample(4)
    gan.recalibrate(g.generator, 8, "uniform", 64)
    return _weights(g.generator) | {"images": images}


@_piece
def linear_edits(device: str) -> Mapping[str, Any]:
    g, out = small(device), {}
    vectors = _maps(g, "layer2")
    matrix, offset = surgery.leace(vectors[:16], vectors[16:], 0.1)
    folded = surgery.fold(g, "layer2", matrix.to(device))
    out["leace"], out["offset"], out["matrix"] = folded.sample(4), offset, matrix
    with hooks.edit(g.generator, {"layer2": lambda x: torch.einsum("nchw,dc->ndhw", x, matrix.to(x))}):
        out["by hook"] = g.sample(4)
    for layer, maps in (("layer3", 4), ("layer1", 16)):  # before a layer without bias and norm; before a BatchNorm
        same, level = torch.eye(maps, device=device), torch.full((maps,), 0.3, device=device)
        once = surgery.fold(g, layer, same, level, tolerance=10.0)
        out[f"offset behind {layer}"] = once.sample(4)
        out[f"and another behind {layer}"] = surgery.fold(once, layer, same.cpu(), level.cpu(), tolerance=10.0).sample(
            4
        )
    return out


@_piece
def map_edits(device: str) -> Mapping[str, Any]:
    g = small(device)
    vectors, z = _maps(g, "layer2"), g.latents(32, 3).to(device)
    direction = surgery.fit_erase(vectors[:16], vectors[16:])
    erased = surgery.erase(g, {"layer2": direction}, 2.0)
    found = surgery.fit_patch((z[:16], z[16:]), (vectors[:16], vectors[16:]), 0.25, 5.0)
    return {
        "ablated": surgery.ablate(g, "layer2", [1, 3]).sample(4),
        "erased": erased.sample(4),
        "scaled": surgery.scale(erased, "layer2", [0], 0.5).sample(4),
        "patched": surgery.patch(g, "layer2", found, 1.5).sample(4),
    }


@_piece
def temporary_edits(device: str) -> Mapping[str, Any]:
    g = small(device)
    region = torch.zeros(32, 32)
    region[:16] = 1
    half = hooks.within(lambda x: x * 0.5, hooks.cover(region, 8))
    with hooks.edit(g.generator, {"layer2": half}):
        directly = g.sample(20)
    replay = Replay(g, g.latents(20), ["layer1", "layer2"])
    return {
        "directly": directly, "replayed": replay.images({"layer2": half}), "unedited": replay.unedited,
        "some": replay.take(torch.tensor([3, 1])).images({"layer1": half_of_all}),
        "moved": replay.images({hooks.LATENT: lambda z: z.clamp(max=0.5), "layer2": lambda x: x.chunk(2)[1]}),
    }  # fmt: skip


def half_of_all(x: Tensor) -> Tensor:
    return x * 0.5


@_piece
def adjusted_patch(device: str) -> Mapping[str, Any]:
    g = probe.load("rooms", device=device)
    known = segmenters.load_rooms(device=device)["selector"]
    seen = known.labels(g.sample(24)) == known.objects.index("window")
    boxes = from_masks(seen, "window", 0)
    z, has = g.latents(24), torch.tensor([i in boxes.boxes for i in range(24)])
    vectors = _maps(g, "layer2", 24).cpu()
    found = surgery.fit_patch((z[has], z[~has]), (vectors[has], vectors[~has]), 0.25, 1.0)
    scorer = Scorer(Replay(g, g.latents(24, 5), ["layer2"]), known, boxes)
    few = refinement.Settings(directions=2, steps=2, batch=4)
    adjusted = refinement.refine(found, scorer, "layer2", few)
    scores = scorer.score(refinement.patch_edits(adjusted.patch().to(g.device), "layer2"))
    return {"step": adjusted.step, "bias": adjusted.bias, "after": scores.after, "outside": scores.outside}


@_piece
def fitted_segmenters(device: str) -> Mapping[str, Any]:
    g = probe.load("rooms", device=device)
    known = segmenters.load_rooms(device=device)
    images = g.sample(24)
    boxes = from_masks(known["selector"].labels(images) == 1, known["selector"].objects[1], 0, smallest=4)
    kept = replace(boxes, images=tuple(range(24)))
    selector, _, _ = segmenters.fit_to_boxes(images, kept, steps=2, device=device)
    assert {segmenter.device.type for segmenter in (*known.values(), selector)} == {device}
    out: dict[str, Any] = {"fitted": selector.scores(images[:4]).detach()}
    for role, segmenter in known.items():
        where_they_are = segmenter.labels(images[:4].to(device))
        assert where_they_are.device.type == device
        assert torch.equal(where_they_are.cpu(), segmenter.labels(images[:4]))
        out[f"{role} scores"] = segmenter.scores(images[:4]).detach()
        out[f"{role} attributes"] = segmenter.attributes(images[:4])[:, :4]  # hues, the others, go round in a circle
        out[f"{role} elsewhere"] = segmenter.to("cpu").scores(images[:4].to(device)).detach().cpu()
    return out


@_piece
def foreign_networks(device: str) -> Mapping[str, Any]:
    """A generator and a discriminator that are none of probe's own, and statistics of the batch at hand."""
    own, toy = small("cpu"), toy_gan()
    assert isinstance(own.discriminator, dcgan.Discriminator)
    toy.discriminator = nn.Sequential(*(nn.Sequential(*layer) for layer in own.discriminator.layers()), nn.Flatten(0))
    toy.to(device)
    half = {"first": half_of_all}
    replay = Replay(toy, toy.latents(20), ["first"])
    seen = probe.guided_backprop(toy, "samples:16", layer="-1", units="0,1", crops=2, batchnorm="batch")
    batched = small(device)
    gan.use_batch_statistics(batched.generator)
    together = Replay(batched, batched.latents(12), ["layer2"])
    return {
        "toy": replay.images(half), "guided": seen.arrays["gradients"].astype(int), "values": seen.arrays["values"],
        "together": together.images({"layer2": half_of_all}, torch.tensor([3, 1])),
    }  # fmt: skip


@_piece
def page_of_labels(device: str) -> Mapping[str, Any]:
    """What `probe label` computes."""
    bench = workbench.Workbench(probe.load("rooms", device=device), 24, 0)
    known = segmenters.load_rooms()["selector"]
    boxes = from_masks(known.labels(bench.images()) == known.objects.index("window"), "window", 0)
    site, region = bench.sites[1], torch.zeros(64, 64)
    region[:32] = 1
    switches = painter.Switches({0, 1}, {2}, region)
    painted = painter.paint(bench, site, switches, painter.strong(bench, site), bench.z[:2])
    suggest.suggest(bench, boxes)
    bench.sheet(0)
    other = suggest.fit(bench, boxes)
    return {
        "painted": painted, "heat": painter.heat(bench, site, 0, 8).astype(int),
        "scores": other.scores(bench.maps(bench.site.name), 64),
        "forgotten": preview.forget_now(bench, boxes, 2.0).after,
    }  # fmt: skip


@_piece
def unlearnt(device: str) -> Mapping[str, Any]:
    g = small(device)
    z = g.latents(40, 2).to(device)
    settings = unlearning.Settings(steps=2, batch=4)
    auc, _ = unlearning.linearity(z[:20], z[20:])
    return {"images": unlearning.unlearn(g, z[:20], z[20:], settings).sample(4), "auc": auc}


@_piece
def features(device: str) -> Mapping[str, Any]:
    images = small(device).sample(4).to(device)
    return {name: feature(name, 3, device)(images).cpu() for name in ("pixels", "random-conv")}


@_piece
def training_steps(device: str) -> Mapping[str, Any]:
    run = Run(STEPS, torch.device(device))
    real = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 8, 3, 32, 32), dtype=np.uint8))
    losses = torch.stack([run.advance(batch, gan.latents(8, 8, i, "uniform")).cpu() for i, batch in enumerate(real)])
    return {"losses": losses} | {name: value.detach().cpu().float() for name, value in run.tensors()}


def alike(one: probe.Result, other: probe.Result, rtol: float, atol: float, apart: float = 0.0) -> None:
    """Assert that numbers agree within tolerances, and pictures within `apart` grey levels on average."""
    first, second = (_flat(json.loads(json.dumps(r.metrics, default=float))) for r in (one, other))
    assert first.keys() == second.keys()
    wrong = {k: (a, second[k]) for k, a in first.items() if not _close(a, second[k], rtol, atol)}
    assert not wrong
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        compared = other.arrays[name]
        assert array.shape == compared.shape, name
        if array.dtype in (np.uint8, np.int8):
            assert array.size == 0 or np.abs(array.astype(float) - compared).mean() <= apart, name
        else:
            np.testing.assert_allclose(array, compared, rtol, atol, err_msg=name)


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {place: value}
    kept = {key: part for key, part in value.items() if key != "seconds"}
    return {k: v for key, part in kept.items() for k, v in _flat(part, f"{place}/{key}").items()}


def _close(a: Any, b: Any, rtol: float, atol: float) -> bool:
    if isinstance(a, float | int) and isinstance(b, float | int):
        return math.isclose(a, b, rel_tol=rtol, abs_tol=atol) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)
