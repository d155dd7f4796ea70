"""`vqmon web`: serves the pages and the API over a history in a process of its own."""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import uvicorn
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.experiments.background import BackgroundAnalyses, compare_in_subprocess, running_analyses
from pipelines.service.wiring import load_experiments, utc_now
from vqmon.connections import ConnectionLimits, ConnectionTable
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.settings.sections import WebAuth, WebLimits, WebSettings
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.telemetry.otlp import metric_readers, service_resource
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.transport.reviews import Reviews
from vqmon.web.api.live_events import Listeners
from vqmon.web.app import create_app
from vqmon.web.serving.access import SignIn
from vqmon.web.serving.limits import RequestLimits
from vqmon.web.serving.proxies import TrustedProxies

log = logging.getLogger("vqmon.web")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_OTHER_OPEN_FILES = 200
"""Open files beside connections: the history, static files, sockets."""


Announce = Callable[[DeployMarker], object]
"""Announces a deployment to the alert rules; raises VqmonError."""


def serve_web(
    settings: Settings, location: HistoryLocation, *, host: str, port: int, announce: Announce | None = None
) -> None:
    """Serve the pages until SIGTERM or SIGINT; raises SettingsError."""
    with open_web_server(settings, location, host=host, port=port, announce=announce) as server:
        if problem := exposure_problem(settings.web, host):
            log.warning(**log_event("web.exposed", problem=problem))
        server.run()


def exposure_problem(web: WebSettings, host: str) -> str:
    """What is unsafe about listening on `host` with these settings; "" = nothing."""
    if web.auth.user_header or host in _LOOPBACK:
        return ""
    votes = " and vote" if web.allow_votes else ""
    return (
        f"whoever reaches {host}:{web.port} may read the pages{votes}: set web.auth and web.trusted_proxies for "
        'sign-in by a proxy (docs/login.md), or web.host = "127.0.0.1"'
    )


class WebServer:
    """The pages on open sockets, served while `run` runs."""

    def __init__(self, server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        self._server = server
        self._sockets = sockets

    @property
    def port(self) -> int:
        """The port of the first socket, also when 0 was asked for."""
        return int(self._sockets[0].getsockname()[1])

    def run(self) -> None:
        """Serve until `stop` is called or, in the main thread, SIGTERM or SIGINT comes."""
        self._server.run(sockets=self._sockets)

    def stop(self) -> None:
        """Let `run` end; callable from another thread."""
        self._server.should_exit = True


@contextmanager
def open_web_server(
    settings: Settings, location: HistoryLocation, *, host: str, port: int, announce: Announce | None = None
) -> Iterator[WebServer]:
    """Open the history, read-only, and listen; votes are stored in a file of their own.

    Requests are accepted for the host names of `web.allowed_hosts` and for `host`; for any name when `host` stands for
    all addresses and `web.allowed_hosts` is empty. Raises SettingsError.
    """
    web, proxies = settings.web, TrustedProxies(settings.web.trusted_proxies)
    reviews = Reviews(reviews_path(web.reviews, location))
    with open_history(location, mode="read") as history, ExitStack() as stack:
        sockets = _listen(stack, host, port)
        meters = Meters(PrometheusMetricReader(), *metric_readers(), resource=service_resource(version("vqmon")))
        stack.callback(meters.close)
        analyses = stack.enter_context(
            running_analyses(_background_analyses(settings.experiments.path, location, reviews))
        )
        app = create_app(
            history.queries,
            now=utc_now,
            title=web.title,
            root_path=web.root_path,
            allowed_hosts=_host_names(host, web.allowed_hosts),
            experiment_results=analyses,
            input_rules=[hook.rule(name) for name, hook in settings.inputs.hooks.items()],
            reviews=reviews,
            allows_votes=web.allow_votes,
            announce=announce,
            meters=meters,
            proxies=proxies,
            sign_in=_sign_in(web.auth),
            listeners=Listeners(total=web.limits.live, per_client=web.limits.live_per_client),
            is_stopping=lambda: server.should_exit,
        )
        connections = _connection_table(web.limits, proxies, meters)
        limited_app = RequestLimits(
            app,
            connections=connections,
            body_bytes=web.limits.body_bytes,
            body_seconds=web.limits.request_seconds,
        )
        server = _limited_server(limited_app, connections)
        _allow_open_files(web.limits.connections + _OTHER_OPEN_FILES)
        yield WebServer(server, sockets)


def _sign_in(auth: WebAuth) -> SignIn | None:
    return SignIn(**auth.model_dump()) if auth.user_header else None


def _connection_table(limits: WebLimits, proxies: TrustedProxies, meters: Meters) -> ConnectionTable:
    return ConnectionTable(
        ConnectionLimits(
            total=limits.connections,
            per_client=limits.connections_per_client,
            request_seconds=limits.request_seconds,
            write_seconds=limits.write_seconds,
        ),
        is_proxy=proxies.__contains__,
        on_drop=lambda reason: meters.count("vqmon.web.connection.dropped", reason=reason),
    )


def _limited_server(app: RequestLimits, connections: ConnectionTable) -> uvicorn.Server:
    """A server of the application whose connections the table holds to its limits."""

    def open_protocol(**arguments: Any) -> asyncio.Protocol:
        return connections.guard(H11Protocol(**arguments))

    config = uvicorn.Config(
        app,
        # uvicorn calls it as it would a class
        http=cast(type[asyncio.Protocol], open_protocol),
        ws="none",
        # no header tells who the client is unless it is from a proxy that the settings name
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _allow_open_files(count: int) -> None:
    """Raise the limit of open files, as far as it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count and soft != resource.RLIM_INFINITY:
        allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
        if allowed < count:
            log.warning(**log_event("web.few_open_files", allowed=allowed, wanted=count, remedy="raise LimitNOFILE"))


def reviews_path(configured: Path | None, location: HistoryLocation) -> Path:
    """The file of votes and pair pictures: as configured, else beside the history file, else in the working folder."""
    if configured is not None:
        return configured
    return location.with_name(f"{location.name}.reviews") if isinstance(location, Path) else Path("vqmon.reviews")


def _background_analyses(path: Path | None, location: HistoryLocation, reviews: Reviews) -> BackgroundAnalyses:
    return BackgroundAnalyses(
        load=lambda: load_experiments(path),
        path=path,
        compare=lambda experiment, votes: compare_in_subprocess(location, experiment, votes),
        votes=reviews.votes,
        now=utc_now,
    )


def _host_names(host: str, allowed_hosts: Sequence[str]) -> Sequence[str]:
    """The host names for which requests are accepted."""
    if host in ("0.0.0.0", "::", ""):
        return allowed_hosts or ["*"]
    return [*allowed_hosts, f"[{host}]" if ":" in host else host]


def _listen(stack: ExitStack, host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host` that this machine has; raises SettingsError when there is none."""
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsError(f"web.host {host!r}: no such address: {error.strerror}") from error
    # With port 0 every address would get a port of its own, so only the first address is used.
    for family, _, _, _, address in addresses if port else addresses[:1]:
        try:
            sockets.append(stack.enter_context(socket.create_server(address, family=family, backlog=2048)))
        except OSError as error:
            refused = error
            if error.errno == errno.EADDRINUSE:
                sockets.clear()
                break
    if refused and not sockets:
        reason = os.strerror(refused.errno or 0)
        raise SettingsError(f"cannot listen on {host}:{port}: {reason}; set web.port (--port) or web.host (--host)")
    return sockets
