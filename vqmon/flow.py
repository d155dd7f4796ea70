"""Work in parallel, finish in order: the only place where the daemon's lanes create tasks."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

Wait = Callable[[asyncio.Event, float], Awaitable[None]]
"""Returns after so many seconds, or as soon as the event is set."""


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the stop; other tasks get their turn even when there is nothing to wait for."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between retries: the first, each next one `factor` times longer, none longer than the last.

    `jitter` is the share of each delay that is random: with 0.5 a delay lies between half of its length and all of it.
    """

    first_seconds: float
    last_seconds: float = math.inf
    factor: float = 2.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.first_seconds <= self.last_seconds and self.factor >= 1.0 and 0.0 <= self.jitter <= 1.0):
            raise ValueError(f"not a backoff: {self}")

    def delay_seconds(self, failures: int, *, draw: float = 1.0) -> float:
        """Return the delay after this many failures in a row, counted from 1.

        `draw` is a random number, uniform in 0..1, for the jitter; without it the delay has its full length.
        """
        if failures < 1:
            raise ValueError(f"there is no delay after {failures} failures")
        try:
            longest = min(self.first_seconds * self.factor ** (failures - 1), self.last_seconds)
        except OverflowError:
            longest = self.last_seconds
        return longest * (1.0 - self.jitter + self.jitter * draw)


class Retries:
    """Counts failures in a row and gives the delay before the next attempt."""

    def __init__(self, backoff: Backoff) -> None:
        self.failures = 0
        self._backoff = backoff

    def next_delay_seconds(self, *, draw: float = 1.0) -> float:
        """Count one more failure; `draw` is as in `Backoff.delay_seconds`."""
        self.failures += 1
        return self._backoff.delay_seconds(self.failures, draw=draw)

    def reset(self) -> None:
        """An attempt succeeded: the next failure is the first again."""
        self.failures = 0


Item = TypeVar("Item")
Result = TypeVar("Result")

GATHER_LOOK_SECONDS = 0.02
"""How often a lane that gathers looks whether more can come."""


async def in_order(
    source: AsyncIterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    finish: Callable[[Sequence[tuple[Item, Result]]], Awaitable[None]],
    *,
    running: asyncio.Semaphore,
    max_waiting: int = 64,
    gather_seconds: float = 0.0,
) -> None:
    """Run `work` on the items of one lane in parallel and `finish` on runs of results, in source order.

    `running` bounds the work in flight and may be shared by many lanes; a lane without a place holds one item and
    pulls no more. `max_waiting` bounds started items and results that wait for an earlier one. Runs begin at least
    `gather_seconds` apart, so that more finishes together, unless no more can come. Returns when the source has ended
    and everything taken is finished; the first error cancels the rest and is raised.
    """
    line = _Line(work, running=running, max_waiting=max_waiting)
    try:
        async with asyncio.TaskGroup() as group:
            starter = group.create_task(line.start_all(source, group), name="start")
            starter.add_done_callback(lambda _: line.changed.set())
            while await line.wait_for_head(starter):
                await line.gather_more(starter, seconds=gather_seconds)
                await finish(line.take_ready())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


class _Line(Generic[Item, Result]):
    """Started items in source order."""

    def __init__(
        self, work: Callable[[Item], Awaitable[Result]], *, running: asyncio.Semaphore, max_waiting: int
    ) -> None:
        self.changed = asyncio.Event()
        self._work = work
        self._running = running
        self._places = asyncio.Semaphore(max_waiting)
        self._line: deque[tuple[Item, asyncio.Task[Result]]] = deque()
        self._gathered_at = float("-inf")

    async def start_all(self, source: AsyncIterable[Item], group: asyncio.TaskGroup) -> None:
        """Start items as places become free, until the source ends."""
        async for item in source:
            await self._places.acquire()
            await self._running.acquire()
            self._line.append((item, group.create_task(self._run(item), name="work")))
            self.changed.set()

    async def _run(self, item: Item) -> Result:
        try:
            return await self._work(item)
        finally:
            self._running.release()

    async def wait_for_head(self, starter: asyncio.Task[None]) -> bool:
        """Wait until the first in line is done; False when nothing is in line and nothing more will be."""
        while not self._line:
            if starter.done():
                return False
            self.changed.clear()
            await self.changed.wait()
        await asyncio.wait([self._line[0][1]])
        return True

    async def gather_more(self, starter: asyncio.Task[None], *, seconds: float) -> None:
        """Wait for more to be done until so long after the last run, no longer than makes sense."""
        loop = asyncio.get_running_loop()
        until = self._gathered_at + seconds
        while (left := until - loop.time()) > 0:
            if (starter.done() or self._places.locked()) and all(task.done() for _, task in self._line):
                break
            await asyncio.sleep(min(left, GATHER_LOOK_SECONDS))
        self._gathered_at = loop.time()

    def take_ready(self) -> list[tuple[Item, Result]]:
        """Take what is done off the head of the line."""
        ready = []
        while self._line and self._line[0][1].done():
            item, task = self._line.popleft()
            self._places.release()
            ready.append((item, task.result()))
        return ready


async def together(works: Iterable[Coroutine[None, None, Result]]) -> list[Result]:
    """Run a few things side by side and give their results in order; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=f"together-{number}") for number, work in enumerate(works)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def apart(work: Coroutine[None, None, Result], *, within_seconds: float) -> Result:
    """Run something that may hang or end itself as cancelled; neither reaches the caller as its own cancellation.

    Raises TimeoutError when the time is up or the work was cancelled from within. Work that does not end when told to
    is left behind.
    """
    task = asyncio.get_running_loop().create_task(work, name="apart")
    # An error that nobody waits for any more is looked at here, so that it is not reported as forgotten.
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


class Crew:
    """Named works that begin and end one by one; the first error ends them all and is raised at the end."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._works: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "Crew":
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Start a work; the name must be free."""
        if name in self._works:
            raise ValueError(f"{name} has begun already")
        self._works[name] = task = self._group.create_task(work, name=name)
        task.add_done_callback(lambda _: self._works.pop(name, None))

    async def end(self, names: Iterable[str], *, within_seconds: float) -> None:
        """Wait for works to end by themselves; those that take longer are cancelled."""
        tasks = [self._works[name] for name in names if name in self._works]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=within_seconds)
