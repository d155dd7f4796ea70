"""Decoding of the selected frames of one video stream: packets in, frames with their times out.

"exact" sampling is `core.frames.sample_indices` over the times of all frames. When the packets give those times
reliably, only the groups of pictures that hold a wanted frame are decoded, each from its key picture up to the wanted
frame, without the pictures from which nothing is predicted. When the packets are unreliable (no times, no key pictures,
a wanted frame that is not output, a key picture that is not intra-coded), everything is decoded and the frames are
chosen from the output. Both ways give the same frames; `notes` says when everything was decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vqmon.core.frames import additional_indices, clip_indices
from vqmon.core.types import ClipSampling, Sampling
from vqmon.media.decode.bitstream.bursts import plan_bursts
from vqmon.media.decode.bitstream.gop import (
    CodedPicture,
    DecodeRun,
    plan_runs,
    presentation_order,
    sample_positions,
    starts_with_key_picture,
)

if TYPE_CHECKING:
    import av

_INTRA = 1
_HALF_MICROSECOND = 5e-7
_STATED_LOSS_SECONDS = 0.5
# before the moment from which on frames are sampled: signals of consecutive frames compare up to so many
_CONTEXT_SECONDS = 0.25
# so many decoded pictures tell the time of a segment in its reference
_ALIGNMENT_PICTURES = 24


class DecodedFrameTap:
    """Passes every decoded frame to a callback, wanted or not, and None at every gap between frames.

    The callback gets a frame and its index among all frames of the segment in presentation order; without
    `restrict_to` the index is None, and every frame is passed.
    """

    def __init__(self, on_frame: Callable[[av.VideoFrame | None, int | None], None]) -> None:
        self._on_frame = on_frame
        self._indices: Mapping[int, int] = {}
        self._run_of_position: dict[int, int] | None = None
        self._last_run: int | None = None
        self._first_index = 0

    def restrict_to(self, runs: Sequence[DecodeRun], indices: Mapping[int, int], *, first_index: int = 0) -> None:
        """Pass frames of these runs only, so that signals do not depend on which clips were requested.

        `indices` gives the index of the frame in the packet at a position; none below `first_index` is passed.
        """
        self._indices, self._first_index = indices, first_index
        self._run_of_position = {position: number for number, run in enumerate(runs) for position in run.positions}

    def pass_frame(self, frame: av.VideoFrame, position: int | None) -> None:
        """Pass a decoded frame; `position` is that of its packet, None when it is unknown."""
        if self._run_of_position is not None:
            run = None if position is None else self._run_of_position.get(position)
            if position is None or run is None or self._indices.get(position, 0) < self._first_index:
                return
            if run != self._last_run:
                self._on_frame(None, None)
            self._last_run = run
        self._on_frame(frame, None if position is None else self._indices.get(position))

    def mark_gap(self) -> None:
        """The next frame does not follow the last one."""
        self._on_frame(None, None)


class PacketDecoder(Protocol):
    """A decoder over the packets of one stream, which are named by their position in decoding order."""

    is_interlaced: bool
    frame_tap: DecodedFrameTap | None

    def decode(self, position: int) -> list[av.VideoFrame]:
        """Send one packet; returns the frames that the decoder outputs."""
        ...

    def flush(self) -> list[av.VideoFrame]:
        """Return the frames that the decoder holds back, and reset it."""
        ...

    def packet_position(self, frame: av.VideoFrame) -> int | None:
        """The position of the packet that holds a frame; None when the packets do not announce it."""
        ...

    def time_seconds(self, frame: av.VideoFrame) -> float | None:
        """The presentation time on the stream's own clock; None when the frame has none."""
        ...


@dataclass(slots=True)
class SelectedFrame:
    """A decoded frame, and whether it was selected as a sample or for a clip."""

    # seconds after the segment's first frame
    time_seconds: float
    frame: av.VideoFrame
    # False for a frame that is only a neighbour of a selected one
    is_wanted: bool
    # index among all frames of the segment in presentation order
    index: int
    # False for a frame that is wanted for a clip only
    is_sampled: bool
    # the neighbours in presentation order, for deinterlacing
    previous: av.VideoFrame | None = None
    following: av.VideoFrame | None = None


@dataclass(slots=True)
class DecodeStats:
    """Counts of coded pictures, and the notes for people that are published with the segment."""

    sent_pictures: int = 0
    # damaged or lost
    damaged_pictures: int = 0
    notes: list[str] = field(default_factory=list)


class UnreliablePacketsError(Exception):
    """The packets do not announce what the decoder outputs: everything must be decoded."""


class InterlacingFoundError(Exception):
    """The frames are interlaced though the container does not say so: decoding must restart, with neighbours."""


def select_exact(
    decoder: PacketDecoder,
    pictures: Sequence[CodedPicture],
    stats: DecodeStats,
    *,
    fps: float,
    density: int = 1,
    from_seconds: float = 0.0,
    clips: Sequence[ClipSampling] = (),
    alignment: ClipSampling | None = None,
    with_following: bool = False,
    with_bursts: bool = False,
) -> Iterator[SelectedFrame]:
    """The frames sampled at `fps`, from `from_seconds` after the first one on, and those of their clips, in order.

    With a `density` above 1 the additional frames of that density instead (`core.frames.additional_indices`).
    `with_bursts` also decodes short bursts, whose frames only the decoder's tap gets; `with_following` the frame after
    each sampled one. `alignment` is a clip that is decoded too when fewer than 24 pictures would be decoded without it.
    """
    order = _decodable_order(decoder, pictures, stats)
    sampled = sample_positions(pictures, order, fps=fps, density=density, from_seconds=from_seconds)
    plan = _plan_decoding(
        decoder,
        pictures,
        sampled=sampled,
        order=order,
        clips=clips,
        alignment=alignment,
        with_following=with_following,
        with_bursts=with_bursts,
        from_seconds=from_seconds,
    )
    yield from _decode_planned(decoder, pictures, stats, plan, order=order)


def select_part(
    decoder: PacketDecoder,
    pictures: Sequence[CodedPicture],
    stats: DecodeStats,
    *,
    choose: Callable[[Sequence[float], Sequence[bool]], Sequence[int]],
) -> tuple[list[float], Iterator[SelectedFrame]] | None:
    """The times of all frames, in seconds after the first, and those frames that `choose` names, in order.

    `choose` gets these times, and from which frames no other is predicted; it gives indices. None where it names all
    frames, and for interlaced ones, which need their neighbours.
    """
    order = _decodable_order(decoder, pictures, stats)
    first_time = pictures[order[0]].time_seconds or 0.0
    times = [(pictures[position].time_seconds or 0.0) - first_time for position in order]
    chosen = [order[index] for index in choose(times, [pictures[position].is_droppable for position in order])]
    if decoder.is_interlaced or not 0 < len(chosen) < len(order):
        return None
    plan = _DecodingPlan(runs=plan_runs(pictures, chosen), wanted=set(chosen), sampled=set(chosen))
    return times, _decode_planned(decoder, pictures, stats, plan, order=order)


def select_keyframes(
    decoder: PacketDecoder,
    pictures: Sequence[CodedPicture],
    stats: DecodeStats,
    *,
    fps: float,
    clips: Sequence[ClipSampling] = (),
    alignment: ClipSampling | None = None,
    with_following: bool = False,
) -> Iterator[SelectedFrame]:
    """For each sample time the first key picture at or after it, and the frames of their clips, as `select_exact`."""
    order = _decodable_order(decoder, pictures, stats)
    keys = [position for position in order if pictures[position].is_key]
    if not keys:
        raise UnreliablePacketsError("no key pictures are marked")
    first_time = pictures[order[0]].time_seconds or 0.0
    times = [pictures[position].time_seconds or 0.0 for position in keys]
    sampled: list[int] = []
    sample_time = first_time
    for time, position in zip(times, keys, strict=True):
        if time >= sample_time - _HALF_MICROSECOND:
            sampled.append(position)
            sample_time = first_time + (int((time - first_time) * fps + 1e-6) + 1) / fps
    plan = _plan_decoding(
        decoder,
        pictures,
        sampled=sampled,
        order=order,
        clips=clips,
        alignment=alignment,
        with_following=with_following,
    )
    yield from _decode_planned(decoder, pictures, stats, plan, order=order)


def select_from_full_decode(
    decoder: PacketDecoder,
    packet_count: int,
    stats: DecodeStats,
    *,
    fps: float,
    step_seconds: float,
    sampling: Sampling,
    from_seconds: float = 0.0,
    clips: Sequence[ClipSampling] = (),
) -> Iterator[SelectedFrame]:
    """Decode everything and select from the output; a frame without a time is `step_seconds` after the one before.

    Of frames before `from_seconds` none is sampled; where that leaves none, the last frame is.
    """
    last_time, sample_time = -1.0, math.ceil(from_seconds * fps - 1e-6) / fps
    has_sample = False
    window: list[SelectedFrame] = []
    for index, (frame, _, time) in enumerate(_timed_frames(decoder, packet_count, stats, step_seconds)):
        is_sampled = time > last_time and time >= sample_time - _HALF_MICROSECOND
        if sampling == "keyframes":
            is_sampled &= frame.key_frame or index == 0
        if is_sampled:
            has_sample = True
            sample_time = (math.floor(time * fps + 1e-6) + 1) / fps
        last_time = max(last_time, time)
        is_wanted = is_sampled or bool(clips)
        window.append(
            SelectedFrame(time_seconds=time, frame=frame, is_wanted=is_wanted, index=index, is_sampled=is_sampled)
        )
        yield from _pop_wanted(window, keep=1)
    if window and not has_sample:
        window[-1].is_wanted = window[-1].is_sampled = True
    yield from _pop_wanted(window, keep=0)


def select_additional_from_full_decode(
    decoder: PacketDecoder, packet_count: int, stats: DecodeStats, *, fps: float, density: int, step_seconds: float
) -> Iterator[SelectedFrame]:
    """The additional frames of a density; everything is decoded twice, first for the times of all frames."""
    indices: list[int] = []
    times: list[float] = []
    for index, (_, first_time, time) in enumerate(_timed_frames(decoder, packet_count, DecodeStats(), step_seconds)):
        if not times or first_time + time > times[-1]:
            indices.append(index)
            times.append(first_time + time)
    chosen = {indices[index] for index in additional_indices(times, fps=fps, density=density)}
    window: list[SelectedFrame] = []
    for index, (frame, _, time) in enumerate(_timed_frames(decoder, packet_count, stats, step_seconds)):
        is_chosen = index in chosen
        window.append(
            SelectedFrame(time_seconds=time, frame=frame, is_wanted=is_chosen, index=index, is_sampled=is_chosen)
        )
        yield from _pop_wanted(window, keep=1)
    yield from _pop_wanted(window, keep=0)


def _timed_frames(
    decoder: PacketDecoder, packet_count: int, stats: DecodeStats, step_seconds: float
) -> Iterator[tuple[av.VideoFrame, float, float]]:
    """Every frame, the stream's time of the first one, and the seconds since that one.

    A frame without a time is `step_seconds` after the latest one before it.
    """
    first_time: float | None = None
    last_time = -1.0
    for index, frame in enumerate(_decode_everything(decoder, packet_count, stats)):
        stream_time = decoder.time_seconds(frame)
        first_time = (stream_time or 0.0) if first_time is None else first_time
        time = last_time + step_seconds if stream_time is None and index else (stream_time or first_time) - first_time
        last_time = max(last_time, time)
        yield frame, first_time, time


def _decode_everything(decoder: PacketDecoder, packet_count: int, stats: DecodeStats) -> Iterator[av.VideoFrame]:
    for position in range(packet_count):
        stats.sent_pictures += 1
        yield from decoder.decode(position)
    yield from decoder.flush()


def _decodable_order(decoder: PacketDecoder, pictures: Sequence[CodedPicture], stats: DecodeStats) -> list[int]:
    """Positions of the shown pictures that can be decoded, in presentation order."""
    order = presentation_order(pictures)
    if not order:
        raise UnreliablePacketsError("the container does not tell the times of the frames apart")
    if starts_with_key_picture(pictures, order):
        return order
    # a decoder drops the pictures that it cannot reconstruct: its first output decides
    first = _first_output_position(decoder, len(pictures))
    first_time = pictures[first].time_seconds or 0.0
    lost_seconds = first_time - (pictures[order[0]].time_seconds or 0.0)
    # the leading pictures of an open group, a few, belong to the segment before
    if lost_seconds >= _STATED_LOSS_SECONDS:
        stats.notes.append(f"the first {lost_seconds:.1f} s cannot be decoded, as no key picture precedes them")
    return [position for position in order if (pictures[position].time_seconds or 0.0) >= first_time]


def _first_output_position(decoder: PacketDecoder, packet_count: int) -> int:
    for position in range(packet_count):
        if frames := decoder.decode(position):
            decoder.flush()
            return _announced_position(decoder, frames[0])
    if frames := decoder.flush():
        return _announced_position(decoder, frames[0])
    raise UnreliablePacketsError("no frame comes out")


def _announced_position(decoder: PacketDecoder, frame: av.VideoFrame) -> int:
    position = decoder.packet_position(frame)
    if position is None:
        raise UnreliablePacketsError("the decoder shows a frame that the container does not announce")
    return position


@dataclass(frozen=True, slots=True, kw_only=True)
class _DecodingPlan:
    """What is decoded; positions of the frames that are selected, and of those that are sampled."""

    runs: Sequence[DecodeRun]
    wanted: set[int]
    sampled: set[int]


def _plan_decoding(
    decoder: PacketDecoder,
    pictures: Sequence[CodedPicture],
    *,
    sampled: Sequence[int],
    order: Sequence[int],
    clips: Sequence[ClipSampling],
    alignment: ClipSampling | None,
    with_following: bool,
    with_bursts: bool = False,
    from_seconds: float = 0.0,
) -> _DecodingPlan:
    """Plan the decoding of samples, clips, bursts and alignment; tells the decoder's tap which frames it gets.

    It gets none that begins more than `_CONTEXT_SECONDS` before `from_seconds`.
    """
    indices = {position: index for index, position in enumerate(order)}
    wanted = {*sampled, *_clip_positions(pictures, sampled, order, clips)}
    needed = _with_neighbours(decoder, wanted, order, indices)
    if with_following:
        needed |= {order[index + 1] for index in map(indices.__getitem__, sampled) if index + 1 < len(order)}
    if decoder.frame_tap is not None:
        without_clips = _with_neighbours(decoder, set(sampled), order, indices)
        if with_bursts:
            planned = {position for run in plan_runs(pictures, sorted(without_clips)) for position in run.positions}
            bursts = plan_bursts(pictures, order, sampled, planned=planned)
            without_clips |= bursts
            needed |= bursts
        first_time = (pictures[order[0]].time_seconds or 0.0) + max(from_seconds - _CONTEXT_SECONDS, 0.0)
        first_index = sum((pictures[position].time_seconds or 0.0) < first_time for position in order)
        decoder.frame_tap.restrict_to(plan_runs(pictures, sorted(without_clips)), indices, first_index=first_index)
    runs = plan_runs(pictures, sorted(needed))
    if alignment is not None and sum(len(run.positions) for run in runs) < _ALIGNMENT_PICTURES:
        runs = plan_runs(pictures, sorted(needed | _clip_positions(pictures, sampled, order, [alignment])))
    return _DecodingPlan(runs=runs, wanted=wanted, sampled=set(sampled))


def _decode_planned(
    decoder: PacketDecoder,
    pictures: Sequence[CodedPicture],
    stats: DecodeStats,
    plan: _DecodingPlan,
    *,
    order: Sequence[int],
) -> Iterator[SelectedFrame]:
    first_time = pictures[order[0]].time_seconds or 0.0
    indices = {position: index for index, position in enumerate(order)}
    last_index = -1
    window: list[SelectedFrame] = []
    for run in plan.runs:
        # the last picture of a group and the first of the next one are neighbours too
        if indices[run.wanted[0]] != last_index + 1:
            yield from _pop_wanted(window, keep=0)
        for position, frame in _decode_run(decoder, run, stats):
            if frame.interlaced_frame and not decoder.is_interlaced:
                decoder.is_interlaced = True
                raise InterlacingFoundError
            if indices[position] <= last_index:
                raise UnreliablePacketsError("frames do not come out in the order of their times")
            last_index = indices[position]
            window.append(
                SelectedFrame(
                    time_seconds=(pictures[position].time_seconds or 0.0) - first_time,
                    frame=frame,
                    is_wanted=position in plan.wanted,
                    index=last_index,
                    is_sampled=position in plan.sampled,
                )
            )
            yield from _pop_wanted(window, keep=1)
    yield from _pop_wanted(window, keep=0)


def _with_neighbours(
    decoder: PacketDecoder, positions: set[int], order: Sequence[int], indices: Mapping[int, int]
) -> set[int]:
    """The positions, and for interlaced pictures also their neighbours in presentation order, for deinterlacing."""
    needed = set(positions)
    for position in positions if decoder.is_interlaced else ():
        needed.update(order[max(indices[position] - 1, 0) : indices[position] + 2])
    return needed


def _clip_positions(
    pictures: Sequence[CodedPicture], sampled: Sequence[int], order: Sequence[int], clips: Sequence[ClipSampling]
) -> set[int]:
    """Positions of all frames of the clips that begin at the sampled ones."""
    times = [pictures[position].time_seconds or 0.0 for position in order] if clips else []
    indices = {position: index for index, position in enumerate(order)}
    starts = [indices[position] for position in sampled]
    return {order[index] for clip in clips for index in np.unique(clip_indices(times, starts, clip)).tolist()}


def _pop_wanted(window: list[SelectedFrame], *, keep: int) -> Iterator[SelectedFrame]:
    """Remove all but the last `keep` frames from `window` and give the wanted ones, with their neighbours set."""
    if len(window) > 1 and window[-2].index + 1 == window[-1].index:
        window[-1].previous, window[-2].following = window[-2].frame, window[-1].frame
    while len(window) > keep:
        selected = window.pop(0)
        if selected.is_wanted:
            yield selected


def _decode_run(decoder: PacketDecoder, run: DecodeRun, stats: DecodeStats) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode one run and give (position, frame) of its wanted pictures as they are output."""
    missing = set(run.wanted)
    start = run.positions[0]
    for position in (*run.positions, None):
        frames = decoder.flush() if position is None else decoder.decode(position)
        stats.sent_pictures += position is not None
        for frame in frames:
            frame_position = _announced_position(decoder, frame)
            if frame_position == start and start > 0 and frame.pict_type != _INTRA:
                raise UnreliablePacketsError("a picture marked as key is none")
            if frame_position in missing:
                missing.remove(frame_position)
                yield frame_position, frame
    if missing:
        raise UnreliablePacketsError("a picture that the container announces does not come out")
