"""Outcomes come in the order in which their segments start, whenever and in whatever pieces they were published."""

import random

from tests import factories
from tests.factories import START
from vqmon.core.types import Outcome, Rendition
from vqmon.transport.history import documents
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history


def rendition(number: int) -> Rendition:
    return Rendition(stream_id=f"film-{number}", name="1080p")


def test_outcomes_by_time_are_the_published_ones_sorted_by_start(place: HistoryLocation) -> None:
    """Four renditions published one after the other in shuffled batches: one series by start, nothing lost."""
    chance = random.Random(7)
    every: list[Outcome] = []
    for which in range(4):
        for number in range(150):
            make = factories.failure if number % 17 == 3 else factories.event
            every.append(make(sequence=number, at_seconds=number * 4.0 + which * 0.01, rendition=rendition(which)))
    batches = [every[at : at + 37] for at in range(0, len(every), 37)]
    chance.shuffle(batches)
    with open_history(place, "write") as history:
        for batch in batches:
            history.publish(batch)
        found = list(history.documents.outcomes_by_start_time())
        some = list(
            history.documents.outcomes_by_start_time(
                select_rendition=lambda stream, _: stream == "film-2", since=START, until=every[40].segment.starts_at
            )
        )

    assert [it.segment.starts_at for it in found] == sorted(it.segment.starts_at for it in every)
    assert sorted(it.id for it in found) == sorted(it.id for it in every)
    assert {it.id: it for it in found}[every[5].id] == every[5]
    assert [it.id for it in some] == [it.id for it in every[300:340]]


def test_a_batch_smaller_than_the_history_gives_the_same(place: HistoryLocation) -> None:
    """More outcomes than are held at a time come in the same order."""
    every = [factories.event(sequence=number, rendition=rendition(number % 3)) for number in range(60)]
    with open_history(place, "write") as history:
        history.publish(every)
        whole = [it.id for it in history.documents.outcomes_by_start_time()]
        kept, documents.SORT_CHUNK_OUTCOMES = documents.SORT_CHUNK_OUTCOMES, 7
        try:
            pieces = [it.id for it in history.documents.outcomes_by_start_time()]
        finally:
            documents.SORT_CHUNK_OUTCOMES = kept

    assert pieces == whole == [it.id for it in every]
