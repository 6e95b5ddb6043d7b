"""Who may talk to the page: token, host and origin, for HTTP and for websockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from probe.ui.guard import Guard

TOKEN, PORT = "s3cret-token", 8123
GOOD = {"host": f"127.0.0.1:{PORT}", "cookie": f"other=1; probe-{PORT}={TOKEN}"}


def ask(headers: dict[str, str], query: str = "", kind: str = "http") -> tuple[list[dict[str, Any]], bool]:
    """The messages a request is answered with, and whether the application behind the guard saw it."""
    seen: list[bool] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(True)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": kind, "path": "/", "headers": raw, "query_string": query.encode()}
    asyncio.run(Guard(app, TOKEN, PORT)(scope, None, send))  # type: ignore[arg-type]
    return sent, bool(seen)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("origin", [None, f"http://127.0.0.1:{PORT}", f"http://localhost:{PORT}"])
def test_the_page_itself_may(kind, origin) -> None:
    _, seen = ask(GOOD | ({"origin": origin} if origin else {}), kind=kind)
    assert seen


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"host": "evil.example"}, "host"),
        ({"host": f"evil.example:{PORT}"}, "host"),
        ({"host": "127.0.0.1:9"}, "host"),
        ({"host": ""}, "host"),
        ({"origin": "http://evil.example"}, "origin"),
        ({"origin": f"https://127.0.0.1:{PORT}"}, "origin"),
        ({"origin": "null"}, "origin"),
        ({"cookie": ""}, "token"),
        ({"cookie": f"probe-{PORT}=wrong"}, "token"),
        ({"cookie": "probe-9=" + TOKEN}, "token"),
    ],
)
def test_others_may_not(kind, change, reason) -> None:
    sent, seen = ask(GOOD | change, kind=kind)
    assert not seen
    if kind == "websocket":
        assert sent[0]["type"] == "websocket.close"
        assert reason in sent[0]["reason"]
    else:
        assert sent[0]["status"] == 403
        assert reason in sent[1]["body"].decode()


def test_a_token_in_the_address_moves_into_a_cookie() -> None:
    sent, seen = ask({"host": GOOD["host"]}, f"token={TOKEN}")
    headers = dict(sent[0]["headers"])
    assert (sent[0]["status"], headers[b"location"], seen) == (303, b"/", False)
    assert headers[b"set-cookie"].decode() == f"probe-{PORT}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"


def test_a_wrong_token_in_the_address_is_refused_whatever_the_cookie() -> None:
    assert not ask(GOOD, "token=wrong")[1]


def test_no_other_site_may_frame_it() -> None:
    (start,), _ = ask(GOOD)
    assert b"frame-ancestors 'none'" in dict(start["headers"])[b"content-security-policy"]
