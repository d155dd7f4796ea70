"""Many callers on one engine: full batches, right answers, failures that stay where they belong."""

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
    """An engine whose value for a picture is its first pixel; it can be held, and fail as told."""

    device: str = "cuda"
    fallback: str = ""
    workers: int = 1
    buckets: tuple[int, ...] = (1, 2, 4, 8)
    # raised by one run after the other; None = that run works
    failures: list[Exception | None] = field(default_factory=list)
    spare: "FakeEngine | Exception" = field(default_factory=lambda: ScorerError("no spare"))
    # first pixels of each batch that was run
    batches: list[list[int]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.open.set()

    def run(self, pixels: Pixels) -> np.ndarray:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.batches.append(pixels[:, 0, 0, 0].tolist())
            failure = self.failures.pop(0) if self.failures else None
        assert self.open.wait(FOREVER)
        with self.lock:
            self.at_once -= 1
        if failure is not None:
            raise failure
        return self.value(pixels[:, 0, 0, 0])

    def value(self, first_pixels: np.ndarray) -> np.ndarray:
        # 255 stands for a picture on which the scorer fails
        return np.where(first_pixels == 255, np.nan, first_pixels).astype(np.float64)

    def fall_back(self, why: str) -> Engine:
        if isinstance(self.spare, Exception):
            raise self.spare
        self.spare.fallback = why
        return self.spare


def full() -> ScoreError:
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
    """Start a call; its answer is the values as a list."""

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
    """A single call does not wait for company."""
    engine = FakeEngine()
    assert await ask(build(engine), 7) == [7]
    assert engine.batches == [[7]]


async def test_what_waits_is_taken_together_and_filled_up(build: Build) -> None:
    """Calls that came during a run share the next batch, filled up to a bucket with the last picture."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [ask(batcher, 1), ask(batcher, 2, 3), ask(batcher, 4, 5, 6)]
    await settle()
    engine.open.set()
    assert await asyncio.gather(*calls) == [[1], [2, 3], [4, 5, 6]]
    assert engine.batches == [[1], [2, 3, 4, 5, 6, 6, 6, 6]]


async def test_a_long_call_is_cut_into_batches(build: Build) -> None:
    """More frames than the largest bucket come back complete and in order."""
    engine = FakeEngine()
    assert await ask(build(engine), *range(21)) == list(range(21))
    assert [len(batch) for batch in engine.batches] == [8, 8, 8]


async def test_the_earliest_deadline_goes_first(build: Build) -> None:
    """Calls are taken by deadline, not by arrival."""
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


async def test_no_more_runs_at_once_than_workers(build: Build) -> None:
    """One device has one run at a time; a CPU engine has as many as it says."""
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
        assert engine.most_at_once == workers


async def test_a_hundred_callers_get_their_own_numbers(build: Build) -> None:
    """Whatever is batched with whatever, each caller gets the values of its own frames."""
    engine = FakeEngine(workers=2)
    batcher = build(engine)
    wanted = [[(7 * caller + frame) % 251 for frame in range(1 + caller % 11)] for caller in range(100)]
    assert await asyncio.gather(*(ask(batcher, *firsts) for firsts in wanted)) == wanted


async def test_a_cancelled_caller_does_not_disturb_others(build: Build) -> None:
    """Callers cancelled while waiting or under way leave; the others get their answers."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [ask(batcher, number) for number in range(40)]
    await settle()
    for call in calls[::2]:
        call.cancel()
    await settle()
    engine.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[1::2] == [[number] for number in range(1, 40, 2)]
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    # the one that was running, and those that nobody had left
    assert sorted({number for batch in engine.batches for number in batch}) == [0, *range(1, 40, 2)]


async def test_a_deadline_that_passes(build: Build) -> None:
    """A call that is not answered in time fails as timeout, and the one behind it is answered."""
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


async def test_the_queue_is_bounded(build: Build) -> None:
    """Callers beyond the bound wait outside, within their deadline, and are served when there is room."""
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


async def test_an_error_reaches_only_its_batch(build: Build) -> None:
    """On the CPU a failing batch fails its callers with the reason; those before and after are answered."""
    engine = FakeEngine(device="cpu", buckets=(1,), failures=[None, ScoreError("scorer_failed", "boom")])
    batcher = build(engine)
    answers = await asyncio.gather(*(ask(batcher, number) for number in range(4)), return_exceptions=True)
    assert [answers[0], answers[2], answers[3]] == [[0], [2], [3]]
    assert isinstance(answers[1], ScoreError)
    assert answers[1].detail == "boom"


async def test_no_finite_number_fails_only_that_call(build: Build) -> None:
    """A picture without a finite value fails its own call, not those in the same batch."""
    engine = FakeEngine()
    batcher = build(engine)
    engine.open.clear()
    calls = [ask(batcher, 0), ask(batcher, 1), ask(batcher, 2, 255), ask(batcher, 3)]
    await settle()
    engine.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [[0], [1], [3]]
    assert isinstance(answers[2], ScoreError)
    assert answers[2].reason == "scorer_failed"
    assert "frame 1" in answers[2].detail


async def test_an_error_that_is_none_of_ours_is_raised_as_it_is(build: Build) -> None:
    """A mistake in the code is not dressed up as an unscored segment."""
    with pytest.raises(ZeroDivisionError):
        await ask(build(FakeEngine(failures=[ZeroDivisionError()])), 1)


async def test_out_of_memory_halves_the_batch(build: Build) -> None:
    """The first time the memory is full, the same frames are scored in halves; nobody notices."""
    engine = FakeEngine(failures=[full()])
    batcher = build(engine)
    assert await ask(batcher, *range(8)) == list(range(8))
    assert [len(batch) for batch in engine.batches] == [8, 4, 4]
    assert batcher.engine is engine


@pytest.mark.parametrize("failures", [[full(), None, full()], [ScoreError("scorer_failed", "CUDA failure 700")]])
async def test_a_lost_device_falls_back_to_the_cpu(build: Build, failures: Sequence[Exception]) -> None:
    """The second full memory, or any other failure, moves everything under way to the CPU, and says why."""
    spare = FakeEngine(device="cpu", workers=2, buckets=(1,))
    engine = FakeEngine(failures=list(failures), spare=spare)
    batcher = build(engine)
    long, short = ask(batcher, *range(12)), ask(batcher, 12, 13)
    assert [await long, await short] == [list(range(12)), [12, 13]]
    assert batcher.engine is spare
    assert spare.fallback == str(failures[-1])
    assert await ask(batcher, 9) == [9]


async def test_no_spare_ends_all_who_wait(build: Build) -> None:
    """When the CPU cannot take over, every waiting caller gets that error and nobody hangs."""
    batcher = build(FakeEngine(failures=[ScoreError("scorer_failed")]))
    answers = await asyncio.gather(*(ask(batcher, number) for number in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["no spare"] * 3


async def test_out_of_memory_on_the_cpu(build: Build) -> None:
    """Without anything smaller or safer the callers get out_of_memory, and the next ones are tried."""
    batcher = build(FakeEngine(device="cpu", buckets=(1,), failures=[full()]))
    with pytest.raises(ScoreError) as caught:
        await ask(batcher, 1)
    assert caught.value.reason == "out_of_memory"
    assert await ask(batcher, 2) == [2]


async def test_close_finishes_what_was_taken() -> None:
    """Closing drains: taken calls are answered, later ones are refused."""
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


async def test_close_does_not_wait_for_ever() -> None:
    """A run that does not end is left behind after the grace, and who waits is told."""
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


async def test_nothing_to_score(build: Build) -> None:
    """No frames is the caller's mistake, not an endless wait."""
    with pytest.raises(ValueError, match="no rows"):
        await build(FakeEngine()).infer(frames(), deadline_seconds=1)


@pytest.mark.parametrize("buckets", [(1,), (1, 2, 4, 8), (8,)])
async def test_company_does_not_change_a_score(build: Build, buckets: tuple[int, ...]) -> None:
    """With a real session, frames alone and among a hundred callers have the same values."""
    session = tiny_engine(threads=2, batch_buckets=buckets)
    session.buckets = buckets
    batcher = build(session)
    many = [pictures(1 + seed % 5, seed=seed) for seed in range(100)]
    alone = [await batcher.infer(each, deadline_seconds=FOREVER) for each in many]
    together = await asyncio.gather(*(batcher.infer(each, deadline_seconds=FOREVER) for each in many))
    for pixels, one, other in zip(many, alone, together, strict=True):
        assert one.tobytes() == other.tobytes()
        assert one == pytest.approx(expected(pixels), abs=1e-4)


async def test_only_rows_of_one_shape_go_together(build: Build) -> None:
    """Clips of different length are never padded into one batch; the earliest deadline leads."""
    engine = Shaped()
    batcher = build(engine)
    engine.open.clear()
    calls = [
        asyncio.create_task(batcher.infer(np.full((rows, length), length), deadline_seconds=FOREVER))
        for rows, length in ((1, 1), (2, 3), (1, 5), (2, 3), (1, 5))
    ]
    await settle()
    engine.open.set()
    answers = await asyncio.gather(*calls)
    assert [answer.tolist() for answer in answers] == [[1], [3, 3], [5], [3, 3], [5]]
    assert engine.shapes == [(1, 1), (4, 3), (2, 5)]


async def test_a_batch_is_capped_by_work(build: Build) -> None:
    """Long rows go fewer at a time; one that is longer than the limit goes alone."""
    engine = Shaped(buckets=(1, 2, 4, 8))
    batcher = Batcher(engine, max_batch_elements=8)
    for length, sizes in ((1, [8]), (2, [4, 4]), (3, [2, 2, 2, 2]), (9, [1] * 8)):
        engine.shapes.clear()
        assert (await batcher.infer(np.full((8, length), length), deadline_seconds=FOREVER) == length).all()
        assert [rows for rows, _ in engine.shapes] == sizes
    await batcher.close()


async def test_out_of_memory_halves_the_work_too(build: Build) -> None:
    """A batch of long rows fails once and is done in halves."""
    engine = Shaped(failures=[full()])
    batcher = Batcher(engine, max_batch_elements=16)
    assert (await batcher.infer(np.full((8, 4), 1), deadline_seconds=FOREVER) == 1).all()
    assert [rows for rows, _ in engine.shapes] == [4, 2, 2, 2, 2]
    await batcher.close()


async def test_several_inputs_stay_side_by_side(build: Build) -> None:
    """Rows of all inputs are cut, joined and filled up alike."""
    engine = Shaped()
    batcher = build(engine)
    engine.open.clear()
    calls = [
        asyncio.create_task(batcher.infer(np.full((n, 1), n), np.full(n, 10 * n), deadline_seconds=FOREVER))
        for n in (1, 2, 3)
    ]
    await settle()
    engine.open.set()
    assert [answer.tolist() for answer in await asyncio.gather(*calls)] == [[11], [22, 22], [33, 33, 33]]
    with pytest.raises(ValueError, match="different length"):
        await batcher.infer(np.zeros((2, 1)), np.zeros(1), deadline_seconds=1)


async def test_what_runs_take_is_heard(build: Build) -> None:
    """The device's seconds are told run by run, failed ones not."""
    heard: list[float] = []
    async with Batcher(FakeEngine(buckets=(1,)), on_run=heard.append) as batcher:
        await batcher.infer(frames(1, 2, 3), deadline_seconds=FOREVER)
    assert len(heard) == 3
    assert min(heard) > 0


@dataclass
class Lost:
    """A real session behind a device that is lost after some runs."""

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

    def fall_back(self, why: str) -> Engine:
        return self.engine.fall_back(why)


async def test_a_device_lost_within_a_segment_costs_nothing_but_time() -> None:
    """With real sessions: what was under way is done on the CPU, to the same bits, and the event will say so."""
    alone = tiny_engine(threads=2)
    pixels = pictures(20)
    lost = Lost(engine=tiny_engine(threads=2), runs_left=1)
    async with Batcher(lost) as batcher:
        values = await batcher.infer(pixels, deadline_seconds=FOREVER)
        assert batcher.engine.device == "cpu"
        assert "CUDA failure 719" in batcher.engine.fallback
    assert values.tolist() == [float(alone.run(each[None])[0]) for each in pixels]


@dataclass
class Shaped(FakeEngine):
    """Answers with the sum of the first numbers of a row; remembers the shapes that it was given."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, *rows: np.ndarray) -> np.ndarray:
        self.shapes.append(rows[0].shape)
        assert self.open.wait(FOREVER)
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        return np.asarray(sum(each.reshape(len(each), -1)[:, 0] for each in rows), dtype=float)
