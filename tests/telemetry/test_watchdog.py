"""The watchdog: when it speaks, when it gives up, and that a stuck loop is seen from outside the loop."""

import threading

from vqmon.telemetry.watchdog import EXIT_STUCK, Heartbeat, Watchdog, WatchdogLimit


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def make(clock: Clock, reading: list[float]) -> tuple[Watchdog, list[str], list[int], list[float]]:
    """A watchdog over one reading, and what it told: breaches, exits, signs of life."""
    breaches: list[str] = []
    exits: list[int] = []
    alive: list[float] = []
    dog = Watchdog(
        [WatchdogLimit(name="poll", read=lambda: reading[0], max_seconds=5.0)],
        on_healthy=lambda: alive.append(clock()),
        on_breach=breaches.append,
        grace_seconds=30.0,
        exit_process=exits.append,
        now=clock,
    )
    return dog, breaches, exits, alive


def test_all_well_gives_signs_of_life() -> None:
    """While nothing is stuck it says so every few seconds."""
    clock = Clock()
    dog, breaches, exits, alive = make(clock, [1.0])
    for second in range(12):
        clock.seconds = float(second)
        dog.check_limits()
    assert alive == [0.0, 5.0, 10.0]
    assert breaches == exits == []


def test_a_breach_is_told_once_and_given_up_on_when_it_lasts() -> None:
    """No sign of life while stuck; after the grace the process is to be ended."""
    clock, reading = Clock(), [6.0]
    dog, breaches, exits, alive = make(clock, reading)
    for second in range(30):
        clock.seconds = float(second)
        dog.check_limits()
    assert breaches == ["poll"]
    assert exits == alive == []
    clock.seconds = 30.0
    dog.check_limits()
    assert exits == [EXIT_STUCK]


def test_a_breach_that_ends_in_time_is_forgiven() -> None:
    """What recovers within the grace goes on as before, and the grace begins anew."""
    clock, reading = Clock(), [6.0]
    dog, breaches, exits, alive = make(clock, reading)
    dog.check_limits()
    reading[0], clock.seconds = 0.0, 20.0
    dog.check_limits()
    assert len(alive) == 1
    reading[0], clock.seconds = 9.0, 40.0
    dog.check_limits()
    assert breaches == ["poll", "poll"]
    assert exits == []


def test_a_stuck_loop_is_seen_from_its_own_thread() -> None:
    """The thread looks while the main thread does nothing for it."""
    beat, told = Heartbeat(), threading.Event()
    with Watchdog(
        [WatchdogLimit(name="loop", read=beat.age_seconds, max_seconds=0.05)],
        on_healthy=lambda: None,
        on_breach=lambda name: told.set(),
        check_interval_seconds=0.01,
        exit_process=lambda status: None,
    ):
        assert told.wait(timeout=10)
    assert beat.age_seconds() > 0.05
