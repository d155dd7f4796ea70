"""The watchdog: breaches, the grace, and an event loop that is stuck."""

import threading

from vqmon.telemetry.watchdog import EXIT_STUCK, Heartbeat, Watchdog, WatchdogLimit


class ManualClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def make(clock: ManualClock, reading: list[float]) -> tuple[Watchdog, list[str], list[int], list[float]]:
    """A watchdog over one reading, with its breaches, its exit statuses, and when it reported a healthy process."""
    breaches: list[str] = []
    exits: list[int] = []
    alive: list[float] = []
    watchdog = Watchdog(
        [WatchdogLimit(name="poll", read=lambda: reading[0], max_seconds=5.0)],
        on_healthy=lambda: alive.append(clock()),
        on_breach=breaches.append,
        grace_seconds=30.0,
        exit_process=exits.append,
        now=clock,
    )
    return watchdog, breaches, exits, alive


def test_a_healthy_process_is_reported_every_few_seconds() -> None:
    """No breach, no exit."""
    clock = ManualClock()
    watchdog, breaches, exits, alive = make(clock, [1.0])
    for second in range(12):
        clock.seconds = float(second)
        watchdog.check_limits()
    assert alive == [0.0, 5.0, 10.0]
    assert breaches == exits == []


def test_a_breach_is_reported_once_and_ends_the_process_after_the_grace() -> None:
    """While it lasts, the process is not reported healthy."""
    clock, reading = ManualClock(), [6.0]
    watchdog, breaches, exits, alive = make(clock, reading)
    for second in range(30):
        clock.seconds = float(second)
        watchdog.check_limits()
    assert breaches == ["poll"]
    assert exits == alive == []
    clock.seconds = 30.0
    watchdog.check_limits()
    assert exits == [EXIT_STUCK]


def test_a_breach_that_ends_within_the_grace_does_not_end_the_process() -> None:
    """The next breach has the whole grace again."""
    clock, reading = ManualClock(), [6.0]
    watchdog, breaches, exits, alive = make(clock, reading)
    watchdog.check_limits()
    reading[0], clock.seconds = 0.0, 20.0
    watchdog.check_limits()
    assert len(alive) == 1
    reading[0], clock.seconds = 9.0, 40.0
    watchdog.check_limits()
    assert breaches == ["poll", "poll"]
    assert exits == []


def test_a_stuck_event_loop_is_noticed_from_the_thread() -> None:
    """The main thread does nothing for it."""
    heartbeat, has_breached = Heartbeat(), threading.Event()
    with Watchdog(
        [WatchdogLimit(name="loop", read=heartbeat.age_seconds, max_seconds=0.05)],
        on_healthy=lambda: None,
        on_breach=lambda name: has_breached.set(),
        check_interval_seconds=0.01,
        exit_process=lambda status: None,
    ):
        assert has_breached.wait(timeout=10)
    assert heartbeat.age_seconds() > 0.05
