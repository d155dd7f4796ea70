"""Missing segments: the window, the reasons and the recovery."""

from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.missing import Missing

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
