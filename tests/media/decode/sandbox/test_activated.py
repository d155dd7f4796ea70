"""Decoders behind a Unix socket decode what child processes decode, and end with the connection."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import need
from tests.media.decode.rig import FIT, SMALL, moving_clip
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool


@pytest.fixture
def decoder_socket(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A socket for whose connections systemd's activator starts the real program, as the shipped unit does."""
    need("systemd", present=shutil.which("systemd-socket-activate") is not None, remedy="install systemd")
    path = tmp_path / "decoder.socket"
    program = [sys.executable, "-s", "-m", "vqmon.media.decode.sandbox.activated"]
    activator = subprocess.Popen(["systemd-socket-activate", "--accept", "--inetd", "--listen", path, *program])
    while not path.exists():
        assert activator.poll() is None
        time.sleep(0.02)
    yield path, activator
    activator.terminate()
    activator.wait()


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until_none_left(pid: int) -> None:
    """Wait until a process has no children."""
    async with asyncio.timeout(20):
        while children(pid):  # noqa: ASYNC110 - another process tells of no event
            await asyncio.sleep(0.05)


async def test_a_socket_gives_what_child_processes_give(decoder_socket: tuple[Path, subprocess.Popen[bytes]]) -> None:
    """The same pixels and signals, in a jail of its own; no process is left when the pool is closed."""
    path, activator = decoder_socket
    async with DecoderPool(1) as pool:
        expected = await pool.decode(moving_clip(), views=[SMALL, FIT], thumbnail_width=160)
    async with DecoderPool(2, socket_path=path) as pool:
        found = await asyncio.gather(
            *(pool.decode(moving_clip(), views=[SMALL, FIT], thumbnail_width=160) for _ in range(4))
        )
        assert {"limits", "no_new_privileges", "capabilities"} <= set(pool.isolation.in_force)
        assert len(children(activator.pid)) == 2
    for decoded in found:
        assert (decoded.times_seconds, decoded.signals) == (expected.times_seconds, expected.signals)
        assert decoded.thumbnails == expected.thumbnails
        for view in (SMALL, FIT):
            assert np.array_equal(decoded.views[view], expected.views[view])
    await until_none_left(activator.pid)


async def test_a_worker_that_dies_or_refuses_is_replaced(
    decoder_socket: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    """As with child processes: `crashed`, `refused` and `recycled` are counted, and the next decode has a new one."""
    path, activator = decoder_socket
    async with DecoderPool(1, socket_path=path, recycle_after=2) as pool:
        (supervisor,) = children(activator.pid)
        os.kill(children(supervisor)[0], signal.SIGKILL)
        await until_none_left(activator.pid)
        await pool.decode(moving_clip(), views=[SMALL])
        with pytest.raises(DecodeError):
            await pool.decode(b"no media" * 100, views=[SMALL])
        for _ in range(2):
            await pool.decode(moving_clip(), views=[SMALL])
        assert pool.replacements == {"crashed": 1, "refused": 1, "recycled": 1}
    await until_none_left(activator.pid)


async def test_a_worker_that_does_not_read_is_killed_with_its_connection(
    decoder_socket: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    """A worker that hangs never sees that its socket was closed: the process that started it does."""
    path, activator = decoder_socket
    async with DecoderPool(1, socket_path=path):
        (supervisor,) = children(activator.pid)
        os.kill(children(supervisor)[0], signal.SIGSTOP)
    await until_none_left(activator.pid)


@pytest.mark.parametrize("is_there", [False, True], ids=["absent", "refused"])
async def test_a_socket_nobody_serves_is_named(tmp_path: Path, is_there: bool) -> None:
    """The message has the path, the setting and where to look."""
    path = tmp_path / "decoder.socket"
    if is_there:
        with socket.socket(socket.AF_UNIX) as unserved:
            unserved.bind(str(path))
    async with DecoderPool(1, socket_path=path) as pool:
        with pytest.raises(DecodeError) as caught:
            await pool.decode(moving_clip(), views=[SMALL])
    assert caught.value.reason == "worker"
    reason = "Connection refused" if is_there else "No such file or directory"
    assert f"no decoder behind {path} (decode.socket): {reason}; see `systemctl status" in caught.value.detail


def test_a_wrong_start_message_is_refused() -> None:
    """Nothing is started for a peer that speaks otherwise."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [b'["no", "numbers"]'], [0])
        command = [sys.executable, "-m", "vqmon.media.decode.sandbox.activated"]
        run = subprocess.run(command, stdin=theirs.fileno(), capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert "not the start message of a vqmon of this version: expected three numbers and a word" in run.stderr
