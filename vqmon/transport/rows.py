"""Rows of a history as the types that come out of it, and outcomes as the rows that go in."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from vqmon.core.types import Alert, Outcome, QualityEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DENSE = (",", ":")

Thumbnails = Sequence[tuple[float, bytes]]
"""(presentation time in seconds, JPEG) per frame looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One outcome as a chart wants it."""

    event_id: str
    stream_id: str
    rendition: str
    starts_at: datetime
    # a key of errors.REASONS; None when scored
    reason: str | None
    # per scorer, 0..100; `p5` and `lowest` are over its frames
    scores: Mapping[str, float]
    p5: Mapping[str, float]
    lowest: Mapping[str, float]
    # the highest frame value of each signal, 0..1
    signals: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """All outcomes of one rendition in a stretch of time; scores are those of the first scorer."""

    stream_id: str
    rendition: str
    starts_at: datetime
    seconds: float
    scored: int
    unscored: int
    mean: float | None
    lowest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionState:
    """Where one rendition stands: its last outcome and the recent ones before it."""

    stream_id: str
    rendition: str
    width: int | None
    height: int | None
    bitrate_kbps: float | None
    last_event_id: str
    last_starts_at: datetime
    last_observed_at: datetime
    last_duration_seconds: float
    last_reason: str | None
    last_scores: Mapping[str, float]
    # oldest first: the score of the first scorer, None where unscored
    trend: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What was written after a moment; `tip` is where to go on, `is_complete` False when there was more."""

    tip: int
    points: tuple[Point, ...]
    alerts: tuple[Alert, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many outcomes were ever published."""

    scored: int
    unscored_by_reason: Mapping[str, int]

    @property
    def unscored(self) -> int:
        return sum(self.unscored_by_reason.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What retention took out."""

    outcomes: int
    thumbnails: int


def microseconds(moment: datetime) -> int:
    """A moment as a number that sorts.

    >>> moment_of(microseconds(datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))).microsecond
    123456
    """
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(number: int) -> datetime:
    return _EPOCH + number * _MICROSECOND


def text(value: str) -> str:
    """What SQLite can store: file names in unknown encodings lose what is no text."""
    return value.encode(errors="replace").decode()


def segment_number(segment_key: str) -> int:
    """64 bits that tell one segment from another, signed as SQLite has them."""
    return int.from_bytes(sha256(segment_key.encode(errors="replace")).digest()[:8], "big", signed=True)


def columns_of(outcome: Outcome) -> tuple[Any, ...]:
    """The columns of `outcome` from `id` on, without `rendition_id`."""
    segment = outcome.segment
    common = (
        text(outcome.id),
        microseconds(segment.starts_at),
        microseconds(outcome.observed_at),
        segment.duration_seconds,
        segment_number(segment.key),
    )
    if not isinstance(outcome, QualityEvent):
        return (*common, outcome.reason, None, None, None)
    scores = {score.scorer: (score.value, score.p5, score.min) for score in outcome.scores}
    signals = {name: signal.max for name, signal in outcome.signals.items()}
    first = outcome.scores[0].value if outcome.scores else None
    return (*common, None, first, json.dumps(scores, separators=_DENSE), json.dumps(signals, separators=_DENSE))


POINT_COLUMNS = "o.number, o.id, r.stream_id, r.name, o.starts_at, o.reason, o.scores, o.signals"


def point_of(row: Sequence[Any]) -> Point:
    """A row of POINT_COLUMNS."""
    _, event_id, stream_id, rendition, starts_at, reason, scores, signals = row
    triples = json.loads(scores) if scores else {}
    return Point(
        event_id=event_id,
        stream_id=stream_id,
        rendition=rendition,
        starts_at=moment_of(starts_at),
        reason=reason,
        scores={scorer: values[0] for scorer, values in triples.items()},
        p5={scorer: values[1] for scorer, values in triples.items()},
        lowest={scorer: values[2] for scorer, values in triples.items()},
        signals=json.loads(signals) if signals else {},
    )


def pack(document: bytes, dictionary: bytes | None) -> bytes:
    """Compress a document; what the dictionary holds already costs next to nothing."""
    packer = zlib.compressobj(6, zdict=dictionary) if dictionary else zlib.compressobj(6)
    return packer.compress(document) + packer.flush()


def unpack(body: bytes, dictionary: bytes | None) -> bytes:
    unpacker = zlib.decompressobj(zdict=dictionary) if dictionary else zlib.decompressobj()
    return unpacker.decompress(body) + unpacker.flush()
