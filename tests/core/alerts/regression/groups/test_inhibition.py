"""Alerts of series that the alert of a group mutes, across restarts."""

from collections.abc import Sequence

from tests.core.alerts.regression.faulty_streams import GROUPS, fleet
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.groups.detector import GroupJudge, MemberValue
from vqmon.core.alerts.state import MutedAlert
from vqmon.core.types import Alert
from vqmon.settings.rules_file import parse_rules

RULES = parse_rules(GROUPS)
FALLEN = fleet(8, 460, lambda s, n: -8.0 if 300 <= n < 400 else 0.0)


def gathered() -> list[tuple[str, MemberValue]]:
    """What the judge of the streams leaves to the groups, with the shards; all of its alerts are among it."""
    values: list[tuple[str, MemberValue]] = []
    judge = Judge(RULES, gather=lambda shard, value: values.append((shard, value)))
    assert not [alert for outcome in FALLEN for alert in judge.judge(outcome)]
    return values


def judged(values: Sequence[MemberValue], *, restart_every: int) -> list[Alert]:
    judge, states = GroupJudge(RULES), {}
    alerts: list[Alert] = []
    for number, value in enumerate(values):
        if number % restart_every == 0:
            states |= judge.drain_changes()
            judge = GroupJudge(RULES, {key: state for key, state in states.items() if state is not None})
        alerts += judge.judge([value])
    return alerts


def test_groups_that_are_judged_elsewhere_say_the_same_whatever_restarts() -> None:
    """As one judge over all; muted alerts are muted when they resolve too, and nothing of them stays stored."""
    values = [value for _, value in gathered()]
    alone = Judge(RULES)
    expected = [alert for outcome in FALLEN for alert in alone.judge(outcome)]
    assert {alert.state for alert in expected if alert.muted_by} == {"open", "resolved"}
    assert judged(values, restart_every=10_000) == expected
    assert judged(values, restart_every=37) == expected
    assert not [state for state in alone.states().values() if isinstance(state, MutedAlert)]


def test_an_alert_is_unmuted_when_its_group_has_been_well_for_long() -> None:
    """Five minutes after the group's alert resolved; with the same id."""
    values = [value for _, value in gathered()]
    muted = next(number for number, value in enumerate(values) if value.alert and value.alert.state == "open")
    # The alert of this series never resolves.
    rule = values[muted].rule
    key = values[muted].rendition_key
    kept = [
        value
        for value in values
        if not (value.alert and value.alert.state == "resolved" and value.rendition_key == key)
    ]
    last = max(value.at or 0.0 for value in values)
    later = [
        values[muted]._replace(rendition_key="other/1080p", alert=None, deviation=0.0, at=last + s)
        for s in range(0, 700, 6)
    ]
    alerts = [alert for alert in judged([*kept, *later], restart_every=10_000) if alert.rule == rule]
    of_series = [alert for alert in alerts if f"{alert.stream_id}/{alert.rendition}" == key]
    assert [bool(alert.muted_by) for alert in of_series] == [True, False]
    assert len({alert.id for alert in of_series}) == 1


def test_shards_are_as_small_as_the_groups_allow() -> None:
    """A group of all series of a scorer has them in one shard; groups of encoders alone may be apart."""
    assert {shard for shard, _ in gathered()} == {"lite"}
    apart = [rule for rule in RULES if rule.name != "scorer"]
    shards: set[str] = set()
    judge = Judge(apart, gather=lambda shard, value: shards.add(shard))
    for outcome in FALLEN[:400]:
        judge.judge(outcome)
    assert shards == {"lite|a", "lite|b"}
