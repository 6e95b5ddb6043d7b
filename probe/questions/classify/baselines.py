"""What a discriminator's features are to be compared with: K-means, and the same network taught the labels.

Pixels and random weights are in representation.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base import seeds
from probe.measures.statistics import Array
from probe.models.dcgan import Block, Discriminator, initialise
from probe.models.gan import from_bytes, lay_out
from probe.questions.classify.representation import Representation

PATCH, PATCHES = 6, 200_000
_CONTRAST, _WHITENING = 10.0, 0.1  # of Coates, Lee and Ng 2011, section 3: added to variances, of grey levels 0 … 255
_BATCH, _LR = 128, 1e-3


def kmeans(images: Array, centroids: int, seed: int) -> Representation:
    """Features of Coates, Lee and Ng (2011) learnt from images (N, C, S, S) uint8: (N, 4 · centroids).

    6x6 patches at every place, each less its mean and divided by its contrast, ZCA-whitened; a patch's feature of
    centroid k is max(0, mean distance - distance to k) ("triangle"), averaged over each quadrant of the image. K-means
    is fitted in mini-batches to 200,000 patches (the paper: 400,000).
    """
    rng = np.random.default_rng(seeds.PATCHES.of(seed))
    spread = images.shape[2] - PATCH + 1
    places = [rng.integers(0, top, PATCHES) for top in (len(images), spread, spread)]
    order = np.argsort(places[0], kind="stable")  # a memory-mapped file is read once, in order
    cut = [images[i, :, y : y + PATCH, x : x + PATCH] for i, y, x in zip(*(p[order] for p in places), strict=True)]
    patches = _normalised(torch.from_numpy(np.stack(cut)).flatten(1).float())
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
    whiten = ((vectors * (values + _WHITENING).rsqrt()) @ vectors.T).float()  # (P, P), symmetric
    model = MiniBatchKMeans(centroids, batch_size=8192, n_init=1, max_iter=20, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct patches than centroids
        centres = torch.from_numpy(model.fit(((patches - mean) @ whiten).numpy()).cluster_centers_).float()

    def function(x: Tensor) -> Tensor:
        z = F.unfold((x.cpu() + 1) * 127.5, PATCH).transpose(1, 2)  # (N, places, P)
        z = (_normalised(z) - mean) @ whiten
        square = z.square().sum(2, keepdim=True) + centres.square().sum(1)
        distance = torch.baddbmm(square, z, centres.T.expand(len(z), -1, -1), alpha=-2).clamp_(min=0).sqrt_()
        near = (distance.mean(2, keepdim=True) - distance).clamp_(min=0)  # (N, places, K)
        side = x.shape[2] - PATCH + 1
        return F.adaptive_avg_pool2d(near.transpose(1, 2).unflatten(2, (side, side)), 2).flatten(1)

    return Representation("K-means", function)


def _normalised(patches: Tensor) -> Tensor:
    centred = patches - patches.mean(-1, keepdim=True)
    return centred / (centred.square().sum(-1, keepdim=True) / (patches.shape[-1] - 1) + _CONTRAST).sqrt()


class _Classifier(Discriminator):
    """A discriminator whose last layer has an output a class: images (N, C, S, S) -> scores (N, K)."""

    def forward(self, x: Tensor) -> Tensor:
        for block, layer in zip(self.blocks, self.layers(), strict=True):
            x = layer(x.flatten(1) if block.kind == "linear" else x)
        return x.flatten(1)


def supervised(
    blocks: Sequence[Block],
    images: Array,
    labels: Tensor,
    classes: int,
    steps: int,
    seed: int,
    flips: bool = False,
    device: str | torch.device = "cpu",
    report: Callable[[int, int], None] | None = None,
) -> nn.Module:
    """Train a discriminator's architecture on labels (N,) of images (N, C, S, S) uint8; returns it in eval mode, on `device`.

    Cross-entropy, Adam, batches of 128, a learning rate that falls from 1e-3 to 0 along half a cosine, and the paper's
    initial weights. Mirrored at random if `flips`.
    """
    net = _Classifier([*blocks[:-1], replace(blocks[-1], outputs=classes)])
    initialise(net, seed)
    device = torch.device(device)
    lay_out(net.to(device), torch.channels_last).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=_LR, fused=device.type != "mps")
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(seeds.SUPERVISED.of(seed))
    for step in range(steps):
        picked = np.sort(rng.choice(len(images), min(_BATCH, len(images)), replace=False))
        x = from_bytes(torch.from_numpy(np.array(images[picked])))
        turned = torch.from_numpy(rng.random(len(picked)) < 0.5 * flips)
        x[turned] = x[turned].flip(3)
        scores = net(x.contiguous(memory_format=torch.channels_last).to(device))
        loss = F.cross_entropy(scores, labels[picked].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if report:
            report(step + 1, steps)
    return net.eval()
