"""Pages for one user: served on this machine alone unless asked, to who knows the token, with no code from other hosts.

A request is refused without the token, under another host name than this machine's own (a rebound name of another site), and from
a page of another origin.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from sfxjax.errors import UserError
from sfxjax.extensions import optional

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
_POLICY = "default-src 'none'; img-src 'self'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through to a web application that carry the token and are meant for this machine.

    Args:
        application: of ASGI.
        token: that each request must carry as `?token=`.
        port: that it is served on.
        host: that it is served on; other than the loopback, the name it was asked under is not looked at.
    """

    def __init__(self, application: ASGIApp, token: str, port: int, host: str = LOOPBACK) -> None:
        self._application, self._token = application, token
        names = ("127.0.0.1", "localhost")
        self._hosts = {f"{name}:{port}" for name in names} if host == LOOPBACK else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._application(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused:
            content = refused.encode()
            start = {
                "type": "http.response.start",
                "status": 403,
                "headers": [(b"content-type", b"text/plain")],
            }
            await self._with_headers(start, send)
            await send({"type": "http.response.body", "body": content})
            return

        async def answer(message: Message) -> None:
            await self._with_headers(message, send)

        await self._application(scope, receive, answer)

    def _refused(self, scope: Scope) -> str:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return "use the whole address that the program printed"
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts is not None and host not in self._hosts:
            return "served to this machine alone"
        if origin is not None and origin.removeprefix("http://") not in (self._hosts or {host}):
            return "requests of other pages are refused"
        return ""

    @staticmethod
    async def _with_headers(message: Message, send: Send) -> None:
        if message["type"] == "http.response.start":
            own = [(key.lower().encode(), value.encode()) for key, value in _HEADERS.items()]
            names = {key for key, _ in own}
            kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in names]
            message = {**message, "headers": kept + own}
        await send(message)


def listen(remembered: Path, port: int = 0, host: str = LOOPBACK) -> tuple[socket.socket, str]:
    """Listen where the last call did, so that a page left open goes on.

    Args:
        remembered: file in which port and token are kept, for the owner's eyes alone.
        port: 0: as the last time, or a free one.
        host: address to listen on.

    Returns:
        The socket and the token.

    Raises:
        UserError: the port is taken, or the address is none of this machine's.
    """
    token, before = secrets.token_urlsafe(24), 0
    try:
        known = json.loads(remembered.read_text())
        token, before = str(known["token"]), int(known["port"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port or before))
    except (OSError, OverflowError) as error:
        try:
            if port:
                raise error
            listening.bind((host, 0))
        except (OSError, OverflowError) as again:
            listening.close()
            where = f"port {port} of {host}" if port else host
            raise UserError(f"{where} cannot be listened on ({again}); name another") from again
    # From now on a browser waits for the answer.
    listening.listen(128)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.unlink(missing_ok=True)
    handle = os.open(remembered, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump({"token": token, "port": listening.getsockname()[1]}, stream)
    return listening, token


def uvicorn_of(extra: str) -> Any:
    """Return the module `uvicorn`.

    Args:
        extra: of this package that holds it and starlette.

    Raises:
        UserError: one of the two is not installed.
    """
    for name in ("starlette", "uvicorn"):
        module = optional(name, "the page needs starlette and uvicorn", extra)
    return module
