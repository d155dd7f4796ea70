"""The stored form of outcomes: how their fields become columns, and rows become read-model types."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter

from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import HeatMap, Outcome, QualityEvent, Score, ScorerFailure, SegmentFailure

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(at: datetime) -> int:
    """Microseconds since the epoch.

    >>> from_microseconds(to_microseconds(datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))).microsecond
    123456
    """
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def storable_text(text: str) -> str:
    """Replace what a database refuses: lone surrogates (file names in an unknown encoding) and NUL."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


_HEAT_MAPS = TypeAdapter(tuple[HeatMap, ...])


def encode_heat_maps(heat_maps: tuple[HeatMap, ...]) -> str:
    """The stored text of heat maps."""
    return _HEAT_MAPS.dump_json(heat_maps).decode()


def parse_heat_maps(document: str) -> tuple[HeatMap, ...]:
    """The inverse."""
    return _HEAT_MAPS.validate_json(document)


def segment_digest(segment_key: str) -> int:
    """64 bits of the SHA-256 of a segment key, as the signed integer that databases have."""
    return int.from_bytes(sha256(segment_key.encode(errors="replace")).digest()[:8], "big", signed=True)


def pack_event_id(event_id: str) -> bytes:
    """An event id as stored: 32 hexadecimal digits as 16 bytes, any other text after a prefix of 17 zero bytes.

    >>> unpack_event_id(pack_event_id("ab" * 16)), unpack_event_id(pack_event_id("AB" * 16))
    ('abababababababababababababababab', 'ABABABABABABABABABABABABABABABAB')
    >>> len(pack_event_id("ab" * 16))
    16
    """
    if len(event_id) == 32:
        try:
            packed = bytes.fromhex(event_id)
        except ValueError:
            pass
        else:
            if packed.hex() == event_id:
                return packed
    return _TEXT_ID_PREFIX + storable_text(event_id).encode()


def unpack_event_id(packed: bytes) -> str:
    is_text = packed.startswith(_TEXT_ID_PREFIX)
    return packed.removeprefix(_TEXT_ID_PREFIX).decode() if is_text else packed.hex()


def encode_facts(outcome: Outcome) -> str:
    """What charts and the public views need of an outcome, as JSON that SQL reads; the form is in docs/sql.md."""
    segment, rendition = outcome.segment, outcome.segment.rendition
    facts: dict[str, Any] = {
        "sequence": segment.sequence,
        "segment_key": storable_text(segment.key),
        "labels": {storable_text(key): storable_text(text) for key, text in segment.all_labels.items()},
        "width": rendition.width,
        "height": rendition.height,
        "bitrate_kbps": rendition.bitrate_kbps,
    }
    facts |= _event_facts(outcome) if isinstance(outcome, QualityEvent) else _failure_facts(outcome)
    return json.dumps(facts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def score_columns(score: Score) -> dict[str, Any]:
    """The columns about a score, in the public views and in exports."""
    return {
        "scorer": score.scorer,
        "value": score.value,
        "native_value": score.native_value,
        "p5": score.p5,
        "min": score.min,
        "pooling": score.pooling,
    }


def _failure_columns(failure: ScorerFailure) -> dict[str, str]:
    return asdict(failure) | {"detail": storable_text(failure.detail)}


def _event_facts(event: QualityEvent) -> dict[str, Any]:
    segment, media = event.segment, event.media
    facts: dict[str, Any] = {
        "width": segment.rendition.width or media.width,
        "height": segment.rendition.height or media.height,
        "codec": storable_text(media.codec),
        "times_seconds": event.times_seconds,
        "scores": [score_columns(score) | {"frames": score.frame_values} for score in event.scores],
        "signals": {name: {"mean": signal.mean, "max": signal.max} for name, signal in event.signals.items()},
    }
    if event.references:
        facts["references"] = {reference.measure: reference.value for reference in event.references}
    if event.reference_pairing is not None:
        facts["reference_offset_seconds"] = event.reference_pairing.offset_seconds
        facts["reference_confidence"] = event.reference_pairing.confidence
    if event.unscored_reference:
        facts["unscored_reference"] = event.unscored_reference
    if event.audio is not None:
        facts["audio"] = event.audio.measurements
    if event.unmeasured_audio:
        facts["unmeasured_audio"] = event.unmeasured_audio
    for name, values in (("subtitle_cues", event.subtitle_cues), ("subtitle_problems", event.subtitle_problems)):
        if values:
            facts[name] = {storable_text(track): value for track, value in values.items()}
    if event.scorer_failures:
        facts["scorer_failures"] = {failure.scorer: failure.reason for failure in event.scorer_failures}
        facts["failed_scorers"] = [_failure_columns(failure) for failure in event.scorer_failures]
    return facts


def _failure_facts(failure: SegmentFailure) -> dict[str, Any]:
    return {"stage": failure.stage, "detail": storable_text(failure.detail)}


def scores_in_facts(facts: str | None) -> Sequence[tuple[str, float, float]]:
    """(scorer, score, p5) for each scorer of an outcome."""
    scores = json.loads(facts).get("scores", ()) if facts else ()
    return [(score["scorer"], score["value"], score["p5"]) for score in scores]


def outcome_columns(outcome: Outcome) -> tuple[Any, ...]:
    """The columns of table `outcome` from `starts_at` to `score`."""
    segment = outcome.segment
    reason: str | None = None
    score: float | None = None
    if isinstance(outcome, QualityEvent):
        score = outcome.main_score.value if outcome.main_score else None
    else:
        reason = outcome.reason
    starts_at, observed_at = to_microseconds(segment.starts_at), to_microseconds(outcome.observed_at)
    return (starts_at, observed_at, segment.duration_seconds, reason, score)


FACTS_TEXT = "CAST(o.facts AS TEXT)"
"""The facts of `outcome o` as text in both databases: PostgreSQL would return them parsed."""

POINT_COLUMNS = f"o.number, o.id, r.stream_id, r.name, o.starts_at, o.reason, {FACTS_TEXT}"
"""What `point_from_row` takes, with `outcome o` and `rendition r`."""


def point_from_row(row: Sequence[Any]) -> TimelinePoint:
    """Turn a row of POINT_COLUMNS into a point of a chart."""
    number, id, stream_id, rendition, starts_at, reason, text = row
    facts: dict[str, Any] = json.loads(text) if text else {}
    scores = facts.get("scores", ())
    return TimelinePoint(
        number=number,
        event_id=unpack_event_id(id),
        stream_id=stream_id,
        rendition=rendition,
        starts_at=from_microseconds(starts_at),
        reason=reason,
        scores={score["scorer"]: score["value"] for score in scores},
        p5={score["scorer"]: score["p5"] for score in scores},
        lowest={score["scorer"]: score["min"] for score in scores},
        signals={name: signal["max"] for name, signal in facts.get("signals", {}).items()},
        references=facts.get("references", {}),
        labels=facts.get("labels", {}),
        scorer_failures=facts.get("scorer_failures", {}),
    )


_TEXT_ID_PREFIX = b"\0" * 17
"""Longer than any packed id, so that none begins with it."""
