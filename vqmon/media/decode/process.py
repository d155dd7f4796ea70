"""One decoder process as the daemon sees it: the socket to it, the board it draws on, and its end."""

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

from vqmon.media.decode.protocol import HEAD, Board, DecodeLimits, DecodeRequest, head_and_json, lengths_of, text_of

_START_SECONDS = 30.0
_BUFFER_BYTES = 1 << 20
_MAX_THUMBNAIL_BYTES = 256_000_000
_KEPT_BOARD_BYTES = 64_000_000
# glibc: what a segment needed is kept for the next one; without this every segment is paid for in page faults
_KEPT_HEAP_BYTES, _LARGEST_HEAP_BLOCK_BYTES = 128 << 20, 32 << 20


class DecoderProcess:
    """One decoder process, the socket to it, and the board on which it puts its views."""

    def __init__(self, child: asyncio.subprocess.Process, line: socket.socket, board: mmap.mmap) -> None:
        self.board: Board = np.frombuffer(board, np.uint8)
        self._memory = board
        self._child = child
        self._line = line
        self.served = 0

    @classmethod
    async def start(cls, limits: DecodeLimits) -> "DecoderProcess":
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        ours.settimeout(0)
        handle = _board_handle(limits.max_view_bytes)
        try:
            board = mmap.mmap(handle, limits.max_view_bytes)
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-s", "-m", "vqmon.media.decode.worker"),
                *map(str, (limits.memory_bytes, limits.threads, handle, limits.max_view_bytes)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(handle,),
                cwd="/",
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(handle)
        return cls(child, ours, board)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        return self._child.returncode is None

    async def greet(self) -> Mapping[str, str]:
        """Wait for the first message: the versions of everything inside."""
        async with asyncio.timeout(_START_SECONDS):
            content, _ = await self._receive(max_raw_bytes=0)
        if not isinstance(content, dict):
            raise ValueError("not a greeting")
        return {text_of(name): text_of(version) for name, version in content.items()}

    async def ask(self, media: bytes, request: DecodeRequest) -> tuple[object, bytearray]:
        self.served += 1
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._line, head_and_json(request.to_fields(), raw_bytes=len(media)))
        await loop.sock_sendall(self._line, media)
        return await self._receive(max_raw_bytes=_MAX_THUMBNAIL_BYTES)

    def wipe(self, used_bytes: int) -> None:
        """Give back the memory of a board that held much."""
        if used_bytes > _KEPT_BOARD_BYTES:
            self._memory.madvise(mmap.MADV_REMOVE)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        self._line.close()

    async def gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._child.wait()

    async def _receive(self, *, max_raw_bytes: int) -> tuple[object, bytearray]:
        head = await self._take(HEAD.size)
        json_bytes, raw_bytes = lengths_of(head, max_raw_bytes=max_raw_bytes)
        content: object = json.loads(await self._take(json_bytes))
        return content, await self._take(raw_bytes)

    async def _take(self, count: int) -> bytearray:
        """Exactly `count` bytes, read into their final place."""
        loop = asyncio.get_running_loop()
        content = bytearray(count)
        rest = memoryview(content)
        while rest:
            received = await loop.sock_recv_into(self._line, rest)
            if not received:
                raise EOFError("the decoder process closed the line")
            rest = rest[received:]
        return content


def _board_handle(size_bytes: int) -> int:
    """Memory to share, of a size that neither side can change: a page that went away would kill the reader."""
    handle = os.memfd_create("vqmon-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, size_bytes)
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return handle


def _environment() -> dict[str, str]:
    """Nothing of the daemon's but the way to the code; one thread for whatever numpy brings; a heap that stays."""
    root = str(Path(__file__).resolve().parents[3])
    paths = dict.fromkeys([root, *(path for path in sys.path if os.path.isabs(path))])
    single = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    heap = f"glibc.malloc.trim_threshold={_KEPT_HEAP_BYTES}:glibc.malloc.mmap_threshold={_LARGEST_HEAP_BLOCK_BYTES}"
    fixed = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "GLIBC_TUNABLES": heap}
    return {"PYTHONPATH": os.pathsep.join(paths), **fixed, **single}
