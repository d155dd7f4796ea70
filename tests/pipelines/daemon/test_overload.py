"""The alert about vqmon itself: when it opens and resolves, what it says is short, and where it is said."""

from dataclasses import dataclass, replace

import pytest

from pipelines.daemon.overload import CHECK_SECONDS, OverloadMonitor
from tests.factories import START
from vqmon.core.types import Alert
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters


@dataclass
class Waiting:
    """A queue whose oldest segment waits so long."""

    oldest_seconds: float = 0.0
    count: int = 0


class Monitoring:
    """A monitor that is called as the daemon does."""

    def __init__(self, *, open_alert: Alert | None = None) -> None:
        self.progress = ProgressTracker(lambda: 0.0)
        self.seconds = 1000.0
        self.monitor = OverloadMonitor(
            meters=Meters(),
            progress=self.progress,
            now=lambda: START,
            monotonic=lambda: self.seconds,
            open_alert=open_alert,
        )
        self.queue = Waiting()
        self._watching = self.monitor.watching(self.queue)  # type: ignore[arg-type]
        self._watching.__enter__()

    def run(self, seconds: float, *, passed: int = 0) -> list[Alert]:
        """What is published meanwhile, while so many segments are passed between two checks."""
        alerts = []
        for _ in range(int(seconds / CHECK_SECONDS)):
            self.seconds += CHECK_SECONDS
            for _ in range(passed):
                self.monitor.record_passed()
            alerts += [alert] if (alert := self.monitor.check()) else []
        return alerts


def test_an_overload_that_lasts_is_one_alert_until_it_is_over() -> None:
    """Said by the probe meanwhile; a few segments passed at a start are none."""
    monitoring = Monitoring()
    assert monitoring.run(15, passed=2) == []
    assert monitoring.run(90) == []
    (alert,) = monitoring.run(300, passed=1)
    assert (alert.rule, alert.stream_id, alert.state) == ("overloaded", "vqmon", "open")
    assert monitoring.progress.warning.startswith("vqmon cannot keep up")
    assert monitoring.run(55) == []
    (resolved,) = monitoring.run(30)
    assert (resolved.id, resolved.state) == (alert.id, "resolved")
    assert monitoring.progress.warning == ""


def test_segments_that_wait_are_an_overload_before_any_is_lost() -> None:
    """Of long playlists."""
    monitoring = Monitoring()
    monitoring.queue.oldest_seconds = 59
    assert monitoring.run(60) == []
    monitoring.queue.oldest_seconds = 61
    (alert,) = monitoring.run(60)
    assert "the oldest waits for 61 s" in alert.summary


@pytest.mark.parametrize(
    ("stages", "short"),
    [
        ({"fetch": 1.0, "decode": 9.0, "score": 2.0, "history": 0.1}, "decode"),
        ({"fetch": 1.0, "decode": 2.0, "score": 1.5, "score_heavy": 4.0}, "score"),
        ({"fetch": 3.0, "fetch_reference": 3.0, "decode": 5.0}, "fetch"),
        ({"decode": 5.0, "history": 30.0}, "history"),
        ({}, "decode"),
    ],
)
def test_the_alert_names_the_stage_that_takes_longest(stages: dict[str, float], short: str) -> None:
    """With what to do about it; what was long ago does not count."""
    monitoring = Monitoring()
    monitoring.monitor.record_stage("fetch", 1e6)
    monitoring.run(70)
    for stage, seconds in stages.items():
        monitoring.monitor.record_stage(stage, seconds)
    (alert,) = monitoring.run(30, passed=1)
    assert alert.evidence.reading == f"{short} is short"
    assert f"{short} is short; 5 segments were passed" in alert.summary


def test_an_alert_of_an_earlier_run_that_is_found_late_is_gone_on_with_or_resolves() -> None:
    """Its history could not be opened at the start."""
    monitoring, later = Monitoring(), Monitoring()
    (own,) = monitoring.run(30, passed=1)
    later.monitor.take_over(own)
    assert [(alert.id, alert.state) for alert in later.run(70)] == [(own.id, "resolved")]
    monitoring.monitor.take_over(replace(own, id="e" * 32))
    assert [(alert.id, alert.state) for alert in monitoring.run(10, passed=1)] == [("e" * 32, "resolved")]


def test_an_alert_of_an_earlier_run_resolves_when_this_one_keeps_up() -> None:
    """And is not opened a second time when it does not."""
    (left,) = Monitoring().run(30, passed=1)
    assert [alert.state for alert in Monitoring(open_alert=left).run(70)] == ["resolved"]
    assert Monitoring(open_alert=left).run(70, passed=1) == []
