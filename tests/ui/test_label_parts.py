"""What the page is made of, without a browser: proposals, the preview of forgetting, the painter, exemplars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe import cli
from probe.base.errors import ProbeError
from probe.concepts import exemplars
from probe.concepts.expressions import parse
from probe.concepts.labels import Boxes
from probe.models.gan import GAN, to_bytes
from probe.models.hooks import capture
from probe.ui import painter, preview, suggest
from probe.ui.painter import Switches
from probe.ui.picks import Picks, combine, turned
from probe.ui.workbench import Workbench, png, tile


@pytest.fixture
def bench(tiny_gan: GAN) -> Workbench:
    return Workbench(tiny_gan, 120, 0)


def lit(bench: Workbench, n: int = 40, unit: int = 2) -> Boxes:
    """Boxes where a unit of the probed layer is strongest, on half of the samples: a concept that a probe can find."""
    site = bench.site
    maps = bench.maps(site.name)[:, unit]
    cell = bench.quick.size / site.grid
    level = maps.flatten(1).amax(1)
    boxes = {}
    for i in torch.nonzero(level[:n] > level[:n].median())[:, 0].tolist():
        row, column = divmod(int(maps[i].argmax()), site.grid)
        boxes[i] = np.array([[column * cell, row * cell, (column + 1) * cell, (row + 1) * cell]])
    return Boxes("spot", tuple(range(n)), boxes, 0)


def test_a_sheet_holds_the_samples_in_order(bench, tmp_path) -> None:
    (tmp_path / "sheet.png").write_bytes(bench.sheet(1))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (64, 320, 3)  # samples 100 to 119 of 32 px
    expected = to_bytes(bench.quick.sample(120))[113].permute(1, 2, 0).numpy()
    assert np.abs(sheet[32:64, 96:128].astype(int) - expected).max() <= 1


def test_tile_fills_rows_from_the_left() -> None:
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 2, 2) / 5
    found = tile(images, 3)
    assert found.shape == (3, 4, 6)
    assert found[0, ::2, ::2].flatten().tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert png(found)[:4] == b"\x89PNG"


def test_the_probe_finds_what_was_boxed(bench) -> None:
    boxes = lit(bench)
    auc, (low, high) = suggest.assess(bench, boxes)
    assert 0.8 < auc <= 1
    assert low <= auc <= high
    found = suggest.suggest(bench, boxes)
    assert "linear probe of layer2" in found.by
    assert sorted(found.order) == list(range(120))
    hit = 0
    for i, rows in boxes.boxes.items():
        x, y = (rows[0, 0] + rows[0, 2]) / 2, (rows[0, 1] + rows[0, 3]) / 2
        hit += any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in found.boxes.get(i, []))
    assert hit > 0.6 * len(boxes.boxes)


def test_the_least_sure_come_first() -> None:
    scores = torch.full((4, 16, 16), -5.0)
    for i, peak in enumerate((3.0, -0.2, 0.5, -4.0)):
        scores[i, 4:12, 4:12] = peak
    found = suggest._decide(scores, "x", 0, "me", 12)
    assert found.order == [1, 2, 0, 3]
    assert found.boxes == {0: [[4, 4, 12, 12]], 2: [[4, 4, 12, 12]]}


def test_too_few_labels_are_said_to_be(bench) -> None:
    few = Boxes("spot", (0, 1, 2), {0: np.array([[1.0, 1, 9, 9]])}, 0)
    assert suggest.assess(bench, few) is None
    with pytest.raises(ProbeError, match="spot: 1 samples with a box and 2 without; a probe needs 5 of each"):
        suggest.suggest(bench, few)
    with pytest.raises(ProbeError, match="forgetting needs 5 of each"):
        preview.forget_now(bench, few, 2.0)


def test_forgetting_now_leaves_the_model_as_it_was(bench) -> None:
    before = bench.quick.sample(8)
    found = preview.forget_now(bench, lit(bench), 5.0)
    assert found.before.shape == found.after.shape == (12, 3, 32, 32)
    assert not torch.equal(found.before, found.after)
    assert torch.equal(preview.pairs(found)[1::2], found.after)
    assert torch.equal(bench.slow.sample(8), before)


def test_heat_shows_the_maps(bench, tiny_gan) -> None:
    site = bench.sites[1]  # 8 maps of 8x8
    with capture(tiny_gan.generator, [site.name]) as seen:
        tiny_gan.images(tiny_gan.latents(6)[5:])
    alpha = painter.heat(bench, site, 5, 3)[..., 3].astype(float) / 230
    assert alpha.shape == (24, 24)
    maps = seen[site.name][0].clamp(min=0)
    for unit in range(8):
        row, column = divmod(unit, 3)
        expected = maps[unit] / maps[unit].max().clamp(min=1e-6)
        assert np.allclose(alpha[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8], expected, atol=0.005)
    assert not alpha[16:, 16:].any()


def test_units_in_order(bench) -> None:
    boxes = lit(bench)
    for order in ("probe weight", "IoU with boxes"):
        found = painter.rank(bench, bench.site, order, 0, boxes)
        assert found[0][0] == 2  # the unit the boxes were drawn around
        values = [value for _, value in found]
        assert values == sorted(values, reverse=True)
    assert [u for u, _ in painter.rank(bench, bench.site, "number", 0, None)] == list(range(8))
    with pytest.raises(ProbeError, match="IoU with boxes: needs 5 labelled samples"):
        painter.rank(bench, bench.site, "IoU with boxes", 0, None)


def test_switching_units(bench) -> None:
    site, z = bench.sites[2], bench.z[:2]  # maps of 16x16, so that a region of the image stays one
    plain = bench.draw(z)
    switches = Switches()
    assert torch.equal(painter.paint(bench, site, switches, None, z), plain)
    switches.set([0, 1], "off")
    switches.set([1], "on")
    assert (switches.off, switches.on) == ({0}, {1})
    levels = painter.strong(bench, site)
    assert levels.shape == (site.maps,)
    everywhere = painter.paint(bench, site, switches, levels, z)
    assert (everywhere - plain).abs().amax((1, 2, 3)).min() > 0.01
    switches.region = torch.zeros(32, 32)
    assert torch.equal(painter.paint(bench, site, switches, levels, z), plain)
    switches.region[:, :8] = 1
    part = painter.paint(bench, site, switches, levels, z)
    assert torch.equal(part[..., 12:], plain[..., 12:])
    assert not torch.equal(part[..., :8], plain[..., :8])
    switches.set(list(range(site.maps)), "as is")
    assert switches == Switches(region=switches.region)


def test_exemplars_are_what_arithmetic_reads(tiny_gan, tmp_path) -> None:
    path = tmp_path / "exemplars.json"
    picks = Picks(path, tiny_gan, 4)
    picks.add("big cat")
    assert not path.exists()  # an exemplar file has no empty concepts
    picks.add("dog")
    for name, rows in (("big cat", (1, 5)), ("dog", (2, 3, 2))):
        for i in rows:
            picks.toggle(name, i, 100)
    assert json.loads(path.read_text()) == {
        "seed": 4,
        "checkpoint": "0" * 64,
        "concepts": {"big cat": [1, 5], "dog": [3]},
    }
    z = tiny_gan.latents(6, 4)
    assert torch.equal(exemplars.load(path, tiny_gan).latents["big cat"], z[[1, 5]])
    found = picks.latents()
    expected = z[3] - (z[1] + z[5]) / 2
    assert torch.allclose(combine(found, parse("dog - big cat", found.latents)), expected)
    assert torch.allclose(turned(found, "big cat", "dog", z[0], torch.tensor([0.5])), z[0] + 0.5 * expected)
    assert Picks(path, tiny_gan, 4).concepts == picks.concepts
    with pytest.raises(
        ProbeError, match=r"^exemplars\.json: exemplars of samples of seed 4, but --seed is 0; use --seed 4"
    ):
        Picks(path, tiny_gan, 0)


def test_exemplars_refuse_nonsense(tiny_gan, tmp_path) -> None:
    picks = Picks(tmp_path / "e.json", tiny_gan, 0)
    for name in ("", "a - b", "x" * 41):
        with pytest.raises(ProbeError, match="expected a name of 1 to 40 letters"):
            picks.add(name)
    picks.add("a")
    for name, i in (("a", 100), ("a", -1), ("a", "1"), ("b", 1)):
        with pytest.raises(ProbeError, match="no such sample or concept"):
            picks.toggle(name, i, 100)
    picks.toggle("a", 1, 100)
    (tmp_path / "e.json").write_text('{"seed": 0, "concepts": {"other": [1, 2, 3, 4, 5]}}')
    with pytest.raises(ProbeError, match=r"not saved: another program changed e\.json"):
        picks.toggle("a", 2, 100)


def test_files_of_another_checkpoint_or_seed_are_refused_with_both_named(tiny_gan, tmp_path) -> None:
    from probe.ui.server import open_desk

    about = {"info": {"probe": {"seed": 4, "sha256": "ab" * 32}}, "images": [], "annotations": [], "categories": []}
    path, picks = tmp_path / "labels.json", tmp_path / "picks.json"
    path.write_text(json.dumps(about))
    with pytest.raises(ProbeError, match=r"^labels\.json: .*checkpoint (ab){6}…, but this one is 0{12}…"):
        open_desk(tiny_gan, "x", path, picks, 20, 0)
    about["info"]["probe"]["sha256"] = None
    path.write_text(json.dumps(about))
    with pytest.raises(ProbeError, match=r"^labels\.json: labels of samples of seed 4, but --seed is 0; use --seed 4"):
        open_desk(tiny_gan, "x", path, picks, 20, 0)
    assert open_desk(tiny_gan, "x", path, picks, 20, 4).bench.n == 20
    about |= {"images": [{"id": 57}], "categories": [{"id": 1, "name": "hat"}]}
    path.write_text(json.dumps(about))
    assert open_desk(tiny_gan, "x", path, picks, 20, 4).bench.n == 58  # up to the last one labelled
    picks.write_text('{"seed": 3, "concepts": {"a": [1]}}')
    with pytest.raises(ProbeError, match=r"^picks\.json: exemplars of samples of seed 3, but --seed is 4"):
        open_desk(tiny_gan, "x", path, picks, 20, 4)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["probe", "label"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "probe: label: the page needs the extra `ui`; pip install 'dcgan-probe[ui]'\n"
