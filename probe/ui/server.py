"""Serving the page: on this machine only, at an address that nobody can guess."""

from __future__ import annotations

import os
import secrets
import socket
import warnings
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Response
from nicegui import app as pages
from nicegui import ui

from probe.base.errors import ProbeError
from probe.models.gan import GAN
from probe.ui.desk import Desk
from probe.ui.guard import Guard
from probe.ui.marks import Marks
from probe.ui.page import build
from probe.ui.picks import Picks
from probe.ui.workbench import SHEET, Workbench

_WEB = Path(__file__).parent / "web"
_MOST = 10_000


def open_desk(gan: GAN, ckpt: str, labels: Path, concepts: Path, n: int, seed: int) -> Desk:
    """What the page works on: samples up to the last one labelled, if that is beyond n.

    Raises ProbeError for files that are none, or were made for another checkpoint or seed.
    """
    for path in (labels, concepts):
        folder = next(p for p in path.resolve().parents if p.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ProbeError(f"{path}: cannot write there; choose another place for it")
    marks, picks = Marks(labels, gan, seed), Picks(concepts, gan, seed)
    last = max((i for i, record in marks.records.items() if record.boxes or record.lacks), default=0)
    if last >= _MOST:
        raise ProbeError(f"{labels.name}: labels of sample {last}; the page shows {_MOST} samples at most")
    bench = Workbench(gan, max(n, last + 1), seed)
    if not bench.sites:
        raise ProbeError("the generator has no layers with feature maps; the page needs at least one")
    return Desk(marks, picks, bench, ckpt, f"/samples/{secrets.token_urlsafe(8)}")


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 is any free one. Raises ProbeError for one that is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError as error:
        raise ProbeError(f"--port {port}: {error.strerror}; leave it out for any free one") from None
    found.listen()  # whoever comes before the server does waits
    return found


def serve(desk: Desk, port: int) -> None:
    """Serve the page until interrupted, and raise KeyboardInterrupt then; prints its address, the token in it."""
    door = listen(port)
    number, token = door.getsockname()[1], secrets.token_urlsafe(32)
    desk.bench.prepare()
    # NiceGUI looks at every living object for its server; one of torch's warns when looked at.
    warnings.filterwarnings("ignore", "`torch.distributed.reduce_op` is deprecated", FutureWarning)
    print(f"open  http://127.0.0.1:{number}/?token={token}\nstop  Ctrl-C; labels are saved at every change", flush=True)
    guarded: Any = Guard(_application(desk), token, number)
    config = uvicorn.Config(guarded, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run([door])
    raise KeyboardInterrupt  # nothing else ends it; asyncio loses the signal where it comes as the last task ends


def _application(desk: Desk) -> FastAPI:
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @inner.get(desk.samples + "/{k}.png")
    def sheet(k: int) -> Response:
        if not 0 <= k * SHEET**2 < desk.bench.n:
            raise HTTPException(404)
        kept = {"cache-control": "private, max-age=86400, immutable"}  # the address is this run's own
        return Response(desk.bench.sheet(k), media_type="image/png", headers=kept)

    ui.page("/", title="probe label", language="en-US")(lambda: build(desk))
    pages.add_static_files("/web", _WEB, max_cache_age=0)
    ui.run_with(inner, title="probe label", tailwind=False)
    return inner
