"""Which frames of a reference are read when its segment is expected at a known time."""

from itertools import pairwise

from vqmon.media.reference.partial import ReferenceWindow, choose_frames

TIMES = [index / 25 for index in range(150)]


def window(*partner_seconds: float, first: float = -1.5, last: float = 10.0) -> ReferenceWindow:
    return ReferenceWindow(partner_seconds=partner_seconds, before=4, after=2, first_seconds=first, last_seconds=last)


def test_near_a_partner_all_frames_are_read_elsewhere_those_from_which_others_are_predicted() -> None:
    """As of x264: of four frames two are droppable; four frames before a partner and two after it are needed."""
    is_droppable = [index % 4 in (1, 3) for index in range(150)]
    chosen = choose_frames(TIMES, is_droppable, window(2.0))
    assert set(range(46, 53)) <= set(chosen)
    assert {index for index in chosen if not 44 <= index <= 54} == {
        index for index in range(150) if index % 2 == 0 and not 44 <= index <= 54
    }


def test_never_two_frames_in_a_row_are_left_out() -> None:
    """Of a reference of key frames alone, which are all droppable, every second one is read."""
    chosen = choose_frames(TIMES, [True] * 150, window(2.0))
    assert max(later - earlier for earlier, later in pairwise(chosen)) == 2
    assert len(chosen) < 90


def test_nothing_is_read_beyond_where_the_segment_is_looked_for() -> None:
    """Of a whole film, what lies around the segment."""
    chosen = choose_frames(TIMES, [False] * 150, window(3.0, first=1.0, last=4.0))
    assert (chosen[0], chosen[-1]) == (25, 100)
