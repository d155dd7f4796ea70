"""Expansion of timelines and constant durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.sources.dash.rig import BASE, DYNAMIC, STATIC, file_names, list_segments, parse_mpd_body, period
from vqmon.errors import SegmentError


def test_numbers_of_constant_length_fill_the_period() -> None:
    """The last segment is as short as what is left; everything is ended."""
    listing = list_segments(
        parse_mpd_body(
            STATIC,
            period('<SegmentTemplate media="$Number$.m4s" initialization="i.mp4" duration="6" startNumber="3"/>'),
        )
    )
    assert file_names(listing) == ["3.m4s", "4.m4s", "5.m4s", "6.m4s"]
    assert [entry.duration_seconds for entry in listing.entries] == [6, 6, 6, 2]
    assert [entry.sequence for entry in listing.entries] == [0, 1, 2, 3]
    assert {entry.init_url for entry in listing.entries} == {f"{BASE}/i.mp4"}
    assert {entry.starts_at for entry in listing.entries} == {None}
    assert listing.is_ended


def test_a_timeline_gives_times_lengths_and_repeats() -> None:
    """Repeats, a hole, and a repeat until the next S and until the period's end."""
    body = """<SegmentTemplate media="$Time$-$Number$.m4s" timescale="10" presentationTimeOffset="100" startNumber="7">
      <SegmentTimeline><S t="100" d="20" r="1"/><S d="10"/><S t="160" d="20" r="-1"/><S t="200" d="40" r="-1"/>
      </SegmentTimeline></SegmentTemplate>"""
    listing = list_segments(parse_mpd_body(STATIC, period(body)))
    assert file_names(listing) == [
        "100-7.m4s", "120-8.m4s", "140-9.m4s", "160-10.m4s", "180-11.m4s", "200-12.m4s", "240-13.m4s", "280-14.m4s",
    ]  # fmt: skip
    assert [entry.duration_seconds for entry in listing.entries] == [2, 2, 1, 2, 2, 4, 4, 4]


def test_segments_outside_of_the_period_are_not_listed() -> None:
    """A timeline that begins before its period, and one that runs on after it."""
    body = """<SegmentTemplate media="$Time$" presentationTimeOffset="10">
      <SegmentTimeline><S t="0" d="5" r="9"/></SegmentTimeline></SegmentTemplate>"""
    assert file_names(list_segments(parse_mpd_body(STATIC, period(body)))) == ["10", "15", "20", "25"]


def test_the_last_number_ends_the_list() -> None:
    """@endNumber."""
    body = '<SegmentTemplate media="$Number$" duration="4" endNumber="2"/>'
    assert file_names(list_segments(parse_mpd_body(STATIC, period(body)))) == ["1", "2"]


def test_a_length_of_zero_is_no_segment_and_has_its_number() -> None:
    """Packagers write it for a segment that was lost; it may be repeated too."""
    elements = '<S t="0" d="2"/><S d="0"/><S d="2"/><S d="0" r="1"/><S d="2" r="-1"/>'
    body = f'<SegmentTemplate media="$Number$"><SegmentTimeline>{elements}</SegmentTimeline></SegmentTemplate>'
    listing = list_segments(parse_mpd_body('type="static" mediaPresentationDuration="PT8S"', period(body)))
    assert file_names(listing) == ["1", "3", "6", "7"]


def test_repeats_beyond_the_period_are_not_counted() -> None:
    body = """<SegmentTemplate media="$Number$"><SegmentTimeline><S t="0" d="2" r="99999999999"/></SegmentTimeline>
      </SegmentTemplate>"""
    listing = list_segments(parse_mpd_body('type="static" mediaPresentationDuration="PT5S"', period(body)))
    assert file_names(listing) == ["1", "2", "3"]


def test_many_small_repeats_are_bounded_too() -> None:
    """Each is small enough, all of them are not."""
    repeats = '<S d="1" r="90000"/>' * 3
    body = f'<SegmentTemplate media="$Time$"><SegmentTimeline>{repeats}</SegmentTimeline></SegmentTemplate>'
    with pytest.raises(SegmentError):
        list_segments(parse_mpd_body('type="static" mediaPresentationDuration="P9D"', period(body)))


def test_segments_outside_of_the_period_are_bounded_too() -> None:
    """A timeline that lies before its period, for ever."""
    repeats = '<S t="0" d="1" r="90000"/>' * 50
    body = f"""<SegmentTemplate media="$Time$" presentationTimeOffset="999999"><SegmentTimeline>{repeats}
      </SegmentTimeline></SegmentTemplate>"""
    with pytest.raises(SegmentError):
        list_segments(parse_mpd_body(STATIC, period(body)))


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 4), st.integers(0, 3000)), min_size=1, max_size=12),
    st.integers(1, 1000),
    st.integers(0, 10**6),
)
def test_a_timeline_expands_to_the_written_segments(
    written: list[tuple[int, int, int]], timescale: int, offset: int
) -> None:
    """Any mixture of lengths, repeats and holes comes out in order and complete."""
    time, elements, expected = offset, [], []
    for length, repeats, hole in written:
        time += hole
        elements.append(f'<S t="{time}" d="{length}" r="{repeats}"/>')
        for _ in range(repeats + 1):
            expected.append((f"{BASE}/{time}", length / timescale))
            time += length
    body = f"""<SegmentTemplate media="$Time$" timescale="{timescale}" presentationTimeOffset="{offset}">
      <SegmentTimeline>{"".join(elements)}</SegmentTimeline></SegmentTemplate>"""
    listing = list_segments(parse_mpd_body('type="static" mediaPresentationDuration="P20D"', period(body)))
    assert [(entry.url, entry.duration_seconds) for entry in listing.entries] == expected


@given(st.floats(0, 1e6), st.floats(0, 300), st.integers(1, 10_000), st.floats(1, 600))
def test_a_live_window_only_ever_moves_forward(at: float, step: float, length: int, window: float) -> None:
    """Later looks list what earlier looks listed, minus what is too old, plus what is new; without holes."""
    manifest = parse_mpd_body(
        f'{DYNAMIC} timeShiftBufferDepth="PT{window:.3f}S"',
        period(
            f'<SegmentTemplate media="$Number$" timescale="1000" duration="{length + 500}"/>', attributes='start="PT0S"'
        ),
    )
    numbers = [[int(name) for name in file_names(list_segments(manifest, at=moment))] for moment in (at, at + step)]
    for listed_numbers in numbers:
        assert (
            listed_numbers == list(range(listed_numbers[0], listed_numbers[0] + len(listed_numbers)))
            if listed_numbers
            else True
        )
    if all(numbers):
        assert numbers[1][0] >= numbers[0][0]
        assert numbers[1][-1] >= numbers[0][-1]


@pytest.mark.parametrize(
    "timeline",
    [
        '<S t="0" d="1" r="-1"/>',
        '<S t="0" d="1" r="99999999"/>',
        '<S t="0" d="1" r="14395"/>',
        '<S d="1" r="900"/>' * 50,
    ],
)
@pytest.mark.parametrize("window", ["", 'timeShiftBufferDepth="PT20S"', 'timeShiftBufferDepth="P9D"'])
def test_a_few_lines_of_a_live_mpd_list_no_more_than_its_window_holds(timeline: str, window: str) -> None:
    """And never more than a thousand segments, the newest ones."""
    body = f'<SegmentTemplate media="$Time$"><SegmentTimeline>{timeline}</SegmentTimeline></SegmentTemplate>'
    listing = list_segments(parse_mpd_body(f"{DYNAMIC} {window}", period(body, attributes='start="PT0S"')), at=14_396)
    assert len(listing.entries) <= 1000
    if "20S" in window:
        assert all(int(name) >= 14_396 - 21 for name in file_names(listing))


@pytest.mark.parametrize(
    ("offset", "newest"),
    [("", "4"), ('availabilityTimeOffset="0.4"', "4"), ('availabilityTimeOffset="0.6"', "5"),
     ('availabilityTimeOffset="INF"', "5"), ('availabilityTimeOffset="x"', "4")],
)  # fmt: skip
@pytest.mark.parametrize("is_timeline", [True, False])
def test_low_latency_segments_are_listed_a_little_before_their_end(offset: str, newest: str, is_timeline: bool) -> None:
    """By the offset, at most a second; the playlist is read twice a second then."""
    timing = '<SegmentTimeline><S t="0" d="4" r="-1"/></SegmentTimeline>' if is_timeline else ""
    length = "" if is_timeline else 'duration="4"'
    body = f'<SegmentTemplate media="$Number$" {length} {offset}>{timing}</SegmentTemplate>'
    manifest = parse_mpd_body(DYNAMIC, period(body, attributes='start="PT0S"'))
    listing = list_segments(manifest, at=19.5)
    assert file_names(listing)[-1] == newest
    assert listing.reload_seconds == (0.5 if offset and "x" not in offset else None)
    # the next one has not begun; once it has, the server sends what there is of it
    assert listing.open_entry is None
    later = list_segments(manifest, at=21)
    opened = later.open_entry
    if "INF" not in offset:
        assert opened is None
        return
    assert opened is not None
    (part,) = opened.parts
    assert (part.url.rpartition("/")[2], opened.is_growing, opened.sequence) == ("6", True, part.sequence)
    assert opened.sequence == later.entries[-1].next_sequence


def test_the_offset_of_a_base_url_counts_too() -> None:
    """availabilityTimeOffset may stand at either."""
    body = '<SegmentTemplate media="$Number$" duration="4"/>'
    text = period(body, attributes='start="PT0S"').replace(
        "<AdaptationSet", '<BaseURL availabilityTimeOffset="1">x/</BaseURL><AdaptationSet', 1
    )
    assert file_names(list_segments(parse_mpd_body(DYNAMIC, text), at=19.1))[-1] == "x/5"
