"""Judges again, when the history can be opened at last, what was judged without the states that it holds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.reactions.notifications import OWN_STREAM
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.types import Alert, LaneCursor, Outcome, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError
from vqmon.transport.history.history import History
from vqmon.transport.recovery.spool import HistoryWrite

_NOT_ANNOUNCED = ("stale", "playlist")
"""Failures of a source that belong to no segment of a playlist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProgress:
    """What a history says about the segments that were judged before."""

    states: Mapping[StateKey, State]
    # by lane
    cursors: Mapping[str, LaneCursor]
    markers: Sequence[DeployMarker]
    # the open ones about vqmon itself
    own_alerts: Sequence[Alert]
    # those of the writes that are in the history, open or not
    alert_ids: Collection[str]


def read_progress(history: History, stream_ids: Sequence[str], writes: Sequence[HistoryWrite]) -> StoredProgress:
    """Read it from the database, for writes that are to be judged again; raises StoreError."""
    queries = history.queries
    return StoredProgress(
        states=queries.states(),
        cursors={lane: cursor for stream_id in stream_ids for lane, cursor in queries.cursors(stream_id).items()},
        markers=queries.markers(),
        own_alerts=queries.alerts(open_only=True, stream_id=OWN_STREAM),
        alert_ids={alert.id for write in writes for alert in write.alerts if queries.alert(alert.id) is not None},
    )


def is_announced(outcome: Outcome) -> bool:
    """Whether a playlist announced the segment of an outcome, so that it moves the cursor of its lane."""
    return not (isinstance(outcome, SegmentFailure) and outcome.reason in _NOT_ANNOUNCED)


def judge_again(
    writes: Sequence[HistoryWrite],
    judge: Judge,
    cursors: Mapping[str, LaneCursor],
    *,
    now: datetime,
    stored_alert_ids: Collection[str] = (),
) -> list[HistoryWrite]:
    """Writes with what `judge`, which goes on from the stored states, says of their outcomes; one for each, in order.

    Outcomes up to the stored cursor of their lane are in the history and are left out. Where the first one after it
    does not follow it, what lies between is one failure `skipped`. Alerts that are neither stored nor confirmed by
    `judge` resolve with the last write, as receivers may have been sent them. Those about vqmon stay as they are.
    """
    pass_on = _Continuation(cursors, now=now)
    provisional: dict[str, Alert] = {}
    # those of outcomes that are left out
    confirmed = set(stored_alert_ids)
    judged: list[HistoryWrite] = []
    for write in writes:
        outcomes: list[Outcome] = []
        alerts: list[Alert] = []
        for outcome in (outcome for each in write.outcomes for outcome in pass_on.continue_lane(each)):
            outcome = judge.label(outcome)
            outcomes.append(outcome)
            alerts += judge.judge(outcome)
        alerts += [alert for end in write.ends for alert in judge.end_stream(end)]
        confirmed.update(alert.id for alert in alerts)
        provisional |= {alert.id: alert for alert in write.alerts if alert.stream_id != OWN_STREAM}
        own = [alert for alert in write.alerts if alert.stream_id == OWN_STREAM]
        lanes = {outcome.segment.rendition.key for outcome in outcomes if is_announced(outcome)}
        judged.append(
            replace(
                write,
                outcomes=outcomes,
                alerts=[*alerts, *own],
                states=judge.drain_changes(),
                cursors=[cursor for cursor in write.cursors if cursor.lane in lanes],
                is_provisional=False,
            )
        )
    unconfirmed = [alert for alert_id, alert in provisional.items() if alert_id not in confirmed]
    if unconfirmed:
        closing = [change for alert in unconfirmed for change in _opened_and_resolved(alert)]
        judged[-1] = replace(judged[-1], alerts=[*judged[-1].alerts, *closing])
    return judged


class _Continuation:
    """Where each lane goes on after its stored cursor."""

    def __init__(self, cursors: Mapping[str, LaneCursor], *, now: datetime) -> None:
        self._cursors = dict(cursors)
        self._now = now

    def continue_lane(self, outcome: Outcome) -> Iterator[Outcome]:
        """The outcome, unless it is stored, after the failure for what was lost before it."""
        segment = outcome.segment
        cursor = self._cursors.get(segment.rendition.key)
        if cursor is None or not is_announced(outcome):
            yield outcome
            return
        half = (segment.ends_at - segment.starts_at) / 2
        # a packager that began anew counts from the beginning, and starts of segments may be estimates
        if segment.sequence <= cursor.sequence and segment.ends_at <= cursor.ends_at + half:
            return
        del self._cursors[segment.rendition.key]
        if segment.sequence > cursor.sequence + 1 and segment.starts_at > cursor.ends_at + half:
            yield self._skipped(cursor, segment)
        yield outcome

    def _skipped(self, cursor: LaneCursor, segment: Segment) -> SegmentFailure:
        seconds = (segment.starts_at - cursor.ends_at).total_seconds()
        lost = replace(
            segment.without_secrets(),
            sequence=cursor.sequence + 1,
            starts_at=cursor.ends_at,
            duration_seconds=seconds,
        )
        detail = f"what was announced within {seconds:.0f} s left the playlist while the history could not be opened"
        return failure_from_error(lost, SegmentError("skipped", detail), observed_at=self._now)


def _opened_and_resolved(alert: Alert) -> tuple[Alert, Alert]:
    """An alert as it was sent, and its end: the history is to have both, as its outbox tells receivers."""
    opened = replace(alert, state="open", resolved_at=None)
    if alert.state == "resolved":
        return opened, alert
    summary = f"{alert.summary}; closed: with what the history holds it does not open"
    return opened, replace(alert, state="resolved", resolved_at=alert.opened_at, summary=summary)
