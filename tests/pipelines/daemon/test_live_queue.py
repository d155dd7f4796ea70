"""Segments that wait: nothing is lost that a playlist keeps, and of what it loses the newest is taken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pipelines.daemon.live_queue import LiveQueue
from tests import factories
from tests.factories import START
from vqmon.core.types import Segment, SegmentFailure


class Announcing:
    """A rendition whose segments are announced by the test."""

    name = "news/720p"

    def __init__(self) -> None:
        self.oldest_available: int | None = 0
        self.announced: asyncio.Queue[Segment | SegmentFailure | None] = asyncio.Queue()

    async def announce(self, *sequences: int, ended: bool = False) -> None:
        for sequence in sequences:
            self.announced.put_nowait(factories.segment(sequence=sequence))
        if ended:
            self.announced.put_nowait(None)
        for _ in range(4 * len(sequences) + 4):
            await asyncio.sleep(0)

    async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
        while (item := await self.announced.get()) is not None:
            yield item


class Watching:
    """A queue over it."""

    def __init__(self) -> None:
        self.source = Announcing()
        self.now: datetime = START
        self.stop = asyncio.Event()
        self.passed = 0
        self.queue = LiveQueue(
            self.source,
            now=lambda: self.now,
            monotonic=lambda: self.now.timestamp(),
            stop=self.stop,
            on_passed=self._on_passed,
        )
        self.filling = asyncio.ensure_future(self.queue.fill())
        self.items = self.queue.__aiter__()

    def _on_passed(self) -> None:
        self.passed += 1

    async def take(self, count: int) -> Sequence[str]:
        """The next items as they are begun: `3`, or `3 overloaded`."""
        return [described(self.queue.begin(await anext(self.items))) for _ in range(count)]


def described(item: Segment | SegmentFailure) -> str:
    return str(item.sequence) if isinstance(item, Segment) else f"{item.segment.sequence} {item.reason}"


async def test_what_can_still_be_fetched_waits_in_order() -> None:
    """However long it waits."""
    watching = Watching()
    await watching.source.announce(0)
    watching.now += timedelta(seconds=4)
    await watching.source.announce(1, 2, 3, ended=True)
    watching.now += timedelta(seconds=300)
    assert watching.queue.count == 4
    assert watching.queue.oldest_seconds == 300
    assert await watching.take(4) == ["0", "1", "2", "3"]
    assert watching.passed == 0
    assert [item async for item in watching.items] == []
    assert (watching.queue.count, watching.queue.oldest_seconds) == (0, 0)


async def test_when_the_oldest_is_lost_the_newest_is_taken_and_all_others_are_accounted_for() -> None:
    """So the live edge is observed, and not what is about to be lost."""
    watching = Watching()
    await watching.source.announce(0, 1, 2, 3, 4)
    watching.source.oldest_available = 1
    assert await watching.take(5) == ["0 overloaded", "1 overloaded", "2 overloaded", "3 overloaded", "4"]
    assert watching.passed == 4
    await watching.source.announce(5, 6)
    assert await watching.take(2) == ["5", "6"]


async def test_one_that_is_lost_while_it_waits_for_a_place_is_not_fetched() -> None:
    """It was given on before the others."""
    watching = Watching()
    await watching.source.announce(0)
    await watching.take(1)
    watching.now += timedelta(seconds=4)
    await watching.source.announce(1, 2)
    held = await anext(watching.items)
    watching.now += timedelta(seconds=7)
    assert watching.queue.oldest_seconds == 7
    watching.source.oldest_available = 2
    assert described(watching.queue.begin(held)) == "1 overloaded"
    assert await watching.take(1) == ["2"]


async def test_failures_of_the_source_stay_what_they_are() -> None:
    """A gap is the stream's."""
    watching = Watching()
    await watching.source.announce(0)
    watching.source.announced.put_nowait(factories.failure(sequence=1, reason="gap"))
    await watching.source.announce(2)
    watching.source.oldest_available = 2
    assert await watching.take(3) == ["0 overloaded", "1 gap", "2"]


async def test_an_overload_shows_no_secret_of_an_address() -> None:
    """As no other outcome does."""
    watching = Watching()
    signed = replace(factories.segment(sequence=0), url="https://me:word@media.example/0.ts?token=word")
    watching.source.announced.put_nowait(signed)
    await watching.source.announce(1)
    watching.source.oldest_available = 1
    assert "word" not in repr(await anext(watching.items))


async def test_a_recorded_playlist_is_not_taken_ahead_of_time() -> None:
    """It loses nothing; and a stop ends the wait for a place."""
    watching = Watching()
    watching.source.oldest_available = None
    await watching.source.announce(*range(100))
    assert watching.queue.count == 64
    assert await watching.take(1) == ["0"]
    watching.stop.set()
    assert [item async for item in watching.items] == []
    await watching.filling


async def test_a_live_playlist_is_not_taken_without_end() -> None:
    """As while the history takes nothing; it goes on as places become free."""
    watching = Watching()
    await watching.source.announce(*range(1100))
    assert watching.queue.count == 1000
    watching.source.oldest_available = 999
    assert await watching.take(1000) == [*(f"{number} overloaded" for number in range(999)), "999"]
    assert await watching.take(1) == ["1000"]


async def test_a_backlog_is_not_the_live_edge() -> None:
    """What was there at the start tells nothing of the machine, however long it takes."""
    watching = Watching()
    await watching.source.announce(0, 1)
    watching.now += timedelta(hours=1)
    assert (watching.queue.count, watching.queue.oldest_seconds) == (2, 0)
    await watching.source.announce(2)
    watching.now += timedelta(seconds=5)
    assert watching.queue.oldest_seconds == 5
