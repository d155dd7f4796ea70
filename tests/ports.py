"""Ports of this machine for the servers of tests."""

import itertools
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _LAST = 12_000, 31_999
"""Below the ports that a kernel gives to connections and to servers that ask for any (on Linux from 32,768), so that a
port stays free until its server starts, and while its server is down."""


def _candidates() -> Iterator[int]:
    """All of them in turn, from another one in each process."""
    ports = range(_FIRST, _LAST + 1)
    start = random.Random(os.getpid()).randrange(len(ports))
    return itertools.cycle([*ports[start:], *ports[:start]])


_ports = _candidates()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on and that this process has not handed out before."""
    for port in itertools.islice(_ports, _LAST - _FIRST):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {_FIRST} to {_LAST}")
