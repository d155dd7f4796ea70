"""Records of topics on their way into a history."""

import pytest

from tests import factories
from tests.transport.history.samples import end_after
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.errors import FencedError
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.transport.history.ingest import RecordBatch, RecordKind, parse_record_batches
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import encode_control_message


def test_ingested_records_keep_their_order(history_location: HistoryLocation) -> None:
    """Outcomes, ends and markers of one batch, some of them twice."""
    with open_history(history_location, "record") as history:
        items = [
            factories.event(sequence=0),
            end_after(1),
            factories.event(sequence=1),
            factories.event(sequence=0),
            end_after(1),
            end_after(2),
            factories.event(sequence=2),
        ]
        values = [
            encode_control_message(item, source="test")
            if isinstance(item, StreamEnd)
            else cloudevents.encode_outcome(item, source="test")
            for item in items
        ]
        records = list(enumerate([*values, b"{}"]))
        taken = parse_record_batches(
            [
                RecordBatch(
                    topic="quality", partition=0, kind="outcome", previous_offset=None, next_offset=6, records=records
                )
            ]
        )
        assert [why for _, why in taken.unreadable] != []
        assert len(taken.unreadable) == 1
        history.ingest(taken)
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=0),
            end_after(1),
            factories.event(sequence=1),
            end_after(2),
            factories.event(sequence=2),
        ]


def batch(*values: bytes | None, kind: RecordKind = "outcome", previous_offset: int | None = None) -> RecordBatch:
    begin = previous_offset or 0
    return RecordBatch(
        topic="quality",
        partition=3,
        kind=kind,
        previous_offset=previous_offset,
        next_offset=begin + len(values),
        records=list(enumerate(values, begin)),
    )


def test_an_unreadable_record_is_listed_and_passed() -> None:
    """With where it is and why; the offset moves beyond it."""
    event = cloudevents.encode_outcome(factories.event(sequence=0), source="test")
    parsed = parse_record_batches([batch(None, b"{}", event)])
    assert [location for location, _ in parsed.unreadable] == ["quality/3/0", "quality/3/1"]
    assert [outcome.id for outcome in parsed.outcomes] == [factories.event(sequence=0).id]
    assert parsed.documents == {parsed.outcomes[0].id: event}
    assert [(commit.previous_offset, commit.next_offset) for commit in parsed.offset_commits] == [(None, 3)]


def test_an_outcome_among_alerts_is_unreadable() -> None:
    """Each topic has its kind of records."""
    event = cloudevents.encode_outcome(factories.event(sequence=0), source="test")
    parsed = parse_record_batches([batch(event, kind="alert")])
    assert (len(parsed.unreadable), parsed.outcomes, parsed.alerts) == (1, [], [])


def test_records_that_another_recorder_has_ingested_are_fenced(history_location: HistoryLocation) -> None:
    """Nothing of them is written, and the offsets stay those of the other recorder."""
    first, second = (cloudevents.encode_outcome(factories.event(sequence=n), source="test") for n in range(2))
    with open_history(history_location, "record") as history:
        history.ingest(parse_record_batches([batch(first)]))
        with pytest.raises(FencedError, match="quality/3: the history holds offset 1, not None"):
            history.ingest(parse_record_batches([batch(first, second)]))
        assert history.queries.next_offsets("quality") == {3: 1}
        assert history.queries.counts().scored == 1
        history.ingest(parse_record_batches([batch(second, previous_offset=1)]))
        assert history.queries.next_offsets("quality") == {3: 2}
        assert history.queries.counts().scored == 2
