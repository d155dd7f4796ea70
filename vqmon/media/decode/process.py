"""One decoder process as the daemon sees it: its socket, the memory shared with it, and its end.

The process is a child of the daemon, or a service of systemd behind a Unix socket; see `sandbox.activated`.
"""

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vqmon.media.decode.protocol import (
    HEADER,
    START_ID,
    DecodeLimits,
    DecodeRequest,
    SharedMemory,
    pack_message_start,
    parse_json,
    printable_text,
    unpack_header,
)
from vqmon.media.decode.sandbox.jail import Isolation, IsolationReport

# a machine that is busy with something else may need this long to import what a worker needs
_START_SECONDS = 120.0
_CONNECT_SECONDS = 10.0
_EXIT_SECONDS = 30.0
_SOCKET_BUFFER_BYTES = 1 << 20
_RETAINED_SHARED_BYTES = 64_000_000
_WORKER_MODULE = "vqmon.media.decode.worker"
# glibc: keep the heap of one segment for the next; otherwise every segment pays for it again in page faults
_RETAINED_HEAP_BYTES, _LARGEST_HEAP_BLOCK_BYTES = 128 << 20, 32 << 20

MAX_START_BYTES = 4096
"""The longest start message to a decoder behind a socket."""


class _Child(Protocol):
    """What ends a worker and tells whether it has ended."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


class _ChildProcess:
    """A worker that is a child of this process."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.pid = child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    def kill(self) -> None:
        kill_child(self._child)

    async def wait(self) -> int:
        return await self._child.wait()


class _ServiceProcess:
    """A worker that another service runs: it is killed there when the connection is closed."""

    pid = 0
    returncode: int | None = None

    def kill(self) -> None:
        self.returncode = -9

    async def wait(self) -> int:
        return self.returncode or 0


class UnaskedAnswerError(ValueError):
    """A worker sent something that answers no request, or another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFacts:
    """What a worker says of itself before it has read untrusted bytes."""

    # library name -> version
    versions: Mapping[str, str]
    isolation: IsolationReport


class DecoderProcess:
    """A running decoder process, the socket to it, and the memory into which it writes views."""

    def __init__(self, child: _Child, connection: socket.socket, memory: mmap.mmap) -> None:
        self.shared_memory: SharedMemory = np.frombuffer(memory, np.uint8)
        self._memory = memory
        self._child = child
        self._connection = connection
        self._started_at = time.monotonic()
        # requests sent so far
        self.segment_count = 0

    @classmethod
    async def start(
        cls, limits: DecodeLimits, *, isolation: Isolation = "best", hardware: str = ""
    ) -> "DecoderProcess":
        """Start a process; call `receive_facts` before the first request. `hardware` is a GPU such as "cuda:1"."""
        ours, theirs = socket.socketpair()
        _enlarge_buffers(ours)
        _enlarge_buffers(theirs)
        ours.settimeout(0)
        descriptor = _create_sealed_memory(limits.max_view_bytes)
        try:
            memory = mmap.mmap(descriptor, limits.max_view_bytes)
            child = await asyncio.create_subprocess_exec(
                *worker_command(descriptor, *map(str, _start_arguments(limits, isolation))),
                *((hardware,) if hardware else ()),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=worker_environment() | (_cuda_environment() if hardware else {}),
                pass_fds=(descriptor,),
                cwd="/",
                # Ctrl-C, timeout(1) and a closed terminal signal a whole group: the daemon still needs its decoders
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(descriptor)
        return cls(_ChildProcess(child), ours, memory)

    @classmethod
    async def connect(cls, path: Path, limits: DecodeLimits, *, isolation: Isolation = "best") -> "DecoderProcess":
        """Have a process started by the service behind a Unix socket; call `receive_facts` before the first request.

        Raises OSError when nobody listens there, or when no connection is accepted within 10 s.
        """
        connection = socket.socket(socket.AF_UNIX)
        _enlarge_buffers(connection)
        connection.settimeout(0)
        descriptor = _create_sealed_memory(limits.max_view_bytes)
        try:
            memory = mmap.mmap(descriptor, limits.max_view_bytes)
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, str(path))
            start = json.dumps(_start_arguments(limits, isolation)).encode()
            socket.send_fds(connection, [start], [descriptor])
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(descriptor)
        return cls(_ServiceProcess(), connection, memory)

    @property
    def pid(self) -> int:
        """The process id; 0 for a process of another service."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process has not exited yet."""
        return self._child.returncode is None

    @property
    def has_unasked_bytes(self) -> bool:
        """Whether the process has sent something that answers no request, or closed its socket."""
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    async def receive_facts(self) -> DecoderFacts:
        """Wait for the worker's first message, until two minutes after its start.

        Raises TimeoutError, EOFError or ValueError when it does not come.
        """
        async with asyncio.timeout(self._started_at + _START_SECONDS - time.monotonic()):
            content, _ = await self._receive_message(START_ID, max_raw_bytes=0)
        try:
            versions, in_force, missing = (_text_by_name(content[key]) for key in ("versions", "in_force", "missing"))  # type: ignore[index]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the first message of the decoder process is not what a worker says") from error
        return DecoderFacts(versions=versions, isolation=IsolationReport(in_force=in_force, missing=missing))

    async def request_decode(
        self, media: bytes, request: DecodeRequest, *, reference_media: bytes = b"", sound_media: bytes = b""
    ) -> tuple[object, bytearray]:
        """Send a segment and return the answer, (JSON, raw bytes), unchecked; see `protocol.parse_answer`.

        Raises UnaskedAnswerError, EOFError, OSError or ValueError.
        """
        self.segment_count += 1
        loop = asyncio.get_running_loop()
        # drawn now: an answer that is sent before the question cannot have it
        request_id = secrets.randbits(64) or 1
        raw_bytes = len(media) + len(reference_media) + len(sound_media)
        start = pack_message_start(request.to_dict(), request_id=request_id, raw_bytes=raw_bytes)
        await loop.sock_sendall(self._connection, start)
        for part in (media, reference_media, sound_media):
            if part:
                await loop.sock_sendall(self._connection, part)
        return await self._receive_message(request_id, max_raw_bytes=request.max_answer_bytes)

    def release_memory(self, used_bytes: int) -> None:
        """Return the pages of the shared memory to the system after a segment that used much of it."""
        if used_bytes > _RETAINED_SHARED_BYTES:
            self._memory.madvise(mmap.MADV_REMOVE)

    def kill(self) -> None:
        """Kill the process and close the socket; does not wait."""
        self._child.kill()
        self._connection.close()

    async def wait_for_exit(self) -> None:
        """Wait until the process has exited, at most 30 s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                await self._child.wait()

    async def _receive_message(self, request_id: int, *, max_raw_bytes: int) -> tuple[object, bytearray]:
        header = await self._receive_exactly(HEADER.size)
        answered_id, json_bytes, raw_bytes = unpack_header(header, max_raw_bytes=max_raw_bytes)
        if answered_id != request_id:
            raise UnaskedAnswerError("the message answers another request")
        content = parse_json(await self._receive_exactly(json_bytes))
        return content, await self._receive_exactly(raw_bytes)

    async def _receive_exactly(self, count: int) -> bytearray:
        """Read `count` bytes without copying them once more; raises EOFError when the process ends first."""
        loop = asyncio.get_running_loop()
        content = bytearray(count)
        remaining = memoryview(content)
        while remaining:
            received = await loop.sock_recv_into(self._connection, remaining)
            if not received:
                raise EOFError("the decoder process closed the connection")
            remaining = remaining[received:]
        return content


def kill_child(child: asyncio.subprocess.Process) -> None:
    """Kill a child process if it has not exited.

    `Process.kill` first asks whether it has, and so reaps one that is just exiting before asyncio does, which then
    warns of an unknown child process and reports the exit code 255.
    """
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def worker_command(
    descriptor: int, memory_bytes: str, threads: str, shared_bytes: str, isolation: str
) -> Sequence[str]:
    """The command of a worker that finds the memory for views behind a descriptor; see `worker`."""
    python = (sys.executable, "-s", "-m", _WORKER_MODULE)
    return (*python, memory_bytes, threads, str(descriptor), shared_bytes, isolation)


def _start_arguments(limits: DecodeLimits, isolation: Isolation) -> Sequence[int | str]:
    return (limits.memory_bytes, limits.threads, limits.max_view_bytes, isolation)


def _enlarge_buffers(connection: socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)


def _text_by_name(table: Mapping[object, object]) -> dict[str, str]:
    return {printable_text(name): printable_text(text) for name, text in table.items()}


def _create_sealed_memory(size_bytes: int) -> int:
    """A descriptor of shared memory whose size is sealed: a worker that shrank it would crash the daemon."""
    descriptor = os.memfd_create("vqmon-views", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _cuda_environment() -> dict[str, str]:
    """Which GPUs CUDA shows, and that it counts them as nvidia-smi does."""
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | {name: os.environ[name] for name in names if name in os.environ}


def worker_environment() -> dict[str, str]:
    """Of this process's environment only the module path; plus one thread for numpy's libraries and heap settings."""
    root = str(Path(__file__).resolve().parents[3])
    paths = dict.fromkeys([root, *(path for path in sys.path if os.path.isabs(path))])
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    heap = f"glibc.malloc.trim_threshold={_RETAINED_HEAP_BYTES}:glibc.malloc.mmap_threshold={_LARGEST_HEAP_BLOCK_BYTES}"
    fixed = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "GLIBC_TUNABLES": heap}
    return {"PYTHONPATH": os.pathsep.join(paths), **fixed, **threads}
