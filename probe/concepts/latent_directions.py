"""Directions in latent space that turn one concept into another, by several methods behind one call.

`means`: the difference of the means of a few exemplars (the paper). `svm`, `logistic`: the normal of a linear boundary
between many latents (InterFaceGAN, Shen et al. 2020); `conditional`: that normal without its part in the span of the
other attributes' normals. `pca`: principal components of the first layer's activations, carried back to latents by
regression (GANSpace, Härkönen et al. 2020); `sefa`: eigenvectors of AAᵀ, A the first layer's weights (SeFa, Shen and
Zhou 2021). The last two know nothing of concepts: of their first COMPONENTS the one that best tells the classes apart
is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from probe.base import seeds
from probe.base.errors import ProbeError
from probe.measures.statistics import Array
from probe.models.gan import GAN
from probe.models.hooks import feature_maps, sites

COMPONENTS, SAMPLES = 20, 2048
_STRENGTH = 0.01  # C of the linear boundaries: latents of a hundred numbers and noisy labels want a strong prior


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Exemplars (n, nz) on both sides for `means`; all latents (N, nz) with side 0 or 1 (N,) for the other methods.

    `others` are latents (M, nz) with other attributes (M, K) boolean; None where nothing is known of them.
    """

    gan: GAN
    before: Tensor
    after: Tensor
    z: Tensor
    side: Array
    others: tuple[Tensor, Array] | None = None
    seed: int = 0


def boundary(z: Tensor, side: Array) -> Tensor:
    """The unit normal (nz,) of a logistic boundary between latents (N, nz) of side 0 and 1."""
    model = LogisticRegression(C=_STRENGTH, max_iter=1000).fit(z.numpy(), side)
    return _unit(model.coef_[0])


def _unit(vector: Array | Tensor) -> Tensor:
    out = torch.as_tensor(np.asarray(vector)).float()
    unit: Tensor = out / out.norm().clamp(min=1e-12)
    return unit


def means(e: Evidence) -> Tensor:
    """The difference of the exemplars' means; its length is kept."""
    return e.after.mean(0) - e.before.mean(0)


def svm(e: Evidence) -> Tensor:
    """The normal of a linear support vector machine."""
    return _unit(LinearSVC(C=_STRENGTH, random_state=e.seed, max_iter=20_000).fit(e.z.numpy(), e.side).coef_[0])


def logistic(e: Evidence) -> Tensor:
    """The normal of a logistic boundary."""
    return boundary(e.z, e.side)


def conditional(e: Evidence) -> Tensor:
    """The logistic normal, orthogonal to those of all other attributes; raises ProbeError where none are known."""
    if e.others is None:
        raise ProbeError("method conditional: needs other attributes to stay orthogonal to, so `by_segmenter` on rooms")
    z, attributes = e.others
    normals = [boundary(z, column) for column in attributes.T if 0 < column.sum() < len(column)]
    span, _ = torch.linalg.qr(torch.stack(normals, 1))  # (nz, K)
    normal = logistic(e)
    return _unit(normal - span @ (span.T @ normal))


def pca(e: Evidence) -> Tensor:
    """Of the first principal components of the first layer's activations the one that tells the sides apart."""
    z = e.gan.latents(SAMPLES, seeds.PRINCIPAL.of(e.seed))
    name = sites(e.gan)[0].name
    activations = feature_maps(e.gan, z, [name])[name].flatten(1)  # (N, C·H·H)
    count = min(COMPONENTS, e.gan.nz)
    coordinates = PCA(count, svd_solver="randomized", random_state=e.seed).fit_transform(activations.numpy())
    basis = np.linalg.lstsq(coordinates, z.numpy(), rcond=None)[0]  # (components, nz)
    return _best(e, basis)


def sefa(e: Evidence) -> Tensor:
    """Of the eigenvectors of AAᵀ with the largest eigenvalues the one that tells the sides apart."""
    weight = _first_weight(e.gan)
    _, vectors = torch.linalg.eigh(weight @ weight.T)  # rising eigenvalues
    return _best(e, vectors.flip(1)[:, :COMPONENTS].T.numpy())


def _first_weight(gan: GAN) -> Tensor:
    """The weights (nz, outputs) of the layer that takes the latent."""
    for module in gan.generator.modules():
        if isinstance(module, nn.Linear) and module.in_features == gan.nz:
            return module.weight.detach().float().cpu().T
        if isinstance(module, nn.ConvTranspose2d) and module.in_channels == gan.nz:
            return module.weight.detach().float().cpu().flatten(1)
    raise ProbeError(
        f"method sefa: the generator has no linear layer or transposed convolution that takes {gan.nz} numbers"
    )


def _best(e: Evidence, basis: Array) -> Tensor:
    """The row of a basis (K, nz) whose projection has the AUC farthest from one half, signed to point to side 1."""
    aucs = np.array([roc_auc_score(e.side, e.z.numpy() @ row) for row in basis])
    best = int(np.abs(aucs - 0.5).argmax())
    return _unit(basis[best] * np.sign(aucs[best] - 0.5))


METHODS: dict[str, Callable[[Evidence], Tensor]] = {
    "means": means, "svm": svm, "logistic": logistic, "conditional": conditional, "pca": pca, "sefa": sefa,
}  # fmt: skip


def direction(method: str, evidence: Evidence) -> Tensor:
    """A method's direction (nz,), as long as that of `means`, so that equal steps are equally far."""
    if method not in METHODS:
        raise ProbeError(f"method {method}: expected {', '.join(METHODS)}")
    vector = METHODS[method](evidence)
    scaled: Tensor = vector * (means(evidence).norm() / vector.norm().clamp(min=1e-12))
    return scaled
