"""The nested elements of MP4 files (ISO/IEC 14496-12) and of Matroska files (EBML, RFC 8794)."""

from collections.abc import Iterator

CLUSTER = b"\x1f\x43\xb6\x75"
"""The name of the Matroska elements that hold pictures."""

_EBML_SEGMENT = b"\x18\x53\x80\x67"


def iterate_iso_boxes(
    media: bytes | bytearray, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end) of each box in a range, default all; stops at the first malformed one."""
    offset, end = start, len(media) if end is None else end
    while offset + 8 <= end:
        size, header_bytes = int.from_bytes(media[offset : offset + 4], "big"), 8
        kind = bytes(media[offset + 4 : offset + 8])
        if size == 1:
            size, header_bytes = int.from_bytes(media[offset + 8 : offset + 16], "big"), 16
        elif size == 0:
            size = end - offset
        if size < header_bytes:
            return
        yield kind, offset + header_bytes, min(offset + size, end)
        offset += size


def iterate_elements(media: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start and end of the content) of each EBML element within a range; stops at the first malformed one.

    An element of unknown size extends to the end of the range.
    """
    offset = start
    while offset < end:
        name_bytes = _ebml_length(media, offset)
        if not name_bytes or offset + name_bytes >= end:
            return
        size_bytes = _ebml_length(media, offset + name_bytes)
        content = offset + name_bytes + size_bytes
        if not size_bytes or content > end:
            return
        unknown_size = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(media[offset + name_bytes : content], "big") & unknown_size
        next_offset = end if size == unknown_size else content + size
        yield media[offset : offset + name_bytes], content, min(next_offset, end)
        offset = next_offset


def ends_within_element(media: bytes) -> bool:
    """RFC 8794; segments, and clusters of unknown size, are entered, all other elements passed over."""
    offset = 0
    while offset < len(media):
        name_bytes, size_bytes = _ebml_length(media, offset), 0
        name = media[offset : offset + name_bytes]
        if offset + name_bytes < len(media):
            size_bytes = _ebml_length(media, offset + name_bytes)
        start = offset + name_bytes + size_bytes
        if not name_bytes or (not size_bytes and offset + name_bytes < len(media)):
            return False
        if not size_bytes or start > len(media):
            return True
        unknown_size = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(media[offset + name_bytes : start], "big") & unknown_size
        is_entered = name == _EBML_SEGMENT or (name == CLUSTER and size == unknown_size)
        if size == unknown_size and not is_entered:
            return False
        offset = start if is_entered else start + size
    return offset > len(media)


def _ebml_length(media: bytes, offset: int) -> int:
    """The bytes of the variable-length number at an offset, 1..8; 0 where there is none."""
    return 9 - media[offset].bit_length() if media[offset] else 0
