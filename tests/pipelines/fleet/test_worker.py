"""What the watchdog of a worker watches, and when a worker collects garbage."""

import gc

from pipelines.fleet.monitoring import LagTrend, MembershipMonitor
from pipelines.fleet.worker import _MAX_LOOP_SECONDS, _MAX_WORK_SECONDS, _rare_collections, _watchdog
from pipelines.service.lifecycle import Service
from tests.pipelines.fleet.test_monitoring import GaugeMeters, StandInMember
from vqmon.telemetry.bottleneck import Bottleneck
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.watchdog import Heartbeat


def test_the_watchdog_limits_the_loop_the_polling_and_the_work() -> None:
    """Each limit reads what it is named after; a breach is counted by that name."""
    meters, seconds = GaugeMeters(), [100.0]
    progress = ProgressTracker(lambda: seconds[0])
    heartbeat = Heartbeat(lambda: seconds[0])
    monitor = MembershipMonitor(
        progress,
        meters,
        stalled_seconds=60.0,
        trend=LagTrend(slots=1),
        bottleneck=Bottleneck(lambda: 0.0),
        segments_topic="in",
    )
    monitor.follow("segments", StandInMember(stuck=2.0))  # type: ignore[arg-type]
    progress.begin()
    seconds[0] += 5.0
    watchdog = _watchdog(heartbeat, monitor, Service(meters=meters, progress=progress), max_poll_seconds=90.0)
    limits = {limit.name: (limit.read(), limit.max_seconds) for limit in watchdog._limits}
    assert limits == {"loop": (5.0, _MAX_LOOP_SECONDS), "poll": (2.0, 90.0), "work": (5.0, _MAX_WORK_SECONDS)}
    # each begins at 0
    assert meters.counted == [("vqmon.watchdog.breach", name) for name in ("loop", "poll", "work")]
    watchdog._on_breach("poll")
    assert meters.counted[3:] == [("vqmon.watchdog.breach", "poll")]


def test_a_worker_collects_garbage_seldom_and_as_before_afterwards() -> None:
    """What was loaded before is left out of collections while the worker works."""
    thresholds, frozen_count = gc.get_threshold(), gc.get_freeze_count()
    with _rare_collections():
        assert gc.get_threshold() == (20_000, *thresholds[1:])
        assert gc.get_freeze_count() > frozen_count + 10_000
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == frozen_count
