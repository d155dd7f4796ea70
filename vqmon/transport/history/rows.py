"""Rows of a history as the types that come out of it, and outcomes as the rows that go in."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from vqmon.core.timeline import Point
from vqmon.core.types import Outcome, QualityEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the numbers in `measures` are: per scorer its value, p5 and lowest frame, then each signal's highest."""

    scorers: tuple[str, ...]
    signals: tuple[str, ...]

    @property
    def form(self) -> str:
        return f"<{3 * len(self.scorers) + len(self.signals)}d"

    @property
    def names(self) -> str:
        """As it is stored; equal layouts have equal names."""
        return json.dumps([self.scorers, self.signals], separators=(",", ":"))

    @classmethod
    def of(cls, names: str) -> "Layout":
        scorers, signals = json.loads(names)
        return cls(scorers=tuple(scorers), signals=tuple(signals))


def microseconds(moment: datetime) -> int:
    """A moment as a number that sorts.

    >>> moment_of(microseconds(datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))).microsecond
    123456
    """
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(number: int) -> datetime:
    return _EPOCH + number * _MICROSECOND


def text(value: str) -> str:
    """What a database can store: file names in unknown encodings lose what is no text."""
    return value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def segment_number(segment_key: str) -> int:
    """64 bits that tell one segment from another, signed as databases have them."""
    return int.from_bytes(sha256(segment_key.encode(errors="replace")).digest()[:8], "big", signed=True)


def packed_id(event_id: str) -> bytes:
    """An event id as it is stored: 32 hexadecimal digits as 16 bytes, any other text after a mark.

    >>> unpacked_id(packed_id("ab" * 16)), unpacked_id(packed_id("AB" * 16)), len(packed_id("ab" * 16))
    ('abababababababababababababababab', 'ABABABABABABABABABABABABABABABAB', 16)
    """
    if len(event_id) == 32:
        try:
            packed = bytes.fromhex(event_id)
        except ValueError:
            pass
        else:
            if packed.hex() == event_id:
                return packed
    return _OTHER_ID + text(event_id).encode()


def unpacked_id(packed: bytes) -> str:
    return packed.removeprefix(_OTHER_ID).decode() if packed.startswith(_OTHER_ID) else packed.hex()


def layout_of(event: QualityEvent) -> Layout:
    return Layout(scorers=tuple(score.scorer for score in event.scores), signals=tuple(event.signals))


def measures_of(event: QualityEvent, layout: Layout) -> bytes:
    """The numbers of an event that charts need, in the order of its layout."""
    numbers: list[float] = []
    for score in event.scores:
        numbers += (score.value, score.p5, score.min)
    numbers += [signal.max for signal in event.signals.values()]
    return struct.pack(layout.form, *numbers)


def columns_of(outcome: Outcome) -> tuple[Any, ...]:
    """The columns of `outcome` from `starts_at` up to `score`."""
    segment = outcome.segment
    said: tuple[str | None, float | None]
    if isinstance(outcome, QualityEvent):
        said = None, outcome.scores[0].value if outcome.scores else None
    else:
        said = outcome.reason, None
    return (
        microseconds(segment.starts_at),
        microseconds(outcome.observed_at),
        segment.duration_seconds,
        *said,
    )


POINT_COLUMNS = "o.number, o.id, r.stream_id, r.name, o.starts_at, o.reason, o.layout_id, o.measures"


def point_of(row: Sequence[Any], layouts: Mapping[int, Layout]) -> Point:
    """A row of POINT_COLUMNS."""
    _, id, stream_id, rendition, starts_at, reason, layout_id, measures = row
    layout = _NOTHING if layout_id is None else layouts[layout_id]
    numbers = struct.unpack(layout.form, measures) if layout_id is not None else ()
    end = 3 * len(layout.scorers)
    return Point(
        event_id=unpacked_id(id),
        stream_id=stream_id,
        rendition=rendition,
        starts_at=moment_of(starts_at),
        reason=reason,
        scores=dict(zip(layout.scorers, numbers[0:end:3], strict=True)),
        p5=dict(zip(layout.scorers, numbers[1:end:3], strict=True)),
        lowest=dict(zip(layout.scorers, numbers[2:end:3], strict=True)),
        signals=dict(zip(layout.signals, numbers[end:], strict=True)),
    )


_NOTHING = Layout(scorers=(), signals=())
_OTHER_ID = b"\0" * 17
"""Longer than any packed id: nothing else begins so."""
