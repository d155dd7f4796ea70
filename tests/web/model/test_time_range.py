"""Time ranges from URLs."""

from datetime import UTC, datetime, timedelta

import pytest

from vqmon.web.model.time_range import TimeRange, parse_time_range

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "query", [{}, {"last": "x"}, {"from": "x", "to": "y"}, {"from": "2026-11-21", "to": "2026-11-20"}]
)
def test_an_invalid_range_is_the_default_range(query: dict[str, str]) -> None:
    """Also when it ends before it begins."""
    time_range = parse_time_range(query, newest_at=NOW, now=NOW)
    assert (time_range.preset, time_range.ends_at) == ("recent", NOW)


def test_from_and_to_select_a_fixed_range() -> None:
    """It does not move on as segments arrive; a moment without a zone is UTC."""
    query = {"from": "2026-11-20T15:00:00+01:00", "to": "2026-11-20T14:10:00", "last": "7d"}
    time_range = parse_time_range(query, newest_at=None, now=NOW)
    assert not time_range.is_live
    assert time_range.begins_at == NOW - timedelta(minutes=30)
    assert time_range.length == time_range.max_length == timedelta(minutes=10)


@pytest.mark.parametrize("year", ["0001", "1899", "9000", "9999"])
def test_years_without_room_for_a_range_are_ignored(year: str) -> None:
    query = {"from": f"{year}-01-01", "to": f"{year}-01-02"}
    assert parse_time_range(query, newest_at=NOW, now=NOW).preset == "recent"


@pytest.mark.parametrize("newest_at", [NOW - timedelta(days=30), NOW + timedelta(minutes=1)])
def test_a_stream_whose_timeline_is_not_the_clock_is_shown_up_to_its_newest_segment(newest_at: datetime) -> None:
    time_range = parse_time_range({"last": "15m"}, newest_at=newest_at, now=NOW)
    assert time_range.begins_at < newest_at < time_range.ends_at
    assert time_range.length == timedelta(minutes=15)


def test_a_preset_ends_now_while_segments_arrive() -> None:
    assert parse_time_range({"last": "6h"}, newest_at=NOW - timedelta(hours=5), now=NOW).ends_at == NOW


@pytest.mark.parametrize(
    ("first_minutes_ago", "length_minutes"),
    [
        (40.0, 40.0),
        # at least two minutes, at most the preset
        (1.0, 2.0),
        (90.0, 60.0),
    ],
)
def test_the_default_range_begins_at_its_first_segment(first_minutes_ago: float, length_minutes: float) -> None:
    time_range = parse_time_range({}, newest_at=NOW, now=NOW)
    trimmed = time_range.without_empty_start(NOW - timedelta(minutes=first_minutes_ago))
    assert trimmed.length == timedelta(minutes=length_minutes)
    assert trimmed.max_length == timedelta(hours=1)


def test_a_chosen_range_keeps_its_empty_start() -> None:
    time_range = parse_time_range({"last": "1h"}, newest_at=NOW, now=NOW)
    assert time_range.without_empty_start(NOW) == time_range


@pytest.mark.parametrize("query", [{"last": "24h"}, {"from": "2026-11-20T14:00:00Z", "to": "2026-11-20T14:10:00Z"}])
def test_the_query_of_a_range_selects_the_same_range(query: dict[str, str]) -> None:
    time_range = parse_time_range(query, newest_at=NOW, now=NOW)
    assert parse_time_range(time_range.query, newest_at=NOW, now=NOW) == time_range


def test_a_range_without_a_preset_is_not_trimmed() -> None:
    time_range = TimeRange(preset=None, begins_at=NOW - timedelta(hours=1), ends_at=NOW)
    assert time_range.without_empty_start(NOW - timedelta(minutes=5)) == time_range
