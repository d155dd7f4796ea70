"""Minutes made of outcomes: the same numbers as the outcomes themselves, in any order, also when those are gone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from statistics import fmean

import pytest

from tests import factories
from tests.factories import RENDITION, START
from vqmon.core.timeline import TimeBucket
from vqmon.core.types import Outcome, QualityEvent, Rendition
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

LOW = replace(RENDITION, name="360p")
HOURS = 3
CHANCE = Random(3)


def look(number: int, rendition: Rendition) -> Outcome:
    """Noisy scores by two scorers, each thirteenth segment unscored."""
    if number % 13 == 0:
        return factories.failure(sequence=number, rendition=rendition)
    frames = [CHANCE.uniform(20, 90) for _ in range(4)]
    event = factories.event(sequence=number, score=sum(frames) / 4, frame_values=frames, rendition=rendition)
    other = replace(event.scores[0], scorer="other@2", value=CHANCE.uniform(0, 100), p5=CHANCE.uniform(0, 50))
    return replace(event, scores=(*event.scores, other) if number % 2 else event.scores)


OUTCOMES = [look(number, rendition) for number in range(HOURS * 900) for rendition in (RENDITION, LOW)]


@pytest.fixture
def history(place: HistoryLocation):
    shuffled = Random(4).sample(OUTCOMES, len(OUTCOMES))
    with open_history(place, "write") as opened:
        for begin in range(0, len(shuffled), 400):
            opened.publish(shuffled[begin : begin + 400])
            if begin % 1200 == 0:
                opened.maintenance.roll_up()
        yield opened


def asked(history: History, *, count: int, scorer: str = "", hours: float = HOURS) -> Sequence[TimeBucket]:
    return history.queries.buckets(
        "news-1", begins_at=START, ends_at=START + timedelta(hours=hours), count=count, scorer=scorer
    )


def expected(rendition: Rendition, count: int, scorer: str) -> list[tuple[float, ...]]:
    """Per part: scored, unscored, mean, lowest, mean of p5, counted one by one."""
    parts: list[tuple[float, ...]] = []
    width = timedelta(hours=HOURS) / count
    for part in range(count):
        within = [
            it
            for it in OUTCOMES
            if it.segment.rendition.name == rendition.name
            and part * width <= it.segment.starts_at - START < (part + 1) * width
        ]
        scores = [
            score for it in within if isinstance(it, QualityEvent) for score in it.scores if score.scorer == scorer
        ]
        unscored = sum(not isinstance(it, QualityEvent) for it in within)
        values = [score.value for score in scores]
        p5 = fmean(score.p5 for score in scores)
        parts.append((len(scores), unscored, *(round(it, 6) for it in (fmean(values), min(values), p5))))
    return parts


def told(buckets: Sequence[TimeBucket], rendition: Rendition) -> list[tuple[float, ...]]:
    return [
        (it.scored, it.unscored, *(round(number, 6) for number in (it.mean, it.lowest, it.p5) if number is not None))
        for it in buckets
        if it.rendition == rendition.name
    ]


@pytest.mark.parametrize("scorer", ["lite@1", "other@2"])
@pytest.mark.parametrize("count", [3, 12, 400])
def test_parts_are_what_counting_gives(history: History, count: int, scorer: str) -> None:
    """From minutes and from what is in none yet, and below a minute from the outcomes: exact for each scorer."""
    for rendition in (RENDITION, LOW):
        if count == 400:
            assert sum(part[0] for part in told(asked(history, count=count, scorer=scorer), rendition)) == sum(
                part[0] for part in expected(rendition, 1, scorer)
            )
        else:
            assert told(asked(history, count=count, scorer=scorer), rendition) == expected(rendition, count, scorer)
    before = asked(history, count=count, scorer=scorer)
    assert history.maintenance.roll_up() > 0
    assert history.maintenance.roll_up() == 0
    after = asked(history, count=count, scorer=scorer)
    assert [(it.starts_at, it.scored, it.unscored) for it in after] == [
        (it.starts_at, it.scored, it.unscored) for it in before
    ]
    assert [it.mean for it in after] == pytest.approx([it.mean for it in before])


def test_the_first_scorer_is_the_default(history: History) -> None:
    """Without a name, the first scorer of the newest score."""
    assert [it.scored for it in asked(history, count=3)] == [
        it.scored for it in asked(history, count=3, scorer="lite@1")
    ]
    assert all(it.scored == 0 and it.unscored > 0 for it in asked(history, count=3, scorer="nobody@1"))
    assert history.queries.buckets("nothing", begins_at=START, ends_at=START + timedelta(hours=1), count=3) == []


def test_minutes_outlive_outcomes(history: History) -> None:
    """Retention makes minutes of what it takes out; they go when their own time comes."""
    before = asked(history, count=12)
    pruned = history.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0)
    assert pruned.outcomes == len(OUTCOMES)
    assert list(history.documents.outcomes_in_write_order()) == []
    after = asked(history, count=12, scorer="lite@1")
    assert [(it.rendition, it.starts_at, it.scored, it.unscored) for it in after] == [
        (it.rendition, it.starts_at, it.scored, it.unscored) for it in before
    ]
    hour = START + timedelta(hours=1)
    pruned = history.maintenance.prune(before=START, keep_frames_of_segments=0, rollups_before=hour)
    assert pruned.rollups > 0
    assert min(it.starts_at for it in asked(history, count=12, scorer="lite@1")) == hour


def test_blocks_go_with_their_last_outcome(place: HistoryLocation) -> None:
    """What is left of a block can still be read, and nothing remains when all of it is gone."""
    outcomes = [factories.event(sequence=number, frame_values=(50.0, 60.0, 40.0, 50.0)) for number in range(300)]
    with open_history(place, "write") as history:
        history.publish(outcomes)
        for gone in (100, 250, 300):
            history.maintenance.prune(
                before=outcomes[0].observed_at + timedelta(seconds=4 * gone), keep_frames_of_segments=9
            )
            assert list(history.documents.outcomes_in_write_order()) == outcomes[gone:]
            assert all(history.queries.outcome(it.id) == it for it in outcomes[gone::40])
            assert history.queries.outcome(outcomes[gone - 1].id) is None
        assert history._database.query("SELECT count(*) FROM document")[0][0] == 0


def test_what_is_in_no_minute_yet_stays(place: HistoryLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Much at once is done in several goes, and no outcome goes before it is in a minute."""
    monkeypatch.setattr("vqmon.transport.history.maintenance.MAX_CHUNKS", 2)
    monkeypatch.setattr("vqmon.transport.history.maintenance.PRUNE_CHUNK_ROWS", 30)
    monkeypatch.setattr("vqmon.transport.history.maintenance.ROLLUP_CHUNK_ROWS", 20)
    events = [factories.event(sequence=number) for number in range(200)]
    with open_history(place, "write") as history:
        history.publish(events)
        gone = [
            history.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0).outcomes
            for _ in range(6)
        ]
        assert gone == [40, 40, 40, 40, 40, 0]
        assert sum(it.scored for it in asked(history, count=3, scorer="lite@1")) == 200
