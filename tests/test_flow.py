"""Order, bounds, errors and draining of the ordered map and the task groups; delays of the backoff."""

import asyncio
import gc
import random
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext

import pytest

from vqmon.flow import FairSlots, NamedTasks, Overtaking, map_in_order, parked, run_concurrently, run_with_deadline


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_results_finish_in_source_order_however_long_the_work_takes() -> None:
    """A slow item holds back the ones behind it, never the other way round."""
    chance = random.Random(7)
    delays = [chance.random() / 200 for _ in range(200)]
    finished: list[int] = []

    async def work(item: int) -> int:
        await asyncio.sleep(delays[item])
        return item * 2

    async def finish(ready: Sequence[tuple[int, int]]) -> None:
        assert all(result == item * 2 for item, result in ready)
        finished.extend(item for item, _ in ready)

    await map_in_order(numbers(200), work, finish, running=asyncio.Semaphore(8))

    assert list(range(200)) == finished


async def test_work_in_flight_and_waiting_results_are_bounded() -> None:
    """Never more than `running` at work and never more than `max_waiting` started and unfinished."""
    at_work, started, done = 0, 0, 0
    most_at_work, most_waiting = 0, 0

    async def work(item: int) -> None:
        nonlocal at_work, started, most_at_work, most_waiting
        at_work, started = at_work + 1, started + 1
        most_at_work, most_waiting = max(most_at_work, at_work), max(most_waiting, started - done)
        await asyncio.sleep(0.05 if item == 0 else 0)
        at_work -= 1

    async def finish(ready: Sequence[tuple[int, None]]) -> None:
        nonlocal done
        done += len(ready)

    await map_in_order(numbers(100), work, finish, running=asyncio.Semaphore(3), max_waiting=10)

    assert done == 100
    assert 2 <= most_at_work <= 3
    assert most_waiting <= 10


async def test_an_idle_source_does_not_hold_back_results() -> None:
    """What is done is finished although the source has nothing more to give yet."""
    go_on = asyncio.Event()
    finished: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 1
        await go_on.wait()

    async def finish(ready: Sequence[tuple[int, int]]) -> None:
        finished.extend(item for item, _ in ready)
        go_on.set()

    async def work(item: int) -> int:
        return item

    await asyncio.wait_for(map_in_order(source(), work, finish, running=asyncio.Semaphore(2)), 5)

    assert finished == [1]


@pytest.mark.parametrize("where", ["source", "work", "finish"])
async def test_the_first_error_cancels_all_work_and_is_raised(where: str) -> None:
    """An error in the source, the work or the finish cancels what runs and reaches the caller as it is."""
    cancelled: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 0
        yield 1
        if where == "source":
            raise KeyError(where)

    async def work(item: int) -> int:
        if item == 1:
            if where == "work":
                raise KeyError(where)
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
        return item

    async def finish(ready: Sequence[tuple[int, int]]) -> None:
        await asyncio.sleep(0)  # the second item begins
        if where == "finish":
            raise KeyError(where)

    with pytest.raises(KeyError, match=where):
        await asyncio.wait_for(map_in_order(source(), work, finish, running=asyncio.Semaphore(4)), 5)

    assert cancelled == ([] if where == "work" else [1])


async def test_many_idle_sources_share_a_small_semaphore_without_deadlock() -> None:
    """A map that waits for its source holds no slot of the semaphore."""
    running = asyncio.Semaphore(1)
    finished: list[int] = []

    async def work(item: int) -> int:
        await asyncio.sleep(0)
        return item

    async def finish(ready: Sequence[tuple[int, int]]) -> None:
        finished.extend(item for item, _ in ready)

    maps = [map_in_order(numbers(5), work, finish, running=running) for _ in range(20)]
    await asyncio.wait_for(run_concurrently(maps), 10)

    assert len(finished) == 100


async def test_concurrent_results_come_in_order_and_an_error_is_raised_as_it_is() -> None:
    """Results come in the order of the arguments; an error is not wrapped in a group."""

    async def later(value: int) -> int:
        await asyncio.sleep(0.01 / value)
        return value

    async def fails() -> int:
        raise KeyError("broken")

    assert await run_concurrently(later(value) for value in (1, 2, 3)) == [1, 2, 3]
    with pytest.raises(KeyError, match="broken"):
        await run_concurrently([later(1), fails()])


async def test_batches_that_gather_take_what_finishes_together() -> None:
    """The first batch goes at once; what finishes soon after it goes together, and the end waits for nothing."""
    batches: list[list[int]] = []

    async def source() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(0.05)
        for number in range(1, 5):
            yield number
            await asyncio.sleep(0.01)

    async def work(item: int) -> int:
        return item

    async def finish(ready: Sequence[tuple[int, int]]) -> None:
        batches.append([item for item, _ in ready])

    async with asyncio.timeout(20):
        await map_in_order(source(), work, finish, running=asyncio.Semaphore(9), gather_seconds=15.0)
    assert batches == [[0], [1, 2, 3, 4]]


async def test_named_tasks_are_waited_for_or_cancelled_one_by_one() -> None:
    """A task that ends in time is waited for, one that does not is cancelled, and the first error ends all."""
    ended: list[str] = []

    async def work(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append(name)

    async def fail() -> None:
        raise ZeroDivisionError

    async def shift() -> None:
        async with NamedTasks() as tasks:
            tasks.start("short", work("short", 0.01))
            tasks.start("long", work("long", 60.0))
            await tasks.wait_or_cancel(["short"], within_seconds=20.0)
            await tasks.wait_or_cancel(["long", "unknown"], within_seconds=0.01)
            tasks.start("long", fail())
            await asyncio.sleep(60)

    with pytest.raises(ZeroDivisionError):
        await shift()
    assert ended == ["short"]


async def test_a_coroutine_with_a_deadline_cannot_cancel_or_block_its_caller() -> None:
    """A hang and a cancellation from within are a TimeoutError; a result and an error come through."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def failed() -> None:
        raise ZeroDivisionError

    async def done() -> int:
        return 7

    with pytest.raises(TimeoutError):
        await run_with_deadline(cancelled(), within_seconds=20.0)
    with pytest.raises(TimeoutError):
        await run_with_deadline(asyncio.sleep(60), within_seconds=0.01)
    with pytest.raises(ZeroDivisionError):
        await run_with_deadline(failed(), within_seconds=20.0)
    assert await run_with_deadline(done(), within_seconds=20.0) == 7


class Streams:
    """Items are (stream, number); each is done when the test says so, and may be parked until then."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, int], asyncio.Event] = defaultdict(asyncio.Event)
        self.parked: set[tuple[str, int]] = set()
        self.started: list[tuple[str, int]] = []
        self.finished: list[tuple[str, int]] = []
        self.is_open = asyncio.Event()

    async def source(self, items: Sequence[tuple[str, int]]) -> AsyncIterator[tuple[str, int]]:
        """The items, then nothing until the source is closed."""
        for item in items:
            yield item
        await self.is_open.wait()

    async def work(self, item: tuple[str, int]) -> None:
        self.started.append(item)
        with parked() if item in self.parked else nullcontext():
            await self.done[item].wait()

    async def finish(self, batch: Sequence[tuple[tuple[str, int], None]]) -> None:
        self.finished += [item for item, _ in batch]

    async def run(self, items: Sequence[tuple[str, int]], *, late_seconds: float, max_waiting: int = 64) -> None:
        """Map the items, by stream."""
        await map_in_order(
            self.source(items),
            self.work,
            self.finish,
            running=asyncio.Semaphore(100),
            max_waiting=max_waiting,
            overtaking=Overtaking(key=lambda item: item[0], late_seconds=late_seconds, max_unfinished=20),
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(0.001)


async def test_a_parked_item_is_passed_by_other_keys_and_not_by_its_own() -> None:
    """Order is kept within each key; with nothing late it is the order of the source."""
    streams = Streams()
    streams.parked = {("sick", 0)}
    items = [("sick", 0), ("sick", 1), ("a", 0), ("b", 0), ("a", 1)]
    async with asyncio.TaskGroup() as group:
        group.create_task(streams.run(items, late_seconds=60))
        await streams.until(lambda: len(streams.started) == 5)
        streams.done["sick", 1].set()
        streams.done["a", 1].set()
        streams.done["b", 0].set()
        await streams.until(lambda: streams.finished == [("b", 0)])
        streams.done["a", 0].set()
        await streams.until(lambda: streams.finished == [("b", 0), ("a", 0), ("a", 1)])
        streams.done["sick", 0].set()
        streams.is_open.set()
    assert streams.finished[3:] == [("sick", 0), ("sick", 1)]


class Outcome:
    """A result that can be referred to weakly."""


async def test_finished_results_are_freed_without_the_garbage_collector() -> None:
    """A cycle per item would hold all outcomes of a fast worker until a collection, and make collections frequent."""
    outcomes: list[weakref.ref[Outcome]] = []

    async def work(item: int) -> Outcome:
        await asyncio.sleep(0)
        outcome = Outcome()
        outcomes.append(weakref.ref(outcome))
        return outcome

    async def finish(ready: Sequence[tuple[int, Outcome]]) -> None:
        assert all(isinstance(outcome, Outcome) for _, outcome in ready)

    gc.collect()
    gc.disable()
    try:
        overtaking: Overtaking[int] = Overtaking(key=lambda item: item, late_seconds=60)
        await map_in_order(numbers(50), work, finish, running=asyncio.Semaphore(8), overtaking=overtaking)
        assert len(outcomes) == 50
        assert [outcome() for outcome in outcomes] == [None] * 50
    finally:
        gc.enable()


async def test_a_slow_item_is_passed_once_it_is_late() -> None:
    """Before that the others wait for it."""
    streams = Streams()
    async with asyncio.TaskGroup() as group:
        group.create_task(streams.run([("slow", 0), ("a", 0), ("a", 1)], late_seconds=0.3))
        streams.done["a", 0].set()
        streams.done["a", 1].set()
        await streams.until(lambda: len(streams.started) == 3)
        assert streams.finished == []
        await streams.until(lambda: streams.finished == [("a", 0), ("a", 1)])
        streams.done["slow", 0].set()
        streams.is_open.set()
    assert streams.finished[2:] == [("slow", 0)]


async def test_parked_items_take_no_slots_and_are_bounded_all_the_same() -> None:
    """Two slots are free for others however many are parked, up to the bound of all that is unfinished."""
    streams = Streams()
    items = [("sick", number) for number in range(10)] + [(f"s{number}", 0) for number in range(30)]
    streams.parked = set(items)
    async with asyncio.TaskGroup() as group:
        group.create_task(streams.run(items, late_seconds=60, max_waiting=2))
        await streams.until(lambda: len(streams.started) == 20)
        await asyncio.sleep(0.05)
        assert len(streams.started) == 20
        for item in items:
            streams.done[item].set()
        streams.is_open.set()
    assert sorted(streams.finished) == sorted(items)


async def test_when_the_source_has_ended_parked_items_are_given_up_with_what_is_behind_them() -> None:
    """And the others are finished: nothing of a key passes what was given up of it."""
    streams = Streams()
    streams.parked = {("sick", 1)}
    items = [("sick", 0), ("sick", 1), ("sick", 2), ("a", 0)]
    async with asyncio.TaskGroup() as group:
        group.create_task(streams.run(items, late_seconds=60))
        await streams.until(lambda: len(streams.started) == 4)
        streams.is_open.set()
        streams.done["sick", 2].set()
        await asyncio.sleep(0)
        streams.done["a", 0].set()
        streams.done["sick", 0].set()
    assert streams.finished == [("sick", 0), ("a", 0)]


async def test_a_free_slot_goes_to_the_key_that_used_them_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of many renditions leaves a stream of one its share, and what is not used is not saved up."""
    seconds = 0.0
    # each use takes as long, however busy the machine is
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: seconds)
    slots = FairSlots(1)
    order: list[str] = []

    async def use(key: str) -> None:
        nonlocal seconds
        await slots.of(key).acquire()
        order.append(key)
        await asyncio.sleep(0)
        seconds += 0.002
        slots.of(key).release()

    await run_concurrently(use(key) for key in ["many"] * 6 + ["one"] * 3)
    assert order[:7].count("one") == 3
    order.clear()
    await run_concurrently(use(key) for key in ["many"] * 4 + ["one"] * 4)
    assert order.index("many") < 3
    await run_concurrently(use("many") for _ in range(6))
    order.clear()
    await run_concurrently(use(key) for key in ["one"] * 4 + ["many"] * 4)
    assert order.index("many") < 3


async def test_a_wait_for_a_slot_that_is_cancelled_takes_none() -> None:
    """Before its turn, and at its turn."""
    slots = FairSlots(1)
    await slots.of("a").acquire()
    waiting = [asyncio.ensure_future(slots.of("b").acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    slots.of("a").release()
    waiting[1].cancel()
    await asyncio.wait(waiting)
    async with asyncio.timeout(1):
        await slots.of("a").acquire()
