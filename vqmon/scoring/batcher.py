"""Many callers, full batches, one device."""

import asyncio
import heapq
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels
from vqmon.errors import ScoreError

Values = NDArray[np.float64]


class Engine(Protocol):
    """A scorer on a device; `scoring.session.Session` is the real one."""

    @property
    def device(self) -> str: ...
    @property
    def fallback(self) -> str:
        """Why this is not the device that was asked for; empty when it is."""

    @property
    def workers(self) -> int:
        """How many threads may be in `run` at once."""

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that `run` takes, rising."""

    def run(self, pixels: Pixels) -> Values:
        """One native value per picture (bucket, height, width, 3); raises ScoreError."""

    def fall_back(self, why: str) -> "Engine":
        """The same scorer on the CPU; asked only of an engine that is not there yet."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    pixels: Pixels
    values: Values
    # frames without a value yet
    missing: int
    answer: asyncio.Future[Values]


@dataclass(slots=True, kw_only=True, order=True)
class _Part:
    """Frames start..stop of one call; the earliest deadline is the least part."""

    due: float
    number: int
    start: int
    stop: int
    call: _Call = field(compare=False)


class Batcher:
    """Owns one engine and its threads; everything else happens on the event loop, so nothing is locked.

    An idle worker takes at once what waits, earliest deadline first, up to the largest bucket: no call waits for
    company. A batch is filled up to its bucket with copies of its last picture. Out of memory halves the largest
    bucket; the second time, or on any other failure, the engine falls back to the CPU and what was under way is done
    again there. What fails on the CPU fails for the callers in that batch only.
    """

    _engine: Engine
    # the most pictures in one batch
    _largest: int
    _pool: ThreadPoolExecutor

    def __init__(self, engine: Engine, *, max_waiting: int = 256) -> None:
        self._use(engine)
        self._places = asyncio.Semaphore(max_waiting)
        self._numbers = count()
        self._waiting: list[_Part] = []
        self._running = 0
        self._has_shrunk = self._is_replacing = self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def engine(self) -> Engine:
        return self._engine

    async def score(self, pixels: Pixels, *, deadline_seconds: float) -> Values:
        """Native values of pictures (frames, height, width, 3), all finite; raises ScoreError."""
        if self._is_closed or len(pixels) == 0:
            raise ValueError("nothing to score, or scored after close")
        loop = asyncio.get_running_loop()
        due = loop.time() + deadline_seconds
        try:
            async with asyncio.timeout_at(due), self._places:
                values = np.empty(len(pixels))
                call = _Call(pixels=pixels, values=values, missing=len(pixels), answer=loop.create_future())
                part = _Part(due=due, number=next(self._numbers), start=0, stop=len(pixels), call=call)
                return await self._answer(part)
        except TimeoutError:
            raise ScoreError("timeout", f"no score within {deadline_seconds:g} s") from None

    async def close(self, *, grace_seconds: float = 30.0) -> None:
        """Take no more calls, finish those taken, end the threads; what runs longer than the grace is abandoned."""
        self._is_closed = True
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            self._fail(self._waiting, ScoreError("timeout", "the scorer was closed"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, part: _Part) -> Values:
        heapq.heappush(self._waiting, part)
        self._dispatch()
        try:
            return await part.call.answer
        finally:
            if part.call.missing:
                # Gone or failed: nobody needs the rest of it.
                self._waiting = [other for other in self._waiting if other.call is not part.call]
                heapq.heapify(self._waiting)

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running < self._engine.workers and not self._is_replacing and (parts := self._take()):
            self._running += 1
            future = loop.run_in_executor(self._pool, _run, self._engine, parts)
            future.add_done_callback(partial(self._finish, parts))
        if self._running or self._waiting:
            self._idle.clear()
        else:
            self._idle.set()

    def _take(self) -> list[_Part]:
        parts: list[_Part] = []
        room = self._largest
        while self._waiting and room:
            part = heapq.heappop(self._waiting)
            if part.call.answer.done():
                continue
            cut = min(part.start + room, part.stop)
            if cut < part.stop:
                heapq.heappush(self._waiting, replace(part, start=cut))
                part.stop = cut
            room -= cut - part.start
            parts.append(part)
        return parts

    def _finish(self, parts: list[_Part], future: asyncio.Future[Values]) -> None:
        self._running -= 1
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._settle(parts, future.result())
        elif isinstance(error, ScoreError) and self._mend(error):
            for part in parts:
                heapq.heappush(self._waiting, part)
        else:
            self._fail(parts, error)
        self._dispatch()

    def _settle(self, parts: Sequence[_Part], values: Values) -> None:
        at = 0
        for part in parts:
            size = part.stop - part.start
            part.call.values[part.start : part.stop] = values[at : at + size]
            part.call.missing -= size
            at += size
            if part.call.missing == 0 and not part.call.answer.done():
                _give(part.call)

    def _fail(self, parts: Sequence[_Part], error: BaseException) -> None:
        for part in parts:
            if part.call.answer.done():
                continue
            if isinstance(error, asyncio.CancelledError):
                part.call.answer.cancel()
            else:
                part.call.answer.set_exception(error)

    def _mend(self, error: ScoreError) -> bool:
        """Make the next try different; False when there is nothing left to change."""
        smaller = [bucket for bucket in self._engine.buckets if bucket <= self._largest // 2]
        if error.reason == "out_of_memory" and smaller and not self._has_shrunk:
            self._has_shrunk = True
            self._largest = smaller[-1]
            return True
        if self._engine.device == "cpu":
            return False
        if not self._is_replacing:
            self._is_replacing = True
            self._running += 1
            loop = asyncio.get_running_loop()
            loop.run_in_executor(self._pool, self._engine.fall_back, str(error)).add_done_callback(self._fell_back)
        return True

    def _fell_back(self, future: asyncio.Future[Engine]) -> None:
        self._running -= 1
        self._is_replacing = False
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._pool.shutdown(wait=False)
            self._use(future.result())
        else:
            self._fail(self._waiting, error)
            self._waiting.clear()
        self._dispatch()

    def _use(self, engine: Engine) -> None:
        self._engine = engine
        self._largest = engine.buckets[-1]
        self._pool = ThreadPoolExecutor(engine.workers, thread_name_prefix="scorer")


def _run(engine: Engine, parts: Sequence[_Part]) -> Values:
    """In a worker thread: join the parts, fill the batch up to a bucket, drop the extra values."""
    pictures = [part.call.pixels[part.start : part.stop] for part in parts]
    size = sum(len(some) for some in pictures)
    bucket = next(bucket for bucket in engine.buckets if bucket >= size)
    if bucket > size:
        pictures.append(np.repeat(pictures[-1][-1:], bucket - size, axis=0))
    return engine.run(pictures[0] if len(pictures) == 1 else np.concatenate(pictures))[:size]


def _give(call: _Call) -> None:
    wrong = np.flatnonzero(~np.isfinite(call.values))
    if len(wrong):
        call.answer.set_exception(ScoreError("scorer_failed", f"no finite number for sampled frame {wrong[0]}"))
    else:
        call.answer.set_result(call.values)
