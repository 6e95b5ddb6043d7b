"""Features of D against loops written out here, BatchNorm statistics, baselines against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.models.dcgan import Discriminator, discriminator_blocks
from probe.models.gan import GAN, from_bytes
from probe.questions.classify import baselines, representation
from probe.questions.classify.representation import Views


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)


def by_hand(gan: GAN, images: np.ndarray) -> torch.Tensor:
    """Every hidden layer's maximum over each cell of a 4x4 grid, channel by channel."""
    x, out = from_bytes(torch.from_numpy(images)), []
    with torch.no_grad():
        for layer in gan.discriminator.layers()[:-1]:
            x = layer(x)
            n, c, side, _ = x.shape
            cells = x.reshape(n, c, 4, side // 4, 4, side // 4)
            out.append(cells.amax((3, 5)).reshape(n, c * 16))
    return torch.cat(out, 1)


def test_features_are_those_of_the_paper(tiny_gan, pictures):
    expected = by_hand(tiny_gan, pictures)
    phi = representation.of_discriminator(tiny_gan)
    found = representation.rows(phi, pictures)
    assert found.dtype == torch.float16
    assert found.shape == (70, (4 + 8 + 16) * 16)
    torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=1e-3)
    assert phi.parts == {"layer1": slice(0, 64), "layer2": slice(64, 192), "layer3": slice(192, 448)}


def test_views_are_mirror_images_and_moved_copies():
    x = torch.rand(9, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    plain, turned, moved, both = Views(flips=True, shifts=2, seed=1).of(x, 0).unflatten(0, (9, 4)).unbind(1)
    assert torch.equal(plain, x)
    assert torch.equal(turned, x.flip(3))
    found = set()
    for original, copies in ((x, moved), (x.flip(3), both)):
        larger = np.pad(original.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), "edge")
        for image, copy in zip(larger, copies.numpy(), strict=True):
            places = [(i, j) for i in range(5) for j in range(5) if (image[:, i : i + 12, j : j + 12] == copy).all()]
            assert len(places) == 1
            found |= set(places)
    assert len(found) > 9  # each image its own way
    assert torch.equal(Views(shifts=2, seed=1).of(x, 0)[1::2], moved)
    assert not torch.equal(Views(shifts=2, seed=1).of(x, 9)[1::2], moved)
    assert torch.equal(Views().of(x, 0), x)


def test_means_and_mirror_images(tiny_gan, pictures):
    largest = representation.of_discriminator(tiny_gan)
    both = representation.of_discriminator(tiny_gan, means=True)
    found = representation.rows(both, pictures[:5], Views(flips=True))
    part, alone = both.parts["layer1"], largest.parts["layer1"]
    middle = (part.start + part.stop) // 2
    assert middle - part.start == alone.stop - alone.start
    torch.testing.assert_close(found[::2, part.start : middle], representation.rows(largest, pictures[:5])[:, alone])
    assert (found[::2, middle : part.stop] <= found[::2, part.start : middle]).all()
    assert found.shape == (10, both.parts["layer3"].stop)
    small = both.parts["layer3"]
    torch.testing.assert_close(
        found[::2, small], representation.rows(largest, pictures[:5])[:, largest.parts["layer3"]]
    )
    turned = np.ascontiguousarray(pictures[:5, ..., ::-1])
    torch.testing.assert_close(found[1::2], representation.rows(both, turned))


def test_the_largest_value_of_a_cell_and_its_mean():
    maps = torch.arange(64.0).reshape(1, 1, 8, 8)
    cells = [maps[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in range(4) for j in range(4)]
    expected = [float(cell.max()) for cell in cells] + [float(cell.mean()) for cell in cells]
    assert representation.pool(maps, means=True).flatten().tolist() == expected
    assert representation.pool(maps[..., :3, :3]).tolist() == maps[..., :3, :3].flatten(1).tolist()  # small enough
    assert representation.pool(torch.randn(2, 3, 7, 7)).shape == (2, 48)


def test_statistics_are_those_of_the_images(tiny_gan, pictures):
    representation.adapt(tiny_gan, pictures)
    first, second = tiny_gan.discriminator.layers()[:2]
    with torch.no_grad():
        y = second.conv(first(from_bytes(torch.from_numpy(pictures))))
    torch.testing.assert_close(second.norm.running_mean, y.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(second.norm.running_var, y.var((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert not tiny_gan.discriminator.training


def test_random_weights_leave_the_trained_ones_alone(tiny_gan):
    before = {k: v.clone() for k, v in tiny_gan.discriminator.state_dict().items()}
    other = representation.untrained_discriminator(tiny_gan, 5)
    assert all(torch.equal(v, before[k]) for k, v in tiny_gan.discriminator.state_dict().items())
    assert float(other.discriminator.layer2.conv.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_features_that_are_no_numbers(tiny_gan, pictures):
    tiny_gan.discriminator.layer1.conv.weight.data.fill_(1e6)
    with pytest.raises(ProbeError, match=r"^discriminator: a feature of .*; expected finite ones below 65504$"):
        representation.rows(representation.of_discriminator(tiny_gan), pictures)


def test_kmeans_features_by_the_formula(pictures):
    phi = baselines.kmeans(pictures[:, :, :12, :12], 5, seed=1)
    x = pictures[:2, :, :12, :12]
    found = phi.function(from_bytes(torch.from_numpy(x)))
    assert found.shape == (2, 5 * 4)
    # the triangle of one patch, from the function on an image that is nothing but that patch
    patch = np.ascontiguousarray(x[:1, :, 3:9, 2:8])
    alone = phi.function(from_bytes(torch.from_numpy(patch))).reshape(5, 4)
    assert torch.equal(alone[:, 0], alone[:, 3])
    assert (alone >= 0).all()
    assert (alone == 0).any(1).any()
    assert (alone[:, 0] > 0).any()  # what is nearer than the mean
    # averaged over quadrants of the 7 x 7 places
    each = torch.zeros(5, 7, 7)
    for i in range(7):
        for j in range(7):
            cut = np.ascontiguousarray(x[:1, :, i : i + 6, j : j + 6])
            each[:, i, j] = phi.function(from_bytes(torch.from_numpy(cut))).reshape(5, 4)[:, 0]
    torch.testing.assert_close(found[0].reshape(5, 2, 2), F.adaptive_avg_pool2d(each, 2), atol=1e-3, rtol=1e-3)


def test_kmeans_patches_are_white(pictures):
    """On noise whose patches are white already, centroids differ and every one is some patch's nearest."""
    phi = baselines.kmeans(pictures, 4, seed=0)
    rows = representation.rows(phi, pictures)
    assert rows.shape == (70, 16)
    assert (rows.float().reshape(70, 4, 4).amax((0, 2)) > 0).all()


def test_a_supervised_network_learns_what_is_there():
    labels = torch.arange(200) % 2
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 28, 28), dtype=np.uint8)
    images[labels.numpy() == 1, :, :14] //= 2
    blocks = discriminator_blocks(28, 1, 4)
    net = baselines.supervised(blocks, images, labels, 2, 30, 0, flips=True)
    with torch.no_grad():
        scores = net(from_bytes(torch.from_numpy(images)))
    assert scores.shape == (200, 2)
    assert (scores.argmax(1) == labels).float().mean() > 0.95
    assert isinstance(net, Discriminator)
