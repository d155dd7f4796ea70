"""The page of decisions about inputs: which input each stream is on, and every decision with its delivery."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.alerts.reactions.input_switching import DecisionRecord, InputRule
from vqmon.web.model.renditions import RenditionRow
from vqmon.web.site import Site, format_iso
from vqmon.web.urls import EVENT_ID_PATTERN, segment_path, stream_path, with_query

_MAX_DECISIONS = 200
_MAX_GROUPS = 250

_DELIVERIES = {
    "waiting": ("stale", "waiting", "It has not been delivered yet."),
    "delivered": ("good", "delivered", "The receiver answered 2xx."),
    "dry_run": ("look", "dry run", "It is recorded only; nothing was sent."),
    "refused": ("failing", "refused", "The receiver refused it."),
    "expired": ("failing", "expired", "It could not be delivered in time, and was given up."),
    "superseded": ("stale", "superseded", "A newer decision took its place before it was delivered."),
}
"""Result of a delivery -> badge, its word, and what it means."""

_KINDS = {
    "switch": ("degraded", "switch to backup"),
    "return": ("good", "return to primary"),
    "hold": ("stale", "hold"),
}
"""Kind of a decision -> badge and its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Badge:
    """A state as a shape, a word and a colour."""

    css_class: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _DecisionRow:
    """A decision as the page shows it."""

    record: DecisionRecord
    kind: _Badge
    delivery: _Badge
    element_id: str
    stream_url: str
    # of the segment that led to it
    segment_url: str
    # whether the settings still have its hook
    has_hook: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _InputState:
    """One of the two inputs of a stream: whether it is in use, and its newest score."""

    # of the stream; empty when the rule names no backup
    stream_id: str
    url: str
    # 0..100; None when it is unknown
    score: float | None
    # why there is no score
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _InputGroup:
    """A stream with its two inputs, under one hook."""

    rule: InputRule
    primary: _InputState
    backup: _InputState | None
    is_on_backup: bool
    badge: _Badge
    # when the input was changed; None when it never was
    since: datetime | None
    # of the last change; None when there was none, or it reached its receiver
    delivery: _Badge | None
    # why a change that is due is not made; "" otherwise
    held: str

    @property
    def order(self) -> tuple[bool, bool, str, str]:
        """What needs attention comes first."""
        return (
            not (self.delivery or self.held),
            not self.is_on_backup,
            self.primary.stream_id.casefold(),
            self.rule.name,
        )


def inputs_page(site: Site, request: Request) -> Response:
    """Answer `/inputs?stream=`: the input in use by stream, then the newest decisions."""
    stream_id = request.query_params.get("stream") or None
    records = site.history.input_decisions(stream_id=stream_id, limit=_MAX_DECISIONS)
    changes = site.history.last_input_changes()
    groups = [group for group in _input_groups(site, changes, records) if stream_id in (None, group.primary.stream_id)]
    hooks = {rule.name for rule in site.input_rules}
    return site.render_page(
        "inputs.html",
        request,
        rules=site.input_rules,
        sentence=_sentence(groups),
        groups=groups[:_MAX_GROUPS],
        group_count=len(groups),
        decisions=[_decision_row(record, hooks, now=site.now()) for record in records],
        is_cut=len(records) == _MAX_DECISIONS,
        json_url=with_query("/api/v1/input-decisions", stream=stream_id),
        q=stream_id,
    )


def _input_groups(
    site: Site, changes: Sequence[DecisionRecord], newest: Sequence[DecisionRecord]
) -> Sequence[_InputGroup]:
    """Every watched primary input of every rule with the input that its stream is on, those to look at first.

    `changes` are the last changes, oldest first; `newest` the newest decisions, newest first.
    """
    by_stream: dict[str, list[RenditionRow]] = {}
    for row in site.fleet.rows():
        by_stream.setdefault(row.stream_id, []).append(row)
    groups = []
    for rule in site.input_rules:
        # nobody has followed a dry run, so a hook that sends does not go on from one
        last = {
            record.decision.stream_id: record
            for record in changes
            if record.decision.hook == rule.name and (rule.is_dry_run or record.delivery != "dry_run")
        }
        held = _held_streams(rule, newest)
        streams = [stream_id for stream_id in {**by_stream, **last} if rule.is_primary(stream_id)]
        groups += [_group(rule, stream_id, by_stream, last.get(stream_id), held, site.now()) for stream_id in streams]
    return sorted(groups, key=lambda group: group.order)


def _held_streams(rule: InputRule, newest: Iterable[DecisionRecord]) -> Mapping[str, str]:
    """Stream -> why it is held, of the streams whose newest decision is a hold."""
    first: dict[str, DecisionRecord] = {}
    for record in newest:
        if record.decision.hook == rule.name:
            first.setdefault(record.decision.stream_id, record)
    return {stream_id: record.decision.summary for stream_id, record in first.items() if record.decision.kind == "hold"}


def _group(
    rule: InputRule,
    stream_id: str,
    by_stream: Mapping[str, Sequence[RenditionRow]],
    change: DecisionRecord | None,
    held: Mapping[str, str],
    now: datetime,
) -> _InputGroup:
    backup_id = rule.backup_of(stream_id)
    is_on_backup = change is not None and change.decision.kind == "switch"
    delivery = None if change is None or change.delivery == "delivered" else _delivery_badge(change, now=now)
    return _InputGroup(
        rule=rule,
        primary=_input_state(rule, stream_id, by_stream),
        backup=_input_state(rule, backup_id, by_stream) if backup_id else None,
        is_on_backup=is_on_backup,
        badge=_input_badge(rule, is_on_backup=is_on_backup),
        since=change.decision.decided_at if change else None,
        delivery=delivery,
        # a hold is about a change that was due: a score that is good again needs no decision, so the reason may be old
        held=_held_now(rule, stream_id, by_stream, held, is_on_backup=is_on_backup),
    )


def _input_badge(rule: InputRule, *, is_on_backup: bool) -> _Badge:
    if not is_on_backup:
        return _Badge(css_class="good", text="primary")
    return _Badge(css_class="degraded", text="would be backup" if rule.is_dry_run else "backup")


def _held_now(
    rule: InputRule,
    stream_id: str,
    by_stream: Mapping[str, Sequence[RenditionRow]],
    held: Mapping[str, str],
    *,
    is_on_backup: bool,
) -> str:
    """Why the stream is held, while its score still asks for the change."""
    score = _input_state(rule, stream_id, by_stream).score
    is_due = score is None or (score >= rule.above if is_on_backup else score < rule.below)
    return held.get(stream_id, "") if is_due else ""


def _input_state(rule: InputRule, stream_id: str, by_stream: Mapping[str, Sequence[RenditionRow]]) -> _InputState:
    """The best of the newest scores of the renditions that the rule follows."""
    rows = [
        row
        for row in by_stream.get(stream_id, ())
        if any(fnmatchcase(row.rendition, pattern) for pattern in rule.renditions)
    ]
    current = [row for row in rows if row.state not in ("stale", "ended")]
    scores = [score for row in current if (score := _score_of(rule, row)) is not None]
    why = "not watched" if not rows else rows[0].state if not current else (current[0].reason or "no score")
    return _InputState(
        stream_id=stream_id,
        url=stream_path(stream_id) if rows else "",
        score=max(scores, default=None),
        why="" if scores else why.replace("_", " "),
    )


def _score_of(rule: InputRule, row: RenditionRow) -> float | None:
    if not rule.scorer:
        return row.score
    matches = (value for name, value in row.scores.items() if rule.scorer in (name, name.partition("@")[0]))
    return next(matches, None)


def _decision_row(record: DecisionRecord, hooks: set[str], *, now: datetime) -> _DecisionRow:
    decision = record.decision
    css_class, text = _KINDS[decision.kind]
    has_event = EVENT_ID_PATTERN.fullmatch(decision.event_id) is not None
    return _DecisionRow(
        record=record,
        kind=_Badge(css_class=css_class, text=text),
        delivery=_delivery_badge(record, now=now),
        element_id=f"decision-{decision.id}",
        stream_url=stream_path(decision.stream_id),
        segment_url=segment_path(decision.event_id) if has_event else "",
        has_hook=decision.hook in hooks,
    )


def _delivery_badge(record: DecisionRecord, *, now: datetime) -> _Badge:
    """What became of the delivery; a decision that waits beyond its end is not sent any more."""
    result = "expired" if record.delivery == "waiting" and now >= record.decision.expires_at else record.delivery
    css_class, text, meaning = _DELIVERIES[result]
    attempts = f" Requests: {record.attempts}." if record.attempts else ""
    return _Badge(
        css_class=css_class, text=text, title=f"{meaning}{attempts} Last change: {format_iso(record.changed_at)}."
    )


def _sentence(groups: Sequence[_InputGroup]) -> str:
    """How many streams are on which input.

    >>> _sentence([])
    'No watched stream belongs to a hook.'
    """
    if not groups:
        return "No watched stream belongs to a hook."
    backup = sum(group.is_on_backup for group in groups)
    parts = [f"{len(groups) - backup} on the primary input", f"{backup} on the backup"]
    held = sum(bool(group.held) for group in groups)
    return ", ".join(parts + ([f"{held} held"] if held else [])) + "."
