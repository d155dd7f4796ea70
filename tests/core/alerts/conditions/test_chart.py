"""The settings of a control chart as a condition gives them, and at their limits."""

import math

import pytest

from vqmon.core.alerts.conditions.chart import CAUSES, ChartParameters
from vqmon.core.alerts.conditions.regression import Regression


def test_the_defaults_of_a_condition_are_those_of_the_chart() -> None:
    assert Regression(scorer="lite").parameters == ChartParameters()


def test_every_setting_reaches_the_chart() -> None:
    settings = {"block_seconds": 60.0, "false_alarm_days": 7.0, "baseline_segments": 500, "delta_min": 1.5}
    assert Regression(scorer="lite", **settings).parameters == ChartParameters(**settings)


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_can_be_set(cause: str) -> None:
    assert Regression(scorer="lite", cause=cause).cause == cause


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("block_seconds", 30, 86_400),
        ("false_alarm_days", 0.1, 3650),
        ("delta_min", 0, 100),
        ("baseline_segments", 120, 1_000_000),
        ("page_segments", 0, math.inf),
        ("hold_seconds", 0, math.inf),
        ("settle_seconds", 0, math.inf),
        ("flap_seconds", 0, math.inf),
    ],
)
def test_the_limits_of_a_field_are_allowed_and_nothing_beyond_them(field: str, low: float, high: float) -> None:
    """The error names the field."""
    for value in (low, min(high, 1e9)):
        assert getattr(Regression(scorer="lite", **{field: value}), field) == value
    for value in (low - 0.01, *([high + 1] if high < math.inf else [])):
        with pytest.raises(ValueError, match=field):
            Regression(scorer="lite", **{field: value})
