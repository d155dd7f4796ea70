"""Segments that were being observed when the process ended are observed alone, and passed after the second time."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.observe.observer import Observation
from pipelines.observe.poison import PoisonGuard
from tests import factories
from tests.factories import START
from vqmon.core.types import Segment, SegmentFailure


class Process:
    """A process with a guard, that can be killed: its file is then left as it is at that moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.guard = PoisonGuard(path, now=lambda: START)
        self.observed: list[int] = []
        self.in_flight: list[int] = []
        self.most_in_flight = 0
        # these are observed until the kill
        self.deadly: set[int] = set()

    async def _observe(self, segment: Segment) -> Observation:
        async with self.guard.turn(segment) as item:
            return Observation(outcome=item) if isinstance(item, SegmentFailure) else await self._observe_now(item)

    async def _observe_now(self, item: Segment) -> Observation:
        self.in_flight.append(item.sequence)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        await asyncio.sleep(3600 if item.sequence in self.deadly else 0)
        self.in_flight.remove(item.sequence)
        self.observed.append(item.sequence)
        return Observation(outcome=factories.event(segment=item))

    async def observe(self, *sequences: int) -> Sequence[str]:
        """Observe at once; "" or the reason of each."""
        segments = [factories.segment(sequence=sequence) for sequence in sequences]
        observations = await asyncio.gather(*map(self._observe, segments))
        return [getattr(observation.outcome, "reason", "") for observation in observations]

    async def die(self, *sequences: int, observing: set[int], next_path: Path) -> None:
        """Observe these at once until only those that end the process are left, then be killed."""
        self.deadly = observing
        with self.guard:
            work = asyncio.ensure_future(self.observe(*sequences))
            async with asyncio.timeout(5):
                while set(self.in_flight) != observing:  # noqa: ASYNC110 - a guard has no events
                    await asyncio.sleep(0)
            shutil.copy(self.path, next_path)
            work.cancel()


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"{number}.in-flight" for number in range(4)]


async def test_a_segment_that_ends_every_process_is_passed_after_the_second(paths: list[Path]) -> None:
    """The others that were in flight with it are scored, each of them alone."""
    await Process(paths[0]).die(0, 1, 2, 3, observing={1, 2, 3}, next_path=paths[1])
    await Process(paths[1]).die(2, observing={2}, next_path=paths[2])
    third = Process(paths[2])
    with third.guard:
        assert await third.observe(1, 2, 3, 4) == ["", "poison", "", ""]
        third.most_in_flight = 0
        assert await third.observe(5, 6, 7) == ["", "", ""]
        assert third.most_in_flight == 3
    fourth = Process(paths[2])
    with fourth.guard:
        # its outcome may not have been written
        assert await fourth.observe(2) == ["poison"]


async def test_a_process_that_could_observe_others_is_killed_once_more_before_a_segment_is_passed(
    paths: list[Path],
) -> None:
    """The kill may have come from outside, and have hit the same segment by chance."""
    await Process(paths[0]).die(1, 2, observing={1, 2}, next_path=paths[1])
    await Process(paths[1]).die(1, 2, observing={2}, next_path=paths[2])
    third = Process(paths[2])
    shutil.copy(paths[2], paths[3])
    with third.guard:
        assert await third.observe(2) == [""]
    await Process(paths[3]).die(2, observing={2}, next_path=paths[0])
    fourth = Process(paths[0])
    with fourth.guard:
        assert await fourth.observe(2) == ["poison"]


async def test_a_segment_that_is_passed_explains_the_death_of_those_beside_it(paths: list[Path]) -> None:
    """A kill from outside at the start of the next process is the first that counts for them."""
    await Process(paths[0]).die(1, 2, 3, observing={1, 2, 3}, next_path=paths[1])
    await Process(paths[1]).die(1, observing={1}, next_path=paths[2])
    await Process(paths[2]).die(1, 2, observing={2}, next_path=paths[3])
    fourth = Process(paths[3])
    with fourth.guard:
        assert await fourth.observe(1, 2, 3) == ["poison", "", ""]


async def test_those_under_suspicion_are_observed_one_at_a_time(paths: list[Path]) -> None:
    """And those that are not wait for them."""
    await Process(paths[0]).die(1, 2, 3, observing={1, 2, 3}, next_path=paths[1])
    second = Process(paths[1])
    with second.guard:
        assert await second.observe(1, 2, 3) == ["", "", ""]
        assert second.most_in_flight == 1
        await second.observe(1, 2, 3)
        assert second.most_in_flight == 3


async def test_one_death_is_forgotten_by_a_segment_that_is_then_observed(paths: list[Path]) -> None:
    """A kill by an operator, or for the memory of another, costs no segment its verdict."""
    await Process(paths[0]).die(1, observing={1}, next_path=paths[1])
    second = Process(paths[1])
    with second.guard:
        assert await second.observe(1) == [""]
    await Process(paths[1]).die(1, observing={1}, next_path=paths[2])
    third = Process(paths[2])
    with third.guard:
        assert await third.observe(1) == [""]


@pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError])
async def test_an_observation_that_ends_by_an_error_is_no_death(paths: list[Path], error: type[BaseException]) -> None:
    """As at the end of the time for draining."""

    with PoisonGuard(paths[0], now=lambda: START) as guard, pytest.raises(error):
        async with guard.turn(factories.segment(sequence=1)):
            raise error
    assert '"in_flight": []' in paths[0].read_text()


async def test_the_file_is_written_once_for_a_segment(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """And once more when nothing is in flight, or when a segment under suspicion has been observed."""
    writes: list[bytes] = []
    pwrite = os.pwrite

    def counted(handle: int, data: bytes, offset: int) -> int:
        writes.append(data)
        return pwrite(handle, data, offset)

    await Process(paths[0]).die(1, observing={1}, next_path=paths[1])
    monkeypatch.setattr(os, "pwrite", counted)
    process = Process(paths[1])
    with process.guard:
        writes.clear()
        await process.observe(*range(10, 20))
        assert len(writes) == 11
        assert b'"in_flight": []' in writes[-1]
        writes.clear()
        await process.observe(1, *range(20, 30))
        assert len(writes) == 13
        assert b'"deaths": {}' in writes[-1]


async def test_without_a_file_segments_are_observed_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do about it."""
    process = Process(tmp_path / "missing" / "vqmon.db.in-flight")
    with process.guard:
        assert await process.observe(1) == [""]
    (record,) = caplog.records
    assert record.getMessage() == "poison.no_file"
    assert "set daemon.state_folder" in record.fields["remedy"]  # type: ignore[attr-defined]


async def test_a_torn_file_tells_nothing(paths: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    """The process may be killed while it writes."""
    await Process(paths[0]).die(1, observing={1}, next_path=paths[1])
    paths[1].write_bytes(paths[1].read_bytes().replace(b'"deaths"', b'"in_fli"'))
    process = Process(paths[1])
    with process.guard:
        assert await process.observe(1) == [""]
    assert not [record for record in caplog.records if record.getMessage() == "daemon.died"]


async def test_processes_with_one_path_have_files_of_their_own(paths: list[Path]) -> None:
    """And what one observes is no death for the other."""
    first, second = Process(paths[0]), Process(paths[0])
    first.deadly = {1}
    with first.guard, second.guard:
        work = asyncio.ensure_future(first.observe(1))
        await asyncio.sleep(0)
        assert await second.observe(1, 2) == ["", ""]
        work.cancel()
    assert sorted(file.name for file in paths[0].parent.iterdir()) == ["0.in-flight", "0.in-flight.1"]
