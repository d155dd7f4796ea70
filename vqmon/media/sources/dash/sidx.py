"""The segment index box of ISO BMFF: where the segments of one file are (ISO/IEC 14496-12, 8.16.3)."""

import struct
from dataclasses import dataclass

from vqmon.core.types import ByteRange


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedPart:
    """One segment of a file that is addressed as a whole."""

    byte_range: ByteRange
    duration_seconds: float


def parse_sidx(box: bytes, *, offset_bytes: int) -> tuple[IndexedPart, ...]:
    """The parts that a sidx box lists; `offset_bytes` is where `box` begins in its file.

    Empty when this is no sidx, a damaged one, or one that points to further indexes: the file is then taken whole.
    """
    try:
        return _parts(box, offset_bytes)
    except (struct.error, ValueError, ZeroDivisionError):
        return ()


def _parts(box: bytes, offset_bytes: int) -> tuple[IndexedPart, ...]:
    size, kind, version = struct.unpack_from(">I4sB", box)
    if kind != b"sidx":
        return ()
    (timescale,) = struct.unpack_from(">I", box, 16)
    _, first, _, count = struct.unpack_from(">IIHH" if version == 0 else ">QQHH", box, 20)
    place = 32 if version == 0 else 40
    at = offset_bytes + size + first
    parts = []
    for _ in range(count):
        length, duration, _ = struct.unpack_from(">III", box, place)
        # The highest bit says that the part is another index.
        if length >> 31:
            return ()
        parts.append(
            IndexedPart(
                byte_range=ByteRange(offset_bytes=at, length_bytes=length), duration_seconds=duration / timescale
            )
        )
        at += length
        place += 12
    return tuple(parts)
