"""The packets of one video stream, and what they and their headers tell before decoding."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vqmon.media.decode.bitstream import av1
from vqmon.media.decode.bitstream.gop import CodedPicture
from vqmon.media.decode.bitstream.headers import find_droppable, is_hidden
from vqmon.media.decode.bitstream.timeline import join_stretches

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

_STREAMED = ("mpegts", "mpeg", "flv")
_RAW = ("h264", "hevc", "vvc", "mpegvideo", "mjpeg", "obu")
_DEFAULT_RATE = 25.0
_MAX_REMARKS = 4
# libav's name of the side data of a packet from which on other parameter sets are in force
_PARAMETER_SETS: Final = "new_extradata"
# containers that leave the pixel aspect to the bitstream
_WITHOUT_ASPECT = (*_STREAMED, *_RAW, "ivf")


@dataclass(slots=True)
class VideoPackets:
    """The demuxed packets of a video stream and the pictures they announce, in decoding order."""

    stream: VideoStream
    packets: list[av.Packet[VideoStream]]
    pictures: list[CodedPicture]
    demuxer: str
    # cut off at the end of the file: as many as its index tells, otherwise 1
    missing_pictures: int = 0
    # ad breaks that begin or end; see `containers.splices`
    splices: list[dict[str, float | bool]] = field(default_factory=list)
    # remarks for people, published with the segment
    notes: list[str] = field(default_factory=list)

    @property
    def frames_per_second(self) -> Fraction | None:
        """By the container, or by the parameter sets of raw video; None when nothing tells.

        By the decoding times where the container gives no others.
        """
        decoded = [packet.dts for packet in self.packets if packet.dts is not None and packet.pts is None]
        if len(decoded) > 1 and decoded[-1] > decoded[0]:
            return (len(decoded) - 1) / ((decoded[-1] - decoded[0]) * self.seconds_per_tick)
        if self.demuxer in _RAW or not self.stream.average_rate:
            return self.stream.guessed_rate
        return self.stream.average_rate

    @property
    def seconds_per_tick(self) -> Fraction:
        """The time base of the packets' timestamps."""
        return self.stream.time_base or Fraction(1, 90_000)


def join_timeline(video: VideoPackets, undiscarded: Callable[[av.Packet[VideoStream]], av.Packet[VideoStream]]) -> None:
    """Put all packets on one timeline; see `timeline.join_stretches`.

    libav marks pictures of fragmented MP4 that come a second time as not shown; `undiscarded` copies them without.
    """
    joins = join_stretches(
        video.packets,
        seconds_per_tick=video.seconds_per_tick,
        frames_per_second=video.frames_per_second,
        has_streamed_clock=video.demuxer in _STREAMED,
    )
    remarks = list(dict.fromkeys(join.remark for join in joins))
    video.notes += remarks[:_MAX_REMARKS]
    if len(remarks) > _MAX_REMARKS:
        video.notes.append(f"the timestamps jump or repeat at {len(remarks) - _MAX_REMARKS} more places")
    if joins and video.demuxer == "mov":
        first = joins[0].position
        video.packets[first:] = [
            undiscarded(packet) if packet.is_discard else packet for packet in video.packets[first:]
        ]


def drop_unreliable_times(video: VideoPackets) -> None:
    """Remove times that libav makes up.

    Presentation times in decoding order (AVI), unless all pictures are key pictures; all of raw MPEG-2, 25 a second.
    """
    if video.demuxer == "mpegvideo":
        for packet in video.packets:
            packet.pts = packet.dts = None
    if video.demuxer == "avi" and not all(packet.is_keyframe for packet in video.packets):
        for packet in video.packets:
            packet.pts = None


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
    """Seconds from the first shown picture to the end of the last one, by the frame rate where times are missing."""
    times = sorted(p.time_seconds for p in video.pictures if p.is_shown and p.time_seconds is not None)
    count = sum(picture.is_shown for picture in video.pictures)
    by_rate = count / float(video.frames_per_second or _DEFAULT_RATE) if len(times) < count else 0.0
    if not times:
        return by_rate
    last = max(video.packets, key=lambda packet: packet.pts if packet.pts is not None else -(1 << 62))
    step = float((last.duration or 0) * video.seconds_per_tick)
    if step <= 0 and len(times) > 1:
        step = (times[-1] - times[0]) / (len(times) - 1)
    return max(times[-1] - times[0] + step, by_rate)


def packet_damage(video: VideoPackets, timestamps: Sequence[int]) -> list[float]:
    """For each sampled frame the share of damaged or missing packets since the one before it, decoded or not.

    `timestamps` are the presentation timestamps of the sampled frames, rising; without them nothing is known.
    What comes after the last frame counts for that frame.
    """
    if not timestamps:
        return []
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


def dropped_frames(video: VideoPackets, timestamps: Sequence[int]) -> list[float]:
    """For each sampled frame the share of the frames that the timeline lacks since the one before it.

    A step of k median steps between two shown pictures, k rounded, counts as k - 1 missing frames. Nothing is known
    where some pictures have no times (MPEG program streams).
    """
    missing, counts = np.zeros(len(timestamps)), np.zeros(len(timestamps))
    shown = [p.pts for p, picture in zip(video.packets, video.pictures, strict=True) if picture.is_shown]
    moments = np.unique([time for time in shown if time is not None])
    if len(moments) < 3 or (video.demuxer == "mpeg" and None in shown):
        return [0.0] * len(timestamps)
    steps = np.diff(moments)
    lost = np.maximum(np.rint(steps / np.median(steps)) - 1, 0)
    indices = np.minimum(np.searchsorted(timestamps, moments[1:]), len(timestamps) - 1)
    np.add.at(missing, indices, lost)
    np.add.at(counts, indices, lost + 1)
    shares: list[float] = (missing / np.maximum(counts, 1)).tolist()
    return shares


def stream_facts(video: VideoPackets) -> dict[str, Any]:
    """The fields of `core.frames.MediaFacts` that are known without decoding."""
    count = sum(picture.is_shown for picture in video.pictures)
    seconds = duration_seconds(video)
    rate = float(video.frames_per_second or 0)
    return {
        "container": {"mov": "mp4", "yuv4mpegpipe": "y4m", "mpeg": "mpegps"}.get(video.demuxer, video.demuxer),
        "codec": {"libdav1d": "av1"}.get(video.stream.codec_context.name, video.stream.codec_context.name),
        "fps": round(count / seconds, 6) if seconds > 0 and count > 1 else rate,
        "duration_seconds": round(seconds, 6),
        "frame_count": count,
        "splices": video.splices,
    }


class PixelAspect:
    """Width over height of one pixel of each picture, as container and bitstream together tell it.

    What the container declares overrides the bitstream (ISO/IEC 14496-12 12.1.4) as long as the bitstream declares what
    it did at the first picture; a change in the bitstream holds from the picture where it happens.
    """

    def __init__(self, video: VideoPackets) -> None:
        self._declared = None if video.demuxer in _WITHOUT_ASPECT else video.stream.sample_aspect_ratio
        self._first: Fraction | None = None
        self._ratios: dict[int | None, Fraction] = {}

    def note_picture(self, position: int | None, ratio: Fraction | None) -> None:
        """Note what the bitstream declares for the packet at a position; 0 or None is nothing."""
        if ratio:
            self._first = self._first or ratio
            self._ratios[position] = ratio

    def at(self, position: int | None) -> float:
        """The ratio of the picture of a packet; 1 when nothing plausible is declared."""
        ratio = self._ratios.get(position, self._first)
        return _plausible_ratio(self._declared if self._declared and ratio == self._first else ratio)


def sample_aspect_ratio(stream: VideoStream) -> float:
    """Width over height of one pixel of a stream; 1 when it gives none or an implausible one."""
    return _plausible_ratio(stream.sample_aspect_ratio)


def _plausible_ratio(ratio: Fraction | None) -> float:
    """The ratio as a number; 1 for none, and outside 1:16 to 16:1."""
    return float(ratio) if ratio and 1 / 16 <= ratio <= 16 else 1.0


def repeat_parameter_sets(video: VideoPackets, attach: Callable[[av.Packet[VideoStream], bytes], None]) -> None:
    """Attach to every key picture the parameter sets of the container that are in force, if they change at all.

    libav's demuxers attach them once, to the packet at which they change, which need not be decoded.
    """
    extradata = video.stream.codec_context.extradata
    if not extradata or not any(packet.has_sidedata(_PARAMETER_SETS) for packet in video.packets):
        return
    for packet in video.packets:
        if packet.has_sidedata(_PARAMETER_SETS):
            extradata = bytes(packet.get_sidedata(_PARAMETER_SETS))
        elif packet.is_keyframe:
            attach(packet, extradata)
