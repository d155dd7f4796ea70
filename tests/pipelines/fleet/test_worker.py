"""The readiness and the gauges that a worker derives from its memberships, and what its watchdog watches."""

import logging
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from pipelines.fleet.membership import SILENT_SECONDS
from pipelines.fleet.worker import _MAX_LOOP_SECONDS, _MAX_WORK_SECONDS, _MembershipMonitor, _watchdog
from pipelines.service.lifecycle import Service
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters, MetricName
from vqmon.telemetry.watchdog import Heartbeat


class GaugeMeters(Meters):
    """Remembers the newest value of each gauge, by (name, labels...), and what was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.gauges: dict[tuple[str, ...], float] = {}
        self.counted: list[tuple[str, ...]] = []

    def set(self, name: MetricName, value: float, **labels: str) -> None:
        self.gauges[(name, *labels.values())] = value

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        self.counted.append((name, *labels.values()))


class StandInMember:
    """A membership whose state the test sets."""

    def __init__(
        self,
        *,
        is_settled: bool = True,
        silent: float = 0.0,
        stuck: float = 0.0,
        halted: Sequence[bool] = (),
        lags: dict[int, int] | None = None,
    ) -> None:
        self.is_settled = is_settled
        self.silent = silent
        self.stuck = stuck
        self.workers = [SimpleNamespace(is_halted=is_halted) for is_halted in halted]
        self._lags = lags or {}

    def silent_seconds(self) -> float:
        return self.silent

    def stuck_seconds(self) -> float:
        return self.stuck

    def lags(self) -> dict[int, int]:
        return self._lags


class Monitored:
    """A monitor and what it reports to."""

    def __init__(self, **members: StandInMember) -> None:
        self.progress = ProgressTracker(lambda: 0.0)
        self.meters = GaugeMeters()
        self.monitor = _MembershipMonitor(self.progress, self.meters)
        for topic, member in members.items():
            self.follow(topic, member)

    def follow(self, topic: str, member: StandInMember) -> None:
        self.monitor.follow(topic, member)  # type: ignore[arg-type]


def test_before_the_first_membership_nothing_is_reported() -> None:
    """Neither stuck nor ready, and no gauge has a value that nobody measured."""
    monitored = Monitored()
    monitored.monitor.update()
    assert monitored.monitor.stuck_seconds() == 0.0
    assert not monitored.progress.is_ready
    assert monitored.meters.gauges == {}


@pytest.mark.parametrize(
    ("member", "is_ready", "connected", "halted_count"),
    [
        (StandInMember(halted=[False, False]), True, 1, 0),
        (StandInMember(), True, 1, 0),
        (StandInMember(is_settled=False), False, 1, 0),
        (StandInMember(silent=SILENT_SECONDS - 0.1), True, 1, 0),
        (StandInMember(silent=SILENT_SECONDS), False, 0, 0),
        (StandInMember(halted=[True, False, True]), False, 1, 2),
    ],
    ids=["ready", "no partitions", "not settled", "quiet", "silent", "halted"],
)
def test_a_worker_is_ready_when_it_is_settled_connected_and_not_halted(
    member: StandInMember, is_ready: bool, connected: int, halted_count: int
) -> None:
    """Each of the three is a gauge or part of readiness."""
    monitored = Monitored(segments=member)
    monitored.monitor.update()
    assert monitored.progress.is_ready == is_ready
    assert monitored.meters.gauges["vqmon.kafka.connected",] == connected
    assert monitored.meters.gauges["vqmon.kafka.halted",] == halted_count


def test_all_memberships_must_be_well() -> None:
    """The worst of them decides; halted partitions add up."""
    monitored = Monitored(
        segments=StandInMember(stuck=3.0, halted=[True]), gathered=StandInMember(silent=20.0, stuck=7.0, halted=[True])
    )
    monitored.monitor.update()
    assert monitored.monitor.stuck_seconds() == 7.0
    assert not monitored.progress.is_ready
    assert monitored.meters.gauges["vqmon.kafka.connected",] == 0
    assert monitored.meters.gauges["vqmon.kafka.halted",] == 2


def test_the_newest_membership_of_a_topic_is_measured() -> None:
    """One that was lost no longer counts."""
    monitored = Monitored(segments=StandInMember(is_settled=False, silent=60.0, stuck=60.0))
    monitored.follow("segments", StandInMember(lags={0: 4, 3: 0}))
    monitored.monitor.update()
    assert monitored.progress.is_ready
    assert monitored.monitor.stuck_seconds() == 0.0
    assert monitored.meters.gauges["vqmon.kafka.lag", "segments", "0"] == 4
    assert monitored.meters.gauges["vqmon.kafka.lag", "segments", "3"] == 0


def test_lost_brokers_are_logged_once_and_once_more_when_they_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Not at each update meanwhile."""
    member = StandInMember()
    monitored = Monitored(segments=member)
    with caplog.at_level(logging.WARNING, "vqmon.fleet"):
        for silent in (0.0, 11.0, 12.0, 0.0, 1.0):
            member.silent = silent
            monitored.monitor.update()
    assert [record.getMessage() for record in caplog.records] == ["kafka.unreachable", "kafka.connected"]


def test_the_watchdog_limits_the_loop_the_polling_and_the_work() -> None:
    """Each limit reads what it is named after; a breach is counted by that name."""
    meters, seconds = GaugeMeters(), [100.0]
    progress = ProgressTracker(lambda: seconds[0])
    heartbeat = Heartbeat(lambda: seconds[0])
    monitor = _MembershipMonitor(progress, meters)
    monitor.follow("segments", StandInMember(stuck=2.0))  # type: ignore[arg-type]
    progress.begin()
    seconds[0] += 5.0
    watchdog = _watchdog(heartbeat, monitor, Service(meters=meters, progress=progress), max_poll_seconds=90.0)
    limits = {limit.name: (limit.read(), limit.max_seconds) for limit in watchdog._limits}
    assert limits == {"loop": (5.0, _MAX_LOOP_SECONDS), "poll": (2.0, 90.0), "work": (5.0, _MAX_WORK_SECONDS)}
    watchdog._on_breach("poll")
    assert meters.counted == [("vqmon.watchdog.breach", "poll")]
