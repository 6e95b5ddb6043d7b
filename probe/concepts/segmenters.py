"""Segmenters: small networks that say what an image shows, from its pixels alone.

The selector may draw boxes, rank units and tune; only the judge reports numbers. They are trained on disjoint
images and have different architectures, so that an edit tuned to please one cannot please the other by accident.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.concepts.labels import Boxes
from probe.concepts.networks import ARCHITECTURES, lean
from probe.data.rooms import scenes as rooms
from probe.data.rooms.scenes import ATTRIBUTES, OBJECTS
from probe.measures.statistics import iou
from probe.models.gan import autocast, from_bytes, lay_out, to_bytes

WEIGHTS = Path(__file__).parents[1] / "weights"
_HUES = [i for i, name in enumerate(ATTRIBUTES) if name.endswith("hue")]
_FLAGS = [i for i, name in enumerate(ATTRIBUTES) if name in ("window", "night", "lamp")]
_YAW, _YAW_SCALE = ATTRIBUTES.index("yaw"), 14.0


ROLES = {"selector": "dilated", "judge": "unet"}


@dataclass
class Segmenter:
    """A fitted segmenter. `objects` names the values of its label maps; `size` is the side it was trained at.

    The network stays where it was put. Images may be anywhere: they are brought to it, and what it says goes back to
    where they are. (The questions hand images on the CPU to whatever segmenter they are given.)
    """

    network: nn.Module
    architecture: str
    objects: tuple[str, ...]
    size: int = 64
    channels: int = 3

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(iter(self.network.parameters()), torch.empty(0)).device

    def to(self, device: str | torch.device) -> Segmenter:
        """Move the network; returns self."""
        self.network.to(device)
        self.__dict__.pop("_lean", None)
        return self

    @cached_property
    def _lean(self) -> nn.Module:
        """The network for label scores alone, made when they are first asked for."""
        return lay_out(lean(self.network, self.size), torch.channels_last)

    def _prepared(self, images: Tensor) -> Tensor:
        if images.shape[1] != self.channels:  # grey images before a segmenter of colour ones
            images = images.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        return images.contiguous(memory_format=torch.channels_last).to(self.device)

    @torch.no_grad()
    def labels(self, images: Tensor, batch: int = 8) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] -> label maps (N, S, S) uint8 with values indexing `objects`.

        A `batch` of 8 stays in a CPU's cache.
        """
        maps = [self._enlarged(self._lean(self._prepared(part)), images) for part in images.split(batch)]
        return torch.cat([_highest(scores) for scores in maps])

    def scores(self, images: Tensor) -> Tensor:
        """Class logits (N, classes, S, S) at the images' own size; differentiable, across devices too."""
        return self._enlarged(self._lean(self._prepared(images)), images)

    def _enlarged(self, scores: Tensor, images: Tensor) -> Tensor:
        if scores.shape[-1] != images.shape[-1]:
            scores = F.interpolate(scores, images.shape[-2:], mode="bilinear")
        return scores.to(images.device)

    @torch.no_grad()
    def attributes(self, images: Tensor, batch: int = 64) -> Tensor:
        """The attribute table (N, 6) of rooms, columns as `rooms.ATTRIBUTES`; flags as probabilities."""
        raw = torch.cat(
            [self.network(self._prepared(part))[1].float().to(images.device) for part in images.split(batch)]
        )
        out = torch.zeros(len(raw), len(ATTRIBUTES), device=raw.device)
        out[:, _FLAGS] = raw[:, : len(_FLAGS)].sigmoid()
        out[:, _YAW] = raw[:, len(_FLAGS)] * _YAW_SCALE
        for i, column in enumerate(_HUES):
            sine, cosine = raw[:, len(_FLAGS) + 1 + 2 * i], raw[:, len(_FLAGS) + 2 + 2 * i]
            out[:, column] = torch.atan2(sine, cosine) / (2 * torch.pi) % 1
        return out


def _highest(scores: Tensor) -> Tensor:
    """scores.argmax(1) of (N, K, S, S) as uint8, the places of a plane side by side: several times as fast."""
    best = scores[:, 0]
    found = torch.zeros_like(best, dtype=torch.uint8)
    for k, plane in enumerate(scores.unbind(1)[1:], 1):
        torch.maximum(found, (plane > best).to(torch.uint8).mul_(k), out=found)
        best = torch.maximum(best, plane)
    return found


N_ATTRIBUTE_OUTPUTS = len(_FLAGS) + 1 + 2 * len(_HUES)


def _attribute_loss(raw: Tensor, truth: Tensor) -> Tensor:
    k = len(_FLAGS)
    hues = truth[:, _HUES] * 2 * torch.pi
    circle = torch.stack([hues.sin(), hues.cos()], -1).flatten(1)
    flags = F.binary_cross_entropy_with_logits(raw[:, :k], truth[:, _FLAGS])
    return flags + F.mse_loss(raw[:, k], truth[:, _YAW] / _YAW_SCALE) + F.mse_loss(raw[:, k + 1 :], circle)


def degrade(x: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Warp, blend, blur, stain and add noise to images (N, C, S, S) in [-1, 1], each by its own random amount.

    Label maps (N, S, S) follow the warp, so the truth stays exact; one image in four only has its colours scaled.
    """
    n, channels, size, _ = x.shape

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(x.device)

    def smooth(planes: int, grid: int) -> Tensor:
        return F.interpolate(rand(n, planes, grid, grid) * 2 - 1, (size, size), mode="bicubic")

    amount = rand(n, 1, 1, 1) * (rand(n, 1, 1, 1) > 0.25)
    shift = smooth(2, 6).permute(0, 2, 3, 1) * amount * 0.09
    identity = torch.eye(2, 3, device=x.device).expand(n, 2, 3)
    grid = F.affine_grid(identity, [n, channels, size, size], align_corners=False) + shift
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    truth = labels[:, None].float()
    labels = F.grid_sample(truth, grid, mode="nearest", padding_mode="reflection", align_corners=False)[:, 0].to(
        labels.dtype
    )
    x = x + (x.roll(1, 0) - x) * (0.4 * amount * (smooth(1, 4) > 0.2))
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    x = x + (blurred - x) * amount * rand(n, 1, 1, 1)
    x = x * (1 + 0.3 * (rand(n, channels, 1, 1) - 0.5)) + 0.2 * amount * smooth(channels, 8)
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return (x + noise * 0.12 * amount * rand(n, 1, 1, 1)).clamp(-1, 1), labels


def fit(
    architecture: str,
    objects: tuple[str, ...],
    images: Any,
    labels: Any,
    attributes: Any = None,
    *,
    steps: int = 1500,
    batch: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
    flip: bool = False,
    device: str | torch.device = "cpu",
    report: Callable[[int, int], None] | None = None,
) -> Segmenter:
    """Train a segmenter on uint8 images (N, C, S, S) and label maps (N, S, S), degraded afresh at every step.

    Cross-entropy over pixels, classes weighted by the inverse fourth root of their frequency; one-cycle AdamW.
    `flip` mirrors half of the images, for concepts with no left and right. The network is on `device`; images are
    degraded on the CPU, so that it sees the same everywhere.
    """
    device = torch.device(device)
    images, labels = np.asarray(images), np.asarray(labels)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[architecture](images.shape[1], len(objects), N_ATTRIBUTE_OUTPUTS)
    lay_out(network.to(device), torch.channels_last)
    counts = np.bincount(labels[:2000].ravel(), minlength=len(objects)) + 1.0
    weight = torch.tensor((counts.sum() / counts) ** 0.25, dtype=torch.float32, device=device)
    optimiser = torch.optim.AdamW(network.parameters(), lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    # not for speed: the segmenters behind the published figures were fitted so
    half = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    network.train()
    for step in range(steps):
        chosen = torch.randint(len(images), (batch,), generator=generator).numpy()
        x, y = from_bytes(torch.from_numpy(images[chosen])), torch.from_numpy(labels[chosen])
        if flip:
            mirrored = torch.rand(batch, generator=generator) < 0.5
            x, y = (
                torch.where(mirrored[:, None, None, None], x.flip(-1), x),
                torch.where(mirrored[:, None, None], y.flip(-1), y),
            )
        x, y = (part.to(device) for part in degrade(x, y, generator))
        with autocast(device, "bfloat16" if half else "float32"):
            scores, raw = (out.float() for out in network(x.contiguous(memory_format=torch.channels_last)))
        loss = F.cross_entropy(scores, y.long(), weight)
        if attributes is not None:
            loss = loss + 0.3 * _attribute_loss(raw, torch.from_numpy(np.asarray(attributes)[chosen]).to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if report:
            report(step + 1, steps)
    network.eval()
    return Segmenter(network, architecture, objects, images.shape[-1], images.shape[1])


def weights_name(edition: int) -> str:
    """The file of the built-in segmenters for an edition of rooms."""
    return "segmenters.safetensors" if edition == 1 else f"segmenters-{edition}.safetensors"


def state(segmenters: dict[str, Segmenter]) -> dict[str, Tensor]:
    """The tensors of named segmenters in half precision, for one safetensors file."""
    tensors = ((f"{name}.{k}", v) for name, r in segmenters.items() for k, v in r.network.state_dict().items())
    return {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors}


def load_rooms(edition: int = 1, device: str | torch.device = "cpu", folder: Path = WEIGHTS) -> dict[str, Segmenter]:
    """The built-in segmenters for an edition of rooms, on a device.

    They are the `selector` (dilated convolutions) and the `judge` (a U-Net), fitted to disjoint renders of that edition.
    """
    out = {}
    with safe_open(folder / weights_name(edition), "pt") as file:
        for name, architecture in ROLES.items():
            network = ARCHITECTURES[architecture](3, len(OBJECTS), N_ATTRIBUTE_OUTPUTS)
            keys = network.state_dict()
            network.load_state_dict({k: file.get_tensor(f"{name}.{k}").to(v.dtype) for k, v in keys.items()})
            out[name] = Segmenter(lay_out(network.eval().to(device), torch.channels_last), architecture, OBJECTS)
    return out


def fit_to_boxes(
    images: Tensor,
    boxes: Boxes,
    *,
    steps: int = 600,
    seed: int = 0,
    device: str | torch.device = "cpu",
    report: Callable[[str, int, int], None] | None = None,
) -> tuple[Segmenter, Segmenter, float]:
    """A selector and a judge of one concept from boxes on disjoint halves of images (N, C, S, S) in [-1, 1].

    Returns them, on `device`, with the judge's intersection over union on the selector's half, which it never saw.
    Raises ProbeError where fewer than 16 images have a box.
    """
    boxed = [i in boxes.boxes for i in boxes.images]
    if sum(boxed) < 16:
        raise ProbeError(
            f"{boxes.concept}: boxes in {sum(boxed)} images; at least 16 are needed to fit a selector and a judge"
        )
    data, truth = to_bytes(images).numpy(), boxes.masks(images.shape[-1])
    order = np.random.default_rng(seed).permutation(len(data))
    order = order[np.argsort([not boxed[i] for i in order], kind="stable")]  # boxed images dealt evenly to both halves
    fitted = []
    for k, (role, architecture) in enumerate(ROLES.items()):
        half = np.sort(order[k::2])

        def tell(step: int, total: int, role: str = role) -> None:
            if report:
                report(f"fitting the {role}", step, total)

        objects = ("background", boxes.concept)
        labels = truth[half].to(torch.uint8).numpy()
        fitted.append(
            fit(
                architecture,
                objects,
                data[half],
                labels,
                steps=steps,
                batch=32,
                seed=seeds.SEGMENTERS.of(seed, k),
                flip=True,
                device=device,
                report=tell,
            )
        )
    unseen = np.sort(order[0::2])
    found = fitted[1].labels(images[unseen]) == 1
    return fitted[0], fitted[1], iou(found, truth[unseen])


def rooms_iou(
    segmenter: Segmenter, concept: str = "window", edition: int = 1, n: int = 128, seed: int = seeds.UNSEEN_ROOMS.of(0)
) -> float:
    """A rooms segmenter's intersection over union for an object on clean renders that no segmenter was trained on."""
    fresh = rooms.render(n, seed, edition=edition)
    k = segmenter.objects.index(concept)
    found = segmenter.labels(from_bytes(torch.from_numpy(fresh.images)))
    return iou(found == k, torch.from_numpy(fresh.labels) == k)
