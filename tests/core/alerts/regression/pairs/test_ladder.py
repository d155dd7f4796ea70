"""Alignment of the renditions of a stream: what waits, for whom, and for how long."""

from dataclasses import replace
from datetime import timedelta
from math import log

import pytest

from tests.core.alerts.regression.faulty_streams import (
    DROP,
    LOW,
    MID,
    PAIR,
    TOP,
    judged,
    ladder,
    mixed,
    noise,
    planted,
    series,
)
from tests.core.alerts.stored_states import copied
from tests.factories import START
from vqmon.core.alerts.annotations import stream_end
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.state import LadderRendition
from vqmon.core.types import Outcome, QualityEvent
from vqmon.settings.rules_file import parse_rules


def test_segments_of_a_pair_may_begin_a_little_apart() -> None:
    """Up to half a second they show the same; more is no pair."""
    _, top, mid = ladder(300, mid=planted(200, 300, 3))

    def moved(seconds: float) -> list[QualityEvent]:
        return [
            replace(
                outcome,
                segment=replace(outcome.segment, starts_at=outcome.segment.starts_at + timedelta(seconds=seconds)),
            )
            for outcome in mid
        ]

    assert all(judged(PAIR, mixed(top, moved(seconds))) for seconds in (-0.4, 0.4))
    assert not judged(PAIR, mixed(top, moved(1.5)))


def test_both_neighbours_cancel_content_that_lower_bitrates_suffer_more_from() -> None:
    """Content moves renditions in a straight line over log bitrate: one neighbour leaves a part of it, both none."""
    content, top_rate = noise(3, 400, deviation=4.0), log(TOP.bitrate_kbps)
    lanes = [
        series(
            70 + content * (1 + top_rate - log(rendition.bitrate_kbps)) + noise(number, 400, deviation=0.5),
            rendition=rendition,
        )
        for number, rendition in enumerate((TOP, MID, LOW))
    ]
    fallen = series([event.scores[0].value - 3 * (250 <= n < 290) for n, event in enumerate(lanes[1])], rendition=MID)
    rules = PAIR.replace('against = "ladder"', 'against = "neighbours"')
    outcomes = mixed(lanes[0], fallen, lanes[2])
    opened, *_ = judged(rules, outcomes)
    assert (opened.series, opened.cause) == ("news-1/720p/lite~neighbours", "packaging")
    assert opened.summary.startswith("lite@1 against 1080p and 360p down ")
    assert 1000 <= (opened.opened_at - START).total_seconds() <= 1080
    later, *_ = judged(PAIR, outcomes)
    assert later.opened_at > opened.opened_at
    assert later.change.high - later.change.low > 2 * (opened.change.high - opened.change.low)


def test_a_rendition_that_stops_holds_the_others_up_for_a_minute_only() -> None:
    """They wait `wait_seconds` of media time, and after ten minutes not at all."""
    _, top, mid = ladder(600, mid=planted(500, 600, 30))
    stopped: list[Outcome] = [*mixed(top[:100], mid[:100]), *mid[100:]]
    rules = PAIR + DROP
    (alert, *_) = judged(rules, stopped)
    assert (alert.rule, alert.rendition) == ("drop", "720p")
    assert alert.opened_at <= START + timedelta(seconds=2040)
    judge = Judge(parse_rules(rules))
    waited = []
    for outcome in stopped:
        judge.judge(outcome)
        waited.append(
            sum(len(state.waiting) for state in judge.states().values() if isinstance(state, LadderRendition))
        )
    assert max(waited) <= 16
    assert waited[-1] == 0


@pytest.mark.parametrize("name", ["1080p", "*"])
def test_nothing_waits_for_a_rendition_that_has_ended(name: str) -> None:
    """What waited for it alone comes out at its end, what comes later does not wait; it takes part when it is back."""
    _, top, mid = ladder(400)
    judge = Judge(parse_rules(PAIR))

    def waiting() -> int:
        return sum(len(state.waiting) for state in judge.states().values() if isinstance(state, LadderRendition))

    for outcome in [*mixed(top[:100], mid[:100]), *mid[100:110]]:
        judge.judge(outcome)
    assert waiting() == 10
    end = stream_end("news-1", name, START, announced_at=START)
    assert judge.end_stream(end) == ()
    assert waiting() == 0
    restored = Judge(parse_rules(PAIR), copied(judge))
    for each_judge in (judge, restored):
        for outcome in mid[110:150]:
            each_judge.judge(outcome)
        assert waiting() == 0
    assert restored.states() == judge.states()
    for outcome in mixed(top[150:], mid[150:]):
        judge.judge(outcome)
    (state,) = [
        state
        for state in judge.states().values()
        if isinstance(state, RegressionState) and str(state.series).startswith("news-1/72")
    ]
    # Those without a partner were dropped and not made up; the others were compared.
    assert 0 < state.unpaired_count < 60
