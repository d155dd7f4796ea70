"""Decisions about the inputs of the seeded streams, of every kind and every end of a delivery."""

from collections.abc import Sequence
from datetime import timedelta

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.alerts.reactions.input_switching import (
    DecisionKind,
    DecisionReason,
    DecisionRecord,
    DeliveryResult,
    InputDecision,
    InputRule,
)

RULES = (
    InputRule(name="matrix", streams=("cinema-4k", "sports one", "news/hd", "gone-*"), backup="weather"),
    InputRule(name="trial", streams=("kids",), is_dry_run=True),
)


def write(history: StoredHistory) -> Sequence[DecisionRecord]:
    """Record them, the oldest first."""
    records = (
        _record(900, "sports one", "switch", "score_low", 21.4, delivery="delivered"),
        _record(600, "sports one", "return", "score_recovered", 71.0, delivery="delivered"),
        _record(
            400, "news/hd", "switch", "score_low", 30.5, delivery="expired", error="HTTP 503 from switcher.example"
        ),
        _record(350, "kids", "switch", "score_low", 0.0, hook="trial", delivery="dry_run"),
        _record(320, "cinema-4k", "hold", "backup_unknown", 17.0, delivery="delivered", backup_value=None),
        _record(200, "cinema-4k", "switch", "score_low", 16.2, delivery="delivered"),
        _record(120, "cinema-4k", "hold", "minimum_hold", 61.0, delivery="superseded"),
        _record(2, "removed", "switch", "score_low", 11.0, hook="old", delivery="waiting"),
    )
    history.store.decisions.record(records)
    return records


def _record(
    seconds_ago: int,
    stream_id: str,
    kind: DecisionKind,
    reason: DecisionReason,
    value: float,
    *,
    delivery: DeliveryResult,
    hook: str = "matrix",
    backup_value: float | None = 84.2,
    error: str = "",
) -> DecisionRecord:
    decided_at = seed.NOW - timedelta(seconds=seconds_ago)
    decision = InputDecision(
        id=f"{seconds_ago:032x}",
        hook=hook,
        stream_id=stream_id,
        kind=kind,
        input="primary" if kind == "return" else "backup",
        reason=reason,
        summary=f"score {value:.1f}, {'at least 55 for 60 s' if kind == 'return' else 'below 40 for 10 s'}",
        value=value,
        threshold=55.0 if kind == "return" else 40.0,
        backup_stream_id="weather" if hook == "matrix" else "",
        backup_value=backup_value if hook == "matrix" else None,
        at=decided_at,
        event_id="0" * 32,
        decided_at=decided_at,
        expires_at=decided_at + timedelta(seconds=30),
        is_dry_run=delivery == "dry_run",
    )
    return DecisionRecord(
        decision=decision,
        delivery=delivery,
        attempts=0 if delivery in ("dry_run", "waiting", "superseded") else 1,
        error=error,
        changed_at=decided_at + timedelta(seconds=1),
    )
