"""The packets of one video track, and what they and their headers say before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vqmon.media.decode.bitstream import av1
from vqmon.media.decode.bitstream.gop import CodedPicture
from vqmon.media.decode.bitstream.headers import droppable, hidden

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

_MAX_JUMP_SECONDS = 10.0


@dataclass(slots=True)
class Track:
    """The demuxed video track: its packets, and what they say, in decoding order."""

    stream: VideoStream
    packets: list[av.Packet[VideoStream]]
    pictures: list[CodedPicture]
    demuxer: str
    notes: list[str] = field(default_factory=list)

    @property
    def seconds_per_tick(self) -> Fraction:
        return self.stream.time_base or Fraction(1, 90_000)


def heal_jumps(track: Track) -> None:
    """Close gaps of more than 10 s between neighbouring packets of a transport stream, as ffmpeg does."""
    tick = track.seconds_per_tick
    limit, shift, last, step = int(_MAX_JUMP_SECONDS / tick), 0, None, int(Fraction(1, 25) / tick)
    for packet in track.packets:
        now = packet.dts if packet.dts is not None else packet.pts
        if now is None:
            continue
        if last is not None and abs(now + shift - last) > limit:
            shift = last + (packet.duration or step) - now
            track.notes.append("the timestamps jump; the jump was closed")
        last = now + shift
        if shift:
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift


def pictures_of(track: Track) -> list[CodedPicture]:
    """What the container and the first bytes of each packet say; enough to decode key pictures, or everything."""
    tick = track.seconds_per_tick
    codec = track.stream.codec_context.name
    return [
        CodedPicture(
            time_seconds=None if packet.pts is None else packet.pts * tick.numerator / tick.denominator,
            is_key=packet.is_keyframe and not packet.is_corrupt,
            is_shown=not packet.is_discard and not hidden(codec, memoryview(packet)),
        )
        for packet in track.packets
    ]


def linked(track: Track) -> list[CodedPicture]:
    """The pictures of the track with what their headers say of each other: what is needed for what."""
    context = track.stream.codec_context
    contents = [bytes(packet) for packet in track.packets]
    unused = droppable(context.name, context.extradata, contents)
    chains = av1.needs(context.extradata, contents) if context.name == "libdav1d" else None
    return [
        replace(picture, is_droppable=is_unused, needs=chains[position] if chains else None)
        for position, (picture, is_unused) in enumerate(zip(track.pictures, unused, strict=True))
    ]


def span_seconds(track: Track) -> float:
    """Seconds from the first shown picture to the end of the last."""
    times = sorted(p.time_seconds for p in track.pictures if p.is_shown and p.time_seconds is not None)
    if not times:
        return 0.0
    last = max(track.packets, key=lambda packet: packet.pts if packet.pts is not None else -(1 << 62))
    step = float((last.duration or 0) * track.seconds_per_tick)
    if step <= 0 and len(times) > 1:
        step = (times[-1] - times[0]) / (len(times) - 1)
    return times[-1] - times[0] + step


def facts_of(track: Track) -> dict[str, Any]:
    count = sum(picture.is_shown for picture in track.pictures)
    seconds = span_seconds(track)
    rate = float(track.stream.average_rate or 0)
    return {
        "container": {"mov": "mp4"}.get(track.demuxer, track.demuxer),
        "codec": {"libdav1d": "av1"}.get(track.stream.codec_context.name, track.stream.codec_context.name),
        "fps": round(count / seconds, 6) if seconds > 0 and count > 1 else rate,
        "duration_seconds": round(seconds, 6),
        "frame_count": count,
    }


def sample_aspect_ratio(stream: VideoStream) -> float:
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio is not None and 1 / 16 <= ratio <= 16 else 1.0
