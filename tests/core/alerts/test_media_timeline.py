"""Outcomes on their rendition's timeline: late segments, resets, repeated frames."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.quick_rules import QUICK, judged
from tests.factories import START
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.media_timeline import SAME_MAX_LEVELS, is_same_picture
from vqmon.core.types import MediaFacts
from vqmon.settings.rules_file import parse_rules

FREEZE = parse_rules('[rules.freeze]\nkind = "signal"\nseverity = "ticket"\nsignal = "freeze"\nabove = 0.9\n')
FLOOR = parse_rules(
    '[rules.floor]\nkind = "floor"\nseverity = "ticket"\nscorer = "lite"\n'
    "below = 50\nrecover_above = 50\nfor_seconds = 0\n"
)
BLACK = parse_rules(
    '[rules.black]\nkind = "signal"\nseverity = "ticket"\nsignal = "black"\nabove = 0.9\n'
    "for_seconds = 10\nrecover_seconds = 10\n"
)


@given(st.integers(0, 2**32), st.integers(0, 255), st.integers(0, 30))
def test_the_same_picture_is_a_matter_of_tolerance(seed: int, level: int, step: int) -> None:
    """Rounding noise is the same picture; a change of one cell beyond the tolerance is another one."""
    chance = np.random.default_rng(seed)
    picture = chance.integers(0, 256, 576).astype(np.int16)
    noisy = np.clip(picture + (chance.random(576) < 0.3), 0, 255)
    changed = picture.copy()
    changed[level] += step if changed[level] < 128 else -step
    texts = [array.astype(np.uint8).tobytes().hex() for array in (picture, noisy, changed)]
    assert is_same_picture(texts[0], texts[0])
    assert is_same_picture(texts[0], texts[1])
    assert is_same_picture(texts[0], texts[2]) == (step <= SAME_MAX_LEVELS)
    assert not is_same_picture(texts[0], texts[0][:-2])


def test_a_timeline_that_was_set_back_is_followed_again() -> None:
    """An encoder that restarts its clock is late for a few segments only."""
    judge = Judge(QUICK)
    judged(judge, [factories.event(sequence=n, at_seconds=4000.0 + 4 * n) for n in range(10)])
    alerts = judged(judge, [factories.event(sequence=n, score=20) for n in range(12)])
    assert "floor" in {alert.rule for alert in alerts}


def test_the_next_in_sequence_is_never_late() -> None:
    """A break for advertisements on another clock is judged from its first segment on."""
    judge = Judge(QUICK)
    judged(judge, [factories.event(sequence=n, at_seconds=4000.0 + 4 * n) for n in range(10)])
    opened = [
        alert
        for alert in judged(judge, [factories.event(sequence=n, score=20, at_seconds=4.0 * n) for n in (10, 11)])
        if alert.rule == "floor"
    ]
    assert [alert.began_at for alert in opened] == [START + timedelta(seconds=40)]


def test_a_still_picture_is_never_a_frozen_one() -> None:
    """The same picture again is a repeated frame in video, and nothing in a series of still pictures."""
    picture = ("80" * 576, "80" * 576)

    def rules_of_alerts(media: MediaFacts, seconds: float) -> set[str]:
        events = [
            factories.event(sequence=n, at_seconds=4.0 * n, duration_seconds=seconds, media=media, edges=picture)
            for n in range(6)
        ]
        return {alert.rule for alert in judged(Judge(FREEZE), events)}

    assert rules_of_alerts(factories.MEDIA, 4.0) == {"freeze"}
    assert rules_of_alerts(factories.STILL_MEDIA, 4.0) == set()
    assert rules_of_alerts(factories.STILL_MEDIA, 0.0) == set()


def test_still_pictures_of_one_moment_are_all_judged() -> None:
    """Pictures without a duration may have the same time: none of them is late."""
    events = [
        factories.event(sequence=7, at_seconds=0.0, duration_seconds=0.0, media=factories.STILL_MEDIA, score=score)
        for score in (90, 90, 20)
    ]
    assert {alert.rule for alert in judged(Judge(FLOOR), events)} == {"floor"}


@pytest.mark.parametrize(("step_seconds", "states"), [(1.0, ["open", "resolved"]), (61.0, [])])
def test_still_pictures_hold_a_condition_until_the_next_one(step_seconds: float, states: list[str]) -> None:
    """Black for 10 s, then not, in pictures without a duration; those that are too far apart do not belong together."""
    events = [
        factories.event(
            sequence=n,
            at_seconds=n * step_seconds,
            duration_seconds=0.0,
            media=factories.STILL_MEDIA,
            signals={"black": 1.0 if 5 <= n < 20 else 0.0},
        )
        for n in range(40)
    ]
    alerts = judged(Judge(BLACK), events)
    assert [alert.state for alert in alerts] == states
    if alerts:
        assert 9 <= (alerts[0].opened_at - START).total_seconds() - 5 <= 10
        assert 9 <= (alerts[1].resolved_at - START).total_seconds() - 20 <= 11
