"""Rules of every kind with short durations, and the alerts that a judge gives for a list of outcomes."""

from collections.abc import Sequence

from vqmon.core.alerts.conditions.collapse import Collapse
from vqmon.core.alerts.conditions.floor import Floor
from vqmon.core.alerts.conditions.missing import Missing
from vqmon.core.alerts.conditions.no_score import NoScore
from vqmon.core.alerts.conditions.signal import Signal
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import Alert, Outcome

QUICK = (
    AlertRule(name="floor", severity="page", condition=Floor(scorer="*", below=40, recover_above=45, for_seconds=5)),
    AlertRule(name="black", severity="ticket", condition=Signal(signal="black", above=0.9), min_open_seconds=6),
    AlertRule(name="freeze", severity="ticket", condition=Signal(signal="freeze", above=0.5)),
    AlertRule(
        name="collapse",
        severity="page",
        condition=Collapse(scorer="lite", drop=20, baseline_segments=4, recover_seconds=4, settle_seconds=40),
    ),
    AlertRule(name="silence", severity="page", condition=NoScore(for_seconds=8)),
    AlertRule(name="missing", severity="ticket", condition=Missing(count=2, of=4)),
)


def judged(judge: Judge, outcomes: Sequence[Outcome]) -> list[Alert]:
    """The alerts of all outcomes, in order."""
    return [alert for outcome in outcomes for alert in judge.judge(outcome)]
