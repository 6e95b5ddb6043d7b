"""The figure check of CI on the shipped checkpoint: what it catches, and that it is silent where nothing changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from analyses import check, fig3_samples, gallery
from analyses.common import FIGURES
from probe.models.gan import GAN


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run Fig. 3 again and compare; returns what changed, in lines."""
    monkeypatch.setattr(check, "QUICK", (fig3_samples,))
    monkeypatch.setattr(sys, "argv", ["check"])
    return lambda: check.recomputed(tmp_path / "pictures").told().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_changed(again, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert again()[-1] == "2 results compared: same"
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_a_broken_seed(again, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = GAN.latents
    monkeypatch.setattr(GAN, "latents", lambda self, n, seed=0: latents(self, n, seed + 1))
    assert any(line.startswith("fig3_samples: arrays: images: ") for line in again())


@pytest.mark.slow
def test_a_swapped_channel(again, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    batches = GAN.batches
    monkeypatch.setattr(GAN, "batches", lambda self, z: (x.flip(1) for x in batches(self, z)))
    changed = [line.split(": ")[:2] for line in again()[:-1]]
    assert changed == [[name, what] for name in ("fig3_samples", "fig3_samples_2") for what in ("arrays", "notes")]
    assert (tmp_path / "pictures" / "fig3_samples.png").exists()


def test_a_mislabelled_axis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.axes import Axes

    (tmp_path / "fig4_walk").symlink_to(FIGURES / "fig4_walk")
    (tmp_path / "README.md").write_text("old")
    monkeypatch.setattr(check, "FIGURES", tmp_path)
    stale = "figures/README.md: not what the results say; run python -m analyses.gallery"
    assert list(check.drawings()) == [stale]
    label = Axes.set
    monkeypatch.setattr(
        Axes, "set", lambda self, **how: label(self, **{k: "steps" if k == "xlabel" else v for k, v in how.items()})
    )
    (found, _) = check.drawings()
    assert found.startswith("fig4_walk: the drawing differs by ")


def test_the_list_of_figures_is_that_of_the_results() -> None:
    assert (FIGURES / "README.md").read_text(encoding="utf-8") == gallery.text()
