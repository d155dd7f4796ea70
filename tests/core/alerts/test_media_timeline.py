"""Outcomes on their rendition's timeline: late segments, resets, repeated frames."""

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.quick_rules import QUICK, judged
from tests.factories import START
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.media_timeline import SAME_MAX_LEVELS, is_same_picture


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
