"""The pages over a history, as a process of its own."""

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


def serve(settings: Settings, place: HistoryLocation, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the history is only read, votes go into a file of their own.

    Answers by the names in `web.allowed_hosts` and by `host`; by any when `host` is every address and none is named.
    """
    web = settings.web
    reviews = Reviews(reviews_path(web.reviews, place))
    with open_history(place, mode="read") as history, ExitStack() as stack:
        sockets = _listen(stack, host, port)
        answers = stack.enter_context(running_analyses(_answers(settings.experiments.path, place, reviews)))
        app = create_app(
            history.queries,
            now=utc_now,
            title=web.title,
            allowed_hosts=names_of(host, web.allowed_hosts),
            answers=answers,
            reviews=reviews,
            allows_votes=web.allow_votes,
            is_stopping=lambda: server.should_exit,
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.run(sockets=sockets)


def reviews_path(given: Path | None, place: HistoryLocation) -> Path:
    """Where votes and pictures of pairs are: as set, else beside the history's file, else in the working folder."""
    if given is not None:
        return given
    return place.with_name(f"{place.name}.reviews") if isinstance(place, Path) else Path("vqmon.reviews")


def _answers(path: Path | None, place: HistoryLocation, reviews: Reviews) -> BackgroundAnalyses:
    return BackgroundAnalyses(
        load=lambda: load_experiments(path),
        path=path,
        compare=lambda experiment, votes: compare_in_subprocess(place, experiment, votes),
        votes=reviews.votes,
        now=utc_now,
    )


def names_of(host: str, allowed_hosts: Sequence[str]) -> Sequence[str]:
    """The names that pages at `host` are asked by."""
    if host in ("0.0.0.0", "::", ""):
        return allowed_hosts or ["*"]
    return [*allowed_hosts, f"[{host}]" if ":" in host else host]


def _listen(stack: ExitStack, host: str, port: int) -> list[socket.socket]:
    """Listen at every address of `host` that this machine has."""
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsError(f"web.host {host!r}: no such address: {error.strerror}") from error
    # A port that the system chooses is chosen once.
    for family, _, _, _, address in found if port else found[:1]:
        try:
            sockets.append(stack.enter_context(socket.create_server(address, family=family, backlog=2048)))
        except OSError as error:
            refused = error
            if error.errno == errno.EADDRINUSE:
                sockets.clear()
                break
    if refused and not sockets:
        reason = os.strerror(refused.errno or 0)
        raise SettingsError(f"cannot listen at {host}:{port}: {reason}; set web.port (--port) or web.host (--host)")
    return sockets
