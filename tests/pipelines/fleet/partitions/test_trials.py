"""A record that ends the process which observes it is found by the fleet, tried alone, and passed."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines.fleet.membership import GroupMember
from pipelines.fleet.partitions.trials import TRIALS_KEY, RecordTrials
from pipelines.observe.observer import Observation
from pipelines.observe.poison import PoisonGuard
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.factories import START
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, segment, until
from vqmon.core.types import Segment, SegmentFailure
from vqmon.errors import FencedError, WireError


class Process:
    """A worker on a machine of its own, which is killed by a segment whose address contains `deadly`."""

    count = 0

    def __init__(self, fleet: MemoryFleet, folder: Path, *, seconds: float = 0.0) -> None:
        Process.count += 1
        self.id = f"process-{Process.count}"
        self.observed: list[str] = []
        self.most_in_flight = self.in_flight = 0
        self.is_killed = asyncio.Event()
        self._fleet, self._seconds = fleet, seconds
        self._guard = PoisonGuard(folder / self.id, now=lambda: START)

    async def _observe(self, segment: Segment) -> Observation:
        async with self._guard.turn(segment) as allowed:
            if isinstance(allowed, SegmentFailure):
                return Observation(outcome=allowed)
            self.observed.append(segment.url)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            await asyncio.sleep(self._seconds)
            if "deadly" in segment.url:
                self.is_killed.set()
                await asyncio.sleep(3600)
            self.in_flight -= 1
            return Observation(outcome=outcome_of_segment(segment))

    async def work(self, count: int, *, max_waiting: int = 8) -> bool:
        """Work until so many outcomes are there, or until it is killed; whether it was."""
        broker, stop = self._fleet.broker, asyncio.Event()
        context = self._fleet.context(self._observe, process_id=self.id, max_waiting=max_waiting)
        with self._guard:
            member = asyncio.ensure_future(self._fleet.member(context, stop).run())
            killed = asyncio.ensure_future(self.is_killed.wait())
            done = asyncio.ensure_future(self._fleet.until(count))
            await asyncio.wait([member, killed, done], return_when=asyncio.FIRST_COMPLETED)
            if self.is_killed.is_set():
                # Nothing that it still does reaches the broker: its producers are fenced.
                for number in range(broker.partitions):
                    broker.epochs[f"g.{number}"] += 1
                broker.members.clear()
                member.cancel()
            stop.set()
            for task in (killed, done):
                task.cancel()
            with suppress(asyncio.CancelledError, FencedError):
                await member
            broker.members.clear()
        return self.is_killed.is_set()


async def work_until_done(fleet: MemoryFleet, folder: Path, count: int, *, max_waiting: int = 8) -> list[Process]:
    """One process after the other, each on a new machine, until all is done."""
    processes: list[Process] = []
    while len(processes) < 12:
        processes.append(Process(fleet, folder))
        if not await processes[-1].work(count, max_waiting=max_waiting):
            return processes
    raise AssertionError("it never ends")


def put(fleet: MemoryFleet, *deadly: int, count: int = 30) -> None:
    """Two streams in two partitions; some segments of the first are deadly."""
    for number in range(count):
        fleet.put(0, segment(number, url=f"file:///{number}-{'deadly' if number in deadly else 'good'}"))
        fleet.put(1, segment(number, stream_id="sport"))


def reasons(fleet: MemoryFleet) -> dict[str, list[str]]:
    """Of each stream: "" or the reason of each outcome, in order."""
    found: dict[str, list[str]] = {}
    for outcome in fleet.outcomes:
        found.setdefault(outcome.segment.rendition.stream_id, []).append(getattr(outcome, "reason", ""))
    return found


@pytest.mark.parametrize("deadly", [{0}, {7}, {29}, {3, 4}])
async def test_what_ends_every_process_is_passed_and_nothing_else_is(deadly: set[int], tmp_path: Path) -> None:
    """Each segment has one outcome, in order; the others are scored, and few processes were lost."""
    fleet = MemoryFleet(partitions=2)
    put(fleet, *deadly)
    processes = await work_until_done(fleet, tmp_path, 60)
    assert reasons(fleet) == {
        "news": ["poison" if number in deadly else "" for number in range(30)],
        "sport": [""] * 30,
    }
    assert [outcome.segment.sequence for outcome in fleet.outcomes] == [*range(30), *range(30)]
    assert sum(process.is_killed.is_set() for process in processes) <= 5 * len(deadly)
    poison = [outcome for outcome in fleet.outcomes if isinstance(outcome, SegmentFailure)]
    assert {failure.detail for failure in poison} == {"vqmon ended 2 times while it observed this segment"}


async def test_a_deadly_record_far_behind_one_that_is_never_finished_is_found(tmp_path: Path) -> None:
    """More records are under suspicion after each death that finishes nothing."""
    fleet = MemoryFleet(partitions=1)
    for number in range(60):
        fleet.put(0, segment(number, url=f"file:///{number}-{'deadly' if number == 50 else 'good'}"))
    slow = asyncio.Event()

    class OneIsSlow(Process):
        async def _observe(self, segment: Segment) -> Observation:
            if segment.sequence == 0:
                await slow.wait()
            return await super()._observe(segment)

    for _ in range(8):
        assert await OneIsSlow(fleet, tmp_path).work(60, max_waiting=64)
    slow.set()
    assert not await OneIsSlow(fleet, tmp_path).work(60, max_waiting=64)
    assert reasons(fleet) == {"news": ["poison" if number == 50 else "" for number in range(60)]}


async def test_suspects_are_observed_one_at_a_time_and_then_all_go_on_together(tmp_path: Path) -> None:
    """Nothing else is observed meanwhile in any partition of the process."""
    fleet = MemoryFleet(partitions=2)
    put(fleet, 0, count=60)
    for _ in range(2):
        first = Process(fleet, tmp_path, seconds=0.001)
        assert await first.work(120)
        assert first.most_in_flight > 1, "one death may come from outside"
    third = Process(fleet, tmp_path, seconds=0.001)
    assert await third.work(120)
    assert third.observed[-1].endswith("0-deadly")
    assert third.in_flight == 1
    assert await Process(fleet, tmp_path).work(120)
    last = Process(fleet, tmp_path, seconds=0.001)
    assert not await last.work(120)
    assert last.most_in_flight > 1


async def test_a_stop_a_rebalance_and_an_idle_partition_are_no_death(tmp_path: Path) -> None:
    """Workers that end in good order leave no suspicion, however often; nor does a worker that opens it again."""
    fleet = MemoryFleet(partitions=1)
    fleet.put(0, segment(0))
    for count in range(1, 5):
        process = Process(fleet, tmp_path)
        assert not await process.work(count)
        fleet.put(0, segment(count))
    stored = fleet.broker.read_state(NAMES.state, 0)[TRIALS_KEY]
    assert b'"process":"","deaths":0,"tries":{}' in stored


async def test_a_worker_that_ends_while_a_partition_is_stopped_has_not_died(tmp_path: Path) -> None:
    """The partition was given back when it was stopped."""
    fleet, stop = MemoryFleet(partitions=1), asyncio.Event()
    fleet.put(0, segment(0))
    fleet.broker.max_value_bytes[NAMES.quality] = 100
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.member(fleet.context(process_id="a"), stop).run())
        await until(lambda: bool(fleet.alerts))
        stop.set()
    assert b'"process":"","deaths":0' in fleet.broker.read_state(NAMES.state, 0)[TRIALS_KEY]
    fleet.broker.max_value_bytes.clear()
    process = Process(fleet, tmp_path)
    assert not await process.work(1)
    assert b'"deaths":0' in fleet.broker.read_state(NAMES.state, 0)[TRIALS_KEY]


async def test_a_partition_that_goes_while_a_record_takes_too_long_was_given_back(tmp_path: Path) -> None:
    """The worker cuts the record short and lives: the next one suspects nothing."""
    fleet, stop, has_begun = MemoryFleet(partitions=1), asyncio.Event(), asyncio.Event()

    async def observe_slowly(segment: Segment) -> Observation:
        has_begun.set()
        await asyncio.sleep(3600)
        return Observation(outcome=outcome_of_segment(segment))

    fleet.put(0, segment(0))
    context = fleet.context(observe_slowly, process_id="a")
    member = GroupMember(context, fleet.open_group, stop=stop, revoke_seconds=0.05)
    async with asyncio.TaskGroup() as group:
        group.create_task(member.run())
        await has_begun.wait()
        await member.revoked([0])
        stop.set()
    assert not await Process(fleet, tmp_path).work(1)
    assert b'"process":"","deaths":0' in fleet.broker.read_state(NAMES.state, 0)[TRIALS_KEY]


async def test_tries_that_another_version_wrote_stop_no_partition(tmp_path: Path) -> None:
    """They are forgotten and written anew: what ends workers is found again."""
    fleet = MemoryFleet(partitions=1)
    fleet.put(0, segment(0))
    fleet.broker.append(NAMES.state, 0, TRIALS_KEY.encode(), b'{"unknown":1}')
    assert not await Process(fleet, tmp_path).work(1)
    assert b'"process":"","deaths":0' in fleet.broker.read_state(NAMES.state, 0)[TRIALS_KEY]


async def test_a_try_that_is_cancelled_is_taken_back() -> None:
    """A record that takes longer than a rebalance grants was not the end of the process."""
    writes: list[bytes | None] = []

    async def write() -> None:
        await asyncio.sleep(0)
        writes.append(trials.encoded)

    first = RecordTrials(None, process_id="a", write=write)
    trials = first
    await first.open_at(4)
    trials = RecordTrials(writes[-1], process_id="b", write=write)
    assert await trials.open_at(4) == 4, "one death may come from outside"
    trials = RecordTrials(writes[-1], process_id="c", write=write)
    assert await trials.open_at(4) == 4 + 8
    trial = trials.trial_of(4)
    assert trial is not None

    async def attempt() -> None:
        async with trial.attempt():
            await asyncio.sleep(3600)

    task = asyncio.ensure_future(attempt())
    await until(lambda: b'"tries":{"4":1}' in (writes[-1] or b""))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert b'"tries":{}' in (writes[-1] or b"")
    assert not trial.is_poison


async def test_the_same_process_may_open_a_partition_again_and_again() -> None:
    """A lost membership, a stopped partition: the process lives, so nothing is under suspicion."""
    writes: list[bytes | None] = [None]

    async def write() -> None:
        writes.append(trials.encoded)

    for _ in range(5):
        trials = RecordTrials(writes[-1], process_id="a", write=write)
        assert await trials.open_at(4) == 4
    assert len(writes) == 2


@pytest.mark.parametrize("stored", [b"", b"[]", b'{"offset":1}', b'{"offset":1,"process":"a","deaths":0,"tries":3}'])
def test_tries_that_cannot_be_read_are_named(stored: bytes) -> None:
    """As any other state that another version wrote."""

    async def write() -> None:
        raise AssertionError

    with pytest.raises(WireError, match="not a list of tries"):
        RecordTrials(stored, process_id="a", write=write)
