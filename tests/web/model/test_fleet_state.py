"""The cache of the fleet's state."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from vqmon.core.timeline import RenditionState
from vqmon.core.types import Alert
from vqmon.web.model.fleet_state import FleetState

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


class CountingHistory:
    """A history of one rendition that counts its queries."""

    def __init__(self) -> None:
        self.number = 1
        self.rendition_queries = 0
        self.alert_queries = 0

    def tip(self) -> int:
        return self.number

    def renditions(self, *, stream_id: str | None = None, trend: int) -> Sequence[RenditionState]:
        self.rendition_queries += 1
        return [
            RenditionState(
                stream_id="news",
                rendition="1080p",
                width=1920,
                height=1080,
                bitrate_kbps=5000.0,
                last_event_id="0" * 32,
                last_starts_at=NOW - timedelta(seconds=10),
                last_observed_at=NOW - timedelta(seconds=5),
                last_duration_seconds=4.0,
                last_reason=None,
                last_scores={"lite@1": 80.0},
                trend=(80.0,),
            )
        ]

    def alerts(self, *, open_only: bool, limit: int) -> Sequence[Alert]:
        assert open_only
        self.alert_queries += 1
        return []


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def fleet_state(history: CountingHistory, clock: Clock) -> FleetState:
    return FleetState(history, now=clock)  # type: ignore[arg-type]


def test_requests_of_the_same_moment_share_one_query() -> None:
    history = CountingHistory()
    fleet = fleet_state(history, Clock())
    for _ in range(3):
        assert [row.state for row in fleet.rows()] == ["good"]
        assert fleet.open_alerts() == []
    assert (history.rendition_queries, history.alert_queries) == (1, 1)


def test_a_write_invalidates_rows_and_alerts() -> None:
    history = CountingHistory()
    fleet = fleet_state(history, Clock())
    fleet.rows()
    history.number += 1
    fleet.rows()
    assert (history.rendition_queries, history.alert_queries) == (2, 2)


def test_a_rendition_becomes_stale_without_a_write() -> None:
    """Rows are computed again after a second; the open alerts, which do not depend on the clock, are not."""
    history, clock = CountingHistory(), Clock()
    fleet = fleet_state(history, clock)
    fleet.rows()
    clock.now += timedelta(seconds=0.9)
    fleet.rows()
    assert history.rendition_queries == 1
    clock.now += timedelta(seconds=60)
    assert [row.state for row in fleet.rows()] == ["stale"]
    assert (history.rendition_queries, history.alert_queries) == (2, 1)


def test_a_clock_that_is_set_back_does_not_keep_old_rows() -> None:
    history, clock = CountingHistory(), Clock()
    fleet = fleet_state(history, clock)
    fleet.rows()
    clock.now -= timedelta(hours=1)
    fleet.rows()
    assert history.rendition_queries == 2
