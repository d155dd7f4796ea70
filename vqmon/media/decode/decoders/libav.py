"""A libav decoder over the packets of one stream, which counts what is damaged and gives planes."""

from collections.abc import Callable, Mapping

import av
import av.error
from av.video.codeccontext import VideoCodecContext

from vqmon.media.decode.bitstream.packets import PixelAspect, VideoPackets
from vqmon.media.decode.decoders.frame_selection import DecodedFrameTap, DecodeStats
from vqmon.media.decode.decoders.hardware import to_planes
from vqmon.media.decode.protocol import DecodeLimits, check_size

_LATE_ASPECT = ("libdav1d",)
"""Decoders whose pixel aspect is that of the frame that they output; that of the others is of the packet."""
_FIELD_ORDERS = (2, 3, 4, 5)  # AVFieldOrder: TT, BB, TB, BT


class LibavDecoder:
    """A libav decoder over the packets of one stream; see `frame_selection.PacketDecoder`."""

    def __init__(
        self,
        video: VideoPackets,
        damaged_positions: set[int | None],
        *,
        limits: DecodeLimits,
        options: Mapping[str, str],
        hardware: VideoCodecContext | None = None,
    ) -> None:
        self._video = video
        # positions of the packets that this decoder, or another one before it, refused; None for the end of the stream
        self._damaged_positions = damaged_positions
        self.stats = DecodeStats()
        self.frame_tap: DecodedFrameTap | None = None
        self.on_frame: Callable[[av.VideoFrame], None] | None = None
        context = video.stream.codec_context if hardware is None else hardware
        self._to_planes = _planar if hardware is None else to_planes
        context.options = {
            "max_pixels": str(limits.max_padded_pixels),
            "threads": str(limits.threads),
            **options,
        }
        context.thread_count = limits.threads
        self._context: VideoCodecContext = context
        self._max_pixels = limits.max_pixels
        self._aspect = PixelAspect(video)
        # read before the decoder opens: PyAV 19 crashes on the name of one that could not be opened
        self._has_late_aspect = context.name in _LATE_ASPECT
        self._positions = {packet.pts: i for i, packet in enumerate(video.packets) if packet.pts is not None}
        self.is_interlaced = context.field_order in _FIELD_ORDERS

    def decode(self, position: int) -> list[av.VideoFrame]:
        return self._send(position)

    def flush(self) -> list[av.VideoFrame]:
        frames = self._send(None)
        self._context.flush_buffers()
        if self.frame_tap is not None:
            self.frame_tap.mark_gap()
        return frames

    def packet_position(self, frame: av.VideoFrame) -> int | None:
        return None if frame.pts is None else self._positions.get(frame.pts)

    def time_seconds(self, frame: av.VideoFrame) -> float | None:
        tick = self._video.seconds_per_tick
        return None if frame.pts is None else frame.pts * tick.numerator / tick.denominator

    def sample_aspect_ratio(self, frame: av.VideoFrame) -> float:
        """Width over height of one pixel of a frame that this decoder gave."""
        return self._aspect.at(self.packet_position(frame))

    def _send(self, position: int | None) -> list[av.VideoFrame]:
        """Send the packet at a position, or None for the end of the stream."""
        packet = None if position is None else self._video.packets[position]
        try:
            frames = [self._to_planes(frame) for frame in self._context.decode(packet)]
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, av.error.MemoryError):
                raise MemoryError from error
            frames = []
            self._damaged_positions.add(position)
        is_damaged = position in self._damaged_positions or (packet is not None and packet.is_corrupt)
        self.stats.damaged_pictures += is_damaged or any(frame.is_corrupt for frame in frames)
        for noted in (self.packet_position(frame) for frame in frames) if self._has_late_aspect else (position,):
            self._aspect.note_picture(noted, self._context.sample_aspect_ratio)
        for frame in frames:
            check_size(frame.width, frame.height, self._max_pixels)
            if self.on_frame is not None:
                self.on_frame(frame)
            if self.frame_tap is not None:
                self.frame_tap.pass_frame(frame, self.packet_position(frame))
        return frames


def _planar(frame: "av.VideoFrame") -> "av.VideoFrame":
    """The same values in planes where a frame of raw video has them packed; nothing else reads packed ones."""
    name = frame.format.name
    if frame.format.is_planar or name.startswith("gray"):
        return frame
    target = "gbrp" if frame.format.is_rgb or name == "pal8" else "yuv422p"
    planar = frame.reformat(format=target, threads=1)
    planar.pts, planar.time_base = frame.pts, frame.time_base
    if target != "gbrp":
        planar.colorspace, planar.color_range = frame.colorspace, frame.color_range
    planar.color_trc, planar.color_primaries = frame.color_trc, frame.color_primaries
    return planar
