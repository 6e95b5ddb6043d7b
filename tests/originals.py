"""What the tests of checkpoints share: networks laid out as other tools do, a small GAN, what loading has to give."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.models.dcgan import Discriminator, Generator, discriminator_blocks, generator_blocks
from probe.models.gan import GAN, use_batch_statistics

NZ = 5


def randomised(module: Any, seed: int = 0) -> Any:
    """Random weights of a size that keeps activations apart, and random BatchNorm statistics."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                for parameter in m.parameters():
                    parameter.normal_(0, 0.15, generator=g)
            elif isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                if m.affine:
                    m.weight.uniform_(0.5, 1.5, generator=g)
                    m.bias.normal_(0, 0.3, generator=g)
                m.running_mean.normal_(0, 0.3, generator=g)
                m.running_var.uniform_(0.3, 1.5, generator=g)
    return module.eval()


def settled(module: Any, inputs: Tensor) -> Any:
    """The same with the BatchNorm statistics of some inputs, as training leaves them."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
            m.train()
    with torch.no_grad():
        module(inputs)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            m.num_batches_tracked.fill_(1000)
    return module.eval()


def normal_latents(flat: bool = False, nz: int = NZ) -> Tensor:
    """Latents whose mean and covariance are those of N(0, 1) exactly, (2048, nz, 1, 1) or flat."""
    z = torch.randn(1024, nz, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    z = torch.cat([z, -z])
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(z.T @ z / len(z)), z.T, upper=False).T.float()
    return z if flat else z[:, :, None, None]


def settled_pair(g: Any, d: Any, flat: bool = False) -> tuple[Any, Any]:
    """A generator with the statistics of its latents, a discriminator with those of its samples."""
    settled(g, normal_latents(flat))
    with torch.no_grad():
        return g, settled(d, g(normal_latents(flat)[:512]))


def sequential_g(*, size: int = 32, channels: int = 3, bias: bool = False, dropout: bool = False, kernel: int = 4):
    """The layout of pytorch/examples: ConvTranspose2d, BatchNorm2d, ReLU."""
    widths = [8 * 2**i for i in reversed(range((size // 4).bit_length() - 1))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip([NZ, *widths], [*widths, channels], strict=True)):
        shape = (4, 1, 0, 0) if i == 0 else (kernel, 2, (kernel - 1) // 2, kernel % 2)
        layers.append(nn.ConvTranspose2d(a, b, *shape, bias=bias))
        if b != channels:
            layers += [nn.BatchNorm2d(b), nn.ReLU(True)] + [nn.Dropout(0.3)] * dropout
    return nn.Sequential(*layers, nn.Tanh())


def sequential_d(*, size: int = 32, channels: int = 3, bias: bool = False, dropout: bool = False):
    """The layout of pytorch/examples: Conv2d, BatchNorm2d (not on the first), LeakyReLU; a sigmoid."""
    widths = [8 * 2**i for i in range((size // 4).bit_length() - 1)]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers.append(nn.Conv2d(a, b, 4, 2, 1, bias=bias))
        layers += [nn.BatchNorm2d(b)] * (i > 0) + [nn.LeakyReLU(0.2, True)] + [nn.Dropout(0.3)] * dropout
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=bias), nn.Sigmoid())


class Named(nn.Module):
    """A module whose only child has a name: `main`, `gen`, `layer_stack`…"""

    def __init__(self, name: str, child: nn.Module) -> None:
        super().__init__()
        self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        return next(self.children())(x)


def main_g(**options: Any) -> nn.Module:
    return settled(randomised(Named("main", sequential_g(**options))), normal_latents())


def main_d(**options: Any) -> nn.Module:
    d = randomised(Named("main", sequential_d(**options)), 1)
    same_images = {key: value for key, value in options.items() if key in ("size", "channels")}
    with torch.no_grad():
        return settled(d, main_g(**same_images)(normal_latents()[:512]))


def same(gan: GAN, g: nn.Module, d: nn.Module | None = None, *, flat: bool = False, logits: bool = False) -> None:
    """Compare images to the original generator's, and logits to the original discriminator's."""
    z = torch.randn(4, NZ, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = g(z if flat else z[:, :, None, None])
    torch.testing.assert_close(gan.images(z), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.05
    assert not gan.generator.training
    assert (gan.nz, gan.size, gan.channels) == (NZ, expected.shape[-1], expected.shape[1])
    if d is not None:
        with torch.no_grad():
            wanted, got = d(expected).flatten(), gan.require_discriminator()(expected)
        assert got.shape == (4,)
        assert got.std() > 1e-3
        torch.testing.assert_close(got if logits else got.sigmoid(), wanted, atol=1e-5, rtol=1e-5)


class ZooG(nn.Module):
    def __init__(self, dim: int = 4, depth: int = 2, tanh: bool = True) -> None:
        super().__init__()
        self.formatLayer = nn.ConvTranspose2d(NZ, dim * 2**depth, 4, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(batchNorm0=nn.BatchNorm2d(dim * 2**depth), relu0=nn.ReLU())
        for i in range(depth):
            a = dim * 2 ** (depth - i)
            layers[f"convTranspose{i + 1}"] = nn.ConvTranspose2d(a, a // 2, 4, 2, 1, bias=False)
            layers[f"batchNorm{i + 1}"], layers[f"relu{i + 1}"] = nn.BatchNorm2d(a // 2), nn.ReLU()
        layers["outlayer"] = nn.ConvTranspose2d(dim, 3, 4, 2, 1, bias=False)
        self.main, self.tanh = nn.Sequential(layers), tanh

    def forward(self, z: Tensor) -> Tensor:
        x = self.main(self.formatLayer(z))
        return x.tanh() if self.tanh else x


def up(*layers: tuple[int, ...]) -> nn.Sequential:
    """Transposed convolutions (inputs, outputs, kernel, stride, padding) with BatchNorm and ReLU between."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [nn.ConvTranspose2d(*layer), nn.BatchNorm2d(layer[1]), nn.ReLU()]
    return nn.Sequential(*modules[:-2], nn.Tanh())


def tiny(batch: bool = False) -> GAN:
    g = randomised(Generator(generator_blocks(16, 3, NZ, 4)))
    d = randomised(Discriminator(discriminator_blocks(16, 3, 4)), 1)
    if batch:
        use_batch_statistics(d)
    policy = {"generator": "running", "discriminator": "batch" if batch else "running"}
    return GAN(g, d, NZ, 16, 3, "uniform", policy, {"format": "trained", "training": {"steps": 7}})


def refused(path: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(path, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert Path(path).name in str(error.value)
