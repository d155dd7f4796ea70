"""The Judge: evaluates alert rules on outcomes, and opens and resolves alerts."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from vqmon.core.alerts.annotations import ALL_RENDITIONS, END_REASON_TEXTS, DeployMarker, StreamEnd
from vqmon.core.alerts.conditions.base import SpanCondition, SpanTransition, apply_span
from vqmon.core.alerts.conditions.group import GroupState
from vqmon.core.alerts.media_timeline import (
    NOT_JUDGED,
    TimedOutcome,
    breaks_after,
    label_ad_break,
    place_outcome,
    was_scored,
)
from vqmon.core.alerts.regression.regressions import Gather, RegressionDetector
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import (
    AlertKey,
    AlertState,
    RenditionActivity,
    RenditionSeries,
    RenditionTimeline,
    SpanState,
    State,
    StateKey,
    StateRetention,
    StateStore,
    TimelineKey,
)
from vqmon.core.types import (
    AD_BREAK_LABEL,
    Alert,
    Outcome,
    QualityEvent,
    Rendition,
    Score,
    Segment,
    SegmentFailure,
    alert_id,
)

_Outcome = TypeVar("_Outcome", bound=Outcome)

_PLAYLIST = "playlist"
"""The rendition that stands for a whole stream while its playlist cannot be fetched."""


class Judge:
    """Evaluates rules on outcomes; its states can be taken out, stored, and given to another Judge.

    `states` are what `states()` of another Judge gave, or all its `drain_changes()` together. Alerts come in the order
    of the outcomes, timed by their segments, so that the same outcomes always give the same alerts.
    """

    def __init__(
        self,
        rules: Collection[AlertRule],
        states: Mapping[StateKey, State] | None = None,
        *,
        gather: Gather | None = None,
        retention: StateRetention | None = None,
    ) -> None:
        """With `retention`, renditions that have ended or been silent for so long are forgotten; else none ever is.

        With `gather`, group rules are evaluated elsewhere: by `GroupJudge`s, with what `gather` is given.
        """
        self._rules = {rule.name: rule for rule in rules}
        self._store = StateStore(states)
        self._regressions = RegressionDetector(list(rules), self._store, gather=gather)
        # stream/rendition -> the rules with span conditions whose globs match; filled at its first outcome
        self._matching: dict[str, tuple[_MatchingRule, ...]] = {}
        # open alerts of restored states, by stream/rendition, until its first outcome; those of groups under ""
        self._restored: dict[str, list[AlertState]] = {}
        self._activity = RenditionActivity(retention, self._store.timelines()) if retention else None
        for state in self._store.alert_states():
            if state.alert:
                rendition_key = "" if isinstance(state, GroupState) else _rendition_key(state.alert)
                self._restored.setdefault(rendition_key, []).append(state)

    def label(self, outcome: _Outcome) -> _Outcome:
        """The outcome as it is to be judged and published: labelled if an ad break was announced in the media."""
        return label_ad_break(self._store.timeline(outcome.segment.rendition.key), outcome)

    def judge(self, outcome: Outcome) -> tuple[Alert, ...]:
        """The alerts that open or resolve with this outcome, and with segments that waited for it."""
        if isinstance(outcome, SegmentFailure) and outcome.reason in NOT_JUDGED:
            return ()
        rendition = outcome.segment.rendition
        before = self._store.timeline(rendition.key)
        timeline, timed = place_outcome(before, outcome)
        ad_breaks = breaks_after(before, outcome)
        if ad_breaks != timeline.ad_breaks:
            timeline = replace(timeline, ad_breaks=ad_breaks)
        self._store.save(timeline)
        forgotten = tuple(self._forget_expired(timeline))
        if timed is None:
            return forgotten
        alerts = [] if rendition.key in self._matching else self._start_rendition(rendition, timed)
        if isinstance(outcome, QualityEvent):
            alerts += self._close_playlist_alerts(rendition.stream_id, timed)
        alerts += self._evaluate_span_rules(self._matching[rendition.key], timed)
        return (*forgotten, *alerts, *self._regressions.evaluate(timed), *self._close_opened_after_end())

    def _evaluate_span_rules(self, rules: "tuple[_MatchingRule, ...]", timed: TimedOutcome) -> Iterator[Alert]:
        outcome, states = timed.outcome, self._store.states
        labels = outcome.segment.all_labels
        is_ad_break = labels.get(AD_BREAK_LABEL) == "yes"
        for matching in rules:
            # Most rules remember nothing, and nothing is to be remembered.
            key = matching.fixed_key
            if key is not None and key not in states and matching.leaves_idle(timed, None):
                continue
            if is_ad_break and matching.rule.mask_ad_breaks:
                continue
            if matching.rule.match.matches_labels(labels):
                for key, score in matching.keys(outcome):
                    stored = states.get(key)
                    if stored is not None or not matching.leaves_idle(timed, score):
                        yield from self._evaluate(matching, key, score, timed, stored=stored)

    def add_marker(self, marker: DeployMarker) -> None:
        """Restart the series that a marker matches from its moment on; a second time changes nothing."""
        if marker.key not in self._store.states:
            self._store.save(marker)
            self._regressions.load_markers()

    def end_stream(self, end: StreamEnd) -> tuple[Alert, ...]:
        """Close the open alerts of renditions that have ended, where their last segment ended.

        Baselines stay for segments that come later; alerts of groups are left to their other members. A second time
        changes nothing.
        """
        return tuple(self._end(end, why=END_REASON_TEXTS[end.why]))

    def _end(self, end: StreamEnd, *, why: str) -> Iterator[Alert]:
        timelines = self._store.timelines_of(end.stream_id)
        for timeline in timelines:
            if not timeline.has_ended and end.matches(end.stream_id, timeline.rendition_key):
                ended = replace(timeline, has_ended=True)
                self._store.save(ended)
                if self._activity is not None:
                    self._activity.note(ended)
        yield from self._regressions.end_stream(end)
        yield from self._close_opened_after_end()
        states = [state for timeline in timelines for state in self._store.alert_states_of(timeline.rendition_key)]
        for state in sorted(states, key=lambda state: f"{state.rule}|{state.series}"):
            if state.alert and end.matches(state.alert.stream_id, _rendition_key(state.alert)):
                yield from self._close_ended(state, state.alert, why=why)

    def _forget_expired(self, timeline: RenditionTimeline) -> Iterator[Alert]:
        """Note the outcome of a rendition, and forget those that have ended or been silent for long by its time."""
        if self._activity is not None:
            self._activity.note(timeline)
            for rendition_key in self._activity.pop_expired():
                yield from self._forget(rendition_key)

    def _forget(self, rendition_key: str) -> Iterator[Alert]:
        """Remove everything about stream/rendition; its open alerts resolve."""
        timeline = self._store.timeline(rendition_key)
        if timeline is not None:
            stream_id, at = timeline.stream_id, _datetime(timeline.ends_at)
            rendition = rendition_key.removeprefix(f"{stream_id}/")
            if not timeline.has_ended:
                end = StreamEnd(id=rendition_key, stream_id=stream_id, rendition=rendition, at=at)
                yield from self._end(end, why="nothing has come of the stream for too long")
            self._regressions.forget(stream_id, rendition)
        self._store.delete_rendition(rendition_key)
        self._matching.pop(rendition_key, None)
        self._restored.pop(rendition_key, None)
        if self._activity is not None:
            self._activity.drop(rendition_key)

    def active_until(self, stream_id: str, rendition: str = ALL_RENDITIONS) -> datetime | None:
        """The end of the last segment of those of these renditions that have not ended; None when there are none."""
        moments = [timeline.ends_at for timeline in self._active_timelines(stream_id, rendition)]
        return _datetime(max(moments)) if moments else None

    def has_scored(self, segment: Segment) -> bool:
        """Whether this very segment has a score already, as far as is remembered."""
        timeline = self._store.timeline(segment.rendition.key)
        return timeline is not None and was_scored(timeline, segment)

    def has_stream(self, stream_id: str) -> bool:
        """Whether this Judge has seen any rendition of the stream, ended or not."""
        return bool(self._store.timelines_of(stream_id))

    def active_streams(self) -> frozenset[str]:
        """Ids of the streams that have not ended."""
        return frozenset(timeline.stream_id for timeline in self._store.timelines() if not timeline.has_ended)

    def states(self) -> Mapping[StateKey, State]:
        """All states, for another Judge to go on with."""
        return dict(self._store.states)

    def drain_changes(self) -> Mapping[StateKey, State | None]:
        """The states that have changed since the last call; None = deleted."""
        return self._store.drain_changes()

    def _evaluate(
        self,
        matching: "_MatchingRule",
        key: AlertKey,
        score: Score | None,
        timed: TimedOutcome,
        *,
        stored: State | None,
    ) -> Iterator[Alert]:
        rule, condition, series = matching.rule, matching.condition, key.series
        assert isinstance(series, RenditionSeries)
        if not isinstance(stored, condition.state_type):
            stored = None
        state: SpanState = stored if stored is not None else condition.state_type(rule=rule.name, series=series)
        state, spans = condition.evaluate(state, timed, score, masks=matching.masks)
        for span in spans:
            state, transition = apply_span(state, span, matching.timing)
            if transition is None:
                continue
            if transition.kind == "resolved" and state.alert is not None:
                yield _resolved(state.alert, transition)
                state = state.without_alert()
            else:
                alert = _opened(rule, condition, series, transition, timed=timed, score=score)
                yield alert
                state = state.with_alert(alert)
        if state.is_idle:
            self._store.delete(key)
        elif state is not stored:
            self._store.save(state)

    def _start_rendition(self, rendition: Rendition, timed: TimedOutcome) -> list[Alert]:
        """Find the rules for a rendition, and close its restored alerts that none of them follows any more."""
        matching = [rule for rule in self._rules.values() if rule.match.matches_rendition(rendition)]
        self._matching[rendition.key] = tuple(
            _MatchingRule(rule, rule.condition, rendition)
            for rule in matching
            if isinstance(rule.condition, SpanCondition)
        )
        rules = {rule.name: rule for rule in matching}
        orphans = [
            state
            for state in self._restored.pop(rendition.key, ())
            if not _rule_still_evaluates(state, rules.get(state.rule))
        ]  # fmt: skip
        # Group rules do not match renditions.
        orphans += [
            state
            for state in self._restored.pop("", ())
            if not _rule_still_evaluates(state, self._rules.get(state.rule))
        ]
        return [
            alert for state in orphans for alert in self._close(state, timed.ends_at, why="the rule no longer applies")
        ]

    def _close_playlist_alerts(self, stream_id: str, timed: TimedOutcome) -> Iterator[Alert]:
        """A scored segment closes the alerts about the stream as a whole."""
        key = f"{stream_id}/{_PLAYLIST}"
        if self._store.timeline(key) is None:
            return
        self._store.delete(TimelineKey(rendition_key=key))
        for state in self._store.alert_states_of(key):
            if state.alert and _rendition_key(state.alert) == key:
                yield from self._close(state, timed.ends_at, why="the stream is listed again")

    def _close_opened_after_end(self) -> Iterator[Alert]:
        """Close the alerts that released segments opened for renditions that have ended meanwhile."""
        for key in self._regressions.pop_opened():
            state = self._store.states.get(key)
            if isinstance(state, AlertState) and state.alert is not None and self._has_ended(state.alert):
                yield from self._close_ended(state, state.alert, why=END_REASON_TEXTS["ended"])

    def _has_ended(self, alert: Alert) -> bool:
        timeline = self._store.timeline(_rendition_key(alert))
        return timeline is not None and timeline.has_ended

    def _close_ended(self, state: AlertState, alert: Alert, *, why: str) -> Iterator[Alert]:
        timeline = self._store.timeline(_rendition_key(alert))
        ended_at = timeline.ends_at if timeline else alert.opened_at.timestamp()
        return self._close(state, ended_at, why=why)

    def _active_timelines(self, stream_id: str, rendition: str) -> list[RenditionTimeline]:
        key = f"{stream_id}/{rendition}"
        return [
            timeline
            for timeline in self._store.timelines_of(stream_id)
            if not timeline.has_ended and (rendition == ALL_RENDITIONS or timeline.rendition_key == key)
        ]

    def _close(self, state: AlertState, at: float, *, why: str) -> Iterator[Alert]:
        assert state.alert is not None
        self._store.delete(state.key)
        return self._regressions.close(state, _resolve(state.alert, at, f"{state.alert.summary}; closed: {why}"))


class _MatchingRule:
    """A rule with a span condition whose globs match a rendition."""

    def __init__(self, rule: AlertRule, condition: SpanCondition[Any], rendition: Rendition) -> None:
        self.rule = rule
        self.condition = condition
        self.leaves_idle = condition.leaves_idle
        self.timing = condition.timing(min_open_seconds=rule.min_open_seconds)
        self.masks = rule.masks_for(rendition)
        subject = condition.fixed_subject
        series = None if subject is None else RenditionSeries(rendition.key, subject)
        # of its series, where there is one whatever the outcome
        self.fixed_key = None if series is None else AlertKey(rule.name, series)

    def keys(self, outcome: Outcome) -> Iterable[tuple[AlertKey, Score | None]]:
        """The series that the condition follows in an outcome, each with the score to evaluate."""
        if self.fixed_key is not None:
            return [(self.fixed_key, None)]
        return [(AlertKey(self.rule.name, series), score) for series, score in self.condition.series(outcome)]


def _rule_still_evaluates(state: AlertState, rule: AlertRule | None) -> bool:
    return rule is not None and rule.condition.follows(state)


def _rendition_key(alert: Alert) -> str:
    return f"{alert.stream_id}/{alert.rendition}"


def _opened(
    rule: AlertRule,
    condition: SpanCondition[Any],
    series: RenditionSeries,
    transition: SpanTransition,
    *,
    timed: TimedOutcome,
    score: Score | None,
) -> Alert:
    outcome, span = timed.outcome, transition.span
    # After the timeline was set back the run may begin later than it ends.
    began = min(transition.began_at, transition.at)
    began_at = _datetime(began)
    rendition = outcome.segment.rendition
    return Alert(
        id=alert_id(rule.name, str(series), began_at),
        rule=rule.name,
        series=str(series),
        stream_id=rendition.stream_id,
        rendition=rendition.name,
        severity=rule.severity,
        state="open",
        began_at=began_at,
        opened_at=_datetime(transition.at),
        resolved_at=None,
        summary=condition.summarize(outcome, score, span, held_seconds=transition.at - began),
        evidence=condition.evidence(outcome, score, span),
        labels=outcome.segment.all_labels,
    )


def _resolved(alert: Alert, transition: SpanTransition) -> Alert:
    lasted_seconds = max(transition.began_at - alert.began_at.timestamp(), 0.0)
    return _resolve(alert, transition.at, f"{alert.summary}; over after {lasted_seconds:.3g} s")


def _resolve(alert: Alert, at: float, summary: str) -> Alert:
    resolved_at = max(_datetime(at), alert.opened_at)
    return replace(alert, state="resolved", resolved_at=resolved_at, summary=summary)


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
