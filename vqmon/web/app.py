"""The web application: routes, error responses and security headers."""

from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.reactions.input_switching import InputRule
from vqmon.errors import StoreError
from vqmon.telemetry.metrics import Meters
from vqmon.web.api import downloads, openapi
from vqmon.web.api.downloads import CACHE_FOREVER
from vqmon.web.api.live_events import Listeners, live_events
from vqmon.web.model.fleet_state import FleetState
from vqmon.web.pages import alerts, compare, deploys, experiments, fleet, frame_pairs, inputs, review, segment, stream
from vqmon.web.ports import ExperimentResults, HistoryReader, NoExperiments, NoReviews, ReviewStore
from vqmon.web.serving.access import PUBLIC_PATHS, Access, SignIn
from vqmon.web.serving.measurement import Measurement, Probes
from vqmon.web.serving.proxies import ProxyHeaders, TrustedProxies
from vqmon.web.serving.root_path import RootPath
from vqmon.web.site import STATIC, Site, open_templates, threaded_endpoint

_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""Host names that are always accepted."""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Sent with every response."""


class _CountConvertor(IntegerConvertor):
    """A number of at most nine digits in a path: Python refuses to parse very long ones."""

    regex = "[0-9]{1,9}"


register_url_convertor("count", _CountConvertor())


def create_app(
    history: HistoryReader,
    *,
    now: Callable[[], datetime],
    title: str = "vqmon",
    root_path: str = "",
    allowed_hosts: Sequence[str] = (),
    experiment_results: ExperimentResults | None = None,
    input_rules: Sequence[InputRule] = (),
    reviews: ReviewStore | None = None,
    allows_votes: bool = False,
    announce: Callable[[DeployMarker], object] | None = None,
    poll_seconds: float = 1.0,
    meters: Meters | None = None,
    proxies: TrustedProxies | None = None,
    sign_in: SignIn | None = None,
    listeners: Listeners | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """The application that serves the pages of `history`; `now` is the clock from which ages are computed.

    Only requests for a host of `_LOOPBACK_HOSTS` or `allowed_hosts` are answered ("*.example.com" allows its
    subdomains, "*" any host). This stops DNS rebinding: a foreign site cannot make a browser read these pages.
    With a `root_path` such as `/vqmon` all links are below it.
    With `sign_in` only users whom one of the `proxies` has signed in are answered.
    As many pages receive live events at a time as `listeners` allows, by default 100, and 20 of one address.
    The page of inputs is linked when there are `input_rules`.
    A server waits for open responses before it exits, and a stream of live events has no end of its own: it ends when
    `is_stopping` returns True.
    """
    meters, listeners = meters or Meters(), listeners or Listeners(total=100, per_client=20)
    app = Starlette(
        routes=_routes(Probes(read_tip=history.tip, meters=meters)),
        middleware=[
            Middleware(Measurement, meters=meters, live_count=lambda: listeners.count),
            *_guards(allowed_hosts, root_path=root_path, proxies=proxies, sign_in=sign_in),
        ],
        exception_handlers=_ERROR_RESPONSES,
    )
    app.state.listeners = listeners
    app.state.site = Site(
        history=history,
        fleet=FleetState(history, now=now),
        experiment_results=experiment_results or NoExperiments(),
        input_rules=tuple(input_rules),
        reviews=reviews or NoReviews(),
        allows_votes=allows_votes and reviews is not None,
        announce=announce,
        meters=meters,
        now=now,
        templates=open_templates(title),
        root_path=root_path,
        poll_seconds=poll_seconds,
        is_stopping=is_stopping,
    )
    return app


def _guards(
    allowed_hosts: Sequence[str], *, root_path: str, proxies: TrustedProxies | None, sign_in: SignIn | None
) -> Sequence[Middleware]:
    """What requests pass before they reach a page."""
    return (
        Middleware(RootPath, root_path=root_path),
        Middleware(_SecurityHeadersMiddleware),
        Middleware(ProxyHeaders, proxies=proxies or TrustedProxies()),
        Middleware(_HostNames, allowed_hosts=[*_LOOPBACK_HOSTS, *allowed_hosts], www_redirect=False),
        Middleware(Access, sign_in=sign_in),
        Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
    )


def _routes(probes: Probes) -> list[Route | Mount]:
    blocking = {
        "/": fleet.fleet_page,
        "/streams/{stream_id:path}": stream.stream_page,
        "/segments/{event_id}": segment.segment_page,
        "/segments/{event_id}/frames/{number:count}.jpg": downloads.thumbnail_jpeg,
        "/alerts": alerts.alerts_page,
        "/alerts/count": alerts.open_alert_count,
        "/alerts/{alert_id}": alerts.alert_page,
        "/alerts/{alert_id}/frames/{number:count}.jpg": downloads.evidence_jpeg,
        "/inputs": inputs.inputs_page,
        "/compare": compare.compare_page,
        "/pairs/{pair_id}": frame_pairs.frame_pair_page,
        "/pairs/{pair_id}/{side}/{number:count}.jpg": frame_pairs.frame_pair_picture,
        "/experiments": experiments.experiments_page,
        "/experiments/{name}": experiments.experiment_page,
        "/experiments/{name}/{arm}/review": review.review_page,
        "/experiments/{name}/{arm}/review/{number:count}/{side}.jpg": review.review_picture,
        "/experiments/{name}/{arm}/review/{number:count}/{side}.mp4": review.review_clip,
        "/api/compare": compare.compare_json,
        "/api/compare.csv": compare.compare_csv,
        "/api/experiments/{name}/{kind}.csv": downloads.experiment_table_csv,
        "/api/streams": downloads.renditions_json,
        "/api/streams.csv": downloads.renditions_csv,
        "/api/streams/{stream_id:path}/points": downloads.chart_json,
        "/api/streams/{stream_id:path}/points.csv": downloads.points_csv,
        "/api/segments/{event_id}.csv": downloads.segment_csv,
        "/api/segments/{event_id}": downloads.segment_json,
        "/api/alerts": downloads.alerts_json,
        "/api/alerts.csv": downloads.alerts_csv,
    }
    return [
        *(Route(path, threaded_endpoint(respond)) for path, respond in blocking.items()),
        Route("/experiments/{name}/{arm}/review", review.submit_vote, methods=["POST"]),
        Route("/deployments", deploys.announce_deployment, methods=["POST"]),
        *openapi.api_routes(),
        Route("/healthz", probes.healthz),
        Route("/readyz", probes.readyz),
        Route("/metrics", probes.metrics),
        Route("/live", live_events, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


async def _http_error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    if request.url.path.startswith(("/api/", "/live")):
        remedy = getattr(error, "remedy", "`/api/v1/openapi.json` describes all requests.")
        body = {"error": error.detail, "remedy": remedy}
        return JSONResponse(body, error.status_code, headers=error.headers)
    heading = "Not found" if error.status_code == 404 else phrase
    text = "There is no page at this address." if error.detail == phrase else error.detail
    endpoint = threaded_endpoint(
        lambda site, request: site.render_page(
            "missing.html", request, status=error.status_code, heading=heading, text=text
        )
    )
    return await endpoint(request)


async def _history_unavailable_response(request: Request, error: Exception) -> Response:
    text, headers = f"The history cannot be read: {error}", {"Retry-After": "5"}
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text, "remedy": "Retry in a few seconds."}, 503, headers=headers)
    return PlainTextResponse(f"{text}\n", 503, headers=headers)


async def _incomplete_request_response(request: Request, error: Exception) -> Response:
    text = "The body of the request did not arrive in time, or is too large.\n"
    return PlainTextResponse(text, 408, headers={"Connection": "close"})


_ERROR_RESPONSES = {
    HTTPException: _http_error_response,
    StoreError: _history_unavailable_response,
    ClientDisconnect: _incomplete_request_response,
}


class _HostNames(TrustedHostMiddleware):
    """Answers requests for allowed host names; probes and Prometheus, which ask an address, for any."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PUBLIC_PATHS:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _SecurityHeadersMiddleware:
    """Adds `SECURITY_HEADERS` to every response, and `Cache-Control` where the endpoint set none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                is_versioned = scope["path"].startswith("/static/") and b"v=" in scope["query_string"]
                is_immutable = is_versioned and message["status"] == 200
                headers.setdefault("Cache-Control", CACHE_FOREVER if is_immutable else "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)
