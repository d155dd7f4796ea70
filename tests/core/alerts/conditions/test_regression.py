"""The fields of regression conditions, and the series that they follow."""

import pytest

from vqmon.core.alerts.conditions.floor import FloorState
from vqmon.core.alerts.conditions.regression import Regression, RegressionState
from vqmon.core.alerts.state import PairSeries, RenditionSeries

PLAIN, LADDER, ENCODER = (Regression(scorer="lite", against=against) for against in ("", "ladder", "source"))
SERIES = RenditionSeries(rendition_key="news/1080p", subject="lite")
PAIR = PairSeries(rendition_key="news/1080p", scorer="lite", against="ladder")


def test_the_series_leaves_the_scorer_version_out() -> None:
    assert PLAIN.series("news/1080p", "lite@1") == PLAIN.series("news/1080p", "lite@2") == SERIES
    assert LADDER.series("news/1080p", "lite@1") == PAIR


def test_the_cause_follows_from_what_is_compared() -> None:
    assert [condition.alert_cause for condition in (PLAIN, LADDER, ENCODER)] == ["", "packaging", "encoder"]
    assert Regression(scorer="lite", against="neighbours").alert_cause == "packaging"
    assert Regression(scorer="lite", against="repeats").alert_cause == ""
    assert Regression(scorer="lite", against="ladder", cause="source").alert_cause == "source"


def test_a_condition_follows_states_of_the_same_comparison_only() -> None:
    plain, pair = RegressionState(rule="r", series=SERIES), RegressionState(rule="r", series=PAIR)
    assert [PLAIN.follows(plain), PLAIN.follows(pair)] == [True, False]
    assert [LADDER.follows(plain), LADDER.follows(pair)] == [False, True]
    assert not ENCODER.follows(pair)
    assert not PLAIN.follows(FloorState(rule="r", series=SERIES))


@pytest.mark.parametrize(
    ("label", "minutes"), [("3", 2.0), (None, 2 / 3), ("many", 2 / 3), ("-1", 2 / 3), ("inf", 2 / 3)]
)
def test_the_impact_is_weighted_by_a_label_that_is_a_positive_number(label: str | None, minutes: float) -> None:
    condition = Regression(scorer="lite", weight_label="viewers")
    labels = {} if label is None else {"viewers": label}
    assert condition.impact_minutes(labels, seconds=40.0) == pytest.approx(minutes)


@pytest.mark.parametrize(
    "change",
    [{"block_seconds": 5.0}, {"false_alarm_days": 0.0}, {"cause": "network"}, {"wait_seconds": 0.5}],
)
def test_a_field_out_of_its_limits_is_named(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Regression(scorer="lite", **change)


def test_a_restart_on_another_basis_keeps_only_the_count_of_unpaired_values() -> None:
    state = RegressionState(rule="r", series=PAIR, basis="lite@1", seen_until=9.0, unpaired_count=3)
    assert state.restarted("lite@2") == RegressionState(rule="r", series=PAIR, basis="lite@2", unpaired_count=3)
