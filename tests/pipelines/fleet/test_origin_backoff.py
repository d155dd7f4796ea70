"""Waiting instead of giving up: origins that are down, single bad segments, and room for media."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pipelines.fleet import origin_backoff
from pipelines.fleet.origin_backoff import MediaMemoryLimit, OriginBackoff
from pipelines.observe.observer import Observation
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.pipelines.memory_fleet import segment, until
from vqmon.core.types import QualityEvent, Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError, ScoreError
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


class Clock:
    """A monotonic clock that a test may move on."""

    def __init__(self) -> None:
        self.moved_seconds = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.moved_seconds


def patient(
    observe: Callable[[Segment], Awaitable[Observation]],
    *,
    retry_seconds: float = 30.0,
    away_seconds: float = 60.0,
    slots: int = 4,
    now: Callable[[], float] = time.monotonic,
) -> tuple[OriginBackoff, list[int]]:
    """Origins over an observation, and how many were away over time."""
    away: list[int] = []
    origins = OriginBackoff(
        observe,
        slots=slots,
        progress=ProgressTracker(time.monotonic),
        now=now,
        retry_seconds=retry_seconds,
        away_seconds=away_seconds,
        probe_seconds=0.02,
        on_change=away.append,
    )
    return origins, away


def at(host: str, number: int, *, stream_id: str = "news") -> Segment:
    """A segment of one origin."""
    return segment(number, stream_id=stream_id, url=f"https://{host}/{stream_id}/{number}.ts")


def reasons(observations: Iterable[Observation]) -> list[str]:
    """The reason of each, "scored" where there is none."""
    return [getattr(observation.outcome, "reason", "scored") for observation in observations]


async def test_the_wait_for_a_turn_is_no_part_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that had to wait is observed, and one that is passed is not."""
    monkeypatch.setattr(origin_backoff, "_MAX_ATTEMPT_SECONDS", 0.01)
    origin, progress = Origin(), ProgressTracker(time.monotonic)

    @asynccontextmanager
    async def turn(segment: Segment) -> AsyncIterator[Segment | SegmentFailure]:
        await asyncio.sleep(0.03)
        assert progress.in_flight == 0
        error = ScoreError("poison", "")
        yield segment if segment.sequence == 0 else failure_from_error(segment, error, observed_at=segment.ends_at)

    origins = OriginBackoff(
        origin.observe, slots=4, progress=progress, now=time.monotonic, retry_seconds=1, away_seconds=1, turn=turn
    )
    assert reasons([await origins.observe(at("a", number)) for number in (0, 1)]) == ["scored", "poison"]
    assert origin.tries == [0]


async def test_an_origin_that_comes_back_in_time_serves_what_waited() -> None:
    """Nothing is given up before the time is over, and nothing is parked for longer than the origin is away."""
    origin = Origin()
    origin.is_down = True
    origins, away = patient(origin.observe, retry_seconds=0.5)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        works = [group.create_task(origins.observe(at("a", number))) for number in range(5)]
        await until(lambda: away == [1])
        await asyncio.sleep(0.1)
        assert not any(work.done() for work in works)
        origin.is_down = False
    assert reasons(work.result() for work in works) == ["scored"] * 5
    assert away == [1, 0]


async def test_an_origin_that_stays_away_is_an_outcome_after_a_bounded_wait() -> None:
    """What waited is given up then, what comes later at once but for the probes, until one of them is served."""
    origin, clock = Origin(), Clock()
    origin.is_down = True
    origins, away = patient(origin.observe, now=clock)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        works = [group.create_task(origins.observe(at("a", number))) for number in range(5)]
        await until(lambda: away == [1])
        clock.moved_seconds += 60.0
    given_up = [work.result().outcome for work in works]
    assert reasons(work.result() for work in works) == ["origin_away"] * 5
    assert "a has served no segment for 60 s" in given_up[0].detail  # type: ignore[union-attr]
    tries = len(origin.tries)
    async with asyncio.timeout(20):
        later = await run_concurrently(origins.observe(at("a", number)) for number in range(5, 105))
    assert reasons(later) == ["origin_away"] * 100
    assert len(origin.tries) - tries <= 3
    origin.is_down = False
    clock.moved_seconds += 1.0
    async with asyncio.timeout(20):
        assert reasons([await origins.observe(at("a", 200))]) == ["scored"]
    assert away == [1, 0]


async def test_a_sick_stream_leaves_the_other_streams_of_its_origin_alone() -> None:
    """Its path fails: it waits and is given up by itself, and no segment of another stream waits or fails."""
    good, bad, clock = Origin(), Origin(), Clock()
    bad.is_down = True

    async def observe(segment: Segment) -> Observation:
        return await (bad if segment.rendition.stream_id == "sick" else good).observe(segment)

    origins, away = patient(observe, now=clock)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        sick = [group.create_task(origins.observe(at("a", number, stream_id="sick"))) for number in range(6)]
        healthy = [
            group.create_task(origins.observe(at("a", number, stream_id=name))) for number in range(9) for name in "bcd"
        ]
        await asyncio.wait(healthy)
        await until(lambda: bool(away))
        assert not any(work.done() for work in sick)
        clock.moved_seconds += 60.0
    assert reasons(work.result() for work in healthy) == ["scored"] * 27
    assert reasons(work.result() for work in sick) == ["origin_away"] * 6
    assert "served no segment of this stream" in sick[0].result().outcome.detail  # type: ignore[union-attr]


async def test_an_origin_that_hangs_takes_only_a_part_of_the_slots() -> None:
    """However many streams it has: what has never been served leaves slots to others."""
    hanging, served = asyncio.Event(), Origin()

    async def observe(segment: Segment) -> Observation:
        if "hanging" in segment.url:
            await hanging.wait()
        return await served.observe(segment)

    origins, _ = patient(observe, slots=2)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(origins.observe(at("hanging", number, stream_id=f"s{number}")))
        healthy = await run_concurrently(origins.observe(at("good", number)) for number in range(10))
        hanging.set()
    assert reasons(healthy) == ["scored"] * 10


async def test_credentials_in_an_address_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What is said about an origin names its host and nothing else."""
    origin = Origin()
    origin.is_down = True
    origins, away = patient(origin.observe)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        works = [group.create_task(origins.observe(at("user:sesame@a", number))) for number in range(3)]
        await until(lambda: away == [1])
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

    origins, away = patient(observe, slots=1)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = [group.create_task(origins.observe(at("dead", number))) for number in range(4)]
        await until(lambda: away == [1])
        seen = await run_concurrently(origins.observe(at("good", number)) for number in range(10))
        for observation in waiting:
            observation.cancel()
    assert all(isinstance(observation.outcome, QualityEvent) for observation in seen)


async def test_a_single_bad_segment_is_given_up_after_its_patience() -> None:
    """An error of one segment alone does not close its origin; it is tried again, then unscored."""
    origin = Origin()
    origin.bad[1] = "http_status"
    origins, away = patient(origin.observe, retry_seconds=0.3)
    async with asyncio.timeout(20):
        seen = await run_concurrently(origins.observe(at("a", number)) for number in range(3))
    assert [type(observation.outcome) for observation in seen] == [QualityEvent, SegmentFailure, QualityEvent]
    assert origin.tries.count(1) >= 2
    assert away == []


async def test_what_does_not_exist_is_no_trouble_of_the_origin() -> None:
    """A 404 is a verdict at once."""
    origin = Origin()
    origin.bad = {number: "not_found" for number in range(5)}
    origins, away = patient(origin.observe)
    async with asyncio.timeout(20):
        seen = await run_concurrently(origins.observe(at("a", number)) for number in range(5))
    assert [observation.outcome.reason for observation in seen if isinstance(observation.outcome, SegmentFailure)] == [
        "not_found"
    ] * 5
    assert len(origin.tries) == 5
    assert away == []


async def test_fetched_media_is_bounded() -> None:
    """A fetch waits while what was fetched and not yet decoded fills the room."""

    async def fetch(segment: Segment) -> bytes:
        return b"x" * 10

    room = MediaMemoryLimit(fetch, max_bytes=15)
    segments = [segment(number) for number in range(3)]
    await room.fetch(segments[0])
    await room.fetch(segments[1])
    # its reference, which no `release` names
    await room.fetch(replace(segments[1], url="file:///reference.mp4"))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        third = group.create_task(room.fetch(segments[2]))
        await asyncio.sleep(0.05)
        assert not third.done()
        room.release(segments[0])
        await asyncio.sleep(0)
        assert not third.done()
        room.release(segments[1])
    assert third.result() == b"x" * 10
