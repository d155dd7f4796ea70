"""Comparison of the sampled frames of a segment with their partners in its reference.

The reference, or a part of it, is decoded once and leaves thumbnails; frames near the times of the samples are held.
When the alignment finds the two sides in step, the held frames are the partners; else the reference is decoded a second
time. Memory is bounded: of a long segment only some samples are compared, spread evenly.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np

from vqmon.core.frames import GRID_COLUMNS, GRID_ROWS
from vqmon.core.scores import Losses
from vqmon.core.types import Pixels
from vqmon.media.images.frames import luma_plane
from vqmon.media.measures.measure import Picture, Plane
from vqmon.media.measures.structural_similarity import block_ssim
from vqmon.media.reference.alignment import (
    MAX_OFFSET_SECONDS,
    MIN_OFFSET_SECONDS,
    THUMBNAIL_HEIGHT,
    THUMBNAIL_WIDTH,
    Alignment,
    BorderShares,
    ThumbnailTrack,
    choose_partner,
    find_alignment,
    match_stills,
    pair_frames,
)
from vqmon.media.reference.canvas import Canvas, CanvasConverter, Kernel, SideFrame, choose_canvas
from vqmon.media.reference.libvmaf.measures import LIBVMAF_MEASURES, FrameContext, libvmaf_context
from vqmon.media.reference.libvmaf.pictures import PictureLayout, PictureStore
from vqmon.media.reference.measures.filters import FILTER_MEASURES, MAX_DECIBELS, MAX_FILTER_CONTEXT, FilterMeter
from vqmon.media.reference.measures.offered import PICTURE_MEASURES, REFERENCE_MEASURES
from vqmon.media.reference.partial import (
    HELD_BYTES,
    FrameHolder,
    PartialReadingError,
    PartReader,
    ReferenceSide,
    ReferenceWindow,
    frame_bytes,
)
from vqmon.media.reference.registration import (
    NO_BORDERS,
    REGISTRATION_SIZE,
    Borders,
    Displacement,
    are_registered,
    border_choices,
    border_shares,
    describe_area,
    have_same_shape,
    have_same_shape_inside,
    measure_displacement,
    merge_borders,
)

if TYPE_CHECKING:
    import av

_ALIGNED_SECONDS = 60.0
"""How much of a long segment is used to find the offset."""

_THUMBNAIL_SIZE = (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT)
_PARTNER_SIZE = (320, 180)
# frames before and after the expected partner among which it is looked for
_NEIGHBOURS = 2
_BORDER_INTERVAL_SECONDS = 0.5
_MAX_BORDER_FRAMES = 12
_REGISTERED_PAIRS = 3
_DISPLACED = "the two sides show other parts of the picture: one is shifted, zoomed or cropped"

Frames = Callable[[], Iterator[SideFrame]]
"""Decodes a side from its beginning; frames come in presentation order."""


class MisalignedError(Exception):
    """The two sides cannot be paired; the message says why."""


class PictureSink(Protocol):
    """Takes pairs of pictures for the measures that are computed elsewhere."""

    def start(self, canvas: Canvas, samples: Sequence[int]) -> None:
        """Called once, with the size of all pictures and the sampled frames that have partners."""
        ...

    def wants(self, sample: int) -> bool:
        """Whether the pictures of a sampled frame are wanted."""
        ...

    def add(self, sample: int, *, reference: Pixels, picture: Pixels) -> None:
        """Take a sampled frame and its partner, (height, width, 3) on the canvas."""
        ...


class TooSmallError(Exception):
    """The canvas is smaller than a measure needs; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """Which measures a segment and its reference are compared by, and on which canvas."""

    # keys of REFERENCE_MEASURES
    measures: tuple[str, ...]
    # short sides, in px, of the pictures that are handed out for learned measures, each once; 0 = the canvas
    picture_sides: tuple[int, ...] = ()
    # (width, height) into which the picture is fitted; None = the size of the reference
    canvas: tuple[int, int] | None = (1920, 1080)
    kernel: Kernel = "bicubic"
    # whether to tell where in the picture the sides differ
    with_heat_map: bool = False

    def __post_init__(self) -> None:
        if unknown := set(self.measures) - set(REFERENCE_MEASURES):
            raise ValueError(f"unknown reference measures: {', '.join(sorted(unknown))}")
        if not (self.measures or self.picture_sides) or len(set(self.measures)) != len(self.measures):
            raise ValueError("a comparison needs measures, each once")
        if len(set(self.picture_sides)) != len(self.picture_sides) or not set(self.picture_sides) <= {
            0,
            *range(16, 8193),
        }:
            raise ValueError(f"picture_sides: {self.picture_sides} are not 0 or within 16..8192, each once")
        if self.canvas is not None and not all(16 <= side <= 8192 for side in self.canvas):
            raise ValueError(f"canvas: {self.canvas[0]}x{self.canvas[1]} is not within 16..8192")
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel: {self.kernel!r} is none of {', '.join(get_args(Kernel))}")

    @property
    def libvmaf_measures(self) -> tuple[str, ...]:
        """The measures that the ffmpeg program computes, after the comparison in the decoder process."""
        return tuple(name for name in self.measures if name in LIBVMAF_MEASURES)

    @property
    def context(self) -> FrameContext:
        """The frames of the reference around a partner that the program reads."""
        return libvmaf_context(self.measures)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReferenceRequest:
        """From the JSON of `dataclasses.asdict`."""
        canvas = values["canvas"]
        return cls(
            measures=tuple(values["measures"]),
            picture_sides=tuple(values["picture_sides"]),
            canvas=tuple(canvas) if canvas else None,
            kernel=values["kernel"],
            with_heat_map=values["with_heat_map"],
        )


@dataclass(slots=True)
class SegmentSide:
    """What is collected of the segment while it is decoded for its scores."""

    converter: CanvasConverter
    # (index of the sample, frame)
    samples: list[tuple[int, SideFrame]] = field(default_factory=list)
    sample_count: int = 0
    borders: Borders | None = None
    # the time of the first frame on the stream's own clock
    start_seconds: float | None = None
    # the whole segment when it is a still picture
    still: SideFrame | None = None
    # times are on the stream's own clock
    _decoded: ThumbnailTrack = field(default_factory=lambda: ThumbnailTrack([], []))
    _stride: int = 1

    def clear(self) -> None:
        """Forget everything: the segment is decoded from its beginning once more."""
        self.samples, self.sample_count, self.borders, self.start_seconds = [], 0, None, None
        self._decoded, self._stride = ThumbnailTrack([], []), 1

    def add_decoded(self, frame: SideFrame) -> None:
        """Add a decoded frame, sampled or not, for the alignment; its time is on the stream's own clock."""
        times = self._decoded.times_seconds
        if not times or times[-1] < frame.time_seconds <= times[0] + _ALIGNED_SECONDS:
            if frame.frame.key_frame:
                self._decoded.keys.append(len(times))
            times.append(frame.time_seconds)
            self._decoded.thumbnails.append(self.converter.to_luma(frame, _THUMBNAIL_SIZE))

    def track(self) -> ThumbnailTrack:
        """The thumbnails of the decoded frames."""
        times = self._decoded.times_seconds
        start = self.start_seconds if self.start_seconds is not None else (times[0] if times else 0.0)
        return ThumbnailTrack([time - start for time in times], self._decoded.thumbnails, self._decoded.keys)

    def add_sample(self, frame: SideFrame, *, stream_seconds: float | None) -> None:
        """Add a sampled frame with its time on the stream's own clock; of many, every second, fourth ... is held."""
        if stream_seconds is not None and self.start_seconds is None:
            self.start_seconds = stream_seconds - frame.time_seconds
        if self.sample_count % self._stride == 0:
            self.samples.append((self.sample_count, frame))
            self.borders = merge_borders(self.borders, frame)
            if len(self.samples) * frame_bytes(frame) > HELD_BYTES:
                self.samples, self._stride = self.samples[::2], self._stride * 2
        self.sample_count += 1


@dataclass(slots=True)
class PairedValues:
    """The values of the paired frames, and how they were paired."""

    canvas: Canvas
    alignment: Alignment
    segment_area: str
    reference_area: str
    # how many frames the reference has
    reference_frames: int
    # index of the sample -> measure -> (value, components), but for the measures of libvmaf
    frames: dict[int, dict[str, tuple[float, dict[str, float]]]]
    # index of the sample -> 1 - SSIM on the grid of heat maps; empty when not asked for
    losses: dict[int, Losses] = field(default_factory=dict)
    # the pictures from which the ffmpeg program computes the measures of libvmaf; None = there are no such measures
    pictures: PictureLayout | None = None


class ReferenceComparer:
    """Compares a collected segment with its reference; `store` takes the pictures for the ffmpeg program."""

    def __init__(
        self, request: ReferenceRequest, converter: CanvasConverter, meter: FilterMeter, *, store: PictureStore
    ) -> None:
        self._request, self._converter, self._meter, self._store = request, converter, meter, store
        # frames around an expected partner that may be the partner or are read with it
        self._before = _NEIGHBOURS + max(MAX_FILTER_CONTEXT, request.context.before)
        self._after = _NEIGHBOURS + request.context.after

    def compare(
        self,
        segment: SegmentSide,
        reference: Frames,
        *,
        part: PartReader | None = None,
        near_seconds: float = 0.0,
        sink: PictureSink | None = None,
    ) -> PairedValues:
        """The values of all samples that have a partner; raises MisalignedError or MemoryError.

        `part` reads a part of the reference, where that can be done. `near_seconds` is the expected time in the
        reference minus the time in the segment. `sink` gets the pictures.
        """
        if segment.still is not None:
            raise MisalignedError("the segment is a still picture and its reference a video: name a picture")
        theirs, alignment, borders = self._pair_sides(segment, reference, part, near_seconds)
        assert theirs.first is not None
        canvas = choose_canvas(
            segment.samples[0][1],
            theirs.first,
            borders=borders,
            size=self._request.canvas,
            kernel=self._request.kernel,
        )
        values = PairedValues(
            canvas=canvas,
            alignment=alignment,
            segment_area=describe_area(segment.samples[0][1], borders[0]),
            reference_area=describe_area(theirs.first, borders[1]),
            reference_frames=len(theirs.times_seconds),
            frames={},
        )
        self._check_size(canvas)
        partners = self._partners(segment, theirs, alignment)
        if self._request.libvmaf_measures:
            partners = self._fitting(partners, canvas)
        if sink is not None:
            sink.start(canvas, [segment.samples[position][0] for position in partners])
        self._measure(segment, partners, self._windows(theirs, reference, partners), values, borders, sink=sink)
        values.pictures = self._store.layout
        return values

    def _fitting(self, partners: dict[int, int], canvas: Canvas) -> dict[int, int]:
        """As many pairs as the store has room for, spread evenly."""
        room = self._store.begin(width=canvas.width, height=canvas.height, pixel_format=canvas.pixel_format)
        if not room:
            raise MemoryError
        return dict(list(partners.items())[:: math.ceil(len(partners) / room)])

    def compare_still(
        self, segment: SegmentSide, reference: SideFrame, *, sink: PictureSink | None = None
    ) -> PairedValues:
        """The values of a still picture and its reference; raises MisalignedError or TooSmallError."""
        ours = segment.still
        if ours is None:
            raise MisalignedError("the reference is a still picture and the segment a video: name a video")
        sizes = ours.active_size(NO_BORDERS), reference.active_size(NO_BORDERS)
        if not have_same_shape(*sizes):
            raise _shape_error(*sizes)
        thumbnails = (self._converter.to_luma(side, _THUMBNAIL_SIZE) for side in (ours, reference))
        alignment = match_stills(*thumbnails)
        if not alignment.is_reliable:
            raise MisalignedError(f"the two pictures do not show the same scene: confidence {alignment.confidence:.2f}")
        if not are_registered([self._displacement(ours, reference, (NO_BORDERS, NO_BORDERS))]):
            raise MisalignedError(_DISPLACED)
        canvas = choose_canvas(
            ours,
            reference,
            borders=(NO_BORDERS, NO_BORDERS),
            size=self._request.canvas,
            kernel=self._request.kernel,
        )
        self._check_size(canvas)
        coded = [self._converter.to_canvas(side, canvas, NO_BORDERS) for side in (ours, reference)]
        values = self._filter_values(coded[0], coded[1:], fps=25.0)
        if sink is not None:
            sink.start(canvas, [0])
        if self._picture_measures or (sink is not None and sink.wants(0)):
            pictures = [self._converter.still_to_rgb(side, canvas) for side in (ours, reference)]
            values |= self._picture_values(*pictures, sample=0, sink=sink)
        paired = PairedValues(
            canvas=canvas,
            alignment=alignment,
            segment_area="",
            reference_area="",
            reference_frames=1,
            frames={0: values},
        )
        if self._request.libvmaf_measures:
            paired.pictures = self._store_stills(ours, reference, canvas)
        if self._request.with_heat_map:
            similarity = block_ssim(luma_plane(coded[1]), luma_plane(coded[0]))
            paired.losses[0] = _on_whole_picture(1 - similarity, BorderShares())
        return paired

    def _store_stills(self, ours: SideFrame, theirs: SideFrame, canvas: Canvas) -> PictureLayout | None:
        """Store the pair for the ffmpeg program, in 4:2:0 of even size."""
        even = replace(
            canvas,
            width=canvas.width // 2 * 2,
            height=canvas.height // 2 * 2,
            pixel_format="yuv420p10le" if canvas.pixel_format.endswith("10le") else "yuv420p",
        )
        if not self._store.begin(width=even.width, height=even.height, pixel_format=even.pixel_format):
            raise MemoryError
        picture, reference = (self._converter.to_canvas(side, even, NO_BORDERS) for side in (ours, theirs))
        self._store.add(picture, {0: reference}, partner=0, frame_count=1)
        return self._store.layout

    @property
    def _picture_measures(self) -> Sequence[str]:
        return [name for name in self._request.measures if name in PICTURE_MEASURES]

    def _check_size(self, canvas: Canvas) -> None:
        for name in self._picture_measures:
            smallest = PICTURE_MEASURES[name].min_side_px
            if min(canvas.width, canvas.height) < smallest:
                raise TooSmallError(
                    f"{name} needs pictures of {smallest} x {smallest} px or more, not {canvas.width}x{canvas.height}: "
                    "leave it out of scoring.references"
                )

    def _pair_sides(
        self, segment: SegmentSide, reference: Frames, part: PartReader | None, near_seconds: float
    ) -> tuple[ReferenceSide, Alignment, tuple[Borders, Borders]]:
        """The reference, its alignment and what is cut from both sides; all of it is read unless a part is enough."""
        track, expected_seconds = segment.track(), near_seconds
        span = track.times_seconds[-1] if track.times_seconds else 0.0
        window = ReferenceWindow(
            partner_seconds=[sample.time_seconds + near_seconds for _, sample in segment.samples],
            before=self._before,
            after=self._after,
            first_seconds=near_seconds + MIN_OFFSET_SECONDS - 0.5,
            last_seconds=near_seconds + span + MAX_OFFSET_SECONDS + 0.5,
        )
        some = None if part is None else part(window)
        if some is not None:
            with contextlib.suppress(PartialReadingError, MisalignedError):
                theirs = self._collect(some.frames, window, times_seconds=some.times_seconds)
                alignment, borders = self._align(segment, track, theirs, near_seconds)
                if abs(alignment.offset_seconds - near_seconds) <= theirs.track.period / 2:
                    return theirs, alignment, borders
                expected_seconds = alignment.offset_seconds
        theirs = ReferenceSide()  # frees the frames of the part before as many are held of the whole
        partners = [time + expected_seconds - near_seconds for time in window.partner_seconds]
        theirs = self._collect(enumerate(reference()), replace(window, partner_seconds=partners))
        return theirs, *self._align(segment, track, theirs, near_seconds)

    def _collect(
        self,
        frames: Iterable[tuple[int, SideFrame]],
        window: ReferenceWindow,
        *,
        times_seconds: list[float] | None = None,
    ) -> ReferenceSide:
        """Read the reference once: times, thumbnails around the segment, borders, and frames to be held.

        `times_seconds` are those of all frames where some of them are left out.
        """
        side = ReferenceSide()
        if times_seconds is not None:
            side.track.period_seconds = ThumbnailTrack(times_seconds, []).period
        holder = FrameHolder(side, window.partner_seconds, before=self._before, after=self._after)
        border_time, border_count = window.first_seconds, 0
        for index, frame in frames:
            time = frame.time_seconds
            side.first = side.first or frame
            side.times_seconds.append(time)
            if window.first_seconds <= time <= window.last_seconds:
                side.track.times_seconds.append(time)
                side.track.thumbnails.append(self._converter.to_luma(frame, _THUMBNAIL_SIZE))
                if time >= border_time and border_count < _MAX_BORDER_FRAMES:
                    side.borders = merge_borders(side.borders, frame)
                    border_time, border_count = time + _BORDER_INTERVAL_SECONDS, border_count + 1
            holder.add(index, frame)
        side.times_seconds = side.times_seconds if times_seconds is None else times_seconds
        return side

    def _align(
        self, segment: SegmentSide, track: ThumbnailTrack, theirs: ReferenceSide, near_seconds: float
    ) -> tuple[Alignment, tuple[Borders, Borders]]:
        """The most believable alignment, with the borders that are cut from each side."""
        ours, first = segment.samples[0][1], theirs.first
        if first is None:
            raise MisalignedError("the reference has no frames")
        best: tuple[Alignment, tuple[Borders, Borders]] | None = None
        same_shape = False
        for borders in border_choices(ours, segment.borders or NO_BORDERS, first, theirs.borders or NO_BORDERS):
            if not have_same_shape_inside(ours, first, borders):
                continue
            same_shape = True
            areas = border_shares(ours, borders[0]), border_shares(first, borders[1])
            alignment = find_alignment(track, theirs.track, areas=areas, near_seconds=near_seconds)
            if best is None or alignment.confidence > best[0].confidence + 0.01:
                best = alignment, borders
        if best is None or not same_shape:
            raise _shape_error(ours.active_size(NO_BORDERS), first.active_size(NO_BORDERS))
        if best[0].is_ambiguous:
            raise MisalignedError(
                "several offsets pair the two sides equally well, as the picture changes little between frames or is "
                f"coded poorly: confidence {best[0].confidence:.2f}"
            )
        if not best[0].is_reliable:
            raise MisalignedError(
                f"no offset from {MIN_OFFSET_SECONDS:+g} to {MAX_OFFSET_SECONDS:+g} s pairs the two sides: "
                f"confidence {best[0].confidence:.2f}"
            )
        return best

    def _partners(self, segment: SegmentSide, theirs: ReferenceSide, alignment: Alignment) -> dict[int, int]:
        """Position in `segment.samples` -> index of the expected partner among all frames of the reference."""
        times = np.array([sample.time_seconds for _, sample in segment.samples])
        rows, columns = pair_frames(times, np.asarray(theirs.times_seconds), alignment.offset_seconds)
        if not len(rows):
            raise MisalignedError("no sampled frame is within the time of the reference")
        return dict(zip(rows.tolist(), columns.tolist(), strict=True))

    def _windows(
        self, theirs: ReferenceSide, reference: Frames, partners: Mapping[int, int]
    ) -> Iterator[tuple[int, dict[int, SideFrame]]]:
        """For each partner, in order: position of the sample, and the frames around the partner by index."""
        count = len(theirs.times_seconds)
        windows = {
            position: range(max(0, index - self._before), min(count, index + self._after + 1))
            for position, index in partners.items()
        }
        if all(index in theirs.held for window in windows.values() for index in window):
            for position, window in windows.items():
                yield position, {index: theirs.held[index] for index in window}
            return
        theirs.held.clear()
        waiting = deque(sorted(windows.items(), key=lambda item: item[1].stop))
        recent: dict[int, SideFrame] = {}
        for index, frame in enumerate(reference()):
            recent[index] = frame
            while waiting and index >= waiting[0][1].stop - 1:
                position, window = waiting.popleft()
                yield position, {near: recent[near] for near in window}
            first_needed = min((window.start for _, window in waiting), default=index)
            recent = {near: held for near, held in recent.items() if near >= first_needed}
            if not waiting:
                return

    def _measure(
        self,
        segment: SegmentSide,
        partners: Mapping[int, int],
        windows: Iterator[tuple[int, dict[int, SideFrame]]],
        values: PairedValues,
        borders: tuple[Borders, Borders],
        *,
        sink: PictureSink | None,
    ) -> None:
        displacements: list[Displacement] = []
        for position, window in windows:
            sample_index, sample = segment.samples[position]
            index = self._refine(sample, window, partners[position], borders)
            fps = _frame_rate(window)
            context = self._request.context
            first = index - max(context.before, self._meter.context_frames(self._request.measures, fps))
            ours = self._converter.to_canvas(sample, values.canvas, borders[0])
            theirs = {
                near: self._converter.to_canvas(window[near], values.canvas, borders[1])
                for near in sorted(window)
                if first <= near <= index + context.after
            }
            if len(displacements) < _REGISTERED_PAIRS and not any(each.is_none for each in displacements):
                displacements.append(self._displacement(sample, window[index], borders))
                is_last = len(displacements) in (_REGISTERED_PAIRS, len(partners))
                if is_last and not displacements[-1].is_none and not are_registered(displacements):
                    raise MisalignedError(_DISPLACED)
            until_partner = [theirs[near] for near in theirs if near <= index]
            values.frames[sample_index] = self._measure_pair(
                ours, until_partner, values.canvas, fps, sample=sample_index, sink=sink
            )
            if self._request.with_heat_map:
                similarity = block_ssim(luma_plane(theirs[index]), luma_plane(ours))
                values.losses[sample_index] = _on_whole_picture(1 - similarity, border_shares(sample, borders[0]))
            if self._request.libvmaf_measures:
                self._store.add(ours, theirs, partner=index, frame_count=values.reference_frames)

    def _measure_pair(
        self,
        ours: av.VideoFrame,
        theirs: Sequence[av.VideoFrame],
        canvas: Canvas,
        fps: float,
        *,
        sample: int,
        sink: PictureSink | None,
    ) -> dict[str, tuple[float, dict[str, float]]]:
        """The value and components of each measure; `theirs` are the partner and, before it, earlier frames."""
        values = self._filter_values(ours, theirs, fps)
        if self._picture_measures or (sink is not None and sink.wants(sample)):
            pictures = [self._converter.to_rgb(frame, canvas) for frame in (ours, theirs[-1])]
            values |= self._picture_values(*pictures, sample=sample, sink=sink)
        return values

    def _filter_values(
        self, ours: av.VideoFrame, theirs: Sequence[av.VideoFrame], fps: float
    ) -> dict[str, tuple[float, dict[str, float]]]:
        return {
            name: self._meter.measure(name, ours, theirs[-1], earlier=theirs[:-1], fps=fps)
            for name in self._request.measures
            if name in FILTER_MEASURES
        }

    def _picture_values(
        self, ours: Pixels, theirs: Pixels, *, sample: int, sink: PictureSink | None
    ) -> dict[str, tuple[float, dict[str, float]]]:
        if sink is not None and sink.wants(sample):
            sink.add(sample, reference=theirs, picture=ours)
        picture, original = Picture(ours), Picture(theirs)
        return {
            name: (_bounded(PICTURE_MEASURES[name].compute(original, picture)), {}) for name in self._picture_measures
        }

    def _displacement(self, sample: SideFrame, partner: SideFrame, borders: tuple[Borders, Borders]) -> Displacement:
        ours = self._converter.to_luma(sample, REGISTRATION_SIZE, borders[0])
        return measure_displacement(ours, self._converter.to_luma(partner, REGISTRATION_SIZE, borders[1]))

    def _refine(
        self, sample: SideFrame, window: Mapping[int, SideFrame], expected: int, borders: tuple[Borders, Borders]
    ) -> int:
        """The index of the partner: the expected one, or a neighbour that is clearly nearer."""
        near = [index for index in window if abs(index - expected) <= _NEIGHBOURS]
        ours = self._converter.to_luma(sample, _PARTNER_SIZE, borders[0])
        theirs = [self._converter.to_luma(window[index], _PARTNER_SIZE, borders[1]) for index in near]
        return near[choose_partner(ours, theirs, expected=near.index(expected))]


def _bounded(value: float) -> float:
    return min(value, MAX_DECIBELS) if math.isinf(value) else value


def _frame_rate(window: Mapping[int, SideFrame]) -> float:
    times = np.array([window[index].time_seconds for index in sorted(window)])
    return 1 / max(1e-3, float(np.median(np.diff(times)))) if len(times) > 1 else 25.0


def _shape_error(size: tuple[int, int], other: tuple[int, int]) -> MisalignedError:
    return MisalignedError(
        f"the pictures have other shapes: {size[0]}x{size[1]}, and {other[0]}x{other[1]} in the reference"
    )


def _on_whole_picture(losses: Plane, borders: BorderShares) -> Losses:
    """The means of a map of the picture inside the borders on the grid of the whole picture; 0 on the borders."""
    row, column = (
        np.minimum((start + (np.arange(length) + 0.5) / length * (1 - start - end)) * cells, cells - 1).astype(np.int64)
        for length, start, end, cells in (
            (losses.shape[0], borders.top, borders.bottom, GRID_ROWS),
            (losses.shape[1], borders.left, borders.right, GRID_COLUMNS),
        )
    )
    cells = (row[:, None] * GRID_COLUMNS + column).ravel()
    count = GRID_ROWS * GRID_COLUMNS
    totals = np.bincount(cells, weights=losses.ravel(), minlength=count) / np.bincount(cells, minlength=count).clip(1)
    grid: Losses = totals.reshape(GRID_ROWS, GRID_COLUMNS).clip(0, 1).astype(np.float32)
    return grid
