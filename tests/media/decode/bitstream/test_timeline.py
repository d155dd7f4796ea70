"""Timestamps that jump, go back or repeat: what becomes of the times of the packets."""

from dataclasses import dataclass
from fractions import Fraction

import pytest

from vqmon.media.decode.bitstream.timeline import join_stretches

TICK = Fraction(1, 100)


@dataclass
class Packet:
    """As much of a packet as a timeline needs, at 25 pictures a second on a clock of 100 ticks."""

    pts: int | None
    dts: int | None
    is_keyframe: bool = False
    duration: int | None = 4


def gop(start: int, *, count: int = 3, dts: bool = True) -> list[Packet]:
    """A key picture and pictures in order."""
    return [Packet(start + 4 * i, start + 4 * i if dts else None, i == 0) for i in range(count)]


def join(*packets: Packet, is_streamed: bool = True) -> tuple[list[int | None], list[str]]:
    joins = join_stretches(
        packets, seconds_per_tick=TICK, frames_per_second=Fraction(25), has_streamed_clock=is_streamed
    )
    return [packet.pts for packet in packets], [join.remark for join in joins]


@pytest.mark.parametrize(
    ("second", "is_streamed", "times", "noted"),
    [
        # follows, after a pause of ten seconds, after a longer one
        (gop(12), True, [0, 4, 8, 12, 16, 20], None),
        (gop(1008), True, [0, 4, 8, 1008, 1012, 1016], None),
        (gop(90_000), True, [0, 4, 8, 12, 16, 20], "ahead"),
        (gop(90_000), False, [0, 4, 8, 90_000, 90_004, 90_008], None),
        # goes back, repeats, overlaps by a picture
        (gop(-500), False, [0, 4, 8, 12, 16, 20], "back"),
        (gop(0), True, [0, 4, 8, 12, 16, 20], "back"),
        (gop(8), False, [0, 4, 8, 12, 16, 20], "back"),
        # without decoding times
        (gop(0, dts=False), False, [0, 4, 8, 12, 16, 20], "back"),
        # the clock changes in the middle of a group of pictures
        ([Packet(-40, -40), Packet(-36, -36)], True, [0, 4, 8, 12, 16], "back"),
    ],
)
def test_each_stretch_follows_the_one_before(
    second: list[Packet], is_streamed: bool, times: list[int], noted: str | None
) -> None:
    """Nothing is moved that is in order; a remark names the direction and the place of a jump."""
    found, notes = join(*gop(0), *second, is_streamed=is_streamed)
    assert found == times
    assert notes == ([f"the timestamps jump {noted} at 0.1 s; the jump was closed"] if noted else [])


def test_reordered_pictures_and_leading_pictures_are_no_jump() -> None:
    """A picture that is shown before the key picture which precedes it in the file belongs behind it."""
    open_gop = [Packet(4, 0, True), Packet(12, 4), Packet(8, 8), Packet(24, 12, True), Packet(16, 16), Packet(20, 20)]
    assert join(*open_gop) == ([4, 12, 8, 24, 16, 20], [])
    # behind a jump back the earliest picture, not the key picture, is where the times go on
    again = [Packet(-76, -80, True), Packet(-84, -76), Packet(-80, -72)]
    assert join(*open_gop, *again)[0] == [4, 12, 8, 24, 16, 20, 36, 28, 32]


def test_packets_without_timestamps_are_left_alone() -> None:
    """Neither moved nor taken for a jump."""
    assert join(Packet(0, 0, True), Packet(None, None), Packet(8, None)) == ([0, None, 8], [])
    assert join() == ([], [])


def test_a_clock_that_stands_still_is_given_up() -> None:
    """The pictures lose their times, and what follows comes as much later as they take."""
    stuck = [Packet(0, 0, i == 0) for i in range(50)]
    times, notes = join(*stuck, *gop(-1000))
    assert times == [None] * 50 + [200, 204, 208]
    assert notes[-1] == "the timestamps jump back at 2.0 s; the jump was closed"
    assert "frame rate" in notes[0]
