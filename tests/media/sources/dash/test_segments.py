"""Segments from SegmentTemplate, SegmentList and SegmentBase."""

import pytest

from tests.media.sources.dash.rig import BASE, STATIC, file_names, list_segments, parse_mpd_body, period, sidx
from vqmon.core.types import ByteRange
from vqmon.media.sources.dash.sidx import IndexLocation, parse_sidx


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("$RepresentationID$/$Number$.m4s", "v/1.m4s"),
        ("$Number%05d$.m4s", "00001.m4s"),
        ("$Time%03d$-$Bandwidth$.m4s", "000-800000.m4s"),
        ("a$$b$Number$.m4s", "a$b1.m4s"),
        ("https://other.example.com/$Number$", "https://other.example.com/1"),
    ],
)
def test_templates_are_filled_in(template: str, name: str) -> None:
    """Every identifier, with and without a width."""
    assert (
        file_names(
            list_segments(parse_mpd_body(STATIC, period(f'<SegmentTemplate media="{template}" duration="4"/>')))
        )[0]
        == name
    )


def test_a_list_gives_addresses_and_ranges() -> None:
    """SegmentList with a duration, and its own initialization."""
    body = """<SegmentList duration="5"><Initialization sourceURL="all.mp4" range="0-99"/>
      <SegmentURL media="all.mp4" mediaRange="100-199"/><SegmentURL media="b.mp4"/></SegmentList>"""
    listing = list_segments(parse_mpd_body(STATIC, period(body)))
    assert file_names(listing) == ["all.mp4", "b.mp4"]
    assert [entry.byte_range for entry in listing.entries] == [ByteRange(offset_bytes=100, length_bytes=100), None]
    assert (listing.entries[0].init_url, listing.entries[0].init_byte_range) == (
        f"{BASE}/all.mp4",
        ByteRange(offset_bytes=0, length_bytes=100),
    )


def test_a_list_may_have_a_timeline_or_nothing() -> None:
    """Without any length the segments share the period."""
    timed = """<SegmentList timescale="2"><SegmentTimeline><S t="0" d="6" r="1"/></SegmentTimeline>
      <SegmentURL media="a"/><SegmentURL media="b"/></SegmentList>"""
    bare = '<SegmentList><SegmentURL media="a"/><SegmentURL media="b"/></SegmentList>'
    assert [entry.duration_seconds for entry in list_segments(parse_mpd_body(STATIC, period(timed))).entries] == [3, 3]
    assert [entry.duration_seconds for entry in list_segments(parse_mpd_body(STATIC, period(bare))).entries] == [10, 10]


ONE_FILE = """<Representation id="v" bandwidth="1" height="144"><BaseURL>film.mp4</BaseURL>
  <SegmentBase indexRange="{index}">{init}</SegmentBase></Representation>"""


@pytest.mark.parametrize("version", [0, 1])
def test_an_index_cuts_one_file_into_segments(version: int) -> None:
    """Byte ranges and lengths come from the sidx box, the init section from before it."""
    box = sidx([(1000, 40), (500, 20)], first=8, version=version)
    text = ONE_FILE.format(index=f"200-{200 + len(box) - 1}", init="")
    manifest = parse_mpd_body(STATIC, period("", representations=text))
    (location,) = manifest.index_locations(manifest.tracks[0])
    url = f"{BASE}/film.mp4"
    assert location == IndexLocation(url, ByteRange(offset_bytes=200, length_bytes=len(box)), url)

    listing = list_segments(manifest, indexes={location: parse_sidx(box, offset_bytes=200)})
    after = 200 + len(box) + 8
    assert [(entry.byte_range, entry.duration_seconds) for entry in listing.entries] == [
        (ByteRange(offset_bytes=after, length_bytes=1000), 4.0),
        (ByteRange(offset_bytes=after + 1000, length_bytes=500), 2.0),
    ]
    assert listing.entries[0].init_byte_range == ByteRange(offset_bytes=0, length_bytes=200)


@pytest.mark.parametrize(
    "box",
    [
        b"",
        b"\x00" * 8,
        sidx([(1, 1)])[:-4],
        sidx([(0, 1)]),
        sidx([(1, 1)], timescale=0),
        b"x" * 99,
    ],
)
def test_without_a_usable_index_the_file_is_one_segment(box: bytes) -> None:
    """Damaged or empty: the whole file holds its own init section."""
    manifest = parse_mpd_body(
        STATIC, period("", representations=ONE_FILE.format(index="200-299", init='<Initialization range="0-199"/>'))
    )
    (location,) = manifest.index_locations(manifest.tracks[0])
    (entry,) = list_segments(manifest, indexes={location: parse_sidx(box, offset_bytes=200)}).entries
    assert (entry.byte_range, entry.init_url, entry.duration_seconds) == (None, None, 20.0)


def test_a_file_without_any_addressing_is_one_segment() -> None:
    """Only a BaseURL."""
    text = '<Representation id="v"><BaseURL>film.mp4</BaseURL></Representation>'
    listing = list_segments(parse_mpd_body(STATIC, period("", representations=text)))
    assert file_names(listing) == ["film.mp4"]
