"""Splice messages (ANSI/SCTE 35): where ad breaks begin and end, as transport streams and DASH events carry them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_TABLE = 0xFC
_INSERT = 0x05
_TIME_SIGNAL = 0x06
_SEGMENTATION = 0x02
_IDENTIFIER = b"CUEI"
_CLOCK_HZ = 90_000
_PTS_MASK = (1 << 33) - 1
_MAX_DESCRIPTORS = 32
# segmentation_type_id of what begins (Table 23): break, provider and distributor advertisement, placement opportunity
# and ad block; the id after each is its end. Overlays and promotions are no breaks.
_BREAK_STARTS = frozenset({0x22, 0x30, 0x32, 0x34, 0x36, 0x44, 0x46})


@dataclass(frozen=True, slots=True, kw_only=True)
class SpliceMessage:
    """An ad break begins or ends."""

    begins: bool
    # to the end of the break; 0 = not stated
    seconds: float = 0.0
    # of the first picture after the splice, 33 bits of 90 kHz; None = at once
    pts: int | None = None


def parse_splice(section: bytes) -> SpliceMessage | None:
    """The message in a splice_info_section; None for any other command, an encrypted or a damaged one.

    Raises nothing: what is cut off counts as damaged.
    """
    try:
        return _parse_section(section)
    except IndexError:
        return None


def parse_segmentation_type(number: int) -> bool | None:
    """Whether a segmentation_type_id begins (True) or ends (False) an ad break; None when it does neither."""
    if number in _BREAK_STARTS:
        return True
    return False if number - 1 in _BREAK_STARTS else None


def choose_message(messages: Iterable[SpliceMessage | None]) -> SpliceMessage | None:
    """What the messages of one moment come to: between two ads one ends and the next begins, so the break goes on.

    Of several that begin the longest; one that does not state its length is taken to be the longest.
    """
    return max(
        (message for message in messages if message is not None),
        key=lambda message: (message.begins, message.seconds or math.inf),
        default=None,
    )


def _parse_section(section: bytes) -> SpliceMessage | None:
    length = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
    if section[0] != _TABLE or len(section) < length or section[4] & 0x80:
        return None
    adjustment = int.from_bytes(section[4:9], "big") & _PTS_MASK
    kind, body = section[13], section[14 : length - 4]
    if kind == _INSERT:
        return _parse_insert(body, adjustment)
    if kind != _TIME_SIGNAL:
        return None
    pts, size = _splice_time(body, 0, adjustment)
    return choose_message(_parse_segmentation(content, pts) for content in _segmentation_descriptors(body[size:]))


def _parse_insert(body: bytes, adjustment: int) -> SpliceMessage | None:
    """splice_insert (9.7.3)."""
    if body[4] & 0x80:
        return None
    flags, offset, pts = body[5], 6, None
    is_program, has_duration, is_immediate = flags & 0x40, flags & 0x20, flags & 0x10
    if is_program and not is_immediate:
        pts, size = _splice_time(body, offset, adjustment)
        offset += size
    elif not is_program:
        count, offset = body[offset], offset + 1
        for _ in range(count):
            offset += 1
            if not is_immediate:
                pts, size = _splice_time(body, offset, adjustment)
                offset += size
    # an index beyond the end is damage, a slice is not
    seconds = 0.0
    if has_duration:
        _ = body[offset + 4]
        seconds = (int.from_bytes(body[offset : offset + 5], "big") & _PTS_MASK) / _CLOCK_HZ
    return SpliceMessage(begins=bool(flags & 0x80), seconds=seconds, pts=pts)


def _splice_time(body: bytes, offset: int, adjustment: int) -> tuple[int | None, int]:
    """splice_time (9.8.1): the time, None = not specified, and how many bytes it takes."""
    if not body[offset] & 0x80:
        return None, 1
    _ = body[offset + 4]
    return (int.from_bytes(body[offset : offset + 5], "big") + adjustment) & _PTS_MASK, 5


def _segmentation_descriptors(loop: bytes) -> Iterator[bytes]:
    """The content of each segmentation descriptor after its identifier."""
    offset, end = 2, 2 + int.from_bytes(loop[:2], "big")
    for _ in range(_MAX_DESCRIPTORS):
        if offset + 6 > min(end, len(loop)):
            return
        following = offset + 2 + loop[offset + 1]
        if loop[offset] == _SEGMENTATION and loop[offset + 2 : offset + 6] == _IDENTIFIER:
            yield loop[offset + 6 : following]
        offset = following


def _parse_segmentation(content: bytes, pts: int | None) -> SpliceMessage | None:
    """segmentation_descriptor (10.3.3), after its identifier."""
    if content[4] & 0x80:
        return None
    flags, offset, seconds = content[5], 6, 0.0
    if not flags & 0x80:
        offset += 1 + 6 * content[offset]
    if flags & 0x40:
        seconds = int.from_bytes(content[offset : offset + 5], "big") / _CLOCK_HZ
        offset += 5
    offset += 2 + content[offset + 1]
    begins = parse_segmentation_type(content[offset])
    return None if begins is None else SpliceMessage(begins=begins, seconds=seconds if begins else 0.0, pts=pts)
