"""Parsing of the segment index box of ISO BMFF, which locates the segments of a file (ISO/IEC 14496-12, 8.16.3)."""

import struct
from dataclasses import dataclass

from vqmon.core.types import ByteRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsegment:
    """The part of a file that a segment index box lists as one subsegment."""

    byte_range: ByteRange
    duration_seconds: float


def parse_sidx(box: bytes, *, offset_bytes: int) -> tuple[Subsegment, ...]:
    """The subsegments in a sidx box; `offset_bytes` is the position of `box` in its file.

    Empty when the box is not a sidx, is damaged, or refers to further indexes: the file is then one segment.
    """
    try:
        return _parse(box, offset_bytes)
    except (struct.error, ValueError, ZeroDivisionError):
        return ()


def _parse(box: bytes, offset_bytes: int) -> tuple[Subsegment, ...]:
    size, kind, version = struct.unpack_from(">I4sB", box)
    if kind != b"sidx":
        return ()
    (timescale,) = struct.unpack_from(">I", box, 16)
    _, first, _, count = struct.unpack_from(">IIHH" if version == 0 else ">QQHH", box, 20)
    entry = 32 if version == 0 else 40
    media_offset = offset_bytes + size + first
    subsegments = []
    for _ in range(count):
        length, duration, _ = struct.unpack_from(">III", box, entry)
        # The highest bit marks a reference to another index.
        if length >> 31:
            return ()
        subsegments.append(
            Subsegment(
                byte_range=ByteRange(offset_bytes=media_offset, length_bytes=length),
                duration_seconds=duration / timescale,
            )
        )
        media_offset += length
        entry += 12
    return tuple(subsegments)
