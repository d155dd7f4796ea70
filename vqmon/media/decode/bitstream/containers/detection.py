"""Detection of the container format from the bytes, so that libav never has to guess."""

import codecs
import re

from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.boxes import CLUSTER, ends_within_element, iterate_iso_boxes
from vqmon.media.decode.bitstream.containers.encryption import has_only_encrypted_video
from vqmon.media.decode.bitstream.containers.packed_audio import find_packed_audio
from vqmon.media.decode.bitstream.containers.transport_stream import (
    check_scrambling,
    ends_within_ts_packet,
    packet_layout,
)

_ISO_BOXES = frozenset(b"ftyp styp moov moof mdat sidx emsg free skip wide uuid prft ssix pdin meta pnot mfra".split())
_EBML = b"\x1a\x45\xdf\xa3"
_STARTS = {
    _EBML: "matroska",
    b"FLV\x01": "flv",
    b"YUV4MPEG2 ": "yuv4mpegpipe",
    b"DKIF": "ivf",
    # a pack header, and a sequence header; ISO/IEC 13818-1 table 2-38, 13818-2 table 6-1
    b"\0\0\1\xba": "mpeg",
    b"\0\0\1\xb3": "mpegvideo",
    # a temporal delimiter and a sequence header; AV1 bitstream specification 5.3.2
    b"\x12\0\x0a": "obu",
    # one picture is a still, and is not asked for here
    b"\xff\xd8\xff": "mjpeg",
}
_FOREIGN_STARTS = {
    b"OggS": "Ogg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "ASF (Windows Media)",
    b".RMF": "RealMedia",
    b"nut/multimedia container\0": "NUT",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11": "WTV",
    b"\0\0\0\0\1\xbc": "GXF",
    b"\x1f\x07\0": "raw DV",
    b"FWS": "Flash (SWF)",
    b"CWS": "Flash (SWF)",
    b"%PDF": "PDF",
    b"PK\3\4": "a ZIP archive",
    b"\0\0\1\xb0": "raw MPEG-4 video",
    b"\0\0\1\x0f": "raw VC-1 video",
    b"BBCD": "raw Dirac video",
}
"""What other formats begin with: they are refused by name."""

# SMPTE ST 377-1: a header partition begins with this key, which up to 64 KB of run-in may precede
_MXF_PARTITION = b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02"
_MXF_RUN_IN_BYTES = 65_536
# what raw video may begin with behind a start code: parameter sets, an access unit delimiter, supplemental information;
# ITU-T H.264 table 7-1, H.265 table 7-1, H.266 table 5
_RAW_STARTS = {
    "h264": (b"\x67", b"\x47", b"\x27", b"\x09\x10", b"\x09\x30", b"\x09\x50", b"\x09\xf0", b"\x06\x05"),
    "hevc": (b"\x40\x01", b"\x42\x01", b"\x46\x01", b"\x4e\x01"),
    "vvc": (b"\x00\x61", b"\x00\x69", b"\x00\x71", b"\x00\x79", b"\x00\xa1"),
}
_TEXT_STARTS = {
    rb"#EXTM3U": "an HLS playlist",
    rb"(<\?xml[^>]*>\s*)?<(\w+:)?MPD\b": "a DASH manifest",
    rb"(<\?xml[^>]*>\s*)?<(!doctype )?html\b": "a web page",
    rb"<\?xml\b": "XML",
    rb"WEBVTT\b": "WebVTT subtitles",
    rb"v=0\s": "a session description (SDP)",
    rb"[\[{]\s*[\"\]}\[{]": "JSON",
}
_TEXT_SAMPLE_BYTES = 1024
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def detect_demuxer(media: bytes) -> str:
    """The libav demuxer to force, one of `protocol.CONTAINERS`.

    Raises DecodeError: not_media, missing_init (fragments without their header), encrypted, or no_video (packed audio).
    """
    if not media:
        raise DecodeError("empty")
    # before the start codes: a first box of 435 or 442 bytes begins as MPEG video does
    if media[4:8] in _ISO_BOXES:
        _check_iso(media)
        return "mov"
    if (demuxer := _demuxer_by_start(media)) is not None:
        return demuxer
    if media.startswith(CLUSTER):
        raise DecodeError("missing_init", "WebM clusters without their header")
    if packet_layout(media) is not None:
        check_scrambling(media)
        return "mpegts"
    if _MXF_PARTITION in media[: _MXF_RUN_IN_BYTES + len(_MXF_PARTITION)]:
        return "mxf"
    if (audio := find_packed_audio(media)) is not None:
        raise DecodeError("no_video", f"the bytes are audio alone ({audio.name})")
    raise DecodeError("not_media", _describe_foreign_bytes(media))


def ends_within_packet(media: bytes, demuxer: str) -> bool:
    """Whether a transport stream or Matroska file ends within a packet or an element: the file was cut off."""
    if demuxer == "matroska":
        return ends_within_element(media)
    return demuxer == "mpegts" and ends_within_ts_packet(media)


def _demuxer_by_start(media: bytes) -> str | None:
    """The demuxer of what begins with a name of its own, raw video included."""
    for name, demuxer in _STARTS.items():
        if media.startswith(name):
            return demuxer
    if media[:4] == b"RIFF" and media[8:12] == b"AVI ":
        return "avi"
    start = media[:5].find(b"\0\0\1")
    if start < 0 or any(media[:start]):
        return None
    unit = media[start + 3 : start + 5]
    return next((name for name, starts in _RAW_STARTS.items() if unit.startswith(starts)), None)


def _describe_foreign_bytes(media: bytes) -> str:
    if kind := _text_kind(media[:_TEXT_SAMPLE_BYTES]):
        return f"the content is {kind}, not media"
    if format_name := next((name for start, name in _FOREIGN_STARTS.items() if media.startswith(start)), None):
        return f"the content is {format_name}, which is not read here; decode.containers names what is"
    return f"the bytes start with {media[:8].hex(' ')}, as no container of video and no still picture that is read here"


def _text_kind(start: bytes) -> str | None:
    """What kind of text a file begins with; None for other bytes."""
    mark = next((mark for mark in _BYTE_ORDER_MARKS if start.startswith(mark)), b"")
    # bytes that are cut off at the end of the sample are no error
    decoder = codecs.getincrementaldecoder(_BYTE_ORDER_MARKS.get(mark, "utf-8"))()
    try:
        text = decoder.decode(start)
    except UnicodeDecodeError:
        return None
    if _CONTROL_CHARACTERS.search(text):
        return None
    encoded = text.lstrip().encode("utf-8", "replace")
    return next((kind for form, kind in _TEXT_STARTS.items() if re.match(form, encoded, re.IGNORECASE)), "text")


def _check_iso(media: bytes) -> None:
    kinds = {kind for kind, _, _ in iterate_iso_boxes(media)}
    if has_only_encrypted_video(media):
        raise DecodeError("encrypted", "the video track is encrypted (common encryption)")
    if b"moov" not in kinds and b"moof" in kinds:
        raise DecodeError("missing_init", "movie fragments without their initialization section")
