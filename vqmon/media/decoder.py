"""A pool of decoder processes: give it a segment's bytes, get what it looks like; whatever hangs is killed."""

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from vqmon.core.types import SIGNALS, Decoded, Sampling, View
from vqmon.errors import DecodeError
from vqmon.media.messages import (
    HEAD,
    Board,
    DecodeLimits,
    DecodeRequest,
    HdrRule,
    decoded_from,
    head_and_json,
    lengths_of,
    text_of,
)

__all__ = ["DecodeLimits", "DecoderPool"]

_START_SECONDS = 30.0
_BUFFER_BYTES = 1 << 20
_MAX_THUMBNAIL_BYTES = 256_000_000
_KEPT_BOARD_BYTES = 64_000_000


class DecoderPool:
    """Up to `size` decoder processes; an async context manager.

    A worker that passes the deadline, dies, or answers nonsense is killed, and the next decode starts a fresh one; so
    is one that has served `recycle_after` segments. `on_replace` is told why: "timeout", "crashed", "cancelled" or
    "recycled".
    """

    def __init__(
        self,
        size: int,
        *,
        limits: DecodeLimits | None = None,
        recycle_after: int = 500,
        on_replace: Callable[[str], None] | None = None,
    ) -> None:
        if size < 1 or recycle_after < 1:
            raise ValueError(f"a pool needs a worker, and each worker a segment: {size}, {recycle_after}")
        self.size = size
        self.limits = limits or DecodeLimits()
        self.versions: Mapping[str, str] = {}
        self._recycle_after = recycle_after
        self._on_replace = on_replace
        self._places = asyncio.Semaphore(size)
        self._idle: list[_Worker] = []
        # killed, and not yet reaped
        self._leaving: list[_Worker] = []
        self._replaced: dict[str, int] = {}
        self._is_open = False

    async def __aenter__(self) -> Self:
        workers = [await _Worker.start(self.limits) for _ in range(self.size)]
        self._idle.extend(workers)
        try:
            for worker in workers:
                self.versions = await worker.greet()
        except BaseException:
            await self._close()
            raise
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._close()

    @property
    def replaced(self) -> Mapping[str, int]:
        """How many workers were replaced so far, by reason."""
        return dict(self._replaced)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes that are waiting for work."""
        return tuple(worker.pid for worker in self._idle)

    async def decode(
        self,
        media: bytes,
        *,
        views: Sequence[View],
        sampling: Sampling = "exact",
        fps: float = 1.0,
        hdr: HdrRule = "tonemap",
        thumbnail_width: int = 0,
        signals: Collection[str] = tuple(SIGNALS),
    ) -> Decoded:
        """Look at one segment (initialization section and media joined). Raises DecodeError."""
        if not self._is_open:
            raise RuntimeError("the decoder pool is not open")
        if not media:
            raise DecodeError("empty")
        if len(media) > self.limits.max_media_bytes:
            raise DecodeError("too_long", f"{len(media)} bytes; at most {self.limits.max_media_bytes} are decoded")
        request = DecodeRequest(
            views=tuple(dict.fromkeys(views)),
            sampling=sampling,
            fps=fps,
            hdr=hdr,
            thumbnail_width=thumbnail_width,
            signals=tuple(signals),
            limits=self.limits,
        )
        await self._take_place()
        try:
            return await self._decode(media, request)
        finally:
            self._places.release()

    async def _take_place(self) -> None:
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise DecodeError("timeout", f"no decoder was free within {self.limits.wait_seconds:g} s") from None

    async def _decode(self, media: bytes, request: DecodeRequest) -> Decoded:
        worker = await self._worker()
        try:
            async with asyncio.timeout(self.limits.deadline_seconds):
                content, raw = await worker.ask(media, request)
        except TimeoutError:
            self._replace(worker, "timeout")
            raise DecodeError("timeout", f"decoding took more than {self.limits.deadline_seconds:g} s") from None
        except (EOFError, OSError, ValueError):
            self._replace(worker, "crashed")
            raise DecodeError("crashed") from None
        except BaseException:
            self._replace(worker, "cancelled")
            raise
        try:
            decoded = decoded_from(content, raw, worker.board, request)
        except (ValueError, KeyError, TypeError):
            self._replace(worker, "crashed")
            raise DecodeError("crashed", "the decoder process gave an answer that makes no sense") from None
        except DecodeError:
            self._give_back(worker)
            raise
        worker.wipe(request.bytes_per_sample * len(decoded.times_seconds))
        self._give_back(worker)
        return decoded

    async def _worker(self) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            self._replace(worker, "crashed")
        worker = await _Worker.start(self.limits)
        try:
            await worker.greet()
        except BaseException as error:
            self._dismiss(worker)
            if isinstance(error, TimeoutError | EOFError | OSError | ValueError):
                raise DecodeError("crashed", "a decoder process does not start") from error
            raise
        return worker

    def _give_back(self, worker: "_Worker") -> None:
        if not self._is_open:
            self._dismiss(worker)
        elif worker.served >= self._recycle_after:
            self._replace(worker, "recycled")
        else:
            self._idle.append(worker)

    def _replace(self, worker: "_Worker", reason: str) -> None:
        self._dismiss(worker)
        self._replaced[reason] = self._replaced.get(reason, 0) + 1
        if self._on_replace is not None:
            self._on_replace(reason)

    def _dismiss(self, worker: "_Worker") -> None:
        worker.kill()
        self._leaving = [*(one for one in self._leaving if one.is_alive), worker]

    async def _close(self) -> None:
        while self._idle:
            self._dismiss(self._idle.pop())
        for worker in self._leaving:
            await worker.gone()


class _Worker:
    """One decoder process, the socket to it, and the board on which it puts its views."""

    def __init__(self, child: asyncio.subprocess.Process, line: socket.socket, board: mmap.mmap) -> None:
        self.board: Board = np.frombuffer(board, np.uint8)
        self._memory = board
        self._child = child
        self._line = line
        self.served = 0

    @classmethod
    async def start(cls, limits: DecodeLimits) -> "_Worker":
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        ours.settimeout(0)
        handle = _board_handle(limits.max_view_bytes)
        try:
            board = mmap.mmap(handle, limits.max_view_bytes)
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-s", "-m", "vqmon.media.worker"),
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
    """Nothing of the daemon's environment but the way to the code; one thread for whatever numpy brings."""
    root = str(Path(__file__).resolve().parents[2])
    paths = dict.fromkeys([root, *(path for path in sys.path if os.path.isabs(path))])
    single = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.defpath, "LC_ALL": "C.UTF-8", **single}
