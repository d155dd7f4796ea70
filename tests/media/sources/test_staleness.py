"""When a lane without new segments reports a failure."""

from datetime import timedelta

from tests.media.sources.rig import MAIN, NOON
from vqmon.media.sources.staleness import StalenessMonitor


def test_the_staleness_setting_replaces_the_default() -> None:
    """stale_after_seconds overrules three target durations."""
    silence = StalenessMonitor(MAIN, "http://h/a.m3u8?token=1", stale_after_seconds=30)
    silence.record_progress(0.0)
    moments = [NOON + timedelta(seconds=seconds) for seconds in range(0, 100, 10)]
    messages = [
        silence.check(moment, seconds=10.0 * number, target_seconds=4, error=None, sequence=7)
        for number, moment in enumerate(moments)
    ]
    assert [moments[index] for index, failure in enumerate(messages) if failure] == [
        NOON + timedelta(seconds=seconds) for seconds in (30, 60, 90)
    ]
    assert messages[3] is not None
    assert messages[3].segment.url == "http://h/a.m3u8;at=20260101T120030.000000Z"
