"""The batcher: batches of many callers' rows, deadlines, failures, and the fallback to the CPU."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.scoring.tiny_onnx import expected, pictures, tiny_engine
from vqmon.core.types import Pixels
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.runtime.batcher import Batcher, Engine
from vqmon.scoring.runtime.engines import FrameEngine
from vqmon.scoring.runtime.graph import to_score_error

FOREVER = 60.0


@dataclass
class FakeEngine:
    """An engine whose value for a picture is its first pixel; a test can block it and make runs fail."""

    device: str = "cuda"
    fallback: str = ""
    workers: int = 1
    buckets: tuple[int, ...] = (1, 2, 4, 8)
    # raised by the runs in turn; None = the run succeeds
    failures: list[Exception | None] = field(default_factory=list)
    cpu_engine: "FakeEngine | Exception" = field(default_factory=lambda: ScorerError("no CPU engine"))
    # first pixels of each batch that was run
    batches: list[list[int]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    max_concurrent_runs: int = 0
    concurrent_runs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.open.set()

    def run(self, pixels: Pixels) -> np.ndarray:
        with self.lock:
            self.concurrent_runs += 1
            self.max_concurrent_runs = max(self.max_concurrent_runs, self.concurrent_runs)
            self.batches.append(pixels[:, 0, 0, 0].tolist())
            failure = self.failures.pop(0) if self.failures else None
        assert self.open.wait(FOREVER)
        with self.lock:
            self.concurrent_runs -= 1
        if failure is not None:
            raise failure
        return self.value(pixels[:, 0, 0, 0])

    def value(self, first_pixels: np.ndarray) -> np.ndarray:
        # 255 stands for a picture whose value is not finite
        return np.where(first_pixels == 255, np.nan, first_pixels).astype(np.float64)

    def fall_back(self, reason: str) -> Engine:
        if isinstance(self.cpu_engine, Exception):
            raise self.cpu_engine
        self.cpu_engine.fallback = reason
        return self.cpu_engine


def out_of_memory() -> ScoreError:
    return ScoreError("out_of_memory")


def frames(*firsts: int) -> Pixels:
    """One-pixel pictures of these values."""
    return np.array(firsts, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., Batcher]]:
    """Make batchers that are closed at the end."""
    made: list[Batcher] = []

    def make(engine: Engine, **options: int) -> Batcher:
        made.append(Batcher(engine, **options))
        return made[-1]

    yield make
    for batcher in made:
        await batcher.close(grace_seconds=5)


def ask(batcher: Batcher, *firsts: int, deadline_seconds: float = FOREVER) -> asyncio.Task[list[float]]:
    """Start a request; the task returns the values as a list."""

    async def score() -> list[float]:
        values = await batcher.infer(frames(*firsts), deadline_seconds=deadline_seconds)
        return [float(value) for value in values]

    return asyncio.create_task(score())


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


Build = Callable[..., Batcher]


async def test_an_idle_engine_starts_at_once(build: Build) -> None:
    """A single request does not wait for a batch to fill."""
    engine = FakeEngine()
    assert await ask(build(engine), 7) == [7]
    assert engine.batches == [[7]]


async def test_queued_requests_share_a_batch_that_is_padded_to_a_bucket(build: Build) -> None:
    """The padding repeats the last row, and its outputs are dropped."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [ask(batcher, 1), ask(batcher, 2, 3), ask(batcher, 4, 5, 6)]
    await settle()
    engine.open.set()
    assert await asyncio.gather(*calls) == [[1], [2, 3], [4, 5, 6]]
    assert engine.batches == [[1], [2, 3, 4, 5, 6, 6, 6, 6]]


async def test_a_long_request_is_split_into_batches(build: Build) -> None:
    """More rows than the largest bucket come back complete and in order."""
    engine = FakeEngine()
    assert await ask(build(engine), *range(21)) == list(range(21))
    assert [len(batch) for batch in engine.batches] == [8, 8, 8]


async def test_the_earliest_deadline_is_served_first(build: Build) -> None:
    """Whatever the order of arrival."""
    engine = FakeEngine(buckets=(1,))
    batcher = build(engine)
    engine.open.clear()
    calls = [
        ask(batcher, 0),
        ask(batcher, 3, deadline_seconds=90),
        ask(batcher, 1, deadline_seconds=30),
        ask(batcher, 2),
    ]
    await settle()
    engine.open.set()
    await asyncio.gather(*calls)
    assert engine.batches == [[0], [1], [2], [3]]


async def test_there_are_never_more_concurrent_runs_than_workers(build: Build) -> None:
    """One on a GPU; as many on a CPU as the engine says."""
    for workers in (1, 3):
        engine = FakeEngine(workers=workers, buckets=(1,))
        batcher = build(engine)
        engine.open.clear()
        call = ask(batcher, *range(12))
        await settle()
        while len(engine.batches) < workers:  # noqa: ASYNC110 - threads report here, not tasks
            await asyncio.sleep(0.001)
        engine.open.set()
        assert await call == list(range(12))
        assert engine.max_concurrent_runs == workers


async def test_a_hundred_callers_get_their_own_values(build: Build) -> None:
    """Whichever requests share a batch."""
    engine = FakeEngine(workers=2)
    batcher = build(engine)
    wanted = [[(7 * caller + frame) % 251 for frame in range(1 + caller % 11)] for caller in range(100)]
    assert await asyncio.gather(*(ask(batcher, *firsts) for firsts in wanted)) == wanted


async def test_a_cancelled_caller_does_not_affect_others(build: Build) -> None:
    """Queued rows of callers that left are not run."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [ask(batcher, number) for number in range(40)]
    await settle()
    for call in calls[::2]:
        call.cancel()
    await settle()
    engine.open.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[1::2] == [[number] for number in range(1, 40, 2)]
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    # the one that was running, and those that nobody had left
    assert sorted({number for batch in engine.batches for number in batch}) == [0, *range(1, 40, 2)]


async def test_a_request_past_its_deadline_fails_with_timeout(build: Build) -> None:
    """The request behind it is served."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    running, late, patient = ask(batcher, 1), ask(batcher, 2, deadline_seconds=0.01), ask(batcher, 3)
    with pytest.raises(ScoreError) as caught:
        await late
    assert caught.value.reason == "timeout"
    engine.open.set()
    assert [await running, await patient] == [[1], [3]]
    assert engine.batches == [[1], [3]]


async def test_the_number_of_requests_is_bounded(build: Build) -> None:
    """Callers beyond the bound wait within their deadline, and are served when a slot is free."""
    engine = FakeEngine()
    batcher = build(engine, max_requests=2)
    engine.open.clear()
    calls = [ask(batcher, 1), ask(batcher, 2), ask(batcher, 3)]
    late = ask(batcher, 4, deadline_seconds=0.01)
    with pytest.raises(ScoreError, match="timeout"):
        await late
    engine.open.set()
    assert await asyncio.gather(*calls) == [[1], [2], [3]]
    # 3 was not there when the second batch was taken
    assert engine.batches == [[1], [2], [3]]


async def test_an_error_on_the_cpu_fails_only_its_batch(build: Build) -> None:
    """Requests before and after it are served."""
    engine = FakeEngine(device="cpu", buckets=(1,), failures=[None, ScoreError("scorer_failed", "boom")])
    batcher = build(engine)
    results = await asyncio.gather(*(ask(batcher, number) for number in range(4)), return_exceptions=True)
    assert [results[0], results[2], results[3]] == [[0], [2], [3]]
    assert isinstance(results[1], ScoreError)
    assert results[1].detail == "boom"


async def test_a_value_that_is_not_finite_fails_only_its_request(build: Build) -> None:
    """Other requests of the same batch are served; the message names the frame."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [ask(batcher, 0), ask(batcher, 1), ask(batcher, 2, 255), ask(batcher, 3)]
    await settle()
    engine.open.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [[0], [1], [3]]
    assert isinstance(results[2], ScoreError)
    assert results[2].reason == "scorer_failed"
    assert "frame 1" in results[2].detail


async def test_an_error_that_is_not_a_score_error_is_raised_unchanged(build: Build) -> None:
    """A programming error does not become an unscored segment."""
    with pytest.raises(ZeroDivisionError):
        await ask(build(FakeEngine(failures=[ZeroDivisionError()])), 1)


async def test_the_first_out_of_memory_error_halves_the_batch(build: Build) -> None:
    """The same rows are run again in halves on the same engine."""
    engine = FakeEngine(failures=[out_of_memory()])
    batcher = build(engine)
    assert await ask(batcher, *range(8)) == list(range(8))
    assert [len(batch) for batch in engine.batches] == [8, 4, 4]
    assert batcher.engine is engine


@pytest.mark.parametrize(
    "failures", [[out_of_memory(), None, out_of_memory()], [ScoreError("scorer_failed", "CUDA failure 700")]]
)
async def test_a_failed_device_falls_back_to_the_cpu(build: Build, failures: Sequence[Exception]) -> None:
    """After a second out-of-memory error or any other failure, all rows in flight are run again on the CPU."""
    cpu_engine = FakeEngine(device="cpu", workers=2, buckets=(1,))
    engine = FakeEngine(failures=list(failures), cpu_engine=cpu_engine)
    batcher = build(engine)
    long, short = ask(batcher, *range(12)), ask(batcher, 12, 13)
    assert [await long, await short] == [list(range(12)), [12, 13]]
    assert batcher.engine is cpu_engine
    assert cpu_engine.fallback == str(failures[-1])
    assert await ask(batcher, 9) == [9]


async def test_all_callers_fail_when_the_cpu_cannot_take_over(build: Build) -> None:
    """None of them hangs."""
    batcher = build(FakeEngine(failures=[ScoreError("scorer_failed")]))
    results = await asyncio.gather(*(ask(batcher, number) for number in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no CPU engine"] * 3


async def test_out_of_memory_on_the_cpu_fails_the_request(build: Build) -> None:
    """There is nothing left to fall back to; the next request is tried."""
    batcher = build(FakeEngine(device="cpu", buckets=(1,), failures=[out_of_memory()]))
    with pytest.raises(ScoreError) as caught:
        await ask(batcher, 1)
    assert caught.value.reason == "out_of_memory"
    assert await ask(batcher, 2) == [2]


async def test_close_finishes_accepted_requests() -> None:
    """Later ones are refused."""
    engine = FakeEngine()
    batcher = Batcher(engine)
    engine.open.clear()
    calls = [ask(batcher, 1), ask(batcher, 2)]
    await settle()
    closing = asyncio.create_task(batcher.close())
    await settle()
    assert not closing.done()
    engine.open.set()
    assert await asyncio.gather(*calls) == [[1], [2]]
    await closing
    with pytest.raises(ValueError, match="after close"):
        await batcher.infer(frames(1), deadline_seconds=1)


async def test_close_abandons_a_run_that_outlasts_the_grace() -> None:
    """Queued callers get an error."""
    engine = FakeEngine()
    batcher = Batcher(engine)
    engine.open.clear()
    stuck, waiting = ask(batcher, 1), ask(batcher, 2)
    await settle()
    await batcher.close(grace_seconds=0.01)
    with pytest.raises(ScoreError, match="closed"):
        await waiting
    engine.open.set()
    assert await stuck == [1]


async def test_a_request_without_rows_is_refused(build: Build) -> None:
    """It would never be resolved."""
    with pytest.raises(ValueError, match="no rows"):
        await build(FakeEngine()).infer(frames(), deadline_seconds=1)


@pytest.mark.parametrize("buckets", [(1,), (1, 2, 4, 8), (8,)])
async def test_other_requests_do_not_change_a_value(build: Build, buckets: tuple[int, ...]) -> None:
    """With a real session, bit for bit, alone and among a hundred callers."""
    session = tiny_engine(threads=2, batch_buckets=buckets)
    session.buckets = buckets
    batcher = build(session)
    many = [pictures(1 + seed % 5, seed=seed) for seed in range(100)]
    alone = [await batcher.infer(pixels, deadline_seconds=FOREVER) for pixels in many]
    together = await asyncio.gather(*(batcher.infer(pixels, deadline_seconds=FOREVER) for pixels in many))
    for pixels, single, concurrent in zip(many, alone, together, strict=True):
        assert single.tobytes() == concurrent.tobytes()
        assert single == pytest.approx(expected(pixels), abs=1e-4)


async def test_only_rows_of_one_shape_share_a_batch(build: Build) -> None:
    """Clips of different length are never padded; the shape of the earliest deadline goes first."""
    engine = ShapeRecordingEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [
        asyncio.create_task(batcher.infer(np.full((rows, length), length), deadline_seconds=FOREVER))
        for rows, length in ((1, 1), (2, 3), (1, 5), (2, 3), (1, 5))
    ]
    await settle()
    engine.open.set()
    results = await asyncio.gather(*calls)
    assert [result.tolist() for result in results] == [[1], [3, 3], [5], [3, 3], [5]]
    assert engine.shapes == [(1, 1), (4, 3), (2, 5)]


async def test_a_batch_is_limited_by_its_number_of_elements(build: Build) -> None:
    """A row that exceeds the limit runs alone."""
    engine = ShapeRecordingEngine(buckets=(1, 2, 4, 8))
    batcher = Batcher(engine, max_batch_elements=8)
    for length, sizes in ((1, [8]), (2, [4, 4]), (3, [2, 2, 2, 2]), (9, [1] * 8)):
        engine.shapes.clear()
        assert (await batcher.infer(np.full((8, length), length), deadline_seconds=FOREVER) == length).all()
        assert [rows for rows, _ in engine.shapes] == sizes
    await batcher.close()


async def test_out_of_memory_halves_the_limit_of_elements_too(build: Build) -> None:
    """The batch is run again in halves."""
    engine = ShapeRecordingEngine(failures=[out_of_memory()])
    batcher = Batcher(engine, max_batch_elements=16)
    assert (await batcher.infer(np.full((8, 4), 1), deadline_seconds=FOREVER) == 1).all()
    assert [rows for rows, _ in engine.shapes] == [4, 2, 2, 2, 2]
    await batcher.close()


async def test_rows_of_several_inputs_stay_aligned(build: Build) -> None:
    """All inputs are split, joined and padded alike."""
    engine = ShapeRecordingEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [
        asyncio.create_task(batcher.infer(np.full((n, 1), n), np.full(n, 10 * n), deadline_seconds=FOREVER))
        for n in (1, 2, 3)
    ]
    await settle()
    engine.open.set()
    assert [result.tolist() for result in await asyncio.gather(*calls)] == [[11], [22, 22], [33, 33, 33]]
    with pytest.raises(ValueError, match="different length"):
        await batcher.infer(np.zeros((2, 1)), np.zeros(1), deadline_seconds=1)


async def test_on_run_gets_the_seconds_of_every_run(build: Build) -> None:
    """One call per run."""
    run_seconds: list[float] = []
    async with Batcher(FakeEngine(buckets=(1,)), on_run=run_seconds.append) as batcher:
        await batcher.infer(frames(1, 2, 3), deadline_seconds=FOREVER)
    assert len(run_seconds) == 3
    assert min(run_seconds) > 0


@dataclass
class DeviceLosingEngine:
    """A real session behind a device that is lost after a number of runs."""

    engine: FrameEngine
    runs_left: int
    device: str = "cuda"
    fallback: str = ""
    workers: int = 1
    buckets: tuple[int, ...] = (1, 2, 4, 8)

    def run(self, *rows: np.ndarray) -> np.ndarray:
        self.runs_left -= 1
        if self.runs_left < 0:
            raise to_score_error(RuntimeError("CUDA failure 719: unspecified launch failure"), "tiny@1", "cuda")
        return np.concatenate([self.engine.run(rows[0][at : at + 1]) for at in range(len(rows[0]))])

    def fall_back(self, reason: str) -> Engine:
        return self.engine.fall_back(reason)


async def test_a_device_lost_within_a_segment_does_not_change_values() -> None:
    """With real sessions: the rows in flight are run on the CPU, with the same bits, and the engine says why."""
    alone = tiny_engine(threads=2)
    pixels = pictures(20)
    lost = DeviceLosingEngine(engine=tiny_engine(threads=2), runs_left=1)
    async with Batcher(lost) as batcher:
        values = await batcher.infer(pixels, deadline_seconds=FOREVER)
        assert batcher.engine.device == "cpu"
        assert "CUDA failure 719" in batcher.engine.fallback
    assert values.tolist() == [float(alone.run(each[None])[0]) for each in pixels]


@dataclass
class ShapeRecordingEngine(FakeEngine):
    """Its output is the sum of the first numbers of a row of each input; records the shapes of the batches."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, *rows: np.ndarray) -> np.ndarray:
        self.shapes.append(rows[0].shape)
        assert self.open.wait(FOREVER)
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        return np.asarray(sum(each.reshape(len(each), -1)[:, 0] for each in rows), dtype=float)
