"""One membership of a consumer group: who is settled, stuck or silent, what is polled, how a lost one is replaced."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace

import pytest

from pipelines.fleet import membership
from pipelines.fleet.membership import SILENT_SECONDS, GroupMember, run_member
from tests.pipelines.memory_fleet import MemoryFleet, segment
from vqmon.errors import BrokerError, FencedError
from vqmon.retry import Backoff
from vqmon.telemetry.metrics import Meters, MetricName
from vqmon.transport.kafka.in_memory import MemoryGroupConsumer
from vqmon.transport.kafka.records import Record


class ManualClock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class CountingMeters(Meters):
    """Remembers what was counted, as (name, labels...)."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[tuple[str, ...]] = []

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        self.counted.append((name, *labels.values()))


class ScriptedGroup:
    """A consumer group whose polls are recorded; `start` raises the next error of the script."""

    def __init__(self, errors: Sequence[BrokerError] = ()) -> None:
        self.errors = list(errors)
        self.polls: list[tuple[list[int], float, int]] = []
        self.stop_count = 0

    async def start(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    async def stop(self) -> None:
        self.stop_count += 1

    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]:
        self.polls.append((sorted(partitions), seconds, max_records))
        return {}

    async def ping(self) -> bool:
        return True

    async def next_fetch_offset(self, partition: int) -> int:
        return 100


def worker(partition: int, **fields: object) -> SimpleNamespace:
    """A partition worker that records what it is given."""
    enqueued: list[object] = []
    defaults = {"is_ready": True, "generation": 0, "free_slots": 8, "idle_seconds": 0.0, "next_offset": 40}
    return SimpleNamespace(partition=partition, enqueued=enqueued, enqueue=enqueued.extend, **{**defaults, **fields})


def member_with(group: ScriptedGroup, *workers: SimpleNamespace) -> GroupMember:
    """A member to whom the group has assigned the partitions of these workers."""
    member = GroupMember(
        MemoryFleet().context(),
        lambda member: group,  # type: ignore[arg-type, return-value]
        stop=asyncio.Event(),
        revoke_seconds=1.0,
    )
    member._workers = {
        partition_worker.partition: (f"partition-{partition_worker.partition}", partition_worker)
        for partition_worker in workers
    }
    member._has_assignment = True
    return member


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    manual = ManualClock()
    monkeypatch.setattr(membership, "time", manual)
    return manual


async def test_a_member_is_settled_once_all_assigned_partitions_are_ready() -> None:
    """Also when the group has assigned none to it."""
    group = ScriptedGroup()
    assert member_with(group).is_settled
    assert member_with(group, worker(0), worker(1)).is_settled
    assert not member_with(group, worker(0), worker(1, is_ready=False)).is_settled
    waiting = member_with(group)
    waiting._has_assignment = False
    assert not waiting.is_settled


async def test_polling_that_stands_still_counts_only_while_brokers_answer(clock: ManualClock) -> None:
    """Without brokers a poll cannot get on, which is no reason to end the process."""
    member = member_with(ScriptedGroup())
    clock.seconds += SILENT_SECONDS
    assert (member.silent_seconds(), member.stuck_seconds()) == (SILENT_SECONDS, SILENT_SECONDS)
    clock.seconds += 0.5
    assert (member.silent_seconds(), member.stuck_seconds()) == (SILENT_SECONDS + 0.5, 0.0)


async def test_polling_that_stands_still_is_counted_from_the_moment_the_brokers_answer_again(
    clock: ManualClock,
) -> None:
    """The time without brokers is not held against the member."""
    member = member_with(ScriptedGroup())
    clock.seconds += 60.0
    pinging = asyncio.ensure_future(member._ping_brokers())
    await asyncio.sleep(0)
    member._stop.set()
    await pinging
    clock.seconds += 2.0
    assert (member.silent_seconds(), member.stuck_seconds()) == (2.0, 2.0)


async def test_a_poll_ends_the_time_that_polling_stood_still(clock: ManualClock) -> None:
    """And a member that is leaving is never stuck: it polls no more."""
    member = member_with(ScriptedGroup())
    clock.seconds += 5.0
    assert member.stuck_seconds() == 5.0
    await member._poll_once()
    assert member.stuck_seconds() == 0.0
    clock.seconds += 5.0
    member._is_leaving = True
    assert member.stuck_seconds() == 0.0


async def test_partitions_with_room_for_half_a_queue_are_polled() -> None:
    """For as many records as fit into the fullest of them, and only briefly while another one is left out."""
    group = ScriptedGroup()
    # queues hold 8 records
    await member_with(group, worker(0, free_slots=8), worker(1, free_slots=4))._poll_once()
    await member_with(group, worker(0, free_slots=8), worker(1, free_slots=3))._poll_once()
    await member_with(group, worker(0, free_slots=3))._poll_once()
    assert group.polls == [
        ([0, 1], membership._POLL_SECONDS, 4),
        ([0], membership._FULL_POLL_SECONDS, 8),
        ([], membership._FULL_POLL_SECONDS, 1),
    ]


async def test_an_idle_partition_advances_past_offsets_without_records() -> None:
    """Once it has been idle long enough, and only when there is something to pass."""
    busy, idle, at_the_end, fresh = (
        worker(0),
        worker(1, idle_seconds=6.0),
        worker(2, idle_seconds=6.0, next_offset=100),
        worker(3, idle_seconds=6.0, next_offset=None),
    )
    await member_with(ScriptedGroup(), busy, idle, at_the_end, fresh)._poll_once()
    assert [
        [step.offset for step in partition_worker.enqueued] for partition_worker in (busy, idle, at_the_end, fresh)
    ] == [[], [100], [], [100]]


async def test_a_member_that_leaves_starts_no_more_workers() -> None:
    """The group may assign partitions between the stop and the farewell."""
    member = member_with(ScriptedGroup())
    member._is_leaving = True
    member.assigned([0, 1])
    assert member.workers == []


async def test_records_of_a_partition_that_was_revoked_meanwhile_are_dropped() -> None:
    """Its next owner reads them again."""
    group = ScriptedGroup()
    revoked_worker = worker(0)
    member = member_with(group, revoked_worker)

    async def poll(*arguments: object, **options: object) -> Mapping[int, Sequence[Record]]:
        return {0: [Record(0, 1, None, b"x", (), 0)], 7: [Record(7, 1, None, b"y", (), 0)]}

    group.poll = poll  # type: ignore[method-assign, assignment]
    await member._poll_once()
    assert revoked_worker.enqueued == [Record(0, 1, None, b"x", (), 0)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(BrokerError("away"), "lost"), (FencedError("another producer has taken over the id"), "fenced")],
)
async def test_a_lost_membership_is_replaced_and_counted(
    error: BrokerError, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one leaves its group, and is announced before it joins."""
    monkeypatch.setattr(membership, "_BACKOFF", Backoff(first_seconds=0.001, last_seconds=0.001))
    meters, stop, group = CountingMeters(), asyncio.Event(), ScriptedGroup([error, error])
    members: list[GroupMember] = []

    def follow(member: GroupMember) -> None:
        members.append(member)
        if len(members) == 3:
            stop.set()

    await run_member(
        MemoryFleet().context(meters=meters),
        lambda member: group,  # type: ignore[arg-type, return-value]
        stop=stop,
        revoke_seconds=1.0,
        on_join=follow,
    )
    assert len(members) == len(set(members)) == 3
    assert group.stop_count == 3
    assert meters.counted == [("vqmon.kafka.membership_lost", reason)] * 2


async def test_the_backoff_grows_until_a_membership_was_stable(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute in the group the next loss counts as the first."""
    delays: list[float] = []
    stop, group = asyncio.Event(), ScriptedGroup([BrokerError("away")] * 5)
    lifetimes = iter([0.0, 0.0, 60.0, 60.1, 0.0])

    async def start() -> None:
        clock.seconds += next(lifetimes)
        raise group.errors.pop()

    async def record_delay(event: asyncio.Event, seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == 5:
            event.set()

    monkeypatch.setattr(group, "start", start)
    monkeypatch.setattr(membership, "wait_or_stop", record_delay)
    monkeypatch.setattr(membership, "_BACKOFF", Backoff(first_seconds=1.0, last_seconds=5.0))
    await run_member(
        MemoryFleet().context(),
        lambda member: group,  # type: ignore[arg-type, return-value]
        stop=stop,
        revoke_seconds=1.0,
        on_join=lambda member: None,
    )
    first = delays[0]
    assert delays[3] == first
    assert delays[0] < delays[1] < delays[2] <= 5.0
    assert delays[4] == delays[1]


async def test_an_error_that_is_not_the_brokers_ends_the_command() -> None:
    """A new membership would not mend it; the group is left all the same."""
    fleet, groups = MemoryFleet(partitions=1), list[MemoryGroupConsumer]()
    fleet.put(0, segment(0))

    def open_group(member: GroupMember) -> MemoryGroupConsumer:
        groups.append(fleet.open_group(member))
        return groups[-1]

    def fail(outcomes: object, alerts: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_member(
            fleet.context(on_publish=fail),
            open_group,
            stop=asyncio.Event(),
            revoke_seconds=1.0,
            on_join=lambda member: None,
        )
    assert len(groups) == 1
    assert fleet.broker.members == []
