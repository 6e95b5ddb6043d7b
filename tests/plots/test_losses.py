"""The figure of a training: what its lines hold."""

from __future__ import annotations

import numpy as np

from probe.plots import losses


def log(n: int) -> dict[str, np.ndarray]:
    step = np.arange(1.0, n + 1)
    return {"step": step, "loss_d": step / n, "loss_g": 2 * step / n, "accuracy_real": step * 0 + 0.9, "accuracy_fake": step * 0 + 0.7}  # fmt: skip


def lines(figure, panel: int) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in figure.axes[panel].lines if line.get_label()[0] != "_"}


def test_a_short_run_is_drawn_step_by_step():
    figure = losses.draw(log(50))
    drawn = lines(figure, 0)
    assert set(drawn) == {"discriminator", "generator"}
    np.testing.assert_allclose(drawn["generator"], np.stack([np.arange(1, 51), np.arange(1, 51) / 25], 1))
    assert figure.axes[0].get_xlabel() == "step"
    accuracy = lines(figure, 1)
    assert (accuracy["on real images"][:, 1] == 0.9).all()
    assert (accuracy["on drawn images"][:, 1] == 0.7).all()


def test_a_long_run_is_drawn_as_means():
    """1,001 steps in means of 6 (at most 200 points), the last of 5: 997 to 1,001."""
    drawn = lines(losses.draw(log(1001)), 0)["discriminator"]
    assert len(drawn) == 167
    np.testing.assert_allclose(drawn[0], [3.5, 3.5 / 1001])
    np.testing.assert_allclose(drawn[-1], [999, 999 / 1001])


def test_a_run_of_an_earlier_version_has_no_accuracy():
    old = log(10) | {"accuracy_real": np.full(10, np.nan), "accuracy_fake": np.full(10, np.nan)}
    assert np.isnan(lines(losses.draw(old), 1)["on real images"][:, 1]).all()


def test_changes_in_words():
    first = {"from": 0, "lr": 2e-4, "noise": 0.0, "precision": "float32", "decay": 1.0}
    second = {**first, "from": 70, "lr": 5e-4, "precision": "bfloat16"}
    third = {"from": 90, "lr": 5e-4, "noise": 0.0, "precision": "bfloat16", "decay": 0.75}
    assert losses.changes([first, second, third]) == {70: "lr 0.0005, precision bfloat16", 90: "decay 0.75"}
    assert losses.changes([first]) == {}


def test_changes_are_named_where_they_are():
    figure = losses.draw(log(20), {12: "rate 5e-4"})
    assert [(text.xy[0], text.get_text()) for text in figure.axes[0].texts] == [(12, "rate 5e-4")]
