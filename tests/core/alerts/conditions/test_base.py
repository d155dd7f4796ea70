"""Runs of bad and good spans: gaps, minimum open time."""

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.floor import Floor

FLOOR = Floor(scorer="lite", below=40, recover_above=45, for_seconds=10, recover_seconds=10)


def test_unscored_segments_stop_the_clock_and_long_holes_reset_it() -> None:
    """A lost segment proves nothing; after a minute without evidence the condition starts anew."""
    low = [
        factories.event(sequence=0, score=30),
        factories.failure(sequence=1),
        factories.event(sequence=2, score=30),
        factories.failure(sequence=3),
        factories.event(sequence=4, score=30),
    ]
    assert turns(alerts_of(FLOOR, low)) == [("open", 0, 20)]
    assert not alerts_of(
        FLOOR,
        [
            factories.event(sequence=0, score=30),
            factories.event(sequence=1, score=30),
            factories.event(sequence=2, score=30, at_seconds=100),
            factories.event(sequence=3, score=30, at_seconds=104),
        ],
    )


def test_an_alert_stays_open_for_its_minimum() -> None:
    """A recovery before `min_open_seconds` closes only when they are over."""
    values = [30] * 3 + [90] * 20
    (opened, resolved) = alerts_of(
        FLOOR, [factories.event(sequence=n, score=v) for n, v in enumerate(values)], min_open_seconds=40
    )
    assert (resolved.resolved_at - opened.opened_at).total_seconds() == 40
