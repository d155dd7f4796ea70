"""Group rules: pages for many series at once, members, buckets of time."""

from datetime import timedelta

import numpy as np

from tests import factories
from tests.core.alerts.regression.faulty_streams import GROUPS, fleet, judged, woven
from vqmon.core.alerts.judge import Judge
from vqmon.settings.rules_file import parse_rules


def test_a_group_pages_and_mutes_its_series() -> None:
    """All streams of one encoder fall: one page for the encoder, muted tickets for its streams."""
    alerts = judged(GROUPS, fleet(10, 420, lambda s, n: -8.0 if s % 2 and n >= 300 else 0.0))
    notified = [alert for alert in alerts if not alert.muted_by]
    assert [(alert.rule, alert.severity, alert.stream_id, alert.cause) for alert in notified] == [
        ("encoders", "page", "encoder=a", "")
    ]
    muted = [alert for alert in alerts if alert.muted_by]
    assert {alert.rule for alert in muted} == {"series"}
    assert {alert.stream_id for alert in muted} == {f"s{number}" for number in range(1, 10, 2)}
    assert {alert.muted_by for alert in muted} == {notified[0].id}


def test_all_series_of_a_scorer_together_are_the_scorers_fault() -> None:
    """One page that names the scorer; groups and series are muted by it."""
    alerts = judged(GROUPS, fleet(8, 420, lambda s, n: -8.0 if n >= 300 else 0.0))
    notified = [(alert.rule, alert.cause, alert.stream_id) for alert in alerts if not alert.muted_by]
    fault = next(alert for alert in alerts if alert.rule == "scorer")
    assert notified == [("scorer", "scorer", "*")]
    series_alerts = [alert for alert in alerts if alert.rule == "series"]
    assert len(series_alerts) == 8
    assert {alert.muted_by for alert in series_alerts} == {fault.id}


def test_one_stream_that_falls_is_neither() -> None:
    """Its ticket stands for itself."""
    alerts = judged(GROUPS, fleet(10, 420, lambda s, n: -8.0 if s == 3 and n >= 300 else 0.0))
    assert [(alert.rule, alert.stream_id, alert.muted_by) for alert in alerts] == [("series", "s3", "")]


def test_groups_do_not_depend_on_the_interleaving_of_streams() -> None:
    """Streams up to ten seconds apart give the same alerts of groups."""
    outcomes = fleet(6, 420, lambda s, n: -8.0 if n >= 300 else 0.0)
    lanes = [outcomes[number::6] for number in range(6)]
    chance = np.random.default_rng(1)
    expected = judged(GROUPS, outcomes)
    for _ in range(3):
        alerts = judged(GROUPS, woven(lanes, chance.integers(0, 6, 5000).tolist(), ahead=3))
        assert sorted(map(repr, alerts)) == sorted(map(repr, expected))


def test_an_alert_of_a_group_whose_rule_is_gone_closes() -> None:
    """With the next outcome."""
    judge = Judge(parse_rules(GROUPS))
    outcomes = fleet(6, 420, lambda s, n: -8.0 if n >= 300 else 0.0)
    assert [alert for outcome in outcomes for alert in judge.judge(outcome)]
    without = [rule for rule in parse_rules(GROUPS) if rule.name == "series"]
    closed = Judge(without, judge.states()).judge(outcomes[-1])
    assert not closed
    later = factories.event(sequence=420, score=66.0, rendition=outcomes[-1].segment.rendition)
    closed = Judge(without, judge.states()).judge(later)
    assert {alert.rule for alert in closed if alert.state == "resolved"} >= {"scorer"}


def test_an_alert_of_a_group_without_series_closes() -> None:
    """Four of six streams end while all are low: a page must not stay open for ever when the other two are well."""
    lasting = fleet(6, 420, lambda s, n: -8.0 if n >= 300 else 0.0)
    after = [
        factories.event(sequence=n, score=70.0, rendition=lasting[stream].segment.rendition)
        for n in range(420, 1100)
        for stream in range(2)
    ]
    alerts = [alert for alert in judged(GROUPS, [*lasting, *after]) if alert.rule == "scorer"]
    assert [alert.state for alert in alerts] == ["open", "resolved"]
    assert "too few series" in alerts[-1].summary
    assert alerts[-1].resolved_at is not None
    gone_after = alerts[-1].resolved_at - lasting[-1].segment.ends_at
    assert timedelta(minutes=35) < gone_after < timedelta(minutes=38)
