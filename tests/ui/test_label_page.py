"""The page of `probe label` in a real browser: what a user does there, and what nobody else can."""

from __future__ import annotations

import http.client
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from probe.checkpoints import load
from probe.concepts import exemplars, labels
from tests.browsing import MARKS, drag, name_concept, settle, visit

pytestmark = MARKS


def saved(page: Any) -> None:
    page.locator(".pr-saved", has_text="Saved").wait_for()


def boxes(path: Path, concept: str) -> dict[int, Any]:
    return {i: found.tolist() for i, found in labels.load(path, concept, 64).boxes.items()}


def test_a_user_labels_forgets_and_picks_exemplars(start, browser, tmp_path) -> None:
    server = start("-n", 40)
    path = tmp_path / "out/label/labels.coco.json"
    page = visit(browser, server.url)
    assert server.token not in page.url
    name_concept(page, "window")
    for k in range(10):  # five samples with a box, five without
        page.locator(".pr-sample", has_text=re.compile(rf"^Sample {k}$")).wait_for()
        if k % 2:
            page.keyboard.press("n")
        else:
            drag(page, (0.25, 0.25 + 0.01 * k), (0.5, 0.5))
            page.keyboard.press("Space")
    saved(page)
    drawn = boxes(path, "window")
    assert sorted(drawn) == [0, 2, 4, 6, 8]
    assert labels.load(path, "window").images == tuple(range(10))
    assert drawn[0][0] == pytest.approx([16, 16, 32, 32], abs=0.5)

    page.reload()
    page.locator(".pr-note", has_text="10 of 40 decided").wait_for()
    page.locator("#samples-8").click()
    assert page.locator(".pr-box").count() == 1
    drag(page, (0.3, 0.4), (0.4, 0.5))  # move it
    page.locator(".pr-box.chosen").wait_for()
    drag(page, (0.6, 0.6), (0.7, 0.7))  # by its corner
    saved(page)
    (moved,) = boxes(path, "window")[8]
    assert moved == pytest.approx([drawn[8][0][0] + 6.4, drawn[8][0][1] + 6.4, 44.8, 44.8], abs=1)
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    saved(page)
    assert boxes(path, "window") == drawn

    page.get_by_role("button", name="Forget now").click()
    page.locator("img[alt='12 new samples, before and after forgetting window']").wait_for(timeout=30_000)
    assert "of its area gone on 128 new samples" in page.locator(".pr-side").inner_text()
    assert (
        f"probe forget --concept window --labels {path.relative_to(tmp_path)}" in page.locator(".pr-side").inner_text()
    )

    page.get_by_role("tab", name="Exemplars").click()
    for concept, samples in (("day", (1, 4, 8)), ("night", (10, 15, 22))):
        page.get_by_label("Name of a concept").fill(concept)
        page.keyboard.press("Enter")
        page.locator(".pr-pick.on", has_text=concept).wait_for()
        for i in samples:
            page.locator(f"#samples-to-pick-{i}").click()
    page.locator(".pr-pick.on", has_text="10, 15, 22").wait_for()
    found = exemplars.load(tmp_path / "out/label/exemplars.json", load("rooms"))
    assert {name: len(z) for name, z in found.latents.items()} == {"day": 3, "night": 3}
    page.get_by_label("Expression over concepts").fill("day - night + day = bright")
    page.locator("figure", has_text="bright").locator("img[src^='data:image/png']").wait_for()
    assert page.trouble == []
    page.context.close()
    assert server.stop() == 130


def test_two_tabs_do_not_lose_each_others_boxes(start, browser, tiny, tmp_path) -> None:
    server = start("--ckpt", tiny, "-n", 20, "--labels", "mine.json")
    one = visit(browser, server.url)
    name_concept(one, "thing")
    two = settle(one.context.new_page(), server.url)
    drag(one, (0.1, 0.1), (0.3, 0.3))
    drag(two, (0.6, 0.6), (0.9, 0.9))  # the same sample
    for page in (one, two):
        saved(page)
        page.wait_for_function("document.querySelectorAll('.pr-box').length === 2")
    one.keyboard.press("ArrowRight")
    two.keyboard.press("ArrowLeft")
    drag(one, (0.1, 0.1), (0.5, 0.5))
    two.keyboard.press("ArrowRight")
    two.wait_for_function("document.querySelectorAll('.pr-box').length === 1")
    two.keyboard.press("n")  # it has a box by now: refused, not obeyed
    saved(two)
    found = labels.load(tmp_path / "mine.json", "thing", 32)
    assert {i: len(rows) for i, rows in found.boxes.items()} == {0: 2, 1: 1}
    one.context.close()


def test_kill_9_loses_nothing_that_was_dropped(start, browser, tiny, tmp_path) -> None:
    server = start("--ckpt", tiny, "-n", 20)
    page = visit(browser, server.url)
    name_concept(page, "thing")
    for k in range(3):
        drag(page, (0.1, 0.1), (0.4, 0.4 + 0.1 * k))
        page.keyboard.press("ArrowRight")
    saved(page)
    box = page.locator(".pr-canvas").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 90)  # the drag in hand
    server.stop(signal.SIGKILL)
    page.mouse.up()
    page.locator(".pr-saved.bad", has_text="no connection").wait_for()
    found = labels.load(tmp_path / "out/label/labels.coco.json", "thing", 32)
    assert sorted(found.boxes) == [0, 1, 2]
    assert not list((tmp_path / "out/label").glob(".*"))
    again = start("--ckpt", tiny, "-n", 20)
    page.context.close()
    page = visit(browser, again.url)
    page.locator(".pr-note", has_text="3 of 20 decided").wait_for()
    page.context.close()


def test_only_the_page_itself_is_answered(start, tiny) -> None:
    server = start("--ckpt", tiny, "-n", 20)
    cookie = {"Cookie": f"probe-{server.port}={server.token}"}

    def status(path: str = "/", host: str = "127.0.0.1", **headers: str) -> int:
        connection = http.client.HTTPConnection(host, server.port, timeout=20)
        connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        code = connection.getresponse().status
        connection.close()
        return code

    socket = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "x" * 22 + "==",
    }
    live = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert (status(**cookie), status(live, **cookie, **socket)) == (200, 101)
    for path, more in (
        ("/", {}),
        (live, socket),
        ("/web/labeller.js", {}),
        ("/_nicegui_ws/socket.io/?EIO=4&transport=polling", {}),
    ):
        assert status(path, **more) == 403  # no token
        assert status(path, **cookie, **more, Origin="http://evil.example") == 403
        assert status(path, **cookie, **more, Host=f"evil.example:{server.port}") == 403
    for path in (
        "/web/../server.py",
        "/web/%2e%2e/server.py",
        "/web//etc/passwd",
        "/samples/guess/0.png",
        "/docs",
        "/openapi.json",
    ):
        assert status(path, **cookie) == 404
    with pytest.raises(ConnectionRefusedError):
        status(host="127.0.0.2")  # bound to 127.0.0.1, not to every address


def test_with_the_keyboard_alone(start, browser, tiny, tmp_path) -> None:
    server = start("--ckpt", tiny, "-n", 20)
    page = visit(browser, server.url)
    for _ in range(12):  # the field is reached by Tab
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.ariaLabel") == "Name of a new concept":
            break
    page.keyboard.type("thing")
    page.keyboard.press("Enter")
    page.locator(".pr-concept.on", has_text="thing").wait_for()
    for key in (
        "b",
        "ArrowRight",
        "ArrowDown",
        "Shift+ArrowRight",
        "Escape",
        "ArrowRight",
        "b",
        "Delete",
        "Control+z",
        "Escape",
        "ArrowRight",
        "n",
    ):
        page.keyboard.press(key)
    saved(page)
    path = tmp_path / "out/label/labels.coco.json"
    found = labels.load(path, "thing", 32)
    assert found.images == (0, 1, 2)
    (first,), (second,) = (found.boxes[i].tolist() for i in (0, 1))
    width = second[2] - second[0]
    assert first[2] - first[0] == pytest.approx(
        round(32 / 3 * 2) / 2 + 1, abs=0.6
    )  # a third of the side, then 1 px wider
    assert width == pytest.approx(first[2] - first[0], abs=0.6)  # as large as the last
    assert page.locator(".pr-sample").inner_text() == "Sample 3"
    page.keyboard.press("?")
    page.locator(".pr-keys").wait_for()
    page.context.close()


def test_drawing_does_not_wait_for_the_server_and_outlives_the_connection(start, browser, tiny, tmp_path) -> None:
    server = start("--ckpt", tiny, "-n", 20)
    page = visit(browser, server.url)
    name_concept(page, "thing")
    os.kill(server.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    drag(page, (0.1, 0.1), (0.8, 0.8))
    assert page.locator(".pr-box.chosen").count() == 1
    page.locator(".pr-saved", has_text="Saving…").wait_for()
    assert time.monotonic() - began < 5
    os.kill(server.process.pid, signal.SIGCONT)
    saved(page)
    page.evaluate("window.socket.disconnect()")
    page.keyboard.press("ArrowRight")
    drag(page, (0.2, 0.2), (0.6, 0.6))
    page.locator(".pr-saved.bad", has_text="no connection").wait_for()
    assert sorted(labels.load(tmp_path / "out/label/labels.coco.json", "thing", 32).boxes) == [0]
    page.reload()
    page.locator(".pr-note", has_text="2 of 20 decided").wait_for()
    saved(page)
    found = labels.load(tmp_path / "out/label/labels.coco.json", "thing", 32)
    assert {i: len(rows) for i, rows in found.boxes.items()} == {0: 1, 1: 1}
    page.context.close()
