"""Runs one alert rule over outcomes."""

from collections.abc import Iterable, Sequence

from tests.factories import START
from vqmon.core.alerts.conditions.base import Condition
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import Alert, Outcome


def alerts_of(condition: Condition, outcomes: Iterable[Outcome], **rule: float) -> list[Alert]:
    """What a judge with this one rule says."""
    judge = Judge([AlertRule(name="it", severity="page", condition=condition, **rule)])
    return [alert for outcome in outcomes for alert in judge.judge(outcome)]


def turns(alerts: Sequence[Alert]) -> list[tuple[str, float, float]]:
    """State, began and turned, in seconds after START."""
    return [
        (
            alert.state,
            (alert.began_at - START).total_seconds(),
            ((alert.resolved_at or alert.opened_at) - START).total_seconds(),
        )
        for alert in alerts
    ]
