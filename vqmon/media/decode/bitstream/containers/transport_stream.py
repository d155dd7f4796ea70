"""The packets, programme map and scrambling of an MPEG transport stream (ISO/IEC 13818-1)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from vqmon.errors import DecodeError

_SYNC = 0x47
_PACKET = 188
# a packet of 188 bytes may be preceded by 4 bytes of timestamp or followed by 16 bytes of parity
_STRIDES = (188, 192, 204)
_SEARCH_BYTES = 1024
_PROBED_PACKETS = 16
_SECTION_PACKETS = 2000
_SCRAMBLED = 0x40
_SAMPLE_AES = {0xDB, 0xDC}
_PRIVATE_DATA = 0x06
_REGISTRATION = 0x05
_UNDEMUXED = {b"AV01": "AV1", b"VP09": "VP9"}
# PES start code with a stream number of video; what AV1 begins with, as OBUs with and without start codes
_VIDEO_STREAMS = tuple(b"\0\0\1" + bytes([number]) for number in range(0xE0, 0xF0))
_AV1_STARTS = (b"\x12\x00", b"\0\0\1\x12\x00", b"\0\0\1\x10")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStream:
    """One stream in a programme map table."""

    kind: int
    pid: int
    # (tag, content)
    descriptors: tuple[tuple[int, bytes], ...]


def packet_layout(media: bytes) -> tuple[int, int] | None:
    """(offset of the first packet, distance between packets); None for anything but a transport stream."""
    for stride in _STRIDES:
        for offset in range(min(_SEARCH_BYTES, len(media) - _PACKET + 1)):
            if media[offset] == _SYNC:
                sync_bytes = media[offset : offset + _PROBED_PACKETS * stride : stride]
                # a few damaged packets are tolerated
                if sync_bytes.count(_SYNC) * 4 >= len(sync_bytes) * 3:
                    return offset, stride
    return None


def ends_within_ts_packet(media: bytes) -> bool:
    """Whether a transport stream was cut off within a packet."""
    layout = packet_layout(media)
    if layout is None:
        return False
    offset, stride = layout
    rest = (len(media) - offset) % stride
    return 0 < rest < _PACKET and media[-rest] == _SYNC


def check_scrambling(media: bytes) -> None:
    """Raise DecodeError ("encrypted") for a transport stream most of whose packets are scrambled, or SAMPLE-AES."""
    offset, stride = packet_layout(media) or (0, _PACKET)
    count = len(range(offset, len(media) - _PACKET + 1, stride))
    content = np.frombuffer(media, np.uint8)
    sync_bytes, scrambling = content[offset::stride][:count], content[offset + 3 :: stride][:count]
    if int(((sync_bytes == _SYNC) & (scrambling >= _SCRAMBLED)).sum()) * 2 > count:
        raise DecodeError("encrypted", "the transport stream is scrambled")
    if {stream.kind for stream in program_streams(media)} & _SAMPLE_AES:
        raise DecodeError("encrypted", "the video is encrypted (SAMPLE-AES)")


def name_undemuxed_codec(media: bytes) -> str | None:
    """The codec of a video stream that libav takes for data, in words; None when there is no such stream."""
    private = {stream.pid: stream for stream in program_streams(media) if stream.kind == _PRIVATE_DATA}
    for stream in private.values():
        for tag, content in stream.descriptors:
            if tag == _REGISTRATION and content[:4] in _UNDEMUXED:
                return _UNDEMUXED[content[:4]]
    for pid, payload in _payload_starts(media):
        if pid in private and payload.startswith(_VIDEO_STREAMS) and len(payload) > 9:
            elementary = payload[9 + payload[8] :]
            return "AV1" if elementary.startswith(_AV1_STARTS) else "private video"
    return None


def program_streams(media: bytes) -> list[ProgramStream]:
    """The streams in the first programme map table.

    Empty when the first 2,000 packets hold no table, and for anything but a transport stream.
    """
    map_pid, section = None, b""
    for packet in _packets(media):
        pid = _pid(packet)
        if pid not in (0, map_pid):
            continue
        payload, is_start = _payload(packet), bool(packet[1] & 0x40)
        if is_start and payload:
            payload = payload[1 + payload[0] :]
        if pid == 0 and is_start and payload[:1] == b"\x00" and len(payload) >= 12:
            map_pid = int.from_bytes(payload[10:12], "big") & 0x1FFF
        elif pid == map_pid and (is_start or section):
            section = payload if is_start else section + payload
            if section[:1] != b"\x02":
                section = b""
            elif len(section) >= 3 + (int.from_bytes(section[1:3], "big") & 0xFFF):
                return _parse_program_map(section)
    return []


def iterate_sections(media: bytes, pids: Collection[int]) -> Iterator[bytes]:
    """The sections on some PIDs, all of the stream, each from its table id to its checksum."""
    content = np.frombuffer(media, np.uint8)
    offset, stride = packet_layout(media) or (0, _PACKET)
    count = len(range(offset, len(media) - _PACKET + 1, stride))
    high, low = content[offset + 1 :: stride][:count].astype(np.uint16), content[offset + 2 :: stride][:count]
    wanted = np.isin(((high & 0x1F) << 8) | low, list(pids))
    begun: dict[int, bytes] = {}
    for index in np.flatnonzero(wanted).tolist():
        packet = media[offset + index * stride :][:_PACKET]
        pid, payload = _pid(packet), _payload(packet)
        if packet[1] & 0x40 and payload:
            # the pointer says where the first section begins; before it is the end of the one before
            start = 1 + payload[0]
            complete, _ = _split_sections(begun.pop(pid, b"") + payload[1:start])
            yield from complete
            more, begun[pid] = _split_sections(payload[start:])
        elif pid in begun:
            more, begun[pid] = _split_sections(begun[pid] + payload)
        else:
            continue
        yield from more


def _split_sections(content: bytes) -> tuple[list[bytes], bytes]:
    """The complete sections at the start of some bytes, and what comes behind them; stuffing ends them."""
    sections: list[bytes] = []
    while len(content) >= 3 and content[0] != 0xFF:
        end = 3 + (int.from_bytes(content[1:3], "big") & 0xFFF)
        if end > len(content):
            return sections, content
        sections.append(content[:end])
        content = content[end:]
    return sections, content if content[:1] != b"\xff" else b""


def _packets(media: bytes) -> Iterator[bytes]:
    layout = packet_layout(media)
    if layout is not None:
        offset, stride = layout
        for start in range(offset, len(media) - _PACKET + 1, stride)[:_SECTION_PACKETS]:
            yield media[start : start + _PACKET]


def _payload_starts(media: bytes) -> Iterator[tuple[int, bytes]]:
    """(pid, payload) of the packets with which a PES packet or a section begins."""
    for packet in _packets(media):
        if packet[1] & 0x40:
            yield _pid(packet), _payload(packet)


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def _payload(packet: bytes) -> bytes:
    return packet[5 + packet[4] if packet[3] & 0x20 else 4 :]


def _parse_program_map(section: bytes) -> list[ProgramStream]:
    if len(section) < 12:
        return []
    end = min(3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4, len(section))
    offset = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    streams = []
    while offset + 5 <= end:
        start = offset + 5
        following = start + (int.from_bytes(section[offset + 3 : start], "big") & 0xFFF)
        streams.append(
            ProgramStream(
                kind=section[offset],
                pid=int.from_bytes(section[offset + 1 : offset + 3], "big") & 0x1FFF,
                descriptors=tuple(_parse_descriptors(section[start : min(following, end)])),
            )
        )
        offset = following
    return streams


def _parse_descriptors(content: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 2 <= len(content):
        end = offset + 2 + content[offset + 1]
        yield content[offset], content[offset + 2 : end]
        offset = end
