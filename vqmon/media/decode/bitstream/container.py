"""What kind of file some bytes are, told by our own look at them: libav is never left to guess."""

import re
from collections.abc import Iterator

import numpy as np

from vqmon.errors import DecodeError

_ISO_BOXES = frozenset(b"ftyp styp moov moof mdat sidx emsg free skip wide uuid prft ssix pdin meta pnot mfra".split())
_EBML = b"\x1a\x45\xdf\xa3"
_CLUSTER = b"\x1f\x43\xb6\x75"
_SYNC = 0x47
_TS_PACKET = 188
# a packet of 188 bytes may carry 4 bytes of time before or 16 of parity behind
_TS_STRIDES = (188, 192, 204)
_TS_SEARCH_BYTES = 1024
_TS_LOOK = 16
_SCRAMBLED = 0x40
_TS_SAMPLE_AES = {0xDB, 0xDC}
_TEXT_START = re.compile(rb"\s*(#EXTM3U|<\?xml|<MPD|v=0\s|<!doctype|<html|WEBVTT|\{)", re.IGNORECASE)


def demuxer_of(media: bytes) -> str:
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
    raise DecodeError("not_media", _what_it_is(media))


def _what_it_is(media: bytes) -> str:
    if _TEXT_START.match(media[:256]):
        return "the bytes are text (a playlist, a page), not media"
    return f"the bytes start with {media[:8].hex(' ')}: no MP4, MPEG-TS, Matroska or WebM"


def iso_boxes(media: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end) of each top-level box; stops where the structure does."""
    at = 0
    while at + 8 <= len(media):
        size, kind, head = int.from_bytes(media[at : at + 4], "big"), media[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(media[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(media) - at
        if size < head:
            return
        yield kind, at + head, min(at + size, len(media))
        at += size


def dolby_vision_profile(media: bytes) -> int | None:
    """The profile that a Dolby Vision configuration box names; None without one."""
    for kind, start, end in iso_boxes(media):
        if kind == b"moov":
            header = media[start:end]
            for name in (b"dvcC", b"dvvC", b"dvwC"):
                if (at := header.find(name)) >= 0 and at + 7 <= len(header):
                    return header[at + 6] >> 1
    return None


def _check_iso(media: bytes) -> None:
    kinds = set()
    for kind, start, end in iso_boxes(media):
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
                starts = media[offset : offset + _TS_LOOK * stride : stride]
                # a damaged packet does not make it another format
                if starts.count(_SYNC) * 4 >= len(starts) * 3:
                    return offset, stride
    return None


def _check_ts(media: bytes, offset: int, stride: int) -> None:
    packets = range(offset, len(media) - _TS_PACKET + 1, stride)
    whole = np.frombuffer(media, np.uint8)
    starts, marks = whole[offset::stride][: len(packets)], whole[offset + 3 :: stride][: len(packets)]
    scrambled = int(((starts == _SYNC) & (marks >= _SCRAMBLED)).sum())
    if scrambled * 2 > len(packets):
        raise DecodeError("encrypted", "the transport stream is scrambled")
    if _ts_stream_types(media, packets) & _TS_SAMPLE_AES:
        raise DecodeError("encrypted", "the video is encrypted (SAMPLE-AES)")


def _ts_stream_types(media: bytes, packets: range) -> set[int]:
    """The stream types of the first programme map; empty when there is none in the first 2,000 packets."""
    map_pid = None
    for at in packets[:2000]:
        pid = int.from_bytes(media[at + 1 : at + 3], "big") & 0x1FFF
        section = _ts_section(media[at : at + _TS_PACKET])
        if pid == 0 and section[:1] == b"\x00" and len(section) >= 12:
            map_pid = int.from_bytes(section[10:12], "big") & 0x1FFF
        elif pid == map_pid and section[:1] == b"\x02":
            return _types_in_map(section)
    return set()


def _ts_section(packet: bytes) -> bytes:
    """The section that begins in a packet; empty when none does."""
    if not packet[1] & 0x40:
        return b""
    start = 5 + packet[4] if packet[3] & 0x20 else 4
    if start >= _TS_PACKET:
        return b""
    return packet[start + 1 + packet[start] :]


def _types_in_map(section: bytes) -> set[int]:
    if len(section) < 12:
        return set()
    end = min(3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4, len(section) - 4)
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    found = set()
    while at + 5 <= end:
        found.add(section[at])
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)
    return found
