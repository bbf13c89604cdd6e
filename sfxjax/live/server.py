"""The monitor page: a web server beside the work, on this machine alone unless asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import TYPE_CHECKING

from sfxjax.live.monitor import Monitor
from sfxjax.web import LOOPBACK, Guard, uvicorn_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

# The page is told of the state so often.
PUSH_SECONDS = 0.5
# More who look on at once are turned away.
MOST_VIEWERS = 100


def monitor_application(monitor: Monitor, token: str, port: int, host: str = LOOPBACK) -> Starlette:
    """Make the web application of the page.

    Args:
        monitor: what it shows.
        token: that each request must carry as `?token=`.
        port: that it is served on.
        host: likewise.

    Raises:
        UserError: the web library is not installed.
    """
    uvicorn_of("live")
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    content = files("sfxjax.live").joinpath("page.html").read_text(encoding="utf-8")

    async def page(request: Request) -> Response:
        return HTMLResponse(content)

    async def state(request: Request) -> Response:
        return Response(monitor.line, media_type="application/json")

    async def events(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            while True:
                yield f"data: {monitor.line}\n\n"
                await asyncio.sleep(PUSH_SECONDS)

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def picture(request: Request) -> Response:
        shown = {"hit": monitor.pictures.hit, "powder": monitor.pictures.powder}.get(
            request.path_params["name"]
        )
        if shown is None or not shown.version:
            return PlainTextResponse("no such picture", 404)
        return Response(shown.content, media_type="image/jpeg")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/state", state),
            Route("/events", events),
            Route("/picture/{name}", picture),
        ],
        middleware=[Middleware(Guard, token=token, port=port, host=host)],
    )


def serve_page(application: Starlette, listening: socket.socket) -> threading.Thread:
    """Serve an application in a thread of its own, until the program ends."""
    uvicorn = uvicorn_of("live")
    settings = uvicorn.Config(application, log_level="error", limit_concurrency=MOST_VIEWERS)
    thread = threading.Thread(
        target=uvicorn.Server(settings).run,
        kwargs={"sockets": [listening]},
        daemon=True,
        name="page",
    )
    thread.start()
    return thread
