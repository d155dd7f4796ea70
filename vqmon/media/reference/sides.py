"""How the decoder process gives the frames of both sides to a comparison, and which filter graphs it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from vqmon.core.types import Pixels
from vqmon.media.images.colour import describe_frame_colour
from vqmon.media.images.frames import frame_side_data
from vqmon.media.images.resampling import FrameResampler, Orientation
from vqmon.media.reference.alignment import MAX_OFFSET_SECONDS
from vqmon.media.reference.answer import PictureWriter, libvmaf_memory, pack_unscored, pack_values
from vqmon.media.reference.canvas import CanvasConverter, SideFrame
from vqmon.media.reference.comparison import (
    Frames,
    MisalignedError,
    PairedValues,
    ReferenceComparer,
    ReferenceRequest,
    SegmentSide,
    TooSmallError,
)
from vqmon.media.reference.libvmaf.pictures import PictureStore
from vqmon.media.reference.measures.filters import FilterMeter
from vqmon.media.reference.partial import PartReader

if TYPE_CHECKING:
    import av


class FrameFacts(Protocol):
    """What a decoder tells of the frames that it gave."""

    def time_seconds(self, frame: av.VideoFrame) -> float | None:
        """The presentation time on the stream's own clock; None when the frame has none."""
        ...

    def sample_aspect_ratio(self, frame: av.VideoFrame) -> float:
        """Width over height of one pixel."""
        ...


SampleListener = Callable[[float, "av.VideoFrame", "av.VideoFrame", Orientation], None]
"""Called with each sampled frame: seconds after the segment's first frame, as decoded, deinterlaced, orientation."""


class ReferenceTools:
    """The resampler and the converter of a worker, whose graphs are kept from segment to segment.

    The graphs of measures are not: a filter with two inputs holds the last frame of each, and with a single frame all
    memory that its decoder used stays allocated.
    """

    def __init__(
        self,
        resampler: FrameResampler,
        *,
        new_graph: Callable[[], Any],
        frame_from_rgb: Callable[[Any], av.VideoFrame],
    ) -> None:
        self.resampler = resampler
        self.converter = CanvasConverter(resampler, new_graph=new_graph, frame_from_rgb=frame_from_rgb)
        self._new_graph = new_graph

    def compare(
        self,
        side: SegmentSide,
        frames: Frames,
        request: ReferenceRequest | None,
        *,
        times: Sequence[float | None],
        part: PartReader | None = None,
        memory: Pixels,
        used_bytes: int,
    ) -> dict[str, Any]:
        """The values, or why there are none; `times` are those of the reference on its own clock, in seconds.

        `part` reads a part of `frames`.

        Pictures for learned measures and for libvmaf go into `memory` behind its first `used_bytes`.
        """
        known_times = [time for time in times if time is not None]
        near_seconds = _clock_difference(side, known_times)
        return self._pack(
            request,
            lambda comparer, sink: comparer.compare(side, frames, part=part, near_seconds=near_seconds, sink=sink),
            memory=memory,
            used_bytes=used_bytes,
        )

    def compare_still(
        self,
        side: SegmentSide,
        reference: SideFrame,
        request: ReferenceRequest | None,
        *,
        memory: Pixels,
        used_bytes: int,
    ) -> dict[str, Any]:
        """As `compare`, with a reference that is a still picture."""
        return self._pack(
            request,
            lambda comparer, sink: comparer.compare_still(side, reference, sink=sink),
            memory=memory,
            used_bytes=used_bytes,
        )

    def _pack(
        self,
        request: ReferenceRequest | None,
        compare: Callable[[ReferenceComparer, PictureWriter], PairedValues],
        *,
        memory: Pixels,
        used_bytes: int,
    ) -> dict[str, Any]:
        if request is None:
            raise ValueError("there is no request to compare by")
        store = PictureStore(libvmaf_memory(memory, request, used_bytes=used_bytes), request.context)
        comparer = ReferenceComparer(request, self.converter, FilterMeter(self._new_graph), store=store)
        try:
            writer = PictureWriter(memory, request.picture_sides, used_bytes=used_bytes)
            values = compare(comparer, writer)
        except MisalignedError as error:
            return pack_unscored("misaligned", str(error))
        except TooSmallError as error:
            return pack_unscored("too_small", str(error))
        return pack_values(values, request) | {"pictures": writer.layout()}


def _clock_difference(side: SegmentSide, times: Sequence[float]) -> float:
    """The time in the reference minus the time in the segment by their own clocks, if these can be trusted; else 0.

    A reference may hold more than the segment, a whole film for example: then the presentation times tell where the
    segment belongs.
    """
    if side.start_seconds is None or not times:
        return 0.0
    difference = side.start_seconds - min(times)
    return difference if MAX_OFFSET_SECONDS < difference < max(times) - min(times) else 0.0


def frame_listener(side: SegmentSide, facts: FrameFacts) -> Callable[[av.VideoFrame], None]:
    """Gives every decoded frame of the segment to its side."""

    def listen(frame: av.VideoFrame) -> None:
        if (time := facts.time_seconds(frame)) is not None:
            side.add_decoded(_side_frame(frame, time, facts))

    return listen


def sample_listener(side: SegmentSide, facts: FrameFacts) -> SampleListener:
    """Gives every sampled frame of a decoding to its side, emptied first."""
    side.clear()

    def listen(time_seconds: float, decoded: av.VideoFrame, frame: av.VideoFrame, orientation: Orientation) -> None:
        ratio = facts.sample_aspect_ratio(decoded)
        sampled = SideFrame(time_seconds, frame, describe_frame_colour(decoded), orientation, ratio)
        side.add_sample(sampled, stream_seconds=facts.time_seconds(decoded))

    return listen


def still_side(coded: av.VideoFrame, opaque: av.VideoFrame, orientation: Orientation) -> SideFrame:
    """A still picture as one side: as coded where it is planar YUV without alpha, and opaque with full chroma."""
    frame = coded if opaque.format.name.startswith("yuv") else opaque
    return SideFrame(0.0, frame, describe_frame_colour(frame), orientation, 1.0, still=opaque)


class _DecodedFrame(Protocol):
    """A decoded frame with its neighbours in presentation order."""

    time_seconds: float
    frame: av.VideoFrame
    previous: av.VideoFrame | None
    following: av.VideoFrame | None


def side_frames(decoded: Iterable[_DecodedFrame], facts: FrameFacts) -> Iterator[SideFrame]:
    """The frames of a reference, interlaced ones with their neighbours."""
    for each in decoded:
        side = _side_frame(each.frame, each.time_seconds, facts)
        if each.frame.interlaced_frame:
            side = replace(side, previous=each.previous, following=each.following)
        yield side


def _side_frame(frame: av.VideoFrame, time_seconds: float, facts: FrameFacts) -> SideFrame:
    ratio = facts.sample_aspect_ratio(frame)
    return SideFrame(time_seconds, frame, describe_frame_colour(frame), read_orientation(frame), ratio)


def read_orientation(frame: av.VideoFrame) -> Orientation:
    """The orientation that the display matrix in the frame's side data gives; upright without one."""
    matrix = frame_side_data(frame, "DISPLAYMATRIX")
    return Orientation.from_display_matrix(b"" if matrix is None else bytes(matrix))
