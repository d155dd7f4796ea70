"""Concurrency: the ordered parallel map, task groups and deadlines.

Tasks are created here and in the batcher of scorers, nowhere else.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Generic, TypeVar

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


async def iterate(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Items that are at hand, as a source of `map_in_order`."""
    for item in items:
        yield item


async def map_in_order(
    source: AsyncIterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    finish: Callable[[Sequence[tuple[Item, Result]]], Awaitable[None]],
    *,
    running: asyncio.Semaphore,
    max_waiting: int = 64,
    gather_seconds: float = 0.0,
) -> None:
    """Run `work` on items in parallel and `finish` on batches of results, one batch at a time, in source order.

    `running` bounds the work in flight, possibly across many sources: while it is exhausted, one item is held and no
    more are pulled. `max_waiting` bounds the items that were started and not finished. Batches begin at least
    `gather_seconds` apart, so that they grow, unless no more results can come. Returns when the source has ended and
    every item is finished; the first error cancels the rest and is raised.
    """
    pending = _OrderedTasks(work, running=running, max_waiting=max_waiting)
    try:
        async with asyncio.TaskGroup() as group:
            starter = group.create_task(pending.start_all(source, group), name="start")
            starter.add_done_callback(lambda _: pending.changed.set())
            while await pending.wait_for_oldest(starter):
                await pending.gather_results(starter, seconds=gather_seconds)
                await finish(pending.pop_finished())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


class _OrderedTasks(Generic[Item, Result]):
    """The items that were started and not yet finished, oldest first, each with its task."""

    def __init__(
        self, work: Callable[[Item], Awaitable[Result]], *, running: asyncio.Semaphore, max_waiting: int
    ) -> None:
        self.changed = asyncio.Event()
        self._work = work
        self._running = running
        self._free_slots = asyncio.Semaphore(max_waiting)
        self._tasks: deque[tuple[Item, asyncio.Task[Result]]] = deque()
        self._gathered_at = float("-inf")

    async def start_all(self, source: AsyncIterable[Item], group: asyncio.TaskGroup) -> None:
        """Start items as slots become free, until the source ends."""
        async for item in source:
            await self._free_slots.acquire()
            await self._running.acquire()
            self._tasks.append((item, group.create_task(self._run(item), name="work")))
            self.changed.set()

    async def _run(self, item: Item) -> Result:
        try:
            return await self._work(item)
        finally:
            self._running.release()

    async def wait_for_oldest(self, starter: asyncio.Task[None]) -> bool:
        """Wait until the oldest item is done; False when none is left and the source has ended."""
        while not self._tasks:
            if starter.done():
                return False
            self.changed.clear()
            await self.changed.wait()
        await asyncio.wait([self._tasks[0][1]])
        return True

    async def gather_results(self, starter: asyncio.Task[None], *, seconds: float) -> None:
        """Wait until `seconds` after the last batch, but no longer than more results can come."""
        loop = asyncio.get_running_loop()
        ends_at = self._gathered_at + seconds
        while (left_seconds := ends_at - loop.time()) > 0:
            if (starter.done() or self._free_slots.locked()) and all(task.done() for _, task in self._tasks):
                break
            await asyncio.sleep(min(left_seconds, _GATHER_POLL_SECONDS))
        self._gathered_at = loop.time()

    def pop_finished(self) -> list[tuple[Item, Result]]:
        """Remove the oldest items up to the first one that is not done, and return their results."""
        finished = []
        while self._tasks and self._tasks[0][1].done():
            item, task = self._tasks.popleft()
            self._free_slots.release()
            finished.append((item, task.result()))
        return finished


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
