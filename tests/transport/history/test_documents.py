"""Blocks of events come out byte for byte; whole events in write order, in judge order and by start time."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.factories import PROVENANCE, START
from tests.transport.history.samples import SPORTS, end_after
from vqmon.core.types import Outcome, Rendition
from vqmon.errors import StoreError
from vqmon.transport.history import documents as documents_module
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.documents import pack_block, unpack_block
from vqmon.transport.history.history import History, open_history
from vqmon.transport.wire import cloudevents

EVENTS = [
    cloudevents.encode_outcome(outcome, source="vqmon:test")
    for outcome in (
        factories.event(sequence=0),
        factories.failure(sequence=1),
        factories.event(sequence=2, score=33.3),
        factories.failure(sequence=3),
    )
]
PICTURES = st.one_of(st.text("0123456789abcdefABCDEF", max_size=12), st.text(max_size=4))
ODD = st.builds(
    lambda edges, more: json.dumps({"edges": edges, "more": more}, separators=(",", ":")).encode(),
    st.lists(PICTURES, max_size=3),
    st.one_of(st.text(max_size=9), st.fixed_dictionaries({"edges": st.lists(PICTURES, max_size=2)})),
)


@given(
    documents=st.lists(st.one_of(st.sampled_from(EVENTS), ODD), min_size=1, max_size=70),
    dictionary=st.sampled_from([None, *EVENTS]),
)
def test_documents_come_back_byte_for_byte(documents: list[bytes], dictionary: bytes | None) -> None:
    """Events, failures, and JSON that looks nearly like an event."""
    body, pictures = pack_block(documents, dictionary)
    assert list(unpack_block(body, pictures, dictionary)) == documents


def test_fingerprints_take_half_their_size() -> None:
    """An event in a block takes little more than the bytes of its two fingerprints."""
    events = [cloudevents.encode_outcome(factories.event(sequence=number), source="vqmon:test") for number in range(64)]
    body, pictures = pack_block(events, events[0])
    assert len(pictures) == 64 * (4 + 2 * 576)
    assert len(body) < 64 * 400


def test_a_damaged_block_is_an_error() -> None:
    """Bits that rot on the disk are an error with a name, no wrong event."""
    body, pictures = pack_block(EVENTS, None)
    with pytest.raises(StoreError, match="damaged"):
        unpack_block(body[:20] + b"\0\0\0\0" + body[24:], pictures, None)


def test_outcomes_of_a_stream_and_a_range(history: History) -> None:
    """Stream, rendition and range of starting moments, in the order of publishing."""
    outcomes = [
        outcome
        for n in range(5)
        for outcome in (factories.event(sequence=n), factories.event(sequence=n, rendition=SPORTS))
    ]
    history.publish(outcomes)
    chosen = history.documents.outcomes_in_write_order(
        stream_id="sports", since=START + timedelta(seconds=4), until=START + timedelta(seconds=12)
    )
    assert [outcome.segment.sequence for outcome in chosen] == [1, 2]
    assert list(history.documents.outcomes_in_write_order(stream_id="none")) == []
    assert len(list(history.documents.outcomes_in_write_order(rendition="1080p"))) == 5


def test_events_of_several_provenances_are_unpacked(history: History) -> None:
    """Each provenance has its own dictionary; failures need none."""
    other = replace(PROVENANCE, versions={"vqmon": "9"})
    outcomes = [
        factories.event(sequence=0),
        replace(factories.event(sequence=1), provenance=other),
        factories.failure(sequence=2),
        factories.event(sequence=3),
    ]
    for outcome in outcomes:
        history.publish([outcome])
    assert list(history.documents.outcomes_in_write_order()) == outcomes


def rendition(number: int) -> Rendition:
    return Rendition(stream_id=f"film-{number}", name="1080p")


def test_outcomes_by_time_are_the_published_ones_sorted_by_start(history_location: HistoryLocation) -> None:
    """Four renditions published one after the other in shuffled batches: one series by start, nothing lost."""
    chance = random.Random(7)
    every: list[Outcome] = []
    for which in range(4):
        for number in range(150):
            make = factories.failure if number % 17 == 3 else factories.event
            every.append(make(sequence=number, at_seconds=number * 4.0 + which * 0.01, rendition=rendition(which)))
    batches = [every[at : at + 37] for at in range(0, len(every), 37)]
    chance.shuffle(batches)
    with open_history(history_location, "write") as history:
        for batch in batches:
            history.publish(batch)
        outcomes = list(history.documents.outcomes_by_start_time())
        selected = list(
            history.documents.outcomes_by_start_time(
                select_rendition=lambda stream, _: stream == "film-2", since=START, until=every[40].segment.starts_at
            )
        )

    assert [outcome.segment.starts_at for outcome in outcomes] == sorted(outcome.segment.starts_at for outcome in every)
    assert sorted(outcome.id for outcome in outcomes) == sorted(outcome.id for outcome in every)
    assert {outcome.id: outcome for outcome in outcomes}[every[5].id] == every[5]
    assert [outcome.id for outcome in selected] == [outcome.id for outcome in every[300:340]]


def test_sorting_in_small_chunks_gives_the_same_order(history_location: HistoryLocation) -> None:
    """More outcomes than are held at a time come in the same order."""
    every = [factories.event(sequence=number, rendition=rendition(number % 3)) for number in range(60)]
    with open_history(history_location, "write") as history:
        history.publish(every)
        ids_at_once = [outcome.id for outcome in history.documents.outcomes_by_start_time()]
        chunk_outcomes, documents_module.SORT_CHUNK_OUTCOMES = documents_module.SORT_CHUNK_OUTCOMES, 7
        try:
            ids_by_chunks = [outcome.id for outcome in history.documents.outcomes_by_start_time()]
        finally:
            documents_module.SORT_CHUNK_OUTCOMES = chunk_outcomes

    assert ids_by_chunks == ids_at_once == [outcome.id for outcome in every]


def test_ends_are_in_write_order_among_outcomes(history_location: HistoryLocation) -> None:
    """Behind the outcomes of their transaction, once, in one order with all others; also for one stream and a span."""
    with open_history(history_location, "write") as history:
        history.publish([factories.event(sequence=0), factories.event(sequence=1)], ends=[end_after(2), end_after(2)])
        history.publish([], ends=[end_after(2)])
        history.publish(
            [factories.event(sequence=2), factories.event(sequence=0, rendition=SPORTS)], ends=[end_after(1, "sports")]
        )
        history.publish([factories.event(sequence=3)])
        everything = [
            factories.event(sequence=0),
            factories.event(sequence=1),
            end_after(2),
            factories.event(sequence=2),
            factories.event(sequence=0, rendition=SPORTS),
            end_after(1, "sports"),
        ]
        assert list(history.documents.judge_inputs()) == [*everything, factories.event(sequence=3)]
        assert list(history.documents.judge_inputs(stream_id="sports")) == [
            factories.event(sequence=0, rendition=SPORTS),
            end_after(1, "sports"),
        ]
        span = {"since": START + timedelta(seconds=4), "until": START + timedelta(seconds=8)}
        assert list(history.documents.judge_inputs(**span)) == [
            factories.event(sequence=1),
            end_after(2),
            end_after(1, "sports"),
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
