"""Missing segments: the window, the reasons and the recovery."""

from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.floor import Floor
from vqmon.core.alerts.conditions.missing import Missing
from vqmon.core.types import QualityEvent, ScorerFailure

MISSING = Missing(count=3, of=10, recover_count=1)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ([3, 5], []),
        ([3, 5, 9], [("open", 12, 40), ("resolved", 12, 64)]),
        ([3, 5, 14], []),
        ([1, 2, 3, 4, 5], [("open", 4, 16), ("resolved", 4, 60)]),
    ],
)
def test_missing_segments_are_counted_in_a_window(lost: list[int], expected: list[tuple[str, float, float]]) -> None:
    """Three of the last ten open, one of the last ten closes."""
    outcomes = [factories.failure(sequence=n) if n in lost else factories.event(sequence=n) for n in range(40)]
    assert turns(alerts_of(MISSING, outcomes)) == expected


def test_only_the_named_reasons_count_as_missing() -> None:
    """Reasons that the rule does not name, and a stale playlist, are no missing segments."""
    named = replace(MISSING, reasons=("gap",))
    assert not alerts_of(named, [factories.failure(sequence=n, reason="timeout") for n in range(10)])
    assert alerts_of(named, [factories.failure(sequence=n, reason="gap") for n in range(10)])
    assert not alerts_of(
        MISSING, [factories.failure(sequence=n, reason="stale", duration_seconds=0) for n in range(10)]
    )


def with_failures(sequence: int, *failures: ScorerFailure) -> QualityEvent:
    return replace(factories.event(sequence=sequence), scorer_failures=failures)


def test_a_segment_without_the_score_of_a_scorer_that_failed_is_missing() -> None:
    """By default for those of the first tier, else for the scorers that the rule names; never for shadows."""
    first, heavy = factories.scorer_failure(), factories.scorer_failure(scorer="big.quality@2", tier="heavy")
    shadow = factories.scorer_failure(tier="shadow")

    def opens(rule: Missing, failure: ScorerFailure) -> bool:
        return bool(alerts_of(rule, [with_failures(number, failure) for number in range(4)]))

    assert opens(MISSING, first)
    assert not opens(MISSING, heavy)
    assert opens(replace(MISSING, scorer="big*"), heavy)
    assert not opens(replace(MISSING, scorer="big*"), first)
    assert not opens(replace(MISSING, scorer="owl"), shadow)
    assert not opens(replace(MISSING, reasons=("out_of_memory",)), first)
    (alert,) = alerts_of(MISSING, [with_failures(number, first) for number in range(4)])
    assert alert.summary == "3 of the last 10 segments unscored or without owl@1; the last one: timeout"


def test_a_rule_about_a_scorer_that_failed_sees_no_value() -> None:
    """An open alert stays open, and none opens because of the scores of others."""
    low = [factories.event(sequence=number, score=[factories.score(value=20, scorer="owl@1")]) for number in range(5)]
    floor = Floor(scorer="owl", below=40, recover_above=45, for_seconds=0, recover_seconds=0)
    failed = [with_failures(number, factories.scorer_failure(tier="main")) for number in range(5, 9)]
    assert [alert.state for alert in alerts_of(floor, [*low, *failed])] == ["open"]
    assert not alerts_of(floor, failed)
