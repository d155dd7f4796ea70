"""Splice messages (SCTE 35) inside media: sections of a transport stream, event messages of fragmented MP4."""

from collections.abc import Iterator

from vqmon.media.ancillary.splice import parse_splice
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes
from vqmon.media.decode.bitstream.containers.transport_stream import iterate_sections, program_streams

_SPLICE_STREAM = 0x86  # stream_type of splice_info_section in the programme map (SCTE 35 8.1)
_CLOCK_HZ = 90_000
_HALF_CLOCK = 1 << 32
_SCHEMES = (b"urn:scte:scte35:2013:bin", b"urn:scte:scte35:2014:bin")
_MAX_CUES = 16
_MAX_SECONDS = 86_400.0

SpliceCue = dict[str, float | bool]
"""`begins`, `at_seconds` after the first picture, `seconds`: see `core.frames.SpliceCue`."""


def find_splices(media: bytes, demuxer: str, *, first_seconds: float) -> list[SpliceCue]:
    """The ad breaks that begin or end, in order, each once; `first_seconds` is the time of the first picture."""
    found = {"mpegts": _in_sections, "mov": _in_events}.get(demuxer)
    cues: list[SpliceCue] = []
    for begins, at_seconds, seconds in found(media, first_seconds) if found else ():
        cue: SpliceCue = {
            "begins": begins,
            "at_seconds": round(min(max(at_seconds, -_MAX_SECONDS), _MAX_SECONDS), 6),
            "seconds": round(min(seconds, _MAX_SECONDS), 6),
        }
        if cue not in cues and len(cues) < _MAX_CUES:
            cues.append(cue)
    return cues


def _in_sections(media: bytes, first_seconds: float) -> Iterator[tuple[bool, float, float]]:
    pids = {stream.pid for stream in program_streams(media) if stream.kind == _SPLICE_STREAM}
    first = round(first_seconds * _CLOCK_HZ)
    for section in iterate_sections(media, pids) if pids else ():
        message = parse_splice(section)
        if message is not None:
            # the 33 bits of the clock start again every 26.5 hours
            ticks = 0 if message.pts is None else (message.pts - first + _HALF_CLOCK) % (2 * _HALF_CLOCK) - _HALF_CLOCK
            yield message.begins, ticks / _CLOCK_HZ, message.seconds


def _in_events(media: bytes, first_seconds: float) -> Iterator[tuple[bool, float, float]]:
    """emsg boxes (ISO/IEC 23009-1 5.10.3.3); their times are those of the splice."""
    for kind, start, end in iterate_iso_boxes(media):
        if kind != b"emsg" or end - start < 28:
            continue
        box, version = media[start:end], media[start]
        if version == 0:
            scheme, _, rest = box[4:].partition(b"\0")
            _, _, rest = rest.partition(b"\0")
            numbers, message = rest[:16], rest[16:]
            scale, time, length = (int.from_bytes(numbers[i : i + 4], "big") for i in (0, 4, 8))
            at_seconds = time / scale if scale else 0.0
        else:
            scale, time = int.from_bytes(box[4:8], "big"), int.from_bytes(box[8:16], "big")
            length = int.from_bytes(box[16:20], "big")
            scheme, _, rest = box[24:].partition(b"\0")
            _, _, message = rest.partition(b"\0")
            at_seconds = time / scale - first_seconds if scale else 0.0
        splice = parse_splice(message) if scheme in _SCHEMES and scale else None
        if splice is not None:
            # all ones: the length is not known
            is_known = 0 < length < 0xFFFFFFFF
            yield splice.begins, at_seconds, length / scale if is_known and splice.begins else splice.seconds
