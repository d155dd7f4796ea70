"""The daemon's end of one decoder process: its messages, its memory, and its end; a socket stands in for the worker."""

import asyncio
import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from vqmon.core.types import View
from vqmon.media.decode import process
from vqmon.media.decode.process import DecoderProcess, _create_sealed_memory, kill_child, worker_environment
from vqmon.media.decode.protocol import HEADER, START_ID, DecodeRequest, pack_message_start
from vqmon.media.decode.sandbox.jail import IsolationReport

REQUEST = DecodeRequest(views=(View(kind="stretch", width=8, height=4),), thumbnail_width=16)


class StandInChild:
    """A child process that is gone once it was killed."""

    pid = 4711

    def __init__(self) -> None:
        self.returncode: int | None = None

    def kill(self) -> None:
        self.returncode = -9

    async def wait(self) -> int:
        return self.returncode or 0


class Connected:
    """A decoder process whose worker is the test, at the other end of the socket."""

    def __init__(self) -> None:
        ours, self.worker = socket.socketpair()
        ours.settimeout(0)
        self.child = StandInChild()
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.process = DecoderProcess(self.child, ours, self.memory)  # type: ignore[arg-type]

    def answer(self, content: object, raw: bytes = b"", *, request_id: int = START_ID) -> None:
        start = pack_message_start(content, request_id=request_id, raw_bytes=len(raw))  # type: ignore[arg-type]
        self.worker.sendall(start + raw)

    def asked(self) -> tuple[int, DecodeRequest, int]:
        """(id, request, raw bytes) of the next request."""
        _, request_id, json_bytes, raw_bytes = HEADER.unpack(self.received(HEADER.size))
        return request_id, DecodeRequest.from_dict(json.loads(self.received(json_bytes))), raw_bytes

    def received(self, count: int) -> bytes:
        return self.worker.recv(count, socket.MSG_WAITALL)


@pytest.fixture
def connected() -> Iterator[Connected]:
    connection = Connected()
    yield connection
    connection.process.kill()
    connection.worker.close()


async def test_the_first_message_lists_versions_and_protections(connected: Connected) -> None:
    """As printable text, whatever the worker sends."""
    versions = {"av": "18.1.0", "libavcodec": "62\x1b[2J"}
    connected.answer({"versions": versions, "in_force": {"seccomp": ""}, "missing": {"landlock": "none"}})
    facts = await connected.process.receive_facts()
    assert facts.versions["av"] == "18.1.0"
    assert "\x1b" not in facts.versions["libavcodec"]
    assert facts.isolation == IsolationReport(in_force={"seccomp": ""}, missing={"landlock": "none"})


@pytest.mark.parametrize("content", [["av"], {}, {"versions": 1, "in_force": {}, "missing": {}}], ids=str)
async def test_a_first_message_without_them_is_refused(connected: Connected, content: object) -> None:
    """The process is not the worker then."""
    connected.answer(content)
    with pytest.raises(ValueError, match="is not what a worker says"):
        await connected.process.receive_facts()


async def test_the_first_message_is_waited_for_from_the_start_of_the_worker(connected: Connected) -> None:
    """So that a pool of many workers that say nothing opens as late as a pool of one."""
    connected.process._started_at -= process._START_SECONDS
    async with asyncio.timeout(60) as limit:
        with pytest.raises(TimeoutError):
            await connected.process.receive_facts()
    assert not limit.expired()


async def test_the_first_message_carries_no_raw_bytes(connected: Connected) -> None:
    """The daemon does not reserve memory for what nobody asked for."""
    connected.answer({"av": "18.1.0"}, b"x")
    with pytest.raises(ValueError, match="too large"):
        await connected.process.receive_facts()


async def test_a_request_is_sent_with_its_media_and_counted(connected: Connected) -> None:
    """The answer is returned as it came."""
    assert connected.process.segment_count == 0
    answering = asyncio.ensure_future(connected.process.request_decode(b"media", REQUEST))
    await asyncio.sleep(0)
    request_id, request, raw_bytes = connected.asked()
    connected.answer({"ok": True}, b"jpeg", request_id=request_id)
    assert await answering == ({"ok": True}, b"jpeg")
    assert connected.process.segment_count == 1
    assert request == REQUEST
    assert connected.received(raw_bytes) == b"media"


async def test_an_answer_to_another_request_is_refused(connected: Connected) -> None:
    """Ids are drawn anew for each request, so an answer cannot be sent before its question."""
    ids = []
    for wrong_bits, text in ((0, ""), (1, "answers another request")):
        answering = asyncio.ensure_future(connected.process.request_decode(b"", REQUEST))
        await asyncio.sleep(0)
        request_id, _, _ = connected.asked()
        ids.append(request_id)
        connected.answer({"ok": True}, request_id=request_id ^ wrong_bits)
        with pytest.raises(ValueError, match=text) if text else nullcontext():
            await answering
    assert ids[0] != ids[1]
    assert all(request_id > 2**32 for request_id in ids)


async def test_bytes_that_nobody_asked_for_are_noticed(connected: Connected) -> None:
    """And so is a socket that was closed."""
    assert not connected.process.has_unasked_bytes
    connected.worker.send(b"x")
    assert connected.process.has_unasked_bytes
    connected.worker.close()
    assert connected.process.has_unasked_bytes


async def test_thumbnails_that_nobody_asked_for_are_refused(connected: Connected) -> None:
    """The daemon does not reserve memory for them."""
    request = replace(REQUEST, thumbnail_width=0)
    answering = asyncio.ensure_future(connected.process.request_decode(b"", request))
    await asyncio.sleep(0)
    connected.answer({"ok": True}, b"jpeg", request_id=connected.asked()[0])
    with pytest.raises(ValueError, match="too large"):
        await answering


async def test_an_answer_in_small_parts_is_put_together(connected: Connected) -> None:
    """The parts may end anywhere, also inside the header."""
    answering = asyncio.ensure_future(connected.process.request_decode(b"", REQUEST))
    await asyncio.sleep(0)
    message = pack_message_start({"ok": True}, request_id=connected.asked()[0], raw_bytes=300) + bytes(300)
    for first in range(0, len(message), 7):
        connected.worker.sendall(message[first : first + 7])
        await asyncio.sleep(0)
    assert await answering == ({"ok": True}, bytes(300))


@pytest.mark.parametrize("sent_bytes", [0, 3, HEADER.size, HEADER.size + 2])
async def test_a_process_that_ends_within_an_answer_is_noticed(sent_bytes: int, connected: Connected) -> None:
    """At whatever byte."""
    answering = asyncio.ensure_future(connected.process.request_decode(b"media", REQUEST))
    await asyncio.sleep(0)
    message = pack_message_start({"ok": True}, request_id=connected.asked()[0], raw_bytes=0)
    connected.worker.sendall(message[:sent_bytes])
    connected.worker.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError, match="closed the connection"):
        await answering


async def test_killing_a_process_that_is_gone_is_no_error(connected: Connected) -> None:
    """It may have died meanwhile; the socket is closed in any case."""
    assert connected.process.is_alive
    assert connected.process.pid == 4711
    connected.process.kill()
    connected.process.kill()
    assert not connected.process.is_alive
    await connected.process.wait_for_exit()
    assert connected.worker.recv(1) == b""


async def test_a_process_that_does_not_exit_is_waited_for_only_so_long(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool must be able to close."""
    monkeypatch.setattr(process, "_EXIT_SECONDS", 0.0)
    monkeypatch.setattr(connected.child, "wait", asyncio.Event().wait)
    await connected.process.wait_for_exit()


async def test_pages_are_returned_only_after_a_segment_that_used_much_memory(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next segment pays for pages that were returned."""
    monkeypatch.setattr(process, "_RETAINED_SHARED_BYTES", 100)
    connected.process.shared_memory[:] = 7
    connected.process.release_memory(100)
    assert np.all(connected.process.shared_memory == 7)
    connected.process.release_memory(101)
    assert np.all(connected.process.shared_memory == 0)


def test_the_size_of_the_shared_memory_is_sealed() -> None:
    """A worker that shrank it would crash the daemon when it reads a view."""
    descriptor = _create_sealed_memory(8192)
    try:
        assert os.fstat(descriptor).st_size == 8192
        for size in (4096, 16384):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def test_the_worker_inherits_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the module path, which is absolute, and fixed settings."""
    monkeypatch.setenv("VQMON_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(sys, "path", ["", "relative", "/opt/modules", "/opt/modules", *sys.path])
    environment = worker_environment()
    assert environment.keys() == {
        "PYTHONPATH",
        "PATH",
        "LC_ALL",
        "GLIBC_TUNABLES",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
    }
    assert environment["OMP_NUM_THREADS"] == "1"
    paths = environment["PYTHONPATH"].split(os.pathsep)
    assert all(os.path.isabs(path) for path in paths)
    assert paths.count("/opt/modules") == 1
    assert os.path.exists(os.path.join(paths[0], "vqmon", "media", "decode", "worker.py"))


async def test_nothing_is_left_open_when_a_process_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sockets nor the memory."""

    async def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(process.asyncio, "create_subprocess_exec", refuse)
    opened: list[tuple[socket.socket, socket.socket]] = []
    real_pair = socket.socketpair

    def socketpair() -> tuple[socket.socket, socket.socket]:
        ends = real_pair()
        opened.append(ends)
        return ends

    monkeypatch.setattr(process.socket, "socketpair", socketpair)
    with pytest.raises(OSError, match="no more processes"):
        await DecoderProcess.start(REQUEST.limits)
    ((ours, theirs),) = opened
    assert (ours.fileno(), theirs.fileno()) == (-1, -1)


async def test_a_kill_leaves_the_exit_code_to_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a child that has exited and was not waited for yet; asyncio waits in a thread up to Python 3.11."""
    is_killed, waitpid = threading.Event(), os.waitpid

    def waitpid_late(pid: int, options: int) -> tuple[int, int]:
        is_killed.wait(20)
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", waitpid_late)
    child = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "raise SystemExit(3)")
    # waits for its exit and does not reap it; nothing else is to run meanwhile
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
    kill_child(child)
    is_killed.set()
    assert await child.wait() == 3
    kill_child(child)
