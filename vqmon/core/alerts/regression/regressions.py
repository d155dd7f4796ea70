"""Evaluates regression rules on outcomes: single series, and pairs of renditions aligned in media time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd, masked_seconds
from vqmon.core.alerts.conditions.base import scorer_matches
from vqmon.core.alerts.conditions.group import GroupState
from vqmon.core.alerts.conditions.regression import (
    AGAINST_LABEL,
    AGAINST_LADDER,
    AGAINST_NEIGHBOURS,
    AGAINST_REPEATS,
    REPEATS_FORGET_SECONDS,
    Regression,
    RegressionState,
)
from vqmon.core.alerts.media_timeline import NOT_SEGMENTS, TimedOutcome
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART, chart_at_closing, current_baseline
from vqmon.core.alerts.regression.groups.detector import GroupDetector, GroupMembership, MemberValue
from vqmon.core.alerts.regression.inhibition import Inhibitor
from vqmon.core.alerts.regression.pairs.ladder import Ladder, scored_segment
from vqmon.core.alerts.regression.pairs.picture_hash import Passage, passage_of
from vqmon.core.alerts.regression.pairs.repeats import RepeatMemory
from vqmon.core.alerts.regression.series_alert import Follow, SeriesValue, close_without_values, follow_series
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import AlertKey, AlertState, LadderRendition, ScoredSegment, StateStore
from vqmon.core.types import AD_BREAK_LABEL, Alert, QualityEvent, Rendition, SegmentFailure

_DEPLOY_LABEL = "deploy"
"""A change of this label's value starts the series of its rendition anew."""

_MAX_GAP_SECONDS = 0.5
"""The last picture before a gap of this length is no part of a passage."""

Gather = Callable[[str, MemberValue], None]
"""Called with the shard of the groups of a series, and a value for it."""


class RegressionDetector:
    """Evaluates regression and group rules; remembers nothing but what is in `store`, and indexes of it."""

    def __init__(
        self,
        rules: Sequence[AlertRule],
        store: StateStore,
        *,
        follow: Follow = follow_series,
        gather: Gather | None = None,
    ) -> None:
        """With `gather`, groups are judged elsewhere: it gets what they need, and the alerts that they may mute."""
        self._store = store
        self._follow = follow
        self._rules = [(rule, rule.condition) for rule in rules if isinstance(rule.condition, Regression)]
        # stream/rendition -> the rules whose globs match; filled at its first outcome
        self._rules_by_rendition: dict[str, list[_MatchingRule]] = {}
        self._inhibitor = Inhibitor(store)
        self._repeats = RepeatMemory(store)
        self._membership = GroupMembership(rules)
        self._gather = gather
        self._groups = GroupDetector(() if gather else rules, store)
        # of the alerts that have opened since `pop_opened`
        self._opened: list[AlertKey] = []
        self._ladders: dict[str, Ladder] = {}
        self._stored_renditions: dict[str, dict[str, LadderRendition]] = {}
        for state in store.states.values():
            if isinstance(state, LadderRendition):
                self._stored_renditions.setdefault(state.stream_id, {})[state.rendition] = state
        self._markers: list[DeployMarker] = []
        # stream -> its renditions -> the markers that match them
        self._matching_markers: dict[str, dict[tuple[str, ...], Sequence[DeployMarker]]] = {}
        self.load_markers()

    def load_markers(self) -> None:
        """Read the deploy markers anew after one was added to the store."""
        markers = (state for state in self._store.states.values() if isinstance(state, DeployMarker))
        self._markers = sorted(markers, key=lambda marker: (marker.at, marker.id))
        self._matching_markers.clear()

    def forget(self, stream_id: str, rendition: str) -> None:
        """Drop the indexes of a rendition whose states are removed."""
        self._rules_by_rendition.pop(f"{stream_id}/{rendition}", None)
        self._membership.forget(stream_id, rendition)
        self._repeats.forget(f"{stream_id}/{rendition}")
        ladder = self._ladders.get(stream_id)
        renditions = [self._stored_renditions.get(stream_id, {}), ladder.renditions if ladder else {}]
        for stored in renditions:
            stored.pop(rendition, None)
        if not any(renditions):
            self._stored_renditions.pop(stream_id, None)
            self._ladders.pop(stream_id, None)
            self._matching_markers.pop(stream_id, None)

    def pop_opened(self) -> Sequence[AlertKey]:
        """The states whose alerts have opened since the last call."""
        opened, self._opened = self._opened, []
        return opened

    def close(self, state: AlertState, resolved: Alert) -> Iterator[Alert]:
        """Forget an alert that was closed elsewhere, and publish that it has resolved."""
        if isinstance(state, GroupState):
            self._groups.remove(state.key)
        if not isinstance(state, RegressionState):
            yield resolved
            return
        self._inhibitor.remove(state.key, resolved)
        member = MemberValue.of_alert(resolved, scorer=state.series.scorer)
        yield from self._to_groups(
            member, resolved.labels, resolved.stream_id, resolved.rendition, scorer=state.basis.partition(" ")[0]
        )

    def evaluate(self, timed: TimedOutcome) -> Iterator[Alert]:
        """The alerts that open or resolve with an outcome and with the segments that it releases."""
        outcome = timed.outcome
        if isinstance(outcome, SegmentFailure) and outcome.reason in NOT_SEGMENTS:
            return
        segment = outcome.segment
        ladder = self._ladder(segment.rendition.stream_id)
        scored = None
        # A rendition that no rule is about may still be the one that others are compared with.
        if isinstance(outcome, QualityEvent) and (ladder is not None or self._matching_rules(segment.rendition)):
            scored = scored_segment(outcome, segment.all_labels, passage=self._passage(timed, outcome))
        if ladder is None:
            if scored is not None:
                yield from self._evaluate_segment(scored, None)
            return
        before = dict(ladder.renditions)
        ladder.add_segment(segment, scored)
        yield from self._release(ladder, before)

    def end_stream(self, end: StreamEnd) -> Iterator[Alert]:
        """The alerts that open or resolve with the segments that need not wait for a rendition any longer."""
        ladder = self._ladder(end.stream_id)
        if ladder is not None:
            before = dict(ladder.renditions)
            ladder.end_renditions(end)
            yield from self._release(ladder, before)

    def _release(self, ladder: Ladder, before: Mapping[str, LadderRendition]) -> Iterator[Alert]:
        for segment in ladder.release():
            yield from self._evaluate_segment(segment, ladder)
        for name, rendition in ladder.renditions.items():
            if before.get(name) is not rendition:
                self._store.save(rendition)

    def _evaluate_segment(self, segment: ScoredSegment, ladder: Ladder | None) -> Iterator[Alert]:
        rendition = Rendition(stream_id=segment.stream_id, name=segment.rendition)
        for matching in self._matching_rules(rendition):
            rule = matching.rule
            if not rule.match.matches_labels(segment.labels):
                continue
            if rule.mask_ad_breaks and segment.labels.get(AD_BREAK_LABEL) == "yes":
                continue
            if rule.masks and masked_seconds(rule.masks_for(rendition), segment.starts_at, segment.ends_at):
                continue
            for scorer in segment.scores:
                key = matching.key_of(scorer)
                if key is not None:
                    yield from self._evaluate_score(matching, key, segment, ladder, scorer)

    def _evaluate_score(
        self, matching: "_MatchingRule", key: AlertKey, segment: ScoredSegment, ladder: Ladder | None, scorer: str
    ) -> Iterator[Alert]:
        """Follow one scorer's value of a segment, or its difference from the partners'."""
        rule, condition = matching.rule, matching.condition
        if condition.against == AGAINST_REPEATS:
            yield from self._evaluate_repeat(matching, key, segment, scorer)
            return
        value, basis = segment.scores[scorer], scorer
        partners: Sequence[tuple[str, float]] = ()
        if condition.against:
            partners = _partners(condition, segment, ladder)
            if not partners or ladder is None:
                return
            for name, weight in partners:
                partner_score = ladder.partner_score(segment, name, scorer)
                if partner_score is None:
                    state = self._state(key)
                    self._store.save(replace(state, unpaired_count=state.unpaired_count + 1))
                    return
                value -= weight * partner_score
            basis = f"{scorer} against {' and '.join(name for name, _ in partners)}"
        basis += self._deploy_suffix(segment, *(name for name, _ in partners))
        series_value = _series_value(condition, segment, value, basis=basis, scorer=scorer)
        yield from self._follow_value(rule, self._state(key), series_value)

    def _evaluate_repeat(
        self, matching: "_MatchingRule", key: AlertKey, segment: ScoredSegment, scorer: str
    ) -> Iterator[Alert]:
        """Follow the difference of a segment's score from that which its content had before."""
        rule, condition, state = matching.rule, matching.condition, self._state(key)
        if state.alert is not None and abs(segment.starts_at - state.seen_until) >= REPEATS_FORGET_SECONDS:
            chart = chart_at_closing(state.chart or EMPTY_CHART, closed_at=segment.starts_at)
            state, closed = close_without_values(
                state, state.alert, at=segment.starts_at, why="no content has been repeated", chart=chart
            )
            for alert in self._inhibitor.apply(state, closed, at=segment.starts_at):
                member = MemberValue.of_alert(alert, scorer=state.series.scorer, at=segment.starts_at)
                yield from self._to_groups(
                    member, alert.labels, segment.stream_id, segment.rendition, scorer=state.basis.partition(" ")[0]
                )
        if not segment.passage:
            return
        basis = f"{scorer} against {AGAINST_REPEATS}{self._deploy_suffix(segment)}"
        score = segment.scores[scorer]
        repeat = self._repeats.compare(
            state, condition, basis=basis, passage=segment.passage, score=score, at=segment.starts_at
        )
        if repeat is not None:
            value = _series_value(condition, segment, score - repeat.score, basis=basis, scorer=scorer)
            yield from self._follow_value(rule, state, value._replace(comparison=repeat.describe(score)))
            if state.alert is not None and self._state(key).chart is None:
                # The low level is the new usual.
                self._repeats.clear(state)

    def _follow_value(self, rule: AlertRule, state: RegressionState, value: SeriesValue) -> Iterator[Alert]:
        segment = value.segment
        state, transition = self._follow(rule, state, value)
        if transition is not None and transition.kind == "open":
            self._opened.append(state.key)
        alerts = tuple(self._inhibitor.apply(state, transition, at=segment.starts_at))
        yield from self._publish_through_groups(state, segment, scorer=value.scorer, value=value.value, alerts=alerts)

    def _publish_through_groups(
        self, state: RegressionState, segment: ScoredSegment, *, scorer: str, value: float, alerts: tuple[Alert, ...]
    ) -> Iterator[Alert]:
        """Pass a value of a series and its alerts to its groups; the alerts to publish."""
        name = state.series.scorer
        if self._membership.has_deviations(state.rule):
            baseline = current_baseline(state.chart or EMPTY_CHART)
            if baseline is not None:
                deviation = round(value - baseline.level, 4)
                member = MemberValue(state.rule, segment.rendition_key, name, {}, segment.starts_at, deviation)
                yield from self._to_groups(member, segment.labels, segment.stream_id, segment.rendition, scorer=scorer)
        for alert in alerts:
            member = MemberValue.of_alert(alert, scorer=name, at=segment.starts_at)
            yield from self._to_groups(member, alert.labels, segment.stream_id, segment.rendition, scorer=scorer)

    def _to_groups(
        self, member: MemberValue, labels: Mapping[str, str], stream_id: str, rendition: str, *, scorer: str
    ) -> Iterator[Alert]:
        """Pass something of a series to its groups, if there are any; the scorer is name@version."""
        groups = self._membership.groups_of(stream_id, rendition, labels, scorer=scorer)
        if not groups:
            if member.alert is not None:
                yield member.alert
        elif self._gather is not None:
            self._gather(self._membership.shard_of(labels, scorer=member.scorer), member._replace(groups=groups))
        else:
            yield from self._groups.add([member._replace(groups=groups)])

    def _passage(self, timed: TimedOutcome, event: QualityEvent) -> Passage:
        """The hashes of the pictures of a segment that follows another one, where a rule reads them."""
        before = timed.before
        if (
            event.media.is_still
            or not before.fingerprint
            or abs(timed.starts_at - before.scored_until) > _MAX_GAP_SECONDS
            or not any(
                matching.condition.against == AGAINST_REPEATS
                for matching in self._matching_rules(event.segment.rendition)
            )
        ):
            return ()
        return passage_of(before.fingerprint, *event.edges)

    def _deploy_suffix(self, segment: ScoredSegment, *partners: str) -> str:
        """What distinguishes the basis of a series after a deploy from the one before."""
        suffix = ""
        if deploy := segment.labels.get(_DEPLOY_LABEL):
            suffix = f" since {deploy}"
        for marker in self._markers_for(segment.stream_id, segment.rendition, *partners):
            if marker.at.timestamp() <= segment.starts_at:
                return f"{suffix} since {marker.name} ({marker.id[:6]})"
        return suffix

    def _markers_for(self, stream_id: str, *renditions: str) -> Sequence[DeployMarker]:
        """The markers that match one of these renditions, the newest first; cached, as there may be a year's."""
        matching = self._matching_markers.setdefault(stream_id, {})
        markers = matching.get(renditions)
        if markers is None:
            markers = matching[renditions] = [
                marker
                for marker in reversed(self._markers)
                if any(marker.matches(stream_id, name) for name in renditions if name)
            ]
        return markers

    def _ladder(self, stream_id: str) -> Ladder | None:
        """The ladder of a stream; None when no rule compares its renditions."""
        ladder = self._ladders.get(stream_id)
        if ladder is None:
            waits = [
                condition.wait_seconds
                for rule, condition in self._rules
                if condition.is_paired and any(fnmatchcase(stream_id, glob) for glob in rule.match.stream)
            ]
            if not waits:
                return None
            ladder = self._ladders[stream_id] = Ladder(max(waits), self._stored_renditions.get(stream_id, {}))
        return ladder

    def _matching_rules(self, rendition: Rendition) -> "list[_MatchingRule]":
        rules = self._rules_by_rendition.get(rendition.key)
        if rules is None:
            rules = self._rules_by_rendition[rendition.key] = [
                _MatchingRule(rule, condition, rendition.key)
                for rule, condition in self._rules
                if rule.match.matches_rendition(rendition)
            ]
        return rules

    def _state(self, key: AlertKey) -> RegressionState:
        state = self._store.states.get(key)
        if isinstance(state, RegressionState):
            return state
        return RegressionState(rule=key.rule, series=key.series)


class _MatchingRule:
    """A regression rule whose globs match a rendition, and the keys of the states that it has there."""

    def __init__(self, rule: AlertRule, condition: Regression, rendition_key: str) -> None:
        self.rule = rule
        self.condition = condition
        self._rendition_key = rendition_key
        # by scorer (name@version); None for those that the rule is not about
        self._keys: dict[str, AlertKey | None] = {}

    def key_of(self, scorer: str) -> AlertKey | None:
        """The key of the state that follows a scorer (name@version); None when the rule is not about it."""
        if scorer not in self._keys:
            is_meant = scorer_matches(scorer, self.condition.scorer)
            series = self.condition.series(self._rendition_key, scorer)
            self._keys[scorer] = AlertKey(self.rule.name, series) if is_meant else None
        return self._keys[scorer]


def _series_value(
    condition: Regression, segment: ScoredSegment, value: float, *, basis: str, scorer: str
) -> SeriesValue:
    content_seconds = condition.repeat_seconds if condition.against == AGAINST_REPEATS else 0.0
    seconds = content_seconds or segment.ends_at - segment.starts_at
    return SeriesValue(
        value=value,
        basis=basis,
        scorer=scorer,
        segment=segment,
        impact_minutes=condition.impact_minutes(segment.labels, seconds=seconds),
        min_impact_minutes=condition.min_impact_minutes,
        cause=condition.alert_cause,
        content_seconds=content_seconds,
    )


def _partners(condition: Regression, segment: ScoredSegment, ladder: Ladder | None) -> Sequence[tuple[str, float]]:
    """The renditions that a segment is compared with, and weights; empty when there is none, or one of them is new."""
    if ladder is None or not ladder.takes_part(segment.rendition, segment.starts_at):
        return ()
    others = [name for name in ladder.renditions if name != segment.rendition]
    if condition.against in (AGAINST_LADDER, AGAINST_NEIGHBOURS):
        names = (name for name in others if any(fnmatchcase(name, glob) for glob in condition.among))
        neighbours = ladder.neighbours(segment, names)
        return neighbours if condition.against == AGAINST_NEIGHBOURS else [(name, 1.0) for name, _ in neighbours[:1]]
    pattern = condition.against
    if pattern.startswith(AGAINST_LABEL):
        pattern = segment.labels.get(pattern.removeprefix(AGAINST_LABEL), "")
    candidates = [
        name for name in others if fnmatchcase(name, pattern) and ladder.takes_part(name, segment.starts_at)
    ]  # fmt: skip
    best = max(candidates, key=lambda name: (ladder.renditions[name].ladder_position, name), default="")
    return [(best, 1.0)] if best else ()
