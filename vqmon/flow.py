"""Work in parallel, finish in order: the only place where the daemon's lanes create tasks."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def in_order(
    source: AsyncIterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    finish: Callable[[Sequence[tuple[Item, Result]]], Awaitable[None]],
    *,
    running: asyncio.Semaphore,
    max_waiting: int = 64,
) -> None:
    """Run `work` on the items of one lane in parallel and `finish` on runs of results, in source order.

    `running` bounds the work in flight and may be shared by many lanes; a lane without a place holds one item and
    pulls no more. `max_waiting` bounds started items and results that wait for an earlier one. Returns when the
    source has ended and everything taken is finished; the first error cancels the rest and is raised.
    """
    line: deque[tuple[Item, asyncio.Task[Result]]] = deque()
    places = asyncio.Semaphore(max_waiting)
    changed = asyncio.Event()

    async def run(item: Item) -> Result:
        try:
            return await work(item)
        finally:
            running.release()

    async def start_all(group: asyncio.TaskGroup) -> None:
        async for item in source:
            await places.acquire()
            await running.acquire()
            line.append((item, group.create_task(run(item), name="work")))
            changed.set()

    async def finish_all(starter: asyncio.Task[None]) -> None:
        while line or not starter.done():
            if not line:
                changed.clear()
                await changed.wait()
                continue
            await asyncio.wait([line[0][1]])
            ready = []
            while line and line[0][1].done():
                item, task = line.popleft()
                places.release()
                ready.append((item, task.result()))
            await finish(ready)

    try:
        async with asyncio.TaskGroup() as group:
            starter = group.create_task(start_all(group), name="start")
            starter.add_done_callback(lambda _: changed.set())
            await finish_all(starter)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def together(works: Iterable[Coroutine[None, None, Result]]) -> list[Result]:
    """Run a few things side by side and give their results in order; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=f"together-{number}") for number, work in enumerate(works)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
