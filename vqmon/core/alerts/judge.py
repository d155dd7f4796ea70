"""Rules meet outcomes: the Judge opens and resolves alerts."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from vqmon.core.alerts.annotations import EVERY, WORDS, End, Marker, Mask, Why
from vqmon.core.alerts.detectors import evidence_of, spans_of, summary_of
from vqmon.core.alerts.regression.regressions import Trends
from vqmon.core.alerts.rules import (
    AlertRule,
    Collapse,
    Condition,
    Drop,
    Floor,
    Group,
    Regression,
    Signal,
    Spanned,
    labels_of,
    names,
)
from vqmon.core.alerts.rules_file import parse_rules
from vqmon.core.alerts.state import AlertState, Look, Memory, State, Track, Turn, advance, closed, look_at
from vqmon.core.types import Alert, Outcome, QualityEvent, Score, alert_id

__all__ = ["AlertRule", "AlertState", "End", "Judge", "Marker", "State", "over_all_streams", "parse_rules"]

UNLISTED = "playlist"
"""The rendition that stands for a whole stream while its playlist cannot be had."""


class Judge:
    """Holds outcomes against rules; what it remembers can be taken out, kept, and given to the next Judge.

    `states` is what `states()` or all `take_changed()` since the beginning gave. Alerts come out in the order in which
    the outcomes go in, by the time of the segments, so the same outcomes always give the same alerts.
    """

    def __init__(self, rules: Collection[AlertRule], states: Mapping[str, State] | None = None) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._memory = Memory(states)
        self._trends = Trends(list(rules), self._memory)
        # rendition -> rules whose globs fit, and the masks over it; filled at its first outcome
        self._fitting: dict[str, tuple[tuple[AlertRule, tuple[Mask, ...]], ...]] = {}
        self._inherited: dict[str, list[AlertState]] = {}
        for state in self._memory.states.values():
            if isinstance(state, AlertState) and state.alert:
                place = "" if state.kind == Group.kind else _rendition_of(state.alert)
                self._inherited.setdefault(place, []).append(state)

    def judge(self, outcome: Outcome) -> tuple[Alert, ...]:
        """The alerts that open or resolve with this outcome, and with those that waited for it."""
        segment = outcome.segment
        track, look = look_at(self._track(f"|{segment.rendition.key}"), outcome)
        self._memory.remember(track)
        if look is None:
            return ()
        found = list(self._close_orphans(outcome, look))
        if isinstance(outcome, QualityEvent):
            found += self._close_unlisted(segment.rendition.stream_id, look)
        labels = labels_of(segment)
        for rule, masks in self._fitting[segment.rendition.key]:
            if isinstance(rule.condition, Drop) or not rule.match.fits_labels(labels):
                continue
            for series, score in _series_of(rule.condition, outcome):
                found += self._ask(rule, rule.condition, series, score, look, masks)
        late = list(self._trends.judge(look))
        return (*found, *late, *self._close_late(late))

    def mark(self, marker: Marker) -> None:
        """From the marker's moment on the series that it means start anew; told twice it counts once."""
        if marker.key not in self._memory.states:
            self._memory.remember(marker)
            self._trends.read_markers()

    def end(self, end: End) -> tuple[Alert, ...]:
        """Close open alerts that no outcome will close any more, where what was seen ends; groups close by others.

        What was learned stays, and an outcome that comes later goes on with it. Told again it changes nothing.
        """
        for track in self._unended(end.stream_id, end.rendition):
            self._memory.remember(replace(track, has_ended=True))
        late = list(self._trends.end(end))
        found = [*late, *self._close_late(late)]
        states = [it for it in self._memory.states.values() if isinstance(it, AlertState) and it.kind != Group.kind]
        found += [
            self._close_ended(state, state.alert, why=end.why)
            for state in sorted(states, key=lambda it: it.key)
            if state.alert and end.fits(state.alert.stream_id, _rendition_of(state.alert))
        ]
        return tuple(found)

    def until(self, stream_id: str, rendition: str = EVERY) -> datetime | None:
        """How far those of these renditions have come that have not ended; None when there are none."""
        moments = [track.until for track in self._unended(stream_id, rendition)]
        return _moment(max(moments)) if moments else None

    def streams(self) -> frozenset[str]:
        """The streams that have not ended."""
        tracks = (it for it in self._memory.states.values() if isinstance(it, Track))
        return frozenset(track.stream for track in tracks if not track.has_ended)

    def states(self) -> Mapping[str, State]:
        """All that is remembered."""
        return dict(self._memory.states)

    def take_changed(self) -> Mapping[str, State | None]:
        """What is remembered differently since the last call; None = forget it."""
        return self._memory.take_changed()

    def _ask(
        self,
        rule: AlertRule,
        condition: Spanned,
        series: str,
        score: Score | None,
        look: Look,
        masks: tuple[Mask, ...],
    ) -> Iterator[Alert]:
        key = f"{rule.name}|{series}"
        known = self._memory.states.get(key)
        kind = condition.kind
        if not isinstance(known, AlertState) or known.kind != kind:
            known = None
        state = known or AlertState(rule=rule.name, series=series, kind=kind)
        state, spans = spans_of(condition, state, look, score, masks=masks)
        for span in spans:
            state, turn = advance(state, span, rule.timing)
            if turn is not None:
                state, alert = _turned(rule, condition, state, turn, look=look, score=score)
                yield alert
        if state.is_idle:
            self._memory.forget(key)
        elif state is not known:
            self._memory.remember(state)

    def _close_orphans(self, outcome: Outcome, look: Look) -> Iterator[Alert]:
        """At the first sight of a rendition: alerts whose rule is gone, changed its kind or looks elsewhere now."""
        rendition = outcome.segment.rendition
        if rendition.key in self._fitting:
            return
        fitting = tuple(rule for rule in self._rules.values() if rule.match.fits_names(rendition))
        self._fitting[rendition.key] = tuple((rule, rule.masks_over(rendition)) for rule in fitting)
        follows = {rule.name: rule.condition for rule in fitting}
        for state in self._inherited.pop(rendition.key, ()):
            if not _is_followed(state, follows.get(state.rule)):
                yield self._close(state, look.ends, why="the rule no longer applies")
        for state in self._inherited.pop("", ()):
            rule = self._rules.get(state.rule)
            if not _is_followed(state, rule.condition if rule else None):
                yield self._close(state, look.ends, why="the rule no longer applies")

    def _close_unlisted(self, stream_id: str, look: Look) -> Iterator[Alert]:
        """A scored segment ends what was said about the stream as a whole."""
        rendition = f"{stream_id}/{UNLISTED}"
        if f"|{rendition}" not in self._memory.states:
            return
        self._memory.forget(f"|{rendition}")
        for state in [state for state in self._memory.states.values() if isinstance(state, AlertState)]:
            if state.alert and _rendition_of(state.alert) == rendition:
                yield self._close(state, look.ends, why="the stream is listed again")

    def _close_late(self, alerts: Iterable[Alert]) -> Iterator[Alert]:
        """What waited for others may open an alert of a rendition that has ended meanwhile."""
        for alert in alerts:
            track = self._track(f"|{_rendition_of(alert)}")
            state = self._memory.states.get(f"{alert.rule}|{alert.series}")
            if track and track.has_ended and isinstance(state, AlertState) and state.alert:
                yield self._close_ended(state, state.alert, why="ended")

    def _close_ended(self, state: AlertState, alert: Alert, *, why: Why) -> Alert:
        track = self._track(f"|{_rendition_of(alert)}")
        return self._close(state, track.until if track else alert.opened_at.timestamp(), why=WORDS[why])

    def _unended(self, stream_id: str, rendition: str) -> list[Track]:
        """What is known of these renditions and has not ended."""
        tracks = [it for it in self._memory.states.values() if isinstance(it, Track) and it.stream == stream_id]
        key = f"{stream_id}/{rendition}"
        return [it for it in tracks if not it.has_ended and (rendition == EVERY or it.rendition == key)]

    def _close(self, state: AlertState, moment: float, *, why: str) -> Alert:
        assert state.alert is not None
        self._memory.forget(state.key)
        self._trends.drop(state.key)
        return _ended(state.alert, moment, f"{state.alert.summary}; closed: {why}")

    def _track(self, key: str) -> Track | None:
        state = self._memory.states.get(key)
        return state if isinstance(state, Track) else None


def over_all_streams(rules: Collection[AlertRule]) -> tuple[AlertRule, ...]:
    """The rules that one Judge must hold against every stream: groups, and all that these follow or explain.

    None where there is no group: then every stream may have a Judge of its own.
    """
    if not any(isinstance(rule.condition, Group) for rule in rules):
        return ()
    return tuple(rule for rule in rules if isinstance(rule.condition, Drop))


def _is_followed(state: AlertState, condition: Condition | None) -> bool:
    """Whether a rule still asks what an open alert answers."""
    if condition is None or condition.kind != state.kind:
        return False
    if isinstance(condition, Regression):
        return state.series.endswith(f"~{condition.against}") if condition.against else "~" not in state.series
    return True


def _rendition_of(alert: Alert) -> str:
    return f"{alert.stream_id}/{alert.rendition}"


def _series_of(condition: Spanned, outcome: Outcome) -> Iterator[tuple[str, Score | None]]:
    """The series that a rule follows in an outcome: stream/rendition/what, and the score it is about.

    A scorer's version is left out, so that an alert outlives the change to a new one.
    """
    rendition = outcome.segment.rendition.key
    if isinstance(condition, Floor | Collapse):
        for score in outcome.scores if isinstance(outcome, QualityEvent) else ():
            if names(score.scorer, condition.scorer):
                yield f"{rendition}/{score.scorer.split('@')[0]}", score
    elif isinstance(condition, Signal):
        yield f"{rendition}/{condition.signal}", None
    else:
        yield f"{rendition}/{condition.kind}", None


def _turned(
    rule: AlertRule, condition: Spanned, state: AlertState, turn: Turn, *, look: Look, score: Score | None
) -> tuple[AlertState, Alert]:
    """The alert that begins or ends, and the state after it."""
    if turn.kind == "resolved" and state.alert is not None:
        lasted = max(turn.began - state.alert.began_at.timestamp(), 0.0)
        return closed(state), _ended(state.alert, turn.moment, f"{state.alert.summary}; over after {lasted:.3g} s")
    # What began on a timeline that was set back since began, as far as can be told, now.
    began = min(turn.began, turn.moment)
    began_at = _moment(began)
    rendition = look.outcome.segment.rendition
    alert = Alert(
        id=alert_id(rule.name, state.series, began_at),
        rule=rule.name,
        series=state.series,
        stream_id=rendition.stream_id,
        rendition=rendition.name,
        severity=rule.severity,
        state="open",
        began_at=began_at,
        opened_at=_moment(turn.moment),
        resolved_at=None,
        summary=summary_of(condition, look.outcome, score, turn.span, held_seconds=turn.moment - began),
        evidence=evidence_of(condition, look.outcome, score, turn.span),
        labels=labels_of(look.outcome.segment),
    )
    return replace(state, alert=alert, calm=None, clock=None, began=None, count=0), alert


def _ended(alert: Alert, moment: float, summary: str) -> Alert:
    resolved_at = max(_moment(moment), alert.opened_at)
    return replace(alert, state="resolved", resolved_at=resolved_at, summary=summary)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
