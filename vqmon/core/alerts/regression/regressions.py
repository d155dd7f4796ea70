"""Regression rules meet outcomes: series, and pairs of renditions, are followed in media time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from vqmon.core.alerts.annotations import End, Marker, masked_seconds
from vqmon.core.alerts.regression.groups import Groups
from vqmon.core.alerts.regression.inhibition import Standings
from vqmon.core.alerts.regression.ladder import Entry, Ladder, Rung, entry_of
from vqmon.core.alerts.regression.series_alert import Follow, Reading, follow
from vqmon.core.alerts.rules import BY_LABEL, LADDER, NOT_SEGMENTS, AlertRule, Regression, labels_of, names
from vqmon.core.alerts.state import AlertState, Look, Memory
from vqmon.core.types import Alert, QualityEvent, Rendition, SegmentFailure

DEPLOY_LABEL = "deploy"
"""A label whose value changes starts the series of its rendition anew."""


class Trends:
    """Follows what regression and group rules ask; keeps nothing but what is in `memory`, and indexes of it."""

    def __init__(self, rules: Sequence[AlertRule], memory: Memory, *, follow: Follow = follow) -> None:
        self._memory = memory
        self._follow = follow
        self._rules = [(rule, rule.condition) for rule in rules if isinstance(rule.condition, Regression)]
        self._fitting: dict[str, list[tuple[AlertRule, Regression]]] = {}
        self._standings = Standings(rules, memory)
        self._groups = Groups(rules, memory, self._standings)
        self._ladders: dict[str, Ladder] = {}
        self._rungs: dict[str, dict[str, Rung]] = {}
        for state in memory.states.values():
            if isinstance(state, Rung):
                self._rungs.setdefault(state.stream_id, {})[state.rendition] = state
        self._markers: list[Marker] = []
        # stream and renditions -> the markers that mean them
        self._meant: dict[tuple[str, ...], Sequence[Marker]] = {}
        self.read_markers()

    def read_markers(self) -> None:
        """Another marker has come into the memory."""
        found = (it for it in self._memory.states.values() if isinstance(it, Marker))
        self._markers = sorted(found, key=lambda it: (it.at, it.id))
        self._meant.clear()

    def drop(self, key: str) -> None:
        """An alert was closed elsewhere."""
        self._standings.drop(key)

    def judge(self, look: Look) -> Iterator[Alert]:
        """The alerts that open or end with an outcome, those of entries that waited for it too."""
        outcome = look.outcome
        if isinstance(outcome, SegmentFailure) and outcome.reason in NOT_SEGMENTS:
            return
        segment = outcome.segment
        ladder = self._ladder(segment.rendition.stream_id)
        entry = None
        # A rendition that no rule is about may still be the one that others are compared with.
        if isinstance(outcome, QualityEvent) and (ladder is not None or self._fits(segment.rendition)):
            entry = entry_of(outcome, labels_of(segment))
        if ladder is None:
            if entry is not None:
                yield from self._enter(entry, None)
            return
        before = dict(ladder.rungs)
        ladder.arrived(segment, entry)
        yield from self._release(ladder, before)

    def end(self, end: End) -> Iterator[Alert]:
        """The alerts that open or end with what need not wait for a rendition any longer."""
        ladder = self._ladder(end.stream_id)
        if ladder is not None:
            before = dict(ladder.rungs)
            ladder.ended(end)
            yield from self._release(ladder, before)

    def _release(self, ladder: Ladder, before: Mapping[str, Rung]) -> Iterator[Alert]:
        for ready in ladder.released():
            yield from self._enter(ready, ladder)
        for name, rung in ladder.rungs.items():
            if before.get(name) is not rung:
                self._memory.remember(rung)

    def _enter(self, entry: Entry, ladder: Ladder | None) -> Iterator[Alert]:
        yield from self._groups.pass_time(entry.starts)
        rendition = Rendition(stream_id=entry.stream_id, name=entry.rendition)
        for rule, condition in self._fits(rendition):
            if not rule.match.fits_labels(entry.labels):
                continue
            if rule.masks and masked_seconds(rule.masks_over(rendition), entry.starts, entry.ends):
                continue
            for scorer in entry.scores:
                if names(scorer, condition.scorer):
                    yield from self._read(rule, condition, entry, ladder, scorer)

    def _read(
        self, rule: AlertRule, condition: Regression, entry: Entry, ladder: Ladder | None, scorer: str
    ) -> Iterator[Alert]:
        """One scorer's value of an entry, or its difference from the partner's."""
        what = scorer.split("@")[0] + (f"~{condition.against}" if condition.against else "")
        state = self._state(rule, f"{entry.stream_id}/{entry.rendition}/{what}")
        value, basis = entry.scores[scorer], scorer
        partner = ""
        if condition.against:
            partner = _partner_of(condition, entry, ladder)
            if not partner or ladder is None:
                return
            other = ladder.partner(entry, partner, scorer)
            if other is None:
                self._memory.remember(replace(state, dropped=state.dropped + 1))
                return
            value, basis = value - other, f"{scorer} against {partner}"
        reading = Reading(
            value=value,
            basis=basis + self._since(entry, partner),
            scorer=scorer,
            entry=entry,
            impact=_weight(entry.labels.get(condition.weight_label)) * (entry.ends - entry.starts) / 60,
            min_impact=condition.min_impact_minutes,
            cause=condition.explains_as,
        )
        state, turned = self._follow(rule, state, reading)
        state = self._groups.recorded(state, entry, scorer=scorer, value=value)
        yield from self._standings.settle(state, turned, at=entry.starts)

    def _since(self, entry: Entry, partner: str) -> str:
        """What tells series before a deploy from those after it."""
        words = ""
        if deploy := entry.labels.get(DEPLOY_LABEL):
            words = f" since {deploy}"
        for marker in self._markers_over(entry.stream_id, entry.rendition, partner):
            if marker.at.timestamp() <= entry.starts:
                return f"{words} since {marker.name} ({marker.id[:6]})"
        return words

    def _markers_over(self, stream_id: str, *renditions: str) -> Sequence[Marker]:
        """The markers that mean one of these renditions, the newest first; a year's are too many to ask each time."""
        key = (stream_id, *renditions)
        known = self._meant.get(key)
        if known is None:
            known = self._meant[key] = [
                marker
                for marker in reversed(self._markers)
                if any(marker.fits(stream_id, name) for name in renditions if name)
            ]
        return known

    def _ladder(self, stream_id: str) -> Ladder | None:
        """The ladder of a stream that a rule with pairs is about."""
        known = self._ladders.get(stream_id)
        if known is None:
            waits = [
                condition.wait_seconds
                for rule, condition in self._rules
                if condition.against and any(fnmatchcase(stream_id, glob) for glob in rule.match.stream)
            ]
            if not waits:
                return None
            known = self._ladders[stream_id] = Ladder(max(waits), self._rungs.get(stream_id, {}))
        return known

    def _fits(self, rendition: Rendition) -> list[tuple[AlertRule, Regression]]:
        known = self._fitting.get(rendition.key)
        if known is None:
            known = [pair for pair in self._rules if pair[0].match.fits_names(rendition)]
            self._fitting[rendition.key] = known
        return known

    def _state(self, rule: AlertRule, series: str) -> AlertState:
        state = self._memory.states.get(f"{rule.name}|{series}")
        if isinstance(state, AlertState) and state.kind == Regression.kind:
            return state
        return AlertState(rule=rule.name, series=series, kind=Regression.kind)


def _partner_of(condition: Regression, entry: Entry, ladder: Ladder | None) -> str:
    """The rendition that an entry is compared with; empty when there is none, or one of them has just come."""
    if ladder is None or not ladder.takes_part(entry.rendition, entry.starts):
        return ""
    others = [name for name in ladder.rungs if name != entry.rendition]
    if condition.against == LADDER:
        rungs = (name for name in others if any(fnmatchcase(name, glob) for glob in condition.among))
        return ladder.neighbour(entry, rungs)
    wanted = condition.against
    if wanted.startswith(BY_LABEL):
        wanted = entry.labels.get(wanted.removeprefix(BY_LABEL), "")
    fitting = [name for name in others if fnmatchcase(name, wanted) and ladder.takes_part(name, entry.starts)]
    return max(fitting, key=lambda name: (ladder.rungs[name].rung, name), default="")


def _weight(text: str | None) -> float:
    """A label as a weight; one that is missing, no number, or not above 0 weighs 1."""
    try:
        value = float(text or 1.0)
    except ValueError:
        return 1.0
    return value if 0.0 < value < 1e12 else 1.0
