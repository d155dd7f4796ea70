"""The stored form of outcomes: how their fields become columns, and rows become read-model types."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter

from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import HeatMap, Outcome, QualityEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLayout:
    """The order of the numbers in `measures`.

    Per scorer value, p5 and lowest frame, then each signal's maximum, then each reference measure's value.
    """

    scorers: tuple[str, ...]
    signals: tuple[str, ...]
    references: tuple[str, ...] = ()

    @property
    def struct_format(self) -> str:
        """The numbers as little-endian doubles, for `struct`."""
        return f"<{3 * len(self.scorers) + len(self.signals) + len(self.references)}d"

    def to_json(self) -> str:
        """The stored text; equal layouts give equal texts, and those without references the text of older versions."""
        names = [self.scorers, self.signals, *([self.references] if self.references else ())]
        return json.dumps(names, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "MeasureLayout":
        scorers, signals, *rest = json.loads(text)
        references = rest[0] if rest else ()
        return cls(scorers=tuple(scorers), signals=tuple(signals), references=tuple(references))


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


def measure_layout(event: QualityEvent) -> MeasureLayout:
    return MeasureLayout(
        scorers=tuple(score.scorer for score in event.scores),
        signals=tuple(event.signals),
        references=tuple(reference.measure for reference in event.references),
    )


def pack_measures(event: QualityEvent, layout: MeasureLayout) -> bytes:
    """The numbers of an event that charts need, in the order of its layout."""
    numbers: list[float] = []
    for score in event.scores:
        numbers += (score.value, score.p5, score.min)
    numbers += [signal.max for signal in event.signals.values()]
    numbers += [reference.value for reference in event.references]
    return struct.pack(layout.struct_format, *numbers)


def unpack_scores(layout: MeasureLayout, measures: bytes) -> Sequence[tuple[str, float, float]]:
    """(scorer, score, p5) for each scorer of an event."""
    numbers = struct.unpack_from(f"<{3 * len(layout.scorers)}d", measures)
    return list(zip(layout.scorers, numbers[0::3], numbers[1::3], strict=True))


def outcome_columns(outcome: Outcome) -> tuple[Any, ...]:
    """The columns of table `outcome` from `starts_at` to `score`."""
    segment = outcome.segment
    reason: str | None = None
    score: float | None = None
    if isinstance(outcome, QualityEvent):
        score = outcome.scores[0].value if outcome.scores else None
    else:
        reason = outcome.reason
    starts_at, observed_at = to_microseconds(segment.starts_at), to_microseconds(outcome.observed_at)
    return (starts_at, observed_at, segment.duration_seconds, reason, score)


POINT_COLUMNS = "o.number, o.id, r.stream_id, r.name, o.starts_at, o.reason, o.layout_id, o.measures"
"""What `point_from_row` takes, with `outcome o` and `rendition r`."""


def point_from_row(row: Sequence[Any], layouts: Mapping[int, MeasureLayout]) -> TimelinePoint:
    """Turn a row of POINT_COLUMNS into a point of a chart."""
    _, id, stream_id, rendition, starts_at, reason, layout_id, measures = row
    layout = _EMPTY_LAYOUT if layout_id is None else layouts[layout_id]
    numbers = struct.unpack(layout.struct_format, measures) if layout_id is not None else ()
    end = 3 * len(layout.scorers)
    end_of_signals = end + len(layout.signals)
    return TimelinePoint(
        event_id=unpack_event_id(id),
        stream_id=stream_id,
        rendition=rendition,
        starts_at=from_microseconds(starts_at),
        reason=reason,
        scores=dict(zip(layout.scorers, numbers[0:end:3], strict=True)),
        p5=dict(zip(layout.scorers, numbers[1:end:3], strict=True)),
        lowest=dict(zip(layout.scorers, numbers[2:end:3], strict=True)),
        signals=dict(zip(layout.signals, numbers[end:end_of_signals], strict=True)),
        references=dict(zip(layout.references, numbers[end_of_signals:], strict=True)),
    )


_EMPTY_LAYOUT = MeasureLayout(scorers=(), signals=())
_TEXT_ID_PREFIX = b"\0" * 17
"""Longer than any packed id, so that none begins with it."""
