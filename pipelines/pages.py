"""The pages over a history, as a process of its own."""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack

import uvicorn

from pipelines.parts import utc_now
from vqmon.errors import SettingsError
from vqmon.transport.places import Place
from vqmon.transport.store import open_history
from vqmon.web.app import create_app


def serve(place: Place, *, host: str, port: int, title: str, allowed_hosts: Sequence[str] = ()) -> None:
    """Serve until SIGTERM or SIGINT; the history is only read.

    Answers by the names in `allowed_hosts` and by `host`; by any when `host` is every address and none is named.
    """
    with open_history(place, mode="read") as history, ExitStack() as stack:
        sockets = _listen(stack, host, port)
        app = create_app(
            history,
            now=utc_now,
            title=title,
            allowed_hosts=names_of(host, allowed_hosts),
            is_stopping=lambda: server.should_exit,
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.run(sockets=sockets)


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
