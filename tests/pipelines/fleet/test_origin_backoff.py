"""Waiting instead of giving up: origins that are down, single bad segments, and room for media."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from pipelines.fleet.origin_backoff import MediaMemoryLimit, OriginBackoff
from pipelines.observe.observer import Observation
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.pipelines.memory_fleet import segment, until
from vqmon.core.types import QualityEvent, Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError
from vqmon.flow import run_concurrently
from vqmon.telemetry.health import ProgressTracker


class Origin:
    """An origin that can be down, or bad for single segments."""

    def __init__(self) -> None:
        self.is_down = False
        self.bad: dict[int, str] = {}
        self.tries: list[int] = []

    async def observe(self, segment: Segment) -> Observation:
        await asyncio.sleep(0)
        self.tries.append(segment.sequence)
        reason = "unreachable" if self.is_down else self.bad.get(segment.sequence)
        if reason:
            return Observation(outcome=failure_from_error(segment, FetchError(reason), observed_at=segment.ends_at))
        return Observation(outcome=outcome_of_segment(segment))


def patient(
    observe: Callable[[Segment], Awaitable[Observation]], *, retry_seconds: float = 30.0, running: int = 4
) -> tuple[OriginBackoff, list[int]]:
    """Origins over a look, and how many were closed over time."""
    closed: list[int] = []
    origins = OriginBackoff(
        observe,
        running=asyncio.Semaphore(running),
        progress=ProgressTracker(time.monotonic),
        now=time.monotonic,
        retry_seconds=retry_seconds,
        probe_seconds=0.02,
        on_change=closed.append,
    )
    return origins, closed


def at(host: str, number: int) -> Segment:
    """A segment of one origin."""
    return segment(number, url=f"https://{host}/{number}.ts")


async def test_a_dead_origin_is_waited_for_and_nothing_is_given_up() -> None:
    """While it is down nothing is declared unscored, however long; when it is back everything is scored."""
    origin = Origin()
    origin.is_down = True
    origins, closed = patient(origin.observe, retry_seconds=0.5)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        works = [group.create_task(origins.observe(at("a", number))) for number in range(5)]
        await until(lambda: closed == [1])
        await asyncio.sleep(0.6)
        assert not any(work.done() for work in works)
        origin.is_down = False
    assert all(isinstance(work.result().outcome, QualityEvent) for work in works)
    assert closed == [1, 0]


async def test_credentials_in_an_address_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What is said about an origin names its host and nothing else."""
    origin = Origin()
    origin.is_down = True
    origins, closed = patient(origin.observe)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        works = [group.create_task(origins.observe(at("user:sesame@a", number))) for number in range(3)]
        await until(lambda: closed == [1])
        for work in works:
            work.cancel()
    facts = [str(getattr(record, "fields", "")) for record in caplog.records]
    assert any("'origin': 'a'" in fields for fields in facts)
    assert not any("sesame" in fields for fields in facts)


async def test_another_origin_is_not_held_up() -> None:
    """What waits for a dead origin occupies no slot."""
    origin = Origin()

    async def observe(segment: Segment) -> Observation:
        if "dead" in segment.url:
            return Observation(outcome=failure_from_error(segment, FetchError("timeout"), observed_at=segment.ends_at))
        return await origin.observe(segment)

    origins, closed = patient(observe, running=1)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = [group.create_task(origins.observe(at("dead", number))) for number in range(4)]
        await until(lambda: closed == [1])
        seen = await run_concurrently(origins.observe(at("good", number)) for number in range(10))
        for observation in waiting:
            observation.cancel()
    assert all(isinstance(observation.outcome, QualityEvent) for observation in seen)


async def test_a_single_bad_segment_is_given_up_after_its_patience() -> None:
    """An error of one segment alone does not close its origin; it is tried again, then unscored."""
    origin = Origin()
    origin.bad[1] = "http_status"
    origins, closed = patient(origin.observe, retry_seconds=0.3)
    async with asyncio.timeout(20):
        seen = await run_concurrently(origins.observe(at("a", number)) for number in range(3))
    assert [type(observation.outcome) for observation in seen] == [QualityEvent, SegmentFailure, QualityEvent]
    assert origin.tries.count(1) >= 2
    assert closed == []


async def test_what_does_not_exist_is_no_trouble_of_the_origin() -> None:
    """A 404 is a verdict at once."""
    origin = Origin()
    origin.bad = {number: "not_found" for number in range(5)}
    origins, closed = patient(origin.observe)
    async with asyncio.timeout(20):
        seen = await run_concurrently(origins.observe(at("a", number)) for number in range(5))
    assert [observation.outcome.reason for observation in seen if isinstance(observation.outcome, SegmentFailure)] == [
        "not_found"
    ] * 5
    assert len(origin.tries) == 5
    assert closed == []


async def test_fetched_media_is_bounded() -> None:
    """A fetch waits while what was fetched and not yet decoded fills the room."""

    async def fetch(segment: Segment) -> bytes:
        return b"x" * 10

    room = MediaMemoryLimit(fetch, max_bytes=15)
    segments = [segment(number) for number in range(3)]
    await room.fetch(segments[0])
    await room.fetch(segments[1])
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        third = group.create_task(room.fetch(segments[2]))
        await asyncio.sleep(0.05)
        assert not third.done()
        room.release(segments[0])
    assert third.result() == b"x" * 10
