"""Concurrency: the ordered parallel map, task groups and deadlines.

Tasks are created here and in the batcher of scorers, nowhere else.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

StoppableSleep = Callable[[asyncio.Event, float], Awaitable[None]]
"""Sleeps so many seconds, or until the event is set; `wait_or_stop` or a fake of it."""


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> None:
    """Sleep until the stop, at most so many seconds; lets other tasks run even when `seconds` is 0 or less."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        pass


Item = TypeVar("Item")
Result = TypeVar("Result")

_GATHER_POLL_SECONDS = 0.02
_RECOUNT_SECONDS = 0.2
"""How often slots are counted anew while all are taken: work becomes late without an event."""


class Slots(Protocol):
    """What bounds the work in flight: an `asyncio.Semaphore`, or one key's part of `FairSlots`."""

    async def acquire(self) -> object: ...
    def release(self) -> None: ...


class FairSlots:
    """Slots that many keys share: a free one goes to the waiting key that has used them for the least time so far.

    Time that a key did not use while it neither held a slot nor waited for one is not saved up.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._keys: dict[str, _KeySlots] = {}
        # what a key that comes back has used at least
        self._least_seconds = 0.0

    def of(self, key: str) -> Slots:
        """The slots as one key uses them."""
        return self._keys.setdefault(key, _KeySlots(self))

    def take(self, slots: "_KeySlots") -> asyncio.Future[None]:
        """A future that is done when the key has its slot."""
        if not slots.is_active:
            most_seconds = max(other.used_seconds for other in self._keys.values())
            active = (other.used_seconds for other in self._keys.values() if other.is_active)
            self._least_seconds = max(self._least_seconds, min(active, default=most_seconds))
            slots.used_seconds = max(slots.used_seconds, self._least_seconds)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        slots.waiting.append(turn)
        self.give(0)
        return turn

    def give(self, count: int) -> None:
        """So many slots are free again."""
        self._free += count
        while self._free and (waiting := [slots for slots in self._keys.values() if slots.waiting]):
            next_slots = min(waiting, key=lambda slots: slots.used_seconds)
            turn = next_slots.waiting.popleft()
            if not turn.done():
                self._free -= 1
                next_slots.held_since.append(asyncio.get_running_loop().time())
                turn.set_result(None)


class _KeySlots:
    """The slots that one key holds or waits for."""

    def __init__(self, shared: FairSlots) -> None:
        self._shared = shared
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.held_since: deque[float] = deque()
        self.used_seconds = 0.0

    @property
    def is_active(self) -> bool:
        return bool(self.waiting or self.held_since)

    async def acquire(self) -> None:
        turn = self._shared.take(self)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        self.used_seconds += asyncio.get_running_loop().time() - self.held_since.popleft()
        self._shared.give(1)


async def iterate(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Items that are at hand, as a source of `map_in_order`."""
    for item in items:
        yield item


async def map_in_order(
    source: AsyncIterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    finish: Callable[[Sequence[tuple[Item, Result]]], Awaitable[None]],
    *,
    running: Slots,
    max_waiting: int = 64,
    gather_seconds: float = 0.0,
    overtaking: "Overtaking[Item] | None" = None,
) -> None:
    """Run `work` on items in parallel and `finish` on batches of results, one batch at a time, in source order.

    `running` bounds the work in flight, possibly across many sources: while it is exhausted, one item is held and no
    more are pulled. `max_waiting` bounds the items that were started and not finished. Batches begin at least
    `gather_seconds` apart, so that they grow, unless no more results can come. Returns when the source has ended and
    every item is finished; the first error cancels the rest and is raised.

    With `overtaking`, an item that is late is passed by the items of other keys; those of its own key stay behind it.
    What is parked, or done and behind a late item of its key, does not count for `max_waiting`; when the source has
    ended, parked items and those behind them are given up.
    """
    pending = _OrderedTasks(work, running=running, max_waiting=max_waiting, overtaking=overtaking)
    try:
        async with asyncio.TaskGroup() as group:
            starter = group.create_task(pending.start_all(source, group), name="start")
            starter.add_done_callback(lambda _: pending.changed.set())
            while await pending.wait_for_ready(starter):
                await pending.gather_results(starter, seconds=gather_seconds)
                await finish(pending.pop_ready())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaking(Generic[Item]):
    """When items of `map_in_order` may be finished before earlier ones."""

    # items of one key are finished in their order
    key: Callable[[Item], Hashable]
    # an item that is not done so long after its start is late; a parked one is late at once
    late_seconds: float
    # the most items that are started and not finished, parked ones included
    max_unfinished: int = 1000


_current_entry: "ContextVar[_Entry[Any, Any] | None]" = ContextVar("current_entry", default=None)


@contextmanager
def parked() -> Iterator[None]:
    """Mark the item that is being worked on by `map_in_order` as waiting for something outside, with no slot in use."""
    entry = _current_entry.get()
    if entry is None:
        yield
        return
    entry.is_parked = True
    entry.changed.set()
    try:
        yield
    finally:
        entry.is_parked = False
        entry.changed.set()


class _Entry(Generic[Item, Result]):
    """An item that was started and not yet finished."""

    __slots__ = ("changed", "is_parked", "item", "key", "started_at", "task")

    def __init__(self, item: Item, key: Hashable, *, started_at: float, changed: asyncio.Event) -> None:
        self.changed = changed
        self.item = item
        self.key = key
        self.started_at = started_at
        self.is_parked = False
        self.task: asyncio.Task[Result]


class _OrderedTasks(Generic[Item, Result]):
    """The items that were started and not yet finished, oldest first, each with its task."""

    def __init__(
        self,
        work: Callable[[Item], Awaitable[Result]],
        *,
        running: Slots,
        max_waiting: int,
        overtaking: Overtaking[Item] | None,
    ) -> None:
        self.changed = asyncio.Event()
        self._work = work
        self._running = running
        self._max_waiting = max_waiting
        self._overtaking = overtaking
        self._entries: OrderedDict[int, _Entry[Item, Result]] = OrderedDict()
        self._count = 0
        self._gathered_at = float("-inf")

    async def start_all(self, source: AsyncIterable[Item], group: asyncio.TaskGroup) -> None:
        """Start items as slots become free, until the source ends."""
        async for item in source:
            while self._slots_in_use() >= self._max_waiting:
                await self._wait_for_change(_RECOUNT_SECONDS if self._overtaking else None)
            await self._running.acquire()
            key = self._overtaking.key(item) if self._overtaking else None
            entry: _Entry[Item, Result] = _Entry(
                item, key, started_at=asyncio.get_running_loop().time(), changed=self.changed
            )
            self._entries[self._count] = entry
            self._count += 1
            entry.task = group.create_task(self._run(entry), name="work")
            entry.task.add_done_callback(self._note_done)
            self.changed.set()

    async def _run(self, entry: _Entry[Item, Result]) -> Result:
        if self._overtaking:
            _current_entry.set(entry)
        try:
            return await self._work(entry.item)
        finally:
            # The task's context would hold the entry, which holds the task: garbage that only the collector frees.
            _current_entry.set(None)
            self._running.release()

    def _note_done(self, task: asyncio.Task[Result]) -> None:
        """Wake who waits for the oldest item, or for any item that may pass it."""
        oldest = next(iter(self._entries.values()), None)
        if oldest is not None and (oldest.task is task or self._is_late(oldest)):
            self.changed.set()

    def _slots_in_use(self) -> int:
        """How many of the `max_waiting` slots are taken."""
        if len(self._entries) < self._max_waiting or not self._overtaking:
            return len(self._entries)
        if len(self._entries) >= self._overtaking.max_unfinished:
            return self._max_waiting
        held_keys: set[Hashable] = set()
        count = 0
        for entry in self._entries.values():
            if not entry.task.done():
                count += not entry.is_parked
                if self._is_late(entry):
                    held_keys.add(entry.key)
            else:
                count += entry.key not in held_keys
        return count

    def _is_late(self, entry: _Entry[Item, Result]) -> bool:
        if self._overtaking is None or entry.task.done():
            return False
        return entry.is_parked or self._seconds_until_late(entry) <= 0

    def _seconds_until_late(self, entry: _Entry[Item, Result]) -> float:
        assert self._overtaking is not None
        return entry.started_at + self._overtaking.late_seconds - asyncio.get_running_loop().time()

    async def wait_for_ready(self, starter: asyncio.Task[None]) -> bool:
        """Wait until an item can be finished; False when none is left and the source has ended."""
        while True:
            if starter.done():
                self._give_up_parked()
            if not self._entries:
                if starter.done():
                    return False
                await self._wait_for_change(None)
                continue
            oldest = next(iter(self._entries.values()))
            if oldest.task.done() or (self._is_late(oldest) and self._ready_numbers()):
                return True
            is_waiting = self._overtaking and not self._is_late(oldest)
            await self._wait_for_change(self._seconds_until_late(oldest) if is_waiting else None)

    def _give_up_parked(self) -> None:
        """Cancel and drop what is parked, and all that is behind it in its key."""
        given_up_keys: set[Hashable] = set()
        for number, entry in list(self._entries.items()):
            if entry.is_parked or entry.key in given_up_keys:
                given_up_keys.add(entry.key)
                entry.task.cancel()
                del self._entries[number]

    async def gather_results(self, starter: asyncio.Task[None], *, seconds: float) -> None:
        """Wait until `seconds` after the last batch, but no longer than more results can come."""
        loop = asyncio.get_running_loop()
        ends_at = self._gathered_at + seconds
        while (left_seconds := ends_at - loop.time()) > 0:
            if (starter.done() or len(self._entries) >= self._max_waiting) and all(
                entry.task.done() for entry in self._entries.values()
            ):
                break
            await asyncio.sleep(min(left_seconds, _GATHER_POLL_SECONDS))
        self._gathered_at = loop.time()

    def pop_ready(self) -> list[tuple[Item, Result]]:
        """Remove the items that can be finished, oldest first, and return their results."""
        finished = []
        for number in self._ready_numbers():
            entry = self._entries.pop(number)
            finished.append((entry.item, entry.task.result()))
        self.changed.set()
        return finished

    def _ready_numbers(self) -> list[int]:
        """The oldest items up to the first that is not done; beyond a late one those of other keys."""
        ready: list[int] = []
        held_keys: set[Hashable] = set()
        for number, entry in self._entries.items():
            if entry.task.done():
                if entry.key not in held_keys:
                    ready.append(number)
            elif not self._is_late(entry) and not held_keys:
                break
            else:
                held_keys.add(entry.key)
        return ready

    async def _wait_for_change(self, seconds: float | None) -> None:
        self.changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            pass


async def run_concurrently(works: Iterable[Coroutine[None, None, Result]]) -> list[Result]:
    """Run coroutines concurrently and return their results in order; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=f"concurrent-{number}") for number, work in enumerate(works)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def run_with_deadline(work: Coroutine[None, None, Result], *, within_seconds: float) -> Result:
    """Run a coroutine that may hang or cancel itself, as library code does; neither cancels the caller.

    Raises TimeoutError when the deadline passes or the coroutine ends as cancelled. A coroutine that ignores its
    cancellation is abandoned after one more second.
    """
    task = asyncio.get_running_loop().create_task(work, name="with deadline")
    # Retrieve the error of an abandoned task, or asyncio reports that nobody did.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait([task], timeout=within_seconds)
        if not task.done():
            raise TimeoutError(f"not done within {within_seconds} s")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
    if task.cancelled():
        raise TimeoutError("ended itself as cancelled")
    return task.result()


class NamedTasks:
    """A task group whose tasks are started and waited for by name; the first error cancels all and is raised."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "NamedTasks":
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Start a task; raises ValueError when a task of this name still runs."""
        if name in self._tasks:
            raise ValueError(f"a task named {name} runs already")
        self._tasks[name] = task = self._group.create_task(work, name=name)
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def wait_or_cancel(self, names: Iterable[str], *, within_seconds: float) -> None:
        """Wait for the named tasks to end; those that take longer are cancelled. Unknown names are ignored."""
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=within_seconds)
