"""Rollups equal the outcomes they contain, in any order; retention deletes in small transactions."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from statistics import fmean

import pytest

from tests import factories
from tests.factories import RENDITION, START
from tests.transport.history.samples import end_after, jpegs, open_alert, resolved_alert
from vqmon.core.timeline import TimeBucket
from vqmon.core.types import HeatMap, Outcome, QualityEvent, Rendition
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

LOW = replace(RENDITION, name="360p")
HOURS = 3
CHANCE = Random(3)


def noisy_outcome(number: int, rendition: Rendition) -> Outcome:
    """Noisy scores by two scorers, each thirteenth segment unscored."""
    if number % 13 == 0:
        return factories.failure(sequence=number, rendition=rendition)
    frames = [CHANCE.uniform(20, 90) for _ in range(4)]
    event = factories.event(sequence=number, score=sum(frames) / 4, frame_values=frames, rendition=rendition)
    other = replace(event.scores[0], scorer="other@2", value=CHANCE.uniform(0, 100), p5=CHANCE.uniform(0, 50))
    return replace(event, scores=(*event.scores, other) if number % 2 else event.scores)


OUTCOMES = [noisy_outcome(number, rendition) for number in range(HOURS * 900) for rendition in (RENDITION, LOW)]


@pytest.fixture
def filled(history_location: HistoryLocation):
    shuffled = Random(4).sample(OUTCOMES, len(OUTCOMES))
    with open_history(history_location, "write") as opened:
        for begin in range(0, len(shuffled), 400):
            opened.publish(shuffled[begin : begin + 400])
            if begin % 1200 == 0:
                opened.maintenance.roll_up()
        yield opened


def buckets_of(filled: History, *, count: int, scorer: str = "", hours: float = HOURS) -> Sequence[TimeBucket]:
    return filled.queries.buckets(
        "news-1", begins_at=START, ends_at=START + timedelta(hours=hours), count=count, scorer=scorer
    )


def expected(rendition: Rendition, count: int, scorer: str) -> list[tuple[float, ...]]:
    """Per part: scored, unscored, mean, lowest, mean of p5, counted one by one."""
    parts: list[tuple[float, ...]] = []
    width = timedelta(hours=HOURS) / count
    for part in range(count):
        within = [
            outcome
            for outcome in OUTCOMES
            if outcome.segment.rendition.name == rendition.name
            and part * width <= outcome.segment.starts_at - START < (part + 1) * width
        ]
        scores = [
            score
            for outcome in within
            if isinstance(outcome, QualityEvent)
            for score in outcome.scores
            if score.scorer == scorer
        ]
        unscored = sum(not isinstance(outcome, QualityEvent) for outcome in within)
        values = [score.value for score in scores]
        p5 = fmean(score.p5 for score in scores)
        parts.append((len(scores), unscored, *(round(figure, 6) for figure in (fmean(values), min(values), p5))))
    return parts


def totals_of(buckets: Sequence[TimeBucket], rendition: Rendition) -> list[tuple[float, ...]]:
    return [
        (
            bucket.scored,
            bucket.unscored,
            *(round(number, 6) for number in (bucket.mean, bucket.lowest, bucket.p5) if number is not None),
        )
        for bucket in buckets
        if bucket.rendition == rendition.name
    ]


def test_buckets_equal_counting_one_by_one(filled: History) -> None:
    """From minutes and from what is in none yet, and below a minute from the outcomes: exact for each scorer."""
    views = [(count, scorer) for count in (3, 12, 400) for scorer in ("lite@1", "other@2")]
    before = [buckets_of(filled, count=count, scorer=scorer) for count, scorer in views]
    for (count, scorer), buckets in zip(views, before, strict=True):
        for rendition in (RENDITION, LOW):
            if count == 400:
                (whole,) = expected(rendition, 1, scorer)
                assert sum(part[0] for part in totals_of(buckets, rendition)) == whole[0]
            else:
                assert totals_of(buckets, rendition) == expected(rendition, count, scorer)
    assert filled.maintenance.roll_up() > 0
    assert filled.maintenance.roll_up() == 0
    for (count, scorer), buckets in zip(views, before, strict=True):
        after = buckets_of(filled, count=count, scorer=scorer)
        assert [(bucket.starts_at, bucket.scored, bucket.unscored) for bucket in after] == [
            (bucket.starts_at, bucket.scored, bucket.unscored) for bucket in buckets
        ]
        assert [bucket.mean for bucket in after] == pytest.approx([bucket.mean for bucket in buckets])


def test_the_first_scorer_is_the_default(filled: History) -> None:
    """Without a name, the first scorer of the newest score."""
    assert [bucket.scored for bucket in buckets_of(filled, count=3)] == [
        bucket.scored for bucket in buckets_of(filled, count=3, scorer="lite@1")
    ]
    assert all(bucket.scored == 0 and bucket.unscored > 0 for bucket in buckets_of(filled, count=3, scorer="nobody@1"))
    assert filled.queries.buckets("nothing", begins_at=START, ends_at=START + timedelta(hours=1), count=3) == []


def test_rollups_outlive_outcomes(filled: History) -> None:
    """Retention makes minutes of what it takes out; they go when their own time comes."""
    before = buckets_of(filled, count=12)
    pruned = filled.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0)
    assert pruned.outcomes == len(OUTCOMES)
    assert list(filled.documents.outcomes_in_write_order()) == []
    after = buckets_of(filled, count=12, scorer="lite@1")
    assert [(bucket.rendition, bucket.starts_at, bucket.scored, bucket.unscored) for bucket in after] == [
        (bucket.rendition, bucket.starts_at, bucket.scored, bucket.unscored) for bucket in before
    ]
    hour = START + timedelta(hours=1)
    pruned = filled.maintenance.prune(before=START, keep_frames_of_segments=0, rollups_before=hour)
    assert pruned.rollups > 0
    assert min(bucket.starts_at for bucket in buckets_of(filled, count=12, scorer="lite@1")) == hour


def test_a_block_is_deleted_with_its_last_outcome(history_location: HistoryLocation) -> None:
    """What is left of a block can still be read, and nothing remains when all of it is gone."""
    outcomes = [factories.event(sequence=number, frame_values=(50.0, 60.0, 40.0, 50.0)) for number in range(300)]
    with open_history(history_location, "write") as history:
        history.publish(outcomes)
        for gone in (100, 250, 300):
            history.maintenance.prune(
                before=outcomes[0].observed_at + timedelta(seconds=4 * gone), keep_frames_of_segments=9
            )
            assert list(history.documents.outcomes_in_write_order()) == outcomes[gone:]
            assert all(history.queries.outcome(outcome.id) == outcome for outcome in outcomes[gone::40])
            assert history.queries.outcome(outcomes[gone - 1].id) is None
        assert history._database.query("SELECT count(*) FROM document")[0][0] == 0


def test_outcomes_that_are_in_no_rollup_are_kept(
    history_location: HistoryLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much at once is done in several goes, and no outcome goes before it is in a minute."""
    monkeypatch.setattr("vqmon.transport.history.maintenance.MAX_CHUNKS", 2)
    monkeypatch.setattr("vqmon.transport.history.maintenance.PRUNE_CHUNK_ROWS", 30)
    monkeypatch.setattr("vqmon.transport.history.maintenance.ROLLUP_CHUNK_ROWS", 20)
    events = [factories.event(sequence=number) for number in range(200)]
    with open_history(history_location, "write") as history:
        history.publish(events)
        gone = [
            history.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0).outcomes
            for _ in range(6)
        ]
        assert gone == [40, 40, 40, 40, 40, 0]
        assert sum(bucket.scored for bucket in buckets_of(history, count=3, scorer="lite@1")) == 200


def test_retention_deletes_old_outcomes_and_thumbnails(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than its keep is taken out in small steps; counts tell of all there ever was."""
    monkeypatch.setattr("vqmon.transport.history.maintenance.PRUNE_CHUNK_ROWS", 7)
    events = [factories.event(sequence=n) for n in range(40)]
    for event in events:
        history.publish([event], thumbnails=jpegs(event.id))
    pruned = history.maintenance.prune(before=events[20].observed_at, keep_frames_of_segments=5)
    assert (pruned.outcomes, pruned.thumbnails) == (20, 15)
    assert list(history.documents.outcomes_in_write_order()) == events[20:]
    assert [len(history.queries.thumbnails(event.id)) for event in events[20:]] == [0] * 15 + [4] * 5
    assert history.queries.counts().scored == 40
    history.maintenance.checkpoint()


def test_retention_deletes_old_resolved_alerts_with_their_evidence(history: History) -> None:
    """Those that ended long enough ago; open ones and those with a pending notification stay."""
    heat_map = HeatMap(measure="detail", frames=(b64encode(bytes([200]) * 144).decode(), "", "", ""))
    event = replace(factories.event(sequence=0), heat_maps=(heat_map,))
    ended, waiting, still_open = (open_alert(event, name=name, times=(0.0,)) for name in "abc")
    history.publish([event], alerts=[ended, still_open], thumbnails=jpegs(event.id))
    history.publish([], alerts=[waiting], queued_at=START)
    history.publish([], alerts=[resolved_alert(ended), resolved_alert(waiting)])
    month = START + timedelta(days=30)
    retention = {"before": START, "keep_frames_of_segments": 9}
    assert history.maintenance.prune(**retention, alerts_before=START).alerts == 0
    assert history.maintenance.prune(**retention, alerts_before=month).alerts == 1
    assert {alert.id for alert in history.queries.alerts()} == {waiting.id, still_open.id}
    assert [len(history.queries.evidence(alert.id)) for alert in (ended, waiting, still_open)] == [0, 1, 1]
    maps = [len(history.queries.evidence_heat_maps(alert.id)) for alert in (ended, waiting, still_open)]
    assert maps == [0, 1, 1]


def test_retention_deletes_an_end_with_the_outcomes_before_it(history_location: HistoryLocation) -> None:
    """An end that some outcome still stands before stays."""
    with open_history(history_location, "write") as history:
        for number in range(6):
            history.publish([factories.event(sequence=number)], ends=[end_after(number)])
        history.maintenance.prune(before=factories.event(sequence=4).observed_at, keep_frames_of_segments=0)
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=4),
            end_after(4),
            factories.event(sequence=5),
            end_after(5),
        ]
        history.maintenance.prune(before=factories.event(sequence=9).observed_at, keep_frames_of_segments=0)
        assert list(history.documents.judge_inputs()) == []
