"""The dynamic batcher: joins the requests of many callers into batches for one engine, earliest deadline first."""

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
from vqmon.scoring.runtime.graph import Array, Priority, is_gpu, lower_thread_priority


class Engine(Protocol):
    """A model on a device; `scoring.runtime.engines` has the implementations."""

    @property
    def device(self) -> str: ...
    @property
    def fallback(self) -> str:
        """Why `device` is not the one that was asked for; empty when it is."""

    @property
    def workers(self) -> int:
        """How many threads may call `run` at once."""

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that `run` takes, in rising order."""

    def run(self, *rows: Array) -> Array:
        """Outputs (bucket, ...) for a batch (bucket, ...) of each input; raises ScoreError."""

    def fall_back(self, reason: str) -> "Engine":
        """The same model on the devices that are left, or on the CPU; never called on the CPU. Raises ScorerError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """Rows of a batch, the rows that it could have had, and the rows that wait for another one."""

    device: str
    rows: int
    max_rows: int
    waiting_rows: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Request:
    """One call of `Batcher.infer`."""

    inputs: tuple[Array, ...]
    # shape and dtype of one row of each input; only rows of one signature are batched together
    signature: tuple[tuple[tuple[int, ...], str], ...]
    # (rows, ...), allocated when the first run has finished
    outputs: Array | None = None
    # how many rows have no output yet
    pending_rows: int
    first_nonfinite_row: int | None = None
    result: asyncio.Future[Array]

    @property
    def elements_per_row(self) -> int:
        """Numbers in one row of the first input."""
        return max(1, int(np.prod(self.signature[0][0])))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _RunResult:
    """Outputs of one run, which of their rows are finite, and for how long the run held the device."""

    outputs: Array
    is_finite: Array
    seconds: float


@dataclass(slots=True, kw_only=True, order=True)
class _Slice:
    """Rows start..stop of one request, ordered in the queue by deadline, then by arrival."""

    due_at: float
    arrival: int
    start: int
    stop: int
    request: _Request = field(compare=False)


class Batcher:
    """Owns one engine and its threads; everything else happens on the event loop, so nothing needs a lock.

    An idle worker starts at once with what is queued, earliest deadline first, up to the largest bucket and up to
    `max_batch_elements` numbers of input; no request waits for a batch to fill. Rows of different shape are never
    batched together. A batch is padded to its bucket with copies of its last row. The first out-of-memory error halves
    both limits; the second one, or any other failure, moves the engine to the devices that are left or to the CPU,
    where the batches that failed are run again. A failure on the CPU fails the requests of that batch only. `on_run` is
    called with the seconds for which each run held the device, `on_batch` before each run.
    """

    _engine: Engine
    # rows
    _max_batch: int
    # whether an out-of-memory error of this engine has halved it
    _has_shrunk: bool
    _pool: ThreadPoolExecutor

    def __init__(
        self,
        engine: Engine,
        *,
        max_requests: int = 256,
        max_batch_elements: int | None = None,
        priority: Priority = "first",
        on_run: Callable[[float], None] = lambda seconds: None,
        on_batch: Callable[[BatchFacts], None] = lambda facts: None,
    ) -> None:
        self._max_batch_elements, self._priority = max_batch_elements, priority
        self._on_run, self._on_batch = on_run, on_batch
        self._use_engine(engine)
        self._request_slots = asyncio.Semaphore(max_requests)
        self._arrivals = count()
        self._queue: list[_Slice] = []
        self._running = 0
        self._is_falling_back = self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def engine(self) -> Engine:
        """The engine in use: the CPU's after a fallback."""
        return self._engine

    async def infer(self, *inputs: Array, deadline_seconds: float) -> Array:
        """Outputs (rows, ...) for the rows of each input, all finite; raises ScoreError."""
        size = len(inputs[0])
        if self._is_closed or size == 0 or any(len(array) != size for array in inputs):
            raise ValueError("no rows, inputs of different length, or called after close")
        loop = asyncio.get_running_loop()
        due_at = loop.time() + deadline_seconds
        signature = tuple((array.shape[1:], array.dtype.str) for array in inputs)
        try:
            async with asyncio.timeout_at(due_at), self._request_slots:
                request = _Request(inputs=inputs, signature=signature, pending_rows=size, result=loop.create_future())
                return await self._result(
                    _Slice(due_at=due_at, arrival=next(self._arrivals), start=0, stop=size, request=request)
                )
        except TimeoutError:
            raise ScoreError("timeout", f"no score within {deadline_seconds:g} s") from None

    def discard(self) -> None:
        """End the threads of a batcher that was never used."""
        self._is_closed = True
        self._pool.shutdown(wait=False)

    async def close(self, *, grace_seconds: float = 30.0) -> None:
        """Refuse new requests, finish those accepted, end the threads; runs longer than the grace are abandoned."""
        self._is_closed = True
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            self._fail(self._queue, ScoreError("timeout", "the scorer was closed"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _result(self, rows: _Slice) -> Array:
        request = rows.request
        heapq.heappush(self._queue, rows)
        self._dispatch()
        try:
            return await request.result
        finally:
            if request.pending_rows:
                # The caller left or the request failed: its other rows need not be run.
                self._queue = [queued for queued in self._queue if queued.request is not request]
                heapq.heapify(self._queue)

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running < self._engine.workers and not self._is_falling_back and (batch := self._next_batch()):
            self._running += 1
            self._report(batch)
            future = loop.run_in_executor(self._pool, _run_batch, self._engine, batch)
            future.add_done_callback(partial(self._on_run_done, batch))
        if self._running or self._queue:
            self._idle.clear()
        else:
            self._idle.set()

    def _report(self, batch: Sequence[_Slice]) -> None:
        self._on_batch(
            BatchFacts(
                device=self._engine.device,
                rows=sum(rows.stop - rows.start for rows in batch),
                max_rows=self._batch_limit(batch[0].request),
                waiting_rows=sum(rows.stop - rows.start for rows in self._queue),
            )
        )

    def _next_batch(self) -> list[_Slice]:
        """The slice with the earliest deadline, and slices of the same signature that fit into the same batch."""
        batch: list[_Slice] = []
        other_signatures: list[_Slice] = []
        free_rows = self._max_batch
        while self._queue and free_rows:
            rows = heapq.heappop(self._queue)
            if rows.request.result.done():
                continue
            if not batch:
                free_rows = self._batch_limit(rows.request)
            elif rows.request.signature != batch[0].request.signature:
                other_signatures.append(rows)
                continue
            stop = min(rows.start + free_rows, rows.stop)
            if stop < rows.stop:
                heapq.heappush(self._queue, replace(rows, start=stop))
                rows.stop = stop
            free_rows -= stop - rows.start
            batch.append(rows)
        for rows in other_signatures:
            heapq.heappush(self._queue, rows)
        return batch

    def _batch_limit(self, request: _Request) -> int:
        """The most rows of this request's shape in one batch; always a bucket, and at least the smallest one."""
        if self._max_batch_elements is None:
            return self._max_batch
        limit = min(self._max_batch, self._max_batch_elements // request.elements_per_row)
        return max((bucket for bucket in self._engine.buckets if bucket <= limit), default=self._engine.buckets[0])

    def _on_run_done(self, batch: list[_Slice], future: asyncio.Future[_RunResult]) -> None:
        self._running -= 1
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            run_result = future.result()
            self._on_run(run_result.seconds)
            self._deliver(batch, run_result)
        elif isinstance(error, ScoreError) and self._recover(error):
            for rows in batch:
                heapq.heappush(self._queue, rows)
        else:
            self._fail(batch, error)
        self._dispatch()

    def _deliver(self, batch: Sequence[_Slice], run_result: _RunResult) -> None:
        """Copy the outputs of a batch to its requests, and resolve those that are complete."""
        at, outputs = 0, run_result.outputs
        for rows in batch:
            size, request = rows.stop - rows.start, rows.request
            if request.outputs is None:
                request.outputs = np.empty((len(request.inputs[0]), *outputs.shape[1:]), outputs.dtype)
            request.outputs[rows.start : rows.stop] = outputs[at : at + size]
            is_finite = run_result.is_finite[at : at + size]
            if request.first_nonfinite_row is None and not is_finite.all():
                request.first_nonfinite_row = rows.start + int(np.argmin(is_finite))
            request.pending_rows -= size
            at += size
            if request.pending_rows == 0 and not request.result.done():
                _resolve(request)

    def _fail(self, batch: Sequence[_Slice], error: BaseException) -> None:
        for rows in batch:
            if rows.request.result.done():
                continue
            if isinstance(error, asyncio.CancelledError):
                rows.request.result.cancel()
            else:
                rows.request.result.set_exception(error)

    def _recover(self, error: ScoreError) -> bool:
        """Halve the batch or start the fallback, so that a retry can succeed; False when neither is left."""
        smaller_buckets = [bucket for bucket in self._engine.buckets if bucket <= self._max_batch // 2]
        if error.reason == "out_of_memory" and smaller_buckets and not self._has_shrunk:
            self._has_shrunk = True
            self._max_batch = smaller_buckets[-1]
            self._max_batch_elements = self._max_batch_elements and self._max_batch_elements // 2
            return True
        if self._engine.device == "cpu":
            return False
        if not self._is_falling_back:
            self._is_falling_back = True
            self._running += 1
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._pool, self._engine.fall_back, str(error))
            future.add_done_callback(self._on_fallback_done)
        return True

    def _on_fallback_done(self, future: asyncio.Future[Engine]) -> None:
        self._running -= 1
        self._is_falling_back = False
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._pool.shutdown(wait=False)
            self._use_engine(future.result())
        else:
            self._fail(self._queue, error)
            self._queue.clear()
        self._dispatch()

    def _use_engine(self, engine: Engine) -> None:
        self._engine = engine
        self._max_batch, self._has_shrunk = engine.buckets[-1], False
        # The thread that feeds a GPU keeps its priority: while it waited for a core, the GPU would be idle.
        is_background = self._priority == "background" and not is_gpu(engine.device)
        self._pool = ThreadPoolExecutor(
            engine.workers,
            thread_name_prefix="scorer",
            initializer=lower_thread_priority if is_background else None,
        )


def _run_batch(engine: Engine, batch: Sequence[_Slice]) -> _RunResult:
    """In a worker thread: join the rows, pad them to a bucket, run, drop the outputs of the padding."""
    size = sum(rows.stop - rows.start for rows in batch)
    bucket = next(bucket for bucket in engine.buckets if bucket >= size)
    inputs = []
    for index in range(len(batch[0].request.inputs)):
        arrays = [rows.request.inputs[index][rows.start : rows.stop] for rows in batch]
        if bucket > size:
            arrays.append(np.repeat(arrays[-1][-1:], bucket - size, axis=0))
        inputs.append(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
    started_at = time.perf_counter()
    outputs = engine.run(*inputs)[:size]
    seconds = time.perf_counter() - started_at
    is_finite = np.atleast_1d(np.isfinite(outputs).reshape(size, -1).all(axis=1))
    return _RunResult(outputs=outputs, is_finite=is_finite, seconds=seconds)


def _resolve(request: _Request) -> None:
    if request.first_nonfinite_row is not None:
        detail = f"the output for sampled frame {request.first_nonfinite_row} is not a finite number"
        request.result.set_exception(ScoreError("scorer_failed", detail))
    elif request.outputs is not None:
        request.result.set_result(request.outputs)
