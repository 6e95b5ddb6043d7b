"""A running `probe label` and a real browser that visits it.

Chromium must be installed (Debian: apt-get install chromium); the tests skip, with that reason, where it is not.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MARKS = [
    pytest.mark.browser, pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium; Debian: apt-get install chromium"),
]  # fmt: skip
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
Start = Callable[..., "Server"]


class Server:
    """A running `probe label`."""

    def __init__(self, folder: Path, *words: object) -> None:
        command = [sys.executable, "-m", "probe", "label", *map(str, words)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(r"open  (http://127\.0\.0\.1:(\d+)/\?token=([\w-]{40,}))\n", line)
        assert found, line + self.process.stdout.read()
        self.url, self.port, self.token = found[1], int(found[2]), found[3]

    def stop(self, how: int = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(20)
        self.process.stdout.close()
        return code


def visit(browser: Any, url: str, width: int = 1400, height: int = 900) -> Any:
    """The page, open and alive; what it asks of other machines and what goes wrong in it is kept in `page.trouble`."""
    context = browser.new_context(viewport={"width": width, "height": height})
    return settle(context.new_page(), url)


def settle(page: Any, url: str) -> Any:
    page.trouble = []
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on(
        "request", lambda r: r.url.startswith(("http://127.0.0.1:", "data:", "blob:")) or page.trouble.append(r.url)
    )
    page.goto(url)
    page.wait_for_function("window.socket?.connected && document.querySelector('.pr-labeller')")
    return page


def name_concept(page: Any, name: str) -> None:
    page.get_by_label("Name of a new concept").fill(name)
    page.keyboard.press("Enter")
    page.locator(".pr-concept.on", has_text=name).wait_for()


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over the enlarged sample; places are shares of its side."""
    box = page.locator(".pr-canvas").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=5)
    page.mouse.up()
