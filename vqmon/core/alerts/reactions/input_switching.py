"""Decides which input of a stream is to be used, by the scores of both: switch to the backup, hold, or return.

The rules are those of input failover by a quality score: a threshold with hysteresis, how long a condition must hold,
how long a switch stays at least, and a pause before the next one.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Literal, TypeVar

from vqmon.core.types import Outcome, QualityEvent, SegmentFailure
from vqmon.errors import REASONS

DecisionKind = Literal["switch", "hold", "return"]

DecisionReason = Literal[
    "score_low", "backup_better", "score_recovered", "cool_down", "minimum_hold", "backup_unknown", "backup_no_better"
]

INPUT_FAULTS = frozenset(
    (
        *("gap", "stale", "playlist", "not_found", "http_status", "unreachable", "timeout", "too_slow", "origin_away"),
        *("empty", "not_media", "no_video", "no_frames", "corrupt", "missing_init"),
    )
)
"""Reasons of unscored segments that are faults of the input, not of vqmon or its settings."""

_MAX_INPUTS = 20_000
"""The inputs that are remembered of all rules; the one without a segment for the longest is forgotten first."""

_JUMP = timedelta(minutes=10)
"""A timeline that goes back further has begun anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRule:
    """When the input of a stream is switched. Scores are 0..100; ValueError for values that make no sense."""

    name: str
    # globs of the stream ids of primary inputs
    streams: tuple[str, ...] = ("*",)
    # globs of their renditions, and of those of the backup
    renditions: tuple[str, ...] = ("*",)
    # stream id of the backup input, with {stream}; "" = its scores are not known
    backup: str = ""
    # name or name@version; "" = the first scorer
    scorer: str = ""
    below: float = 40.0
    above: float = 55.0
    for_seconds: float = 10.0
    return_seconds: float = 60.0
    min_hold_seconds: float = 60.0
    cool_down_seconds: float = 120.0
    better_by: float = 10.0
    stale_seconds: float = 30.0
    unscored_is_bad: bool = True
    is_dry_run: bool = False
    # how long a decision is worth being delivered
    give_up_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.below <= self.above <= 100:
            raise ValueError("above: must be at least `below`, and both from 0 to 100")
        if set("{}") & set(self.backup.replace("{stream}", "", 1)):
            raise ValueError('backup: only {stream} is filled in, once, like "{stream}-backup"')
        if self.backup == "{stream}":
            raise ValueError("backup: names the stream itself")
        for stream_id in self.streams:
            if not set("*?[") & set(stream_id) and self.is_backup(stream_id):
                raise ValueError(f"streams: {stream_id} is the backup input by `backup`; name its primary input here")

    def is_backup(self, stream_id: str) -> bool:
        """Whether a stream is the backup input of another."""
        before, field_name, after = self.backup.partition("{stream}")
        if not field_name:
            return bool(self.backup) and stream_id == self.backup
        long_enough = len(stream_id) > len(before) + len(after)
        return long_enough and stream_id.startswith(before) and stream_id.endswith(after)

    def is_primary(self, stream_id: str) -> bool:
        """Whether the rule decides about the input of this stream."""
        return not self.is_backup(stream_id) and any(fnmatchcase(stream_id, pattern) for pattern in self.streams)

    def backup_of(self, stream_id: str) -> str:
        """The stream id of its backup input, "" without one."""
        return self.backup.replace("{stream}", stream_id)

    def primary_of(self, backup_id: str) -> str:
        """The stream id that has this backup input; "" for one that all streams share."""
        before, field_name, after = self.backup.partition("{stream}")
        return backup_id[len(before) : len(backup_id) - len(after)] if field_name else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDecision:
    """A decision about the input of one stream."""

    # idempotency key: the same when the same segments are judged again
    id: str
    # name of the hook
    hook: str
    # stream id of the primary input
    stream_id: str
    # switch to the backup, hold (a change is due and was not made), or return to the primary
    kind: DecisionKind
    # the input to use from now on
    input: Literal["primary", "backup"]
    # score_low, backup_better, score_recovered; of hold: cool_down, minimum_hold, backup_unknown, backup_no_better
    reason: DecisionReason
    # the same as a sentence
    summary: str
    # score of the primary input, 0..100; of an unscored segment 0
    value: float
    # what it was compared with
    threshold: float
    # stream id of the backup input; empty when the rule has none
    backup_stream_id: str = ""
    # its score, null when it is not known
    backup_value: float | None = None
    # end of the segment that led to it, on the segments' own timeline
    at: datetime
    # the outcome of that segment
    event_id: str
    # by the clock of the machine
    decided_at: datetime
    # when the decision must not be followed any more
    expires_at: datetime
    # whether it is only recorded
    is_dry_run: bool = False


DeliveryResult = Literal["waiting", "delivered", "dry_run", "refused", "expired", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision and its delivery."""

    decision: InputDecision
    # waiting, delivered, dry_run (not sent), refused, expired, or superseded by a newer decision
    delivery: DeliveryResult
    # requests that were sent
    attempts: int = 0
    # why the last of them failed; "" otherwise
    error: str = ""
    # when the delivery last changed, by the clock of the machine
    changed_at: datetime


@dataclass(slots=True)
class _Input:
    """The newest scores of one input, by rendition."""

    # rendition -> (end of the segment, score)
    scores: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    newest_at: datetime | None = None

    def add(self, rendition: str, *, at: datetime, value: float, stale: timedelta) -> None:
        if self.newest_at is not None and at < self.newest_at - _JUMP:
            self.scores.clear()
            self.newest_at = None
        known = self.scores.get(rendition)
        if known is None or known[0] < at:
            self.scores[rendition] = (at, value)
        self.newest_at = max(self.newest_at or at, at)
        limit = self.newest_at - stale
        self.scores = {name: score for name, score in self.scores.items() if score[0] >= limit}

    def value(self, *, at: datetime, stale: timedelta) -> float | None:
        """The best score of its renditions: a fault of the input hits all of them. None = nothing is known."""
        return max((value for ends_at, value in self.scores.values() if abs(at - ends_at) <= stale), default=None)


@dataclass(slots=True)
class _Switch:
    """Which input a stream uses, and since when a change is due."""

    is_on_backup: bool = False
    # by the clock of the machine; None = never
    changed_at: datetime | None = None
    # on the segments' timeline; None = the condition does not hold
    due_since: datetime | None = None
    seen_until: datetime | None = None
    # why the change that is due was not made, so that it is said once
    held_for: str = ""
    # that change, to be made as soon as the backup is better
    held: "_Draft | None" = None


class InputJudge:
    """Judges outcomes one by one; remembers scores and switches in memory. Not safe for several threads."""

    def __init__(self, rules: Sequence[InputRule], *, last: Sequence[InputDecision] = ()) -> None:
        """`last` are earlier decisions, the oldest first: which input is in use goes on from them."""
        self._rules = tuple(rules)
        self._inputs: OrderedDict[tuple[str, str], _Input] = OrderedDict()
        self._switches: OrderedDict[tuple[str, str], _Switch] = OrderedDict()
        for decision in last:
            if decision.kind != "hold":
                self._switches[decision.hook, decision.stream_id] = _Switch(
                    is_on_backup=decision.kind == "switch", changed_at=decision.decided_at
                )

    def judge(self, outcome: Outcome, *, now: datetime) -> Sequence[InputDecision]:
        """The decisions that an outcome leads to; `now` is the clock of the machine."""
        return [decision for rule in self._rules for decision in self._judge_by(rule, outcome, now)]

    def _judge_by(self, rule: InputRule, outcome: Outcome, now: datetime) -> Iterator[InputDecision]:
        rendition = outcome.segment.rendition
        stream_id, is_primary = rendition.stream_id, rule.is_primary(rendition.stream_id)
        is_meant = is_primary or rule.is_backup(stream_id)
        if not is_meant or not any(fnmatchcase(rendition.name, pattern) for pattern in rule.renditions):
            return
        value = _score_of(rule, outcome)
        if value is None:
            return
        stale = timedelta(seconds=rule.stale_seconds)
        scores = _remembered(self._inputs, (rule.name, stream_id), _Input())
        scores.add(rendition.name, at=outcome.segment.ends_at, value=value, stale=stale)
        if is_primary:
            decision = self._decide(rule, outcome, now)
            if decision is not None:
                yield decision
            return
        for switch in self._switches_with(rule, stream_id):
            if switch.held is not None:
                decision = self._settle(rule, switch, replace(switch.held, now=now), at=outcome.segment.ends_at)
                if decision is not None:
                    yield decision

    def _switches_with(self, rule: InputRule, backup_id: str) -> Sequence[_Switch]:
        """What is known of the streams that have this backup input."""
        primary_id = rule.primary_of(backup_id)
        if not primary_id:
            return [switch for (name, _), switch in self._switches.items() if name == rule.name]
        switch = self._switches.get((rule.name, primary_id))
        return [] if switch is None else [switch]

    def _decide(self, rule: InputRule, outcome: Outcome, now: datetime) -> InputDecision | None:
        """Judge a segment of a primary input."""
        segment, stale = outcome.segment, timedelta(seconds=rule.stale_seconds)
        at, stream_id = segment.ends_at, segment.rendition.stream_id
        switch = _remembered(self._switches, (rule.name, stream_id), _Switch())
        value = self._inputs[rule.name, stream_id].value(at=at, stale=stale)
        if value is None:
            return None
        reason = _due_reason(rule, value, self._backup_value(rule, stream_id, at), is_on_backup=switch.is_on_backup)
        _advance(switch, begins_at=segment.starts_at, ends_at=at, is_due=reason is not None, stale=stale)
        needed = rule.return_seconds if switch.is_on_backup else rule.for_seconds
        if reason is None or switch.due_since is None or (at - switch.due_since).total_seconds() < needed:
            switch.held = None
            return None
        draft = _Draft(rule=rule, outcome=outcome, now=now, value=value, reason=reason)
        return self._settle(rule, switch, draft, at=at)

    def _settle(self, rule: InputRule, switch: _Switch, draft: "_Draft", *, at: datetime) -> InputDecision | None:
        """Make a change that is due, or hold it; a held one is settled anew with each score of the backup too."""
        segment, switch.held = draft.outcome.segment, None
        backup_value = self._backup_value(rule, segment.rendition.stream_id, at)
        reason = _due_reason(rule, draft.value, backup_value, is_on_backup=switch.is_on_backup)
        if reason is None:
            # the backup is good again
            switch.due_since, switch.held_for = None, ""
            return None
        if abs(at - segment.ends_at) > timedelta(seconds=rule.stale_seconds):
            # what the primary had is not known any more
            return None
        draft = replace(draft, reason=reason, backup_value=backup_value)
        held_for = _hold_reason(rule, switch, draft.value, backup_value, draft.now)
        if held_for is not None:
            switch.held = draft
            if switch.held_for == held_for:
                return None
            switch.held_for = held_for
            return draft.decision("hold", held_for, is_on_backup=switch.is_on_backup)
        switch.is_on_backup, switch.changed_at = not switch.is_on_backup, draft.now
        switch.due_since, switch.held_for = None, ""
        kind: DecisionKind = "switch" if switch.is_on_backup else "return"
        return draft.decision(kind, draft.reason, is_on_backup=switch.is_on_backup)

    def _backup_value(self, rule: InputRule, stream_id: str, at: datetime) -> float | None:
        backup = self._inputs.get((rule.name, rule.backup_of(stream_id)))
        return backup.value(at=at, stale=timedelta(seconds=rule.stale_seconds)) if backup else None


def _score_of(rule: InputRule, outcome: Outcome) -> float | None:
    """The score 0..100 that an outcome gives its input; None = it says nothing about the input."""
    if isinstance(outcome, QualityEvent):
        score = outcome.score_of(rule.scorer) if rule.scorer else outcome.main_score
        return score.value if score else None
    return 0.0 if rule.unscored_is_bad and _is_input_fault(outcome) else None


def _is_input_fault(failure: SegmentFailure) -> bool:
    # why a playlist could not be fetched stands before its detail: the settings may not allow its address
    cause = failure.detail.partition(":")[0] if failure.reason == "playlist" else ""
    if cause in REASONS and cause not in INPUT_FAULTS:
        return False
    # a deadline within decoder or scorer is about the load of this machine
    return failure.reason in INPUT_FAULTS and not (failure.reason == "timeout" and failure.stage != "fetch")


def _due_reason(
    rule: InputRule, value: float, backup_value: float | None, *, is_on_backup: bool
) -> DecisionReason | None:
    """Why a change is due by the scores of this moment."""
    if not is_on_backup:
        return "score_low" if value < rule.below else None
    if value >= rule.above:
        return "score_recovered"
    # the backup became worse than the primary is
    if backup_value is not None and backup_value < rule.below and value >= backup_value + rule.better_by:
        return "backup_better"
    return None


def _hold_reason(
    rule: InputRule, switch: _Switch, value: float, backup_value: float | None, now: datetime
) -> DecisionReason | None:
    """Why a change that is due is not made."""
    pause_seconds = rule.min_hold_seconds if switch.is_on_backup else rule.cool_down_seconds
    if switch.changed_at is not None and switch.changed_at > now:
        # the clock was set back: the pause begins anew, and lasts no longer
        switch.changed_at = now
    if switch.changed_at is not None and (now - switch.changed_at).total_seconds() < pause_seconds:
        return "minimum_hold" if switch.is_on_backup else "cool_down"
    if switch.is_on_backup or not rule.backup:
        return None
    if backup_value is None:
        return "backup_unknown"
    return "backup_no_better" if backup_value < value + rule.better_by else None


def _advance(switch: _Switch, *, begins_at: datetime, ends_at: datetime, is_due: bool, stale: timedelta) -> None:
    """Note for how long the condition has held; a gap in the segments begins it anew."""
    seen_until = switch.seen_until
    if seen_until is not None and not -_JUMP <= begins_at - seen_until <= stale:
        switch.due_since, seen_until = None, None
    switch.seen_until = max(seen_until or ends_at, ends_at)
    if not is_due:
        switch.due_since, switch.held_for = None, ""
    elif switch.due_since is None:
        switch.due_since = begins_at


_Value = TypeVar("_Value")


def _remembered(values: OrderedDict[tuple[str, str], _Value], key: tuple[str, str], default: _Value) -> _Value:
    value = values.setdefault(key, default)
    values.move_to_end(key)
    if len(values) > _MAX_INPUTS:
        values.popitem(last=False)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """What a decision is made of."""

    rule: InputRule
    outcome: Outcome
    now: datetime
    value: float
    # of the change, if it is made
    reason: DecisionReason
    backup_value: float | None = None

    def decision(self, kind: DecisionKind, reason: DecisionReason, *, is_on_backup: bool) -> InputDecision:
        rule, rendition = self.rule, self.outcome.segment.rendition
        threshold = rule.above if reason in ("score_recovered", "minimum_hold") else rule.below
        segment = self.outcome.segment
        # with the time: a stream that begins anew may use the same sequence numbers
        identity = (rule.name, segment.key, segment.ends_at.isoformat(), kind, reason)
        return InputDecision(
            id=sha256("\n".join(identity).encode()).hexdigest()[:32],
            hook=rule.name,
            stream_id=rendition.stream_id,
            kind=kind,
            input="backup" if is_on_backup else "primary",
            reason=reason,
            summary=self._summary(reason, threshold),
            value=self.value,
            threshold=threshold,
            backup_stream_id=rule.backup_of(rendition.stream_id),
            backup_value=self.backup_value,
            at=segment.ends_at,
            event_id=self.outcome.id,
            decided_at=self.now,
            expires_at=self.now + timedelta(seconds=rule.give_up_seconds),
            is_dry_run=rule.is_dry_run,
        )

    def _summary(self, reason: DecisionReason, threshold: float) -> str:
        backup = "unknown" if self.backup_value is None else f"{self.backup_value:.1f}"
        score = f"score {self.value:.1f}"
        low, high = f"{score}, below {threshold:g}", f"{score}, at least {threshold:g}"
        return {
            "score_low": f"{low} for {self.rule.for_seconds:g} s",
            "backup_better": f"{score}, better than the backup with {backup}",
            "score_recovered": f"{high} for {self.rule.return_seconds:g} s",
            "cool_down": f"{low}, but the last return is less than {self.rule.cool_down_seconds:g} s ago",
            "minimum_hold": f"{score}, but the switch is less than {self.rule.min_hold_seconds:g} s ago",
            "backup_unknown": f"{low}, but the backup has no score of the last {self.rule.stale_seconds:g} s",
            "backup_no_better": f"{low}, but the backup with {backup} is not {self.rule.better_by:g} better",
        }[reason]
