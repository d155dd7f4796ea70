"""Types of the Kafka interface: timestamps that producers invent, and the names of topics."""

from dataclasses import astuple
from datetime import UTC, datetime

import pytest

from vqmon.transport.kafka.records import Record, TopicNames


@pytest.mark.parametrize(
    ("timestamp_ms", "at"),
    [
        (1_767_225_600_500, datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        (-1, datetime(1970, 1, 1, tzinfo=UTC)),
        (2**62, datetime(3000, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_timestamp_is_clamped_to_what_datetime_can_hold(timestamp_ms: int, at: datetime) -> None:
    """A producer may send any 64-bit number."""
    assert Record(0, 0, None, None, (), timestamp_ms).at == at


def test_topic_names_differ_and_name_the_group_where_state_belongs_to_it() -> None:
    """Two groups share inputs and outputs, but neither states nor gathered outcomes."""
    first, second = TopicNames.from_prefix("tv", "a"), TopicNames.from_prefix("tv", "b")
    assert len(set(astuple(first))) == 8
    assert set(astuple(first)) & set(astuple(second)) == {
        "tv.segments.v1",
        "tv.quality.v1",
        "tv.control.v1",
        "tv.alerts.v1",
        "tv.rejected.v1",
    }
    assert (first.gathered, first.gathered_state) == ("tv.gathered.a.v2", "tv.gathered-state.a.v2")
