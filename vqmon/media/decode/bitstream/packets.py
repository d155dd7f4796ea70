"""The packets of one video stream, and what they and their headers tell before decoding."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from vqmon.media.decode.bitstream import av1
from vqmon.media.decode.bitstream.gop import CodedPicture
from vqmon.media.decode.bitstream.headers import find_droppable, is_hidden

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

_MAX_JUMP_SECONDS = 10.0


@dataclass(slots=True)
class VideoPackets:
    """The demuxed packets of a video stream and the pictures they announce, in decoding order."""

    stream: VideoStream
    packets: list[av.Packet[VideoStream]]
    pictures: list[CodedPicture]
    demuxer: str
    # cut off at the end of the file: as many as its index tells, otherwise 1
    missing_pictures: int = 0
    # remarks for people, published with the segment
    notes: list[str] = field(default_factory=list)

    @property
    def seconds_per_tick(self) -> Fraction:
        """The time base of the packets' timestamps."""
        return self.stream.time_base or Fraction(1, 90_000)


def close_timestamp_jumps(video: VideoPackets) -> None:
    """Close gaps of more than 10 s between consecutive packets of a transport stream, as ffmpeg does."""
    tick = video.seconds_per_tick
    limit, shift, last, step = int(_MAX_JUMP_SECONDS / tick), 0, None, int(Fraction(1, 25) / tick)
    for packet in video.packets:
        timestamp = packet.dts if packet.dts is not None else packet.pts
        if timestamp is None:
            continue
        if last is not None and abs(timestamp + shift - last) > limit:
            shift = last + (packet.duration or step) - timestamp
            video.notes.append("the timestamps jump; the jump was closed")
        last = timestamp + shift
        if shift:
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift


def coded_pictures(video: VideoPackets) -> list[CodedPicture]:
    """The pictures as the container and the first bytes of each packet describe them, references not included.

    This is enough to decode key pictures, or everything.
    """
    tick = video.seconds_per_tick
    codec = video.stream.codec_context.name
    return [
        CodedPicture(
            time_seconds=None if packet.pts is None else packet.pts * tick.numerator / tick.denominator,
            is_key=packet.is_keyframe and not packet.is_corrupt,
            is_shown=not packet.is_discard and not is_hidden(codec, memoryview(packet)),
        )
        for packet in video.packets
    ]


def coded_pictures_with_references(video: VideoPackets) -> list[CodedPicture]:
    """`video.pictures`, completed by what their headers tell about which picture is predicted from which."""
    context = video.stream.codec_context
    contents = [bytes(packet) for packet in video.packets]
    droppable = find_droppable(context.name, context.extradata, contents)
    references = av1.find_references(context.extradata, contents) if context.name == "libdav1d" else None
    return [
        replace(picture, is_droppable=is_droppable, references=references[position] if references else None)
        for position, (picture, is_droppable) in enumerate(zip(video.pictures, droppable, strict=True))
    ]


def duration_seconds(video: VideoPackets) -> float:
    """Seconds from the first shown picture to the end of the last one."""
    times = sorted(p.time_seconds for p in video.pictures if p.is_shown and p.time_seconds is not None)
    if not times:
        return 0.0
    last = max(video.packets, key=lambda packet: packet.pts if packet.pts is not None else -(1 << 62))
    step = float((last.duration or 0) * video.seconds_per_tick)
    if step <= 0 and len(times) > 1:
        step = (times[-1] - times[0]) / (len(times) - 1)
    return times[-1] - times[0] + step


def packet_damage(video: VideoPackets, timestamps: Sequence[int]) -> list[float]:
    """For each sampled frame the share of damaged or missing packets since the one before it, decoded or not.

    `timestamps` are the presentation timestamps of the sampled frames, rising. What comes after the last frame counts
    for that frame.
    """
    counts, damaged = np.zeros(len(timestamps)), np.zeros(len(timestamps))
    for packet in video.packets:
        if packet.pts is not None:
            index = min(bisect_left(timestamps, packet.pts), len(timestamps) - 1)
            counts[index] += 1
            damaged[index] += packet.is_corrupt
    counts[-1] += video.missing_pictures
    damaged[-1] += video.missing_pictures
    shares: list[float] = np.minimum(damaged / np.maximum(counts, 1), 1).tolist()
    return shares


def stream_facts(video: VideoPackets) -> dict[str, Any]:
    """The fields of `core.frames.MediaFacts` that are known without decoding."""
    count = sum(picture.is_shown for picture in video.pictures)
    seconds = duration_seconds(video)
    rate = float(video.stream.average_rate or 0)
    return {
        "container": {"mov": "mp4"}.get(video.demuxer, video.demuxer),
        "codec": {"libdav1d": "av1"}.get(video.stream.codec_context.name, video.stream.codec_context.name),
        "fps": round(count / seconds, 6) if seconds > 0 and count > 1 else rate,
        "duration_seconds": round(seconds, 6),
        "frame_count": count,
    }


def sample_aspect_ratio(stream: VideoStream) -> float:
    """Width over height of one pixel; 1 when the stream gives none or an implausible one."""
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio is not None and 1 / 16 <= ratio <= 16 else 1.0
