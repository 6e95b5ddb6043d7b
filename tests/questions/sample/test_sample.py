"""Samples as a result, and as numbered files."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.base.errors import ProbeError
from probe.models.gan import to_bytes
from probe.questions.sample.figure import draw
from probe.questions.sample.run import sample, write_each
from probe.results.result import Result


def test_sample(tiny_gan):
    found = sample([tiny_gan], 5, seed=3)
    np.testing.assert_array_equal(found.arrays["latents"], tiny_gan.latents(5, 3))
    floats = tiny_gan.images(tiny_gan.latents(5, 3)).numpy()
    assert found.arrays["images"].dtype == np.uint8
    np.testing.assert_allclose(found.arrays["images"] / 127.5 - 1, floats, atol=0.5 / 127.5 + 1e-5)
    assert (found.command, found.settings) == ("sample", {"samples": 5, "seed": 3})
    assert found.provenance == tiny_gan.provenance
    assert found.provenance is not tiny_gan.provenance


@pytest.mark.parametrize("channels", [1, 3])
def test_write_each(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (12, channels, 8, 8), dtype=np.uint8)
    write_each(Result("sample", {}, arrays={"images": images}), tmp_path / "images")
    files = sorted((tmp_path / "images").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(12)]
    for file, image in zip(files, images, strict=True):
        with Image.open(file) as picture:
            assert picture.mode == ("RGB" if channels == 3 else "L")
            pixels = np.asarray(picture).reshape(8, 8, channels)
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), image)


def test_a_row_for_each_gan(tiny_gan):
    """The same latents through each, in turn; others than the first's are refused."""
    other = copy.deepcopy(tiny_gan)
    with torch.no_grad():
        for p in other.generator.parameters():
            p.neg_()
    found = probe.sample([tiny_gan, other], 3, seed=1)
    for row, gan in enumerate((tiny_gan, other)):
        np.testing.assert_array_equal(found.arrays["images"][3 * row : 3 * row + 3], to_bytes(gan.sample(3, 1)))
    assert found.metrics == {"images": 6, "rows": 2}
    picture = draw(found)
    assert picture.get_size_inches()[0] > picture.get_size_inches()[1]
    with pytest.raises(ProbeError, match="2 GANs of 2 kinds"):
        probe.sample([tiny_gan, replace(tiny_gan, prior="uniform" if tiny_gan.prior == "normal" else "normal")], 3)
    with pytest.raises(ProbeError, match="expected a GAN"):
        probe.sample([tiny_gan, "netG.pth"], 3)
