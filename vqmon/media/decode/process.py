"""One decoder process as the daemon sees it: its socket, the memory shared with it, and its end."""

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vqmon.media.decode.protocol import (
    HEADER,
    DecodeLimits,
    DecodeRequest,
    SharedMemory,
    pack_message_start,
    printable_text,
    unpack_header,
)

_START_SECONDS = 30.0
_SOCKET_BUFFER_BYTES = 1 << 20
_MAX_THUMBNAIL_BYTES = 256_000_000
_RETAINED_SHARED_BYTES = 64_000_000
# glibc: keep the heap of one segment for the next; otherwise every segment pays for it again in page faults
_RETAINED_HEAP_BYTES, _LARGEST_HEAP_BLOCK_BYTES = 128 << 20, 32 << 20


class DecoderProcess:
    """A running decoder process, the socket to it, and the memory into which it writes views."""

    def __init__(self, child: asyncio.subprocess.Process, connection: socket.socket, memory: mmap.mmap) -> None:
        self.shared_memory: SharedMemory = np.frombuffer(memory, np.uint8)
        self._memory = memory
        self._child = child
        self._connection = connection
        # requests sent so far
        self.segment_count = 0

    @classmethod
    async def start(cls, limits: DecodeLimits) -> "DecoderProcess":
        """Start a process; call `receive_versions` before the first request."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        ours.settimeout(0)
        descriptor = _create_sealed_memory(limits.max_view_bytes)
        try:
            memory = mmap.mmap(descriptor, limits.max_view_bytes)
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-s", "-m", "vqmon.media.decode.worker"),
                *map(str, (limits.memory_bytes, limits.threads, descriptor, limits.max_view_bytes)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_worker_environment(),
                pass_fds=(descriptor,),
                cwd="/",
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(descriptor)
        return cls(child, ours, memory)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process has not exited yet."""
        return self._child.returncode is None

    async def receive_versions(self) -> Mapping[str, str]:
        """Wait for the worker's first message: the versions of its libraries by name."""
        async with asyncio.timeout(_START_SECONDS):
            content, _ = await self._receive_message(max_raw_bytes=0)
        if not isinstance(content, dict):
            raise ValueError("the first message of the decoder process does not list versions")
        return {printable_text(name): printable_text(version) for name, version in content.items()}

    async def request_decode(
        self, media: bytes, request: DecodeRequest, *, reference_media: bytes = b""
    ) -> tuple[object, bytearray]:
        """Send a segment and return the answer, (JSON, raw bytes), unchecked; see `protocol.parse_answer`."""
        self.segment_count += 1
        loop = asyncio.get_running_loop()
        raw_bytes = len(media) + len(reference_media)
        await loop.sock_sendall(self._connection, pack_message_start(request.to_dict(), raw_bytes=raw_bytes))
        await loop.sock_sendall(self._connection, media)
        if reference_media:
            await loop.sock_sendall(self._connection, reference_media)
        return await self._receive_message(max_raw_bytes=_MAX_THUMBNAIL_BYTES)

    def release_memory(self, used_bytes: int) -> None:
        """Return the pages of the shared memory to the system after a segment that used much of it."""
        if used_bytes > _RETAINED_SHARED_BYTES:
            self._memory.madvise(mmap.MADV_REMOVE)

    def kill(self) -> None:
        """Kill the process and close the socket; does not wait."""
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        self._connection.close()

    async def wait_for_exit(self) -> None:
        """Wait until the process has exited, at most 30 s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._child.wait()

    async def _receive_message(self, *, max_raw_bytes: int) -> tuple[object, bytearray]:
        header = await self._receive_exactly(HEADER.size)
        json_bytes, raw_bytes = unpack_header(header, max_raw_bytes=max_raw_bytes)
        content: object = json.loads(await self._receive_exactly(json_bytes))
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


def _create_sealed_memory(size_bytes: int) -> int:
    """A descriptor of shared memory whose size is sealed: a worker that shrank it would crash the daemon."""
    descriptor = os.memfd_create("vqmon-views", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _worker_environment() -> dict[str, str]:
    """Of the daemon's environment only the module path; plus one thread for numpy's libraries and heap settings."""
    root = str(Path(__file__).resolve().parents[3])
    paths = dict.fromkeys([root, *(path for path in sys.path if os.path.isabs(path))])
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    heap = f"glibc.malloc.trim_threshold={_RETAINED_HEAP_BYTES}:glibc.malloc.mmap_threshold={_LARGEST_HEAP_BLOCK_BYTES}"
    fixed = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "GLIBC_TUNABLES": heap}
    return {"PYTHONPATH": os.pathsep.join(paths), **fixed, **threads}
