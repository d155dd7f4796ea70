"""A decoder process for each connection to a socket: what `decode.socket` connects to, under systemd's own sandbox.

Runs as `python -m vqmon.media.decode.sandbox.activated` with the connection as its standard input, as systemd starts
it for a socket with Accept=yes. The daemon sends how the worker shall run and the memory for views; then this process
starts the worker, which enters its own jail, and kills it when the daemon closes the connection. Exit code 2: the
start message is invalid.
"""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence

from vqmon.media.decode.process import MAX_START_BYTES, worker_command, worker_environment

_START_SECONDS = 30.0


def main() -> int:
    """Serve the connection behind standard input until either side ends it; returns the exit code."""
    with socket.socket(fileno=os.dup(0)) as connection:
        connection.settimeout(_START_SECONDS)
        try:
            text, descriptors, _, _ = socket.recv_fds(connection, MAX_START_BYTES, 1)
            (descriptor,) = descriptors
            arguments = _parse_start(text)
        except (ValueError, OSError) as error:
            sys.stderr.write(f"not the start message of a vqmon of this version: {error}\n")
            return 2
        # the worker reads the same open socket, with no deadline
        connection.settimeout(None)
        worker = subprocess.Popen(
            worker_command(descriptor, *arguments),
            stdin=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=worker_environment(),
            pass_fds=(descriptor,),
            cwd="/",
        )
        os.close(descriptor)
        _wait_for_end(connection, worker)
        worker.kill()
        worker.wait()
    return 0


def _parse_start(text: bytes) -> Sequence[str]:
    """(memory bytes, threads, shared bytes, isolation) of the start message; raises ValueError."""
    arguments = json.loads(text)
    if not isinstance(arguments, list) or [type(value) for value in arguments] != [int, int, int, str]:
        raise ValueError("expected three numbers and a word")
    return [str(value) for value in arguments]


def _wait_for_end(connection: socket.socket, worker: subprocess.Popen[bytes]) -> None:
    """Wait until the daemon has closed the connection or the worker has exited."""
    exited = os.pidfd_open(worker.pid)
    try:
        poll = select.poll()
        # not POLLIN: what arrives is for the worker
        poll.register(connection, select.POLLRDHUP)
        poll.register(exited, select.POLLIN)
        poll.poll()
    finally:
        os.close(exited)


if __name__ == "__main__":
    sys.exit(main())
