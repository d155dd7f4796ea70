"""Valid inputs from which mutations begin."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from tests import factories
from tests.media.clips import clip, x264
from tests.media.decode.test_protocol import answer
from tests.media.sound.test_answer import FACTS
from tests.media.sources.dash.rig import sidx
from tests.media.stills import alpha_ramp, avif, exif, jpeg, png, webp, with_jpeg_exif
from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.core.types import ByteRange, Encryption, Mirror, Reference
from vqmon.transport.wire.cloudevents import encode_outcome
from vqmon.transport.wire.control_messages import encode_control_message
from vqmon.transport.wire.segment_messages import encode_segment

_FOLDER = Path(__file__).parent / "texts"


def text_seeds(suffix: str) -> Sequence[bytes]:
    """The playlists (`m3u8`) or manifests (`mpd`) beside this module."""
    return [file.read_bytes() for file in sorted(_FOLDER.glob(f"*.{suffix}"))]


def answer_seeds() -> Sequence[bytes]:
    """The JSON of a decoder's answer, with and without sound, and its raw bytes."""
    refused = {"ok": False, "reason": "corrupt", "detail": "damaged"}
    return [
        json.dumps(answer(sound=asdict(FACTS))).encode() + b"\0abcde",
        json.dumps(refused).encode(),
        json.dumps(answer(sound="no_audio")).encode() + b"\0abcde",
    ]


def message_seeds() -> Sequence[bytes]:
    """A segment message in both modes, both control messages, an event and a failure."""
    segment, url = factories.segment(sequence=7), "https://cdn.example/a.m4s"
    segment = replace(
        segment,
        rendition=replace(segment.rendition, stream_id="news"),
        byte_range=ByteRange(offset_bytes=1, length_bytes=2),
        init_url=url,
        encryption=Encryption(method="AES-128", key_url=url, iv_hex="00" * 16),
        reference=Reference(url=url, init_url=url),
        mirrors=(Mirror(url=url),),
        labels={"team": "sr"},
        prompt="a fox",
    )
    message = encode_segment(segment, source="fuzz")[1]
    controls = (
        DeployMarker(id="m", at=segment.starts_at, name="encoder-7"),
        StreamEnd(id="e", at=segment.starts_at, stream_id="news", rendition="1080p"),
    )
    return [
        message,
        json.dumps(json.loads(message)["data"]).encode(),
        *(encode_control_message(control, source="fuzz") for control in controls),
        encode_outcome(factories.event(sequence=1), source="fuzz"),
        encode_outcome(factories.failure(sequence=2), source="fuzz"),
    ]


@cache
def mp4_seeds() -> Sequence[bytes]:
    """A fragmented file, its boxes without media, and an index."""
    whole = clip(*x264(), size="64x36", seconds=1, container="mp4")
    return [whole, whole[: whole.find(b"mdat")]]


def index_seeds() -> Sequence[bytes]:
    """Segment indexes of both versions, the second behind another box."""
    return [sidx([(5, 5), (6, 6)]), bytes.fromhex("0000000866726565") + sidx([(5, 5)], version=1)]


@cache
def ts_seeds() -> Sequence[bytes]:
    """A transport stream and its first packets."""
    whole = clip(*x264(), size="64x36", seconds=1)
    return [whole, whole[: 188 * 4]]


@cache
def nal_seeds() -> Sequence[bytes]:
    """Elementary streams: codec, length of the header, header and pictures; see `targets`."""
    streams = {
        0: clip(*x264(), size="64x36", seconds=0.4, container="h264"),
        1: clip("-c:v", "libx265", "-x265-params", "log-level=none", size="64x64", seconds=0.4, container="hevc"),
        2: clip("-c:v", "mpeg2video", size="64x36", seconds=0.4, container="mpeg2video"),
        4: clip("-c:v", "libvpx-vp9", size="64x36", seconds=0.4, container="ivf")[44:],
        5: clip("-c:v", "libaom-av1", "-cpu-used", "8", size="64x36", seconds=0.2, container="obu"),
    }
    record = bytes.fromhex("0164001fffe1000967640000acd94050050100 0468ebe3cb".replace(" ", ""))
    return [bytes([codec, 40]) + stream[:4000] for codec, stream in streams.items()] + [
        bytes([0, len(record)]) + record + b"\0\0\0\x02\x65\x88"
    ]


@cache
def still_seeds() -> Sequence[bytes]:
    """A picture of each format that is read."""
    return [
        with_jpeg_exif(jpeg(), exif(6)),
        png(),
        webp(),
        webp(is_lossless=False),
        avif(),
        avif(is_in_metadata=True, location_version=1),
        png(alpha_ramp(), "gray"),
    ]
