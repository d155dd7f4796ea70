"""What is fuzzed: each of our parsers of bytes that strangers write, its typed errors, seeds and mutation."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from tests.fuzz.mutations import (
    Mutation,
    mutate_boxes,
    mutate_bytes,
    mutate_json,
    mutate_lines,
    mutate_packets,
    mutate_xml,
)
from tests.fuzz.seeds import (
    answer_seeds,
    index_seeds,
    message_seeds,
    mp4_seeds,
    nal_seeds,
    still_seeds,
    text_seeds,
    ts_seeds,
)
from vqmon.core.types import Rendition, Segment, View
from vqmon.errors import DecodeError, FetchError, SegmentError, WireError
from vqmon.media.decode.bitstream import av1, h264, headers
from vqmon.media.decode.bitstream.containers.boxes import ends_within_element
from vqmon.media.decode.bitstream.containers.detection import detect_demuxer, ends_within_packet
from vqmon.media.decode.bitstream.containers.dolby_vision import find_dolby_vision
from vqmon.media.decode.bitstream.containers.encryption import has_only_encrypted_video, is_in_clear_fragment
from vqmon.media.decode.bitstream.containers.transport_stream import name_undemuxed_codec, program_streams
from vqmon.media.decode.protocol import DecodeRequest, parse_answer, parse_json
from vqmon.media.decode.stills.detection import read_still
from vqmon.media.fetch.content import decode_data_url, decompress
from vqmon.media.fetch.ssrf_policy import FetchPolicy, check_url
from vqmon.media.sources.dash.parser import parse_mpd
from vqmon.media.sources.dash.sidx import parse_sidx
from vqmon.media.sources.follower import PlaylistFollower
from vqmon.media.sources.hls.parser import parse_hls
from vqmon.media.sources.media_playlist import MediaPlaylist
from vqmon.transport.wire.cloudevents import parse_outcome
from vqmon.transport.wire.control_messages import parse_control_message
from vqmon.transport.wire.segment_messages import encode_segment, parse_segment, parse_trace_context

URL = "https://cdn.example.com/live/list?token=1"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MAX_LISTED = 100_000
"""More segments than any playlist may list at once."""

VIEW = View(kind="stretch", width=2, height=2)
REQUEST = DecodeRequest(views=(VIEW,), signals=("blur",), thumbnail_width=16, with_audio=True)
MEMORY = np.arange(4096, dtype=np.uint8)
CODECS = ("h264", "hevc", "mpeg2video", "vp8", "vp9", "libdav1d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser: it takes any bytes, and gives a value or one of its errors."""

    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    mutation: Mutation


def verdict(target: Target, data: bytes) -> str:
    """`value`, or the name and the reason of a typed error; any other exception passes through: it is a finding."""
    try:
        target.parse(data)
    except target.errors as error:
        return f"{type(error).__name__} {getattr(error, 'reason', '')}".strip()
    return "value"


def _follow(playlist: MediaPlaylist) -> None:
    """The segments of a playlist as the daemon takes them, up to their messages."""
    follower = PlaylistFollower(Rendition(stream_id="s", name="r"), URL)
    items = [*follower.update(playlist, NOON), *follower.update(playlist, NOON)]
    assert len(items) <= MAX_LISTED
    for item in items[:50]:
        segment = item if isinstance(item, Segment) else item.segment
        assert segment.without_secrets().key == segment.key
        encode_segment(segment, source="fuzz")


def _parse_hls(data: bytes) -> None:
    playlist = parse_hls(data.decode("utf-8", "replace"), URL)
    if isinstance(playlist, MediaPlaylist):
        _follow(playlist)


def _parse_mpd(data: bytes) -> None:
    manifest = parse_mpd(data, URL)
    for track in manifest.tracks[:3]:
        _follow(manifest.media_playlist(track, NOON, {}))


def _parse_mp4(data: bytes) -> None:
    has_only_encrypted_video(data)
    is_clear = is_in_clear_fragment(data)
    [is_clear(offset) for offset in (0, len(data) // 2, 2**63)]
    find_dolby_vision(data, "mov", codec="hevc", extradata=None, packets=[data])
    ends_within_packet(data, detect_demuxer(data))


def _parse_ts(data: bytes) -> None:
    program_streams(data)
    name_undemuxed_codec(data)
    find_dolby_vision(data, "mpegts", codec="hevc", extradata=None, packets=[])
    ends_within_packet(data, detect_demuxer(data))


def _parse_matroska(data: bytes) -> None:
    ends_within_element(data)
    find_dolby_vision(data, "matroska", codec="hevc", extradata=None, packets=[])


def _parse_pictures(data: bytes) -> None:
    """The first byte chooses the codec, the second how many bytes are its header."""
    codec, split = CODECS[data[0] % len(CODECS)] if data else "h264", data[1] if len(data) > 1 else 0
    extradata, packet = data[2 : 2 + split], data[2 + split :]
    packets = [packet, packet[: len(packet) // 2], b""]
    assert len(headers.find_droppable(codec, extradata, packets)) == 3
    headers.headers_suffice(codec, extradata, pixel_format=None)
    [headers.is_hidden(codec, part) for part in packets]
    h264.declares_reordering(extradata)
    references = av1.find_references(extradata, packets)
    assert references is None or len(references) == 3
    find_dolby_vision(b"", "mpegts", codec="hevc", extradata=extradata, packets=packets)


def _parse_answer(data: bytes) -> None:
    """The JSON ends at the first zero; raw bytes follow."""
    text, _, raw = data.partition(b"\0")
    decoded = parse_answer(parse_json(text), raw, MEMORY, REQUEST)
    assert len(decoded.times_seconds) == len(decoded.views[VIEW]) == len(decoded.thumbnails)


def _parse_message(data: bytes) -> None:
    """Both modes, and what it says goes into a message again."""
    parse_trace_context({"traceparent": data})
    binary = {"ce_specversion": b"1.0", "ce_type": b"org.vqmon.segment.v1", "ce_id": b"1", "ce_source": b"s"}
    problems = []
    for message_headers in ({}, binary):
        try:
            segment = parse_segment(b"news", data, message_headers)
            key, value = encode_segment(segment, source="fuzz")
            assert parse_segment(key, value, {}).key == segment.key
        except WireError as error:
            problems.append(error)
    if len(problems) == 2:
        raise problems[0]


def _parse_content(data: bytes) -> None:
    for coding in ("gzip", "deflate", "br"):
        with suppress(FetchError):
            assert len(decompress(data, coding, max_bytes=100_000)) <= 100_000
    assert len(decode_data_url("data:" + data.decode("latin-1"), max_bytes=100_000)) <= 100_000


def _parse_address(data: bytes) -> None:
    """What is allowed, is sent as ASCII without what could start another header."""
    policy = FetchPolicy(allowed_hosts=("*",), allow_http=True)
    url = check_url(data.decode("utf-8", "replace"), policy)
    assert url.url.isascii()
    assert not any(letter in url.url for letter in " \r\n\t\\")


TARGETS: Mapping[str, Target] = {
    "address": Target(
        parse=_parse_address,
        errors=(FetchError,),
        seeds=lambda: [b"https://a.example:443/b/c?d=e", b"http://[2001:4860::1]:80/"],
        mutation=mutate_lines,
    ),
    "answer": Target(
        parse=_parse_answer,
        errors=(DecodeError, ValueError, KeyError, TypeError, OverflowError),
        seeds=answer_seeds,
        mutation=mutate_json,
    ),
    "content": Target(
        parse=_parse_content,
        errors=(FetchError,),
        seeds=lambda: [gzip.compress(b"a" * 5000), b"text/plain;base64,QUJD"],
        mutation=mutate_bytes,
    ),
    "control": Target(
        parse=parse_control_message, errors=(WireError,), seeds=lambda: message_seeds()[2:], mutation=mutate_json
    ),
    "hls": Target(parse=_parse_hls, errors=(SegmentError,), seeds=lambda: text_seeds("m3u8"), mutation=mutate_lines),
    "matroska": Target(
        parse=_parse_matroska,
        errors=(),
        seeds=lambda: [b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01\x18\x53\x80\x67\x88\x16\x54\xae\x6b\x83\xae\x81\x00"],
        mutation=mutate_bytes,
    ),
    "message": Target(
        parse=_parse_message, errors=(WireError,), seeds=lambda: message_seeds()[:2], mutation=mutate_json
    ),
    "mp4": Target(parse=_parse_mp4, errors=(DecodeError,), seeds=mp4_seeds, mutation=mutate_boxes),
    "mpd": Target(parse=_parse_mpd, errors=(SegmentError,), seeds=lambda: text_seeds("mpd"), mutation=mutate_xml),
    "outcome": Target(
        parse=parse_outcome, errors=(WireError,), seeds=lambda: message_seeds()[3:], mutation=mutate_json
    ),
    "pictures": Target(parse=_parse_pictures, errors=(), seeds=nal_seeds, mutation=mutate_bytes),
    "sidx": Target(
        parse=lambda data: parse_sidx(data, offset_bytes=0),
        errors=(SegmentError,),
        seeds=index_seeds,
        mutation=mutate_bytes,
    ),
    "still": Target(parse=read_still, errors=(DecodeError,), seeds=still_seeds, mutation=mutate_boxes),
    "ts": Target(parse=_parse_ts, errors=(DecodeError,), seeds=ts_seeds, mutation=mutate_packets),
}
