"""The pages as one application: addresses, errors and the headers that keep a browser safe."""

from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus

import anyio
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vqmon.errors import StoreError
from vqmon.web.api import downloads, openapi
from vqmon.web.api.downloads import FOREVER
from vqmon.web.api.live_events import Listeners, live
from vqmon.web.model.fleet_state import Standing
from vqmon.web.pages import alerts, compare, experiments, fleet, frame_pairs, review, segment, stream
from vqmon.web.ports import Answers, History, NoExperiments, NoReviews, Reviews
from vqmon.web.site import STATIC, Site, in_thread, open_templates

MAX_THREADS = 4
"""How many questions to the history run at once."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that a browser may always ask by."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Sent with every answer."""


class _Count(IntegerConvertor):
    """A number in a path, of so few digits that Python reads it."""

    regex = "[0-9]{1,9}"


register_url_convertor("count", _Count())


def create_app(
    history: History,
    *,
    now: Callable[[], datetime],
    title: str = "vqmon",
    allowed_hosts: Sequence[str] = (),
    answers: Answers | None = None,
    reviews: Reviews | None = None,
    allows_votes: bool = False,
    poll_seconds: float = 1.0,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """The pages over `history`; `now` is the clock that ages are told by.

    They answer only by the names in `LOOPBACK` and `allowed_hosts` ("*.example.com" is any name in it, "*" any at all):
    otherwise a page from elsewhere, whose name is made to lead here, could have a browser read them.
    A server that ends waits for its answers, and a live one has no end of its own: it ends when `is_stopping`.
    """
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(SafeHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, *allowed_hosts], www_redirect=False),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
        ],
        exception_handlers={HTTPException: _refused, StoreError: _no_history},
    )
    app.state.listeners = Listeners()
    app.state.site = Site(
        history=history,
        standing=Standing(history, now=now),
        answers=answers or NoExperiments(),
        reviews=reviews or NoReviews(),
        allows_votes=allows_votes and reviews is not None,
        now=now,
        templates=open_templates(title),
        poll_seconds=poll_seconds,
        is_stopping=is_stopping,
        limiter=anyio.CapacityLimiter(MAX_THREADS),
    )
    return app


def _routes() -> list[Route | Mount]:
    blocking = {
        "/": fleet.fleet,
        "/streams/{stream_id:path}": stream.stream,
        "/segments/{event_id}": segment.segment,
        "/segments/{event_id}/frames/{number:count}.jpg": downloads.thumbnail,
        "/alerts": alerts.alerts,
        "/alerts/count": alerts.open_count,
        "/alerts/{alert_id}": alerts.alert,
        "/alerts/{alert_id}/frames/{number:count}.jpg": downloads.evidence,
        "/compare": compare.compare,
        "/pairs/{pair_id}": frame_pairs.pair,
        "/pairs/{pair_id}/{side}/{number:count}.jpg": frame_pairs.picture,
        "/experiments": experiments.experiments,
        "/experiments/{name}": experiments.experiment,
        "/experiments/{name}/{arm}/review": review.review,
        "/experiments/{name}/{arm}/review/{number:count}/{side}.jpg": review.review_picture,
        "/api/compare": compare.compare_json,
        "/api/compare.csv": compare.compare_csv,
        "/api/experiments/{name}/{kind}.csv": downloads.table,
        "/api/streams": downloads.streams,
        "/api/streams.csv": downloads.streams_csv,
        "/api/streams/{stream_id:path}/points": downloads.points,
        "/api/streams/{stream_id:path}/points.csv": downloads.points_csv,
        "/api/segments/{event_id}.csv": downloads.segment_csv,
        "/api/segments/{event_id}": downloads.segment,
        "/api/alerts": downloads.alerts,
        "/api/alerts.csv": downloads.alerts_csv,
        "/healthz": health,
    }
    return [
        *(Route(path, in_thread(make)) for path, make in blocking.items()),
        Route("/experiments/{name}/{arm}/review", review.vote, methods=["POST"]),
        *openapi.routes(),
        Route("/live", live),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def health(site: Site, request: Request) -> Response:
    """Answer `/healthz`: the history can be read."""
    return PlainTextResponse(f"history at {site.history.tip()}\n")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    text = phrase if error.detail == phrase else error.detail
    if request.url.path.startswith(("/api/", "/live")):
        remedy = getattr(error, "remedy", "`/api/v1/openapi.json` tells what can be asked.")
        return JSONResponse({"error": text, "remedy": remedy}, error.status_code, headers=error.headers)
    heading = "Not found" if error.status_code == 404 else phrase
    told = "There is no page at this address." if text == phrase else text
    make = in_thread(
        lambda site, asked: site.page("missing.html", asked, status=error.status_code, heading=heading, text=told)
    )
    return await make(request)


async def _no_history(request: Request, error: Exception) -> Response:
    if request.url.path.startswith("/api/"):
        told = {"error": f"The history cannot be read: {error}", "remedy": "Ask again in a few seconds."}
        return JSONResponse(told, 503, headers={"Retry-After": "5"})
    return PlainTextResponse(f"The history cannot be read: {error}\n", 503, headers={"Retry-After": "5"})


class SafeHeaders:
    """Adds `HEADERS` to every answer, and says how long it may be kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                is_dated = scope["path"].startswith("/static/") and b"v=" in scope["query_string"]
                headers.setdefault("Cache-Control", FOREVER if is_dated and message["status"] == 200 else "no-store")
            await send(message)

        await self._app(scope, receive, send_safely)
