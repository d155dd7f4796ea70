"""Ends of renditions in a history: where they stand among the outcomes, and those that wait to be judged."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import factories
from tests.factories import RENDITION, START
from tests.postgres import PostgresServer
from vqmon.core.alerts.annotations import StreamEnd, stream_end
from vqmon.errors import NoHistoryError, StoreError
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

SPORTS = replace(RENDITION, stream_id="sports")


def ended(number: int, stream_id: str = "news-1") -> StreamEnd:
    at = START + timedelta(seconds=4 * number)
    return stream_end(stream_id, "1080p", at, announced_at=at)


def test_ends_stand_where_they_were_written(place: HistoryLocation) -> None:
    """Behind the outcomes of their transaction, once, in one order with all others; also for one stream and a span."""
    with open_history(place, "write") as history:
        history.publish([factories.event(sequence=0), factories.event(sequence=1)], ends=[ended(2), ended(2)])
        history.publish([], ends=[ended(2)])
        history.publish(
            [factories.event(sequence=2), factories.event(sequence=0, rendition=SPORTS)], ends=[ended(1, "sports")]
        )
        history.publish([factories.event(sequence=3)])
        everything = [
            factories.event(sequence=0),
            factories.event(sequence=1),
            ended(2),
            factories.event(sequence=2),
            factories.event(sequence=0, rendition=SPORTS),
            ended(1, "sports"),
        ]
        assert list(history.documents.judge_inputs()) == [*everything, factories.event(sequence=3)]
        assert list(history.documents.judge_inputs(stream_id="sports")) == [
            factories.event(sequence=0, rendition=SPORTS),
            ended(1, "sports"),
        ]
        span = {"since": START + timedelta(seconds=4), "until": START + timedelta(seconds=8)}
        assert list(history.documents.judge_inputs(**span)) == [
            factories.event(sequence=1),
            ended(2),
            ended(1, "sports"),
        ]
        assert list(history.documents.outcomes_in_write_order()) == [
            factories.event(sequence=0),
            factories.event(sequence=1),
            factories.event(sequence=2),
            everything[4],
            factories.event(sequence=3),
        ]
        assert history.queries.counts().scored == 5
        tip = history.queries.tip()
        assert [point.event_id for point in history.queries.changes_since(0).points] == [
            outcome.id for outcome in history.documents.outcomes_in_write_order()
        ]
        assert history.queries.changes_since(tip).is_complete


def test_an_end_that_was_said_waits_beside_the_writer_until_it_is_judged(place: HistoryLocation) -> None:
    """Then it has its place, and waits no more; said again it stays where it is."""
    with open_history(place, "write") as history:
        history.publish([factories.event(sequence=0)])
        with open_history(place, "annotate") as beside:
            beside.add_end(ended(9))
            beside.add_end(ended(9))
        assert list(history.queries.unjudged_ends()) == [ended(9)]
        assert list(history.documents.judge_inputs()) == [factories.event(sequence=0)]
        judged = replace(ended(9), at=START + timedelta(seconds=4))
        history.publish([], ends=[judged])
        history.publish([factories.event(sequence=1)])
        history.add_end(ended(9))
        assert list(history.queries.unjudged_ends()) == []
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=0),
            judged,
            factories.event(sequence=1),
        ]


def test_ends_go_with_the_outcomes_before_them(place: HistoryLocation) -> None:
    """An end that some outcome still stands before stays."""
    with open_history(place, "write") as history:
        for number in range(6):
            history.publish([factories.event(sequence=number)], ends=[ended(number)])
        history.maintenance.prune(before=factories.event(sequence=4).observed_at, keep_frames_of_segments=0)
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=4),
            ended(4),
            factories.event(sequence=5),
            ended(5),
        ]
        history.maintenance.prune(before=factories.event(sequence=9).observed_at, keep_frames_of_segments=0)
        assert list(history.documents.judge_inputs()) == []


def make_older(place: HistoryLocation, server: PostgresServer | None) -> None:
    """As the version before left it."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as older:
            older.executescript("DROP TABLE ended; PRAGMA user_version = 1;")
        return
    assert server is not None
    database = urlsplit(place.url).path.lstrip("/")
    server.run_sql("DROP TABLE vqmon.ended", database)
    server.run_sql("UPDATE vqmon.about SET version = 1", database)


def test_a_history_of_the_version_before_gets_the_table(place: HistoryLocation, request: pytest.FixtureRequest) -> None:
    """With all that is in it; to be read it must have been opened by a writer once."""
    with open_history(place, "write") as history:
        history.publish([factories.event(sequence=0)])
    make_older(place, None if isinstance(place, Path) else request.getfixturevalue("postgres"))
    with pytest.raises((StoreError, NoHistoryError)), open_history(place, "read"):
        pass
    with open_history(place, "write") as history:
        history.publish([factories.event(sequence=1)], ends=[ended(2)])
    with open_history(place, "read") as history:
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=0),
            factories.event(sequence=1),
            ended(2),
        ]
