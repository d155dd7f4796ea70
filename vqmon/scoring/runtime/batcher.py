"""Many callers, full batches, one device."""

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Protocol, Self

import numpy as np

from vqmon.errors import ScoreError
from vqmon.scoring.runtime.graph import Array, Priority, stand_back


class Engine(Protocol):
    """A graph on a device; `scoring.runtime.engines` has the real ones."""

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

    def run(self, *rows: Array) -> Array:
        """One answer (bucket, ...) for the rows (bucket, ...) of each input; raises ScoreError."""

    def fall_back(self, why: str) -> "Engine":
        """The same on the CPU; asked only of an engine that is not there yet."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    rows: tuple[Array, ...]
    # shape and type of a row of each input: only rows that are alike share a batch
    alike: tuple[tuple[tuple[int, ...], str], ...]
    # answers so far, made when the first come
    values: Array | None = None
    # rows without an answer yet
    missing: int
    # the first row whose answer is no finite number
    wrong: int | None = None
    answer: asyncio.Future[Array]

    @property
    def work(self) -> int:
        """Of one row: how many numbers go in."""
        return max(1, int(np.prod(self.alike[0][0])))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Done:
    """The answers of one run, which of them are finite, and how long the device was held."""

    values: Array
    fine: Array
    seconds: float


@dataclass(slots=True, kw_only=True, order=True)
class _Part:
    """Rows start..stop of one call; the earliest deadline is the least part."""

    due: float
    number: int
    start: int
    stop: int
    call: _Call = field(compare=False)


class Batcher:
    """Owns one engine and its threads; everything else happens on the event loop, so nothing is locked.

    An idle worker takes at once what waits, earliest deadline first, up to the largest bucket and to `most_work`
    numbers of input: no call waits for company, and only rows of one shape go together. A batch is filled up to its
    bucket with copies of its last row. Out of memory halves both limits; the second time, or on any other failure, the
    engine falls back to the CPU and what was under way is done again there. What fails on the CPU fails for the
    callers in that batch only. `spent` hears the seconds that each run held the device.
    """

    _engine: Engine
    # the most rows in one batch
    _largest: int
    _pool: ThreadPoolExecutor

    def __init__(
        self,
        engine: Engine,
        *,
        max_waiting: int = 256,
        most_work: int | None = None,
        priority: Priority = "first",
        spent: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._most_work, self._priority, self._spent = most_work, priority, spent
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

    async def score(self, *rows: Array, deadline_seconds: float) -> Array:
        """The answers (rows, ...) to the rows of each input, all finite; raises ScoreError."""
        size = len(rows[0])
        if self._is_closed or size == 0 or any(len(each) != size for each in rows):
            raise ValueError("nothing to score, inputs of different length, or scored after close")
        loop = asyncio.get_running_loop()
        due = loop.time() + deadline_seconds
        alike = tuple((each.shape[1:], each.dtype.str) for each in rows)
        try:
            async with asyncio.timeout_at(due), self._places:
                call = _Call(rows=rows, alike=alike, missing=size, answer=loop.create_future())
                part = _Part(due=due, number=next(self._numbers), start=0, stop=size, call=call)
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

    async def _answer(self, part: _Part) -> Array:
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
        """The part that is due first, and what is like it and fits beside it."""
        parts: list[_Part] = []
        others: list[_Part] = []
        room = self._largest
        while self._waiting and room:
            part = heapq.heappop(self._waiting)
            if part.call.answer.done():
                continue
            if not parts:
                room = self._room(part.call)
            elif part.call.alike != parts[0].call.alike:
                others.append(part)
                continue
            cut = min(part.start + room, part.stop)
            if cut < part.stop:
                heapq.heappush(self._waiting, replace(part, start=cut))
                part.stop = cut
            room -= cut - part.start
            parts.append(part)
        for part in others:
            heapq.heappush(self._waiting, part)
        return parts

    def _room(self, call: _Call) -> int:
        if self._most_work is None:
            return self._largest
        allowed = min(self._largest, self._most_work // call.work)
        return max((bucket for bucket in self._engine.buckets if bucket <= allowed), default=self._engine.buckets[0])

    def _finish(self, parts: list[_Part], future: asyncio.Future[_Done]) -> None:
        self._running -= 1
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            done = future.result()
            self._spent(done.seconds)
            self._settle(parts, done)
        elif isinstance(error, ScoreError) and self._mend(error):
            for part in parts:
                heapq.heappush(self._waiting, part)
        else:
            self._fail(parts, error)
        self._dispatch()

    def _settle(self, parts: Sequence[_Part], done: _Done) -> None:
        at, values = 0, done.values
        for part in parts:
            size, call = part.stop - part.start, part.call
            if call.values is None:
                call.values = np.empty((len(call.rows[0]), *values.shape[1:]), values.dtype)
            call.values[part.start : part.stop] = values[at : at + size]
            if call.wrong is None and not done.fine[at : at + size].all():
                call.wrong = part.start + int(np.argmin(done.fine[at : at + size]))
            call.missing -= size
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
            self._most_work = self._most_work and self._most_work // 2
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
        # A GPU's feeder only hands work over: were it to wait for a core, the GPU would wait with it.
        start = stand_back if self._priority == "background" and engine.device != "cuda" else None
        self._pool = ThreadPoolExecutor(engine.workers, thread_name_prefix="scorer", initializer=start)


def _run(engine: Engine, parts: Sequence[_Part]) -> _Done:
    """In a worker thread: join the parts, fill the batch up to a bucket, drop the extra answers."""
    size = sum(part.stop - part.start for part in parts)
    bucket = next(bucket for bucket in engine.buckets if bucket >= size)
    batch = []
    for each in range(len(parts[0].call.rows)):
        rows = [part.call.rows[each][part.start : part.stop] for part in parts]
        if bucket > size:
            rows.append(np.repeat(rows[-1][-1:], bucket - size, axis=0))
        batch.append(rows[0] if len(rows) == 1 else np.concatenate(rows))
    began = time.perf_counter()
    values = engine.run(*batch)[:size]
    seconds = time.perf_counter() - began
    fine = np.atleast_1d(np.isfinite(values).reshape(size, -1).all(axis=1))
    return _Done(values=values, fine=fine, seconds=seconds)


def _give(call: _Call) -> None:
    if call.wrong is not None:
        call.answer.set_exception(ScoreError("scorer_failed", f"no finite number for sampled frame {call.wrong}"))
    elif call.values is not None:
        call.answer.set_result(call.values)
