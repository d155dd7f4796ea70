"""Splice messages in media, as a decoder process sees them."""

import base64
from dataclasses import replace

import pytest

from tests.media.ancillary.test_splice import INSERT
from tests.media.clips import MOTION, clip, ffmpeg, x264
from vqmon.core.types import MediaFacts
from vqmon.media.decode.pool import DecoderPool

PID = 0x101F
SECTION = base64.b64decode(INSERT)
PTS = 0x07369C02E


def _crc(content: bytes) -> bytes:
    """CRC-32/MPEG-2."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc.to_bytes(4, "big")


def with_splices(stream: bytes, section: bytes) -> bytes:
    """A transport stream with one more PID in its programme map, and the section on it after each map."""
    packets = [stream[start : start + 188] for start in range(0, len(stream), 188)]
    maps = next(int.from_bytes(packet[15:17], "big") & 0x1FFF for packet in packets if packet[1:3] == b"\x40\x00")
    made = b""
    for packet in packets:
        if int.from_bytes(packet[1:3], "big") & 0x1FFF == maps:
            length = int.from_bytes(packet[6:8], "big") & 0xFFF
            body = packet[5 : 8 + length - 4] + b"\x86" + (0xE000 | PID & 0x1FFF).to_bytes(2, "big") + b"\xf0\x00"
            body = body[:1] + (0xB000 | len(body) + 4 - 3).to_bytes(2, "big") + body[3:]
            packet = (packet[:5] + body + _crc(body)).ljust(188, b"\xff")
            packet += (b"\x47" + (0x4000 | PID & 0x1FFF).to_bytes(2, "big") + b"\x10\x00" + section).ljust(188, b"\xff")
        made += packet
    return made


def with_event(media: bytes, message: bytes, *, time: int = 700) -> bytes:
    """Fragmented MP4 with an event message of version 1 before its fragments; 100 ticks per second."""
    numbers = b"".join(number.to_bytes(size, "big") for number, size in ((100, 4), (time, 8), (3000, 4), (1, 4)))
    content = b"\x01\0\0\0" + numbers + b"urn:scte:scte35:2013:bin\0\0" + message
    box = (len(content) + 8).to_bytes(4, "big") + b"emsg" + content
    at = media.index(b"moof") - 4
    return media[:at] + box + media[at:]


async def test_ad_breaks_are_facts_of_the_media() -> None:
    """At the time of the splice, with its length; a message that comes again is one, and plain media has none."""
    first = PTS - 4 * 90_000
    offset = ("-output_ts_offset", f"{first / 90_000 - 1.4:.6f}")
    stream = clip(*x264(bframes=0), *offset, seconds=1)
    source = MOTION.format(size="320x180", rate="25", seconds=1)
    fragmented = ("-movflags", "empty_moov+frag_keyframe+default_base_moof", "-f", "mp4", "-")
    fragments = ffmpeg("-f", "lavfi", "-i", source, *x264(bframes=0), *fragmented)
    media = (with_splices(stream, SECTION), with_event(fragments, SECTION), stream, with_event(fragments, b"junk"))
    async with DecoderPool(1) as pool:
        facts: list[MediaFacts] = [(await pool.decode(each, views=(), signals=("black",))).media for each in media]
    (in_stream,), (in_event,) = facts[0].splices, facts[1].splices
    assert in_stream.begins
    assert in_stream.at_seconds == pytest.approx(4, abs=0.1)
    assert in_stream.seconds == pytest.approx(60.29, abs=0.01)
    assert (in_event.begins, in_event.at_seconds, in_event.seconds) == (True, pytest.approx(7, abs=0.1), 30.0)
    assert [each.splices for each in facts[2:]] == [(), ()]
    # the pictures are those of the same stream without messages
    assert replace(facts[0], splices=()) == facts[2]
