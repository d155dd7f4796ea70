"""Following a playlist from one version to the next: new, lost and renumbered segments."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.media.sources.rig import MAIN, NOON, cursor_after, listing, reasons, segment_of, sequences
from vqmon.core.types import LaneCursor, Segment, SegmentFailure
from vqmon.media.sources.follower import MAX_SKIPPED, PlaylistFollower
from vqmon.media.sources.media_playlist import MediaPlaylist


def follower(cursor: LaneCursor | None = None) -> PlaylistFollower:
    return PlaylistFollower(MAIN, "http://h/live.m3u8", cursor=cursor)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), min_size=1, max_size=20), st.integers(0, 10**6))
def test_every_number_comes_out_exactly_once(listings: list[tuple[int, int]], first: int) -> None:
    """Whatever the window's size and however late we look: taken or skipped, in order, without holes."""
    following, newest, items = follower(), first, []
    for advance, window in listings:
        newest += advance
        items += following.update(listing(range(max(first, newest - window), newest + 1)), NOON)
    numbers = [segment_of(item).sequence for item in items]
    assert numbers == list(range(numbers[0], newest + 1))
    keys = {segment_of(item).key for item in items}
    assert len(keys) == len(items)


@given(st.integers(1, 30), st.data())
def test_a_growing_vod_playlist_gives_each_segment_once(count: int, data: st.DataObject) -> None:
    """Killed anywhere, any number of times: every segment once, with the same keys as in one go."""
    whole = follower().update(listing(range(count), is_ended=True), NOON)
    cursor, keys = None, []
    while cursor is None or cursor.sequence < count - 1:
        rest = follower(cursor).update(listing(range(count), is_ended=True), NOON)
        taken = rest[: data.draw(st.integers(1, len(rest)))]
        keys += [segment_of(item).key for item in taken]
        cursor = cursor_after(taken[-1])
    assert keys == [segment_of(item).key for item in whole]
    assert follower(cursor).update(listing(range(count), is_ended=True), NOON) == []


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=9).map(sorted), max_size=12), st.integers(0, 60))
def test_sequence_numbers_never_decrease(listed: list[list[int]], start: int) -> None:
    """A packager out of its mind does not make us give out one number twice."""
    before = Segment(rendition=MAIN, sequence=start, url="http://h/x.ts", starts_at=NOON)
    following, numbers, now = follower(cursor_after(before)), [start], NOON
    for sequence_numbers in listed:
        now += timedelta(seconds=5)
        numbers += [segment_of(item).sequence for item in following.update(listing(sorted(set(sequence_numbers))), now)]
    assert numbers == sorted(set(numbers))


def test_the_offset_is_recovered_after_a_restart_of_both_sides() -> None:
    """The packager started anew, we went on counting, and then we were restarted, too."""
    following = follower()
    following.update(listing(range(1000, 1006)), NOON)
    anew = following.update(listing(range(6), name="n"), NOON)
    assert [segment_of(item).sequence for item in anew] == list(range(1006, 1012))

    resumed = follower(cursor_after(anew[3])).update(listing(range(2, 8), name="n"), NOON)
    assert [segment_of(item).sequence for item in resumed] == [1010, 1011, 1012, 1013]


def test_a_restart_under_the_same_names_is_detected_in_time() -> None:
    """It looks like an old copy at first; an old copy would have healed."""
    following = follower()
    following.update(listing(range(6)), NOON)
    updates = [following.update(listing(range(3)), NOON + timedelta(seconds=seconds)) for seconds in (4, 8, 12, 16, 20)]
    assert [len(items) for items in updates] == [0, 0, 0, 3, 0]
    assert [segment_of(item).sequence for item in updates[3]] == [6, 7, 8]


def test_a_jump_ahead_is_a_new_numbering_not_lost_segments() -> None:
    """Four seconds cannot hold a million segments."""
    following = follower()
    following.update(listing(range(6)), NOON)
    items = following.update(listing(range(1_000_000, 1_000_006)), NOON + timedelta(seconds=4))
    assert reasons(items) == []
    assert sequences(items) == list(range(6, 12))


def test_a_very_long_outage_is_reported_within_bounds() -> None:
    """A thousand failures, of which the first one stands for all that are older, so that no time is missing."""
    before = Segment(rendition=MAIN, sequence=0, url="http://h/s0.ts", starts_at=NOON, duration_seconds=4)
    items = follower(cursor_after(before)).update(listing(range(5001, 5006)), NOON)
    lost = [item for item in items if isinstance(item, SegmentFailure)]
    assert (len(lost), lost[0].segment.sequence, lost[-1].segment.sequence) == (MAX_SKIPPED, 4001, 5000)
    assert "4001 segments in a row, of 5000 lost ones" in lost[0].detail
    assert sum(failure.segment.duration_seconds for failure in lost) == 5000 * 4
    assert (lost[0].segment.starts_at, lost[0].segment.ends_at) == (before.ends_at, lost[1].segment.starts_at)
    assert lost[-1].segment.ends_at == segment_of(items[-5]).starts_at


def test_after_an_outage_a_timeline_without_times_continues_at_the_present() -> None:
    """An hour without segments is an hour, also when the numbers go on."""
    following = follower()
    following.update(listing(range(6)), NOON)
    (item,) = following.update(listing(range(1, 7)), NOON + timedelta(hours=1))
    assert segment_of(item).ends_at == NOON + timedelta(hours=1)


def test_finished_playlists_without_times_begin_together() -> None:
    """Two arms of one content: the playlist of one of them arrives later; their segments start at the same moments."""
    arms = []
    for late in (0.0, 3.0):
        arm = PlaylistFollower(MAIN, "http://h/live.m3u8", opened_at=NOON)
        items = arm.update(listing(range(3), is_ended=True), NOON + timedelta(seconds=late))
        arms.append([segment_of(item).starts_at for item in items])
    assert arms[0] == arms[1]
    assert arms[0][0] == NOON


def test_an_empty_playlist_gives_no_items() -> None:
    """A stream that has not begun yet."""
    assert follower().update(listing([]), NOON) == []


def unnumbered(names: Sequence[int]) -> MediaPlaylist:
    """A live playlist without sequence numbers, whose entries count from 0."""
    listed = listing(names)
    entries = [replace(entry, sequence=index, next_sequence=index + 1) for index, entry in enumerate(listed.entries)]
    return replace(listed, entries=entries, is_numbered=False)


def test_a_live_playlist_without_numbers_is_followed_by_its_addresses() -> None:
    """Each segment once, also when all of them are new; a restart goes on behind the cursor."""
    following = follower()
    items = [
        item
        for names in ([0, 1, 2], [0, 1, 2], [1, 2, 3], [3, 4, 5], [8, 9])
        for item in following.update(unnumbered(names), NOON)
    ]
    urls = [segment_of(item).url for item in items]
    assert urls == [f"http://h/s{name}.ts" for name in (0, 1, 2, 3, 4, 5, 8, 9)]
    assert [segment_of(item).sequence for item in items] == list(range(8))

    resumed = follower(cursor_after(items[-2])).update(unnumbered([7, 8, 9, 10]), NOON)
    assert [(segment_of(item).sequence, segment_of(item).url[-6:]) for item in resumed] == [
        (7, "/s9.ts"), (8, "s10.ts"),
    ]  # fmt: skip


def test_segments_are_where_the_presentation_has_them() -> None:
    """Without dates: behind a hole of a timeline, and also when it comes first after a restart."""
    starts, seconds = (0.0, 4.0, 20.0, 23.5), 4.0
    entries = [
        replace(entry, duration_seconds=seconds, presentation_seconds=at)
        for entry, at in zip(listing(range(4)).entries, starts, strict=True)
    ]
    playlist = replace(listing(range(4), is_ended=True), entries=entries)
    for taken in range(4):
        items = follower().update(playlist, NOON)[:taken]
        cursor = cursor_after(items[-1]) if items else None
        items += follower(cursor).update(playlist, NOON)
        assert [(segment_of(item).starts_at - NOON).total_seconds() for item in items] == list(starts)


def test_an_entry_with_a_problem_is_a_failure() -> None:
    """In its place, with what the playlist said."""
    listed = listing(range(2))
    bad = replace(listed.entries[0], problem="line 3: EXT-X-BYTERANGE: no byte range")
    failure, good = follower().update(replace(listed, entries=[bad, listed.entries[1]]), NOON)
    assert isinstance(failure, SegmentFailure)
    assert (failure.reason, failure.detail) == ("playlist", bad.problem)
    assert isinstance(good, Segment)


def test_numbers_that_jump_further_than_times_reach_are_survived() -> None:
    """After a cursor, when nothing tells how fast segments are made."""
    before = Segment(rendition=MAIN, sequence=0, url="http://h/s0.ts", starts_at=NOON, duration_seconds=4)
    items = follower(cursor_after(before)).update(listing([2**60]), NOON)
    assert len(items) == MAX_SKIPPED + 1
