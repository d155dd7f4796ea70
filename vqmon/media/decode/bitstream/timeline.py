"""One timeline for the packets of a segment, whose timestamps may jump, go back or repeat.

Packets in decoding order form stretches. A new one begins at a key picture that is shown no later than a picture
before it, at a decoding time that goes back by more than 0.1 s, and, in containers that are streamed, behind a gap of
more than 10 s; the last two are ffmpeg's limits (`ts_discontinuity_process`). Each stretch is shown behind the one
before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

_MAX_GAP_SECONDS = 10
_MAX_STEP_BACK_SECONDS = Fraction(1, 10)
_DEFAULT_RATE = Fraction(25)


class TimedPacket(Protocol):
    """The times of a coded picture in ticks; None where the container gives none."""

    pts: int | None
    dts: int | None
    is_keyframe: bool

    @property
    def duration(self) -> int | None:
        """In ticks; None or 0 when unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A place where the times were changed: the position of the first packet behind it, and a remark for people."""

    position: int
    remark: str


@dataclass(slots=True)
class _Stretch:
    """Consecutive packets on one clock; times in ticks."""

    first: int
    end: int
    earliest: int | None = None
    latest: int | None = None
    # when the last picture is no longer shown
    finish: int = 0
    times: int = 0
    distinct: int = 0


def join_stretches(
    packets: Sequence[TimedPacket],
    *,
    seconds_per_tick: Fraction,
    frames_per_second: Fraction | None,
    has_streamed_clock: bool,
) -> list[Join]:
    """Change the times of the packets so that no two stretches overlap; returns each place where it did.

    `has_streamed_clock` says that a gap in the times may be a change of the clock (MPEG-TS, FLV); elsewhere it is a
    pause. A stretch most of whose pictures share their times loses these times: its pictures follow at the frame rate.
    """
    step = max(1, round(1 / ((frames_per_second or _DEFAULT_RATE) * seconds_per_tick)))
    stretches = _find_stretches(packets, seconds_per_tick, step, has_streamed_clock=has_streamed_clock)
    joins: list[Join] = []
    finish, start = None, stretches[0].earliest if stretches else None
    for stretch in stretches:
        shift = 0
        if finish is not None and stretch.earliest is not None:
            shift = finish - stretch.earliest
            at_seconds = float((finish - (start or 0)) * seconds_per_tick)
            direction = "back" if shift > 0 else "ahead"
            remark = f"the timestamps jump {direction} at {at_seconds:.1f} s; the jump was closed"
            joins.append(Join(position=stretch.first, remark=remark))
        is_stuck = stretch.times > 2 and stretch.distinct * 2 < stretch.times
        _move(packets[stretch.first : stretch.end], shift, is_stuck=is_stuck)
        if is_stuck:
            remark = "the timestamps repeat; the pictures were placed by the frame rate"
            joins.append(Join(position=stretch.first, remark=remark))
            stretch.finish = (stretch.earliest or 0) + stretch.times * step
        if stretch.earliest is not None:
            finish = stretch.finish + shift
    return joins


def _move(packets: Sequence[TimedPacket], shift: int, *, is_stuck: bool) -> None:
    for packet in packets:
        if is_stuck:
            packet.pts = packet.dts = None
        elif shift:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift


def _find_stretches(
    packets: Sequence[TimedPacket], seconds_per_tick: Fraction, step: int, *, has_streamed_clock: bool
) -> list[_Stretch]:
    max_gap = int(_MAX_GAP_SECONDS / seconds_per_tick) if has_streamed_clock else None
    max_step_back = int(_MAX_STEP_BACK_SECONDS / seconds_per_tick)
    starts = [0, *_jumps(packets, max_gap=max_gap, max_step_back=max_step_back)]
    ends = [*starts[1:], len(packets)]
    return [_measure(packets, first, end, step=step) for first, end in zip(starts, ends, strict=True) if first < end]


def _jumps(packets: Sequence[TimedPacket], *, max_gap: int | None, max_step_back: int) -> Iterator[int]:
    """Positions of the packets with which a new stretch begins."""
    last_decoded: int | None = None
    latest: int | None = None
    for position, packet in enumerate(packets):
        decoded = packet.dts if packet.dts is not None else packet.pts
        if decoded is None:
            continue
        step = 0 if last_decoded is None or packet.dts is None else decoded - last_decoded
        is_shown_late = packet.is_keyframe and packet.pts is not None and latest is not None and packet.pts <= latest
        if is_shown_late or step < -max_step_back or (max_gap is not None and step > max_gap):
            yield position
            latest = None
        last_decoded = decoded if packet.dts is not None else last_decoded
        if packet.pts is not None:
            latest = packet.pts if latest is None else max(latest, packet.pts)


def _measure(packets: Sequence[TimedPacket], first: int, end: int, *, step: int) -> _Stretch:
    stretch, times = _Stretch(first, end), set[int]()
    for packet in packets[first:end]:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            continue
        times.add(time)
        stretch.times += 1
        stretch.earliest = time if stretch.earliest is None else min(stretch.earliest, time)
        stretch.latest = time if stretch.latest is None else max(stretch.latest, time)
        stretch.finish = max(stretch.finish if stretch.times > 1 else time, time + (packet.duration or step))
    stretch.distinct = len(times)
    return stretch
