"""The collapse: baseline, confirmation, recovery and settling."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.collapse import Collapse, CollapseState
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.rules import AlertRule

COLLAPSE = Collapse(scorer="lite", drop=25, baseline_segments=10, confirm_segments=2, recover_seconds=8)


def test_a_collapse_is_seen_after_two_segments_and_over_after_the_recovery() -> None:
    """A fall of 25 points against the median, confirmed once; half of it must be made good."""
    values = [70, 71, 69, 70, 72, 68, 70, 40, 41, 42, 50, 50, 60, 60, 60]
    alerts = alerts_of(COLLAPSE, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])
    assert turns(alerts) == [("open", 28, 36), ("resolved", 28, 56)]
    assert (alerts[0].evidence.value, alerts[0].evidence.threshold) == (41, 45)
    assert "lite@1 41.0, down 29.0 from its usual 70.0" in alerts[0].summary


@pytest.mark.parametrize(
    "values",
    [
        # one hard scene
        [70, 71, 69, 70, 72, 68, 70, 40, 70, 70, 40, 70],
        # too little history to know what is usual
        [70, 70, 20, 20, 20, 20, 20],
        # a slow decline is another detector's
        [90 - 2 * n for n in range(40)],
    ],
)
def test_no_collapse(values: list[float]) -> None:
    """Single drops, short histories and slow declines stay quiet."""
    assert not alerts_of(COLLAPSE, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])


@given(st.integers(0, 2**32))
def test_outliers_before_do_not_hide_a_collapse(seed: int) -> None:
    """A third of wild values in the baseline does not move the median enough."""
    chance = np.random.default_rng(seed)
    usual = np.clip(chance.normal(70, 1, 20), 67, 73)
    values = np.where(chance.random(20) < 0.3, chance.choice([55, 90]), usual).tolist()
    alerts = alerts_of(
        COLLAPSE, [factories.event(sequence=n, score=value) for n, value in enumerate([*values, 28, 28, 28])]
    )
    assert [alert.state for alert in alerts] == ["open"]


def test_restless_scores_ask_for_a_deeper_fall() -> None:
    """With `deviations` what falls as far by itself is no collapse; what falls beyond its spread is."""
    by_spread = replace(COLLAPSE, deviations=4)
    restless = [60, 80, 62, 78, 64, 76, 66, 74, 68, 72]
    fallen = [factories.event(sequence=n, score=value) for n, value in enumerate([*restless, 40, 40, 40])]
    assert alerts_of(COLLAPSE, fallen)
    assert not alerts_of(by_spread, fallen)
    calm = [70, 71, 69, 70, 72, 68, 70, 71, 69, 70]
    (alert,) = alerts_of(
        by_spread, [factories.event(sequence=n, score=value) for n, value in enumerate([*calm, 40, 40, 40])]
    )
    assert "down 30.0 from its usual 70.0" in alert.summary


@pytest.mark.parametrize(
    ("low", "opens_at"),
    [
        ([45, 45, 45], 3),
        # one of them by three quarters only, as long as their mean and the latest are deep enough
        ([51, 38, 45], 3),
        ([40, 51, 44], 3),
        # the latest is not: the next one may be
        ([40, 40, 50], None),
        ([40, 40, 50, 44], 4),
        # their mean is not
        ([51, 51, 45], None),
        # one is less than three quarters
        ([40, 52, 40], None),
        # on its way back: 60 points, then 30
        ([10, 20, 40, 45], None),
    ],
)
def test_three_in_a_row_make_a_collapse_together(low: list[float], opens_at: int | None) -> None:
    """25 points below 70: each by three quarters of that, their mean and the latest by all of it, and no recovery."""
    three = replace(COLLAPSE, confirm_segments=3)
    outcomes = [factories.event(sequence=n, score=value) for n, value in enumerate([70.0] * 10 + low)]
    alerts = alerts_of(three, outcomes)
    assert turns(alerts) == ([] if opens_at is None else [("open", 40, 40 + 4 * opens_at)])


def test_a_level_that_is_low_but_no_collapse_is_learned() -> None:
    """20 points lower than usual is no fall of 25; another 20 from there neither, but 30 are."""
    three = replace(COLLAPSE, confirm_segments=3)
    steps = [70.0] * 20 + [50.0] * 20 + [30.0] * 20
    assert not alerts_of(three, [factories.event(sequence=n, score=value) for n, value in enumerate(steps)])
    alerts = alerts_of(three, [factories.event(sequence=n, score=value) for n, value in enumerate([*steps, 0, 0, 0])])
    assert [alert.state for alert in alerts] == ["open"]


def test_what_an_older_version_remembers_of_a_run_still_counts() -> None:
    """It knew how many low ones there were, and not their values: the next low one opens the alert."""
    rule = AlertRule(name="it", severity="page", condition=replace(COLLAPSE, confirm_segments=3))
    judge = Judge([rule])
    for n, value in enumerate([70.0] * 10 + [40.0] * 2):
        judge.judge(factories.event(sequence=n, score=value))
    (state,) = [state for state in judge.states().values() if isinstance(state, CollapseState)]
    assert (state.progress.bad_spans, state.low_values) == (2, (40.0, 40.0))
    older = Judge([rule], {**judge.states(), state.key: replace(state, low_values=())})
    assert [alert.state for alert in older.judge(factories.event(sequence=12, score=40))] == ["open"]


def test_a_low_level_that_lasts_becomes_the_usual() -> None:
    """After `settle_seconds` the alert closes, and a fall from the new level is found."""
    settling = replace(COLLAPSE, settle_seconds=120)
    values = [70.0] * 10 + [40.0] * 60 + [10.0] * 4
    alerts = alerts_of(settling, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])
    assert [alert.state for alert in alerts] == ["open", "resolved", "open"]
    assert not [
        a
        for a in alerts_of(
            replace(settling, settle_seconds=0),
            [factories.event(sequence=n, score=value) for n, value in zip(range(60), values, strict=False)],
        )
        if a.resolved_at
    ]


def test_another_scorer_version_starts_another_baseline() -> None:
    """A score on another scale is no collapse, and closes the alert of the old one."""
    old = [factories.event(sequence=n, score=70) for n in range(10)]
    assert not alerts_of(
        COLLAPSE, old + [factories.event(sequence=n, score=30, scorer="lite@2") for n in range(10, 20)]
    )
    low = [factories.event(sequence=n, score=30) for n in range(10, 13)]
    new = [factories.event(sequence=n, score=30, scorer="lite@2") for n in range(13, 20)]
    assert [alert.state for alert in alerts_of(COLLAPSE, old + low + new)] == ["open", "resolved"]
