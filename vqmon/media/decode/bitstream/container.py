"""Detection of the container format from the bytes, so that libav never has to guess."""

import re
from collections.abc import Iterator

import numpy as np

from vqmon.errors import DecodeError

_ISO_BOXES = frozenset(b"ftyp styp moov moof mdat sidx emsg free skip wide uuid prft ssix pdin meta pnot mfra".split())
_EBML = b"\x1a\x45\xdf\xa3"
_CLUSTER = b"\x1f\x43\xb6\x75"
_EBML_SEGMENT = b"\x18\x53\x80\x67"
_SYNC = 0x47
_TS_PACKET = 188
# a packet of 188 bytes may be preceded by 4 bytes of timestamp or followed by 16 bytes of parity
_TS_STRIDES = (188, 192, 204)
_TS_SEARCH_BYTES = 1024
_TS_PROBED_PACKETS = 16
_SCRAMBLED = 0x40
_TS_SAMPLE_AES = {0xDB, 0xDC}
_TEXT_START = re.compile(rb"\s*(#EXTM3U|<\?xml|<MPD|v=0\s|<!doctype|<html|WEBVTT|\{)", re.IGNORECASE)


def detect_demuxer(media: bytes) -> str:
    """The libav demuxer to force: "mov", "mpegts" or "matroska".

    Raises DecodeError: not_media, missing_init (fragments without their header) or encrypted.
    """
    if not media:
        raise DecodeError("empty")
    if media.startswith(_EBML):
        return "matroska"
    if media.startswith(_CLUSTER):
        raise DecodeError("missing_init", "WebM clusters without their header")
    if media[4:8] in _ISO_BOXES:
        _check_iso(media)
        return "mov"
    if (layout := _ts_layout(media)) is not None:
        _check_ts(media, *layout)
        return "mpegts"
    raise DecodeError("not_media", _describe_foreign_bytes(media))


def _describe_foreign_bytes(media: bytes) -> str:
    if _TEXT_START.match(media[:256]):
        return "the bytes are text (a playlist, a page), not media"
    return f"the bytes start with {media[:8].hex(' ')}: no MP4, MPEG-TS, Matroska, WebM, JPEG, PNG, WebP or AVIF"


def _iterate_iso_boxes(media: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end) of each top-level box; stops at the first malformed one."""
    offset = 0
    while offset + 8 <= len(media):
        size, kind, header_bytes = int.from_bytes(media[offset : offset + 4], "big"), media[offset + 4 : offset + 8], 8
        if size == 1:
            size, header_bytes = int.from_bytes(media[offset + 8 : offset + 16], "big"), 16
        elif size == 0:
            size = len(media) - offset
        if size < header_bytes:
            return
        yield kind, offset + header_bytes, min(offset + size, len(media))
        offset += size


def ends_within_packet(media: bytes, demuxer: str) -> bool:
    """Whether a transport stream or Matroska file ends within a packet or an element: the file was cut off."""
    if demuxer == "matroska":
        return _ends_within_element(media)
    layout = _ts_layout(media) if demuxer == "mpegts" else None
    if layout is None:
        return False
    offset, stride = layout
    rest = (len(media) - offset) % stride
    return 0 < rest < _TS_PACKET and media[-rest] == _SYNC


def _ends_within_element(media: bytes) -> bool:
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
        is_entered = name == _EBML_SEGMENT or (name == _CLUSTER and size == unknown_size)
        if size == unknown_size and not is_entered:
            return False
        offset = start if is_entered else start + size
    return offset > len(media)


def _ebml_length(media: bytes, offset: int) -> int:
    """The bytes of the variable-length number at an offset, 1..8; 0 where there is none."""
    return 9 - media[offset].bit_length() if media[offset] else 0


def find_dolby_vision_profile(media: bytes) -> int | None:
    """The profile in the Dolby Vision configuration box of an MP4 file; None without such a box."""
    for kind, start, end in _iterate_iso_boxes(media):
        if kind == b"moov":
            header = media[start:end]
            for name in (b"dvcC", b"dvvC", b"dvwC"):
                if (offset := header.find(name)) >= 0 and offset + 7 <= len(header):
                    return header[offset + 6] >> 1
    return None


def _check_iso(media: bytes) -> None:
    kinds = set()
    for kind, start, end in _iterate_iso_boxes(media):
        kinds.add(kind)
        if kind == b"moov" and media.find(b"encv", start, end) >= 0 and media.find(b"sinf", start, end) >= 0:
            raise DecodeError("encrypted", "the video track is encrypted (common encryption)")
    if b"moov" not in kinds and b"moof" in kinds:
        raise DecodeError("missing_init", "movie fragments without their initialization section")


def _ts_layout(media: bytes) -> tuple[int, int] | None:
    """(offset of the first packet, distance between packets) of a transport stream."""
    for stride in _TS_STRIDES:
        for offset in range(min(_TS_SEARCH_BYTES, len(media) - _TS_PACKET + 1)):
            if media[offset] == _SYNC:
                sync_bytes = media[offset : offset + _TS_PROBED_PACKETS * stride : stride]
                # a few damaged packets are tolerated
                if sync_bytes.count(_SYNC) * 4 >= len(sync_bytes) * 3:
                    return offset, stride
    return None


def _check_ts(media: bytes, offset: int, stride: int) -> None:
    packets = range(offset, len(media) - _TS_PACKET + 1, stride)
    content = np.frombuffer(media, np.uint8)
    sync_bytes = content[offset::stride][: len(packets)]
    scrambling = content[offset + 3 :: stride][: len(packets)]
    scrambled = int(((sync_bytes == _SYNC) & (scrambling >= _SCRAMBLED)).sum())
    if scrambled * 2 > len(packets):
        raise DecodeError("encrypted", "the transport stream is scrambled")
    if _ts_stream_types(media, packets) & _TS_SAMPLE_AES:
        raise DecodeError("encrypted", "the video is encrypted (SAMPLE-AES)")


def _ts_stream_types(media: bytes, packets: range) -> set[int]:
    """The stream types in the first programme map table; empty when the first 2,000 packets hold none."""
    map_pid = None
    for start in packets[:2000]:
        pid = int.from_bytes(media[start + 1 : start + 3], "big") & 0x1FFF
        section = _ts_section(media[start : start + _TS_PACKET])
        if pid == 0 and section[:1] == b"\x00" and len(section) >= 12:
            map_pid = int.from_bytes(section[10:12], "big") & 0x1FFF
        elif pid == map_pid and section[:1] == b"\x02":
            return _parse_program_map(section)
    return set()


def _ts_section(packet: bytes) -> bytes:
    """The PSI section that begins in a packet; empty when none does."""
    if not packet[1] & 0x40:
        return b""
    start = 5 + packet[4] if packet[3] & 0x20 else 4
    if start >= _TS_PACKET:
        return b""
    return packet[start + 1 + packet[start] :]


def _parse_program_map(section: bytes) -> set[int]:
    if len(section) < 12:
        return set()
    end = min(3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4, len(section) - 4)
    offset = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    stream_types = set()
    while offset + 5 <= end:
        stream_types.add(section[offset])
        offset += 5 + (int.from_bytes(section[offset + 3 : offset + 5], "big") & 0xFFF)
    return stream_types
