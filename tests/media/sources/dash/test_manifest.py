"""DASH MPDs become tracks and listings, and nothing else ever comes out."""

import random
import struct
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import split_encryption_fragment
from vqmon.media.sources.dash.manifest import Manifest, parse_mpd
from vqmon.media.sources.dash.segments import Indexes, IndexLocation
from vqmon.media.sources.dash.sidx import parse_sidx
from vqmon.media.sources.dash.timeline import MAX_NEWEST_SEGMENTS
from vqmon.media.sources.media_playlist import MediaPlaylist

URL = "https://cdn.example.com/live/stream.mpd?token=1"
BASE = "https://cdn.example.com/live"
ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
STATIC = 'type="static" mediaPresentationDuration="PT20S"'
DYNAMIC = 'type="dynamic" availabilityStartTime="2026-01-01T00:00:00Z" minimumUpdatePeriod="PT2S"'
VIDEO = '<Representation id="v" bandwidth="800000" width="1280" height="720" codecs="avc1.64001f"/>'


def mpd(attributes: str, body: str) -> Manifest:
    xmlns = 'xmlns="urn:mpeg:dash:schema:mpd:2011"'
    return parse_mpd(f'<?xml version="1.0"?><MPD {xmlns} {attributes}>{body}</MPD>'.encode(), URL)


def period(addressing: str, *, attributes: str = "", representations: str = VIDEO) -> str:
    return f"""<Period {attributes}><AdaptationSet contentType="video">{addressing}{representations}</AdaptationSet>
    </Period>"""


def listed(manifest: Manifest, *, at: float = 0.0, indexes: Indexes | None = None) -> MediaPlaylist:
    return manifest.media_playlist(manifest.tracks[0], ORIGIN + timedelta(seconds=at), indexes or {})


def names(listing: MediaPlaylist) -> list[str]:
    return [entry.url.removeprefix(f"{BASE}/") for entry in listing.entries]


# --- addressing -----------------------------------------------------------------------------------------------------


def test_numbers_of_constant_length_fill_the_period() -> None:
    """The last segment is as short as what is left; everything is ended."""
    listing = listed(
        mpd(
            STATIC,
            period('<SegmentTemplate media="$Number$.m4s" initialization="i.mp4" duration="6" startNumber="3"/>'),
        )
    )
    assert names(listing) == ["3.m4s", "4.m4s", "5.m4s", "6.m4s"]
    assert [entry.duration_seconds for entry in listing.entries] == [6, 6, 6, 2]
    assert [entry.sequence for entry in listing.entries] == [0, 1, 2, 3]
    assert {entry.init_url for entry in listing.entries} == {f"{BASE}/i.mp4"}
    assert {entry.starts_at for entry in listing.entries} == {None}
    assert listing.is_ended


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
    assert names(listed(mpd(STATIC, period(f'<SegmentTemplate media="{template}" duration="4"/>'))))[0] == name


def test_a_timeline_gives_times_lengths_and_repeats() -> None:
    """Repeats, a hole, and a repeat until the next S and until the period's end."""
    body = """<SegmentTemplate media="$Time$-$Number$.m4s" timescale="10" presentationTimeOffset="100" startNumber="7">
      <SegmentTimeline><S t="100" d="20" r="1"/><S d="10"/><S t="160" d="20" r="-1"/><S t="200" d="40" r="-1"/>
      </SegmentTimeline></SegmentTemplate>"""
    listing = listed(mpd(STATIC, period(body)))
    assert names(listing) == [
        "100-7.m4s", "120-8.m4s", "140-9.m4s", "160-10.m4s", "180-11.m4s", "200-12.m4s", "240-13.m4s", "280-14.m4s",
    ]  # fmt: skip
    assert [entry.duration_seconds for entry in listing.entries] == [2, 2, 1, 2, 2, 4, 4, 4]


def test_what_lies_outside_of_the_period_is_not_listed() -> None:
    """A timeline that begins before its period, and one that runs on after it."""
    body = """<SegmentTemplate media="$Time$" presentationTimeOffset="10">
      <SegmentTimeline><S t="0" d="5" r="9"/></SegmentTimeline></SegmentTemplate>"""
    assert names(listed(mpd(STATIC, period(body)))) == ["10", "15", "20", "25"]


def test_the_last_number_ends_the_list() -> None:
    """@endNumber."""
    body = '<SegmentTemplate media="$Number$" duration="4" endNumber="2"/>'
    assert names(listed(mpd(STATIC, period(body)))) == ["1", "2"]


def test_a_list_gives_addresses_and_ranges() -> None:
    """SegmentList with a duration, and its own initialization."""
    body = """<SegmentList duration="5"><Initialization sourceURL="all.mp4" range="0-99"/>
      <SegmentURL media="all.mp4" mediaRange="100-199"/><SegmentURL media="b.mp4"/></SegmentList>"""
    listing = listed(mpd(STATIC, period(body)))
    assert names(listing) == ["all.mp4", "b.mp4"]
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
    assert [entry.duration_seconds for entry in listed(mpd(STATIC, period(timed))).entries] == [3, 3]
    assert [entry.duration_seconds for entry in listed(mpd(STATIC, period(bare))).entries] == [10, 10]


def sidx(sizes: list[tuple[int, int]], *, timescale: int = 10, first: int = 0, version: int = 0) -> bytes:
    form = ">IIHH" if version == 0 else ">QQHH"
    body = struct.pack(">II", 1, timescale) + struct.pack(form, 0, first, 0, len(sizes))
    body += b"".join(struct.pack(">III", size, length, 0x90000000) for size, length in sizes)
    return struct.pack(">I4sI", len(body) + 12, b"sidx", version << 24) + body


ONE_FILE = """<Representation id="v" bandwidth="1" height="144"><BaseURL>film.mp4</BaseURL>
  <SegmentBase indexRange="{index}">{init}</SegmentBase></Representation>"""


@pytest.mark.parametrize("version", [0, 1])
def test_an_index_cuts_one_file_into_segments(version: int) -> None:
    """Byte ranges and lengths come from the sidx box, the init section from before it."""
    box = sidx([(1000, 40), (500, 20)], first=8, version=version)
    text = ONE_FILE.format(index=f"200-{200 + len(box) - 1}", init="")
    manifest = mpd(STATIC, period("", representations=text))
    (place,) = manifest.index_locations(manifest.tracks[0])
    assert place == IndexLocation(f"{BASE}/film.mp4", ByteRange(offset_bytes=200, length_bytes=len(box)))

    listing = listed(manifest, indexes={place: parse_sidx(box, offset_bytes=200)})
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
        sidx([(1 << 31, 1)]),
        sidx([(1, 1)], timescale=0),
        b"x" * 99,
    ],
)
def test_without_a_usable_index_the_file_is_one_segment(box: bytes) -> None:
    """Damaged, empty, hierarchical: the whole file holds its own init section."""
    manifest = mpd(
        STATIC, period("", representations=ONE_FILE.format(index="200-299", init='<Initialization range="0-199"/>'))
    )
    (place,) = manifest.index_locations(manifest.tracks[0])
    (entry,) = listed(manifest, indexes={place: parse_sidx(box, offset_bytes=200)}).entries
    assert (entry.byte_range, entry.init_url, entry.duration_seconds) == (None, None, 20.0)


def test_a_file_without_any_addressing_is_one_segment() -> None:
    """Only a BaseURL."""
    text = '<Representation id="v"><BaseURL>film.mp4</BaseURL></Representation>'
    listing = listed(mpd(STATIC, period("", representations=text)))
    assert names(listing) == ["film.mp4"]


def test_what_stands_on_a_higher_level_is_inherited_and_overruled() -> None:
    """Attributes from Period, AdaptationSet and Representation; the nearest one counts."""
    body = """<Period><SegmentTemplate timescale="10" duration="40" media="p-$Number$"/>
      <AdaptationSet mimeType="video/mp4" width="64"><SegmentTemplate startNumber="5" media="a-$Number$"/>
        <Representation id="x"><SegmentTemplate duration="100"/></Representation>
      </AdaptationSet></Period>"""
    assert names(listed(mpd(STATIC, body))) == ["a-5", "a-6"]


def test_base_addresses_chain() -> None:
    """Each level starts from the one above; the first of several is taken."""
    body = """<BaseURL>https://a.example.com/x/</BaseURL><BaseURL>https://b.example.com/</BaseURL>
      <Period><BaseURL>p/</BaseURL><AdaptationSet contentType="video"><BaseURL>../q/</BaseURL>
      <Representation id="v"><BaseURL>r/</BaseURL><SegmentTemplate media="$Number$" duration="20"/></Representation>
      </AdaptationSet></Period>"""
    assert names(listed(mpd(STATIC, body))) == ["https://a.example.com/x/q/r/1"]


# --- periods --------------------------------------------------------------------------------------------------------


def test_periods_follow_one_another() -> None:
    """Numbers begin again in each period, ours do not; the border is a discontinuity."""
    template = '<SegmentTemplate media="{}-$Number$" duration="5" initialization="{}.mp4"/>'
    body = period(template.format("a", "a"), attributes='duration="PT10S"') + period(template.format("b", "b"))
    listing = listed(mpd(STATIC, body))
    assert names(listing) == ["a-1", "a-2", "b-1", "b-2"]
    assert [entry.sequence for entry in listing.entries] == [0, 1, 2, 3]
    assert [entry.is_discontinuity for entry in listing.entries] == [False, False, True, False]
    assert [entry.init_url for entry in listing.entries] == [f"{BASE}/{x}.mp4" for x in "aabb"]


def test_a_track_goes_on_in_a_period_with_another_ladder() -> None:
    """Advertisements have other renditions: the most similar one is taken, so that no lane falls silent."""
    template = '<SegmentTemplate media="$RepresentationID$-$Number$" duration="5"/>'
    main = '<Representation id="hd" height="1080"/><Representation id="sd" height="360"/>'
    other = '<Representation id="ad-480" height="480"/><Representation id="ad-720" height="720"/>'
    body = period(template, attributes='duration="PT5S"', representations=other) + period(
        template, representations=main
    )
    manifest = mpd(STATIC, body)
    assert [track.name for track in manifest.tracks] == ["1080p", "360p"]
    assert [names(manifest.media_playlist(track, ORIGIN, {}))[0] for track in manifest.tracks] == [
        "ad-720-1",
        "ad-480-1",
    ]


# --- live -----------------------------------------------------------------------------------------------------------


def test_live_numbers_are_there_when_they_are_complete() -> None:
    """No segment before its end, none that is no longer kept; moments and numbers come from the wall clock."""
    manifest = mpd(
        f'{DYNAMIC} timeShiftBufferDepth="PT10S"',
        period('<SegmentTemplate media="$Number$" duration="2"/>', attributes='start="PT0S"'),
    )
    assert names(listed(manifest, at=1.9)) == []
    listing = listed(manifest, at=100.6)
    assert names(listing) == ["46", "47", "48", "49", "50"]
    assert listing.entries[-1].starts_at == ORIGIN + timedelta(seconds=98)
    step = [(entry.sequence, entry.next_sequence) for entry in listing.entries[-2:]]
    milliseconds = round(ORIGIN.timestamp() * 1000)
    assert step == [(milliseconds + 96_000, milliseconds + 98_000), (milliseconds + 98_000, milliseconds + 100_000)]
    assert not listing.is_ended


def test_a_live_stream_that_keeps_everything_is_listed_from_its_newest_end() -> None:
    """Without timeShiftBufferDepth there may be years of it."""
    manifest = mpd(DYNAMIC, period('<SegmentTemplate media="$Number$" duration="2"/>'))
    listing = listed(manifest, at=1e8)
    assert len(listing.entries) == MAX_NEWEST_SEGMENTS


def test_a_live_timeline_is_trusted_and_open_repeats_end_now() -> None:
    """What a timeline lists is there; r=-1 runs up to the present."""
    body = """<SegmentTemplate media="$Time$"><SegmentTimeline><S t="90" d="4"/><S t="94" d="2" r="-1"/>
      </SegmentTimeline></SegmentTemplate>"""
    assert names(listed(mpd(DYNAMIC, period(body)), at=100.6)) == ["90", "94", "96", "98"]


def test_a_sliding_timeline_keeps_its_numbers() -> None:
    """The same segment has the same number in every update, whatever startNumber says."""

    def at(first: int) -> dict[str, int]:
        body = f"""<SegmentTemplate media="$Time$" timescale="1000" startNumber="{first}"><SegmentTimeline>
          <S t="{first * 1921}" d="1921" r="5"/></SegmentTimeline></SegmentTemplate>"""
        return {entry.url: entry.sequence for entry in listed(mpd(DYNAMIC, period(body)), at=1e6).entries}

    earlier, later = at(40), at(43)
    assert {url: later[url] for url in later if url in earlier} == {
        url: earlier[url] for url in earlier if url in later
    }
    assert len(earlier.keys() & later.keys()) == 3


def test_a_live_stream_that_became_a_recording_keeps_its_numbers() -> None:
    """type=static with the same origin: the lane goes on and then ends."""
    template = period('<SegmentTemplate media="$Number$" duration="2"/>', attributes='start="PT0S"')
    recording = mpd(
        'type="static" availabilityStartTime="2026-01-01T00:00:00Z" mediaPresentationDuration="PT20S"', template
    )
    live = listed(mpd(DYNAMIC, template), at=20.6)
    assert listed(recording).entries == live.entries
    assert listed(recording).is_ended


def test_a_recording_that_counts_from_1970_has_no_moments() -> None:
    """Such an origin only says that times count from zero."""
    manifest = mpd(
        'type="static" availabilityStartTime="1970-01-01T00:00:00Z" mediaPresentationDuration="PT4S"',
        period('<SegmentTemplate media="$Number$" duration="2"/>'),
    )
    assert [(entry.sequence, entry.starts_at) for entry in listed(manifest).entries] == [(0, None), (1, None)]


def test_an_event_that_is_not_updated_ends_with_its_duration() -> None:
    """dynamic, without minimumUpdatePeriod, with a duration."""
    manifest = mpd(
        'type="dynamic" availabilityStartTime="2026-01-01T00:00:00Z" mediaPresentationDuration="PT10S"',
        period('<SegmentTemplate media="$Number$" duration="2"/>'),
    )
    assert [listed(manifest, at=at).is_ended for at in (5, 12)] == [False, True]
    assert len(listed(manifest, at=12).entries) == 5


def test_the_next_update_may_be_elsewhere() -> None:
    """Location."""
    body = "<Location>next.mpd?session=7</Location>" + period('<SegmentTemplate media="$Number$" duration="2"/>')
    assert mpd(DYNAMIC, body).location == f"{BASE}/next.mpd?session=7"
    assert mpd(DYNAMIC, period("")).location == URL


# --- what is video, and what is encrypted -----------------------------------------------------------------------------


def test_only_video_makes_tracks() -> None:
    """Sound, text, thumbnails, trick modes and enhancement layers are left out."""
    trick = "http://dashif.org/guidelines/trickmode"
    body = f"""<Period>
      <AdaptationSet contentType="audio"><Representation id="a"/></AdaptationSet>
      <AdaptationSet mimeType="application/ttml+xml"><Representation id="t"/></AdaptationSet>
      <AdaptationSet contentType="image"><Representation id="i" width="100"/></AdaptationSet>
      <AdaptationSet contentType="video"><EssentialProperty schemeIdUri="{trick}"/><Representation id="k"/>
      </AdaptationSet>
      <AdaptationSet><ContentComponent contentType="video"/><Representation id="v1" height="1"/></AdaptationSet>
      <AdaptationSet><Representation id="v2" mimeType="video/mp4" height="2"/></AdaptationSet>
      <AdaptationSet><Representation id="v3" width="3"/><Representation id="v4" width="3" dependencyId="v3"/>
      </AdaptationSet>
    </Period>"""
    assert [track.id for track in mpd(STATIC, body).tracks] == ["v1", "v2", "v3"]


def test_protected_content_says_how() -> None:
    """Common encryption is named; encryption of whole segments with one key can be undone."""

    def encryption(inner: str) -> tuple[Encryption | None, Encryption | None]:
        template = '<SegmentTemplate media="$Number$" initialization="i.mp4" duration="20"/>'
        (entry,) = listed(mpd(STATIC, period(inner + template))).entries
        return entry.encryption, split_encryption_fragment(entry.init_url or "")[1]

    common = '<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="{}"/>'
    whole = """<ContentProtection schemeIdUri="urn:mpeg:dash:sea:2012">
      <SegmentEncryption schemeIdUri="urn:mpeg:dash:sea:{}:2013"/><CryptoPeriod IV="0x1F" keyUriTemplate="{}"/>
      </ContentProtection>"""
    key = Encryption(method="AES-128", key_url=f"{BASE}/key", iv_hex=f"{31:032x}")
    assert encryption("") == (None, None)
    assert encryption(common.format("cbcs")) == (Encryption(method="cbcs"), None)
    assert encryption('<ContentProtection schemeIdUri="urn:uuid:x"/>') == (Encryption(method="cenc"), None)
    assert encryption(whole.format("aes128-cbc", "key")) == (key, key)
    assert encryption(whole.format("aes128-gcm", "key")) == (Encryption(method="sea"), None)
    assert encryption(whole.format("aes128-cbc", "key-$Number$")) == (Encryption(method="sea"), None)


# --- nonsense -------------------------------------------------------------------------------------------------------

BOMB = '<!DOCTYPE MPD [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><MPD>&b;</MPD>'
OUTSIDE = '<!DOCTYPE MPD [<!ENTITY a SYSTEM "file:///etc/passwd">]><MPD>&a;</MPD>'


@pytest.mark.parametrize(
    "text",
    [
        "", "<MPD", "<html/>", "not xml", BOMB, OUTSIDE, "<MPD/>", "<MPD><Period/></MPD>",
        '<?xml version="1.0" encoding="klingon"?><MPD/>',
        "<MPD><BaseURL>file:///etc/</BaseURL></MPD>",
        "<MPD><BaseURL>http://[</BaseURL></MPD>",
        '<MPD mediaPresentationDuration="soon"/>',
        f"<MPD type='dynamic'><Period start='P{'9' * 40}D'/></MPD>",
    ],
)  # fmt: skip
def test_what_is_no_usable_mpd_is_a_playlist_failure(text: str) -> None:
    """Entities are refused, not expanded."""
    with pytest.raises(SegmentError) as caught:
        parse_mpd(text.encode(), URL)
    assert caught.value.reason == "playlist"


@pytest.mark.parametrize(
    "addressing",
    [
        '<SegmentTemplate media="$Number$" duration="0"/>',
        '<SegmentTemplate media="$Number$" duration="1" timescale="0"/>',
        '<SegmentTemplate media="$Number$" duration="1" timescale="1000000"/>',
        '<SegmentTemplate media="$Number$" duration="x"/>',
        '<SegmentTemplate media="$Number$"/>',
        '<SegmentTemplate duration="1"/>',
        '<SegmentTemplate media="http://[" duration="4"/>',
        '<SegmentTemplate media="$Number$" initialization="$Number$" duration="4"/>',
        '<SegmentTemplate media="file:///etc/passwd" duration="4"/>',
        '<SegmentTemplate media="$Time$"><SegmentTimeline><S t="0" d="0"/></SegmentTimeline></SegmentTemplate>',
        '<SegmentTemplate media="$Time$"><SegmentTimeline><S d="1" r="999999999"/></SegmentTimeline></SegmentTemplate>',
        '<SegmentTemplate media="$Time$" timescale="9999"><SegmentTimeline><S t="0" d="1" r="-1"/></SegmentTimeline>'
        "</SegmentTemplate>",
        '<SegmentList duration="4"><SegmentURL mediaRange="9-3"/></SegmentList>',
    ],
)
def test_addressing_that_makes_no_sense_is_a_playlist_failure(addressing: str) -> None:
    """Neither endless nor impossible lists are made."""
    with pytest.raises(SegmentError) as caught:
        listed(mpd('type="static" mediaPresentationDuration="PT200S"', period(addressing)))
    assert caught.value.reason == "playlist"


def test_many_small_repeats_are_bounded_too() -> None:
    """Each is small enough, all of them are not."""
    repeats = '<S d="1" r="90000"/>' * 3
    body = f'<SegmentTemplate media="$Time$"><SegmentTimeline>{repeats}</SegmentTimeline></SegmentTemplate>'
    with pytest.raises(SegmentError):
        listed(mpd('type="static" mediaPresentationDuration="P9D"', period(body)))


def test_what_is_not_listed_is_bounded_as_well() -> None:
    """A timeline that lies before its period, for ever."""
    repeats = '<S t="0" d="1" r="90000"/>' * 50
    body = f"""<SegmentTemplate media="$Time$" presentationTimeOffset="999999"><SegmentTimeline>{repeats}
      </SegmentTimeline></SegmentTemplate>"""
    with pytest.raises(SegmentError):
        listed(mpd(STATIC, period(body)))


def test_a_large_or_wide_mpd_is_refused() -> None:
    """Before it becomes a tree a hundred times its size, and before names are compared with each other."""
    with pytest.raises(SegmentError, match="bytes"):
        mpd(STATIC, "<a/>" * 1_000_001)
    with pytest.raises(SegmentError, match="renditions"):
        mpd(STATIC, period("", representations=VIDEO * 1001))


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 4), st.integers(0, 3000)), min_size=1, max_size=12),
    st.integers(1, 1000),
    st.integers(0, 10**6),
)
def test_a_timeline_is_what_was_written(written: list[tuple[int, int, int]], timescale: int, offset: int) -> None:
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
    listing = listed(mpd('type="static" mediaPresentationDuration="P20D"', period(body)))
    assert [(entry.url, entry.duration_seconds) for entry in listing.entries] == expected


@given(st.floats(0, 1e6), st.floats(0, 300), st.integers(1, 10_000), st.floats(1, 600))
def test_a_live_window_only_ever_moves_forward(at: float, step: float, length: int, window: float) -> None:
    """Later looks list what earlier looks listed, minus what is too old, plus what is new; without holes."""
    manifest = mpd(
        f'{DYNAMIC} timeShiftBufferDepth="PT{window:.3f}S"',
        period(
            f'<SegmentTemplate media="$Number$" timescale="1000" duration="{length + 500}"/>', attributes='start="PT0S"'
        ),
    )
    numbers = [[int(name) for name in names(listed(manifest, at=moment))] for moment in (at, at + step)]
    for found in numbers:
        assert found == list(range(found[0], found[0] + len(found))) if found else True
    if all(numbers):
        assert numbers[1][0] >= numbers[0][0]
        assert numbers[1][-1] >= numbers[0][-1]


SEED = f"""<MPD {DYNAMIC} timeShiftBufferDepth="PT60S" mediaPresentationDuration="PT1H">
<BaseURL>x/</BaseURL><Period id="1" start="PT0S" duration="PT1M"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate timescale="90000" media="$RepresentationID$-$Number%04d$.m4s" initialization="i" startNumber="3">
<SegmentTimeline><S t="0" d="180000" r="20"/><S d="90000" r="-1"/></SegmentTimeline></SegmentTemplate>
<Representation id="1" bandwidth="1" width="1280" height="720"/>
<Representation id="2" bandwidth="2" height="360"><SegmentList duration="2"><Initialization range="0-9"/>
<SegmentURL media="a" mediaRange="1-2"/></SegmentList></Representation></AdaptationSet></Period>
<Period start="PT1M"><AdaptationSet contentType="video"><SegmentTemplate duration="2" media="$Number$"/>
<Representation id="1"/><Representation id="3"><BaseURL>f</BaseURL><SegmentBase indexRange="1-9"/></Representation>
</AdaptationSet></Period></MPD>"""


def mutated(chance: random.Random) -> str:
    """The MPD with a few letters and numbers lost, doubled or replaced."""
    text = SEED
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice((0, 1, 1, 3, 12)))
        noise = chance.choice(
            ("", "", "0", "-1", "9", "9" * 19, "1e9", "$", '"', "<S/>", "T", "P", ":", "[", text[start:end] * 2)
        )
        text = text[:start] + noise + text[end:]
    return text


def test_two_thousand_damaged_mpds_give_a_listing_or_a_failure() -> None:
    """Nothing but SegmentError("playlist") is ever raised."""
    chance = random.Random(13)
    understood = 0
    for _ in range(2000):
        text = mutated(chance)
        try:
            manifest = parse_mpd(text.encode(), URL)
            for track in manifest.tracks:
                listing = manifest.media_playlist(track, ORIGIN + timedelta(seconds=100), {})
                assert all(0 <= entry.duration_seconds <= 86_400 for entry in listing.entries)
        except SegmentError as error:
            assert error.reason == "playlist", text  # noqa: PT017
        else:
            understood += 1
    assert 200 < understood < 2000


@given(st.binary(max_size=200))
def test_any_bytes_give_an_index_or_none(box: bytes) -> None:
    """Also with a header that looks right."""
    for candidate in (box, sidx([(5, 5)])[:28] + box):
        with suppress(SegmentError):
            assert isinstance(parse_sidx(candidate, offset_bytes=0), tuple)


# --- MPDs made by others --------------------------------------------------------------------------------------------


def read_file(shared: Path, name: str) -> Manifest:
    file = shared / "streams" / name
    return parse_mpd(file.read_bytes(), file.as_uri())


@pytest.mark.fixtures
def test_a_real_timeline_with_encryption_is_listed(shared: Path) -> None:
    """Five segments are written, four fit into the presentation, and its key is at a plain address."""
    manifest = read_file(shared, "dash-aes-128/dash.mpd")
    listing = listed(manifest)
    assert [entry.url.rsplit("/")[-1] for entry in listing.entries] == [
        f"Fragments(video={time},format=mpd-time-csf)" for time in (0, 20000000, 40000000, 60000000)
    ]
    encryption = listing.entries[0].encryption
    assert encryption is not None
    assert encryption.key_url == (shared / "streams/dash-aes-128/license").as_uri()


@pytest.mark.fixtures
def test_a_real_index_is_listed(shared: Path) -> None:
    """One file of a minute, cut by its sidx box; the two sounds are left out."""
    manifest = read_file(shared, "dash-multi-codec/dash.mpd")
    (track,) = manifest.tracks
    (place,) = manifest.index_locations(track)
    film = (shared / "streams/dash-multi-codec/video_144p_108k_h264.mp4").read_bytes()
    end = place.byte_range.offset_bytes + place.byte_range.length_bytes
    box = film[place.byte_range.offset_bytes : end]
    indexes: Mapping[IndexLocation, tuple[object, ...]] = {place: parse_sidx(box, offset_bytes=860)}
    entries = listed(manifest, indexes=indexes).entries  # type: ignore[arg-type]
    last = entries[-1].byte_range
    assert (track.name, len(entries)) == ("144p", 15)
    assert sum(entry.duration_seconds for entry in entries) == pytest.approx(60, abs=0.1)
    assert last is not None
    assert last.offset_bytes + last.length_bytes == len(film)
