"""The page to label in: a web server on this machine alone, that answers who knows its token and nobody else."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sfxjax.label.session import Session
from sfxjax.text import printable
from sfxjax.web import Guard, uvicorn_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_WORDS = ("HIT", "MAYBE", "MISS", None)


def application(session: Session, token: str, port: int) -> Starlette:
    """Make the web application.

    Args:
        session: the labeller's work.
        token: that each request must carry as `?token=`.
        port: that it is served on.

    Raises:
        UserError: the web library is not installed.
    """
    uvicorn_of("label")
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def page(request: Request) -> Response:
        return HTMLResponse(files("sfxjax.label").joinpath("page.html").read_text(encoding="utf-8"))

    def state(request: Request) -> Response:
        return JSONResponse(session.state())

    def following(request: Request) -> Response:
        without = request.query_params.get("without", "")
        taken = [
            int(part) for part in without.split(",") if part.isdecimal() and int(part) < len(session.frames)
        ]
        places = session.upcoming(2, taken)
        return JSONResponse([{"frame": place, **session.frame(place)} for place in places])

    def frame(request: Request) -> Response:
        place = _place(request.path_params["place"])
        return (
            PlainTextResponse("no such frame", 404)
            if place is None
            else JSONResponse({"frame": place, **session.frame(place)})
        )

    def picture(request: Request) -> Response:
        place = _place(request.path_params["place"])
        if place is None:
            return PlainTextResponse("no such frame", 404)
        return Response(session.picture(place), media_type="image/jpeg")

    def _place(number: int) -> int | None:
        return number if number < len(session.frames) else None

    async def label(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        try:
            given: dict[str, Any] = await request.json()
            place, word = given["frame"], given["label"]
            comment, click = (
                printable(str(given.get("comment", "")))[:1000],
                printable(str(given["click"]))[:64],
            )
            fine = type(place) is int and 0 <= place < len(session.frames) and word in _WORDS
        except (ValueError, KeyError, TypeError, AttributeError):
            fine = False
        if not fine:
            return PlainTextResponse("not a label", 400)
        kept = await run_in_threadpool(session.label, place, word, comment, click)
        return JSONResponse({"kept": kept})

    def last(request: Request) -> Response:
        place = session.last()
        return JSONResponse(None if place is None else {"frame": place, **session.frame(place)})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/state", state),
            Route("/next", following),
            Route("/last", last),
            Route("/frame/{place:int}", frame),
            Route("/picture/{place:int}", picture),
            Route("/label", label, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, token=token, port=port)],
    )
