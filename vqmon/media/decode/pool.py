"""A pool of decoder processes: give it a segment's bytes, get what it looks like; whatever hangs is killed."""

import asyncio
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from vqmon.core.types import SIGNALS, Decoded, Sampling, View
from vqmon.errors import DecodeError
from vqmon.media.decode.process import DecoderProcess
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest, HdrRule, decoded_from

__all__ = ["DecodeLimits", "DecoderPool"]


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
        self._idle: list[DecoderProcess] = []
        # killed, and not yet reaped
        self._leaving: list[DecoderProcess] = []
        self._replaced: dict[str, int] = {}
        self._is_open = False

    async def __aenter__(self) -> Self:
        workers = [await DecoderProcess.start(self.limits) for _ in range(self.size)]
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
            # of the bytes, so that the same segment is cut alike at every replay and on every worker
            seed=zlib.crc32(media) if any(view.kind == "fragments" for view in views) else 0,
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
            limit = f"{self.limits.deadline_seconds:g} s, decode.deadline_seconds (--deadline)"
            raise DecodeError("timeout", f"decoding took more than {limit}") from None
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

    async def _worker(self) -> DecoderProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            self._replace(worker, "crashed")
        worker = await DecoderProcess.start(self.limits)
        try:
            await worker.greet()
        except BaseException as error:
            self._dismiss(worker)
            if isinstance(error, TimeoutError | EOFError | OSError | ValueError):
                raise DecodeError("crashed", "a decoder process does not start") from error
            raise
        return worker

    def _give_back(self, worker: DecoderProcess) -> None:
        if not self._is_open:
            self._dismiss(worker)
        elif worker.served >= self._recycle_after:
            self._replace(worker, "recycled")
        else:
            self._idle.append(worker)

    def _replace(self, worker: DecoderProcess, reason: str) -> None:
        self._dismiss(worker)
        self._replaced[reason] = self._replaced.get(reason, 0) + 1
        if self._on_replace is not None:
            self._on_replace(reason)

    def _dismiss(self, worker: DecoderProcess) -> None:
        worker.kill()
        self._leaving = [*(one for one in self._leaving if one.is_alive), worker]

    async def _close(self) -> None:
        while self._idle:
            self._dismiss(self._idle.pop())
        for worker in self._leaving:
            await worker.gone()
