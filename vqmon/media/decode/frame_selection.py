"""Decoding of the chosen pictures of one video track: packets in, frames with their times out.

`Exact` is `core.frames` over the times of all frames. When the packets tell those times without doubt, only the
groups of pictures that hold a wanted one are decoded, each from its key picture up to the wanted one, without the
pictures from which nothing is predicted. When the packets leave doubt (no times, no key pictures, a wanted picture that
does not come out, a key picture that is none), everything is decoded and the choice is made among what comes out. Both
ways give the same frames; `notes` says which was taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vqmon.core.frames import clip_indices
from vqmon.core.types import ClipSampling, Sampling
from vqmon.media.decode.bitstream.gop import CodedPicture, Run, runs, samples, shown_order, starts_clean

if TYPE_CHECKING:
    import av

_INTRA = 1
_HALF_MICROSECOND = 5e-7


class Watch:
    """Tells `glance` of every frame that is decoded in passing, and of every jump (None)."""

    def __init__(self, glance: Callable[[av.VideoFrame | None], None]) -> None:
        self._glance = glance
        self._stretches: dict[int, int] | None = None
        self._last: int | None = None

    def only(self, stretches: Sequence[Run]) -> None:
        """Of these stretches alone: what is measured in passing must not depend on who else wants frames."""
        self._stretches = {position: number for number, run in enumerate(stretches) for position in run.sends}

    def see(self, frame: av.VideoFrame, position: int | None) -> None:
        if self._stretches is not None:
            stretch = None if position is None else self._stretches.get(position)
            if stretch is None:
                return
            if stretch != self._last:
                self._glance(None)
            self._last = stretch
        self._glance(frame)

    def jump(self) -> None:
        self._glance(None)


class Codec(Protocol):
    """A decoder and the packets of its track, told by their position in decoding order."""

    is_interlaced: bool
    watch: Watch | None

    def send(self, position: int) -> list[av.VideoFrame]: ...

    def drain(self) -> list[av.VideoFrame]: ...

    def position_of(self, frame: av.VideoFrame) -> int | None: ...

    def time_of(self, frame: av.VideoFrame) -> float | None: ...


@dataclass(slots=True)
class Shown:
    """A decoded frame on its way to the eye. `before` and `after` are its neighbours in time, for deinterlacing."""

    time_seconds: float
    frame: av.VideoFrame
    is_wanted: bool
    # its place among all frames of the segment, in the order of their times
    rank: int
    # False for a frame that is wanted for a clip alone
    is_sampled: bool
    before: av.VideoFrame | None = None
    after: av.VideoFrame | None = None


@dataclass(slots=True)
class Tally:
    """What happened while decoding: pictures sent, pictures damaged or lost, and remarks for people."""

    sent: int = 0
    damaged: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class Unsafe(Exception):
    """The packets do not say what the decoder shows: decode everything."""


class FieldsFound(Exception):
    """The frames are interlaced though the container does not say so: start again, with neighbours."""


def exact(
    codec: Codec, pictures: Sequence[CodedPicture], tally: Tally, *, fps: float, clips: Sequence[ClipSampling] = ()
) -> Iterator[Shown]:
    """The frames that sampling chooses and those of their clips, in the order of their times."""
    order = _order(codec, pictures)
    wanted = samples(pictures, order, fps=fps)
    yield from _seen(codec, pictures, tally, wanted=wanted, order=order, clips=clips)


def keyframes(
    codec: Codec, pictures: Sequence[CodedPicture], tally: Tally, *, fps: float, clips: Sequence[ClipSampling] = ()
) -> Iterator[Shown]:
    """Key pictures only: for each moment the first key picture at or after it, and the frames of their clips."""
    order = _order(codec, pictures)
    keys = [position for position in order if pictures[position].is_key]
    if not keys:
        raise Unsafe("no key pictures are marked")
    first = pictures[order[0]].time_seconds or 0.0
    times = [pictures[position].time_seconds or 0.0 for position in keys]
    wanted: list[int] = []
    moment = first
    for time, position in zip(times, keys, strict=True):
        if time >= moment - _HALF_MICROSECOND:
            wanted.append(position)
            moment = first + (int((time - first) * fps + 1e-6) + 1) / fps
    yield from _seen(codec, pictures, tally, wanted=wanted, order=order, clips=clips)


def among_all(
    codec: Codec,
    count: int,
    tally: Tally,
    *,
    fps: float,
    step_seconds: float,
    sampling: Sampling,
    clips: Sequence[ClipSampling] = (),
) -> Iterator[Shown]:
    """Decode everything and choose among what comes out; a frame without a time comes a step after the one before."""
    first: float | None = None
    last, moment = -1.0, 0.0
    line: list[tuple[int, Shown]] = []
    for index, frame in enumerate(_everything(codec, count, tally)):
        told = codec.time_of(frame)
        first = (told or 0.0) if first is None else first
        time = last + step_seconds if told is None and index else (told or first) - first
        is_sampled = time > last and time >= moment - _HALF_MICROSECOND
        if sampling == "keyframes":
            is_sampled &= frame.key_frame or index == 0
        if is_sampled:
            moment = (math.floor(time * fps + 1e-6) + 1) / fps
        last = max(last, time)
        is_wanted = is_sampled or bool(clips)
        shown = Shown(time_seconds=time, frame=frame, is_wanted=is_wanted, rank=index, is_sampled=is_sampled)
        line.append((index, shown))
        yield from _settled(line, keep=1)
    yield from _settled(line, keep=0)


def _everything(codec: Codec, count: int, tally: Tally) -> Iterator[av.VideoFrame]:
    for position in range(count):
        tally.sent += 1
        yield from codec.send(position)
    yield from codec.drain()


def _order(codec: Codec, pictures: Sequence[CodedPicture]) -> list[int]:
    """Positions of the pictures that can be seen, in the order of their times."""
    order = shown_order(pictures)
    if not order:
        raise Unsafe("the container does not tell the times of the frames apart")
    if starts_clean(pictures, order):
        return order
    # what comes out first decides: a decoder leaves out what it cannot rebuild
    first = _first_out(codec, len(pictures))
    time = pictures[first].time_seconds or 0.0
    return [position for position in order if (pictures[position].time_seconds or 0.0) >= time]


def _first_out(codec: Codec, count: int) -> int:
    for position in range(count):
        if frames := codec.send(position):
            codec.drain()
            return _position(codec, frames[0])
    if frames := codec.drain():
        return _position(codec, frames[0])
    raise Unsafe("no frame comes out")


def _position(codec: Codec, frame: av.VideoFrame) -> int:
    position = codec.position_of(frame)
    if position is None:
        raise Unsafe("the decoder shows a frame that the container does not announce")
    return position


def _seen(
    codec: Codec,
    pictures: Sequence[CodedPicture],
    tally: Tally,
    *,
    wanted: Sequence[int],
    order: Sequence[int],
    clips: Sequence[ClipSampling],
) -> Iterator[Shown]:
    first = pictures[order[0]].time_seconds or 0.0
    rank = {position: index for index, position in enumerate(order)}
    sampled, chosen = set(wanted), {*wanted, *_in_clips(pictures, wanted, order, clips)}
    needed, alone = (_with_neighbours(codec, each, order, rank) for each in (chosen, sampled))
    if codec.watch is not None and clips:
        codec.watch.only(runs(pictures, sorted(alone)))
    last = -1
    for run in runs(pictures, sorted(needed)):
        line: list[tuple[int, Shown]] = []
        for position, frame in _run_out(codec, run, tally):
            if frame.interlaced_frame and not codec.is_interlaced:
                codec.is_interlaced = True
                raise FieldsFound
            if rank[position] <= last:
                raise Unsafe("frames do not come out in the order of their times")
            last = rank[position]
            time = (pictures[position].time_seconds or 0.0) - first
            is_wanted, is_sampled = position in chosen, position in sampled
            shown = Shown(time_seconds=time, frame=frame, is_wanted=is_wanted, rank=last, is_sampled=is_sampled)
            line.append((last, shown))
            yield from _settled(line, keep=1)
        yield from _settled(line, keep=0)


def _with_neighbours(codec: Codec, chosen: set[int], order: Sequence[int], rank: Mapping[int, int]) -> set[int]:
    """With what deinterlacing looks at."""
    found = set(chosen)
    for position in chosen if codec.is_interlaced else ():
        found.update(order[max(rank[position] - 1, 0) : rank[position] + 2])
    return found


def _in_clips(
    pictures: Sequence[CodedPicture], wanted: Sequence[int], order: Sequence[int], clips: Sequence[ClipSampling]
) -> set[int]:
    """Positions of all frames of the clips that begin at the wanted ones."""
    times = [pictures[position].time_seconds or 0.0 for position in order] if clips else []
    ranks = {position: index for index, position in enumerate(order)}
    starts = [ranks[position] for position in wanted]
    return {order[index] for clip in clips for index in np.unique(clip_indices(times, starts, clip)).tolist()}


def _settled(line: list[tuple[int, Shown]], *, keep: int) -> Iterator[Shown]:
    """Give the wanted frames whose neighbours are known, and forget what is no longer needed of `line`."""
    if len(line) > 1 and line[-2][0] + 1 == line[-1][0]:
        line[-1][1].before, line[-2][1].after = line[-2][1].frame, line[-1][1].frame
    while len(line) > keep:
        shown = line.pop(0)[1]
        if shown.is_wanted:
            yield shown


def _run_out(codec: Codec, run: Run, tally: Tally) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode one run and give (position, frame) of what is wanted as it comes out."""
    missing = set(run.wanted)
    start = run.sends[0]
    for position in (*run.sends, None):
        frames = codec.drain() if position is None else codec.send(position)
        tally.sent += position is not None
        for frame in frames:
            at = _position(codec, frame)
            if at == start and start > 0 and frame.pict_type != _INTRA:
                raise Unsafe("a picture marked as key is none")
            if at in missing:
                missing.remove(at)
                yield at, frame
    if missing:
        raise Unsafe("a picture that the container announces does not come out")
