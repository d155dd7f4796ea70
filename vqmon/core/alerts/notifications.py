"""What is still to be said of an alert, and to whom: decisions about what waits in the outbox."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from vqmon.core.alerts.annotations import Mask
from vqmon.core.types import Alert

NotifiedState = Literal["", "open", "resolved"]
"""What a target was told last of an alert."""

DeliveryAction = Literal["open", "resolved", "wait", "done"]
"""What comes next: say that it is open or resolved, nothing now, or nothing ever again."""

ReceiverKind = Literal["state", "changes"]
"""How a target listens: the state again and again, as Alertmanager does, or each change once, as a webhook does."""

ECHO = timedelta(minutes=5)
"""A target that forgets is told so long that an alert is resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedAlert:
    """One alert in the outbox; its moments are by the clock of the machine, the alert's by the media."""

    alert: Alert
    # as it was when it came in: what names it to a target is taken from here and never changes
    opened: Alert
    queued_at: datetime
    changed_at: datetime
    # target -> what it was told last
    notified_states: Mapping[str, NotifiedState] = field(default_factory=dict)
    # of the last change, in the order of the history
    number: int = 0

    @property
    def place(self) -> tuple[str, str]:
        """Rule and series: no two alerts of one place are open at the same time."""
        return self.opened.rule, self.opened.series

    @property
    def age_when_queued(self) -> timedelta:
        """How far the alert's own time was behind when it came in; much in a backfill."""
        return self.queued_at - self.alert.opened_at


def next_action(
    notice: QueuedAlert, target: str, *, form: ReceiverKind, is_held: bool, now: datetime
) -> DeliveryAction:
    """What comes next for a target.

    `is_held`, and another alert that explains this one, keep back what was not told yet; what was told once goes on
    until it is resolved, or the target would believe that it is over. A target of changes hears of the opening first,
    also when all is over by then.
    """
    said = notice.notified_states.get(target, "")
    is_over = notice.alert.state == "resolved"
    if said == "" and (is_held or notice.alert.muted_by):
        return "done" if is_over else "wait"
    if form == "state":
        if not is_over:
            return "open"
        return "done" if said == "resolved" and now >= notice.changed_at + ECHO else "resolved"
    if said == "":
        return "open"
    if said == "open":
        return "resolved" if is_over else "wait"
    return "done"


def next_actions(
    notices: Iterable[QueuedAlert], target: str, *, form: ReceiverKind, held: Collection[str], now: datetime
) -> dict[str, DeliveryAction]:
    """What comes next for a target, by alert; `held` are the ids of those to be kept back.

    A target of states knows an alert by its labels, and two of one place share them: only the last one counts, or the
    end of the earlier one, which is said again and again, would end it too.
    """
    words: dict[str, DeliveryAction] = {}
    last: dict[tuple[str, str], str] = {}
    for notice in sorted(notices, key=lambda notice: (notice.queued_at, notice.opened.opened_at)):
        alert_id = notice.alert.id
        words[alert_id] = next_action(notice, target, form=form, is_held=alert_id in held, now=now)
        if form == "state" and words[alert_id] in ("open", "resolved"):
            earlier = last.get(notice.place)
            if earlier is not None:
                words[earlier] = "done"
            last[notice.place] = alert_id
    return words


def holding(alert: Alert, windows: Iterable[Mask], now: datetime) -> Mask | None:
    """The first maintenance window that keeps the alert back now."""
    at = now.timestamp()
    fitting = (window for window in windows if window.matches(alert.stream_id, alert.rendition))
    return next((window for window in fitting if window.covered_seconds(at, at + 1e-3) > 0), None)
