"""One reading more of a followed series: the gates that an alarm must pass, and when an alert ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from vqmon.core.alerts.regression.change_point import began_at, beside, drop_of, moved
from vqmon.core.alerts.regression.cusum import HOT, Chart, calmed, is_alarm, is_back, opened, parts, step, step_open
from vqmon.core.alerts.regression.ladder import Entry
from vqmon.core.alerts.rules import AlertRule, Drop, tuning_of
from vqmon.core.alerts.state import AlertState
from vqmon.core.types import Alert, AlertEvidence, CompanionShift, LevelShift, RegressionCause, Severity, alert_id

MOVED_IN_SUMMARY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of a series, and the segment that it comes from."""

    value: float
    # name@version, what it is compared with, and since which deploy
    basis: str
    scorer: str
    entry: Entry
    # minutes, weighted
    impact: float
    min_impact: float = 0.0
    cause: RegressionCause = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """An alert that opened or ended, not yet told who explains it."""

    kind: Literal["open", "resolved"]
    alert: Alert


Follow = Callable[[AlertRule, AlertState, Reading], tuple[AlertState, Turned | None]]
"""What is done with a reading: `follow`, or something that only listens."""


def follow(rule: AlertRule, state: AlertState, reading: Reading) -> tuple[AlertState, Turned | None]:
    """The state after a reading, and the alert that opens or ends with it."""
    assert isinstance(rule.condition, Drop)
    if state.basis != reading.basis:
        ended = _ended(state.alert, reading, "the scorer, its partner or a deploy changed") if state.alert else None
        state = AlertState(
            rule=state.rule, series=state.series, kind=state.kind, basis=reading.basis, dropped=state.dropped
        )
        return _calm(rule, rule.condition, state, reading)[0], ended
    if state.alert is None:
        return _calm(rule, rule.condition, state, reading)
    return _open(rule, rule.condition, state, state.alert, reading)


def _calm(
    rule: AlertRule, condition: Drop, state: AlertState, reading: Reading
) -> tuple[AlertState, Turned | None]:  # fmt: skip
    entry, tuning = reading.entry, tuning_of(condition)
    at, until = entry.starts, entry.ends
    memory = step(tuning, state.memory, reading.value, at=at, until=until, impact=reading.impact)
    chart = Chart._make(memory[:HOT])
    values = _companions(reading)
    is_same = len(values) == len(state.names) and all(name in values for name in state.names)
    names, known = (state.names, state.beside) if is_same else (tuple(sorted(values)), ())
    after = beside(names, known, values, is_usual=not chart.since_count)
    # Written out, as `replace` would cost a fifth of the whole update.
    state = AlertState(
        rule=state.rule,
        series=state.series,
        kind=state.kind,
        seen_until=entry.ends,
        basis=state.basis,
        memory=memory,
        names=names,
        beside=after,
        recent=state.recent,
        dropped=state.dropped,
    )
    if not is_alarm(tuning, chart):
        return (replace(state, memory=_held(memory, 0.0)) if chart.held_at else state), None
    usual, mean, least, most = drop_of(memory)
    drop = usual - mean
    if most < condition.delta_min:
        return replace(state, memory=calmed(memory)), None
    if drop < condition.delta_min or chart.since_impact < reading.min_impact:
        return state, None
    held_at = chart.held_at or entry.starts
    if entry.starts - held_at < condition.hold_seconds:
        return replace(state, memory=_held(memory, held_at)), None
    memory = opened(memory, drop=drop, flap_seconds=condition.flap_seconds, at=entry.ends)
    change = LevelShift(
        at=_moment(min(began_at(chart), entry.ends)),
        before=round(usual, 3),
        after=round(mean, 3),
        low=round(-most, 3),
        high=round(-least, 3),
    )
    alert = _alert(rule, condition, state, reading, change, memory)
    return replace(state, memory=memory, alert=alert, clock=None, calm=None), Turned(kind="open", alert=alert)


def _open(
    rule: AlertRule, condition: Drop, state: AlertState, alert: Alert, reading: Reading
) -> tuple[AlertState, Turned | None]:
    entry, tuning = reading.entry, tuning_of(condition)
    memory = step_open(tuning, state.memory, reading.value, at=entry.starts, until=entry.ends)
    chart = Chart._make(memory[:HOT])
    state = replace(state, memory=memory, seen_until=entry.ends)
    # The distance, as a timeline that was set back must not hold an alert open.
    lasted = abs(entry.ends - alert.opened_at.timestamp())
    if is_back(tuning, chart) and lasted >= rule.min_open_seconds:
        seconds = max(chart.back_at - alert.began_at.timestamp(), 0.0)
        memory = calmed(memory, closed_at=entry.ends)
        return _closed(state, memory), _ended(alert, reading, f"over after {_duration(seconds)}")
    if condition.settle_seconds and lasted >= condition.settle_seconds:
        return _closed(state, ()), _ended(alert, reading, f"the new usual after {_duration(lasted)}")
    return state, None


def given_up(state: AlertState, alert: Alert, *, at: float) -> tuple[AlertState, Turned]:
    """The state without its open alert, at a moment (seconds) from which on nothing can be said any more."""
    ended = replace(
        alert,
        state="resolved",
        resolved_at=max(_moment(at), alert.opened_at),
        summary=f"{alert.summary}; closed: too few series are left",
    )
    return _closed(state, ()), Turned(kind="resolved", alert=ended)


def _companions(reading: Reading) -> Mapping[str, float]:
    """Signals and the other scorers' values of the same segment."""
    values = {**reading.entry.signals, **reading.entry.scores}
    values.pop(reading.scorer, None)
    return values


def _closed(state: AlertState, memory: tuple[float, ...]) -> AlertState:
    return replace(state, memory=memory, beside=(), names=(), alert=None, clock=None, calm=None)


def _held(memory: tuple[float, ...], held_at: float) -> tuple[float, ...]:
    return (*Chart._make(memory[:HOT])._replace(held_at=held_at), *memory[HOT:])


def _alert(
    rule: AlertRule, condition: Drop, state: AlertState, reading: Reading, change: LevelShift, memory: tuple[float, ...]
) -> Alert:
    entry = reading.entry
    chart, usual, _ = parts(memory)
    with_it = moved(state.names, state.beside)
    severity: Severity = rule.severity if usual.number >= condition.page_segments else "ticket"
    return Alert(
        id=alert_id(rule.name, state.series, change.at),
        rule=rule.name,
        series=state.series,
        stream_id=entry.stream_id,
        rendition=entry.rendition,
        severity=severity,
        state="open",
        began_at=change.at,
        opened_at=_moment(entry.ends),
        resolved_at=None,
        summary=_summary(reading, change, with_it, flaps=int(chart.flaps)),
        evidence=AlertEvidence(
            event_id=entry.event_id,
            reading=f"{reading.basis} {reading.value:.1f}, usual {change.before:.1f}",
            value=round(reading.value, 4),
            threshold=round(change.before - condition.delta_min, 4),
            worst_times_seconds=entry.worst.get(reading.scorer, ()),
        ),
        change=change,
        moved=with_it,
        cause=reading.cause,
        labels=dict(entry.labels),
    )


def _summary(reading: Reading, change: LevelShift, with_it: tuple[CompanionShift, ...], *, flaps: int) -> str:
    """E.g. lite@1 down 7.9 points since 20:25:04 (95 %: 6.1-9.7); blockiness 0.12 -> 0.41."""
    drop = change.before - change.after
    words = [
        f"{reading.basis} down {drop:.1f} points since {change.at:%H:%M:%S} "
        f"(95 %: {max(-change.high, 0.0):.1f}-{-change.low:.1f})"
    ]
    for it in with_it[:MOVED_IN_SUMMARY]:
        digits = 1 if "@" in it.name else 2
        words.append(f"{it.name} {it.before:.{digits}f} -> {it.after:.{digits}f}")
    if flaps:
        words.append(f"flapping: open for the {flaps + 1}. time in a row")
    return "; ".join(words)


def _ended(alert: Alert, reading: Reading, why: str) -> Turned:
    resolved_at = max(_moment(reading.entry.ends), alert.opened_at)
    ended = replace(alert, state="resolved", resolved_at=resolved_at, summary=f"{alert.summary}; {why}")
    return Turned(kind="resolved", alert=ended)


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
