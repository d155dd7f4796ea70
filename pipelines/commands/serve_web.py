"""`vqmon web`: serves the pages and the API over a history in a process of its own."""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from pipelines.experiments.background import BackgroundAnalyses, compare_in_subprocess, running_analyses
from pipelines.experiments.compare import load_experiments
from pipelines.service.wiring import utc_now
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.transport.reviews import Reviews
from vqmon.web.app import create_app


def serve_web(settings: Settings, location: HistoryLocation, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. The history is opened read-only; votes are stored in a file of their own.

    Requests are accepted for the host names of `web.allowed_hosts` and for `host`; for any name when `host` stands for
    all addresses and `web.allowed_hosts` is empty. Raises SettingsError.
    """
    web = settings.web
    reviews = Reviews(reviews_path(web.reviews, location))
    with open_history(location, mode="read") as history, ExitStack() as stack:
        sockets = _listen(stack, host, port)
        analyses = stack.enter_context(
            running_analyses(_background_analyses(settings.experiments.path, location, reviews))
        )
        app = create_app(
            history.queries,
            now=utc_now,
            title=web.title,
            allowed_hosts=_host_names(host, web.allowed_hosts),
            experiment_results=analyses,
            reviews=reviews,
            allows_votes=web.allow_votes,
            is_stopping=lambda: server.should_exit,
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.run(sockets=sockets)


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
