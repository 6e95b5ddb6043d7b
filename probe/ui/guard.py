"""Who may talk to the page: a browser of this machine that was given the token, from the page itself.

A page of another site could otherwise send requests to 127.0.0.1 (cross-site request forgery), or point a name of its
own there (DNS rebinding). The first carries a foreign Origin, the second a foreign Host.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_ADDED = (
    (b"content-security-policy", b"frame-ancestors 'none'; form-action 'self'; base-uri 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """An ASGI application around another one: HTTP and websockets alike pass only with token, host and origin.

    The token comes in the address once (`?token=…`), and from then on as a cookie that scripts cannot read and other
    sites cannot send.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.origins = {f"http://{host}" for host in self.hosts}
        self.cookie = f"probe-{port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        reason = self._refusal(headers, given)
        if reason:
            return await _refuse(scope, send, reason)
        if given and scope["type"] == "http":
            return await self._welcome(send)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ADDED]
            await send(message)

        await self.app(scope, receive, dressed)

    def _refusal(self, headers: dict[str, str], given: str) -> str:
        """Why a request may not pass, "" where it may."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            return f"host {host[:80]!r} refused: this page answers to {min(self.hosts)} only"
        if origin is not None and origin not in self.origins:
            return f"origin {origin[:80]!r} refused: only the page itself may call"
        token = given or self._stored(headers.get("cookie", ""))
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return "token missing or wrong: open the address that `probe label` printed, all of it"
        return ""

    def _stored(self, cookies: str) -> str:
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    async def _welcome(self, send: Send) -> None:
        """Move the token from the address, where it would stay in the history, into a cookie."""
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Message, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008, "reason": reason})  # before accept: HTTP 403
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_ADDED]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": (reason + "\n").encode()})
